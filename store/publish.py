"""Publishing staged rows: the idempotent insert behind every way into the store.

A slice is a few Parquet files (trace_records, spans, signals) that staging wrote. It is applied in one transaction
together with its batch counters and the rollup of its traces, so a kill leaves whole slices and the rest resumes.

The result does not depend on the order in which files arrive: every version of a row has a rank (end or occurrence
time, then content hash), the highest-ranked one is current, the others are kept in `superseded_*`. That is a maximum
over a set, hence commutative, associative and idempotent (a join-semilattice).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

import duckdb
import pyarrow as pa

from store import publications, rollup, tombstones
from store.columns import FACT_COLUMNS
from store.publications import Places

# Rows as a file of staging, or in memory: the columns of the fact table, `record_no` and, counted from 0,
# `file_row_number`. Their content is hashed in the same way.
Staged: TypeAlias = Path | pa.Table


@dataclass(frozen=True)
class Slice:
    """Staged rows of one slice; None where it has no rows of that kind."""

    trace_records: Staged | None = None
    spans: Staged | None = None
    signals: Staged | None = None


@dataclass(frozen=True)
class Published:
    """What a slice changed: `records` that brought something new, rows inserted, and the numbers of records that are
    `refused` because they are of somebody who was forgotten.
    """

    records: int
    traces: int
    spans: int
    signals: int
    refused: tuple[int, ...] = ()


# The identity of a row, the time that ranks its versions, and the index that tells where it may be held.
_IDENTITY = {"spans": ("trace_id", "span_id"), "signals": ("signal_id",)}
_RANK_TIME = {"spans": "ended_at", "signals": "occurred_at"}
_KEY = {"spans": "trace_id", "signals": "signal_id", "trace_records": "trace_id"}
_INDEX = {"spans": "trace_publications", "signals": "signal_publications", "trace_records": "trace_publications"}


def publish_slice(
    connection: duckdb.DuckDBPyConnection,
    batch_id: int,
    received_at: datetime,
    staged: Slice,
    key: Callable[[], str] | None = None,
) -> Published:
    """Insert what is new in a slice and refresh the rollup of the traces it touches. Call inside a transaction.

    `key` gives that of the tombstones (`store.tombstones`); without it nobody's rows are refused.
    """
    present = {
        kind: rows
        for kind, rows in (
            ("spans", staged.spans),
            ("trace_records", staged.trace_records),
            ("signals", staged.signals),
        )
        if rows is not None
    }
    guarded = key is not None and bool(present) and tombstones.any_set_up(connection)
    if key is not None and guarded:
        _withhold(connection, present, key(), received_at)
    connection.execute("CREATE OR REPLACE TEMP TABLE accepted_records (record_no BIGINT)")
    connection.execute("CREATE OR REPLACE TEMP TABLE touched_traces (trace_id VARCHAR)")
    rollup.no_fresh_spans(connection)
    publication = publications.begin(connection)
    counts = {"spans": 0, "trace_records": 0, "signals": 0}
    for kind, rows in present.items():
        total = _offer(connection, kind, rows)
        if guarded:
            connection.execute(
                "DELETE FROM incoming WHERE row_no IN (SELECT row_no FROM withheld WHERE fact = $kind)", {"kind": kind}
            )
        places = publications.places(
            connection, _INDEX[kind], f"SELECT DISTINCT hash({_KEY[kind]}) AS key FROM incoming"
        )
        if kind == "trace_records":
            _trace_records(connection, batch_id, publication, places)
        else:
            counts[kind] = _versioned(connection, kind, total, batch_id, publication, places)
        _withdraw(connection, rows)
    traces = rollup.refresh(connection, batch_id, received_at, publication)
    records = _scalar(connection, "SELECT count(DISTINCT record_no) FROM accepted_records")
    refused = _refused(connection) if guarded else ()
    return Published(records, traces, counts["spans"], counts["signals"], refused)


def _withhold(
    connection: duckdb.DuckDBPyConnection, present: Mapping[str, Staged], key: str, received_at: datetime
) -> None:
    """Find out which of the staged rows are of somebody who was forgotten."""
    relations = {}
    for kind, rows in present.items():
        if isinstance(rows, Path):
            quoted = str(rows).replace("'", "''")
            source, number = f"read_parquet('{quoted}', file_row_number = true)", "file_row_number"
        else:
            source, number = f"offered_{kind}", "file_row_number"
            connection.register(source, rows)
        at = "occurred_at" if kind == "signals" else "coalesce(started_at, ended_at)"
        relations[kind] = (
            f"(SELECT trace_id, user_id, session_id, {at} AS happened, {number} AS row_no, record_no FROM {source})"
        )
    tombstones.withhold(connection, key, relations, received_at)
    for kind, rows in present.items():
        if not isinstance(rows, Path):
            connection.unregister(f"offered_{kind}")


def _refused(connection: duckdb.DuckDBPyConnection) -> tuple[int, ...]:
    """The records of which nothing was stored and something is withheld."""
    rows = connection.execute(
        """SELECT DISTINCT record_no FROM withheld
        WHERE record_no NOT IN (SELECT record_no FROM accepted_records) ORDER BY record_no"""
    ).fetchall()
    return tuple(int(number) for (number,) in rows)


def _offer(connection: duckdb.DuckDBPyConnection, kind: str, rows: Staged) -> int:
    """Make the staged rows readable as `staged`, and their identities, each version once, as `incoming`.

    Returns how many rows are staged.
    """
    if isinstance(rows, Path):
        quoted = str(rows).replace("'", "''")
        connection.execute(
            f"CREATE OR REPLACE TEMP VIEW staged AS FROM read_parquet('{quoted}', file_row_number = true)"
        )
    else:
        connection.register("offered", rows)
        columns = ", ".join(FACT_COLUMNS[kind])
        connection.execute(
            f"""CREATE OR REPLACE TEMP VIEW staged AS
            SELECT {columns}, hash({columns}) AS content_hash, record_no, file_row_number FROM offered"""
        )
    identity = ", ".join(_IDENTITY.get(kind, ("trace_id",)))
    time = f"{_RANK_TIME[kind]}, " if kind in _RANK_TIME else ""
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE incoming AS
        SELECT {identity}, {time}content_hash, record_no, file_row_number AS row_no FROM staged
        QUALIFY row_number() OVER (PARTITION BY {identity}, content_hash ORDER BY file_row_number) = 1"""
    )
    return _row(connection, "SELECT count(*) FROM staged")[0] if isinstance(rows, Path) else int(rows.num_rows)


