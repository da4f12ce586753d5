"""What exploring did cost, in reward points and in money: what came of it, beside what was expected of it.

Expected and worst-case regret are logged with each decision. Realised is what explored decisions got against what
greedy ones got from people of the same segment: Σ (mean of greedy - reward). It is negative where exploring found
something better. Only decisions whose outcome is known count, and a day's number is scaled up to all it explored.
"""

import polars as pl

from pipelines.stats.contract import require
from store.frames import UTC_TIME, declare

__all__ = ["LEDGER", "OUTCOMES", "realised"]

OUTCOMES = declare(
    {
        "segment": pl.String, "decided_at": UTC_TIME, "explore": pl.Boolean, "reward": pl.Float64,
        "reward_sd": pl.Float64, "signals": pl.Int64, "cost_usd": pl.Float64,
    }
)  # fmt: skip
LEDGER = pl.Schema(
    {
        "day": pl.Date(),
        "explored": pl.Int64(),
        "judged": pl.Int64(),  # explored decisions whose reward has signals of its own
        "realised": pl.Float64(),  # reward points; null where none was judged
        "realised_sd": pl.Float64(),
        "extra_usd": pl.Float64(),  # what explored decisions cost more than greedy ones; null where no cost is stated
    }
)


def realised(logged: pl.DataFrame) -> pl.DataFrame:
    """Per UTC day with explored decisions, oldest first (columns LEDGER).

    `logged` are decisions of one agent (columns OUTCOMES, as `store.logged_decisions.read` has them); those without
    `explore` are left out. Greedy decisions of all days are compared with; where a segment has none, those of everyone.
    """
    logged = require(logged.select(list(OUTCOMES)), OUTCOMES, "logged decisions", not_null=["decided_at"])
    known = logged.filter(pl.col("explore").is_not_null()).with_columns(
        own=pl.when(pl.col("signals") > 0).then(pl.col("reward"))
    )
    greedy = known.filter(~pl.col("explore"))
    everyone = greedy.select(
        reward=pl.col("own").mean(), variance=pl.col("own").var() / pl.col("own").count(), usd=pl.col("cost_usd").mean()
    ).row(0, named=True)
    by_segment = greedy.group_by("segment").agg(
        base=pl.col("own").mean(),
        base_variance=pl.col("own").var() / pl.col("own").count(),
        base_usd=pl.col("cost_usd").mean(),
    )
    explored = (
        known.filter("explore")
        .join(by_segment, on="segment", how="left", nulls_equal=True)
        .with_columns(
            base=pl.col("base").fill_null(pl.lit(everyone["reward"], pl.Float64)),
            base_variance=pl.col("base_variance").fill_null(pl.lit(everyone["variance"], pl.Float64)),
            base_usd=pl.col("base_usd").fill_null(pl.lit(everyone["usd"], pl.Float64)),
        )
    )
    lost = pl.col("base") - pl.col("own")
    # Of one decision: what the reward model does not know, how explored decisions vary, and the mean compared with.
    spread = pl.col("reward_sd").fill_null(0.0) ** 2 + pl.col("own").var().over(pl.lit(1)).fill_null(0.0)
    scale = pl.len() / lost.count()
    return (
        explored.with_columns(spread=spread)
        .group_by(day=pl.col("decided_at").dt.convert_time_zone("UTC").dt.date())
        .agg(
            explored=pl.len().cast(pl.Int64),
            judged=lost.count().cast(pl.Int64),
            realised=pl.when(lost.count() > 0).then(lost.sum() * scale),
            realised_sd=pl.when(lost.count() > 0).then(
                scale
                * (
                    pl.col("spread").filter(pl.col("own").is_not_null()).sum()
                    + lost.count() ** 2 * pl.col("base_variance").mean().fill_null(0.0)
                ).sqrt()
            ),
            extra_usd=pl.when((pl.col("cost_usd") - pl.col("base_usd")).count() > 0).then(
                (pl.col("cost_usd") - pl.col("base_usd")).sum()
                * (pl.len() / (pl.col("cost_usd") - pl.col("base_usd")).count())
            ),
        )
        .sort("day")
        .select(list(LEDGER))
        .cast(LEDGER)
    )
