"""One incident: what is suspected and why, what moved first, who is affected, what became of it, what to do."""

from datetime import datetime
from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import charts, data
from dashboard.drift import cause, incident_actions, incident_list, noting, responding, words
from dashboard.drift.incident_figure import moved_first
from dashboard.learn import tables
from dashboard.ui import export, states, text
from dashboard.ui import format as fmt
from dashboard.ui.theme import Theme
from pipelines.stats.proportion import wilson_interval
from store import incidents, interventions

__all__ = ["PAGE_SIZE", "back", "show"]

PAGE_SIZE: Final = 100
_WHOLE_HISTORY: Final = 4
_HISTORY_PIXELS: Final = 480
_STATE_COLOURS: Final = {"open": "red", "acknowledged": "orange", "resolved": "green"}


def show(incident_id: str, theme: Theme, now: datetime) -> None:
    """Everything about one incident. Raises: `NotFound`."""
    found = data.query(incidents.one, incident_id)
    _head(found, now)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        st.subheader("Suspected cause", anchor=False)
        cause.show(found)
    with right:
        st.subheader("What to do", anchor=False)
        incident_actions.show(found)
        with states.guarded("Suggested responses", key="responses"):
            responding.suggested(found, of="incident")
        with states.guarded("The history", key="history"):
            _history(incident_id)
    with states.guarded("What moved first", key="moved"):
        _moved(incident_id, theme)
    with states.guarded("Affected users", key="affected"):
        _affected(found)
    with states.guarded("Responses in force", key="applied"):
        responding.applied(incident_id=incident_id, now=now)
    noting.show(now, agent=found["agent"], segment=found["segment"])


def back() -> None:
    """The way back to the list."""
    st.button(
        "All of Drift", icon=":material/arrow_back:", key="all-incidents", type="tertiary",
        on_click=incident_list.open_incident, args=(None,),
    )  # fmt: skip


def _head(found: dict[str, Any], now: datetime) -> None:
    with st.container(horizontal=True, vertical_alignment="center", key="incident-head"):
        st.text(text.one_line(found["title"], 300), width="content")
        st.badge(found["state"], color=_STATE_COLOURS.get(found["state"], "gray"))  # type: ignore[arg-type]
    where = [text.one_line(found[name], 60) for name in ("agent", "segment") if found[name]]
    scope = " and ".join(where) if where else "All agents and users"
    affected = ""
    if found["scanned"] and not found["users"]:
        affected = f"None of {fmt.plural(found['scanned'], 'user')} was flagged alone. "
    elif found["scanned"]:
        share = found["users"] / found["scanned"]
        affected = (
            f"{found['users']:,} of {fmt.plural(found['scanned'], 'user')} flagged, {fmt.percent(share)}"
            + (
                f" ({fmt.interval_percent(wilson_interval(found['users'], found['scanned']))})"
                if found["scanned"] >= fmt.MINIMUM_RATE
                else ""
            )
            + ". "
        )
    st.text(
        f"{scope}. {affected}Changed {fmt.when(found['changed_at'], seconds=False)} "
        f"({found['changed_from']:%Y-%m-%d} to {found['changed_to']:%Y-%m-%d})."
    )
    again = f", reopened {fmt.plural(found['reopened'], 'time')}" if found["reopened"] else ""
    st.caption(
        f"Opened {fmt.relative(found['opened_at'], now)}{again}; the newest run that still saw it: "
        f"{fmt.relative(found['last_seen_at'], now)}."
    )


