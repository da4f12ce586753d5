"""What is done with lessons: approvals, edits, promotions, demotions and the rest, and undo of the last of these.

Each is one transaction: the lesson's state or text, the review, the audit row with what was before and after and, where
what agents are served changes, new versions of their playbooks. The caller renders these (`render`), since their
wording is not the store's; it runs inside the transaction, so no lesson can change between being read and being served.

    approve     proposed, approved         -> canary or active; approved, where two persons have to approve
    reject      proposed, approved         -> rejected     needs a reason
    send_back   proposed, approved         -> proposed     needs a reason; shown as sent back until it is edited
    edit        proposed, approved,        -> same, with a new version; proposed, where the new text has to be
                canary, active                approved first: lint blocks it or did not read it, or two persons approve
    promote     canary                     -> active
    demote      canary, active             -> canary or retired            needs a reason
    pause       canary, active             -> same, not served             needs a reason
    resume      canary, active             -> same, served again
    retire      canary, active             -> retired
    supersede   proposed to active         -> superseded, with a link from the lesson that takes its place
    graduate    canary, active             -> graduated: a model was trained on it and does without
    undo        whatever the last review left it in -> what it was before

Only persons move a lesson towards agents: Trimtab itself (`SYSTEM`) may demote and pause.
"""

from typing import Literal

import duckdb

from store import audit, lesson_links, lesson_rules, lesson_versions
from store.audit import SYSTEM
from store.connection import Store
from store.errors import ActionRefused
from store.lesson_changes import ALLOWED, Lesson, Reviewed, held, last_standing, lesson, settle
from store.lesson_edits import edit
from store.lesson_lint import open_findings
from store.lesson_serving import Render
from store.lesson_versions import MAX_CHARACTERS, LessonText, Origins, Scope, within

__all__ = [
    "ALLOWED", "MAX_CHARACTERS", "SYSTEM", "LessonText", "Origins", "Render", "Reviewed", "Scope", "approve", "demote",
    "edit", "graduate", "pause", "promote", "reject", "resume", "retire", "send_back", "supersede", "undo",
]  # fmt: skip


def approve(
    store: Store,
    lesson_id: str,
    *,
    version: int,
    operator: str,
    to: Literal["canary", "active"] = "active",
    reason: str | None = None,
    render: Render,
) -> Reviewed:
    """Make a proposed lesson a canary or active. `version` is the text that the operator has read.

    Where two persons have to approve, the first approval leads to `approved` and the second takes effect, as canary if
    either of them said so. Nobody approves a text of their own there.
    Raises: `NotFound`; `ActionRefused` in another state, when the text was edited since, when lint has not read it or
    blocks it without an override, and for a second approval by the same person.
    """

    def work(connection: duckdb.DuckDBPyConnection) -> Reviewed:
        one = held(connection, "approve", lesson_id, version, operator)
        _unblocked(connection, "Approve", one)
        target: str = to
        if lesson_rules.two_person(connection, one.agent):
            if operator == _author(connection, one):
                raise ActionRefused(
                    "Approve", "the text is yours, and two other persons have to approve it.", "Ask two others."
                )
            first = _first_approval(connection, one)
            if first is None:
                return settle(
                    connection, store.clock.now(), one, "approve", operator, _said(reason), render,
                    {"state": "approved"}, target=to,
                )  # fmt: skip
            if first[0] == operator:
                raise ActionRefused("Approve", "you have approved it already.", "A second person has to approve it.")
            target = "canary" if "canary" in (to, first[1]) else "active"
        return settle(
            connection, store.clock.now(), one, "approve", operator, _said(reason), render, {"state": target},
            target=target,
        )  # fmt: skip

    return store.write(work)


def reject(store: Store, lesson_id: str, *, version: int, operator: str, reason: str, render: Render) -> Reviewed:
    """Turn a proposed lesson down for good. Raises: as `approve`, and `ActionRefused` without a reason."""
    return _moved(store, "reject", lesson_id, version, operator, _needed("Reject", reason), render, state="rejected")


