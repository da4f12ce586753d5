"""How a review changes a lesson: what it needs, what it writes, and what it leaves so that it can be taken back."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final

import duckdb

from store import audit, lesson_rules, lesson_serving, meta
from store.audit import SYSTEM
from store.errors import ActionRefused, NotFound
from store.lesson_serving import SERVED_STATES, STANDING, Render

__all__ = [
    "ALLOWED",
    "Lesson",
    "Reviewed",
    "Standing",
    "held",
    "last_standing",
    "lesson",
    "settle",
]

ALLOWED: Final[dict[str, tuple[str, ...]]] = {
    "approve": ("proposed", "approved"),
    "reject": ("proposed", "approved"),
    "send_back": ("proposed", "approved"),
    "edit": ("proposed", "approved", "canary", "active"),
    "promote": ("canary",),
    "demote": ("canary", "active"),
    "pause": ("canary", "active"),
    "resume": ("canary", "active"),
    "retire": ("canary", "active"),
    "supersede": ("proposed", "approved", "canary", "active"),
    "graduate": ("canary", "active"),
}
"""The states in which each action is possible."""

_BY_SYSTEM: Final = ("demote", "pause")
_PARTICIPLE: Final = {
    "approve": "approved", "reject": "rejected", "send_back": "sent back", "edit": "edited", "promote": "promoted",
    "demote": "demoted", "pause": "paused", "resume": "resumed", "retire": "retired", "supersede": "superseded",
    "graduate": "graduated",
}  # fmt: skip


@dataclass(frozen=True)
class Reviewed:
    """What a review did. `playbooks` are the versions it made, by agent, empty when what agents are served did not
    change; `playbook_version` is that of the lesson's own agent.
    """

    lesson_id: str
    agent: str
    action: str
    state: str
    version: int
    playbook_version: int | None
    sequence: int
    playbooks: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Lesson:
    """The columns of a lesson that reviews change, as its row has them."""

    lesson_id: str
    agent: str
    task: str | None
    segment: str | None
    user_id: str | None
    state: str
    version: int
    holdout: float | None
    expires_at: datetime | None
    paused: str | None
    state_reason: str | None
    state_by: str | None


@dataclass(frozen=True)
class Standing:
    """A review that was not undone. `before` and `after` are the columns that it changed; None: they were not kept."""

    sequence: int
    action: str
    version: int
    operator: str
    target: str | None
    before: Mapping[str, Any] | None
    after: Mapping[str, Any]


_COLUMNS: Final = tuple(each.name for each in fields(Lesson))


def lesson(connection: duckdb.DuckDBPyConnection, lesson_id: str) -> Lesson:
    """One lesson as it is now. Raises: `NotFound`."""
    rows = connection.execute(
        f"SELECT {', '.join(_COLUMNS)} FROM lessons WHERE lesson_id = $lesson", {"lesson": lesson_id}
    ).fetchall()
    if not rows:
        raise NotFound("lesson", lesson_id)
    return Lesson(*rows[0])


def held(connection: duckdb.DuckDBPyConnection, action: str, lesson_id: str, version: int, operator: str) -> Lesson:
    """The lesson if `operator` may do this to it: its state allows it and `version` is its newest text.

    Raises: `NotFound`; `ActionRefused`.
    """
    name = action.replace("_", " ").capitalize()
    if operator != SYSTEM or action not in _BY_SYSTEM:
        audit.person(name, operator)
    one = lesson(connection, lesson_id)
    if one.state not in ALLOWED[action]:
        raise ActionRefused(
            name,
            f"the lesson is {one.state}; only {' or '.join(ALLOWED[action])} lessons can be {_PARTICIPLE[action]}.",
            "Someone else may have reviewed it meanwhile: reload the page.",
        )
    if one.version != version:
        raise ActionRefused(
            name, f"you read version {version} and the text is at version {one.version}.", "Read the new text first."
        )
    return one


def last_standing(connection: duckdb.DuckDBPyConnection, lesson_id: str) -> Standing | None:
    """The last review of a lesson that was not undone."""
    rows = connection.execute(
        f"""SELECT sequence, action, version, operator, target, change, previous_state FROM ({STANDING})
        WHERE lesson_id = $lesson ORDER BY sequence DESC LIMIT 1""",
        {"lesson": lesson_id},
    ).fetchall()
    if not rows:
        return None
    sequence, action, version, operator, target, change, previous = rows[0]
    before: dict[str, Any] | None
    if change is not None:
        told = json.loads(change)
        before, after = _decoded(told["before"]), _decoded(told["after"])
    elif previous is None:
        before, after = None, {}
    elif action == "edit":
        # From before changes were kept: edits changed the version, and all else the state.
        before, after = {"version": version - 1}, {}
    else:
        state = {"approve": "active", "reject": "rejected"}.get(action, "retired")
        before, after = {"state": previous}, {"state": state}
    return Standing(sequence, action, version, operator, target, before, after)


def settle(
    connection: duckdb.DuckDBPyConnection,
    now: datetime,
    one: Lesson,
    action: str,
    operator: str,
    reason: str | None,
    render: Render,
    changes: Mapping[str, object],
    *,
    target: str | None = None,
) -> Reviewed:
    """Write what changed, the playbooks, the audit row and the review.

    `changes` are columns of lessons. Why the lesson is in its state is this review, unless that is among the changes.
    """
    if action != "undo":
        changes = {"state_reason": reason, "state_by": operator, **changes}
    before = {name: getattr(one, name) for name, value in changes.items() if getattr(one, name) != value}
    after = {name: changes[name] for name in before}
    assignments = "".join(f"{name} = ${name}, " for name in after)
    connection.execute(
        f"UPDATE lessons SET {assignments}updated_at = $now WHERE lesson_id = $lesson",
        {**after, "now": now, "lesson": one.lesson_id},
    )
    new = lesson(connection, one.lesson_id)
    change = {"before": _encoded(before), "after": _encoded(after)}
    # Before the playbooks: whether a pinned one serves the lesson depends on this review.
    sequence = audit.following(connection)
    connection.execute(
        """INSERT INTO lesson_reviews BY NAME
        SELECT $lesson AS lesson_id, $version AS version, $action AS action, $operator AS operator, $reason AS reason,
            $now AS reviewed_at, $before AS previous_state, $sequence AS sequence, $target AS target,
            $change AS change""",
        {
            "lesson": one.lesson_id, "version": new.version, "action": action, "operator": operator, "reason": reason,
            "now": now, "before": one.state, "sequence": sequence, "target": target, "change": json.dumps(change),
        },
    )  # fmt: skip
    made: dict[str, int] = {}
    if one.state in SERVED_STATES or new.state in SERVED_STATES:
        touched = {one.agent, new.agent} | lesson_rules.pinned(connection)
        made = lesson_serving.refresh(connection, now, touched, render, f"{action} {one.lesson_id}")
    detail = {
        "agent": new.agent, "version": new.version, "from": one.state, "to": new.state, "reason": reason,
        "playbooks": made, **change,
    }  # fmt: skip
    audit.append(connection, now, operator, f"lesson {action.replace('_', ' ')}", f"lesson {one.lesson_id}", detail)
    meta.bump(connection)
    return Reviewed(one.lesson_id, new.agent, action, new.state, new.version, made.get(new.agent), sequence, made)


def _encoded(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}


def _decoded(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: datetime.fromisoformat(value) if name == "expires_at" and value is not None else value
        for name, value in values.items()
    }
