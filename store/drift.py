"""Drift: what each run of the job found, by subject and metric, and one user's values as pages show them.

A subject is a user, a segment at an agent, or everybody at an agent (`level`). Findings of the newest run are kept in
full, of earlier runs only the flagged ones. What is measured is in `store.drift_events`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import duckdb
import polars as pl

from store import drift_events, meta, result_rows
from store.connection import Store
from store.drift_events import EVENTS, REWARD, STATED
from store.frames import UTC_TIME, declare, packed, texts_in

__all__ = [
    "BY_WEEK", "EVENTS", "EXPLAINED", "FINDINGS", "FOUND", "METRICS", "REWARD", "RUNS", "STATED", "Order", "Summary",
    "explain", "findings", "first_flagged", "latest_run", "measured", "record", "revise", "runs", "user_events",
    "users_by_week",
]  # fmt: skip

Level = Literal["user", "segment", "population"]
Order = Literal["p-value", "effect", "latest"]

FOUND = declare(
    {
        "level": pl.String, "user_id": pl.String, "segment": pl.String, "agent": pl.String, "metric": pl.String,
        "likelihood": pl.String, "events": pl.Int64, "events_total": pl.Int64, "statistic": pl.Float64,
        "p_value": pl.Float64, "q_value": pl.Float64, "flagged": pl.Boolean, "changed_at": UTC_TIME,
        "changed_from": UTC_TIME, "changed_to": UTC_TIME, "before_mean": pl.Float64, "before_n": pl.Int64,
        "after_mean": pl.Float64, "after_n": pl.Int64, "effect": pl.Float64, "effect_sd": pl.Float64,
        "practical": pl.Float64, "category": pl.String, "psi": pl.Float64,
    }
)  # fmt: skip
FINDINGS = declare({"run_id": pl.Int64, **FOUND, "explained_by": pl.String, "found_at": UTC_TIME})
RUNS = declare(
    {
        "run_id": pl.Int64, "found_at": UTC_TIME, "data_version": pl.Int64, "code_version": pl.String,
        "false_discovery_rate": pl.Float64, "users": pl.Int64, "scanned": pl.Int64, "flagged": pl.Int64,
        "too_few": pl.Int64, "min_events": pl.Int64, "missing_median": pl.Float64, "refreshed_at": UTC_TIME,
        "rescanned": pl.Int64, "schedule": pl.String,
    }
)  # fmt: skip
METRICS = declare(
    {
        "level": pl.String, "metric": pl.String, "likelihood": pl.String, "reason": pl.String,
        "threshold": pl.Float64, "events": pl.Int64, "ignored": pl.Int64, "subjects": pl.Int64, "scanned": pl.Int64,
        "flagged": pl.Int64, "too_few": pl.Int64, "missing_median": pl.Float64, "explained": pl.Float64,
    }
)  # fmt: skip
EXPLAINED = declare(
    {
        "level": pl.String, "user_id": pl.String, "segment": pl.String, "agent": pl.String, "metric": pl.String,
        "explained_by": pl.String,
    }
)  # fmt: skip
BY_WEEK = declare(
    {"user_id": pl.String, "week": UTC_TIME, "mean": pl.Float64, "n": pl.Int64, "z": pl.Float64}
)  # fmt: skip

_NEWEST = "(SELECT max(run_id) FROM drift_runs)"
_ORDERS: dict[Order, str] = {
    "p-value": "p_value",
    # Effects of metrics have different units: their size is told in their own standard deviations.
    "effect": "abs(effect) / nullif(effect_sd, 0) DESC NULLS LAST, p_value",
    "latest": "changed_at DESC NULLS LAST, p_value",
}
# The subject of a finding, as far as its level names it.
_SAME = " AND ".join(f"f.{column} IS NOT DISTINCT FROM r.{column}" for column in ("user_id", "segment", "agent"))


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
    schedule: str | None = None


def record(
    store: Store,
    found: pl.DataFrame,
    summary: Summary,
    *,
    measured: pl.DataFrame | None = None,
    data_version: int,
    code_version: str,
) -> int:
    """Keep what a run found (`found` of columns `FOUND`, `measured` of `METRICS`); returns the run's number."""

    def add(connection: duckdb.DuckDBPyConnection, run: int) -> None:
        connection.execute(
            """INSERT INTO drift_runs BY NAME SELECT $run AS run_id, $now AS found_at, $data_version AS data_version,
                $code_version AS code_version, $false_discovery_rate AS false_discovery_rate, $users AS users,
                $scanned AS scanned, $flagged AS flagged, $too_few AS too_few, $min_events AS min_events,
                $missing_median AS missing_median, 0 AS rescanned, $schedule AS schedule""",
            {**vars(summary), "run": run, "now": now, "data_version": data_version, "code_version": code_version},
        )

    now = store.clock.now()
    rows = found.select(list(FOUND)).with_columns(found_at=pl.lit(now, UTC_TIME))
    tables = {"drift_findings": rows}
    if measured is not None:
        tables["drift_metrics"] = measured.select(list(METRICS))
    run = result_rows.publish(store, "drift_runs", tables, add)
    result_rows.remove(store, "drift_findings", f"NOT flagged AND run_id < {_NEWEST}")
    return run


