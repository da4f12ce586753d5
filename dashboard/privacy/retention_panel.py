"""How long things are kept: rules by kind and source, what they would delete now, what was deleted."""

from typing import Final

import polars as pl
import streamlit as st

from dashboard import data, runtime
from dashboard.access import offer
from dashboard.learn import tables
from dashboard.learn.actions import operator, perform
from dashboard.ui import export
from dashboard.ui import format as fmt
from dashboard.ui.text import one_line
from store import retention
from store.retention import EVERY_SOURCE, KINDS

__all__ = ["draw"]

_MEANING: Final = {
    "traces": "traces with their spans, signals and rewards", "signals": "signals that belong to no trace",
    "decisions": "decisions and the lessons shown", "rejects": "raw texts of rejected records",
    "answers": "kept answers of the language model", "notices": "notices that are closed, and their deliveries",
}  # fmt: skip


def draw() -> None:
    """The rules with what is due, and the form that sets them."""
    st.markdown("**Retention**")
    st.caption("The job Retention deletes what is older. Without a rule things are kept for ever.")
    left, right = st.columns([3, 2], gap="large")
    with left:
        _rules()
        _due()
        _removed()
    with right:
        _form()


def _rules() -> None:
    held = data.fresh(retention.rules)
    if held.is_empty():
        st.caption("Everything is kept for ever.")
        return
    export.table(
        "retention rules",
        pl.DataFrame(
            {
                "what": held["what"], "source": [one_line(name, 120) for name in held["source"]],
                "days": held["days"], "by": [one_line(name, 120) for name in held["set_by"]], "since": held["set_at"],
            }
        ),
        hide_index=True, height=tables.height(held.height), alt=f"{held.height} rules of retention",
        placeholder="for ever",
        column_config=fmt.columns({
            "since": st.column_config.DatetimeColumn("since (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC")
        }),
    )  # fmt: skip


def _due() -> None:
    # By the hour, so that the next run asks the same.
    hour = runtime.current().clock.now().replace(minute=0, second=0, microsecond=0)
    due = data.query(retention.foreseen, hour).filter(pl.col("due") > 0)
    if due.is_empty():
        return
    st.caption("Would be deleted now:")
    export.table(
        "due for deletion", due.with_columns(pl.Series("source", [one_line(name, 120) for name in due["source"]])),
        hide_index=True, height=tables.height(due.height), alt=f"What {due.height} rules would delete now",
        column_config=fmt.columns({
            "due": st.column_config.NumberColumn("rows", format="localized"),
            "oldest": st.column_config.DatetimeColumn("oldest (UTC)", format="YYYY-MM-DD", timezone="UTC"),
        }),
    )  # fmt: skip


def _removed() -> None:
    totals = data.fresh(retention.removed)
    if totals["traces"] or totals["spans"] or totals["signals"]:
        st.caption(
            f"Deleted so far, by age or on request: {fmt.plural(totals['traces'], 'trace')}, "
            f"{fmt.plural(totals['spans'], 'span')}, {fmt.plural(totals['signals'], 'signal')}."
        )


def _form() -> None:
    with st.form("retention_form", clear_on_submit=False):
        st.selectbox("Keep", list(KINDS), key="retention_what", format_func=lambda what: f"{what}: {_MEANING[what]}")
        st.text_input("Of source", EVERY_SOURCE, key="retention_source", max_chars=200, help="* is every other one")
        st.number_input("For so many days", 0, 36_500, 0, key="retention_days", help="0: for ever")
        offer.submit("Set", role="admin", type="primary", key="retention_set", on_click=_set)


def _set() -> None:
    read = st.session_state
    what, source, days = read["retention_what"], str(read["retention_source"]).strip(), int(read["retention_days"])

    def work() -> str:
        retention.put(runtime.current().store, what, source, days or None, by=operator())
        return f"{what} of source {source} are kept for {f'{days:,} days' if days else 'ever'}."

    perform(work, role="admin")
