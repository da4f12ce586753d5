"""Decisions of the steering endpoint: every one with the eligible arms and the probability of each.

The lessons of a decision travel in its row and are stored with it, in the same transaction, as rows of `exposures`.

Rows are only ever added. Decisions do not move the data version: they come several times a second, and what pages show
of them follows the clock.
"""

from datetime import UTC, datetime
from typing import Any

import duckdb
import polars as pl

from store.connection import Store
from store.frames import UTC_TIME, declare

__all__ = [
    "DECISIONS", "EXPOSED", "LEDGER", "SESSIONS", "append", "completed", "ledger", "one", "recent", "sessions_since",
    "spent_today",
]  # fmt: skip

EXPOSED = pl.Struct(
    {
        "lesson_id": pl.String, "lesson_version": pl.Int32, "status": pl.String, "served_probability": pl.Float64,
        "match": pl.Float64, "tokens": pl.Int32,
    }
)  # fmt: skip
"""One lesson of a decision, as in `store.exposures`."""

DECISIONS = declare(
    {
        "decision_id": pl.String, "decided_at": UTC_TIME, "agent": pl.String, "policy_version": pl.Int32,
        "user_id": pl.String, "segment": pl.String, "session_id": pl.String, "task": pl.String, "unit": pl.String,
        "draw": pl.Float64, "arm": pl.String, "greedy_arm": pl.String, "explore": pl.Boolean,
        "propensity": pl.Float64, "arms": pl.List(pl.String), "propensities": pl.List(pl.Float64),
        "rate": pl.Float64, "allowed_rate": pl.Float64, "budget_scale": pl.Float64, "expected_regret": pl.Float64,
        "worst_regret": pl.Float64, "solicit": pl.Boolean, "solicit_propensity": pl.Float64, "sticky": pl.Boolean,
        "off_policy": pl.Boolean, "note": pl.String, "lesson_set_hash": pl.String, "input_hash": pl.String,
        "source": pl.String, "playbook_version": pl.Int32, "empty_probability": pl.Float64,
        "exposures": pl.List(EXPOSED),
    }
)  # fmt: skip
LEDGER = declare(
    {
        "agent": pl.String, "day": pl.Date, "decisions": pl.Int64, "explored": pl.Int64, "sessions": pl.Int64,
        "expected_regret": pl.Float64, "worst_regret": pl.Float64, "rate": pl.Float64, "held_back": pl.Int64,
    }
)  # fmt: skip
SESSIONS = declare(
    {
        "agent": pl.String, "session_id": pl.String, "decided_at": UTC_TIME, "policy_version": pl.Int32,
        "unit": pl.String, "draw": pl.Float64, "arm": pl.String, "greedy_arm": pl.String, "explore": pl.Boolean,
        "propensity": pl.Float64, "arms": pl.List(pl.String), "propensities": pl.List(pl.Float64),
        "rate": pl.Float64, "allowed_rate": pl.Float64, "budget_scale": pl.Float64, "expected_regret": pl.Float64,
        "worst_regret": pl.Float64, "off_policy": pl.Boolean,
    }
)  # fmt: skip

# Those of the table itself.
_STORED = [name for name in DECISIONS.names() if name != "exposures"]
_COLUMNS = ", ".join(f"d.{name}" for name in _STORED)
_EXPOSED = ", ".join(f"{field.name} := e.{field.name}" for field in EXPOSED.fields)


def completed(frame: pl.DataFrame) -> pl.DataFrame:
    """Decisions with all columns of `DECISIONS`: null, or no lessons, in those that older files do not have."""
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in DECISIONS.items() if name not in frame.columns]
    nothing = pl.lit([], dtype=DECISIONS["exposures"])
    return frame.with_columns(missing).select(DECISIONS.names()).with_columns(pl.col("exposures").fill_null(nothing))


def append(connection: duckdb.DuckDBPyConnection, frame: pl.DataFrame, *, again: bool = False) -> int:
    """Add decisions (columns `DECISIONS`) and their exposures; returns how many decisions. Call inside a transaction.

    `again`: some may be there already, from an attempt whose outcome is not known; those are left out.
    """
    if frame.is_empty():
        return 0
    rows = completed(frame)
    if again:
        first, last = rows["decided_at"].min(), rows["decided_at"].max()
        held = connection.execute(
            """SELECT decision_id FROM decisions WHERE decided_at BETWEEN $first AND $last
            AND list_contains($ids, decision_id)""",
            {"first": first, "last": last, "ids": rows["decision_id"].to_list()},
        ).fetchall()
        rows = rows.unique("decision_id", keep="first", maintain_order=True).filter(
            ~pl.col("decision_id").is_in([each[0] for each in held])
        )
        if rows.is_empty():
            return 0
    _insert(connection, "decisions", rows.select(_STORED))
    exposed = rows.filter(pl.col("exposures").list.len() > 0).select(
        "decision_id", "decided_at", "agent", "unit", "playbook_version", "empty_probability", "exposures"
    )
    if exposed.height:
        _insert(connection, "exposures", exposed.explode("exposures").unnest("exposures"))
    return rows.height


