"""Edits of lessons: another text, scope, holdout or expiry, always as a version of its own."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal

import duckdb

from store import lesson_lint, lesson_rules, lesson_versions
from store.connection import Store
from store.errors import ActionRefused
from store.lesson_changes import Reviewed, held, settle
from store.lesson_lint import Compared, Found, open_findings
from store.lesson_serving import SERVED_STATES, Render
from store.lesson_versions import LessonText, Origins, Scope

__all__ = ["edit"]

_HOLDOUT: Final = (0.02, 0.9)


def edit(
    store: Store,
    lesson_id: str,
    *,
    version: int,
    operator: str,
    text: LessonText | None = None,
    scope: Scope | None = None,
    holdout: float | Literal["inherit"] | None = None,
    expires_at: datetime | Literal["never"] | None = None,
    origins: Origins | None = None,
    findings: Sequence[Found] | None = None,
    compared: Compared | None = None,
    render: Render,
) -> Reviewed:
    """Give a lesson its next version: another text, scope, holdout or expiry; what is None stays.

    `findings` are what lint finds in the new version, None: it has not read it; `compared` how it compared others. A
    served lesson goes on being served with the new version where lint read it and blocks nothing, and no second person
    has to approve it; otherwise it waits as proposed. An approval of one person ends with an edit. `origins` are the
    new text's (default: those of the version before, whatever was changed).
    Raises: as `approve`; `ActionRefused` for an unusable text or scope, or when nothing changes.
    """
    new_text = None if text is None else lesson_versions.checked(text)
    changes: dict[str, object] = {}
    if scope is not None:
        changes |= vars(lesson_versions.checked_scope(scope))
    if holdout is not None:
        changes["holdout"] = None if holdout == "inherit" else _holdout(holdout)
    if expires_at is not None:
        changes["expires_at"] = None if expires_at == "never" else _moment(expires_at)

    def work(connection: duckdb.DuckDBPyConnection) -> Reviewed:
        now = store.clock.now()
        one = held(connection, "edit", lesson_id, version, operator)
        before, kept = lesson_versions.of(connection, lesson_id, version)
        other = {name: value for name, value in changes.items() if getattr(one, name) != value}
        words = before if new_text is None else new_text
        if not other and words == before:
            raise ActionRefused("Edit", "the text is the same as before.", "Change it, or leave the lesson as it is.")
        number = lesson_versions.add(connection, now, lesson_id, version, words, origins or kept, operator)
        if findings is not None:
            lesson_lint.put(connection, lesson_id, number, findings, now, compared)
        agent = str(other.get("agent", one.agent))
        serves_on = one.state in SERVED_STATES and not lesson_rules.two_person(connection, agent)
        serves_on = serves_on and open_findings(connection, lesson_id, number) == ()
        state = one.state if serves_on else "proposed"
        return settle(
            connection, now, one, "edit", operator, None, render, {"version": number, "state": state, **other}
        )

    return store.write(work)


def _holdout(value: float) -> float:
    lowest, highest = _HOLDOUT
    if not lowest <= value <= highest:
        raise ActionRefused(
            "Edit", f"the holdout is {value:g}.", f"From {lowest} to {highest}: without any, nothing can be measured."
        )
    return float(value)


def _moment(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ActionRefused("Edit", "the expiry names no time zone.", "Give a moment in UTC.")
    return value
