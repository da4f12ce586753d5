"""Editing a lesson: its words, whom it is for, how often it is withheld and until when it holds, with what changes."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from difflib import ndiff
from typing import Any, Final, Literal

import streamlit as st

from dashboard import runtime
from dashboard.access import offer
from dashboard.learn.actions import operator, perform
from dashboard.lessons.reports import report
from dashboard.lessons.words import FIELDS, TITLE_CHARACTERS
from dashboard.ui.focus import take_focus
from dashboard.ui.text import clean
from pipelines.lessons import review
from store.lesson_reviews import MAX_CHARACTERS, LessonText, Scope

__all__ = ["difference", "form"]

# What `clean` makes visible is not offered for editing: a mark that reverses a field would hide what it says.
_UNSEEN: Final = re.compile(r"⟨U\+[0-9A-F]{4}⟩")
_SCOPE: Final = {"task": "Task", "segment": "Segment", "user_id": "User"}


def form(lesson: dict[str, Any], close: Callable[[], None]) -> None:
    """The fields, what would change, and save. `lesson` is a row of `store.lessons.LESSONS`."""
    with st.container(border=True, key="edit_form"):
        for field, label in FIELDS.items():
            name, value = _key(lesson, field), _UNSEEN.sub("", clean(lesson[field] or ""))
            if field == "title":
                st.text_input(label, value, key=name, max_chars=TITLE_CHARACTERS)
            else:
                st.text_area(label, value, key=name, max_chars=MAX_CHARACTERS, height="content")
        with st.expander("Whom it is for, and until when", key="edit_scope"):
            columns = st.columns(3)
            for column, (field, label) in zip(columns, _SCOPE.items(), strict=True):
                column.text_input(label, lesson[field] or "", key=_key(lesson, field), placeholder="any")
            held, ends = st.columns(2)
            held.number_input(
                "Withheld from, % of decisions", 1.0, 90.0, _percent(lesson["holdout"]),
                key=_key(lesson, "holdout"), placeholder="as its state says", step=1.0,
                help="The share of decisions that go without it, to measure what it pays. Never none.",
            )  # fmt: skip
            ends.date_input(
                "Not served from this day on (UTC)", lesson["expires_at"].date() if lesson["expires_at"] else None,
                key=_key(lesson, "expires"), format="YYYY-MM-DD",
            )  # fmt: skip
        changed = _changes(lesson)
        if changed:
            st.caption("What changes")
            st.code(changed, language="diff", wrap_lines=True)
        else:
            st.caption("Leave a field to see what changes. The earlier text stays in the history.")
        with st.container(horizontal=True):
            offer.button(
                "Save as a new version", type="primary", icon=":material/save:", key="edit_confirm",
                shortcut="Ctrl+S", on_click=_save, args=(lesson, close),
            )  # fmt: skip
            st.button("Cancel", key="edit_cancel", shortcut="Esc", on_click=close)
            take_focus(_key(lesson, "title"))


def difference(before: str, after: str) -> str:
    """Word by word, what a text lost (-) and won (+), a line each for a stretch; empty when they are equal."""
    if before == after:
        return ""
    lines: list[str] = []
    for entry in ndiff(before.split(), after.split()):
        mark, word = entry[0], entry[2:]
        if mark == "?":
            continue
        if lines and lines[-1][0] == mark:
            lines[-1] += f" {word}"
        else:
            lines.append(f"{mark} {word}")
    return "\n".join(lines) or "  (only white space)"


def _percent(share: float | None) -> float | None:
    return None if share is None else share * 100.0


def _key(lesson: dict[str, Any], field: str) -> str:
    return f"edit_{field}_{lesson['lesson_id']}_{lesson['version']}"


def _typed(lesson: dict[str, Any], field: str) -> Any:
    return st.session_state.get(_key(lesson, field))


def _changes(lesson: dict[str, Any]) -> str:
    parts = []
    for field, label in {**FIELDS, **_SCOPE}.items():
        found = difference(clean(lesson[field] or ""), clean(str(_typed(lesson, field) or "").strip()))
        if found:
            parts.append(f"@@ {label} @@\n{found}")
    return "\n".join(parts)


def _save(lesson: dict[str, Any], close: Callable[[], None]) -> None:
    words = {field: str(_typed(lesson, field) or "") for field in FIELDS}
    text = LessonText(words["title"], words["when_text"], words["when_not"] or None, words["do_text"])
    task, segment, user_id = (str(_typed(lesson, field) or "").strip() or None for field in _SCOPE)
    scope = Scope(lesson["agent"], task, segment, user_id)
    percent, day = _typed(lesson, "holdout"), _typed(lesson, "expires")
    ends: datetime | Literal["never"] = datetime.combine(day, time(), UTC) if isinstance(day, date) else "never"
    if perform(
        lambda: report(
            review.edit(
                runtime.current().store,
                lesson["lesson_id"],
                version=lesson["version"],
                operator=operator(),
                text=text,
                scope=scope,
                holdout="inherit" if percent is None else percent / 100.0,
                expires_at=ends,
            )
        )
    ):
        close()
