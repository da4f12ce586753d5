"""Traces: find one, read it as a waterfall, as a conversation, span by span and with its signals."""

import streamlit as st

from dashboard import data
from dashboard.trace import header, listing
from dashboard.trace.conversation import conversation_tab
from dashboard.trace.copying import copy_tab
from dashboard.trace.rollouts import rollouts_tab
from dashboard.trace.signals import signals_tab
from dashboard.trace.spans import spans_tab
from dashboard.trace.waterfall import waterfall_tab
from dashboard.ui import filters, states
from store import signals, spans, traces

TABS = ("Waterfall", "Conversation", "Spans", "Signals", "Rollouts", "Copy as text")

selection = filters.current()
trace_id = st.query_params.get("trace")
span_id = st.query_params.get("span")

if selection.empty:
    st.title("Traces", anchor=False)
    states.nothing("There are no traces yet", "Load a file of traces and they are listed, searched and read here.")
    st.page_link("views/data.py", label="Upload on the Data page", icon=":material/upload_file:")
    st.stop()

if trace_id is None:
    st.title("Traces", anchor=False)
    wanted = listing.controls(selection.scope, compact=False)
    with states.guarded("The list of traces", key="traces"):
        narrowed, result = listing.found(wanted)
        place = st.session_state.get("page", 1)
        offset = (max(1, place) - 1) * listing.PAGE_SIZE
        page = data.query(traces.page, narrowed, sort=wanted.sort, limit=listing.PAGE_SIZE, offset=offset)
        listing.toolbar(wanted, page.total, result, selection.words)
        if page.total == 0:
            states.nothing("No trace matches", "Choose a longer time range in the sidebar, or clear filters.")
        else:
            listing.table(page.rows, key="traces-table", alt=f"Traces, page {place} of the list")
            pages = -(-page.total // listing.PAGE_SIZE)
            if pages > 1:
                st.pagination(pages, key="page", bind="query-params")
    st.stop()

with st.container(horizontal=True, vertical_alignment="center", gap="small", key="trace-steps"):
    steps_slot = st.container(horizontal=True, vertical_alignment="center", gap="small")
    related_slot = st.container(horizontal=True, vertical_alignment="center", gap="small", width="content")
    wanted = listing.controls(selection.scope, compact=True)
place = None
with states.guarded("The place in the list", key="place"):
    place = listing.neighbours(wanted, trace_id)
with steps_slot:
    header.steps(place)

with states.guarded("The trace", key="trace"):
    trace = data.query(traces.one, trace_id).row(0, named=True)
    header.facts(trace)
    with related_slot:
        header.related(trace)
    opened = dict(
        zip(
            TABS,
            st.tabs(TABS, key="view", bind="query-params", default="Spans" if span_id else None),
            strict=True,
        )
    )
    steps = data.query(spans.of_trace, trace_id)
    if opened["Waterfall"].open:
        with opened["Waterfall"], states.guarded("The waterfall", key="waterfall"):
            waterfall_tab(steps, trace_id, span_id)
    if opened["Conversation"].open:
        with opened["Conversation"], states.guarded("The conversation", key="conversation"):
            conversation_tab(trace_id, steps)
    if opened["Spans"].open:
        with opened["Spans"], states.guarded("The spans", key="spans"):
            spans_tab(steps, trace_id, span_id)
    if opened["Signals"].open:
        with opened["Signals"], states.guarded("The signals", key="signals"):
            signals_tab(data.query(signals.of_trace, trace_id))
    if opened["Rollouts"].open:
        with opened["Rollouts"], states.guarded("The rollouts", key="rollouts"):
            rollouts_tab(trace)
    if opened["Copy as text"].open:
        with opened["Copy as text"], states.guarded("The text", key="copy"):
            copy_tab(trace, steps, data.query(signals.of_trace, trace_id).rows.to_dicts())
