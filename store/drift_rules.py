"""Rules by which responses to drift are applied without asking: what an operator ordered, at most so often a day."""

import json
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import uuid4

import duckdb
import polars as pl

from store import audit, meta
from store.connection import Store
from store.drift_responses import ACTIONS, MAX_DAYS, Action
from store.errors import ActionRefused, NotFound
from store.frames import UTC_TIME, declare

__all__ = ["MOST_A_DAY", "RULES", "Level", "Rule", "add", "listed", "switch"]

Level = Literal["user", "incident"]
MOST_A_DAY: Final = 1_000

RULES = declare(
    {
        "rule_id": pl.String, "level": pl.String, "metric": pl.String, "agent": pl.String, "segment": pl.String,
        "least_effect": pl.Float64, "only_worse": pl.Boolean, "action": pl.String, "parameters": pl.String,
        "daily_limit": pl.Int32, "state": pl.String, "set_by": pl.String, "set_at": UTC_TIME, "updated_at": UTC_TIME,
    }
)  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """When to respond, and how. None stands for any metric, agent and segment.

    Of level user the rule answers findings on single users that belong to no incident, of level incident the opening of
    one. `least_effect` is in the metric's unit, whichever way it moved. `rate` and `days` are those of the response;
    `rate` None: as it is suggested.
    """

    level: Level
    action: Action
    metric: str | None = None
    agent: str | None = None
    segment: str | None = None
    least_effect: float = 0.0
    only_worse: bool = True
    rate: float | None = None
    days: int | None = 14
    daily_limit: int = 20


def listed(store: Store, *, state: Literal["on", "off"] | None = None) -> pl.DataFrame:
    """Rules in the order in which they were set (columns `RULES`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(RULES)} FROM drift_rules WHERE $state IS NULL OR state = $state
            ORDER BY set_at, rule_id""",
            RULES,
            {"state": state},
        )


def add(store: Store, rule: Rule, *, by: str) -> str:
    """Set a rule, switched on, and return its id. Raises: `ActionRefused` naming the field that cannot be used."""
    action = "Set a rule"
    audit.person(action, by)
    _check(action, rule)

    def work(connection: duckdb.DuckDBPyConnection) -> str:
        now = store.clock.now()
        rule_id = uuid4().hex[:12]
        row: dict[str, Any] = {name: value for name, value in vars(rule).items() if name not in ("rate", "days")}
        row["parameters"] = json.dumps({"rate": rule.rate, "days": rule.days})
        row |= {"rule_id": rule_id, "state": "on", "set_by": by, "set_at": now, "updated_at": now}
        named = ", ".join(f"${name} AS {name}" for name in row)
        connection.execute(f"INSERT INTO drift_rules BY NAME SELECT {named}", row)
        audit.append(connection, now, by, "response rule", f"rule {rule_id}", vars(rule))
        meta.bump(connection)
        return rule_id

    return store.write(work)


def switch(store: Store, rule_id: str, state: Literal["on", "off"], *, by: str, reason: str | None = None) -> None:
    """Switch a rule on or off; what it did stays until it is taken back.

    Switching it on makes it an order of the operator who does so. Raises: `NotFound`; `ActionRefused` when it is in
    this state already, or is switched off without a reason.
    """
    action = f"Switch a rule {state}"
    audit.person(action, by)
    said = (reason or "").strip()
    if state == "off" and not said:
        raise ActionRefused(action, "no reason was given.", "Write why, so that nobody has to ask again.")

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        rows = connection.execute("SELECT state FROM drift_rules WHERE rule_id = $rule", {"rule": rule_id}).fetchall()
        if not rows:
            raise NotFound("rule", rule_id)
        if rows[0][0] == state:
            raise ActionRefused(action, f"it is {state} already.", "Nothing is left to do.")
        now = store.clock.now()
        connection.execute(
            """UPDATE drift_rules SET state = $state, updated_at = $now, set_by = if($state = 'on', $by, set_by)
            WHERE rule_id = $rule""",
            {"state": state, "now": now, "by": by, "rule": rule_id},
        )
        detail = {"reason": said or None, "before": rows[0][0], "after": state}
        audit.append(connection, now, by, f"response rule {state}", f"rule {rule_id}", detail)
        meta.bump(connection)

    store.write(work)


def _check(action: str, rule: Rule) -> None:
    if rule.level not in ("user", "incident"):
        raise ActionRefused(action, f"there is no level {rule.level!r:.50}.", "Use user or incident.")
    if rule.action not in ACTIONS:
        raise ActionRefused(action, f"there is no action {rule.action!r:.50}.", f"Use {', '.join(ACTIONS)}.")
    if rule.level == "incident" and rule.action == "restart preferences":
        raise ActionRefused(action, "an incident is of many users.", "Set it for findings on single users.")
    if rule.level == "user" and rule.action == "pause lesson":
        raise ActionRefused(action, "a lesson is paused for a segment.", "Set it for incidents.")
    if not 0.0 <= rule.least_effect < float("inf"):
        raise ActionRefused(action, f"least_effect is {rule.least_effect!r}.", "Give a number of 0 or more.")
    if rule.rate is not None and not 0.0 < rule.rate <= 1.0:
        raise ActionRefused(action, f"rate is {rule.rate!r}.", "Give a share above 0 and up to 1.")
    if rule.days is not None and not 1 <= rule.days <= MAX_DAYS:
        raise ActionRefused(action, f"days is {rule.days!r}.", f"Give whole days from 1 to {MAX_DAYS}.")
    if rule.days is None and rule.action in ("explore", "ask"):
        raise ActionRefused(action, "days is empty.", "A changed rate ends by itself: say after how long.")
    if not 1 <= rule.daily_limit <= MOST_A_DAY:
        raise ActionRefused(action, f"daily_limit is {rule.daily_limit!r}.", f"Give a number from 1 to {MOST_A_DAY}.")
