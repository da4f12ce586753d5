"""Operators' actions: who does it, what came of it, and one place where a page says so after the rerun."""

from collections.abc import Callable
from typing import Final

import streamlit as st

from dashboard.ui.text import markdown_safe
from store.errors import TrimtabError

__all__ = ["notice", "operator", "perform"]

_NOTICE: Final = "learn_notice"
_LOCAL: Final = "local operator"


def operator() -> str:
    """Who is signed in; without sign-in whoever can reach this machine's loopback address."""
    # Without sign-in Streamlit may still name a placeholder user.
    return str(st.user.get("email") or _LOCAL) if st.user.get("is_logged_in") else _LOCAL


def perform(work: Callable[[], str]) -> bool:
    """Do an action and keep its report, or why it was refused, for `notice`; returns whether it was done.

    Call in a callback: it runs as a whole before the page is drawn again.
    """
    try:
        report, done = work(), True
    except TrimtabError as refused:
        report, done = str(refused), False
    st.session_state[_NOTICE] = (done, report)
    return done


def notice() -> None:
    """Show what the last action did, once."""
    kept: tuple[bool, str] | None = st.session_state.pop(_NOTICE, None)
    if kept is None:
        return
    done, report = kept
    if done:
        st.success(markdown_safe(report), icon=":material/check:")
    else:
        st.warning(markdown_safe(report), icon=":material/block:")