def _insert(connection: duckdb.DuckDBPyConnection, table: str, rows: pl.DataFrame) -> None:
    connection.register("fresh_rows", rows)
    try:
        connection.execute(f"INSERT INTO {table} BY NAME FROM fresh_rows")
    finally:
        connection.unregister("fresh_rows")


def recent(store: Store, agent: str | None = None, limit: int = 100) -> pl.DataFrame:
    """The latest decisions, newest first (columns `DECISIONS`); of one agent when it is named."""
    return _with_exposures(
        store,
        "$agent IS NULL OR agent = $agent ORDER BY decided_at DESC, decision_id LIMIT $limit",
        {"agent": agent, "limit": limit},
    )


def one(store: Store, decision_id: str) -> dict[str, Any] | None:
    """A decision as a dictionary of `DECISIONS` columns; None when there is none."""
    frame = _with_exposures(store, "decision_id = $decision LIMIT 1", {"decision": decision_id})
    return frame.row(0, named=True) if frame.height else None


def _with_exposures(store: Store, which: str, params: dict[str, object]) -> pl.DataFrame:
    with store.read() as reader:
        return reader.frame(
            f"""WITH d AS MATERIALIZED (SELECT * FROM decisions WHERE {which}),
            shown AS (
                SELECT e.decision_id, list(struct_pack({_EXPOSED}) ORDER BY e.rowid) AS exposures
                FROM exposures AS e SEMI JOIN d USING (decision_id)
                WHERE e.decided_at BETWEEN (SELECT min(decided_at) FROM d) AND (SELECT max(decided_at) FROM d)
                GROUP BY e.decision_id
            )
            SELECT {_COLUMNS}, coalesce(s.exposures, []) AS exposures FROM d LEFT JOIN shown AS s USING (decision_id)
            ORDER BY d.decided_at DESC, d.decision_id""",
            DECISIONS,
            params,
        )


def ledger(store: Store, agent: str | None, since: datetime) -> pl.DataFrame:
    """What exploring cost on each UTC day from `since` on, by agent and day (columns `LEDGER`).

    `explored` left the greedy arm; regrets are sums in reward points; `rate` is the mean of the rates in force;
    `held_back` counts decisions for which the day's budget lowered the rate.
    """
    with store.read() as reader:
        return reader.frame(
            """SELECT agent, decided_at::DATE AS day, count(*) AS decisions, count(*) FILTER (explore) AS explored,
                count(DISTINCT session_id) AS sessions, sum(expected_regret) AS expected_regret,
                sum(worst_regret) AS worst_regret, avg(rate) AS rate, count(*) FILTER (budget_scale < 1) AS held_back
            FROM decisions WHERE ($agent IS NULL OR agent = $agent) AND decided_at >= $since
            GROUP BY ALL ORDER BY agent, day""",
            LEDGER,
            {"agent": agent, "since": since},
        )


def spent_today(store: Store, now: datetime) -> dict[str, float]:
    """The worst-case regret of each agent's decisions on the UTC day of `now` so far, in reward points."""
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    with store.read() as reader:
        frame = reader.frame(
            "SELECT agent, sum(worst_regret) AS spent FROM decisions WHERE decided_at >= $day GROUP BY agent",
            pl.Schema({"agent": pl.String(), "spent": pl.Float64()}),
            {"day": day},
        )
    return dict(zip(frame["agent"].to_list(), frame["spent"].to_list(), strict=True))


def sessions_since(store: Store, since: datetime, limit: int = 200_000) -> pl.DataFrame:
    """The last decision of each session decided from `since` on (columns `SESSIONS`), the latest `limit`, oldest first.

    From it a session goes on after a restart with the arm it had.
    """
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(SESSIONS.names())} FROM decisions
            WHERE decided_at >= $since AND session_id IS NOT NULL
            QUALIFY row_number() OVER (PARTITION BY agent, session_id ORDER BY decided_at DESC, rowid DESC) = 1
            ORDER BY decided_at DESC LIMIT $limit""",
            SESSIONS,
            {"since": since, "limit": limit},
        ).reverse()