def _moved(incident_id: str, theme: Theme) -> None:
    frame = data.query(incidents.moved, incident_id)
    if frame.is_empty():
        return
    st.subheader("What moved first", anchor=False)
    known = data.query(interventions.known)
    st.plotly_chart(
        moved_first(frame, theme, marks=tuple(known.select("happened_at", "title").iter_rows())),
        key="incident-moved", config=charts.CONFIG, alt=f"{frame.height} metrics in the order in which they moved",
    )  # fmt: skip
    rows = [
        {
            "metric": words.title(row["metric"]), "direction": row["direction"],
            "at": row["moved_at"], "users": row["users"],
            "before": words.mean(row["before_mean"], row["before_n"], row["metric"]),
            "after": words.mean(row["after_mean"], row["after_n"], row["metric"]),
        }
        for row in frame.to_dicts()
    ]  # fmt: skip
    export.table(
        "metrics of the incident",
        pl.DataFrame(rows, schema_overrides={"at": frame.schema["moved_at"]}), hide_index=True, key="incident-metrics",
        height=tables.height(frame.height), alt=f"{frame.height} metrics with their means before and after",
        column_config=fmt.columns({
            "at": st.column_config.DatetimeColumn("moved at (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC"),
            "users": st.column_config.NumberColumn(format="localized"),
        }),
    )  # fmt: skip
    st.caption(
        "Middle of the users' change points, the line from the first to the third quarter of them. Diamonds: what was "
        "done. What moves first may be a cause; what moves later can hardly be."
    )


def _affected(found: dict[str, Any]) -> None:
    st.subheader("Who is affected", anchor=False)
    first = data.query(incidents.findings, found["incident_id"], limit=PAGE_SIZE + 1)
    more = first.height > PAGE_SIZE
    slot = st.container()
    place = 1
    if more:
        # Findings are at most one a user and metric.
        pages = max(2, -(-found["users"] * max(1, len(found["metrics"])) // PAGE_SIZE))
        place = min(max(1, st.pagination(pages, key="affected_page")), pages)
    frame = first.head(PAGE_SIZE)
    if place > 1:
        frame = data.query(incidents.findings, found["incident_id"], limit=PAGE_SIZE, offset=(place - 1) * PAGE_SIZE)
    with slot:
        if frame.is_empty():
            states.nothing("No more findings", "Go back a page.")
            return
        _affected_table(frame)
    export.download(frame, f"incident {found['incident_id']}", "affected-export")


def _affected_table(frame: pl.DataFrame) -> None:
    rows = [
        {
            "who": words.subject(row), "metric": words.title(row["metric"]), "changed": row["changed_at"],
            "before": words.mean(row["before_mean"], row["before_n"], row["metric"], words.counted(row)),
            "after": words.mean(row["after_mean"], row["after_n"], row["metric"], words.counted(row)),
            "q": words.p(row["q_value"]),
        }
        for row in frame.to_dicts()
    ]  # fmt: skip
    event: Any = st.dataframe(
        pl.DataFrame(rows, schema_overrides={"changed": frame.schema["changed_at"]}), hide_index=True,
        height=tables.height(frame.height), key="incident-affected", on_select="rerun", selection_mode="single-row",
        alt=f"{frame.height} findings of this incident, the largest effects first",
        column_config=fmt.columns({
            "who": st.column_config.TextColumn(pinned=True, width=190),
            "changed": st.column_config.DatetimeColumn("changed at (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC"),
        }),
    )  # fmt: skip
    chosen = event["selection"]["rows"]
    if chosen and chosen[0] < frame.height and frame["user_id"][chosen[0]] is not None:
        st.page_link(
            "views/users.py", label="Open this user", icon=":material/person:",
            query_params={"user": frame["user_id"][chosen[0]]},
        )  # fmt: skip
    else:
        st.caption("Everybody and segments come first, then users by the size of the change. Select a row to open one.")


def _history(incident_id: str) -> None:
    st.subheader("History", anchor=False)
    events = data.query(incidents.events, incident_id).sort("sequence", descending=True)
    with st.container(height=_HISTORY_PIXELS if events.height > _WHOLE_HISTORY else "content", border=False):
        for row in events.iter_rows(named=True):
            with st.container(border=True, gap="xsmall"):
                with st.container(horizontal=True, vertical_alignment="center"):
                    st.badge(row["kind"], color="gray")
                    st.text(text.one_line(row["actor"], 80), width="content")
                    st.caption(fmt.when(row["occurred_at"], seconds=False), width="content")
                text.line(row["text"][:2_000])
