"""Why one trace went badly: its failure label with the evidence, and what else was considered."""

from typing import Any

import polars as pl
import streamlit as st

from dashboard import data
from dashboard.learn.failure_panels import DOERS, title
from dashboard.ui import format as fmt
from dashboard.ui import states, text
from pipelines.failures.axes import DOING, EXPLORATION, UNKNOWN
from store import failures

__all__ = ["show"]


def show(trace_id: str) -> None:
    """The label of this trace; says so when it is not a bad one or nothing was labelled yet."""
    with states.guarded("The failure label", key="failure"):
        _labelled(trace_id)


def _labelled(trace_id: str) -> None:
    labels = data.query(failures.of_trace, trace_id)
    if labels.is_empty():
        run = data.query(failures.latest_run)
        if run is None:
            st.caption("Failure labels appear here once the failure labels job has run.")
        else:
            st.caption(f"Not labelled: this trace did not go badly, as of {fmt.when(run['found_at'])}.")
        return
    first = labels.row(0, named=True)
    with st.container(border=True):
        st.markdown(f"**{_heading(first)}**")
        text.line(first["detail"])
        st.caption(_basis(first))
        _evidence(first, trace_id)
    others = labels.filter(pl.col("rank") > 1)
    if others.height:
        with st.expander(f"Also found ({others.height})"):
            for row in others.iter_rows(named=True):
                text.line(f"{title(row['axis'])}: {row['detail']} (confidence {row['confidence']:.2f}, {row['rule']})")
                _evidence(row, trace_id)


def _heading(row: dict[str, Any]) -> str:
    if row["axis"] == UNKNOWN:
        return "Went badly, cause unknown"
    if row["axis"] == EXPLORATION:
        return "Deliberate exploration, not a failure of the agent"
    # Axes are ours; one that a later version wrote is shown escaped.
    return f"Failure: {text.markdown_safe(title(row['axis']))}"


def _basis(row: dict[str, Any]) -> str:
    if row["axis"] == UNKNOWN:
        return "No rule found a cause, and no model was asked or could name one."
    by = f"the model, prompt {row['rule']}" if row["origin"] == "model" else f"rule {row['rule']}"
    doer = DOERS[DOING.get(row["axis"], DOING[UNKNOWN])]
    return text.markdown_safe(f"By {by}, confidence {row['confidence']:.2f}. Whose doing: {doer}.")


def _evidence(row: dict[str, Any], trace_id: str) -> None:
    if row["span_id"] is None:
        return
    st.button(
        "Show the evidence", key=f"failure-{trace_id}-{row['rank']}", icon=":material/search:",
        on_click=_open_span, args=(row["span_id"],),
    )  # fmt: skip


def _open_span(span_id: str) -> None:
    st.query_params["span"] = span_id
    # The tabs of the page keep their choice here, and in the address by themselves.
    st.session_state["view"] = "Spans"
