"""Operators' reviews of lessons, with the playbooks that follow from them.

The store decides what is allowed and keeps the record. Here the playbooks are rendered, and lint reads every text
before it can come nearer to agents: what it blocks, a person edits or overrides (`store.lesson_lint.override`).
"""

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Literal

import polars as pl

from pipelines.lessons import playbook
from pipelines.lessons.lint import gather
from pipelines.lessons.lint import taint as tainting
from pipelines.lessons.lint.findings import Finding
from pipelines.lessons.lint.lint import lint
from pipelines.lessons.lint.trust import BY_ORIGIN, after_edit, least
from store import lesson_reviews, lesson_serving, lessons
from store.connection import Store
from store.lesson_reviews import SYSTEM, LessonText, Origins, Reviewed, Scope
from store.lesson_versions import EVERY_AGENT
from store.playbooks import Rendered

__all__ = [
    "approve", "demote", "edit", "expire", "findings", "graduate", "pause", "promote", "reject", "render", "rerender",
    "resume", "retire", "send_back", "supersede", "undo",
]  # fmt: skip


def render(served: pl.DataFrame, token_budget: int) -> Rendered:
    """The text of a playbook (`store.lesson_serving.Render`)."""
    written = playbook.render(served, playbook.PlaybookConfig(token_budget))
    return Rendered(written.body, written.lesson_ids, written.tokens)


def findings(store: Store, lesson_id: str) -> tuple[Finding, ...]:
    """What lint finds in the newest text of a lesson, kept with it. Raises: `NotFound`."""
    return gather.check(store, lesson_id)


def approve(
    store: Store,
    lesson_id: str,
    *,
    version: int,
    operator: str,
    to: Literal["canary", "active"] = "active",
    reason: str | None = None,
) -> Reviewed:
    """Make a proposed lesson a canary or active, once lint has read it. Raises: as `store.lesson_reviews.approve`."""
    findings(store, lesson_id)
    return lesson_reviews.approve(
        store, lesson_id, version=version, operator=operator, to=to, reason=reason, render=render
    )


def reject(store: Store, lesson_id: str, *, version: int, operator: str, reason: str) -> Reviewed:
    """Turn a proposed lesson down. Raises: `NotFound`; `ActionRefused`, also without a reason."""
    return lesson_reviews.reject(store, lesson_id, version=version, operator=operator, reason=reason, render=render)


def send_back(store: Store, lesson_id: str, *, version: int, operator: str, reason: str) -> Reviewed:
    """Ask for another text of a proposed lesson. Raises: as `reject`."""
    return lesson_reviews.send_back(store, lesson_id, version=version, operator=operator, reason=reason, render=render)


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
) -> Reviewed:
    """Give a lesson its next version; what is None stays. A served one is served on if lint blocks nothing in it.

    Words of users and tools that are still in the text keep it untrusted. Raises: as `store.lesson_reviews.edit`.
    """
    lesson = lessons.one(store, lesson_id)
    words = text or LessonText(*(lesson[name] for name in ("title", "when_text", "when_not", "do_text")))
    material = gather.material(store, lesson_id, words)
    origin = lesson["origin"]
    before = lesson["trust"] or BY_ORIGIN.get(origin)
    trust, left = after_edit(before, tainting.read(lesson["taint"]), words, origin=origin)
    new = tuple(one for one in tainting.taint(words, material.untrusted) if one not in left)
    trust = least([trust, "untrusted"] if new else [trust])
    found = lint(words, trust, material)
    parents = tuple(json.loads(lesson["parents"] or "[]"))
    origins = Origins(trust, tuple(asdict(one) for one in (*left, *new)), parents)
    return lesson_reviews.edit(
        store, lesson_id, version=version, operator=operator, text=text, scope=scope, holdout=holdout,
        expires_at=expires_at, origins=origins, findings=found, compared=gather.compared(material), render=render,
    )  # fmt: skip


def promote(store: Store, lesson_id: str, *, version: int, operator: str, reason: str | None = None) -> Reviewed:
    """Make a canary active, once lint has read it again. Raises: as `approve`."""
    findings(store, lesson_id)
    return lesson_reviews.promote(store, lesson_id, version=version, operator=operator, reason=reason, render=render)


def demote(
    store: Store,
    lesson_id: str,
    *,
    version: int,
    to: Literal["canary", "retired"],
    reason: str,
    operator: str = SYSTEM,
) -> Reviewed:
    """Take a served lesson a step away from agents; by Trimtab itself with the measured reason. Raises: as `reject`."""
    return lesson_reviews.demote(
        store, lesson_id, version=version, to=to, operator=operator, reason=reason, render=render
    )


def pause(store: Store, lesson_id: str, *, version: int, operator: str, reason: str) -> Reviewed:
    """Stop serving a lesson until it is resumed: its kill switch. Raises: as `reject`."""
    return lesson_reviews.pause(store, lesson_id, version=version, operator=operator, reason=reason, render=render)


def resume(store: Store, lesson_id: str, *, version: int, operator: str, reason: str | None = None) -> Reviewed:
    """Serve a paused lesson again, once lint has read it again. Raises: as `approve`."""
    findings(store, lesson_id)
    return lesson_reviews.resume(store, lesson_id, version=version, operator=operator, reason=reason, render=render)


def retire(store: Store, lesson_id: str, *, version: int, operator: str, reason: str | None = None) -> Reviewed:
    """Stop serving a lesson for good. Raises: `NotFound`; `ActionRefused`."""
    return lesson_reviews.retire(store, lesson_id, version=version, operator=operator, reason=reason, render=render)


def graduate(store: Store, lesson_id: str, *, version: int, operator: str, reason: str | None = None) -> Reviewed:
    """Stop serving a lesson that a model was trained on and does without. Raises: as `retire`."""
    return lesson_reviews.graduate(store, lesson_id, version=version, operator=operator, reason=reason, render=render)


def supersede(
    store: Store, lesson_id: str, *, version: int, by: str, operator: str, reason: str | None = None
) -> Reviewed:
    """Have the lesson `by` take this one's place. Raises: as `store.lesson_reviews.supersede`."""
    return lesson_reviews.supersede(
        store, lesson_id, version=version, by=by, operator=operator, reason=reason, render=render
    )


def undo(store: Store, lesson_id: str, *, sequence: int, operator: str) -> Reviewed:
    """Take back the last review of a lesson, which is the one numbered `sequence`. Raises: as `retire`."""
    return lesson_reviews.undo(store, lesson_id, sequence=sequence, operator=operator, render=render)


def rerender(store: Store, agents: Iterable[str] | None = None, *, cause: str) -> dict[str, int]:
    """Write the playbooks of these agents anew (None: of all) where what is served changed without a review: payoffs
    were measured, a lesson has expired. Returns the versions made, by agent.
    """
    return lesson_serving.rerender(store, [EVERY_AGENT] if agents is None else agents, render, cause)


def expire(store: Store) -> dict[str, int]:
    """Take expired lessons out of the playbooks that still serve them, and give agents that are new the lessons for
    every agent. Returns the versions made, by agent."""
    due, new = lesson_serving.due(store, store.clock.now()), lesson_serving.newcomers(store)
    made = rerender(store, due, cause="expired") if due else {}
    return made | (rerender(store, new, cause="new agent") if new else {})
