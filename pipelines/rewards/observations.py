"""Which signals say how good a trace was, and how much one of them is believed.

A signal becomes an observation in 0..1 of one class of evidence. Within a trace the signals of one class are averaged,
since a person who answers twice has not said twice as much, and the classes are then weighed by the odds of their
reliability. Nothing is dropped in silence: every signal that is not used is counted under the reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import polars as pl

from pipelines.stats.contract import require
from store.errors import SettingsError
from store.rewards import SIGNALS

__all__ = ["DEFAULT_RELIABILITY", "OBSERVED", "SIGNALS", "Observations", "observe"]

OBSERVED = pl.Schema(
    {
        "trace_id": pl.String(),
        "outcome": pl.Float64(),  # reliability-weighted mean of what was observed, 0 to 1
        "odds": pl.Float64(),  # summed odds of the reliabilities behind it
        "signals": pl.Int64(),
        "verified": pl.Boolean(),  # a verified outcome is among them
        "volunteered": pl.Boolean(),  # something that a person said unasked is among them
        "fair_outcome": pl.Float64(),  # outcome and odds of what was not volunteered; null and 0 without any
        "fair_odds": pl.Float64(),
    }
)

DEFAULT_RELIABILITY: Mapping[str, float] = MappingProxyType(
    {"outcome": 0.9, "reported_outcome": 0.7, "annotation": 0.8, "rating": 0.5, "thumb": 0.5}
)
_CLASSES = frozenset({*DEFAULT_RELIABILITY, "judge"})


@dataclass(frozen=True)
class Observations:
    """One row per trace with evidence (columns OBSERVED) and how many signals were left out, by reason."""

    frame: pl.DataFrame
    excluded: dict[str, int] = field(default_factory=dict)


def observe(signals: pl.DataFrame, reliability: Mapping[str, float] = DEFAULT_RELIABILITY) -> Observations:
    """Turn signals (columns SIGNALS, one row each) into what was observed of each trace.

    `reliability` gives, per class of evidence, the share of a trace's own reward that one observation takes against
    what its task predicts; a class that is not named is not used. Classes: `outcome` (kind outcome, checked by code),
    `reported_outcome` (an outcome by a user, operator or unnamed reporter), `annotation`, `rating`, `thumb`, and
    `judge`: every judge signal and every outcome, annotation or rating by a language model, excluded by default because
    a raw judge's verdict is not evidence before its error rates are known (METHODS §3).
    Raises SettingsError for a reliability outside (0, 1) or an unknown class, ContractError for a wrong frame.
    """
    for name, value in reliability.items():
        if name not in _CLASSES:
            raise SettingsError(f"reliability.{name}", value, f"one of the classes {', '.join(sorted(_CLASSES))}")
        if not 0.0 < value < 1.0:
            raise SettingsError(f"reliability.{name}", value, "a number above 0 and below 1")
    signals = require(signals, SIGNALS, "reward signals", not_null=["kind"])
    marked = signals.with_columns(evidence=_evidence()).with_columns(
        excluded=pl.when(pl.col("evidence").is_null())
        .then(pl.lit("kind not used: ") + pl.col("kind"))
        .when(~pl.col("evidence").is_in(list(reliability)))
        .then(pl.lit("class not used: ") + pl.col("evidence"))
        .when(pl.col("trace_id").is_null())
        .then(pl.lit("no trace"))
        .when(pl.col("value").is_null() | pl.col("value").is_nan())
        .then(pl.lit("no value"))
        .when(~pl.col("value").is_between(0.0, 1.0))
        .then(pl.lit("value outside 0 to 1"))
    )
    left_out = marked.filter(pl.col("excluded").is_not_null()).group_by("excluded").len().sort("excluded")
    used = marked.filter(pl.col("excluded").is_null())
    odds = {name: value / (1.0 - value) for name, value in reliability.items()}
    per_class = (
        used.group_by("trace_id", "evidence")
        .agg(
            value=pl.col("value").mean(),
            count=pl.len().cast(pl.Int64),
            volunteered=(~pl.col("solicited").fill_null(False)).any(),
        )
        .with_columns(odds=pl.col("evidence").replace_strict(odds, return_dtype=pl.Float64))
    )
    # A machine checks whatever it is given; a person who speaks unasked has a reason to.
    volunteered = pl.col("volunteered") & ~pl.col("evidence").is_in(["outcome", "judge"])
    fair_odds = pl.when(~volunteered).then(pl.col("odds")).otherwise(0.0)
    fair_outcome = (pl.col("value") * fair_odds).sum() / fair_odds.sum()
    frame = (
        per_class.sort("trace_id", "evidence")
        .group_by("trace_id", maintain_order=True)
        .agg(
            outcome=((pl.col("value") * pl.col("odds")).sum() / pl.col("odds").sum()).clip(0.0, 1.0),
            odds=pl.col("odds").sum(),
            signals=pl.col("count").sum(),
            verified=(pl.col("evidence") == "outcome").any(),
            volunteered=volunteered.any(),
            fair_outcome=pl.when(fair_odds.sum() > 0.0).then(fair_outcome.clip(0.0, 1.0)),
            fair_odds=fair_odds.sum(),
        )
    )
    return Observations(
        frame=frame.select(list(OBSERVED)).cast(OBSERVED),
        excluded=dict(zip(left_out["excluded"].to_list(), left_out["len"].to_list(), strict=True)),
    )


def _evidence() -> pl.Expr:
    """The class of evidence of a signal, null for kinds that say nothing directly about quality."""
    by_model = pl.col("annotator_kind") == "llm"
    kind = pl.col("kind")
    return (
        pl.when((kind == "judge") | (kind.is_in(["outcome", "annotation", "rating"]) & by_model))
        .then(pl.lit("judge"))
        .when((kind == "outcome") & (pl.col("annotator_kind") == "code"))
        .then(pl.lit("outcome"))
        .when(kind == "outcome")
        .then(pl.lit("reported_outcome"))
        .when(kind.is_in(["thumb", "rating", "annotation"]))
        .then(kind)
    )
