"""Why a request got, or did not get, each lesson: by the decision's id or by its trace."""

from typing import Final

import polars as pl
import streamlit as st

from dashboard import data
from dashboard.learn import tables
from dashboard.ui import export, states
from dashboard.ui import format as fmt
from dashboard.ui.text import clean, one_line
from pipelines.lessons.serving import why
from pipelines.lessons.serving.why import Explained
from store import decisions, traces
from store.errors import NotFound

__all__ = ["panel"]

_RECENT: Final = 20
_ASKED: Final = "decision"
_TABLE: Final = "why_latest"
_ICONS: Final = {"served": ":material/check_circle:", "withheld": ":material/shuffle:"}


def panel(agents: tuple[str, ...]) -> None:
    """A field for an id, the latest decisions to choose from, and the answer."""
    asked = st.text_input(
        "Decision or trace", key=_ASKED, bind="query-params", placeholder="the id of a decision or of a trace",
        max_chars=512,
    )  # fmt: skip
    if not asked.strip():
        _latest(agents)
        return
    st.button("Show the latest decisions", key="why_clear", icon=":material/arrow_back:", on_click=_clear)
    with states.guarded("The decision", key="why"):
        found = _explained(asked.strip())
        if found is None:
            states.nothing("No such decision", "Neither a decision nor a trace with a decision has this id.")
            return
        _answer(found)


def _explained(asked: str) -> Explained | None:
    """The answer for a decision's id, else for the decision that a trace names."""
    for identity in (asked, _decision_of(asked)):
        if identity is not None:
            try:
                return data.fresh(why.why, identity)
            except NotFound:
                continue
    return None


def _decision_of(trace_id: str) -> str | None:
    try:
        found = data.query(traces.one, trace_id).row(0, named=True).get("decision_id")
    except NotFound:
        return None
    return str(found) if found else None


def _answer(found: Explained) -> None:
    served = [reason for reason in found.reasons if reason.outcome == "served"]
    book = f"playbook version {found.playbook_version}" if found.playbook_version else "no playbook"
    if found.reasons:
        st.markdown(f"**{len(served)} of {fmt.plural(len(found.reasons), 'lesson')} served**")
    else:
        st.markdown("**No lesson could have been served**")
    st.text(f"{one_line(found.agent, 60)}, {book}, decision {one_line(found.decision_id, 60)}")
    if not found.input_known:
        st.caption(
            "The request is not known, as no trace of this decision has come: what depends on its words is not told."
        )
    for reason in found.reasons:
        with st.container(border=True, gap=None):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.badge(
                    reason.outcome, icon=_ICONS.get(reason.outcome, ":material/remove:"),
                    color="green" if reason.outcome == "served" else "gray",
                )  # fmt: skip
                st.text(one_line(reason.title, 120))
            st.text(clean(reason.text))


def _latest(agents: tuple[str, ...]) -> None:
    frame = data.fresh(decisions.recent, agents[0] if len(agents) == 1 else None, _RECENT)
    if frame.is_empty():
        states.nothing(
            "No decision was made yet", "An agent that asks POST /v1/steer before it acts gets lessons with the answer."
        )
        return
    st.caption(f"The latest {fmt.plural(frame.height, 'decision')}. Choose one, or paste an id above.")
    export.table(
        "latest decisions",
        frame.select(
            "decided_at", pl.col("decision_id").alias("decision"), "agent", pl.col("user_id").alias("user"), "task",
            "arm",
        ),
        hide_index=True, height=tables.height(frame.height), alt=f"The latest {frame.height} decisions",
        key=_TABLE, on_select=lambda: _choose(frame["decision_id"].to_list()), selection_mode="single-row",
        column_config=fmt.columns({
            "decided_at": st.column_config.DatetimeColumn("decided (UTC)", format="MM-DD HH:mm:ss", timezone="UTC"),
        }),
    )  # fmt: skip


def _choose(ids: list[str]) -> None:
    chosen = st.session_state[_TABLE].selection.rows
    if chosen and chosen[0] < len(ids):
        st.session_state[_ASKED] = ids[chosen[0]]


def _clear() -> None:
    st.session_state[_ASKED] = ""