def _withdraw(connection: duckdb.DuckDBPyConnection, rows: Staged) -> None:
    connection.execute("DROP VIEW staged")
    if not isinstance(rows, Path):
        connection.unregister("offered")


def _versioned(
    connection: duckdb.DuckDBPyConnection, table: str, total: int, batch_id: int, publication: int, places: Places
) -> int:
    """Insert the new versions among the `total` staged spans or signals; returns how many became current."""
    identity = ", ".join(_IDENTITY[table])
    time = _RANK_TIME[table]
    ranked = f"SELECT {identity}, {time}, content_hash, row_no, true AS fresh FROM incoming"
    if not places.nowhere:
        for known in (table, f"superseded_{table}"):
            connection.execute(
                f"""DELETE FROM incoming USING (
                    SELECT DISTINCT {identity}, content_hash FROM {known}
                    SEMI JOIN (SELECT content_hash FROM incoming) USING (content_hash) WHERE {places.within}
                ) AS held WHERE {_equal("incoming", "held", (*_IDENTITY[table], "content_hash"))}"""
            )
        ranked += f""" UNION ALL SELECT {identity}, {time}, content_hash, t.rowid, false
            FROM {table} AS t SEMI JOIN incoming USING ({identity}) WHERE {places.within}"""
    rank = f"""row_number() OVER (
        PARTITION BY {identity} ORDER BY ({time} IS NOT NULL, {time}, content_hash) DESC)"""
    if places.nowhere and _each_once(connection, identity):
        rank = "1"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE ranked AS SELECT *, {rank} AS place FROM ({ranked})")
    fresh, current, retired = _row(
        connection,
        """SELECT count(*) FILTER (fresh), count(*) FILTER (fresh AND place = 1),
            count(*) FILTER (NOT fresh AND place > 1) FROM ranked""",
    )
    if retired:
        beaten = "(SELECT row_no FROM ranked WHERE NOT fresh AND place > 1)"
        connection.execute(
            f"INSERT INTO superseded_{table} SELECT * FROM {table} WHERE {places.within} AND rowid IN {beaten}"
        )
        connection.execute(f"DELETE FROM {table} WHERE {places.within} AND rowid IN {beaten}")
    if not fresh:
        return 0
    columns = ", ".join([*FACT_COLUMNS[table], "content_hash"])
    for target, place, count in ((table, "place = 1", current), (f"superseded_{table}", "place > 1", fresh - current)):
        if count:
            # Without a condition the rows stream straight through.
            chosen = f"WHERE file_row_number IN (SELECT row_no FROM ranked WHERE fresh AND {place})"
            connection.execute(
                f"""INSERT INTO {target} ({columns}, batch_id, publication)
                SELECT {columns}, {batch_id:d}, {publication:d} FROM staged {chosen if count < total else ""}"""
            )
    connection.execute("INSERT INTO accepted_records SELECT record_no FROM incoming")
    if table == "spans":
        connection.execute("INSERT INTO touched_traces SELECT DISTINCT trace_id FROM incoming")
        chosen = "WHERE file_row_number IN (SELECT row_no FROM ranked WHERE fresh AND place = 1)"
        connection.execute(
            f"INSERT INTO fresh_spans SELECT {rollup.SPAN_FIELDS} FROM staged {chosen if current < total else ''}"
        )
    else:
        keys = f"SELECT DISTINCT hash({_KEY[table]}) AS key FROM incoming"
        publications.note(connection, _INDEX[table], keys, publication)
    return current