def send_back(store: Store, lesson_id: str, *, version: int, operator: str, reason: str, render: Render) -> Reviewed:
    """Ask for another text: it waits as sent back until somebody edits it. Raises: as `reject`."""
    return _moved(
        store, "send_back", lesson_id, version, operator, _needed("Send back", reason), render, state="proposed"
    )


def promote(
    store: Store, lesson_id: str, *, version: int, operator: str, reason: str | None = None, render: Render
) -> Reviewed:
    """Make a canary active. Raises: as `approve`."""
    return _moved(store, "promote", lesson_id, version, operator, _said(reason), render, gate="Promote", state="active")


def demote(
    store: Store,
    lesson_id: str,
    *,
    version: int,
    to: Literal["canary", "retired"],
    operator: str,
    reason: str,
    render: Render,
) -> Reviewed:
    """Take a lesson away from agents by a step, or altogether; `operator` may be `SYSTEM`, with the measured reason.

    Raises: as `reject`; `ActionRefused` when it is a canary already.
    """

    def work(connection: duckdb.DuckDBPyConnection) -> Reviewed:
        one = held(connection, "demote", lesson_id, version, operator)
        if to == one.state:
            raise ActionRefused("Demote", "the lesson is a canary already.", "Retire it, or leave it as it is.")
        return settle(connection, store.clock.now(), one, "demote", operator, why, render, {"state": to})

    why = _needed("Demote", reason)
    return store.write(work)


def pause(store: Store, lesson_id: str, *, version: int, operator: str, reason: str, render: Render) -> Reviewed:
    """Stop serving a lesson until `resume`, whatever its state: its kill switch. Raises: as `reject`."""
    why = _needed("Pause", reason)

    def work(connection: duckdb.DuckDBPyConnection) -> Reviewed:
        one = held(connection, "pause", lesson_id, version, operator)
        if one.paused is not None:
            raise ActionRefused("Pause", f"the lesson is paused already ({one.paused}).", "Nothing is left to do.")
        return settle(connection, store.clock.now(), one, "pause", operator, why, render, {"paused": why})

    return store.write(work)


def resume(
    store: Store, lesson_id: str, *, version: int, operator: str, reason: str | None = None, render: Render
) -> Reviewed:
    """Serve a paused lesson again. Raises: as `approve`; `ActionRefused` when it is not paused."""

    def work(connection: duckdb.DuckDBPyConnection) -> Reviewed:
        one = held(connection, "resume", lesson_id, version, operator)
        if one.paused is None:
            raise ActionRefused("Resume", "the lesson is not paused.", "Nothing is left to do.")
        _unblocked(connection, "Resume", one)
        return settle(connection, store.clock.now(), one, "resume", operator, _said(reason), render, {"paused": None})

    return store.write(work)


def retire(
    store: Store, lesson_id: str, *, version: int, operator: str, reason: str | None = None, render: Render
) -> Reviewed:
    """Stop serving a lesson for good. Raises: as `approve`."""
    return _moved(store, "retire", lesson_id, version, operator, _said(reason), render, state="retired")


def graduate(
    store: Store, lesson_id: str, *, version: int, operator: str, reason: str | None = None, render: Render
) -> Reviewed:
    """Stop serving a lesson that a model has absorbed. Raises: as `approve`."""
    return _moved(store, "graduate", lesson_id, version, operator, _said(reason), render, state="graduated")


def supersede(
    store: Store,
    lesson_id: str,
    *,
    version: int,
    by: str,
    operator: str,
    reason: str | None = None,
    render: Render,
) -> Reviewed:
    """Have another lesson take this one's place; a link says so. Raises: as `approve`; `NotFound` for `by`;
    `ActionRefused` when `by` is the lesson itself or is superseded.
    """

    def work(connection: duckdb.DuckDBPyConnection) -> Reviewed:
        now = store.clock.now()
        one = held(connection, "supersede", lesson_id, version, operator)
        other = lesson(connection, by)
        if by == lesson_id or other.state == "superseded":
            why = "a lesson cannot take its own place" if by == lesson_id else f"lesson {by} is superseded itself"
            raise ActionRefused("Supersede", f"{why}.", "Name the lesson that is to be served instead.")
        new = lesson_links.add(connection, now, by, lesson_id, "supersedes", note=_said(reason), by=operator)
        return settle(
            connection, now, one, "supersede", operator, _said(reason), render, {"state": "superseded"},
            target=by if new else None,
        )  # fmt: skip

    return store.write(work)


