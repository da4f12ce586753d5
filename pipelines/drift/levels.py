"""The same metrics of segments and of everybody: one value a day, its mean, for `pipelines.drift.detection`.

What a change of the model or of a version does to everybody is what these levels are for, so nothing is taken away for
it: only what the mix of tasks and the weekday explain. Values are centred at each user's own mean first
(`pipelines.drift.residuals`), so that other users are not taken for other values. Categories have no mean: of them, a
sample of sessions is scanned, the same one each run.
"""

from typing import Final

import numpy as np
import polars as pl

from pipelines.drift.detection import SEQUENCES
from pipelines.drift.residuals import Cells, Expectation, Pilot

__all__ = ["LEAST_A_DAY", "SAMPLE", "daily", "sample", "sampled"]

LEAST_A_DAY: Final = 3  # values; a day with fewer has no mean worth a place
SAMPLE: Final = 400  # sessions with categories for each agent and each of its segments
_COMMON: Final = ("task", "weekday")


def daily(cells: Cells, pilot: Pilot, expectation: Expectation, metric: str, practical: float) -> pl.DataFrame:
    """Sequences of the days of each agent and of each of its segments (columns `SEQUENCES`) by a metric of numbers."""
    frame = cells.frame().with_columns(weekday=pl.col("day").dt.weekday())
    for effect in expectation.effects:
        if effect.name in _COMMON and np.isfinite(effect.kappa):
            shrunk = effect.sums.select(*effect.keys, e=pl.col("s0_all") / (pl.col("n_all") + effect.kappa))
            frame = frame.join(shrunk, on=effect.keys, how="left", nulls_equal=True).with_columns(
                s0=pl.col("s0") - pl.col("n") * pl.col("e").fill_null(0.0)
            ).drop("e")  # fmt: skip
    sums = (pl.col("n").sum(), pl.col("s0").sum(), pl.col("y0").sum())
    everybody = frame.group_by("agent", "day").agg(*sums)
    segments = frame.filter(pl.col("segment").is_not_null()).group_by("agent", "segment", "day").agg(*sums)
    columns = ["agent", "segment", "day", "n", "s0", "y0"]
    whole = everybody.with_columns(segment=pl.lit(None, pl.String))
    days = pl.concat([whole.select(columns), segments.select(columns)]).filter(pl.col("n") >= LEAST_A_DAY)
    mean = pl.col("y0") / pl.col("n")
    return (
        days.with_columns(
            level=pl.when(pl.col("segment").is_null()).then(pl.lit("population")).otherwise(pl.lit("segment")),
            user_id=pl.lit(None, pl.String),
            metric=pl.lit(metric),
            likelihood=pl.lit("log" if pilot.likelihood == "log" else "gaussian"),
            practical=pl.lit(practical),
            occurred_at=pl.col("day").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
            value=mean.exp() if pilot.likelihood == "log" else mean,
            residual=pl.col("s0") / pl.col("n"),
            block=pl.lit(None, pl.String),
        )
        .with_columns(_named())
        .select(list(SEQUENCES))
        .cast(SEQUENCES)
        .sort("level", "agent", "segment", "occurred_at", nulls_last=True)
    )


def sample(events: pl.DataFrame, kept: pl.DataFrame | None) -> pl.DataFrame:
    """The sessions with the smallest draws of each agent and each of its segments, of `events` and of those `kept`."""
    columns = ["agent", "segment", "category", "occurred_at", "draw", "level"]
    fresh = events.filter(pl.col("category").is_not_null())
    both = [
        fresh.with_columns(level=pl.lit("population"), segment=pl.lit(None, pl.String)).select(columns),
        fresh.filter(pl.col("segment").is_not_null()).with_columns(level=pl.lit("segment")).select(columns),
    ]
    frame = pl.concat([*both, *([kept] if kept is not None else [])])
    place = pl.col("draw").rank("ordinal").over("level", "agent", "segment")
    return frame.filter(place <= SAMPLE)


def _named() -> pl.Expr:
    """The agent; null where a trace names none."""
    return pl.when(pl.col("agent") != "").then("agent").alias("agent")


def sampled(kept: pl.DataFrame, metric: str, practical: float) -> pl.DataFrame:
    """Sequences (columns `SEQUENCES` and `category`) of the sampled sessions."""
    ordered = kept.sort("level", "agent", "segment", "occurred_at", "draw", nulls_last=True)
    return ordered.select(
        "level",
        pl.lit(None, pl.String).alias("user_id"),
        "segment",
        _named(),
        pl.lit(metric).alias("metric"),
        pl.lit("categorical").alias("likelihood"),
        pl.lit(practical).alias("practical"),
        "occurred_at",
        pl.lit(0.0).alias("value"),
        pl.lit(None, pl.Float64).alias("residual"),
        pl.lit(None, pl.String).alias("block"),
        "category",
    )
