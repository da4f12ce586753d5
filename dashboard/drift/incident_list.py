"""Incidents: the list, those that wait first; choosing one opens it."""

from datetime import datetime
from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import data
from dashboard.drift import words
from dashboard.learn import tables
from dashboard.ui import export, states
from dashboard.ui import format as fmt
from dashboard.ui.text import one_line
from store import incidents
from store.incidents import State

__all__ = ["CHOSEN", "open_incident", "rows", "show"]

CHOSEN: Final = "incident"
_MOST: Final = 500


def show(now: datetime) -> None:
    """The incidents in one state, or in all."""
    counts = data.query(incidents.count)
    if not sum(counts.values()):
        states.nothing(
            "No incident so far",
            "When more than a twentieth of a segment's users change in one run, or everybody does, that is one "
            "incident with a suspected cause, and not a finding a user. What follows a known change raises none.",
        )
        return
    state = st.segmented_control(
        "State", list(incidents.STATES), key="incident_state", bind="query-params", label_visibility="collapsed",
        format_func=lambda name: f"{name} {counts[name]:,}",
    )  # fmt: skip
    named: State | None = next((each for each in incidents.STATES if each == state), None)
    frame = data.query(incidents.listed, state=named, limit=_MOST)
    if frame.is_empty():
        states.nothing("No incident in this state", "Choose another state.")
        return
    event: Any = st.dataframe(
        rows(frame, now), key="incidents", hide_index=True, on_select="rerun", selection_mode="single-row",
        height=tables.height(frame.height), placeholder="", alt=f"{frame.height} incidents, those that wait first",
        column_config=fmt.columns({
            "incident": st.column_config.TextColumn(pinned=True, width=270),
            "state": st.column_config.TextColumn(width=110),
            "cause": st.column_config.TextColumn("suspected cause", width=120),
            "moved": st.column_config.TextColumn("what moved, first first", width=220),
            "changed": st.column_config.DatetimeColumn(
                "changed at (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC", width=130
            ),
            "users": st.column_config.TextColumn("users flagged alone", width=130),
            "opened": st.column_config.TextColumn(width=90), "seen": st.column_config.TextColumn("last seen", width=90),
            "reopened": st.column_config.NumberColumn(width=76),
        }),
    )  # fmt: skip
    st.caption("Select a row to open an incident.")
    export.download(frame, "incidents", "incidents-export")
    chosen = event["selection"]["rows"]
    if chosen and chosen[0] < frame.height:
        open_incident(frame["incident_id"][chosen[0]])
        st.rerun()


def rows(frame: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Rows of `store.incidents.INCIDENTS` as the table shows them."""
    return pl.DataFrame(
        [
            {
                "incident": one_line(row["title"], 160), "state": row["state"], "cause": one_line(row["cause"], 40),
                "moved": ", ".join(words.title(metric) for metric in row["metrics"][:6]),
                "changed": row["changed_at"], "users": f"{row['users']:,} of {row['scanned']:,}",
                "opened": fmt.relative(row["opened_at"], now), "seen": fmt.relative(row["last_seen_at"], now),
                "reopened": row["reopened"],
            }
            for row in frame.to_dicts()
        ],
        schema_overrides={"changed": frame.schema["changed_at"]},
    )  # fmt: skip


def open_incident(incident_id: str | None) -> None:
    """Go to an incident on this page, or back to the list."""
    if incident_id is None:
        st.query_params.pop(CHOSEN, None)
    else:
        st.query_params[CHOSEN] = incident_id
