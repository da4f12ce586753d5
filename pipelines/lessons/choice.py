"""The rollouts of a group that show best what there is to learn: good and bad ones that took different steps."""

from typing import Final

import polars as pl

__all__ = ["CHOSEN", "choose"]

CHOSEN: Final = pl.Schema({"stratum": pl.UInt32(), "good": pl.List(pl.UInt32()), "bad": pl.List(pl.UInt32())})
_CONSIDERED: Final = 8  # of each side, the clearest by outcome and reward


def choose(rollouts: pl.DataFrame, calls: pl.DataFrame) -> pl.DataFrame:
    """Rows of up to two good and two bad rollouts of every stratum, the clearest first (columns CHOSEN).

    Args: `rollouts` with row, stratum, outcome, reward, reward_sd, trace_id and trace_key, of strata whose outcomes
    differ; `calls` of columns `pipelines.lessons.actions.CALLS`. Good is above the mean outcome of the stratum. The
    first of a side has the best (worst) outcome, then reward, then the smaller reward sd. The second is the one of the
    next `_CONSIDERED` whose steps differ most from the first's: 1 - Jaccard of the pairs of successive steps, a step
    being a tool and whether it failed. One that took the very same steps shows nothing new and is left out.
    """
    order = ["outcome", "reward", "reward_sd", "trace_id"]
    good = pl.col("outcome") > pl.col("outcome").mean().over("stratum")
    sides = rollouts.with_columns(good=good)
    ranked = pl.concat(
        [
            sides.filter("good").sort("stratum", *order, descending=[False, True, True, False, False]),
            sides.filter(~pl.col("good")).sort("stratum", *order, descending=[False, False, False, False, False]),
        ]
    ).with_columns(rank=pl.int_range(pl.len(), dtype=pl.Int32).over("stratum", "good"))
    considered = ranked.filter(pl.col("rank") < _CONSIDERED).select("row", "trace_key", "stratum", "good", "rank")
    second = (
        _distances(considered, calls)
        .filter(pl.col("distance") > 0.0)
        .sort("stratum", "good", "distance", "rank", descending=[False, False, True, False])
        .unique(["stratum", "good"], keep="first", maintain_order=True)
    )
    chosen = pl.concat(
        [
            considered.filter(pl.col("rank") == 0).select("stratum", "good", "row", place=pl.lit(0)),
            second.select("stratum", "good", "row", place=pl.lit(1)),
        ]
    ).sort("stratum", "place")
    return (
        chosen.group_by("stratum", maintain_order=True)
        .agg(good=pl.col("row").filter("good"), bad=pl.col("row").filter(~pl.col("good")))
        .cast(CHOSEN)
    )


def _distances(considered: pl.DataFrame, calls: pl.DataFrame) -> pl.DataFrame:
    """The considered rollouts but the first of each side, with `distance` of their steps from the first's."""
    steps = calls.join(considered.select("trace_key", "row"), on="trace_key").sort("row", "position")
    step = pl.struct(pl.col("name").cast(pl.String), "failed").hash(seed=3)
    before = pl.col("step").shift(1).over("row").fill_null(0)
    pairs = (
        steps.select("row", step=step)
        .with_columns(before=before)
        .select("row", pair=pl.struct("before", "step").hash(seed=5))
        .unique()
    )
    sizes = pairs.group_by("row").agg(size=pl.len().cast(pl.Int64))
    first = considered.filter(pl.col("rank") == 0).select("stratum", "good", first="row")
    others = considered.filter(pl.col("rank") > 0).join(first, on=["stratum", "good"])
    shared = (
        others.select("row", "first")
        .join(pairs, on="row")
        .join(pairs.rename({"row": "first"}), on=["first", "pair"])
        .group_by("row")
        .agg(shared=pl.len().cast(pl.Int64))
    )
    joined = (
        others.join(shared, on="row", how="left")
        .join(sizes, on="row", how="left")
        .join(sizes.rename({"row": "first", "size": "first_size"}), on="first", how="left")
        .with_columns(pl.col("shared", "size", "first_size").fill_null(0))
    )
    union = pl.col("size") + pl.col("first_size") - pl.col("shared")
    distance = pl.when(union > 0).then(1.0 - pl.col("shared") / union).otherwise(0.0)
    return joined.with_columns(distance=distance).sort("row")
