"""Labels that a reward is calibrated and judged by: what people answered who were asked at random, else the next best.

Solicited answers are the yardstick, since who answers does not depend on how it went (METHODS §3). Where an agent's
users are not asked, outcomes that code has checked are, which are representative but another question; volunteered
feedback is the last resort, and nothing is calibrated by it, because those who speak unasked are mostly the unhappy.
"""

from dataclasses import dataclass

import polars as pl

from pipelines.rewards.measured import JudgeQuality

__all__ = ["LABELS", "Labels", "choose_labels", "judge_qualities"]

LABELS = pl.Schema({"trace_id": pl.String(), "label": pl.Float64(), "asking": pl.Float64()})
_LEAST = 50
_LEAST_OF_CLASS = 10
_ASKED_KINDS = ("thumb", "rating", "annotation")


@dataclass(frozen=True)
class Labels:
    """One row per labelled trace (columns LABELS; `asking`: 1 / probability of being asked) and what they are."""

    frame: pl.DataFrame
    basis: str  # solicited, verified, volunteered


def choose_labels(signals: pl.DataFrame) -> Labels:
    """The labels of the best basis that has at least 50; of the one with most traces where none has.

    Args: `signals` with trace_id, kind, value, solicited, annotator_kind and propensity. A thumb or annotation above .5
    is a yes; a rating counts as the share of the scale that it is.
    """
    usable = signals.filter(
        pl.col("trace_id").is_not_null() & pl.col("value").is_between(0.0, 1.0) & pl.col("value").is_not_nan()
    )
    person = (pl.col("annotator_kind") != "llm").fill_null(True) & pl.col("kind").is_in(_ASKED_KINDS)
    asked = usable.filter(person & pl.col("solicited").fill_null(False))
    checked = usable.filter((pl.col("kind") == "outcome") & (pl.col("annotator_kind") == "code"))
    unasked = usable.filter(person & ~pl.col("solicited").fill_null(False))
    found = [Labels(_per_trace(part), basis) for part, basis in
             ((asked, "solicited"), (checked, "verified"), (unasked, "volunteered"))]  # fmt: skip
    enough = [one for one in found if one.frame.height >= _LEAST]
    return enough[0] if enough else max(found, key=lambda one: one.frame.height)


def judge_qualities(signals: pl.DataFrame) -> dict[str, JudgeQuality]:
    """Sensitivity and specificity of each judge, by the name of its signal, against what people answered when asked.

    Args: `signals` as `choose_labels`, with `name`. Each rate is that of the verdicts from .5 on, among traces labelled
    yes or no, weighted by one over the probability of being asked, with one success and one failure added. A judge with
    fewer than 10 labels of either kind is left out.
    """
    labels = choose_labels(signals)
    if labels.basis != "solicited":
        return {}
    verdicts = signals.filter(
        (pl.col("kind") == "judge") & pl.col("name").is_not_null() & pl.col("value").is_between(0.0, 1.0)
    )
    judged = verdicts.group_by("name", "trace_id").agg(said=pl.col("value").mean() >= 0.5)
    rows = judged.join(labels.frame, on="trace_id").with_columns(good=pl.col("label") > 0.5)
    found: dict[str, JudgeQuality] = {}
    for (name,), own in rows.sort("name", "trace_id").group_by("name", maintain_order=True):
        good, bad = own.filter(pl.col("good")), own.filter(~pl.col("good"))
        if min(good.height, bad.height) >= _LEAST_OF_CLASS:
            found[str(name)] = JudgeQuality(_rate(good, agrees=True), _rate(bad, agrees=False), own.height)
    return found


def _rate(rows: pl.DataFrame, *, agrees: bool) -> float:
    asking = rows["asking"].to_numpy()
    share = float(asking[(rows["said"] == agrees).to_numpy()].sum() / asking.sum())
    return (share * rows.height + 1.0) / (rows.height + 2.0)


def _per_trace(signals: pl.DataFrame) -> pl.DataFrame:
    sure = pl.col("propensity").is_between(1e-3, 1.0)
    return (
        signals.group_by("trace_id")
        .agg(
            label=pl.col("value").mean(),
            asking=(1.0 / pl.when(sure).then(pl.col("propensity")).otherwise(1.0)).mean(),
        )
        .sort("trace_id")
        .select(list(LABELS))
    )