def undo(store: Store, lesson_id: str, *, sequence: int, operator: str, render: Render) -> Reviewed:
    """Take back the last review of a lesson, which is the one numbered `sequence`; what it wrote stays on record.

    Undoing an edit gives a new version with the earlier text. Raises: `NotFound`; `ActionRefused` when that review is
    not the last one, was undone already, or the lesson has moved on since.
    """

    def work(connection: duckdb.DuckDBPyConnection) -> Reviewed:
        now = store.clock.now()
        audit.person("Undo", operator)
        one = lesson(connection, lesson_id)
        last = last_standing(connection, lesson_id)
        if last is None or last.sequence != sequence:
            raise ActionRefused(
                "Undo", "this is not the last review of the lesson any more.", "Reload the page to see what came after."
            )
        # The undo of a later edit leaves the text of the version that this review made under a number of its own.
        left = {name: value for name, value in last.after.items() if name != "version"}
        if last.before is None or any(getattr(one, name) != value for name, value in left.items()):
            raise ActionRefused("Undo", f"the lesson is {one.state} by now.", "Review it as it stands.")
        changes: dict[str, object] = dict(last.before)
        if last.action == "edit":
            earlier = int(str(changes.pop("version")))
            changes["version"] = lesson_versions.again(connection, now, lesson_id, earlier, one.version)
        if last.action == "supersede" and last.target is not None:
            lesson_links.drop(connection, now, last.target, lesson_id, "supersedes")
        return settle(connection, now, one, "undo", operator, f"undo of {last.action}", render, changes)

    return store.write(work)


def _moved(
    store: Store,
    action: str,
    lesson_id: str,
    version: int,
    operator: str,
    reason: str | None,
    render: Render,
    *,
    gate: str | None = None,
    state: str,
) -> Reviewed:
    """A review that moves the lesson to another state and leaves all else alone."""

    def work(connection: duckdb.DuckDBPyConnection) -> Reviewed:
        one = held(connection, action, lesson_id, version, operator)
        if gate is not None:
            _unblocked(connection, gate, one)
        return settle(connection, store.clock.now(), one, action, operator, reason, render, {"state": state})

    return store.write(work)


def _unblocked(connection: duckdb.DuckDBPyConnection, action: str, one: Lesson) -> None:
    """Raises: `ActionRefused` naming what lint blocks, or that it has not read this version."""
    found = open_findings(connection, one.lesson_id, one.version)
    if found is None:
        raise ActionRefused(
            action, f"lint has not read version {one.version} of this lesson.", "Reload the page, which has it read."
        )
    if found:
        named = "; ".join(f"{rule}: {message}" for rule, message in found[:5])
        more = f" (and {len(found) - 5} more)" if len(found) > 5 else ""
        raise ActionRefused(
            action, f"lint blocks the text: {named}{more}", "Edit it, or override each finding with a reason."
        )


def _author(connection: duckdb.DuckDBPyConnection, one: Lesson) -> str:
    rows = connection.execute(
        "SELECT author FROM lesson_versions WHERE lesson_id = $lesson AND version = $version",
        {"lesson": one.lesson_id, "version": one.version},
    ).fetchall()
    return str(rows[0][0])


def _first_approval(connection: duckdb.DuckDBPyConnection, one: Lesson) -> tuple[str, str | None] | None:
    """(operator, target) of the approval that waits for a second one."""
    last = last_standing(connection, one.lesson_id) if one.state == "approved" else None
    if last is None or last.action != "approve" or last.version != one.version:
        return None
    return last.operator, last.target


def _needed(action: str, reason: str) -> str:
    if not reason.strip():
        raise ActionRefused(action, "no reason was given.", "Write why, so that nobody has to ask again.")
    return within("reason", reason)


def _said(reason: str | None) -> str | None:
    return within("reason", reason) if reason and reason.strip() else None
