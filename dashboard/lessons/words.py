"""The words of a lesson as operators read them. Tool names in them come from traces, so nothing of it is Markdown."""

import json
from datetime import datetime
from typing import Any, Final, Literal

import streamlit as st

from dashboard import data
from dashboard.ui import format as fmt
from dashboard.ui.text import clean, line, markdown_safe, one_line
from store import lessons

__all__ = [
    "FIELDS", "ORIGINS", "STATE_COLOURS", "TITLE_CHARACTERS", "badges", "scope_words", "titles", "words_panel",
]  # fmt: skip

FIELDS: Final = {"title": "Title", "when_text": "When", "when_not": "Not when", "do_text": "Do"}
TITLE_CHARACTERS: Final = 200
ORIGINS: Final = {
    "contrast": "found by contrast", "model": "drafted by a model", "operator": "written by an operator",
    "agent": "proposed by an agent",
}  # fmt: skip
Colour = Literal["blue", "violet", "green", "gray", "orange", "red"]
STATE_COLOURS: Final[dict[str, Colour]] = {
    "proposed": "blue", "approved": "blue", "canary": "violet", "active": "green", "retired": "gray",
    "rejected": "gray", "superseded": "gray", "graduated": "green",
}  # fmt: skip
_TRUST: Final = {
    "untrusted": "Words of users or tools stand in it.",
    "agent": "An agent wrote it.",
    "model": "A language model wrote it from traces.",
    "system": "Trimtab's own wording with names of tools.",
    "operator": "An operator wrote it.",
}


def titles() -> dict[str, str]:
    """The titles of all lessons by their ids. They quote traces."""
    return dict(data.query(lessons.library).select("lesson_id", "title").iter_rows())


def scope_words(lesson: dict[str, Any]) -> str:
    """Whom a lesson is for, as plain text."""
    whom = "every agent" if lesson["agent"] == "*" else str(lesson["agent"])
    parts = [
        f"{noun} {one_line(lesson[column], 60)}"
        for noun, column in (("task", "task"), ("segment", "segment"), ("user", "user_id"))
        if lesson[column] is not None
    ]
    return " · ".join([clean(whom), *(parts or ["all requests"])])


def badges(lesson: dict[str, Any], now: datetime) -> None:
    """State, kind, version, trust and what is unusual about a lesson."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(lesson["state"], color=STATE_COLOURS.get(lesson["state"], "gray"))
        if lesson["tested"]:
            st.badge("tested effect", icon=":material/science:", color="green")
        elif lesson["origin"] == "contrast":
            st.badge("hypothesis", icon=":material/help:", color="orange")
        if lesson["paused"] is not None:
            st.badge("paused", icon=":material/pause:", color="orange")
        if lesson["expires_at"] is not None:
            over = lesson["expires_at"] <= now
            st.badge(
                f"{'expired' if over else 'expires'} {lesson['expires_at']:%Y-%m-%d}", icon=":material/event_busy:",
                color="orange" if over else "gray",
            )  # fmt: skip
        st.badge(f"version {lesson['version']}", color="gray")
        trust = lesson["trust"] or "model"
        st.badge(
            f"trust: {trust}", color="red" if trust == "untrusted" else "gray",
            help=_TRUST.get(trust, "Who its words come from."),
        )  # fmt: skip


def words_panel(lesson: dict[str, Any], now: datetime) -> None:
    """Title, state and scope, then when, not when, do and why. `lesson` is a row of `store.lessons.LESSONS`."""
    st.subheader(markdown_safe(lesson["title"]), anchor=False)
    badges(lesson, now)
    author = f", by {clean(lesson['author'])}" if lesson["origin"] != "contrast" or lesson["version"] > 1 else ""
    st.text(f"{scope_words(lesson)}  ({ORIGINS.get(lesson['origin'], lesson['origin'])}{author})")
    for label, column in (("When", "when_text"), ("Not when", "when_not"), ("Do", "do_text"), ("Why", "why")):
        if lesson[column]:
            with st.container(gap=None):
                st.caption(label)
                line(lesson[column])
    _taint(lesson["taint"])
    if lesson["state_reason"] and lesson["state"] != "active":
        with st.container(gap=None):
            st.caption(f"{lesson['state'].capitalize()} because")
            line(f"{lesson['state_reason']} ({lesson['state_by'] or 'trimtab'})")


def _taint(held: str | None) -> None:
    """Which words of the text stand in what users or tools said."""
    found = json.loads(held) if held else []
    if not found:
        return
    st.caption(f"{fmt.plural(len(found), 'passage')} of it stand{'s' if len(found) == 1 else ''} in a trace:")
    for one in found[:5]:
        st.text(f"{FIELDS.get(one.get('field'), 'Text')}: “{one_line(one.get('quote'), 200)}”")
