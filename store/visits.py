"""When each operator was here last, what has changed since, and in which zone they read times.

A visit ends when an operator does nothing for half an hour. What is known of visits is kept in memory as well, since
every page asks; the process that holds the store is the only one that changes it.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Literal, cast
from weakref import WeakKeyDictionary

import duckdb
import polars as pl

from store.connection import Store
from store.frames import UTC_TIME, declare

__all__ = ["CHANGES", "Visit", "Zone", "arrive", "changes", "read_up_to", "set_zone"]

Zone = Literal["utc", "browser"]

CHANGES: Final = declare(
    {
        "traces": pl.Int64, "failed_batches": pl.Int64, "lessons": pl.Int64, "users": pl.Int64, "incidents": pl.Int64,
        "jobs_failed": pl.Int64, "notices": pl.Int64, "by_others": pl.Int64,
    }
)  # fmt: skip
_VISITS: Final = declare(
    {"operator": pl.String, "before_at": UTC_TIME, "began_at": UTC_TIME, "last_at": UTC_TIME, "zone": pl.String}
)

_AWAY: Final = timedelta(minutes=30)
_WRITTEN_EVERY: Final = timedelta(minutes=5)


@dataclass(frozen=True)
class Visit:
    """A visit of an operator: when it began, when the one before ended (None: there was none), the zone they chose."""

    before_at: datetime | None
    began_at: datetime
    last_at: datetime
    zone: Zone | None = None


@dataclass
class _Memory:
    lock: threading.Lock = field(default_factory=threading.Lock)
    visits: dict[str, Visit] = field(default_factory=dict)
    written: dict[str, datetime] = field(default_factory=dict)
    read: bool = False


_memories: WeakKeyDictionary[Store, _Memory] = WeakKeyDictionary()
_memories_lock = threading.Lock()


def arrive(store: Store, operator: str) -> Visit:
    """An operator does something: their visit goes on, or a new one begins after half an hour of nothing.

    Does not wait for the writer: a page must not be slow because a load is being stored.
    """
    now = store.clock.now()

    def step(held: Visit | None) -> Visit:
        if held is None:
            return Visit(None, now, now)
        if now - held.last_at > _AWAY:
            return Visit(held.last_at, now, now, held.zone)
        return replace(held, last_at=max(now, held.last_at))

    return _change(store, operator, step, every=_WRITTEN_EVERY)


def read_up_to(store: Store, operator: str, moment: datetime) -> Visit:
    """The operator has seen what changed until this moment: later questions count from there."""

    def step(held: Visit | None) -> Visit:
        return replace(held or Visit(None, moment, moment), before_at=moment)

    return _change(store, operator, step)


def set_zone(store: Store, operator: str, zone: Zone) -> Visit:
    """Keep in which zone the operator reads times."""
    now = store.clock.now()
    return _change(store, operator, lambda held: replace(held or Visit(None, now, now), zone=zone))


def changes(store: Store, since: datetime, operator: str, *, timeout: float | None = None) -> pl.DataFrame:
    """What came or happened after a moment, as one row of counts (CHANGES).

    Traces are those that later batches brought, whenever they ran, and of a batch that was open at that moment, such as
    a live one, which lasts a day, those that ran later. `users` those whom drift runs flagged for a change that
    nothing known explains; `by_others` rows of the audit log that are neither of this operator nor of Trimtab itself.
    Raises: `QueryTimeout`.
    """
    with store.read(timeout=timeout) as reader:
        return reader.frame(
            """SELECT
                (SELECT coalesce(sum(traces), 0)::BIGINT FROM ingest_batches WHERE received_at > $since)
                    + (SELECT count(*) FROM traces WHERE seen_at > $since AND batch_id IN (
                        SELECT batch_id FROM ingest_batches WHERE received_at <= $since AND finished_at > $since
                    )) AS traces,
                (SELECT count(*) FROM ingest_batches WHERE received_at > $since AND state = 'failed') AS failed_batches,
                (SELECT count(*) FROM lessons WHERE created_at > $since AND state = 'proposed') AS lessons,
                (SELECT count(DISTINCT user_id) FROM drift_findings
                    WHERE flagged AND level = 'user' AND explained_by IS NULL AND found_at > $since) AS users,
                (SELECT count(*) FROM incidents WHERE opened_at > $since) AS incidents,
                (SELECT count(*) FROM job_runs WHERE status = 'failed' AND finished_at > $since) AS jobs_failed,
                (SELECT count(*) FROM notices WHERE posted_at > $since) AS notices,
                (SELECT count(*) FROM audit_log
                    WHERE occurred_at > $since AND actor NOT IN ($operator, 'trimtab')) AS by_others""",
            CHANGES,
            {"since": since, "operator": operator},
        )


def _change(
    store: Store, operator: str, step: Callable[[Visit | None], Visit], *, every: timedelta = timedelta(0)
) -> Visit:
    """Put what `step` makes of the visit into memory and, unless that was done within `every`, into the store."""
    memory = _of(store)
    with memory.lock:
        if not memory.read:
            memory.visits = _read(store)
            memory.read = True
        held = memory.visits.get(operator)
        visit = step(held)
        memory.visits[operator] = visit
        written = memory.written.get(operator)
        same = held is not None and (held.began_at, held.before_at) == (visit.began_at, visit.before_at)
        if same and every and written is not None and visit.last_at - written < every:
            return visit
        memory.written[operator] = visit.last_at

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute("DELETE FROM operator_visits WHERE operator = $operator", {"operator": operator})
        connection.execute(
            "INSERT INTO operator_visits VALUES ($operator, $before, $began, $last, $zone)",
            {
                "operator": operator, "before": visit.before_at, "began": visit.began_at, "last": visit.last_at,
                "zone": visit.zone,
            },
        )  # fmt: skip

    store.submit(work)
    return visit


def _read(store: Store) -> dict[str, Visit]:
    with store.read() as reader:
        frame = reader.frame(f"SELECT {', '.join(_VISITS.names())} FROM operator_visits", _VISITS)
    return {
        row["operator"]: Visit(row["before_at"], row["began_at"], row["last_at"], cast(Zone | None, row["zone"]))
        for row in frame.iter_rows(named=True)
    }


def _of(store: Store) -> _Memory:
    with _memories_lock:
        return _memories.setdefault(store, _Memory())
