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

import duckdb
import polars as pl

from store import publications, rollup, staged_rows, tombstones
from store.columns import FACT_COLUMNS
from store.frames import fetched
from store.publications import Places
from store.staged_rows import Staged


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
_IDENTITY = {"spans": ("trace_id", "span_id"), "signals": ("signal_id",), "trace_records": ("trace_id",)}
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
    publication = publications.begin(connection)
    accepted: dict[str, _Accepted] = {}
    for kind, rows in present.items():
        with staged_rows.readable(connection, kind, rows) as total:
            incoming = _identified(connection, kind, guarded)
            keys = f"SELECT hash({_KEY[kind]}) AS key FROM incoming"
            places = publications.places(connection, _INDEX[kind], keys)
            if kind == "trace_records":
                accepted[kind] = _trace_records(connection, incoming, batch_id, publication, places)
            else:
                accepted[kind] = _versioned(connection, kind, incoming, total, batch_id, publication, places)
    traces = rollup.refresh(connection, batch_id, received_at, _touched(connection, present, accepted), publication)
    records = pl.concat([pl.Series(dtype=pl.Int64), *(each.records for each in accepted.values())]).unique()
    refused = _refused(connection, records) if guarded else ()
    counts = {kind: each.current for kind, each in accepted.items()}
    return Published(records.len(), traces, counts.get("spans", 0), counts.get("signals", 0), refused)


@dataclass(frozen=True)
class _Accepted:
    """What is new among the staged rows of one kind: the numbers of its records (with repetition), its traces, how many
    rows became current, which of the staged ones (None: all), and where else its traces may be."""

    records: pl.Series
    traces: pl.Series
    current: int
    chosen: pl.Series | None
    places: Places


def _touched(
    connection: duckdb.DuckDBPyConnection, present: Mapping[str, Staged], accepted: Mapping[str, _Accepted]
) -> rollup.Touched:
    """What of a slice the rollup has to know."""
    of_traces = [accepted[kind] for kind in ("spans", "trace_records") if kind in accepted]
    if not of_traces:
        return rollup.Touched(pl.Series(dtype=pl.String))
    traces = pl.concat([each.traces for each in of_traces]).unique()
    places = of_traces[0].places.also(of_traces[-1].places)
    records = "trace_records" in accepted
    if "spans" not in accepted:
        return rollup.Touched(traces, records=records, places=places)
    rows = present["spans"]
    fresh = staged_rows.spans(connection, rows, accepted["spans"].chosen)
    return rollup.Touched(
        traces, fresh, lambda numbers: staged_rows.previews(connection, rows, numbers), records, places
    )


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


def _refused(connection: duckdb.DuckDBPyConnection, accepted: pl.Series) -> tuple[int, ...]:
    """The records of which nothing was stored and something is withheld."""
    withheld = fetched(connection.execute("SELECT DISTINCT record_no FROM withheld"))["record_no"]
    return tuple(withheld.filter(~withheld.is_in(accepted.implode())).sort().to_list())


