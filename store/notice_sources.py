"""Sources of notices beside incidents and model changes: arms that guardrails switch off, failing jobs and backups."""

from datetime import datetime
from typing import Final

import duckdb

from store import notices

__all__ = ["FAILURES_IN_A_ROW", "arm_came_back", "arm_switched_off", "backup_failed", "backup_made", "job_failed",
           "job_succeeded"]  # fmt: skip

FAILURES_IN_A_ROW: Final = 3
_BACKUP: Final = "backup"


def arm_switched_off(connection: duckdb.DuckDBPyConnection, now: datetime, agent: str, arm: str, reason: str) -> None:
    """A guardrail or a safety floor has switched an arm off. Call in that transaction."""
    notices.post(
        connection, now, kind="guardrail", key=_arm(agent, arm), severity="critical",
        title=f"{agent}: arm {arm} was switched off", text=reason, page="exploration", query={"agent": agent},
    )  # fmt: skip


def arm_came_back(connection: duckdb.DuckDBPyConnection, now: datetime, agent: str, arm: str) -> None:
    """Somebody has decided about the arm since. Call in that transaction."""
    notices.close(connection, now, _arm(agent, arm))


def job_failed(connection: duckdb.DuckDBPyConnection, now: datetime, run_id: int) -> None:
    """A run has failed: a notice from the third failure since the job's last success on. Call in that transaction."""
    rows = connection.execute(
        """SELECT r.job, r.error, count(*) FROM job_runs AS r JOIN job_runs AS f ON f.job = r.job
            AND f.status = 'failed' AND f.run_id <= r.run_id AND f.run_id > coalesce(
                (SELECT max(s.run_id) FROM job_runs AS s WHERE s.job = r.job AND s.status = 'succeeded'), 0)
        WHERE r.run_id = $run GROUP BY r.job, r.error""",
        {"run": run_id},
    ).fetchall()
    if not rows or rows[0][2] < FAILURES_IN_A_ROW:
        return
    job, error, failures = rows[0]
    notices.post(
        connection, now, kind="job", key=f"job {job}", severity="warning",
        title=f"The job {job} has failed {failures} times in a row", text=f"The last time: {error}", page="data",
        query={"tab": "Jobs"},
    )  # fmt: skip


def job_succeeded(connection: duckdb.DuckDBPyConnection, now: datetime, run_id: int) -> None:
    """A run has succeeded. Call in that transaction."""
    rows = connection.execute("SELECT job FROM job_runs WHERE run_id = $run", {"run": run_id}).fetchall()
    if rows:
        notices.close(connection, now, f"job {rows[0][0]}")


def backup_failed(connection: duckdb.DuckDBPyConnection, now: datetime, why: str) -> None:
    """A backup could not be made."""
    notices.post(
        connection, now, kind="backup", key=_BACKUP, severity="critical", title="A backup could not be made", text=why,
        page="settings", query={"settings": "Backup"},
    )  # fmt: skip


def backup_made(connection: duckdb.DuckDBPyConnection, now: datetime) -> None:
    """A backup was made."""
    notices.close(connection, now, _BACKUP)


def _arm(agent: str, arm: str) -> str:
    return f"arm {agent} {arm}"
