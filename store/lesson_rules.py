"""The settings in force for lessons: an agent's own, else those of '*', else the defaults."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import duckdb

from store.lesson_versions import EVERY_AGENT

__all__ = ["COLUMNS", "LessonSettings", "pinned", "resolve", "resolved", "rows", "two_person"]


@dataclass(frozen=True)
class LessonSettings:
    """The settings in force for one agent; `serving_off` says why nothing is served, None while lessons are."""

    agent: str
    two_person: bool = False  # an approval takes effect once a second person has approved
    canary_holdout: float = 0.2  # the probability of withholding a lesson that has none of its own
    active_holdout: float = 0.1
    empty_share: float = 0.02  # share of decisions served no lesson at all
    token_budget: int = 2000  # of the lessons in one answer
    automatic_demotion: bool = True  # on measured harm
    serving_off: str | None = None
    pinned_playbook: int | None = None

    def holdout(self, state: str) -> float:
        """The probability of withholding a lesson in this state that has none of its own."""
        return self.canary_holdout if state == "canary" else self.active_holdout


_OWN: Final = ("serving_off", "pinned_playbook")
_INHERITED: Final = tuple(each.name for each in fields(LessonSettings) if each.name not in ("agent", *_OWN))
COLUMNS: Final = (*_INHERITED, *_OWN)


def resolve(held: Sequence[Mapping[str, Any]], agent: str) -> LessonSettings:
    """The settings in force for an agent, of all rows of lesson_settings.

    A kill switch of '*' holds whatever the agent's own row says; a pin is of one agent.
    """
    own: Mapping[str, Any] = next((row for row in held if row["agent"] == agent), {})
    whole: Mapping[str, Any] = next((row for row in held if row["agent"] == EVERY_AGENT), {})
    values = {}
    for name in _INHERITED:
        value = own.get(name) if own.get(name) is not None else whole.get(name)
        if value is not None:
            values[name] = value
    off = whole.get("serving_off") or own.get("serving_off")
    return LessonSettings(agent, **values, serving_off=off, pinned_playbook=own.get("pinned_playbook"))


def rows(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """All rows of lesson_settings."""
    found = connection.execute(f"SELECT agent, {', '.join(COLUMNS)} FROM lesson_settings").fetchall()
    return [dict(zip(("agent", *COLUMNS), row, strict=True)) for row in found]


def resolved(connection: duckdb.DuckDBPyConnection, agent: str) -> LessonSettings:
    """The settings in force for an agent, within a transaction."""
    return resolve(rows(connection), agent)


def pinned(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """Agents with a pinned playbook: it may serve lessons that are for other agents by now."""
    found = connection.execute("SELECT agent FROM lesson_settings WHERE pinned_playbook IS NOT NULL").fetchall()
    return {str(row[0]) for row in found}


def two_person(connection: duckdb.DuckDBPyConnection, agent: str) -> bool:
    """Whether a lesson for this agent needs two approvals; one for every agent does where any agent's do."""
    held = rows(connection)
    if agent == EVERY_AGENT:
        return any(row["two_person"] for row in held)
    return resolve(held, agent).two_person
