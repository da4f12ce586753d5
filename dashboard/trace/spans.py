"""The spans of a trace as a table, and one of them with everything it holds."""

from functools import partial
from typing import Final

import polars as pl
import streamlit as st

from dashboard import data
from dashboard.ui import export
from dashboard.ui import format as fmt
from dashboard.ui.text import block, one_line, pretty_json
from store import spans
from store.frames import each
from store.spans import SpanPage

__all__ = ["span_panel", "span_rows", "spans_tab"]

_COLUMNS: Final = {
    "step": st.column_config.NumberColumn("Step", width=50, pinned=True),
    "kind": st.column_config.TextColumn("Kind", width=80),
    "name": st.column_config.TextColumn("Name", width=190),
    "status": st.column_config.TextColumn("Status", width=66),
    "offset": st.column_config.TextColumn("Start", width=84, alignment="right"),
    "duration": st.column_config.TextColumn("Duration", width=84, alignment="right"),
    "model": st.column_config.TextColumn("Model", width=120),
    "input_tokens": st.column_config.NumberColumn("Tokens in", width=78, format="localized"),
    "output_tokens": st.column_config.NumberColumn("Tokens out", width=82, format="localized"),
    "cost": st.column_config.TextColumn("Cost", width=74, alignment="right"),
    "status_message": st.column_config.TextColumn("Message", width=240),
    "span_id": st.column_config.TextColumn("Span", width=130),
    "parent_span_id": st.column_config.TextColumn("Parent", width=130),
}


def spans_tab(page: SpanPage, trace_id: str, selected: str | None) -> None:
    """All spans as a table, and one of them with everything."""
    if page.total == 0:
        st.caption("No spans were received for this trace.")
        return
    if page.rows.height < page.total:
        st.caption(f"The first {page.rows.height:,} of {page.total:,} spans.")
    shown = span_rows(page.rows)
    empty = [column for column in shown.columns if shown[column].null_count() == shown.height]
    key = f"spans-{trace_id}"
    export.table(
        "spans", shown.drop(*empty), column_config=_COLUMNS, hide_index=True,
        on_select=partial(_chosen, key, page.rows["span_id"]), selection_mode="single-row",
        height="content" if shown.height <= 12 else 420, row_height=30, lazy=False, key=key,
        alt="Spans of this trace in order",
    )  # fmt: skip
    if selected:
        span_panel(trace_id, selected)
    else:
        st.caption("Select a row to read its span.")


def _chosen(key: str, span_ids: pl.Series) -> None:
    rows = st.session_state[key]["selection"]["rows"]
    if rows and rows[0] < span_ids.len():
        st.query_params["span"] = span_ids[rows[0]]


def span_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows of `store.spans.SPAN_ROWS` as the table shows them."""
    origin = frame["started_at"].min()
    offset = (pl.col("started_at") - pl.lit(origin, dtype=frame.schema["started_at"])).dt.total_microseconds() / 1e6
    seconds = (pl.col("ended_at") - pl.col("started_at")).dt.total_microseconds() / 1e6
    timed = frame.with_columns(offset=offset, duration=seconds)
    return timed.with_columns(
        each(timed["offset"], fmt.duration, pl.String),
        each(timed["duration"], fmt.duration, pl.String),
        each(timed["cost_usd"], fmt.money, pl.String).alias("cost"),
    ).select(list(_COLUMNS))


def span_panel(trace_id: str, span_id: str) -> None:
    """One span with its texts, attributes and links."""
    span = data.query(spans.one, trace_id, span_id).row(0, named=True)
    took = None
    if span["started_at"] is not None and span["ended_at"] is not None:
        took = fmt.duration((span["ended_at"] - span["started_at"]).total_seconds())
    pieces = [span["name"] or span["kind"], f"{span['kind']}, step {span['step']:,}", took, span["model"]]
    with st.container(border=True, key="span-panel"):
        st.text(one_line(" · ".join(piece for piece in pieces if piece), 300))
        if span["started_at"] is not None:
            st.caption(f"Started {fmt.when(span['started_at'])}.")
        if span["status"] == "error":
            st.caption("Failed:")
            block(span["status_message"], empty="without a message.")
        for label, column in (
            ("Input", "input"),
            ("Output", "output"),
            ("Attributes", "attributes"),
            ("Links", "links"),
        ):
            if span[column] or column in ("input", "output"):
                st.caption(label)
                block(pretty_json(span[column]), length=span.get(f"{column}_characters"))
