"""Tasks that come again: with and without a lesson, and a second try without any against the first.

A withheld unit is paired with the served one of the same task nearest in time, each used once: pairs are made without
looking at outcomes, and time and task weigh equally on both sides. Outcomes of .5 or more went well.

The second try without lessons is the control for what retrying alone does: who tries a task again has mostly failed at
it, and the second try goes better with no lesson at all. Only units count in which the draws withheld every lesson.
"""

import numpy as np
import polars as pl

from pipelines.lessons.payoff.pairs import Paired, compare

__all__ = ["WENT_WELL", "lessons", "retries"]

WENT_WELL = 0.5


def lessons(units: pl.DataFrame, alpha: float, margin: float) -> pl.DataFrame:
    """The paired comparison of each lesson version, anytime-valid (columns of `store.payoffs` that it fills).

    `units` are draws (`pipelines.lessons.payoff.exposed.UNITS`).
    """
    known = units.filter(pl.col("outcome").is_not_null(), pl.col("task").is_not_null()).select(
        "lesson_id", "version", "task", "unit", "served", "decided_at", well=pl.col("outcome") >= WENT_WELL
    )
    key = ["lesson_id", "version", "task"]
    ordered = known.sort("decided_at", "unit")
    pairs = ordered.filter(~pl.col("served")).join_asof(
        ordered.filter("served").select(*key, "decided_at", "well", other="unit"), on="decided_at", by=key,
        strategy="nearest", suffix="_with", check_sortedness=False,
    )  # fmt: skip
    once = pairs.drop_nulls("other").unique([*key, "other"], keep="first", maintain_order=True)
    counted = once.group_by("lesson_id", "version").agg(
        pairs=pl.len(),
        fixed=(pl.col("well_with") & ~pl.col("well")).sum(),
        broke=(~pl.col("well_with") & pl.col("well")).sum(),
    )
    every = units.select("lesson_id", "version").unique().sort("lesson_id", "version")
    filled = every.join(counted, on=["lesson_id", "version"], how="left", maintain_order="left").fill_null(0)
    return _rows("lesson", filled, alpha, margin)


def retries(attempts: pl.DataFrame, alpha: float, margin: float) -> pl.DataFrame:
    """The second try without lessons against the first without, of one agent; one row, none where nothing repeats.

    `attempts` (`pipelines.lessons.payoff.exposed.ATTEMPTS`) have one row a unit. A person's further tries at a task
    are left out: one pair for each person and task.
    """
    tries = attempts.drop_nulls(["user_id", "task"]).sort("decided_at", "unit")
    tries = tries.with_columns(number=pl.int_range(pl.len()).over("user_id", "task")).filter(pl.col("number") < 2)
    first, second = tries.filter(pl.col("number") == 0), tries.filter(pl.col("number") == 1)
    pairs = first.join(second, on=["user_id", "task"], suffix="_again").filter(
        pl.col("bare") & pl.col("bare_again") & pl.col("outcome").is_not_null() & pl.col("outcome_again").is_not_null()
    )
    if second.is_empty():
        return pl.DataFrame()
    well, again = pl.col("outcome") >= WENT_WELL, pl.col("outcome_again") >= WENT_WELL
    counted = pairs.select(pairs=pl.len(), fixed=(again & ~well).sum(), broke=(well & ~again).sum())
    key = [pl.lit(None, pl.String).alias("lesson_id"), pl.lit(None, pl.Int32).alias("version")]
    rows = _rows("retry", counted.select(*key, pl.all()), alpha, margin)
    nothing = pl.lit("Nobody has tried a task twice without a lesson in either try.")
    return rows.with_columns(reason=pl.when(pl.col("units") == 0).then(nothing).otherwise("reason"))


def _rows(kind: str, counted: pl.DataFrame, alpha: float, margin: float) -> pl.DataFrame:
    found: list[Paired] = [
        compare(row["pairs"], row["fixed"], row["broke"], alpha=alpha, margin=margin, sequential=True)
        for row in counted.iter_rows(named=True)
    ]
    limits = {name: [_number(getattr(each, name)) for each in found] for name in ("effect", "lower", "upper")}
    return counted.select(
        "lesson_id", "version", pl.lit(kind).alias("kind"), pl.lit("outcome").alias("measure"),
        pl.lit("paired").alias("estimator"), pl.col("pairs").alias("served"), pl.col("pairs").alias("withheld"),
        pl.col("pairs").alias("units"), "fixed", "broke",
        *(pl.Series(name, values, dtype=pl.Float64) for name, values in limits.items()),
        pl.Series("verdict", [each.verdict for each in found], dtype=pl.String),
        pl.Series("reason", [each.reason for each in found], dtype=pl.String),
    )  # fmt: skip


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
