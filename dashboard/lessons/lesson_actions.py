"""What can be done with one lesson of the library, by its state: promote, demote, pause, resume, retire, edit, undo."""

from collections.abc import Callable
from typing import Any, Final

import streamlit as st

from dashboard import runtime
from dashboard.access import offer
from dashboard.learn.actions import operator, perform
from dashboard.lessons import editing
from dashboard.lessons.findings import standing
from dashboard.lessons.reports import report
from pipelines.lessons import review
from store.lesson_changes import ALLOWED
from store.lesson_reviews import MAX_CHARACTERS, Reviewed

__all__ = ["panel", "undo_button"]

_OPEN: Final = "library_editing"
# action, label, icon, what it does, whether it needs a reason
_ACTIONS: Final = (
    ("promote", "Promote to active", "trending_up", "It is withheld from fewer decisions from now on.", False),
    ("pause", "Pause", "pause", "Agents stop getting it at once; its state stays, and Resume takes it back.", True),
    ("resume", "Resume", "play_arrow", "Agents get it again.", False),
    ("demote", "Back to canary", "trending_down", "It is withheld from more decisions, to measure it better.", True),
    ("retire", "Retire", "archive", "Agents stop getting it. It is kept, is not proposed again, can be undone.", False),
)


def panel(lesson: dict[str, Any]) -> None:
    """The actions that the state of a lesson (a row of `store.lessons.LESSONS`) allows."""
    with st.container(horizontal=True):
        if lesson["state"] in ALLOWED["approve"]:
            st.page_link(
                "views/review.py", label="Decide in Review", icon=":material/rate_review:",
                query_params={"lesson": lesson["lesson_id"]},
            )  # fmt: skip
        for action, label, icon, says, needs in _ACTIONS:
            if _offered(action, lesson):
                _form(lesson, action, label, icon, says, needs)
        if lesson["state"] in ALLOWED["edit"]:
            offer.button(
                "Edit", key="library_edit", icon=":material/edit:", on_click=_open, args=(lesson["lesson_id"],)
            )
    if st.session_state.get(_OPEN) == lesson["lesson_id"]:
        editing.form(lesson, _close)


def undo_button(lesson_id: str, sequence: int) -> None:
    """Take back the last review of the lesson."""
    offer.button(
        "Undo the last review", key="undo_review", icon=":material/undo:", on_click=_undo, args=(lesson_id, sequence)
    )


def _offered(action: str, lesson: dict[str, Any]) -> bool:
    if lesson["state"] not in ALLOWED[action]:
        return False
    paused = lesson["paused"] is not None
    if action in ("pause", "resume"):
        return paused == (action == "resume")
    return not (action == "demote" and lesson["state"] == "canary")


def _form(lesson: dict[str, Any], action: str, label: str, icon: str, says: str, needs: bool) -> None:
    blocked = action in ("promote", "resume") and standing(lesson) > 0
    with st.popover(label, icon=f":material/{icon}:"), st.form(f"{action}_form", border=False):
        st.caption("Lint blocks it: edit the text or override what it found." if blocked else says)
        st.text_area("Why?" if needs else "Why? (optional)", key=f"{action}_reason", max_chars=MAX_CHARACTERS)
        offer.submit(
            label, type="primary", icon=f":material/{icon}:", key=f"{action}_confirm", disabled=blocked,
            on_click=_do, args=(lesson, action),
        )  # fmt: skip


def _do(lesson: dict[str, Any], action: str) -> None:
    store, identity, version = runtime.current().store, lesson["lesson_id"], lesson["version"]
    reason, who = str(st.session_state[f"{action}_reason"]), operator()
    work: dict[str, Callable[[], Reviewed]] = {
        "promote": lambda: review.promote(store, identity, version=version, operator=who, reason=reason or None),
        "pause": lambda: review.pause(store, identity, version=version, operator=who, reason=reason),
        "resume": lambda: review.resume(store, identity, version=version, operator=who, reason=reason or None),
        "demote": lambda: review.demote(store, identity, version=version, to="canary", operator=who, reason=reason),
        "retire": lambda: review.retire(store, identity, version=version, operator=who, reason=reason or None),
    }
    perform(lambda: report(work[action]()))


def _undo(lesson_id: str, sequence: int) -> None:
    store = runtime.current().store
    perform(lambda: report(review.undo(store, lesson_id, sequence=sequence, operator=operator())))


def _open(lesson_id: str) -> None:
    st.session_state[_OPEN] = lesson_id


def _close() -> None:
    st.session_state.pop(_OPEN, None)
