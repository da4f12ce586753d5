"""Which models changed behind their name, by the answers they gave: every measure of every model, in one family.

Benjamini-Yekutieli over models and measures, which share answers and so depend on each other; beside that all measures
of a model together, as the mean of their e-values (METHODS §7, item 8). The p-values hold for all looks so far, so an
e-value made of one holds for them too: it is no running supremum of an e-process (arXiv 2501.19360).
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.model_watch import series
from pipelines.model_watch.explaining import explain
from pipelines.model_watch.fingerprints import LEAST_BEFORE, LEAST_SHOWN, newest_arrival
from pipelines.model_watch.measures import FINGERPRINT, MEASURES, TOGETHER, Measure
from pipelines.model_watch.scan import MIN_PERIODS, SCHEDULE, Shift, scan
from pipelines.model_watch.series import SeriesConfig
from pipelines.stats import false_discovery
from store.model_figures import FIGURES, FOUND

__all__ = ["PassiveConfig", "Watched", "watch"]

Row = dict[str, Any]

_EMPTY: Final[Row] = {
    "changed_at": None, "before": None, "after": None, "before_n": 0, "after_n": 0, "effect": None,
    "effect_lower": None, "effect_upper": None, "statistic": None, "p_value": None, "q_value": None, "e_value": None,
    "flagged": False,
}  # fmt: skip


@dataclass(frozen=True)
class PassiveConfig:
    """How sure it has to be, and what makes a sequence of answers."""

    false_discovery_rate: float = 0.05
    series: SeriesConfig = field(default_factory=SeriesConfig)


@dataclass(frozen=True)
class Watched:
    """What was found (columns `store.model_figures.FOUND`) and the daily figures (columns `FIGURES`)."""

    found: pl.DataFrame
    figures: pl.DataFrame
    models: int


def watch(
    answers: pl.DataFrame,
    anchors: Mapping[str, datetime],
    config: PassiveConfig,
    known: pl.DataFrame | None = None,
) -> Watched:
    """Look for changes in answers (columns `store.model_answers.ANSWERS`), of each model since its anchor.

    `known` are interventions (columns `store.interventions.INTERVENTIONS`): what follows one of them is explained.
    """
    for model, moment in anchors.items():
        answers = answers.filter((pl.col("model") != model) | (pl.col("answered_at") >= moment))
    answers = series.with_usual_openings(answers, config.series)
    models = sorted(answers["model"].unique().to_list())
    rows = [_fingerprint(answers.filter(pl.col("model") == model), model) for model in models]
    figures = [_fingerprint_figures(answers)]
    for measure in MEASURES.values():
        held = series.residuals(answers, measure, config.series)
        rows += [_measured(held, answers, model, measure, config) for model in models]
        figures += [_figures(answers, measure), _overall_figures(held, answers, measure)]
    _decide(rows, config)
    if known is not None:
        explain(rows, answers, known)
    for row in rows:
        row["detail"] = json.dumps(row["detail"])
    rows += _together(rows, models, config)
    found = pl.DataFrame(rows, schema=FOUND, orient="row")
    daily = pl.concat(figures).select(pl.col(name).cast(kind) for name, kind in FIGURES.items())
    return Watched(found, daily.sort("day", "model", "metric", "agent"), len(models))


def _measured(held: pl.DataFrame, answers: pl.DataFrame, model: str, measure: Measure, config: PassiveConfig) -> Row:
    """What one measure of one model says."""
    sequence = series.sequence(held, model, config.series)
    periods = sequence.own.size
    found = scan(sequence, periods)
    detail: Row = {
        "title": measure.title, "unit": measure.unit, "effect_is": "ratio" if measure.scale == "log" else "difference",
        "practical": math.expm1(measure.practical) if measure.scale == "log" else measure.practical,
        "periods": periods, "compared_with": list(sequence.others), "left_out": sequence.left_out,
    }  # fmt: skip
    row: Row = {"model": model, "metric": measure.name, "n": int(sequence.answers.sum()), **_EMPTY}
    if found is None:
        detail["missing_periods"] = MIN_PERIODS - periods
        return row | {"status": "not enough data", "detail": detail}
    scanned = slice(-SCHEDULE.window, None)
    counts, totals = sequence.answers[scanned], sequence.total[scanned]
    days = sequence.first_day[scanned]
    sides = [slice(None, found.before), slice(found.before, None)]
    before, after = (_shown(float(totals[side].sum() / counts[side].sum()), measure) for side in sides)
    agents = answers.filter(pl.col("model") == model)["agent"].value_counts(sort=True).head(5)
    detail |= {
        "scanned_periods": len(days), "agents": agents["agent"].to_list(),
        "changed_from": str(days[found.earliest]), "changed_to": str(days[found.latest]),
    }  # fmt: skip
    return row | {
        "status": "no change seen", "changed_at": datetime.combine(days[found.before], time(), UTC),  # type: ignore[arg-type]
        "before": before, "after": after, "before_n": int(counts[sides[0]].sum()),
        "after_n": int(counts[sides[1]].sum()),
        "n": int(counts.sum()), "statistic": found.statistic, "p_value": found.p_value, "detail": detail,
        **_effects(found, measure),
    }  # fmt: skip


def _effects(found: Shift, measure: Measure) -> Row:
    effects = {"effect": found.effect, "effect_lower": found.lower, "effect_upper": found.upper}
    return {name: math.expm1(min(value, 50.0)) if measure.scale == "log" else value for name, value in effects.items()}


def _shown(value: float, measure: Measure) -> float:
    return math.exp(value) if measure.scale == "log" else value


def _fingerprint(answers: pl.DataFrame, model: str) -> Row:
    """What the provider's fingerprints of one model say."""
    told = answers.filter(pl.col("fingerprint").is_not_null())
    row: Row = {"model": model, "metric": FINGERPRINT, "n": told.height, **_EMPTY}
    detail: Row = {"title": "Fingerprint", "unit": "share", "effect_is": "difference", "practical": 0.0}
    least = LEAST_BEFORE + LEAST_SHOWN
    if told["session"].n_unique() < least:
        detail |= {"missing_sessions": least - told["session"].n_unique()}
        return row | {"status": "not enough data", "detail": detail}
    arrival = newest_arrival(answers)
    if arrival is None:
        return row | {"status": "no change seen", "p_value": 1.0, "detail": detail}
    detail |= {"before": arrival.earlier[:200], "after": arrival.fingerprint[:200]}
    return row | {
        "status": "no change seen", "changed_at": arrival.first_at, "before": 0.0, "after": arrival.share.estimate,
        "before_n": arrival.before_n, "after_n": arrival.after_n, "effect": arrival.share.estimate,
        "effect_lower": arrival.share.lower, "effect_upper": arrival.share.upper, "p_value": arrival.p_value,
        "detail": detail,
    }  # fmt: skip


