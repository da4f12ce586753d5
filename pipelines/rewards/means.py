"""Mean rewards of agents and arms over all their traces, with what the estimates of their traces have in common.

Only some traces have signals of their own, and volunteered ones come mostly from the unhappy, so a mean over those
alone is biased. The others have what their task predicts, and they all err together when that is off:

    mean    = (n / N) mean over the n observed traces + (1 - n / N) mean over the others
    var     = (n / N)^2 var(mean over the observed, clustered by user) + (sum of the others' task sd / N)^2

The second term takes the errors of tasks as fully correlated, which they are as far as they rest on the agent's mean:
the interval is at least as wide as it should be.
"""

import polars as pl

from pipelines.exploration.rates import ARMS, arm_posteriors
from pipelines.stats.contract import require

REWARDED = pl.Schema(
    {
        "agent": pl.String(),
        "arm": pl.String(),
        "task": pl.String(),
        "user_id": pl.String(),
        "mean": pl.Float64(),
        "sd": pl.Float64(),
        "signals": pl.Int64(),
    }
)
TASK_SDS = pl.Schema({"agent": pl.String(), "task": pl.String(), "sd": pl.Float64()})


def mean_rewards(rewarded: pl.DataFrame, cells: pl.DataFrame) -> pl.DataFrame:
    """The mean reward of each agent and arm (columns of `exploration.rates.ARMS`).

    Args: `rewarded` (REWARDED), one row a trace; `cells` (TASK_SDS), the standard deviation of each task's mean. `n`
    counts traces with signals of their own, `traces` all; without any of them mean and sd are null.
    Raises: `ContractError` for other columns.
    """
    rewarded = require(rewarded, REWARDED, "mean rewards", not_null=["mean", "sd", "signals"], unit_interval=["mean"])
    cells = require(cells, TASK_SDS, "task standard deviations", not_null=["sd"])
    observed = arm_posteriors(rewarded.drop("task"))
    others = (
        rewarded.filter((pl.col("signals") == 0) & pl.col("agent").is_not_null() & pl.col("arm").is_not_null())
        .join(cells.rename({"sd": "task_sd"}), on=["agent", "task"], how="left", nulls_equal=True)
        .group_by("agent", "arm")
        .agg(
            other_mean=pl.col("mean").mean(),
            # A trace whose task is not among the cells counts with all of its own uncertainty.
            shared_sd=pl.coalesce("task_sd", "sd").mean(),
        )
    )
    share = pl.col("n") / pl.col("traces")
    rest = 1.0 - share
    return (
        observed.join(others, on=["agent", "arm"], how="left", maintain_order="left")
        .with_columns(
            mean=share * pl.col("mean") + rest * pl.col("other_mean").fill_null(0.0),
            sd=((share * pl.col("sd")) ** 2 + (rest * pl.col("shared_sd").fill_null(0.0)) ** 2).sqrt(),
        )
        .select(list(ARMS))
    )
