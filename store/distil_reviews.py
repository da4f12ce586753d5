"""What operators do with the proposals of distillation: see what one would change, approve it, decline it, undo it.

An approval is one transaction of reviews of lessons (`store.lesson_reviews`), links and evidence, and is taken back as
one. Nothing is deleted: lessons that go keep their ids, texts and evidence, and say what took their place.

    merge      members -> superseded by the kept lesson, linked; their evidence becomes the kept lesson's as well
    retire     served members -> retired, waiting ones -> rejected; in a conflict the pair is linked
    escalate   members -> rejected: somebody looks at the task instead
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import duckdb

from store import audit, lesson_links, meta
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.lesson_changes import held, last_standing, lesson, settle
from store.lesson_serving import SERVED_STATES, Render, agents
from store.playbook_change import Block, Change, compare, digest, seen

__all__ = ["Decided", "Preview", "approve", "decline", "preview", "undo"]

_WAITING: Final = ("proposed", "approved")


@dataclass(frozen=True)
class Preview:
    """What an approval would do to playbooks. `confirm` is to be passed to `approve`; None: nothing is lost."""

    changes: tuple[Change, ...]
    confirm: str | None


@dataclass(frozen=True)
class Decided:
    """What became of a proposal; `changes` of playbooks by agent."""

    proposal_id: str
    state: str
    lesson_ids: tuple[str, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class _Proposal:
    proposal_id: str
    kind: str
    cause: str
    keep_id: str | None
    keep_version: int | None
    state: str
    reason: str
    applied: str | None
    members: tuple[tuple[str, int], ...]


class _Taken(Exception):
    """Ends a transaction that was only to be looked at."""

    def __init__(self, changes: tuple[Change, ...]) -> None:
        self.changes = changes
        super().__init__()


def preview(store: Store, proposal_id: str, *, operator: str, render: Render) -> Preview:
    """What approving would change, found by doing it in a transaction that is rolled back. Raises: as `approve`."""

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        one = _open(connection, proposal_id, "Approve")
        raise _Taken(_changed(connection, one, lambda: _apply(connection, store.clock.now(), one, operator, render)))

    try:
        store.write(work)
    except _Taken as taken:
        return Preview(taken.changes, digest(taken.changes))
    raise AssertionError("a preview always ends by rolling back")


def approve(
    store: Store, proposal_id: str, *, operator: str, reason: str | None = None, confirmed: str | None, render: Render
) -> Decided:
    """Do what is proposed. `confirmed` is what `preview` gave, so that nothing is lost unseen.

    Raises: `NotFound`; `ActionRefused` when it is not open, a lesson has moved on since, or the playbooks would lose
    something else than was confirmed.
    """

    def work(connection: duckdb.DuckDBPyConnection) -> Decided:
        now = store.clock.now()
        one = _open(connection, proposal_id, "Approve")
        applied: dict[str, Any] = {}
        changes = _changed(connection, one, lambda: applied.update(_apply(connection, now, one, operator, render)))
        seen("Approve", changes, confirmed)
        _decide(connection, now, one, "approved", operator, reason, applied)
        return Decided(proposal_id, "approved", tuple(name for name, _ in one.members), changes)

    return store.write(work)


def decline(store: Store, proposal_id: str, *, operator: str, reason: str) -> Decided:
    """Leave all as it is; the same is not proposed again. Raises: `NotFound`; `ActionRefused` without a reason."""
    if not reason.strip():
        raise ActionRefused("Decline", "no reason was given.", "Write why, so that nobody has to ask again.")

    def work(connection: duckdb.DuckDBPyConnection) -> Decided:
        one = _open(connection, proposal_id, "Decline")
        audit.person("Decline", operator)
        _decide(connection, store.clock.now(), one, "declined", operator, reason.strip(), None)
        return Decided(proposal_id, "declined", tuple(name for name, _ in one.members), ())

    return store.write(work)


def undo(store: Store, proposal_id: str, *, operator: str, render: Render) -> Decided:
    """Take an approval back as a whole: states, links and evidence are as they were before.

    Raises: `NotFound`; `ActionRefused` when it was not approved, or one of its lessons was reviewed since.
    """

    def work(connection: duckdb.DuckDBPyConnection) -> Decided:
        now = store.clock.now()
        audit.person("Undo", operator)
        one = _proposal(connection, proposal_id)
        if one.state != "approved" or one.applied is None:
            raise ActionRefused("Undo", f"this proposal is {one.state}.", "Only an approved one can be taken back.")
        applied = json.loads(one.applied)
        changes = _changed(connection, one, lambda: _take_back(connection, now, applied, operator, render))
        _decide(connection, now, one, "undone", operator, None, None)
        return Decided(proposal_id, "undone", tuple(name for name, _ in one.members), changes)

    return store.write(work)


def _apply(
    connection: duckdb.DuckDBPyConnection, now: datetime, one: _Proposal, operator: str, render: Render
) -> dict[str, Any]:
    """Apply a proposal; returns what `_take_back` needs."""
    applied: dict[str, Any] = {"keep": one.keep_id, "reviews": [], "links": [], "evidence": []}
    if one.keep_id is not None:
        keep = lesson(connection, one.keep_id)
        if keep.version != one.keep_version or keep.state not in (*SERVED_STATES, *_WAITING):
            raise ActionRefused(
                "Approve", f"the lesson to keep is {keep.state}, at version {keep.version}.", "Distil again."
            )
    for name, version in one.members:
        action = "supersede" if one.kind == "merge" else "retire"
        if one.kind != "merge" and lesson(connection, name).state in _WAITING:
            action = "reject"
        member = held(connection, action, name, version, operator)
        state = {"supersede": "superseded", "retire": "retired", "reject": "rejected"}[action]
        target = one.keep_id if action == "supersede" else None
        reviewed = settle(
            connection, now, member, action, operator, f"distil: {one.reason}", render, {"state": state}, target=target
        )
        applied["reviews"].append([name, reviewed.sequence])
        if one.keep_id is not None:
            kind = "supersedes" if one.kind == "merge" or one.cause == "superseded" else "contradicts"
            if lesson_links.add(connection, now, one.keep_id, name, kind, note=one.reason, by=operator):
                applied["links"].append([one.keep_id, name, kind])
    if one.kind == "merge" and one.keep_id is not None:
        applied["evidence"] = _unite(connection, one.keep_id, [name for name, _ in one.members])
    return applied


def _unite(connection: duckdb.DuckDBPyConnection, keep_id: str, names: list[str]) -> list[list[str | None]]:
    """Give the kept lesson the evidence of the others that it has not; returns (trace, span, role) of what it got."""
    rows = connection.execute(
        """INSERT INTO lesson_evidence BY NAME
        SELECT e.* REPLACE ($keep AS lesson_id) FROM lesson_evidence AS e
        WHERE list_contains($names::VARCHAR[], e.lesson_id) AND NOT EXISTS (
            FROM lesson_evidence AS o WHERE o.lesson_id = $keep AND o.trace_id = e.trace_id AND o.role = e.role
                AND o.span_id IS NOT DISTINCT FROM e.span_id)
        QUALIFY row_number() OVER (PARTITION BY e.trace_id, e.span_id, e.role ORDER BY e.lesson_id, e.quote) = 1
        RETURNING trace_id, span_id, role""",
        {"keep": keep_id, "names": names},
    ).fetchall()
    return sorted([list(row) for row in rows], key=str)


def _take_back(
    connection: duckdb.DuckDBPyConnection, now: datetime, applied: dict[str, Any], operator: str, render: Render
) -> None:
    for keep_id, other, kind in applied["links"]:
        lesson_links.drop(connection, now, keep_id, other, kind)
    for name, sequence in reversed(applied["reviews"]):
        member = lesson(connection, name)
        last = last_standing(connection, name)
        moved = last is None or last.sequence != sequence or last.before is None
        if last is None or moved or any(getattr(member, key) != value for key, value in last.after.items()):
            raise ActionRefused(
                "Undo", f"lesson {name} was reviewed after the approval.", "Take that review back first, or leave it."
            )
        reason = f"undo of {last.action}"
        settle(connection, now, member, "undo", operator, reason, render, dict(last.before or {}))
    for trace_id, span_id, role in applied["evidence"]:
        connection.execute(
            """DELETE FROM lesson_evidence WHERE lesson_id = $keep AND trace_id = $trace AND role = $role
                AND span_id IS NOT DISTINCT FROM $span""",
            {"keep": applied["keep"], "trace": trace_id, "role": role, "span": span_id},
        )


def _changed(connection: duckdb.DuckDBPyConnection, one: _Proposal, work: Callable[[], object]) -> tuple[Change, ...]:
    """Do `work` and say what it changed in the playbooks of the agents concerned."""
    names = {lesson(connection, name).agent for name, _ in one.members}
    touched = agents(connection, names)
    before = _blocks(connection, touched)
    work()
    return compare(before, _blocks(connection, touched), [name for name, _ in one.members])


def _blocks(connection: duckdb.DuckDBPyConnection, named: Iterable[str]) -> list[Block]:
    """The newest playbooks of these agents; lessons are those that are served, also where the text has no room."""
    rows = connection.execute(
        """SELECT agent, body, lesson_ids, entries, tokens FROM playbooks
        WHERE list_contains($agents::VARCHAR[], agent)
        QUALIFY row_number() OVER (PARTITION BY agent ORDER BY version DESC) = 1 ORDER BY agent""",
        {"agents": list(named)},
    ).fetchall()
    found = []
    for agent, body, ids, entries, tokens in rows:
        served = [entry["lesson_id"] for entry in json.loads(entries)] if entries else json.loads(ids)
        found.append(Block(agent, body, tuple(served), tokens))
    return found


def _open(connection: duckdb.DuckDBPyConnection, proposal_id: str, action: str) -> _Proposal:
    one = _proposal(connection, proposal_id)
    if one.state != "open":
        raise ActionRefused(action, f"this proposal is {one.state}.", "Reload the page to see what is open.")
    return one


def _proposal(connection: duckdb.DuckDBPyConnection, proposal_id: str) -> _Proposal:
    rows = connection.execute(
        """SELECT proposal_id, kind, cause, keep_id, keep_version, state, reason, applied FROM distil_proposals
        WHERE proposal_id = $id""",
        {"id": proposal_id},
    ).fetchall()
    if not rows:
        raise NotFound("distil proposal", proposal_id)
    members = connection.execute(
        "SELECT lesson_id, version FROM distil_members WHERE proposal_id = $id AND role <> 'keep' ORDER BY lesson_id",
        {"id": proposal_id},
    ).fetchall()
    name, kind, cause, keep_id, keep_version, state, reason, applied = rows[0]
    gone = tuple((str(member), int(version)) for member, version in members)
    return _Proposal(name, kind, cause, keep_id, keep_version, state, reason, applied, gone)


def _decide(
    connection: duckdb.DuckDBPyConnection,
    now: datetime,
    one: _Proposal,
    state: str,
    operator: str,
    reason: str | None,
    applied: dict[str, Any] | None,
) -> None:
    connection.execute(
        """UPDATE distil_proposals SET state = $state, decided_by = $by, decided_at = $now, decision_reason = $reason,
            applied = $applied WHERE proposal_id = $id""",
        {
            "state": state, "by": operator, "now": now, "reason": reason, "id": one.proposal_id,
            "applied": None if applied is None else json.dumps(applied),
        },
    )  # fmt: skip
    detail = {
        "kind": one.kind, "cause": one.cause, "keep": one.keep_id, "lessons": [name for name, _ in one.members],
        "reason": reason,
    }  # fmt: skip
    audit.append(connection, now, operator, f"distil {state}", f"distil proposal {one.proposal_id}", detail)
    meta.bump(connection)
