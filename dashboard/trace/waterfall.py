"""The waterfall of a trace: spans over time, or over steps where no time is stated."""

from functools import partial
from typing import Final, get_args

import streamlit as st

from dashboard import charts
from dashboard.trace.bars import MOST_BARS, Pick, bars
from dashboard.trace.spans import span_panel
from dashboard.ui import format as fmt
from dashboard.ui import theme
from store.spans import SpanPage

__all__ = ["waterfall_tab"]

_SCROLL_PIXELS: Final = 560


def waterfall_tab(page: SpanPage, trace_id: str, selected: str | None) -> None:
    """Spans over time; a click on a bar shows that span below."""
    if page.total == 0:
        st.caption("No spans were received for this trace. Its input and output are under Conversation.")
        return
    pick: Pick = "in order"
    if page.total > MOST_BARS:
        options = get_args(Pick)
        chosen = st.segmented_control("Spans drawn", options, default="in order", required=True, key="bars")
        pick = chosen if chosen in options else "in order"
    drawn = bars(page.rows, pick=pick)
    notes = []
    if drawn.rows.height < page.total:
        notes.append(f"{drawn.rows.height:,} of {page.total:,} spans are drawn ({pick}); all are listed under Spans.")
    if not drawn.timed:
        notes.append("The source states no times: bars are steps in their order, not durations.")
    elif drawn.untimed:
        notes.append(f"{fmt.plural(drawn.untimed, 'span')} state no time and stand where their parent begins.")
    if notes:
        st.caption(" ".join(notes))
    if drawn.rows.is_empty():
        st.caption("No span failed.")
        return
    figure = charts.waterfall(drawn.rows, theme.current(), timed=drawn.timed, selected=selected)
    frame = st.container(height=_SCROLL_PIXELS) if figure.layout.height > _SCROLL_PIXELS else st.container()
    key = f"waterfall-{trace_id}"
    frame.plotly_chart(
        figure,
        key=key,
        config=charts.CONFIG,
        on_select=partial(_clicked, key),
        selection_mode="points",
        alt=f"Waterfall of {drawn.rows.height:,} spans; the same spans are listed as a table under Spans",
    )
    if selected:
        span_panel(trace_id, selected)
    else:
        st.caption("Click a bar to read its span.")


def _clicked(key: str) -> None:
    points = st.session_state[key]["selection"]["points"]
    if points and points[0].get("customdata"):
        st.query_params["span"] = str(points[0]["customdata"][0])
