"""The rows of the table of rewards: written and removed in short transactions, so that live data never waits long.

Rewards of a version that `reward_models` does not list yet are invisible: readers ask for those of the version in use.
So they are written slice by slice first, and the version is added when all are there. What an interrupted writer left
is removed by the next.
"""

from collections.abc import Callable

import duckdb
import polars as pl

from store import result_rows
from store.connection import Store
from store.frames import Reader

__all__ = ["COLUMNS", "WRITTEN", "insert", "replace", "same", "sweep", "whole", "with_outcomes"]

COLUMNS = pl.Schema({"trace_id": pl.String(), "mean": pl.Float64(), "sd": pl.Float64(), "signals": pl.Int32()})
WRITTEN = pl.Schema({**COLUMNS, "outcome": pl.Float64(), "outcome_sd": pl.Float64()})
_SAME = 1e-6  # two fits of the same data differ by less: threads add in another order, optimisers stop elsewhere


def whole(rewards: pl.DataFrame) -> pl.DataFrame:
    """Rewards with the columns WRITTEN; a method that knows no outcomes (COLUMNS alone) has nulls."""
    return with_outcomes(rewards).select(list(WRITTEN)).cast(WRITTEN)


def with_outcomes(rewards: pl.DataFrame) -> pl.DataFrame:
    """Rewards beside whatever other columns, with null outcomes where the method knows none."""
    absent = [pl.lit(None, dtype=kind).alias(name) for name, kind in WRITTEN.items() if name not in rewards.columns]
    return rewards.with_columns(absent)


def insert(store: Store, model: int, fresh: pl.DataFrame, progress: Callable[[float], None]) -> None:
    """Write rewards (as `whole` takes them) of a version not listed yet; `progress` may raise between slices."""
    result_rows.insert_slices(store, "rewards", whole(fresh), key={"reward_model_id": model}, progress=progress)


def replace(store: Store, model: int, fresh: pl.DataFrame, progress: Callable[[float], None]) -> None:
    """Give traces another reward by a version, or their first one; each slice changes at once."""

    def write(connection: duckdb.DuckDBPyConnection, rows: pl.DataFrame) -> None:
        connection.register("fresh_traces", rows.select("trace_id"))
        try:
            connection.execute(
                """DELETE FROM rewards WHERE reward_model_id = $model
                AND trace_id IN (SELECT trace_id FROM fresh_traces)""",
                {"model": model},
            )
        finally:
            connection.unregister("fresh_traces")
        result_rows.insert(connection, "rewards", rows, key={"reward_model_id": model})

    result_rows.each_slice(store, whole(fresh), write, progress)


def same(reader: Reader, model: int, fresh: pl.DataFrame) -> bool:
    """Whether the version gives just these traces just these rewards (as `whole` takes them)."""
    held = reader.any_frame(
        "SELECT count(*) AS held, count(outcome) AS outcomes FROM rewards WHERE reward_model_id = $model",
        {"model": model},
    ).row(0)
    # Outcomes of the same rewards are the same, but a version of an earlier release has none.
    if held != (fresh.height, fresh.height - whole(fresh)["outcome"].null_count()):
        return False
    before = reader.frame(
        "SELECT trace_id, mean, sd, signals FROM rewards WHERE reward_model_id = $model", COLUMNS, {"model": model}
    )
    both = fresh.join(before, on="trace_id", suffix="_before")
    alike = (
        ((pl.col("mean") - pl.col("mean_before")).abs() <= _SAME)
        & ((pl.col("sd") - pl.col("sd_before")).abs() <= _SAME)
        & (pl.col("signals") == pl.col("signals_before"))
    )
    return both.height == fresh.height and bool(both.select(alike.all()).item())


def sweep(store: Store, keep: int) -> None:
    """Remove rewards of versions that were never listed, and of all listed ones but the last `keep` and that in use.

    One transaction a version. The means of tasks (`reward_cells`) go with them.
    """
    with store.read() as reader:
        gone = reader.any_frame(
            f"""WITH kept AS (
                SELECT reward_model_id FROM reward_models
                WHERE active OR reward_model_id > (SELECT max(reward_model_id) FROM reward_models) - {keep:d}
            )
            SELECT DISTINCT reward_model_id FROM (
                SELECT reward_model_id FROM rewards UNION ALL SELECT reward_model_id FROM reward_cells
            ) ANTI JOIN kept USING (reward_model_id) ORDER BY ALL"""
        )["reward_model_id"].to_list()
    for model in gone:
        store.write(_removal(model))


def _removal(model: int) -> Callable[[duckdb.DuckDBPyConnection], None]:
    def work(connection: duckdb.DuckDBPyConnection) -> None:
        # An operator may have put it in use since it was looked up.
        kept = "SELECT reward_model_id FROM reward_models WHERE active"
        for table in ("rewards", "reward_cells"):
            connection.execute(
                f"DELETE FROM {table} WHERE reward_model_id = $model AND reward_model_id NOT IN ({kept})",
                {"model": model},
            )

    return work
