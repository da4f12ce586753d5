"""Traces: find one, read it as a waterfall, as a conversation, span by span and with its signals."""

from collections.abc import Callable

import streamlit as st

from dashboard import data
from dashboard.feel.glossary import meaning
from dashboard.learn import actions
from dashboard.trace import failure, header, listing, surprise
from dashboard.trace.conversation import conversation_tab
from dashboard.trace.copying import copy_tab
from dashboard.trace.credit import credit_tab
from dashboard.trace.rollouts import rollouts_tab
from dashboard.trace.signals import signals_tab
from dashboard.trace.spans import spans_tab
from dashboard.trace.waterfall import waterfall_tab
from dashboard.ui import filters, states
from store import signals, spans, traces
from store.traces import Neighbours

selection = filters.current()
trace_id = st.query_params.get("trace", "")
span_id = st.query_params.get("span")

if selection.empty:
    actions.heading("Traces", help=meaning("trace"))
    states.nothing("There are no traces yet", "Load a file of traces and they are listed, searched and read here.")
    st.page_link("views/data.py", label="Upload on the Data page", icon=":material/upload_file:")
    st.stop()

if not trace_id:
    actions.heading("Traces", help=meaning("trace"))
    wanted = listing.controls(selection.scope, compact=False)
    with states.guarded("The list of traces", key="traces", height=400):
        narrowed, result = listing.found(wanted)
        total = data.query(traces.count, narrowed)
        listing.toolbar(wanted, total, result, selection.words)
        if total == 0:
            states.nothing("No trace matches", "Choose a longer time range in the sidebar, or clear filters.")
        else:
            # The pager stands below the table, but says which rows to fetch.
            rows_slot = st.container()
            place = listing.pager(total)
            offset = (place - 1) * listing.PAGE_SIZE
            page = data.query(traces.page, narrowed, sort=wanted.sort, limit=listing.PAGE_SIZE, offset=offset)
            with rows_slot:
                listing.table(page.rows, key="traces-table", alt=f"Traces, page {place} of the list")
                listing.exported(narrowed, wanted, total)
    st.stop()

with st.container(horizontal=True, vertical_alignment="center", gap="small", key="trace-steps"):
    steps_slot = st.container(horizontal=True, vertical_alignment="center", gap="small")
    related_slot = st.container(horizontal=True, vertical_alignment="center", gap="small", width="content")
    wanted = listing.controls(selection.scope, compact=True)
beside: Neighbours | None = None
with states.guarded("The place in the list", key="place"):
    beside = listing.neighbours(wanted, trace_id)
with steps_slot:
    header.steps(beside)

with states.guarded("The trace", key="trace"), data.closely():
    trace = data.query(traces.one, trace_id).row(0, named=True)
    header.facts(trace)
    with related_slot:
        header.related(trace)
    steps = data.query(spans.of_trace, trace_id)
    judged = data.query(signals.of_trace, trace_id)
    contents: dict[str, Callable[[], None]] = {
        "Waterfall": lambda: waterfall_tab(steps, trace_id, span_id),
        "Conversation": lambda: conversation_tab(trace_id, steps),
        "Spans": lambda: spans_tab(steps, trace_id, span_id),
        "Signals": lambda: signals_tab(judged),
        "Credit": lambda: credit_tab(trace_id),
        "Surprise": lambda: surprise.show(trace_id),
        "Failure": lambda: failure.show(trace_id),
        "Rollouts": lambda: rollouts_tab(trace),
        "Copy as text": lambda: copy_tab(trace, steps, judged.rows.to_dicts()),
    }
    drawn = st.tabs(list(contents), key="view", bind="query-params")
    for tab, (name, show) in zip(drawn, contents.items(), strict=True):
        if tab.open:
            with tab, states.guarded(f"The tab {name}", key=name):
                show()
