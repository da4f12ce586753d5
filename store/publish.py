"""Publishing staged rows: the idempotent insert behind every way into the store.

A slice is a few Parquet files (trace_records, spans, signals) that staging wrote. It is applied in one transaction
together with its batch counters and the rollup of its traces, so a kill leaves whole slices and the rest resumes.

The result does not depend on the order in which files arrive: every version of a row has a rank (end or occurrence
time, then content hash), the highest-ranked one is current, the others are kept in `superseded_*`. That is a maximum
over a set, hence commutative, associative and idempotent (a join-semilattice).
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb

from store import rollup
from store.columns import FACT_COLUMNS


@dataclass(frozen=True)
class Slice:
    """Staged files of one slice; None where it has no rows of that kind."""

    trace_records: Path | None = None
    spans: Path | None = None
    signals: Path | None = None


@dataclass(frozen=True)
class Published:
    """What a slice changed: `records` of the file that brought something new, and rows inserted."""

    records: int
    traces: int
    spans: int
    signals: int


# The identity of a row and the time that ranks its versions.
_IDENTITY = {"spans": ("trace_id", "span_id"), "signals": ("signal_id",)}
_RANK_TIME = {"spans": "ended_at", "signals": "occurred_at"}


def publish_slice(
    connection: duckdb.DuckDBPyConnection, batch_id: int, received_at: datetime, staged: Slice
) -> Published:
    """Insert what is new in a slice and refresh the rollup of the traces it touches. Call inside a transaction."""
    connection.execute("CREATE OR REPLACE TEMP TABLE accepted_records (record_no BIGINT)")
    connection.execute("CREATE OR REPLACE TEMP TABLE touched_traces (trace_id VARCHAR)")
    rollup.no_fresh_spans(connection)
    spans = _versioned(connection, "spans", staged.spans, batch_id) if staged.spans else 0
    if staged.trace_records:
        _trace_records(connection, staged.trace_records, batch_id)
    signals = _versioned(connection, "signals", staged.signals, batch_id) if staged.signals else 0
    traces = rollup.refresh(connection, batch_id, received_at)
    records = _scalar(connection, "SELECT count(DISTINCT record_no) FROM accepted_records")
    return Published(records, traces, spans, signals)


def _versioned(connection: duckdb.DuckDBPyConnection, table: str, file: Path, batch_id: int) -> int:
    """Insert the new versions among staged spans or signals; returns how many became current."""
    identity = ", ".join(_IDENTITY[table])
    rank = f"({_RANK_TIME[table]} IS NOT NULL, {_RANK_TIME[table]}, content_hash)"
    parameters = {"file": str(file)}
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE incoming AS
        SELECT {identity}, {_RANK_TIME[table]}, content_hash, record_no, file_row_number AS row_no
        FROM read_parquet($file, file_row_number = true)
        QUALIFY row_number() OVER (PARTITION BY {identity}, content_hash ORDER BY file_row_number) = 1""",
        parameters,
    )
    for known in (table, f"superseded_{table}"):
        connection.execute(
            f"""DELETE FROM incoming USING (
                SELECT DISTINCT {identity}, content_hash FROM {known}
                SEMI JOIN (SELECT content_hash FROM incoming) USING (content_hash)
            ) AS held WHERE {_equal("incoming", "held", (*_IDENTITY[table], "content_hash"))}"""
        )
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE current_rows AS
        SELECT {", ".join(f"t.{c}" for c in _IDENTITY[table])}, t.{_RANK_TIME[table]}, t.content_hash, t.rowid AS row_no
        FROM {table} AS t SEMI JOIN incoming USING ({identity})"""
    )
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE ranked AS
        SELECT *, row_number() OVER (PARTITION BY {identity} ORDER BY {rank} DESC) AS place FROM (
            SELECT *, true AS fresh FROM (SELECT * EXCLUDE record_no FROM incoming)
            UNION ALL SELECT *, false FROM current_rows)"""
    )
    _retire_current(connection, table)
    columns = ", ".join([*FACT_COLUMNS[table], "content_hash"])
    staged = "read_parquet($file, file_row_number = true)"
    for target, place in ((table, "place = 1"), (f"superseded_{table}", "place > 1")):
        numbers = f"(SELECT row_no FROM ranked WHERE fresh AND {place})"
        if _scalar(connection, f"SELECT count(*) FROM {numbers}"):
            connection.execute(
                f"""INSERT INTO {target} ({columns}, batch_id)
                SELECT {columns}, {batch_id:d} FROM {staged} WHERE file_row_number IN {numbers}""",
                parameters,
            )
    connection.execute("INSERT INTO accepted_records SELECT record_no FROM incoming")
    if table == "spans":
        connection.execute("INSERT INTO touched_traces SELECT DISTINCT trace_id FROM incoming")
        connection.execute(
            f"""INSERT INTO fresh_spans SELECT {rollup.SPAN_FIELDS} FROM {staged}
            WHERE file_row_number IN (SELECT row_no FROM ranked WHERE fresh AND place = 1)""",
            parameters,
        )
    return _scalar(connection, "SELECT count(*) FROM ranked WHERE fresh AND place = 1")


def _retire_current(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    """Move current rows that a staged row outranks to the table of superseded versions."""
    beaten = "(SELECT row_no FROM ranked WHERE NOT fresh AND place > 1)"
    if _scalar(connection, f"SELECT count(*) FROM {beaten}") == 0:
        return
    connection.execute(f"INSERT INTO superseded_{table} SELECT * FROM {table} WHERE rowid IN {beaten}")
    connection.execute(f"DELETE FROM {table} WHERE rowid IN {beaten}")


def _trace_records(connection: duckdb.DuckDBPyConnection, file: Path, batch_id: int) -> None:
    """Insert statements about traces that are not held yet; all distinct versions of a statement are kept."""
    parameters = {"file": str(file)}
    connection.execute(
        """CREATE OR REPLACE TEMP TABLE incoming AS
        SELECT trace_id, content_hash, record_no, file_row_number AS row_no
        FROM read_parquet($file, file_row_number = true)
        QUALIFY row_number() OVER (PARTITION BY trace_id, content_hash ORDER BY file_row_number) = 1""",
        parameters,
    )
    connection.execute(
        """DELETE FROM incoming USING (
            SELECT DISTINCT trace_id, content_hash FROM trace_records
            SEMI JOIN (SELECT content_hash FROM incoming) USING (content_hash)
        ) AS held WHERE incoming.trace_id = held.trace_id AND incoming.content_hash = held.content_hash"""
    )
    columns = ", ".join([*FACT_COLUMNS["trace_records"], "content_hash"])
    connection.execute(
        f"""INSERT INTO trace_records ({columns}, batch_id)
        SELECT {columns}, {batch_id:d} FROM read_parquet($file, file_row_number = true)
        WHERE file_row_number IN (SELECT row_no FROM incoming)""",
        parameters,
    )
    connection.execute("INSERT INTO accepted_records SELECT record_no FROM incoming")
    connection.execute("INSERT INTO touched_traces SELECT DISTINCT trace_id FROM incoming")


def _equal(left: str, right: str, columns: tuple[str, ...]) -> str:
    return " AND ".join(f"{left}.{column} = {right}.{column}" for column in columns)


def _scalar(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    rows = connection.execute(sql).fetchall()
    return int(rows[0][0])