def revise(store: Store, run_id: int, found: pl.DataFrame, gated: pl.DataFrame) -> int:
    """Put fresh findings of some users in place of theirs in a run; returns how many findings are newly flagged.

    Args: `found` (columns `FOUND`) are the fresh ones; `gated` has the `q_value` and `flagged` of every finding of the
    run after that, with the columns that name its subject and its metric.
    """

    def work(connection: duckdb.DuckDBPyConnection) -> int:
        now = store.clock.now()
        connection.register("fresh_rows", found.select(list(FOUND)))
        connection.register(
            "gated_rows", gated.select("level", "user_id", "segment", "agent", "metric", "q_value", "flagged")
        )
        try:
            connection.execute(
                """DELETE FROM drift_findings AS f USING fresh_rows AS r WHERE f.run_id = $run AND f.level = 'user'
                AND f.user_id = r.user_id AND f.metric = r.metric""",
                {"run": run_id},
            )
            connection.execute(
                """INSERT INTO drift_findings BY NAME
                SELECT $run AS run_id, $now AS found_at, * REPLACE (false AS flagged) FROM fresh_rows""",
                {"run": run_id, "now": now},
            )
            newly = connection.execute(
                f"""SELECT count(*) FROM drift_findings AS f JOIN gated_rows AS r ON f.level = r.level
                AND f.metric = r.metric AND {_SAME} WHERE f.run_id = $run AND r.flagged AND NOT f.flagged""",
                {"run": run_id},
            ).fetchall()
            connection.execute(
                f"""UPDATE drift_findings AS f SET q_value = r.q_value, flagged = r.flagged FROM gated_rows AS r
                WHERE f.run_id = $run AND f.level = r.level AND f.metric = r.metric AND {_SAME}
                AND (f.q_value IS DISTINCT FROM r.q_value OR f.flagged <> r.flagged)""",
                {"run": run_id},
            )
            connection.execute(
                """UPDATE drift_runs SET refreshed_at = $now, rescanned = coalesce(rescanned, 0) + $users,
                flagged = (SELECT count(DISTINCT user_id) FROM drift_findings
                    WHERE run_id = $run AND level = 'user' AND flagged)
                WHERE run_id = $run""",
                {"run": run_id, "now": now, "users": found["user_id"].n_unique()},
            )
        finally:
            connection.unregister("fresh_rows")
            connection.unregister("gated_rows")
        meta.bump(connection)
        return int(newly[0][0])

    return store.write(work)


def explain(connection: duckdb.DuckDBPyConnection, run_id: int, rows: pl.DataFrame) -> int:
    """Say which known intervention each of some findings of a run follows; returns how many findings that were.

    Call in a transaction. `rows` (columns `EXPLAINED`) name findings by level, user, segment, agent and metric as the
    finding has them, nulls included; an `explained_by` of null takes an explanation back.
    """
    connection.register("explained_rows", rows.select(list(EXPLAINED)))
    try:
        changed = connection.execute(
            f"""UPDATE drift_findings AS f SET explained_by = r.explained_by FROM explained_rows AS r
            WHERE f.run_id = $run AND f.level = r.level AND f.metric = r.metric AND {_SAME}""",
            {"run": run_id},
        ).fetchall()
    finally:
        connection.unregister("explained_rows")
    return int(changed[0][0])


