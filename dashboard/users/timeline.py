"""One user's course: a metric over time with its change point and what was done, and every metric before and after."""

from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import data
from dashboard.drift import finding, findings, incident_list, words
from dashboard.learn import tables
from dashboard.ui import export, states, text
from dashboard.ui.theme import Theme
from store import drift, user_history

__all__ = ["before_and_after", "course", "show"]

_MOST: Final = 200


def show(user_id: str, theme: Theme) -> None:
    """The course of one metric, chosen in the address, and the table of all that were scanned."""
    run = data.query(drift.latest_run)
    if run is None:
        states.nothing(
            "No drift scan yet",
            "The drift job looks for changes in what every user does, says and gets. It runs by itself when data "
            "arrives.",
        )
        return
    own = data.query(drift.findings, user_id=user_id, level="user", limit=_MOST)
    course(user_id, own, run, theme)
    _incidents(user_id)
    before_and_after(user_id, own)


def course(user_id: str, own: pl.DataFrame, run: dict[str, Any], theme: Theme) -> None:
    """One metric over time (`own` of `store.drift.FINDINGS`, the surest first)."""
    measured = data.query(drift.measured).filter(level="user")["metric"].to_list()
    scanned = own.sort("flagged", descending=True, maintain_order=True)["metric"].to_list()
    metrics = [*scanned, *(name for name in measured if name not in scanned)]
    if not metrics:
        states.nothing("Nothing was measured", "The newest drift run found no values of any user.")
        return
    metric = st.selectbox(
        "Metric", metrics, key="metric", bind="query-params", width=260,
        help="Those that changed first, then those that were scanned",
    )  # fmt: skip
    metric = metric if metric in metrics else metrics[0]
    of_metric = own.filter(metric=metric)
    row = of_metric.row(0, named=True) if of_metric.height else None
    if row is None:
        st.caption(f"Not scanned: {words.title(metric)} needs {run['min_events']} events of this user or more.")
    elif not row["flagged"]:
        st.caption(f"No change is seen (p {words.p(row['p_value'])}, n {row['events']:,}).")
    change = finding.change_of(row) if row is not None and row["flagged"] else None
    finding.draw_events(
        user_id, metric, theme, change=change, category=None if row is None else row["category"], key="user"
    )


def _incidents(user_id: str) -> None:
    """The incidents that explain findings of this user."""
    for row in data.query(user_history.incidents, user_id).iter_rows(named=True):
        with st.container(horizontal=True, vertical_alignment="center", key=f"of-{row['incident_id']}"):
            st.badge(f"incident, {row['state']}", color="gray" if row["state"] == "resolved" else "orange")
            st.text(text.one_line(row["title"], 160), width="content")
            st.page_link(
                "views/drift.py", label="Open", icon=":material/open_in_new:",
                query_params={incident_list.CHOSEN: row["incident_id"]},
            )  # fmt: skip


def before_and_after(user_id: str, own: pl.DataFrame) -> None:
    """Every metric that was scanned of this user, with its means around the likeliest change."""
    st.subheader("Before and after", anchor=False)
    if own.is_empty():
        states.nothing("Nothing was scanned of this user", "They have too few events of every metric.")
        return
    shown = findings.rows(own.sort("flagged", descending=True, maintain_order=True)).drop("who")
    st.dataframe(
        shown, hide_index=True, height=tables.height(shown.height), key="user-before-after", placeholder="",
        alt=f"{shown.height} metrics of this user with their means before and after", column_config=findings.COLUMNS,
    )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="center"):
        st.page_link(
            "views/drift.py", label="On the Drift page", icon=":material/timeline:",
            query_params={findings.USER: user_id},
        )  # fmt: skip
    export.download(own, f"drift of {user_id}", "user-drift-export")
