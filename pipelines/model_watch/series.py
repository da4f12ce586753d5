"""A model's answers as a sequence of days: what is left of a measure when the traffic and everybody else are taken out.

Within each model, every answer is compared with the mean of its own kind (agent, version, arm, task, language), so a
change of what is asked moves nothing. From that, the day's mean of the other models is subtracted (difference in
differences), so a change that hits all models moves nothing either. METHODS §7, items 1 and 8.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.model_watch.measures import Measure

__all__ = ["Sequence", "SeriesConfig", "residuals", "sequence", "with_usual_openings"]

Floats = NDArray[np.float64]

_FINE: Final = ("model", "agent", "agent_version", "arm", "task", "language")
_COARSE: Final = ("model", "agent", "agent_version", "arm")


@dataclass(frozen=True)
class SeriesConfig:
    """What makes a period, and how many answers it takes to know a kind of answers, or the other models' day."""

    answers_a_period: int = 10
    answers_of_a_kind: int = 20
    answers_of_others: int = 10
    reference_days: int = 14
    usual_share: float = 0.02
    covered: float = 0.8  # so much of a model's answers must be on days on which others can be compared with


@dataclass(frozen=True)
class Sequence:
    """One measure of one model by periods (a day, or several until there are enough answers), oldest first.

    `own` is what is left within kinds of answers, `compared` the same minus the other models', None where there is no
    other; `own_variance` and `compared_variance` are of these means; all of shape (periods,). `first_day` is when a
    period begins. `answers` and `total` (of the measure, on its scale) are before anything is taken out.
    """

    first_day: list[object]
    own: Floats
    own_variance: Floats
    compared: Floats | None
    compared_variance: Floats | None
    answers: NDArray[np.int64]
    total: Floats
    others: tuple[str, ...]
    left_out: int


def with_usual_openings(answers: pl.DataFrame, config: SeriesConfig) -> pl.DataFrame:
    """`answers` with `usual_opening`: 1 where the answer begins as this model's answers to this agent did at first.

    Usual is what at least `usual_share` of the first `reference_days` days began with; a day among them is held
    against the others of them, so that it is no more usual than a later day would be.
    """
    key = ["model", "agent"]
    told = answers.filter(pl.col("opening").is_not_null())
    place = told.select(*key, "day").unique().sort("day").with_columns(rank=pl.col("day").rank("ordinal").over(key))
    reference = place.filter(pl.col("rank") <= config.reference_days).select(*key, "day")
    early = told.join(reference, on=[*key, "day"], how="semi")
    counts = early.group_by(*key, "opening").agg(counted=pl.len())
    of_day = early.group_by(*key, "opening", "day").agg(same_day=pl.len())
    sizes = early.group_by(key).agg(size=pl.len())
    day_sizes = early.group_by(*key, "day").agg(day_size=pl.len())
    share = (pl.col("counted").fill_null(0) - pl.col("same_day").fill_null(0)) / (
        pl.col("size") - pl.col("day_size").fill_null(0)
    )
    return (
        answers.join(counts, on=[*key, "opening"], how="left", maintain_order="left")
        .join(of_day, on=[*key, "opening", "day"], how="left", maintain_order="left")
        .join(sizes, on=key, how="left", maintain_order="left")
        .join(day_sizes, on=[*key, "day"], how="left", maintain_order="left")
        .with_columns(
            usual_opening=pl.when(pl.col("opening").is_not_null()).then((share >= config.usual_share).cast(pl.Float64))
        )
        .drop("counted", "same_day", "size", "day_size")
    )


def residuals(answers: pl.DataFrame, measure: Measure, config: SeriesConfig) -> pl.DataFrame:
    """Answers with a value of the measure: model, day, `value` on its scale, `residual` within its kind, its `spread`.

    `residual` is null for answers of a kind that the model has given too few of to know.
    """
    column = pl.col(measure.column)
    value = column.log() if measure.scale == "log" else column
    kept = column.is_finite() & ((column > 0) if measure.scale == "log" else pl.lit(True))
    frame = answers.filter(kept).with_columns(value=value)
    fine = (pl.len().over(_FINE) >= config.answers_of_a_kind).alias("fine")
    frame = frame.with_columns(fine)
    rest = frame.filter(~pl.col("fine"))
    rest = rest.with_columns(known=pl.len().over(_COARSE) >= config.answers_of_a_kind)
    parts = [
        (frame.filter("fine").with_columns(known=pl.lit(True)), _FINE),
        (rest, _COARSE),
    ]
    return pl.concat(
        [
            part.select(
                "model", "day", "value",
                residual=pl.when("known").then(pl.col("value") - pl.col("value").mean().over(kind)),
                spread=pl.when("known").then(pl.col("value").var().over(kind)),
            )
            for part, kind in parts
        ]
    )  # fmt: skip


def sequence(frame: pl.DataFrame, model: str, config: SeriesConfig) -> Sequence:
    """The sequence of one model out of the `residuals` of all models."""
    known = frame.filter(pl.col("residual").is_not_null())
    days = (
        known.filter(pl.col("model") == model)
        .group_by("day")
        .agg(n=pl.len(), own=pl.col("residual").sum(), spread=pl.col("spread").sum(), total=pl.col("value").sum())
        .sort("day")
    )
    others = known.filter(pl.col("model") != model)
    theirs = (
        others.group_by("day")
        .agg(others=pl.len(), mean=pl.col("residual").mean(), noise=pl.col("spread").sum() / pl.len() ** 2)
        .filter(pl.col("others") >= config.answers_of_others)
    )
    days = days.join(theirs, on="day", how="left", maintain_order="left")
    total = int(days["n"].sum())
    covered = int(days.filter(pl.col("mean").is_not_null())["n"].sum())
    comparable = total > 0 and covered >= config.covered * total
    if comparable:
        days = days.filter(pl.col("mean").is_not_null())
    period = _periods(days["n"].to_list(), config.answers_a_period)
    closed = days.with_columns(pl.Series("period", period, dtype=pl.Int64)).filter(pl.col("period") >= 0)
    merged = (
        closed.group_by("period")
        .agg(
            first_day=pl.col("day").min(),
            answers=pl.col("n").sum(),
            own=pl.col("own").sum() / pl.col("n").sum(),
            variance=pl.col("spread").sum() / pl.col("n").sum() ** 2,
            theirs=(pl.col("mean") * pl.col("n")).sum() / pl.col("n").sum(),
            noise=(pl.col("noise") * pl.col("n") ** 2).sum() / pl.col("n").sum() ** 2,
            total=pl.col("total").sum(),
        )
        .sort("period")
    )
    own, variance = merged["own"].to_numpy(), merged["variance"].to_numpy()
    return Sequence(
        first_day=merged["first_day"].to_list(),
        own=own,
        own_variance=variance,
        compared=own - merged["theirs"].to_numpy() if comparable else None,
        compared_variance=variance + merged["noise"].to_numpy() if comparable else None,
        answers=merged["answers"].to_numpy().astype(np.int64),
        total=merged["total"].to_numpy(),
        others=tuple(sorted(others["model"].unique().to_list())) if comparable else (),
        left_out=frame.filter((pl.col("model") == model) & pl.col("residual").is_null()).height,
    )


def _periods(counts: list[int], least: int) -> list[int]:
    """The period of each day: days are joined until they have `least` answers; -1 for those that wait for more."""
    found: list[int] = []
    period, gathered, waiting = 0, 0, 0
    for count in counts:
        gathered += count
        waiting += 1
        if gathered >= least:
            found += [period] * waiting
            period, gathered, waiting = period + 1, 0, 0
    return found + [-1] * waiting
