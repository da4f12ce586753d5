"""Live data into the store: what one group commit holds, applied in one transaction.

Live data is counted in one batch for each source and UTC day, under the same law as a file: received = accepted +
duplicate + rejected, here in spans and signals.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb
import polars as pl
import pyarrow as pa

from store import meta, tombstones
from store.batches import keep_refused
from store.connection import Store
from store.frames import UTC_TIME, declare
from store.publish import Slice, publish_slice

LIVE_FORMAT = "live"

LAST_SEEN = declare(
    {
        "source": pl.String, "batch_id": pl.Int64, "received": pl.Int64, "accepted": pl.Int64, "duplicate": pl.Int64,
        "rejected": pl.Int64, "traces": pl.Int64, "spans": pl.Int64, "signals": pl.Int64, "last_seen": UTC_TIME,
    }
)  # fmt: skip


@dataclass(frozen=True)
class LiveReject:
    """One part of a request that was not taken."""

    where: str
    reason: str


@dataclass(frozen=True)
class LiveRows:
    """What one source sent: rows by fact table (with `record_no` from 0 and `file_row_number`), and what was refused.

    `received` counts the records, refused ones included.
    """

    source: str
    tables: dict[str, pa.Table]
    received: int
    rejects: Sequence[LiveReject] = ()


def commit(store: Store, groups: Sequence[LiveRows]) -> None:
    """Publish what each source sent, with its counters, in one transaction; returns once it is on disk.

    Raises: `DiskFull`, `StoreClosed`, `StoreError`: nothing of it was applied.
    """

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now = store.clock.now()
        for group in groups:
            batch_id, received, first_seen = _batch(connection, group.source, now)
            staged = Slice(group.tables.get("trace_records"), group.tables.get("spans"), group.tables.get("signals"))
            published = publish_slice(connection, batch_id, first_seen, staged, lambda: tombstones.key_of(store))
            keep_refused(connection, batch_id, [received + 1 + number for number in published.refused])
            if group.rejects:
                _keep_rejects(connection, batch_id, received, group.rejects)
            rejected = len(group.rejects) + len(published.refused)
            connection.execute(
                """UPDATE ingest_batches SET received = received + $received, rejected = rejected + $rejected,
                    accepted = accepted + $accepted, duplicate = duplicate + $received - $rejected - $accepted,
                    traces = traces + $traces, spans = spans + $spans, signals = signals + $signals,
                    slices_done = slices_done + 1, finished_at = $now
                WHERE batch_id = $batch""",
                {
                    "received": group.received, "rejected": rejected, "accepted": published.records,
                    "traces": published.traces, "spans": published.spans, "signals": published.signals,
                    "now": now, "batch": batch_id,
                },
            )  # fmt: skip
        meta.bump(connection)

    store.write(work)


def last_seen(store: Store) -> pl.DataFrame:
    """The newest live batch of each source (columns `LAST_SEEN`), the latest first."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT source, batch_id, received, accepted, duplicate, rejected, traces, spans, signals,
                finished_at AS last_seen
            FROM ingest_batches WHERE format = '{LIVE_FORMAT}'
            QUALIFY row_number() OVER (PARTITION BY source ORDER BY batch_id DESC) = 1
            ORDER BY last_seen DESC""",
            LAST_SEEN,
        )


def _batch(connection: duckdb.DuckDBPyConnection, source: str, now: datetime) -> tuple[int, int, datetime]:
    """The batch of a source for this day: its id, what it has received so far, and when it began."""
    name = f"live {now:%Y-%m-%d}"
    found = connection.execute(
        f"""SELECT batch_id, received, received_at FROM ingest_batches
        WHERE format = '{LIVE_FORMAT}' AND source = $source AND file_name = $name""",
        {"source": source, "name": name},
    ).fetchall()
    if not found:
        found = connection.execute(
            f"""INSERT INTO ingest_batches (batch_id, source, file_name, format, state, received_at, finished_at)
            SELECT coalesce(max(batch_id), 0) + 1, $source, $name, '{LIVE_FORMAT}', 'done', $now, $now
            FROM ingest_batches RETURNING batch_id, received, received_at""",
            {"source": source, "name": name, "now": now},
        ).fetchall()
    batch_id, received, received_at = found[0]
    return int(batch_id), int(received), received_at


def _keep_rejects(
    connection: duckdb.DuckDBPyConnection, batch_id: int, received: int, rejects: Sequence[LiveReject]
) -> None:
    rows = pa.table(
        {
            "record_no": pa.array(range(received + 1, received + 1 + len(rejects)), pa.int64()),
            "column_name": pa.array([reject.where[:500] for reject in rejects], pa.string()),
            "reason": pa.array([reject.reason[:2000] for reject in rejects], pa.string()),
        }
    )
    connection.register("live_rejects", rows)
    connection.execute(
        """INSERT INTO ingest_rejects BY NAME
        SELECT $batch AS batch_id, record_no, column_name, reason FROM live_rejects""",
        {"batch": batch_id},
    )
    connection.unregister("live_rejects")
