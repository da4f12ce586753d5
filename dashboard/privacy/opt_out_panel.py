"""Whom nothing is learnt from: the operators' list, and how many said so themselves."""

import polars as pl
import streamlit as st

from dashboard import data, runtime
from dashboard.access import offer
from dashboard.learn import tables
from dashboard.learn.actions import operator, perform
from dashboard.ui import export
from dashboard.ui import format as fmt
from dashboard.ui.text import one_line
from store import learning, never_explore

__all__ = ["draw"]


def draw() -> None:
    """The list and the forms that change it."""
    st.markdown("**Opting out**")
    unwilling, unexplored = data.query(learning.unwilling), data.query(never_explore.opted_out)
    st.caption(
        f"Nothing is learnt from {fmt.plural(len(unwilling), 'user')} (learning_opt_out in the metadata of their "
        f"traces, or listed here), and {fmt.plural(len(unexplored), 'user')} said they are not to be explored with "
        "(exploration_opt_out; the list of operators is on the page Exploration)."
    )
    held = data.query(learning.listed)
    left, right = st.columns([3, 2], gap="large")
    with left:
        if held.is_empty():
            st.caption("Operators have listed nobody.")
        else:
            _table(held)
            _remove(held)
    with right, st.form("learning_form", clear_on_submit=False):
        st.text_input("User id", key="learning_user", max_chars=2_000)
        st.text_input("Reason", key="learning_reason", max_chars=300)
        offer.submit("Learn nothing from them", role="admin", key="learning_add", on_click=_added)


def _table(held: pl.DataFrame) -> None:
    export.table(
        "opt outs",
        pl.DataFrame(
            {
                "user": [one_line(name, 120) for name in held["user_id"]],
                "reason": [one_line(text, 300) for text in held["reason"]],
                "by": [one_line(name, 120) for name in held["set_by"]], "since": held["set_at"],
            }
        ),
        hide_index=True, height=tables.height(held.height), alt=f"{held.height} users whom nothing is learnt from",
        column_config=fmt.columns({
            "since": st.column_config.DatetimeColumn("since (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC")
        }),
    )  # fmt: skip


def _remove(held: pl.DataFrame) -> None:
    names = held["user_id"].to_list()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox(
            "Take off the list", range(len(names)), index=None, key="learning_chosen", placeholder="Choose a user",
            format_func=lambda place: one_line(names[place], 80),
        )  # fmt: skip
        offer.button(
            "Learn from them again", role="admin", key="learning_remove", disabled=chosen is None, on_click=_removed,
            args=(names[chosen] if chosen is not None else "",),
        )  # fmt: skip


def _added() -> None:
    user, reason = str(st.session_state["learning_user"]).strip(), str(st.session_state["learning_reason"])

    def work() -> str:
        learning.add(runtime.current().store, user, reason=reason, by=operator())
        return "Nothing is learnt from them from the next fits on; what was worked out of them is deleted."

    perform(work, role="admin")


def _removed(user: str) -> None:
    def work() -> str:
        learning.remove(runtime.current().store, user, by=operator())
        return "They are learnt from again, from the next fits on."

    perform(work, role="admin")
