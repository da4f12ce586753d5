"""Operators' actions: who does it, what came of it, and one place where a page says so after the rerun."""

from collections.abc import Callable
from typing import Final

import streamlit as st

from dashboard.access.actor import Role, actor, permit
from dashboard.ui.text import markdown_safe
from store.errors import TrimtabError

__all__ = ["notice", "operator", "perform"]

_NOTICE: Final = "learn_notice"
_ACTION: Final = "This action"


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
