"""One finding in full: numbers on both sides with their intervals, and the subject's events around the change."""

from datetime import datetime
from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import charts, data
from dashboard.drift import asked, days, responding, words
from dashboard.drift.course import Change, course
from dashboard.drift.marks import Mark
from dashboard.ui import format as fmt
from dashboard.ui import states, text
from dashboard.ui.theme import Theme
from store import drift, interventions
from store.drift_events import WORDS

__all__ = ["change_of", "draw_events", "marks", "show"]

_BADGES: Final = {"better": ("changed for the better", "blue"), "worse": ("changed for the worse", "orange")}
_EVENTS: Final = 5_000


def show(row: dict[str, Any], theme: Theme, now: datetime) -> None:
    """A finding (`row` of `store.drift.FINDINGS`) with what is known about it."""
    with st.container(border=True):
        _head(row)
        _numbers(row)
        st.caption(_meaning(row))
        if row["explained_by"]:
            known = data.query(interventions.known).filter(intervention_id=row["explained_by"])
            title = known["title"][0] if known.height else row["explained_by"]
            text.line(f"It follows a known change, so nobody is alarmed: {text.one_line(title, 200)}")
        if row["level"] == "user":
            with states.guarded("The events", key="events"):
                draw_events(row["user_id"], row["metric"], theme, change=change_of(row), category=row["category"])
            with states.guarded("Suggested responses", key="responses"):
                responding.suggested(row, of="finding")
            with states.guarded("Responses so far", key="applied"):
                responding.applied(now=now, user_id=row["user_id"])
        elif words.known(row["metric"]) is not None and row["likelihood"] != "embedding":
            with states.guarded("The days", key="days"):
                days.draw(row, theme, change=change_of(row), marks=marks())


def draw_events(
    user_id: str, metric: str, theme: Theme, *, change: Change | None, category: str | None = None, key: str = "drift"
) -> None:
    """One user's values of a metric over time, with the change and what was done meanwhile; of texts their words."""
    if metric == WORDS:
        asked.draw(user_id, None if change is None else change.at, key=key)
        return
    events = data.query(drift.user_events, user_id, metric, limit=_EVENTS)
    if events.is_empty():
        states.nothing("No events", f"The store holds nothing of this user's {words.title(metric).lower()}.")
        return
    names = None
    if events["value"].null_count() == events.height:
        category = category or str(events["category"].mode().sort()[0])
        events = events.with_columns(value=(pl.col("category") == category).cast(pl.Float64))
        names = (text.plotly_safe(category, 40) or "(empty)", "another")
    elif events["value"].is_in([0.0, 1.0]).all():
        names = ("yes", "no")
    known = words.known(metric)
    axis = text.plotly_safe(words.title(metric)) + (
        f", {text.plotly_safe(words.unit(metric))}" if words.unit(metric) else ""
    )
    figure = course(
        events, theme, axis=axis, change=change, marks=marks(), names=names,
        logarithmic=known is not None and known.likelihood == "log",
    )  # fmt: skip
    st.plotly_chart(
        figure, key=f"{key}-events", config=charts.CONFIG,
        alt=f"{fmt.plural(events.height, 'event')} over time" + (" with the change point" if change else ""),
    )  # fmt: skip
    if events.height == _EVENTS:
        st.caption(f"The newest {_EVENTS:,} events.")


def change_of(row: dict[str, Any]) -> Change | None:
    """The change point of a finding for the figure; None where nothing was scanned."""
    if row["changed_at"] is None:
        return None
    return Change(
        row["changed_at"], row["changed_from"], row["changed_to"], row["before_mean"], row["after_mean"],
        row["flagged"],
    )  # fmt: skip


def marks() -> tuple[Mark, ...]:
    """What operators and agents did, as diamonds for the figure."""
    known = data.query(interventions.known)
    return tuple(Mark(moment, title) for moment, title in known.select("happened_at", "title").iter_rows())


def _head(row: dict[str, Any]) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.text(words.subject(row, 200), width="content")
        if row["flagged"]:
            label, colour = _BADGES.get(words.towards(row["metric"], row["effect"]), ("changed", "orange"))
            st.badge(label, icon=":material/timeline:", color=colour)  # type: ignore[arg-type]
        if row["level"] == "user":
            st.page_link(
                "views/users.py", label="This user", icon=":material/person:", query_params={"user": row["user_id"]}
            )
            st.page_link(
                "views/traces.py", label="Their traces", icon=":material/open_in_new:",
                query_params={"user": row["user_id"], "range": "all time"},
            )  # fmt: skip


def _numbers(row: dict[str, Any]) -> None:
    with st.grid(4, min_column_width=150, gap="small"):
        for label, value, detail in (
            ("before", words.number(row["before_mean"], row["metric"]), _n(row, "before")),
            ("after", words.number(row["after_mean"], row["metric"]), _n(row, "after")),
            ("change", words.effect(row["effect"], row["likelihood"]), words.effect_limits(row)),
            (
                "changed at" if row["flagged"] else "likeliest split",
                f"{row['changed_at']:%Y-%m-%d}" if row["changed_at"] else fmt.NONE,
                _between(row),
            ),
        ):
            with st.container(gap="xsmall"):
                st.metric(label, value)
                st.caption(detail)


def _meaning(row: dict[str, Any]) -> str:
    known = words.known(row["metric"])
    meaning = "" if known is None else f" {known.meaning[:1].upper()}{known.meaning[1:].rstrip('.')}."
    named = f"{words.title(row['metric'])}{'' if known is None else f' ({known.unit})'}."
    said = text.markdown_safe(f"{named}{meaning}")
    matters = "" if row["practical"] is None else f" Larger than is practical: {fmt.percent(row['practical'])}."
    return (
        f"{said} p {words.p(row['p_value'])}, q {words.p(row['q_value'])}, n {row['events']:,}"
        + (f" of {row['events_total']:,}" if row["events_total"] and row["events_total"] > row["events"] else "")
        + f", {row['likelihood']} likelihood. {_compared(row)}{matters}"
    )


def _compared(row: dict[str, Any]) -> str:
    if row["likelihood"] == "embedding":
        return "What everybody asked about at the time is taken off first. A change of texts has no size in a unit."
    return (
        "The change is shrunk towards none and is against what was expected of everybody at the time; the means are as "
        "seen."
    )


def _n(row: dict[str, Any], side: str) -> str:
    n = row[f"{side}_n"]
    return fmt.NONE if n is None else f"n {n:,}{words.counted(row)}"


def _between(row: dict[str, Any]) -> str:
    begin, end = row["changed_from"], row["changed_to"]
    if begin is None or end is None:
        return fmt.NONE
    return f"{begin:%Y-%m-%d} to {end:%Y-%m-%d}" if begin.date() != end.date() else f"{begin:%H:%M} to {end:%H:%M} UTC"