def _trace_records(connection: duckdb.DuckDBPyConnection, batch_id: int, publication: int, places: Places) -> None:
    """Insert statements about traces that are not held yet; all distinct versions of a statement are kept."""
    if not places.nowhere:
        connection.execute(
            f"""DELETE FROM incoming USING (
                SELECT DISTINCT trace_id, content_hash FROM trace_records
                SEMI JOIN (SELECT content_hash FROM incoming) USING (content_hash) WHERE {places.within}
            ) AS held WHERE incoming.trace_id = held.trace_id AND incoming.content_hash = held.content_hash"""
        )
    columns = ", ".join([*FACT_COLUMNS["trace_records"], "content_hash"])
    connection.execute(
        f"""INSERT INTO trace_records ({columns}, batch_id, publication)
        SELECT {columns}, {batch_id:d}, {publication:d} FROM staged
        WHERE file_row_number IN (SELECT row_no FROM incoming)"""
    )
    connection.execute("INSERT INTO accepted_records SELECT record_no FROM incoming")
    connection.execute("INSERT INTO touched_traces SELECT DISTINCT trace_id FROM incoming")


def _each_once(connection: duckdb.DuckDBPyConnection, identity: str) -> bool:
    """Whether no two incoming rows are versions of the same thing."""
    rows, distinct = _row(connection, f"SELECT count(*), count(DISTINCT ({identity})) FROM incoming")
    return rows == distinct


def _equal(left: str, right: str, columns: tuple[str, ...]) -> str:
    return " AND ".join(f"{left}.{column} = {right}.{column}" for column in columns)


def _row(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[int, ...]:
    return tuple(int(value) for value in connection.execute(sql).fetchall()[0])


def _scalar(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    return _row(connection, sql)[0]
