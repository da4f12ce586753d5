"""Drift of users: the yes/no events that are scanned, and what each scan found.

Two metrics, one a user (METHODS §7 asks for one family over users):

- `stated satisfaction`: the user's thumbs and ratings in order of time, 1 when above .5 (thumbs up; 4 or 5 of 5).
  Used for users with at least `min_events` of them.
- `reward above agent median`: the user's traces with signals of their own in order of time, 1 when the trace's reward
  is above the median of its agent's. Used for everyone else. Where more than half of an agent's rewards tie at the top
  the median itself counts as above, since a constant says nothing.

Findings of the newest run are kept in full, of earlier runs only the flagged ones.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
import polars as pl

from store import meta, result_rows
from store.connection import Store
from store.frames import UTC_TIME, declare
from store.scope import ACTIVE_REWARDS

STATED = "stated satisfaction"
REWARD = "reward above agent median"

EVENTS = declare({"user_id": pl.String, "metric": pl.String, "occurred_at": UTC_TIME, "value": pl.Int64})
FOUND = declare(
    {
        "user_id": pl.String, "metric": pl.String, "events": pl.Int64, "events_total": pl.Int64,
        "statistic": pl.Float64, "p_value": pl.Float64, "q_value": pl.Float64, "flagged": pl.Boolean,
        "changed_at": UTC_TIME, "before_mean": pl.Float64, "before_n": pl.Int64, "after_mean": pl.Float64,
        "after_n": pl.Int64,
    }
)  # fmt: skip
FINDINGS = declare({"run_id": pl.Int64, **FOUND, "found_at": UTC_TIME})
RUNS = declare(
    {
        "run_id": pl.Int64, "found_at": UTC_TIME, "data_version": pl.Int64, "code_version": pl.String,
        "false_discovery_rate": pl.Float64, "users": pl.Int64, "scanned": pl.Int64, "flagged": pl.Int64,
        "too_few": pl.Int64, "min_events": pl.Int64, "missing_median": pl.Float64,
    }
)  # fmt: skip

_STATED_EVENTS = f"""
SELECT coalesce(s.user_id, t.user_id) AS user_id, '{STATED}' AS metric, coalesce(s.occurred_at, t.started_at)
    AS occurred_at, (s.value > 0.5)::BIGINT AS value, s.signal_id AS id
FROM signals AS s LEFT JOIN signal_links AS l USING (signal_id)
LEFT JOIN traces AS t ON t.trace_id = coalesce(s.trace_id, l.trace_id)
WHERE s.kind IN ('thumb', 'rating') AND s.value BETWEEN 0 AND 1 AND s.annotator_kind IS DISTINCT FROM 'llm'
    AND coalesce(s.user_id, t.user_id) IS NOT NULL AND coalesce(s.occurred_at, t.started_at) IS NOT NULL"""

_REWARD_EVENTS = f"""
SELECT user_id, '{REWARD}' AS metric, started_at AS occurred_at, (mean > middle OR (mean = middle AND tied))::BIGINT
    AS value, trace_id AS id
FROM (SELECT t.user_id, t.agent, t.started_at, t.trace_id, r.mean
    FROM {ACTIVE_REWARDS} AS r JOIN traces AS t USING (trace_id)
    WHERE r.signals > 0 AND t.user_id IS NOT NULL AND t.started_at IS NOT NULL)
JOIN (SELECT t.agent, quantile_disc(r.mean, 0.5) AS middle, max(r.mean) = middle AS tied
    FROM {ACTIVE_REWARDS} AS r JOIN traces AS t USING (trace_id)
    WHERE r.signals > 0 AND t.agent IS NOT NULL GROUP BY t.agent) USING (agent)"""


@dataclass(frozen=True)
class Summary:
    """What a run looked at: users with events, how many were scanned and flagged, how many had too few events."""

    false_discovery_rate: float
    users: int
    scanned: int
    flagged: int
    too_few: int
    min_events: int
    missing_median: float | None


def events(store: Store, *, min_events: int) -> pl.DataFrame:
    """The events of every user in order of time (columns `EVENTS`)."""
    with store.read() as reader:
        return reader.frame(
            f"""WITH stated AS ({_STATED_EVENTS}), enough AS (
                SELECT user_id FROM stated GROUP BY user_id HAVING count(*) >= $least
            ), chosen AS (
                FROM stated SEMI JOIN enough USING (user_id)
                UNION ALL (FROM ({_REWARD_EVENTS}) ANTI JOIN enough USING (user_id))
            )
            SELECT user_id, metric, occurred_at, value FROM chosen ORDER BY user_id, metric, occurred_at, id""",
            EVENTS,
            {"least": min_events},
        )


def user_events(store: Store, user_id: str, metric: str, *, limit: int = 5_000) -> pl.DataFrame:
    """The newest events of one user by one metric, in order of time (columns `EVENTS`)."""
    events = _STATED_EVENTS if metric == STATED else _REWARD_EVENTS
    with store.read() as reader:
        return reader.frame(
            f"""SELECT user_id, metric, occurred_at, value FROM (
                FROM ({events}) WHERE user_id = $user ORDER BY occurred_at DESC, id DESC LIMIT $limit
            ) ORDER BY occurred_at, id""",
            EVENTS,
            {"user": user_id, "limit": limit},
        )


def record(store: Store, findings: pl.DataFrame, summary: Summary, *, data_version: int, code_version: str) -> int:
    """Keep what a run found (`findings` of columns `FOUND`, users that were scanned); returns the run's number."""

    def work(connection: duckdb.DuckDBPyConnection) -> int:
        now = store.clock.now()
        run = result_rows.next_number(connection, "drift_runs")
        connection.execute("DELETE FROM drift_findings WHERE NOT flagged")
        key = {"run_id": run, "found_at": now}
        result_rows.insert(connection, "drift_findings", findings.select(list(FOUND)), key=key)
        connection.execute(
            """INSERT INTO drift_runs VALUES ($run, $now, $data_version, $code_version, $false_discovery_rate, $users,
                $scanned, $flagged, $too_few, $min_events, $missing_median)""",
            {**vars(summary), "run": run, "now": now, "data_version": data_version, "code_version": code_version},
        )
        meta.bump(connection)
        return run

    return store.write(work)


def latest_run(store: Store) -> dict[str, Any] | None:
    """The newest run as a dictionary of `RUNS` columns; None before the first."""
    return result_rows.newest(store, "drift_runs", RUNS)


def findings(
    store: Store, *, run_id: int | None = None, flagged_only: bool = False, limit: int = 1_000
) -> pl.DataFrame:
    """What a run found, the newest one if none is named, smallest p-value first (columns `FINDINGS`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(FINDINGS)} FROM drift_findings
            WHERE run_id = coalesce($run, (SELECT max(run_id) FROM drift_runs)) AND (flagged OR NOT $flagged)
            ORDER BY p_value, user_id, metric LIMIT $limit""",
            FINDINGS,
            {"run": run_id, "flagged": flagged_only, "limit": limit},
        )


def first_flagged(store: Store, user_ids: list[str]) -> dict[str, datetime]:
    """When each of these users was first flagged by a run, for those that ever were."""
    schema = declare({"user_id": pl.String, "found_at": UTC_TIME})
    with store.read() as reader:
        frame = reader.frame(
            """SELECT user_id, min(found_at) AS found_at FROM drift_findings
            WHERE flagged AND list_contains($users::VARCHAR[], user_id) GROUP BY user_id""",
            schema,
            {"users": user_ids},
        )
    return dict(frame.iter_rows())
