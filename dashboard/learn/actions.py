"""Operators' actions: who does it, what came of it, and one place where a page says so after the rerun."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import streamlit as st

from dashboard.access.actor import Role, actor, permit
from dashboard.ui.text import markdown_safe
from store.errors import TrimtabError

__all__ = ["LEGIBLE", "Report", "heading", "notice", "operator", "perform", "show_report"]

LEGIBLE: Final = 3.0  # seconds
_LINE: Final = 52  # pixels
_NOTICE: Final = "learn_notice"
_ACTION: Final = "This action"


@dataclass(frozen=True)
class Report:
    """What an action did, or why it was refused.

    `shown` is the monotonic second in which a page first said so, `called` whether a part of one has asked for that.
    """

    done: bool
    text: str
    shown: float | None = None
    called: bool = False


def operator() -> str:
    """Who acts, as the audit log names them: an address, or the local operator where there is no sign-in."""
    return actor().email


def perform(work: Callable[[], str], *, role: Role = "reviewer") -> bool:
    """Do an action and keep its report, or why it was refused, for `notice`; returns whether it was done.

    Call in a callback: it runs as a whole before the page is drawn again. Whoever does not hold the `role` (or a
    higher one) at this moment is refused, and `work` is not called.
    """
    try:
        permit(role, _ACTION)
        report, done = work(), True
    except TrimtabError as refused:
        report, done = str(refused), False
    st.session_state[_NOTICE] = Report(done, report)
    return done


def heading(title: str, *, help: str | None = None) -> None:
    """The title of a page, and beside it what the last action did: nothing below moves when that comes or goes."""
    with st.container(key="heading", horizontal=True, vertical_alignment="center"):
        st.title(title, anchor=False, help=help, width="content")
        notice()
        # As high as a report of one line, also while there is none.
        st.container(key="heading-strut", height=_LINE, width=1, border=False)


def show_report() -> None:
    """In a part that is drawn by itself: draw the whole page when its heading has a report to show."""
    kept: Report | None = st.session_state.get(_NOTICE)
    # Once: a page without a heading would be drawn for ever.
    if kept is not None and kept.shown is None and not kept.called:
        st.session_state[_NOTICE] = replace(kept, called=True)
        st.rerun()


def notice() -> None:
    """Show what the last action did.

    Each run of a page ends whatever an earlier one was drawing, and one may follow at once by itself: what was shown
    for less than `LEGIBLE` seconds is shown again, so that an operator reads it.
    """
    kept: Report | None = st.session_state.get(_NOTICE)
    if kept is None:
        return
    now = time.monotonic()
    if kept.shown is None:
        st.session_state[_NOTICE] = replace(kept, shown=now)
    elif now - kept.shown > LEGIBLE:
        del st.session_state[_NOTICE]
        return
    if kept.done:
        st.success(markdown_safe(kept.text), icon=":material/check:")
    else:
        st.warning(markdown_safe(kept.text), icon=":material/block:")
