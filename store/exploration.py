"""Exploration rates: what was recommended for an agent, on what evidence, and what an operator did with it.

An agent has at most one recommendation that waits and one rate that is applied; earlier ones are kept as superseded.
"""

import json
from datetime import datetime

import duckdb
import polars as pl

from store import audit, meta
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.frames import UTC_TIME, declare

RECOMMENDED = pl.Schema(
    {
        "agent": pl.String(),
        "rate": pl.Float64(),
        "lower": pl.Float64(),
        "upper": pl.Float64(),
        "decisions": pl.Int64(),
        "reason": pl.String(),
        "arms": pl.String(),  # JSON: [{arm, mean, sd, n, best}]
    }
)
RATES = declare(
    {
        "agent": pl.String, "recommended_at": UTC_TIME, "rate": pl.Float64, "lower": pl.Float64, "upper": pl.Float64,
        "decisions": pl.Int64, "reason": pl.String, "arms": pl.String, "state": pl.String, "decided_by": pl.String,
        "decided_at": UTC_TIME,
    }
)  # fmt: skip

_COLUMNS = ", ".join(RATES.names())
# Posteriors of the same data differ by less: sums are not taken in a fixed order.
_DECIMALS = 9


def recommend(store: Store, recommendations: pl.DataFrame) -> int:
    """Add recommendations (columns `RECOMMENDED`, one row an agent) in place of those that wait; returns how many.

    An agent whose newest row rests on the same arms and gives the same rate gets none: what an operator applied or
    declined is not asked again before there is new evidence.
    """
    rows = recommendations.select(list(RECOMMENDED)).to_dicts()

    def work(connection: duckdb.DuckDBPyConnection) -> int:
        now = store.clock.now()
        newest = {
            agent: (rate, arms)
            for agent, rate, arms in connection.execute(
                """SELECT agent, rate, arms FROM exploration_rates
                QUALIFY row_number() OVER (PARTITION BY agent ORDER BY recommended_at DESC) = 1"""
            ).fetchall()
        }
        added = 0
        for row in rows:
            known = newest.get(row["agent"])
            if known is not None and _evidence(*known) == _evidence(row["rate"], row["arms"]):
                continue
            connection.execute(
                """UPDATE exploration_rates SET state = 'superseded' WHERE agent = $agent AND state = 'recommended'""",
                {"agent": row["agent"]},
            )
            connection.execute(
                """INSERT INTO exploration_rates VALUES
                ($agent, $now, $rate, $lower, $upper, $decisions, $reason, $arms, 'recommended', NULL, NULL)""",
                {**row, "now": now},
            )
            added += 1
        if added:
            meta.bump(connection)
        return added

    return store.write(work)


def apply(store: Store, agent: str, recommended_at: datetime, *, operator: str) -> None:
    """Make a waiting recommendation the agent's rate, in place of the one applied before.

    Raises: `NotFound`; `ActionRefused` when it does not wait any more.
    """

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now = store.clock.now()
        rate = _waiting(connection, "Apply", agent, recommended_at)
        before = connection.execute(
            """UPDATE exploration_rates SET state = 'superseded' WHERE agent = $agent AND state = 'applied'
            RETURNING rate""",
            {"agent": agent},
        ).fetchall()
        _decide(connection, now, agent, recommended_at, "applied", operator)
        detail = {"rate": rate, "before": before[0][0] if before else None, "recommended_at": _moment(recommended_at)}
        audit.append(connection, now, operator, "exploration apply", f"agent {agent}", detail)
        meta.bump(connection)

    store.write(work)


def decline(store: Store, agent: str, recommended_at: datetime, *, operator: str, reason: str) -> None:
    """Turn a waiting recommendation down; the rate applied before stays.

    Raises: `NotFound`; `ActionRefused` without a reason, or when it does not wait any more.
    """
    if not reason.strip():
        raise ActionRefused("Decline", "no reason was given.", "Write why, so that nobody has to ask again.")

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now = store.clock.now()
        rate = _waiting(connection, "Decline", agent, recommended_at)
        _decide(connection, now, agent, recommended_at, "declined", operator)
        detail = {"rate": rate, "reason": reason.strip(), "recommended_at": _moment(recommended_at)}
        audit.append(connection, now, operator, "exploration decline", f"agent {agent}", detail)
        meta.bump(connection)

    store.write(work)


def current(store: Store) -> pl.DataFrame:
    """What waits and what is applied, by agent, the waiting one first (columns `RATES`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {_COLUMNS} FROM exploration_rates WHERE state IN ('recommended', 'applied')
            ORDER BY agent, state DESC""",
            RATES,
        )


def history(store: Store, *, agent: str | None = None, limit: int = 200) -> pl.DataFrame:
    """Every recommendation, newest first (columns `RATES`); of one agent when it is named."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {_COLUMNS} FROM exploration_rates WHERE $agent IS NULL OR agent = $agent
            ORDER BY recommended_at DESC, agent LIMIT $limit""",
            RATES,
            {"agent": agent, "limit": limit},
        )


def _waiting(connection: duckdb.DuckDBPyConnection, action: str, agent: str, recommended_at: datetime) -> float:
    """The rate of the recommendation if it still waits."""
    rows = connection.execute(
        "SELECT rate, state FROM exploration_rates WHERE agent = $agent AND recommended_at = $moment",
        {"agent": agent, "moment": recommended_at},
    ).fetchall()
    if not rows:
        raise NotFound("recommendation", f"{agent} {_moment(recommended_at)}")
    rate, state = rows[0]
    if state != "recommended":
        raise ActionRefused(action, f"the recommendation is {state}.", "Reload the page to see the present one.")
    return float(rate)


def _decide(
    connection: duckdb.DuckDBPyConnection, now: datetime, agent: str, moment: datetime, state: str, operator: str
) -> None:
    connection.execute(
        """UPDATE exploration_rates SET state = $state, decided_by = $operator, decided_at = $now
        WHERE agent = $agent AND recommended_at = $moment AND state = 'recommended'""",
        {"state": state, "operator": operator, "now": now, "agent": agent, "moment": moment},
    )


def _evidence(rate: float, arms: str) -> tuple[object, ...]:
    """What a recommendation rests on, to the precision that matters."""
    listed = [
        tuple(round(value, _DECIMALS) if isinstance(value, float) else value for _, value in sorted(arm.items()))
        for arm in json.loads(arms)
    ]
    return (round(rate, _DECIMALS), tuple(listed))


def _moment(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")
