"""Results of numbered runs: a table that lists the runs, and tables of rows that bear a run's number.

Few rows are written in the transaction that lists the run (`next_number`, `insert`). Many rows would hold up the
acknowledgements of live data, so they are written slice by slice (`publish`): readers ask for the rows of a run that is
listed, so those of a run that is not are invisible until all are there. What an interrupted run left is removed by the
next. One run of a job goes on at a time (`pipelines.runner`), so nobody else takes the same number.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import duckdb
import polars as pl

from store import meta
from store.connection import Store

__all__ = ["SLICE", "each_slice", "insert", "insert_slices", "newest", "next_number", "publish", "remove"]

SLICE = 50_000  # rows in one transaction: about a tenth of a second


def next_number(connection: duckdb.DuckDBPyConnection, runs: str, number: str = "run_id") -> int:
    """The number of the run after the newest one that the table `runs` lists in its column `number`; the first is 1."""
    return int(connection.execute(f"SELECT coalesce(max({number}), 0) + 1 FROM {runs}").fetchall()[0][0])


def insert(
    connection: duckdb.DuckDBPyConnection, table: str, frame: pl.DataFrame, *, key: Mapping[str, object]
) -> None:
    """Insert a frame's rows by the names of its columns, each with the values of `key`. Call in a transaction."""
    constants = "".join(f"${column} AS {column}, " for column in key)
    connection.register("fresh_rows", frame)
    try:
        connection.execute(f"INSERT INTO {table} BY NAME SELECT {constants}* FROM fresh_rows", dict(key))
    finally:
        connection.unregister("fresh_rows")


def insert_slices(
    store: Store,
    table: str,
    frame: pl.DataFrame,
    *,
    key: Mapping[str, object],
    progress: Callable[[float], None] = lambda fraction: None,
) -> None:
    """As `insert`, slice by slice; `progress` as in `each_slice`."""
    each_slice(store, frame, lambda connection, rows: insert(connection, table, rows, key=key), progress)


def each_slice(
    store: Store,
    frame: pl.DataFrame,
    write: Callable[[duckdb.DuckDBPyConnection, pl.DataFrame], None],
    progress: Callable[[float], None] = lambda fraction: None,
) -> None:
    """Hand a frame to `write`, `SLICE` rows a transaction, so that other changes get their turn in between.

    `progress` is told the fraction written after each slice and may raise: the slices before it stay written.
    """
    for start in range(0, frame.height, SLICE):
        store.write(_bound(write, frame.slice(start, SLICE)))
        progress(min(start + SLICE, frame.height) / frame.height)


def publish(
    store: Store,
    runs: str,
    tables: Mapping[str, pl.DataFrame],
    add: Callable[[duckdb.DuckDBPyConnection, int], None],
    *,
    number: str = "run_id",
) -> int:
    """Write the rows of a run slice by slice, then list it; returns its number.

    Args: `runs` lists runs by their `number`; `tables` the frame to insert into each table, whose rows bear the number
    in a column of the same name; `add` inserts the run's row into `runs`, in the transaction that makes all visible.
    """
    for table in tables:
        remove(store, table, f"{number} > (SELECT coalesce(max({number}), 0) FROM {runs})")
    run = store.write(lambda connection: next_number(connection, runs, number))
    for table, frame in tables.items():
        insert_slices(store, table, frame, key={number: run})

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        add(connection, run)
        meta.bump(connection)

    store.write(work)
    return run


def remove(store: Store, table: str, condition: str, params: Mapping[str, object] | None = None) -> None:
    """Remove the rows of which `condition` holds, `SLICE` of them a transaction; it is asked anew in each."""

    def work(connection: duckdb.DuckDBPyConnection) -> int:
        rows = connection.execute(
            f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE {condition} LIMIT {SLICE})",
            dict(params) if params else None,
        ).fetchall()
        return int(rows[0][0])

    while store.write(work) == SLICE:
        pass


def newest(store: Store, runs: str, schema: pl.Schema, *, number: str = "run_id") -> dict[str, Any] | None:
    """The newest listed run as a dictionary of the columns `schema`, `parameters` decoded; None before the first."""
    with store.read() as reader:
        frame = reader.frame(f"SELECT {', '.join(schema)} FROM {runs} ORDER BY {number} DESC LIMIT 1", schema)
    if frame.is_empty():
        return None
    row = frame.row(0, named=True)
    return {**row, "parameters": json.loads(row["parameters"])} if "parameters" in row else row


def _bound(
    write: Callable[[duckdb.DuckDBPyConnection, pl.DataFrame], None], rows: pl.DataFrame
) -> Callable[[duckdb.DuckDBPyConnection], None]:
    return lambda connection: write(connection, rows)
