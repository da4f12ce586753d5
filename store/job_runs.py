"""The history of job runs: what ran, why, how far it got, what it wrote, and what it had seen.

A run's watermark is the number of facts (accepted rows of traces, spans and signals) held when it began. Facts are only
ever added, so a job whose last success carries the present number has nothing new to read. The data version will not
do for this: jobs move it themselves, and would wake each other for ever.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import duckdb
import polars as pl

from store import notice_sources
from store.connection import Store
from store.frames import UTC_TIME

Cause = Literal["schedule", "manual", "catch-up", "retry"]
Status = Literal["running", "succeeded", "failed", "interrupted"]

RUNS = pl.Schema(
    {
        "run_id": pl.Int64(), "job": pl.String(), "cause": pl.String(), "attempt": pl.Int32(), "status": pl.String(),
        "started_at": UTC_TIME, "finished_at": UTC_TIME, "progress": pl.Float64(), "message": pl.String(),
        "rows": pl.Int64(), "watermark": pl.Int64(), "error": pl.String(), "traceback": pl.String(),
        "code_version": pl.String(),
    }
)  # fmt: skip

_COLUMNS = ", ".join(RUNS.names())


@dataclass(frozen=True)
class Run:
    """One row of the history."""

    run_id: int
    job: str
    cause: Cause
    attempt: int
    status: Status
    started_at: datetime
    finished_at: datetime | None
    progress: float | None
    message: str | None
    rows: int | None
    watermark: int | None
    error: str | None
    traceback: str | None
    code_version: str


@dataclass(frozen=True)
class History:
    """What the scheduler asks about a job: its latest run, its latest success, and what went wrong since then."""

    latest: Run | None
    success: Run | None
    failures: int
    interruptions: int


def facts(store: Store) -> int:
    """How many rows of facts the store holds, superseded versions included: the watermark of a run that begins now."""
    with store.read() as reader:
        count = reader.value(
            """SELECT (SELECT count(*) FROM trace_records)
                + (SELECT count(*) FROM spans) + (SELECT count(*) FROM superseded_spans)
                + (SELECT count(*) FROM signals) + (SELECT count(*) FROM superseded_signals)"""
        )
    return int(count) if isinstance(count, int) else 0


def begin(store: Store, *, job: str, cause: Cause, attempt: int, watermark: int, code_version: str) -> int:
    """Record that a run has begun; returns its id. Rows of the same job still marked running are of dead runs."""

    def work(connection: duckdb.DuckDBPyConnection) -> int:
        _interrupt(connection, store.clock.now(), "job = $job", {"job": job})
        rows = connection.execute(
            """INSERT INTO job_runs (run_id, job, cause, attempt, status, started_at, progress, watermark, code_version)
            SELECT coalesce(max(run_id), 0) + 1, $job, $cause, $attempt, 'running', $now, 0, $watermark, $code_version
            FROM job_runs RETURNING run_id""",
            {
                "job": job, "cause": cause, "attempt": attempt, "now": store.clock.now(), "watermark": watermark,
                "code_version": code_version,
            },
        ).fetchall()  # fmt: skip
        return int(rows[0][0])

    return store.write(work)


def progress(store: Store, run_id: int, fraction: float, message: str) -> None:
    """Record how far a running run is, from 0 to 1, and what it is doing."""
    store.write(
        lambda connection: connection.execute(
            "UPDATE job_runs SET progress = $fraction, message = $message WHERE run_id = $run AND status = 'running'",
            {"fraction": min(max(fraction, 0.0), 1.0), "message": message, "run": run_id},
        )
    )


def succeed(store: Store, run_id: int, *, rows: int, message: str) -> None:
    """Record that a run has done its work, and how many rows it wrote."""
    _end(
        store, run_id, "succeeded", "progress = 1, rows = $rows, message = $message", {"rows": rows, "message": message}
    )


def fail(store: Store, run_id: int, *, error: str, traceback: str) -> None:
    """Record that a run has failed, and how."""
    _end(store, run_id, "failed", "error = $error, traceback = $traceback", {"error": error, "traceback": traceback})


def interrupt(store: Store, run_id: int, why: str) -> None:
    """Record that a run was stopped before its end."""
    _end(store, run_id, "interrupted", "error = $error", {"error": why})


def interrupt_dead(store: Store) -> list[str]:
    """Mark runs that an earlier process left running as interrupted; returns their jobs. Call at start."""
    return store.write(
        lambda connection: _interrupt(connection, store.clock.now(), "true", {}),
    )


def prune(store: Store, keep: timedelta) -> int:
    """Forget runs older than `keep`, except the latest run and the latest success of each job; returns how many."""

    def work(connection: duckdb.DuckDBPyConnection) -> int:
        rows = connection.execute(
            """DELETE FROM job_runs WHERE started_at < $before AND status <> 'running' AND run_id NOT IN (
                SELECT max(run_id) FROM job_runs GROUP BY job
                UNION SELECT max(run_id) FROM job_runs WHERE status = 'succeeded' GROUP BY job)""",
            {"before": store.clock.now() - keep},
        ).fetchall()
        return int(rows[0][0])

    return store.write(work)


def recent(store: Store, *, job: str | None = None, limit: int = 50) -> pl.DataFrame:
    """The latest runs, newest first (columns `RUNS`); of one job when it is named."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {_COLUMNS} FROM job_runs WHERE $job IS NULL OR job = $job
            ORDER BY run_id DESC LIMIT $limit""",
            RUNS,
            {"job": job, "limit": limit},
        )


def latest(store: Store) -> pl.DataFrame:
    """The latest run of each job, by name (columns `RUNS`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {_COLUMNS} FROM job_runs
            WHERE run_id IN (SELECT max(run_id) FROM job_runs GROUP BY job) ORDER BY job""",
            RUNS,
        )


def failing(store: Store) -> pl.DataFrame:
    """The latest ended run of each job where it failed, newest first (columns `RUNS`): what the Overview warns of."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {_COLUMNS} FROM job_runs WHERE status = 'failed' AND run_id IN (
                SELECT max(run_id) FROM job_runs WHERE status <> 'running' GROUP BY job
            ) ORDER BY run_id DESC""",
            RUNS,
        )


def one(store: Store, run_id: int) -> Run | None:
    """The run of this id; None when there is none."""
    with store.read() as reader:
        frame = reader.frame(f"SELECT {_COLUMNS} FROM job_runs WHERE run_id = $run", RUNS, {"run": run_id})
    return _run(frame.to_dicts()[0]) if len(frame) else None


def history(store: Store, job: str) -> History:
    """What the scheduler asks about a job."""
    with store.read() as reader:
        frame = reader.frame(
            f"""SELECT {_COLUMNS} FROM job_runs WHERE job = $job
            AND run_id >= coalesce(
                (SELECT max(run_id) FROM job_runs WHERE job = $job AND status = 'succeeded'), 0)
            ORDER BY run_id""",
            RUNS,
            {"job": job},
        )
    runs = [_run(row) for row in frame.to_dicts()]
    success = next((run for run in runs if run.status == "succeeded"), None)
    return History(
        latest=runs[-1] if runs else None,
        success=success,
        failures=sum(run.status == "failed" for run in runs),
        interruptions=sum(run.status == "interrupted" for run in runs),
    )


def results_since(store: Store, jobs: tuple[str, ...], moment: datetime) -> bool:
    """Whether one of these jobs has written rows in a run that ended after `moment`."""
    with store.read() as reader:
        found = reader.value(
            """SELECT count(*) FROM job_runs
            WHERE list_contains($jobs, job) AND status = 'succeeded' AND rows > 0 AND finished_at > $moment""",
            {"jobs": list(jobs), "moment": moment},
        )
    return bool(found)


def _end(store: Store, run_id: int, status: Status, assignments: str, values: dict[str, Any]) -> None:
    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now = store.clock.now()
        connection.execute(
            f"""UPDATE job_runs SET status = $status, finished_at = $now, {assignments}
            WHERE run_id = $run AND status = 'running'""",
            {"status": status, "now": now, "run": run_id, **values},
        )
        if status == "failed":
            notice_sources.job_failed(connection, now, run_id)
        elif status == "succeeded":
            notice_sources.job_succeeded(connection, now, run_id)

    store.write(work)


def _interrupt(connection: duckdb.DuckDBPyConnection, now: datetime, where: str, values: dict[str, Any]) -> list[str]:
    # Not one UPDATE with RETURNING: see `publications.begin`.
    rows = connection.execute(f"SELECT job FROM job_runs WHERE status = 'running' AND {where}", values).fetchall()
    connection.execute(
        f"""UPDATE job_runs SET status = 'interrupted', finished_at = $now,
            error = 'The process ended before the run did.'
        WHERE status = 'running' AND {where}""",
        {"now": now, **values},
    )
    return [str(row[0]) for row in rows]


def _run(row: dict[str, Any]) -> Run:
    return Run(**row)
