"""Operators' reviews of lessons, with the playbook that follows from them.

The store decides what is allowed and keeps the record; here the playbook is rendered, and a text that holds literals of
one customer is held back until somebody says that they belong there.
"""

import polars as pl

from pipelines.lessons import playbook
from pipelines.lessons.literals import Literal, find_literals
from store import lesson_reviews, lessons
from store.connection import Store
from store.errors import ActionRefused
from store.lesson_reviews import LessonText, Reviewed
from store.playbooks import Rendered

__all__ = ["approve", "edit", "literals", "reject", "retire", "undo"]


def literals(text: LessonText) -> list[Literal]:
    """What in a lesson's words looks like a literal of one customer: addresses, amounts, identifiers, numbers."""
    return find_literals("\n".join([text.title, text.when_text, text.when_not or "", text.do_text]))


def approve(store: Store, lesson_id: str, *, version: int, operator: str, literals_checked: bool = False) -> Reviewed:
    """Make a proposed lesson active and render its agent's playbook.

    Raises: `NotFound`; `ActionRefused` in another state, when the text was edited since `version`, or when it holds
    literals and `literals_checked` does not say that they belong there.
    """
    lesson = lessons.one(store, lesson_id)
    found = literals(LessonText(*(lesson[name] for name in ("title", "when_text", "when_not", "do_text"))))
    if found and not literals_checked:
        named = ", ".join(f"{literal.form} {literal.text!r}" for literal in found[:5])
        raise ActionRefused(
            "Approve",
            f"the text holds {named}.",
            "Edit it so that it is true of every customer, or confirm that the literals belong there.",
        )
    return lesson_reviews.approve(store, lesson_id, version=version, operator=operator, render=_render)


def reject(store: Store, lesson_id: str, *, version: int, operator: str, reason: str) -> Reviewed:
    """Turn a proposed lesson down. Raises: `NotFound`; `ActionRefused`, also without a reason."""
    return lesson_reviews.reject(store, lesson_id, version=version, operator=operator, reason=reason, render=_render)


def edit(store: Store, lesson_id: str, *, version: int, operator: str, text: LessonText) -> Reviewed:
    """Give a lesson its next version; an active one is served with it at once. Raises: `NotFound`; `ActionRefused`."""
    return lesson_reviews.edit(store, lesson_id, version=version, operator=operator, text=text, render=_render)


def retire(store: Store, lesson_id: str, *, version: int, operator: str, reason: str | None = None) -> Reviewed:
    """Stop serving an active lesson. Raises: `NotFound`; `ActionRefused`."""
    return lesson_reviews.retire(store, lesson_id, version=version, operator=operator, reason=reason, render=_render)


def undo(store: Store, lesson_id: str, *, sequence: int, operator: str) -> Reviewed:
    """Take back the last review of a lesson, which is the one numbered `sequence`. Raises: as `retire`."""
    return lesson_reviews.undo(store, lesson_id, sequence=sequence, operator=operator, render=_render)


def _render(active: pl.DataFrame) -> Rendered:
    rendered = playbook.render(active)
    return Rendered(rendered.body, rendered.lesson_ids, rendered.tokens)