def latest_run(store: Store) -> dict[str, Any] | None:
    """The newest run as a dictionary of `RUNS` columns; None before the first."""
    return result_rows.newest(store, "drift_runs", RUNS)


def runs(store: Store, *, limit: int = 50) -> pl.DataFrame:
    """The runs, newest first (columns `RUNS`)."""
    with store.read() as reader:
        return reader.frame(
            f"SELECT {', '.join(RUNS)} FROM drift_runs ORDER BY run_id DESC LIMIT $limit", RUNS, {"limit": limit}
        )


def measured(store: Store, *, run_id: int | None = None) -> pl.DataFrame:
    """What a run measured at each level, the newest one if none is named, with likelihood and counts (`METRICS`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(METRICS)} FROM drift_metrics WHERE run_id = coalesce($run, {_NEWEST})
            ORDER BY level DESC, metric""",
            METRICS,
            {"run": run_id},
        )


def findings(
    store: Store,
    *,
    run_id: int | None = None,
    level: Level | None = None,
    metric: str | None = None,
    user_id: str | None = None,
    segment: str | None = None,
    agent: str | None = None,
    flagged_only: bool = False,
    unexplained_only: bool = False,
    order: Order = "p-value",
    limit: int = 1_000,
    timeout: float | None = None,
) -> pl.DataFrame:
    """What a run found, the newest one if none is named (columns `FINDINGS`), of what the arguments name.

    In order of p-values, of effects in their standard deviations, or of the time of the change, the latest first.
    Raises: `QueryTimeout`.
    """
    wanted = {"level": level, "metric": metric, "user_id": user_id, "segment": segment, "agent": agent}
    named = {column: value for column, value in wanted.items() if value is not None}
    conditions = "".join(f" AND {column} = ${column}" for column in named)
    conditions += (" AND flagged" if flagged_only else "") + (" AND explained_by IS NULL" if unexplained_only else "")
    with store.read(timeout=timeout) as reader:
        return reader.frame(
            f"""SELECT {", ".join(FINDINGS)} FROM drift_findings
            WHERE run_id = coalesce($run, {_NEWEST}){conditions}
            ORDER BY {_ORDERS[order]}, level, user_id, segment, agent, metric LIMIT $limit""",
            FINDINGS,
            {**named, "run": run_id, "limit": limit},
        )


def first_flagged(store: Store, user_ids: Sequence[str]) -> dict[str, datetime]:
    """When each of these users was first flagged by a run, for those that ever were."""
    schema = declare({"user_id": pl.String, "found_at": UTC_TIME})
    with store.read() as reader:
        frame = reader.frame(
            f"""SELECT user_id, min(found_at) AS found_at FROM drift_findings
            WHERE flagged AND level = 'user' AND user_id IN (SELECT {texts_in("users")}) GROUP BY user_id""",
            schema,
            {"users": packed(user_ids)},
        )
    return dict(frame.iter_rows())


def user_events(
    store: Store, user_id: str, metric: str, *, limit: int = 5_000, timeout: float | None = None
) -> pl.DataFrame:
    """The newest values of one user by one metric as seen, in order of time, one a session (columns `EVENTS`).

    Raises: `NotFound` for a metric that there is not; `QueryTimeout`.
    """
    return drift_events.of_user(store, user_id, metric, limit=limit, timeout=timeout)


def users_by_week(
    store: Store,
    *,
    metric: str,
    limit_users: int = 50,
    weeks: int = 12,
    timeout: float | None = None,
) -> pl.DataFrame:
    """The weekly means of the users that the newest run lists first by this metric (columns `BY_WEEK`).

    Users in the order of their p-values, those that were not scanned by how many values they have; the newest `weeks`
    weeks that have any value, from Monday, UTC. `z` is the week's distance from the user's mean in standard errors of
    a week's mean; null where the user's values do not vary. Of a metric with categories, `mean` is the share of the
    category whose share changed most, else of the user's most frequent one.
    Raises: `NotFound` for a metric that there is not; `QueryTimeout`.
    """
    return drift_events.by_week(store, metric, users=limit_users, weeks=weeks, timeout=timeout).select(list(BY_WEEK))