def _decide(rows: Sequence[Row], config: PassiveConfig) -> None:
    """Fill in q-values and flags: a change has to be sure, and large enough to matter."""
    p_values = np.array([np.nan if row["p_value"] is None else row["p_value"] for row in rows])
    for row, q in zip(rows, false_discovery.adjust(p_values, "by"), strict=True):
        detail = row["detail"]
        if math.isfinite(q):
            row["q_value"] = float(q)
            matters = abs(row["effect"] or 0.0) > 0.0 and _matters(row["effect"], detail)
            row["flagged"] = bool(q <= config.false_discovery_rate and matters)
            row["status"] = "change" if row["flagged"] else "no change seen"


def _matters(effect: float, detail: Row) -> bool:
    if detail["effect_is"] == "ratio":
        return abs(math.log1p(max(effect, -0.999999))) >= math.log1p(detail["practical"])
    return abs(effect) >= float(detail["practical"])


def _together(rows: Sequence[Row], models: Sequence[str], config: PassiveConfig) -> list[Row]:
    """All measures of each model: the mean of e-values, judged by e-BH over models (Wang & Ramdas 2022)."""
    found: list[Row] = []
    for model in models:
        own = [
            row for row in rows if row["model"] == model and row["p_value"] is not None and row["status"] != "explained"
        ]
        row: Row = {"model": model, "metric": TOGETHER, "n": max((each["n"] for each in own), default=0), **_EMPTY}
        row["status"] = "no change seen" if own else "not enough data"
        if own:
            strongest = min(own, key=lambda each: each["p_value"])
            row["e_value"] = float(np.mean(_e_values(np.array([each["p_value"] for each in own]))))
            row |= {name: strongest[name] for name in ("changed_at", "before_n", "after_n")}
        row["detail"] = json.dumps(
            {
                "title": "All figures together",
                "measures": [each["metric"] for each in sorted(own, key=lambda each: float(each["p_value"]))],
            }
        )
        found.append(row)
    ranked = sorted((row for row in found if row["e_value"] is not None), key=lambda row: -float(row["e_value"]))
    for rank in range(len(ranked), 0, -1):
        if ranked[rank - 1]["e_value"] >= len(ranked) / (config.false_discovery_rate * rank):
            for row in ranked[:rank]:
                row["flagged"], row["status"] = True, "change"
            break
    return found


