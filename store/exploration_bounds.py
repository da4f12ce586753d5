"""What operators allow of exploration: floor, cap, dial, daily regret budget, share of decisions to ask for feedback.

Bounds belong to an agent, to a segment of its users or to one user. What a row leaves open comes from the wider scope,
and in the end from `DEFAULTS`; `pipelines.exploration.bounds` resolves them. Users who opted out are no matter of
bounds: see `store.never_explore`.
"""

from dataclasses import dataclass
from typing import Literal

import duckdb
import polars as pl

from store import audit, meta
from store.connection import Store
from store.errors import ActionRefused
from store.frames import UTC_TIME, declare

__all__ = ["BOUNDS", "DEFAULTS", "RATE_WITHOUT_DECISION", "Defaults", "Scope", "bounds", "set_bounds"]

Scope = Literal["agent", "segment", "user"]


@dataclass(frozen=True)
class Defaults:
    """Bounds where nobody set any."""

    floor: float = 0.01
    cap: float = 0.2
    dial: float = 0.5
    daily_regret_budget: float | None = None
    solicit_rate: float = 0.02
    automatic: bool = False


DEFAULTS = Defaults()
RATE_WITHOUT_DECISION = 0.05  # of an agent for which no recommendation was ever applied

BOUNDS = declare(
    {
        "scope": pl.String, "unit": pl.String, "floor": pl.Float64, "cap": pl.Float64, "dial": pl.Float64,
        "daily_regret_budget": pl.Float64, "solicit_rate": pl.Float64, "automatic": pl.Boolean,
        "updated_by": pl.String, "updated_at": UTC_TIME,
    }
)  # fmt: skip
_OF_AGENTS_ONLY = ("daily_regret_budget", "solicit_rate", "automatic")


def bounds(store: Store, agent: str) -> pl.DataFrame:
    """The bounds that operators set for an agent, the agent's own first (columns `BOUNDS`; null: as the wider scope).

    `unit` is a segment or a user id, and '' for the agent itself.
    """
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(BOUNDS)} FROM exploration_bounds WHERE agent = $agent
            ORDER BY CASE scope WHEN 'agent' THEN 0 WHEN 'segment' THEN 1 ELSE 2 END, unit""",
            BOUNDS,
            {"agent": agent},
        )


def set_bounds(
    store: Store,
    agent: str,
    scope: Scope,
    unit: str,
    *,
    floor: float | None,
    cap: float | None,
    dial: float | None,
    daily_regret_budget: float | None,
    solicit_rate: float | None,
    automatic: bool | None,
    by: str,
) -> None:
    """Replace the bounds of an agent (`unit` ''), a segment or a user; None leaves a bound to the wider scope.

    Args: `floor` and `cap` of the exploration rate, `dial` from 0 (respect what they prefer) to 1 (gently challenge
    it), `solicit_rate`: all from 0 to 1; `daily_regret_budget` in reward points; `by` the operator.
    Raises: `ActionRefused` for values that cannot be, or for a segment or user what only an agent has.
    """
    values = {
        "floor": floor, "cap": cap, "dial": dial, "daily_regret_budget": daily_regret_budget,
        "solicit_rate": solicit_rate, "automatic": automatic,
    }  # fmt: skip
    _check(agent, scope, unit, values)
    key = {"agent": agent, "scope": scope, "unit": unit}

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now = store.clock.now()
        columns = ", ".join(values)
        where = "WHERE agent = $agent AND scope = $scope AND unit = $unit"
        rows = connection.execute(f"SELECT {columns} FROM exploration_bounds {where}", key).fetchall()
        before = dict(zip(values, rows[0], strict=True)) if rows else dict.fromkeys(values)
        if before == values:
            return
        stated = any(value is not None for value in values.values())
        if rows and stated:
            changes = ", ".join(f"{column} = ${column}" for column in values)
            connection.execute(
                f"UPDATE exploration_bounds SET {changes}, updated_by = $by, updated_at = $now {where}",
                {**key, **values, "by": by, "now": now},
            )
        elif rows:
            connection.execute(f"DELETE FROM exploration_bounds {where}", key)
        else:
            connection.execute(
                f"""INSERT INTO exploration_bounds (agent, scope, unit, {columns}, updated_by, updated_at) VALUES
                ($agent, $scope, $unit, {", ".join(f"${column}" for column in values)}, $by, $now)""",
                {**key, **values, "by": by, "now": now},
            )
        audit.append(
            connection, now, by, "exploration bounds", f"agent {agent}",
            {"scope": scope, "unit": unit, "before": before, "after": values},
        )  # fmt: skip
        meta.bump(connection)

    store.write(work)


def is_automatic(connection: duckdb.DuckDBPyConnection, agent: str) -> bool:
    """Whether recommended rates of the agent apply by themselves. Call in a transaction."""
    rows = connection.execute(
        "SELECT automatic FROM exploration_bounds WHERE agent = $agent AND scope = 'agent'", {"agent": agent}
    ).fetchall()
    return bool(rows[0][0]) if rows and rows[0][0] is not None else DEFAULTS.automatic


def outside(connection: duckdb.DuckDBPyConnection, agent: str, rate: float, highest: float) -> str | None:
    """Why rates may not apply by themselves: the agent's `rate` or the `highest` of its units leaves the bounds."""
    rows = connection.execute(
        """SELECT max(floor) FILTER (scope = 'agent'), max(cap) FILTER (scope = 'agent'), max(cap)
        FROM exploration_bounds WHERE agent = $agent""",
        {"agent": agent},
    ).fetchall()
    floor, cap, widest = rows[0]
    floor = DEFAULTS.floor if floor is None else float(floor)
    cap = DEFAULTS.cap if cap is None else float(cap)
    widest = max(cap, float(widest)) if widest is not None else cap
    slack = 1e-9
    # A rate of 0 is never beyond what was allowed: it explores nothing.
    if rate > cap + slack or (0.0 < rate < floor - slack):
        return f"the rate {rate:.4f} is not from {floor:g} to {cap:g}"
    return f"a unit's rate {highest:.4f} is above {widest:g}" if highest > widest + slack else None


def _check(agent: str, scope: str, unit: str, values: dict[str, float | bool | None]) -> None:
    action = "Set exploration bounds"
    if not agent.strip():
        raise ActionRefused(action, "no agent was named.", "Name the agent.")
    if scope not in ("agent", "segment", "user"):
        raise ActionRefused(action, f"there is no scope {scope!r}.", "Use agent, segment or user.")
    if (scope == "agent") != (unit == ""):
        raise ActionRefused(action, f"{unit!r} is no unit of the scope {scope}.", "Name the segment or the user.")
    if scope != "agent":
        for column in _OF_AGENTS_ONLY:
            if values[column] is not None:
                raise ActionRefused(action, f"a {scope} has no {column} of its own.", "Set it for the agent.")
    for column in ("floor", "cap", "dial", "solicit_rate"):
        value = values[column]
        if value is not None and not 0.0 <= value <= 1.0:
            raise ActionRefused(action, f"{column} is {value!r}.", "Give a number from 0 to 1.")
    budget = values["daily_regret_budget"]
    if budget is not None and not 0.0 <= budget < float("inf"):
        raise ActionRefused(action, f"the daily regret budget is {budget!r}.", "Give reward points, 0 or more.")
    floor, cap = values["floor"], values["cap"]
    if floor is not None and cap is not None and floor > cap:
        raise ActionRefused(action, f"the floor {floor:g} is above the cap {cap:g}.", "Let the cap be the larger one.")
