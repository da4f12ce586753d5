"""Deciding on a proposed lesson: approve as canary or active, reject, send back, edit, skip. Everything has a key."""

from collections.abc import Callable
from typing import Any, Final, Literal

import streamlit as st

from dashboard import data, runtime
from dashboard.access import offer
from dashboard.learn.actions import operator, perform
from dashboard.lessons import editing
from dashboard.lessons.findings import standing
from dashboard.lessons.reports import report
from dashboard.lessons.waiting import go
from dashboard.ui import format as fmt
from dashboard.ui.focus import take_focus
from dashboard.ui.text import markdown_safe
from pipelines.lessons import review
from store import lesson_settings
from store.lesson_reviews import MAX_CHARACTERS, Reviewed

__all__ = ["decision"]

_OPEN: Final = "review_open"
_ASKS: Final = {
    "reject": ("Why is it rejected?", "It is not proposed again. Ctrl+Enter rejects."),
    "send_back": ("What should be different?", "It waits as sent back until somebody edits it. Ctrl+Enter sends it."),
}


def decision(lesson: dict[str, Any], ids: list[str], place: int) -> None:
    """The buttons for a lesson of the queue (a row of `store.lessons.LESSONS`); a form opens below them."""
    following = ids[place + 1] if place + 1 < len(ids) else ids[0]
    blocked = standing(lesson)
    rules = data.query(lesson_settings.of, lesson["agent"])
    why_not = f"Lint blocks it: {fmt.plural(blocked, 'finding')} to edit away or override" if blocked else None
    with st.container(horizontal=True):
        offer.button(
            "Approve as canary", key="approve", type="primary", icon=":material/check:", shortcut="A",
            disabled=bool(blocked), on_click=_approve, args=(lesson, following, "canary"),
            help=why_not or f"Served, and withheld from {fmt.percent(rules.canary_holdout)} of decisions to compare.",
        )  # fmt: skip
        offer.button(
            "Active", key="approve_active", icon=":material/done_all:", shortcut="Shift+A", disabled=bool(blocked),
            on_click=_approve, args=(lesson, following, "active"),
            help=why_not or f"Served, and withheld from {fmt.percent(rules.active_holdout)} of decisions to compare.",
        )  # fmt: skip
        for label, action, icon, shortcut in (
            ("Edit", "edit", "edit", "E"), ("Send back", "send_back", "undo", "B"), ("Reject", "reject", "close", "X"),
        ):  # fmt: skip
            offer.button(
                label, key=action, icon=f":material/{icon}:", shortcut=shortcut, on_click=_open,
                args=(action, lesson["lesson_id"]),
            )  # fmt: skip
        st.button(
            "Skip", key="skip", icon=":material/skip_next:", shortcut="S", disabled=len(ids) < 2,
            on_click=go, args=(following,),
        )  # fmt: skip
    if lesson["state"] == "approved":
        st.caption(
            f"Approved once, by {markdown_safe(lesson['state_by'] or 'somebody')}; a second person has to approve it."
        )
    elif rules.two_person:
        st.caption("Two persons have to approve a lesson of this agent.")
    opened = st.session_state.get(_OPEN)
    if opened == ("edit", lesson["lesson_id"]):
        editing.form(lesson, close)
    elif opened is not None and opened[1] == lesson["lesson_id"]:
        _reason_form(lesson, opened[0], following)


def close() -> None:
    """Close whatever form is open."""
    st.session_state.pop(_OPEN, None)


def _reason_form(lesson: dict[str, Any], action: str, following: str) -> None:
    question, hint = _ASKS[action]
    with st.form(f"{action}_form"):
        st.text_area(question, key=f"{action}_reason", max_chars=MAX_CHARACTERS, placeholder=hint)
        with st.container(horizontal=True):
            offer.submit(
                "Send back" if action == "send_back" else "Reject", type="primary", key=f"{action}_confirm",
                on_click=_with_reason, args=(lesson, action, following),
            )  # fmt: skip
            st.form_submit_button("Cancel", key=f"{action}_cancel", on_click=close)
            take_focus(f"{action}_reason")


def _open(action: str, lesson_id: str) -> None:
    st.session_state[_OPEN] = (action, lesson_id)


def _with_reason(lesson: dict[str, Any], action: str, following: str) -> None:
    reason = str(st.session_state[f"{action}_reason"])
    work = review.reject if action == "reject" else review.send_back
    _do(
        lambda: work(
            runtime.current().store, lesson["lesson_id"], version=lesson["version"], operator=operator(), reason=reason
        ),
        following,
    )


def _approve(lesson: dict[str, Any], following: str, to: Literal["canary", "active"]) -> None:
    _do(
        lambda: review.approve(
            runtime.current().store, lesson["lesson_id"], version=lesson["version"], operator=operator(), to=to
        ),
        following,
    )


def _do(work: Callable[[], Reviewed], following: str) -> None:
    if perform(lambda: report(work())):
        close()
        go(following)
