"""Bad rollouts that teach nothing about the agent, by their failure labels.

A tool or its environment failed, the request lacked what was needed, or the trace was run to explore: set aside. Only
bad rollouts bear labels, so dropping them alone would leave the good half of those that met the same failure, and make
whatever goes with that failure look good. Rollouts that met a failure of their environment are therefore recognised by
what happened, not by how it ended: which tools failed through no fault of the arguments, which of these never recovered
and whether the trace ended in error. Where most labelled bad rollouts of an agent that met the same are put down to the
environment, all that met it are set aside, good or bad.
"""

from typing import Final

import polars as pl

from pipelines.failures.axes import EXPLORATION

__all__ = ["REASONS", "set_aside"]

REASONS: Final = ("environment", "request", "exploration")
_AXES: Final = {"environment_error": "environment", "underspecified_request": "request", EXPLORATION: "exploration"}


def set_aside(rollouts: pl.DataFrame, calls: pl.DataFrame) -> pl.DataFrame:
    """`rollouts` with the column `aside`: one of REASONS, null for those that are compared; order is kept.

    `rollouts` has trace_key, agent, failed and axis (the first failure label, null where none), `calls` the columns
    `pipelines.lessons.actions.CALLS`.
    """
    met = rollouts.join(_met(calls), on="trace_key", how="left", maintain_order="left").with_columns(
        met=pl.when(pl.col("failed").fill_null(False)).then(pl.lit(1)).otherwise(pl.lit(0)).cast(pl.UInt64)
        + pl.col("met").fill_null(0)
    )
    blamed = (pl.col("axis") == "environment_error").sum() * 2 > pl.col("axis").is_not_null().sum()
    same = met.filter(pl.col("met") > 0).group_by("agent", "met").agg(outside=blamed)
    own = pl.col("axis").replace_strict(_AXES, default=None, return_dtype=pl.String)
    return (
        met.join(same, on=["agent", "met"], how="left", maintain_order="left")
        .with_columns(aside=pl.when(pl.col("outside").fill_null(False)).then(pl.lit("environment")).otherwise(own))
        .drop("met", "outside")
    )


def _met(calls: pl.DataFrame) -> pl.DataFrame:
    """(trace_key, met): a fingerprint of the tools that failed whatever the arguments were, and which stayed so."""
    keys = ["trace_key", "name"]
    failed = calls.filter(pl.col("failed") & (pl.col("fault").cast(pl.String) != "argument"))
    last = failed.group_by(keys).agg(failed_at=pl.col("position").max())
    fixed = (
        calls.filter(~pl.col("failed"))
        .join(last.select(keys), on=keys, how="semi")
        .group_by(keys)
        .agg(ok_at=pl.col("position").max())
    )
    ended = last.join(fixed, on=keys, how="left").with_columns(
        recovered=(pl.col("ok_at") > pl.col("failed_at")).fill_null(False)
    )
    # A sum of hashes names a set, whatever its order; + 2 keeps it apart from "nothing" and from a failed trace.
    named = pl.struct(pl.col("name").cast(pl.String), "recovered").hash(seed=7) // 1024
    return ended.group_by("trace_key").agg(met=named.sum() + 2)
