"""Groups: tasks whose rollouts differ in outcome, how much they differ, and the rollouts that show it best."""

from typing import Final

import numpy as np
import polars as pl

from pipelines.lessons import choice

__all__ = ["GROUPS", "mixed_groups"]

GROUPS: Final = pl.Schema(
    {
        "agent": pl.String(),
        "task": pl.String(),
        "traces": pl.Int64(),  # traffic, also without outcome
        "traces_per_day": pl.Float64(),
        "rollouts": pl.Int64(),  # compared
        "set_aside": pl.Int64(),
        "without_outcome": pl.Int64(),
        "mean_outcome": pl.Float64(),
        "standard_error": pl.Float64(),  # of the mean: sample sd / √rollouts
        "sd_outcome": pl.Float64(),  # population sd without the noise of the outcomes
        "best_trace_id": pl.String(),
        "worst_trace_id": pl.String(),
        "good_trace_ids": pl.List(pl.String()),
        "bad_trace_ids": pl.List(pl.String()),
        "best_key": pl.UInt64(),
        "worst_key": pl.UInt64(),
    }
)
_NOISE: Final = 1e-9
_SECONDS_PER_DAY: Final = 86_400.0


def mixed_groups(known: pl.DataFrame, coded: pl.DataFrame, calls: pl.DataFrame) -> pl.DataFrame:
    """Tasks of two or more compared rollouts that differ in outcome (columns GROUPS), by agent and task.

    Args: `known` every trace (columns ROLLOUTS of `store.contrasts`); `coded` those with an outcome, with `stratum`
    (code of the task), `row` (its place) and `aside`; `calls` of columns `pipelines.lessons.actions.CALLS`.
    """
    compared = coded.filter(pl.col("aside").is_null())
    spread = pl.col("outcome").var(ddof=0)
    measured = (
        compared.group_by("agent", "task", "stratum", maintain_order=True)
        .agg(
            rollouts=pl.len().cast(pl.Int64),
            mean_outcome=pl.col("outcome").mean(),
            standard_error=pl.col("outcome").std() / pl.len().sqrt(),
            total=spread,
            sd_outcome=(spread - (pl.col("outcome_sd").fill_null(0.0) ** 2).mean()).clip(0.0).sqrt(),
        )
        .filter((pl.col("rollouts") > 1) & (pl.col("total") > _NOISE**2) & (pl.col("total").sqrt() > _NOISE))
        .drop("total")
    )
    days = known.group_by("agent").agg(
        days=((pl.col("seen_at").max() - pl.col("seen_at").min()).dt.total_microseconds() / 1e6 / _SECONDS_PER_DAY)
        .fill_null(0.0).clip(1.0)
    )  # fmt: skip
    traffic = known.group_by("agent", "task").agg(traces=pl.len().cast(pl.Int64)).join(days, on="agent")
    aside = coded.group_by("stratum").agg(
        set_aside=pl.col("aside").count().cast(pl.Int64), observed=pl.len().cast(pl.Int64)
    )
    mixed = compared.join(measured.select("stratum"), on="stratum", how="semi")
    chosen = choice.choose(mixed, calls)
    ids, keys = coded["trace_id"], coded["trace_key"]
    good, bad = chosen["good"], chosen["bad"]
    named = chosen.select("stratum").with_columns(
        good_trace_ids=_taken(good, ids), bad_trace_ids=_taken(bad, ids), best_key=keys.gather(good.list.first()),
        worst_key=keys.gather(bad.list.first()),
    )  # fmt: skip
    return (
        measured.join(traffic, on=["agent", "task"])
        .join(aside, on="stratum")
        .join(named, on="stratum")
        .with_columns(
            traces_per_day=pl.col("traces") / pl.col("days"),
            without_outcome=pl.col("traces") - pl.col("observed"),
            best_trace_id=pl.col("good_trace_ids").list.first(),
            worst_trace_id=pl.col("bad_trace_ids").list.first(),
        )
        .sort("agent", "task")
        .select(list(GROUPS))
        .cast(GROUPS)
    )


def _taken(places: pl.Series, values: pl.Series) -> pl.Series:
    flat = pl.DataFrame({"group": np.arange(places.len()), "place": places}).explode("place")
    named = flat.with_columns(value=values.gather(flat["place"]))
    return named.group_by("group", maintain_order=True).agg("value")["value"]
