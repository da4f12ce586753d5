"""Exploration rates: what was recommended for an agent, on what evidence, and what an operator did with it.

An agent has at most one recommendation that waits and one rate that is applied; earlier ones are kept as superseded.
A recommendation may carry rates of segments and users (`unit_rates`): they are decided together with the agent's, and
kept while it waits or is applied. Where an operator set `automatic`, what keeps to the bounds is applied at once.
"""

import json
from datetime import datetime
from typing import Any

import duckdb
import polars as pl

from store import audit, meta, result_rows
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.exploration_bounds import (
    BOUNDS,
    DEFAULTS,
    RATE_WITHOUT_DECISION,
    bounds,
    is_automatic,
    outside,
    set_bounds,
)
from store.frames import UTC_TIME, declare
from store.unit_rates import (
    APPLIED,
    UNIT_RATES,
    UNIT_SUMMARY,
    UNITS_OF_USER,
    applied_rates,
    of_user,
    unit_rates,
    unit_summary,
)

__all__ = [
    "APPLIED", "BOUNDS", "DEFAULTS", "RATES", "RATE_WITHOUT_DECISION", "RECOMMENDED", "UNITS_OF_USER", "UNIT_RATES",
    "UNIT_SUMMARY", "applied_rates", "apply", "bounds", "current", "decline", "history", "of_user", "recommend",
    "set_bounds", "unit_rates", "unit_summary",
]  # fmt: skip

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
_MATERIAL = 0.01  # a change of a unit's rate that is worth a new recommendation
_AUTOMATIC = "trimtab"  # who applies rates where an operator set `automatic`


def recommend(store: Store, recommendations: pl.DataFrame, units: pl.DataFrame | None = None) -> int:
    """Add recommendations (columns `RECOMMENDED`, one row an agent) in place of those that wait; returns how many.

    Args: `units` are rates of segments and users of these agents (columns `UNIT_RATES`). They are written slice by
    slice first, and belong to a recommendation once its row is there.

    An agent whose newest row rests on the same arms and gives the same rate gets none, unless the rate of a segment or
    user moved by `_MATERIAL`: what an operator applied or declined is not asked again before there is new evidence.
    """
    rows = recommendations.select(list(RECOMMENDED)).to_dicts()
    result_rows.remove(
        store, "unit_rates", "(agent, recommended_at) NOT IN (SELECT (agent, recommended_at) FROM exploration_rates)"
    )
    fresh = _fresh(store, rows, units)
    if not fresh:
        return 0
    now = store.clock.now()
    if units is not None:
        own = units.select(list(UNIT_RATES)).filter(pl.col("agent").is_in([row["agent"] for row in fresh]))
        result_rows.insert_slices(store, "unit_rates", own, key={"recommended_at": now})

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        for row in fresh:
            connection.execute(
                """UPDATE exploration_rates SET state = 'superseded' WHERE agent = $agent AND state = 'recommended'""",
                {"agent": row["agent"]},
            )
            connection.execute(
                """INSERT INTO exploration_rates VALUES
                ($agent, $now, $rate, $lower, $upper, $decisions, $reason, $arms, 'recommended', NULL, NULL)""",
                {**row, "now": now},
            )
            _apply_automatically(connection, now, str(row["agent"]), float(row["rate"]))
        meta.bump(connection)

    store.write(work)
    _forget_units(store)
    return len(fresh)


def apply(store: Store, agent: str, recommended_at: datetime, *, operator: str) -> None:
    """Make a waiting recommendation the agent's rate, in place of the one applied before.

    Raises: `NotFound`; `ActionRefused` when it does not wait any more.
    """

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        rate = _waiting(connection, "Apply", agent, recommended_at)
        _apply(connection, store.clock.now(), agent, recommended_at, rate, operator, {})
        meta.bump(connection)

    store.write(work)
    _forget_units(store)


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
    _forget_units(store)


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


def _fresh(store: Store, rows: list[dict[str, Any]], units: pl.DataFrame | None) -> list[dict[str, Any]]:
    """The recommendations that rest on new evidence."""
    newest_schema = declare(
        {"agent": pl.String, "recommended_at": UTC_TIME, "rate": pl.Float64, "arms": pl.String, "state": pl.String}
    )
    with store.read() as reader:
        newest = reader.frame(
            """SELECT agent, recommended_at, rate, arms, state FROM exploration_rates
            QUALIFY row_number() OVER (PARTITION BY agent ORDER BY recommended_at DESC) = 1""",
            newest_schema,
        )
    known = {row["agent"]: row for row in newest.iter_rows(named=True)}
    fresh = []
    for row in rows:
        before = known.get(row["agent"])
        if (
            before is None
            or _evidence(before["rate"], before["arms"]) != _evidence(row["rate"], row["arms"])
            or (units is not None and _moved(store, before, units))
        ):
            fresh.append(row)
    return fresh


def _moved(store: Store, newest: dict[str, Any], units: pl.DataFrame) -> bool:
    """Whether a unit's rate differs materially from what the agent's newest recommendation said of it.

    Of a unit it did not speak of, it said the agent's rate. What was declined has no rates of units any more: then only
    the agent's own evidence counts.
    """
    agent = newest["agent"]
    if newest["state"] == "declined":
        return False
    with store.read() as reader:
        before = reader.frame(
            "SELECT scope, unit, rate FROM unit_rates WHERE agent = $agent AND recommended_at = $moment",
            APPLIED,
            {"agent": agent, "moment": newest["recommended_at"]},
        )
    own = units.filter(agent=agent).select("scope", "unit", now="rate")
    joined = own.join(before, on=["scope", "unit"], how="left")
    return bool(((joined["now"] - joined["rate"].fill_null(newest["rate"])).abs() >= _MATERIAL).any())


def _apply_automatically(connection: duckdb.DuckDBPyConnection, now: datetime, agent: str, rate: float) -> None:
    """Apply the agent's recommendation of this moment where an operator allowed that and it keeps to the bounds."""
    if not is_automatic(connection, agent):
        return
    key = {"agent": agent, "now": now}
    rows = connection.execute(
        "SELECT coalesce(max(rate), 0) FROM unit_rates WHERE agent = $agent AND recommended_at = $now", key
    ).fetchall()
    if outside(connection, agent, rate, float(rows[0][0])) is None:
        _apply(connection, now, agent, now, rate, _AUTOMATIC, {"automatic": True})


def _apply(
    connection: duckdb.DuckDBPyConnection,
    now: datetime,
    agent: str,
    recommended_at: datetime,
    rate: float,
    operator: str,
    more: dict[str, object],
) -> None:
    before = connection.execute(
        """UPDATE exploration_rates SET state = 'superseded' WHERE agent = $agent AND state = 'applied'
        RETURNING rate""",
        {"agent": agent},
    ).fetchall()
    _decide(connection, now, agent, recommended_at, "applied", operator)
    units = connection.execute(
        "SELECT count(*) FROM unit_rates WHERE agent = $agent AND recommended_at = $moment",
        {"agent": agent, "moment": recommended_at},
    ).fetchall()
    detail = {
        "rate": rate, "before": before[0][0] if before else None, "recommended_at": _moment(recommended_at),
        "units": int(units[0][0]), **more,
    }  # fmt: skip
    audit.append(connection, now, operator, "exploration apply", f"agent {agent}", detail)


def _forget_units(store: Store) -> None:
    """Let go of the rates of units whose recommendation neither waits nor is applied."""
    result_rows.remove(
        store,
        "unit_rates",
        """(agent, recommended_at) IN (
            SELECT (agent, recommended_at) FROM exploration_rates WHERE state IN ('declined', 'superseded'))""",
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
