"""Ingest batches: what was received in one load and what became of it. received = accepted + duplicate + rejected."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from store import audit, meta, tombstones
from store.connection import Store
from store.errors import NotFound
from store.frames import UTC_TIME, declare
from store.publish import Slice, publish_slice

BATCHES = declare(
    {
        "batch_id": pl.Int64, "source": pl.String, "file_name": pl.String, "format": pl.String, "state": pl.String,
        "bytes_total": pl.Int64, "bytes_done": pl.Int64, "received": pl.Int64, "accepted": pl.Int64,
        "duplicate": pl.Int64, "rejected": pl.Int64, "traces": pl.Int64, "spans": pl.Int64, "signals": pl.Int64,
        "slices_done": pl.Int32, "staging_dir": pl.String, "mapping": pl.String, "fidelity": pl.String,
        "error": pl.String, "received_at": UTC_TIME, "finished_at": UTC_TIME,
    }
)  # fmt: skip

REJECTS = pl.Schema(
    {
        "record_no": pl.Int64, "line": pl.Int64, "column_name": pl.String, "reason": pl.String, "raw": pl.String,
        "raw_truncated": pl.Boolean,
    }
)  # fmt: skip

# Rejects whose raw text was too long to keep as a whole.
TRUNCATED = pl.col("raw_truncated")

REJECT_REASONS = pl.Schema({"column_name": pl.String, "reason": pl.String, "records": pl.Int64})

FORGOTTEN = "It is of somebody who was forgotten on request."

_COLUMNS = ", ".join(BATCHES.names())


@dataclass(frozen=True)
class SliceCounts:
    """What staging counted in one slice: records received and rejected, and the file position after it."""

    received: int
    rejected: int
    bytes_done: int


def begin(store: Store, *, source: str, file_name: str, bytes_total: int, loaded_by: str | None = None) -> int:
    """Open a batch in state 'staging'; returns its id. `loaded_by` is who the audit log will name."""

    def work(connection: duckdb.DuckDBPyConnection) -> int:
        row = connection.execute(
            """INSERT INTO ingest_batches (batch_id, source, file_name, state, bytes_total, received_at, loaded_by)
            SELECT coalesce(max(batch_id), 0) + 1, $source, $file_name, 'staging', $bytes_total, $now, $loaded_by
            FROM ingest_batches
            RETURNING batch_id""",
            {
                "source": source, "file_name": file_name, "bytes_total": bytes_total, "now": store.clock.now(),
                "loaded_by": loaded_by,
            },
        ).fetchall()  # fmt: skip
        return int(row[0][0])

    return store.write(work)


def describe(store: Store, batch_id: int, *, source: str, format: str, staging_dir: Path, mapping: str | None) -> None:
    """Record how the file was recognised and where it is staged."""
    store.write(
        lambda connection: connection.execute(
            """UPDATE ingest_batches SET source = $source, format = $format, staging_dir = $staging, mapping = $mapping
            WHERE batch_id = $batch""",
            {"source": source, "format": format, "staging": str(staging_dir), "mapping": mapping, "batch": batch_id},
        )
    )


def publishing(store: Store, batch_id: int, fidelity: dict[str, Any]) -> None:
    """The file is staged as a whole: from here the batch only goes forward, also after a kill."""
    store.write(
        lambda connection: connection.execute(
            "UPDATE ingest_batches SET state = 'publishing', fidelity = $fidelity WHERE batch_id = $batch",
            {"fidelity": json.dumps(fidelity), "batch": batch_id},
        )
    )


def apply_slice(store: Store, batch_id: int, staged: Slice, rejects: Path | None, counts: SliceCounts) -> None:
    """Publish one staged slice with its rejects and counters, in one transaction."""

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        received_at = _received_at(connection, batch_id)
        published = publish_slice(connection, batch_id, received_at, staged, lambda: tombstones.key_of(store))
        keep_refused(connection, batch_id, published.refused)
        if rejects is not None:
            connection.execute(
                """INSERT INTO ingest_rejects BY NAME
                SELECT $batch AS batch_id, record_no, line, column_name, reason, raw, raw_truncated
                FROM read_parquet($file)""",
                {"batch": batch_id, "file": str(rejects)},
            )
        connection.execute(
            """UPDATE ingest_batches SET received = received + $received, rejected = rejected + $rejected,
                accepted = accepted + $accepted, duplicate = duplicate + $received - $rejected - $accepted,
                traces = traces + $traces, spans = spans + $spans, signals = signals + $signals,
                bytes_done = $bytes_done, slices_done = slices_done + 1
            WHERE batch_id = $batch""",
            {
                "received": counts.received, "rejected": counts.rejected + len(published.refused),
                "accepted": published.records,
                "traces": published.traces, "spans": published.spans, "signals": published.signals,
                "bytes_done": counts.bytes_done, "batch": batch_id,
            },
        )  # fmt: skip
        meta.bump(connection)

    store.write(work)


def keep_refused(connection: duckdb.DuckDBPyConnection, batch_id: int, records: Sequence[int]) -> None:
    """Note the records that were refused because they are of somebody who was forgotten; nothing of them is kept."""
    if records:
        connection.execute(
            """INSERT INTO ingest_rejects (batch_id, record_no, reason)
            SELECT $batch, unnest($records::BIGINT[]), $reason""",
            {"batch": batch_id, "records": list(records), "reason": FORGOTTEN},
        )


def finish(store: Store, batch_id: int, state: str, error: str | None = None) -> None:
    """End a batch as 'done', 'failed' or 'cancelled'.

    One that published something, and of which it is known who had it loaded, has its row in the audit log with that.
    """

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        _audit(connection, store.clock.now(), batch_id, state)
        connection.execute(
            """UPDATE ingest_batches SET state = $state, error = $error, finished_at = $now, staging_dir = NULL
            WHERE batch_id = $batch""",
            {"state": state, "error": _storable(error), "now": store.clock.now(), "batch": batch_id},
        )
        meta.bump(connection)

    store.write(work)


def recent(store: Store, limit: int = 50) -> pl.DataFrame:
    """The latest batches, newest first (columns `BATCHES`)."""
    with store.read() as reader:
        return reader.frame(
            f"SELECT {_COLUMNS} FROM ingest_batches ORDER BY batch_id DESC LIMIT $limit", BATCHES, {"limit": limit}
        )


def unfinished(store: Store) -> pl.DataFrame:
    """Batches that a kill or a full disk left in 'staging' or 'publishing', oldest first (columns `BATCHES`)."""
    with store.read() as reader:
        return reader.frame(
            f"SELECT {_COLUMNS} FROM ingest_batches WHERE state IN ('staging', 'publishing') ORDER BY batch_id", BATCHES
        )


def one(store: Store, batch_id: int) -> dict[str, Any]:
    """One batch as a dictionary of `BATCHES` columns. Raises: `NotFound`."""
    with store.read() as reader:
        frame = reader.frame(
            f"SELECT {_COLUMNS} FROM ingest_batches WHERE batch_id = $batch", BATCHES, {"batch": batch_id}
        )
    if frame.is_empty():
        raise NotFound("batch", str(batch_id))
    return frame.to_dicts()[0]


def rejects(store: Store, batch_id: int, limit: int = 200, offset: int = 0) -> pl.DataFrame:
    """Rejected records of a batch in file order (columns `REJECTS`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(REJECTS.names())} FROM ingest_rejects WHERE batch_id = $batch
            ORDER BY record_no, line LIMIT $limit OFFSET $offset""",
            REJECTS,
            {"batch": batch_id, "limit": limit, "offset": offset},
        )


def reject_reasons(store: Store, batch_id: int, limit: int = 50) -> pl.DataFrame:
    """How many records of a batch were rejected for each reason, most frequent first (columns `REJECT_REASONS`)."""
    with store.read() as reader:
        return reader.frame(
            """SELECT column_name, reason, count(*) AS records FROM ingest_rejects WHERE batch_id = $batch
            GROUP BY ALL ORDER BY records DESC, reason, column_name LIMIT $limit""",
            REJECT_REASONS,
            {"batch": batch_id, "limit": limit},
        )


def _audit(connection: duckdb.DuckDBPyConnection, now: datetime, batch_id: int, state: str) -> None:
    names = ("file", "source", "format", "received", "accepted", "duplicate", "rejected")
    rows = connection.execute(
        """SELECT loaded_by, file_name, source, format, received, accepted, duplicate, rejected FROM ingest_batches
        WHERE batch_id = $batch AND loaded_by IS NOT NULL AND slices_done > 0 AND finished_at IS NULL""",
        {"batch": batch_id},
    ).fetchall()
    for actor, *told in rows:
        detail = {**dict(zip(names, told, strict=True)), "state": state}
        audit.append(connection, now, actor, "file load", f"batch {batch_id}", detail)


def _storable(text: str | None) -> str | None:
    """A message that may name a file whose name is no text."""
    return text if text is None else text.encode("utf-8", "backslashreplace").decode()


def _received_at(connection: duckdb.DuckDBPyConnection, batch_id: int) -> datetime:
    rows = connection.execute(
        "SELECT received_at FROM ingest_batches WHERE batch_id = $batch", {"batch": batch_id}
    ).fetchall()
    if not rows:
        raise NotFound("batch", str(batch_id))
    received_at: datetime = rows[0][0]
    return received_at