def _e_values(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """(1 - p + p ln p) / (p ln^2 p), the mixture of all power calibrators (Vovk & Wang 2021, Ann. Stat. 49:1736)."""
    p = np.clip(p, 1e-300, 1.0 - 1e-6)
    logarithm = np.log(p)
    return np.asarray((1.0 - p + p * logarithm) / (p * logarithm**2))


def _figures(answers: pl.DataFrame, measure: Measure) -> pl.DataFrame:
    """Daily figures by agent."""
    value = pl.col(measure.column)
    return (
        answers.filter(value.is_finite())
        .group_by("day", "model", "agent")
        .agg(n=pl.len(), mean=value.mean(), sd=value.std().fill_null(0.0))
        .with_columns(
            metric=pl.lit(measure.name), adjusted=pl.lit(None, pl.Float64), adjusted_sd=pl.lit(None, pl.Float64)
        )
        .select(list(FIGURES))
    )


def _overall_figures(held: pl.DataFrame, answers: pl.DataFrame, measure: Measure) -> pl.DataFrame:
    """Daily figures of all agents, with what is left when the traffic and the other models are taken out."""
    key = ["day", "model"]
    known = held.filter(pl.col("residual").is_not_null())
    own = known.group_by(key).agg(k=pl.len(), r=pl.col("residual").sum(), v=pl.col("spread").sum())
    everybody = known.group_by("day").agg(all_k=pl.len(), all_r=pl.col("residual").sum(), all_v=pl.col("spread").sum())
    others = pl.col("all_k") - pl.col("k")
    theirs = pl.when(others > 0).then((pl.col("all_r") - pl.col("r")) / others).otherwise(0.0)
    noise = pl.when(others > 0).then((pl.col("all_v") - pl.col("v")) / others**2).otherwise(0.0)
    adjusted = own.join(everybody, on="day").select(
        *key,
        adjusted=pl.col("r") / pl.col("k") - theirs,
        adjusted_sd=(pl.col("v") / pl.col("k") ** 2 + noise).sqrt(),
    )
    value = pl.col(measure.column)
    return (
        answers.filter(value.is_finite())
        .group_by(key)
        .agg(n=pl.len(), mean=value.mean(), sd=value.std().fill_null(0.0))
        .join(adjusted, on=key, how="left")
        .with_columns(metric=pl.lit(measure.name), agent=pl.lit(None, pl.String))
        .select(list(FIGURES))
    )


def _fingerprint_figures(answers: pl.DataFrame) -> pl.DataFrame:
    """The share of each day's answers that bear the fingerprint that the model showed last."""
    told = answers.filter(pl.col("fingerprint").is_not_null())
    newest = told.group_by("model").agg(newest=pl.col("fingerprint").sort_by("answered_at").last())
    same = (pl.col("fingerprint") == pl.col("newest")).cast(pl.Float64)
    return (
        told.join(newest, on="model")
        .group_by("day", "model")
        .agg(n=pl.len(), mean=same.mean(), sd=same.std().fill_null(0.0))
        .with_columns(
            metric=pl.lit(FINGERPRINT), agent=pl.lit(None, pl.String), adjusted=pl.lit(None, pl.Float64),
            adjusted_sd=pl.lit(None, pl.Float64),
        )
        .select(list(FIGURES))
    )  # fmt: skip