def _identified(connection: duckdb.DuckDBPyConnection, kind: str, guarded: bool) -> pl.DataFrame:
    """Make `incoming`: the identities of the staged rows, each version once; returns what `_incoming` does."""
    identity = ", ".join(_IDENTITY[kind])
    time = f"{_RANK_TIME[kind]}, " if kind in _RANK_TIME else ""
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE incoming AS
        SELECT {identity}, {time}content_hash, record_no, file_row_number AS row_no FROM staged"""
    )
    if guarded:
        connection.execute(
            "DELETE FROM incoming WHERE row_no IN (SELECT row_no FROM withheld WHERE fact = $kind)", {"kind": kind}
        )
    incoming = _incoming(connection, kind)
    if _each_once(incoming, kind):
        return incoming
    connection.execute(
        f"""DELETE FROM incoming WHERE row_no NOT IN (
            SELECT min(row_no) FROM incoming GROUP BY {identity}, content_hash)"""
    )
    return _incoming(connection, kind)


def _incoming(connection: duckdb.DuckDBPyConnection, kind: str) -> pl.DataFrame:
    """The identities in `incoming`, and the numbers of their records."""
    return fetched(connection.execute(f"SELECT {', '.join(_IDENTITY[kind])}, record_no FROM incoming"))


def _each_once(incoming: pl.DataFrame, kind: str) -> bool:
    """Whether no two rows are versions of the same thing."""
    return incoming.select(_IDENTITY[kind]).n_unique() == incoming.height


def _versioned(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    incoming: pl.DataFrame,
    total: int,
    batch_id: int,
    publication: int,
    places: Places,
) -> _Accepted:
    """Insert the new versions among the `total` staged spans or signals."""
    identity = ", ".join(_IDENTITY[table])
    rivals = not places.nowhere and _scalar(
        connection, f"SELECT count(*) FROM {table} SEMI JOIN incoming USING ({identity}) WHERE {places.within}"
    )
    if rivals:
        # What the store holds in the same version; what is superseded has a current version too.
        for known in (table, f"superseded_{table}"):
            connection.execute(
                f"""DELETE FROM incoming USING (
                    SELECT DISTINCT {identity}, content_hash FROM {known}
                    SEMI JOIN (SELECT content_hash FROM incoming) USING (content_hash) WHERE {places.within}
                ) AS held WHERE {_equal("incoming", "held", (*_IDENTITY[table], "content_hash"))}"""
            )
        incoming = _incoming(connection, table)
    ranked = bool(rivals) or not _each_once(incoming, table)
    current, chosen = incoming.height, None
    if ranked:
        chosen = _ranked(connection, table, places)
        current = chosen.len()
    elif incoming.height < total:
        chosen = fetched(connection.execute("SELECT row_no FROM incoming"))["row_no"]
    if not incoming.is_empty():
        columns = ", ".join([*FACT_COLUMNS[table], "content_hash"])
        beaten = "SELECT row_no FROM ranked WHERE fresh AND place > 1"
        winning = "SELECT row_no FROM ranked WHERE fresh AND place = 1" if ranked else "SELECT row_no FROM incoming"
        for target, rows, count in (
            (table, winning, current),
            (f"superseded_{table}", beaten, incoming.height - current),
        ):
            if count:
                # Without a condition the rows stream straight through.
                condition = f"WHERE file_row_number IN ({rows})" if count < total else ""
                connection.execute(
                    f"""INSERT INTO {target} ({columns}, batch_id, publication)
                    SELECT {columns}, {batch_id:d}, {publication:d} FROM staged {condition}"""
                )
        if table == "signals":
            keys = f"SELECT DISTINCT hash({_KEY[table]}) AS key FROM incoming"
            publications.note(connection, _INDEX[table], keys, publication)
    traces = incoming["trace_id"].unique() if table == "spans" else pl.Series(dtype=pl.String)
    return _Accepted(incoming["record_no"], traces, current, chosen, places)


def _ranked(connection: duckdb.DuckDBPyConnection, table: str, places: Places) -> pl.Series:
    """Make `ranked`: the versions of what comes, with their place, and put aside those held that are beaten.

    Returns the places in `staged` of the versions that become current.
    """
    identity, time = ", ".join(_IDENTITY[table]), _RANK_TIME[table]
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE ranked AS SELECT *, row_number() OVER (
            PARTITION BY {identity} ORDER BY ({time} IS NOT NULL, {time}, content_hash) DESC) AS place
        FROM (
            SELECT {identity}, {time}, content_hash, row_no, true AS fresh FROM incoming
            UNION ALL SELECT {identity}, {time}, content_hash, t.rowid, false
            FROM {table} AS t SEMI JOIN incoming USING ({identity}) WHERE {places.within})"""
    )
    beaten = "SELECT row_no FROM ranked WHERE NOT fresh AND place > 1"
    if _scalar(connection, f"SELECT count(*) FROM ({beaten})"):
        connection.execute(
            f"INSERT INTO superseded_{table} SELECT * FROM {table} WHERE {places.within} AND rowid IN ({beaten})"
        )
        connection.execute(f"DELETE FROM {table} WHERE {places.within} AND rowid IN ({beaten})")
    return fetched(connection.execute("SELECT row_no FROM ranked WHERE fresh AND place = 1"))["row_no"]


def _trace_records(
    connection: duckdb.DuckDBPyConnection, incoming: pl.DataFrame, batch_id: int, publication: int, places: Places
) -> _Accepted:
    """Insert statements about traces that are not held yet; all distinct versions of a statement are kept."""
    if not places.nowhere:
        connection.execute(
            f"""DELETE FROM incoming USING (
                SELECT DISTINCT trace_id, content_hash FROM trace_records
                SEMI JOIN (SELECT content_hash FROM incoming) USING (content_hash) WHERE {places.within}
            ) AS held WHERE incoming.trace_id = held.trace_id AND incoming.content_hash = held.content_hash"""
        )
        incoming = _incoming(connection, "trace_records")
    columns = ", ".join([*FACT_COLUMNS["trace_records"], "content_hash"])
    connection.execute(
        f"""INSERT INTO trace_records ({columns}, batch_id, publication)
        SELECT {columns}, {batch_id:d}, {publication:d} FROM staged
        WHERE file_row_number IN (SELECT row_no FROM incoming)"""
    )
    return _Accepted(incoming["record_no"], incoming["trace_id"].unique(), incoming.height, None, places)


def _equal(left: str, right: str, columns: tuple[str, ...]) -> str:
    return " AND ".join(f"{left}.{column} = {right}.{column}" for column in columns)


def _scalar(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    return int(connection.execute(sql).fetchall()[0][0])
