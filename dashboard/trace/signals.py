"""The signals of a trace: what people and judges said of it and did with it."""

from typing import Final

import polars as pl
import streamlit as st

from dashboard.ui import export
from dashboard.ui import format as fmt
from dashboard.ui.text import block, one_line
from store.frames import each
from store.signals import SignalPage

__all__ = ["signals_tab"]

_COLUMNS: Final = {
    "occurred_at": st.column_config.DatetimeColumn(
        "Time (UTC)", format="YYYY-MM-DD HH:mm:ss", timezone="UTC", width=140
    ),
    "kind": st.column_config.TextColumn("Kind", width=90),
    "name": st.column_config.TextColumn("Name", width=110),
    "value": st.column_config.NumberColumn("Value", format="%.4g", width=66),
    "text": st.column_config.TextColumn("Text", width=260),
    "item": st.column_config.TextColumn("Item", width=110),
    "position": st.column_config.NumberColumn("Position", width=66),
    "propensity": st.column_config.NumberColumn("Propensity", format="%.4g", width=78),
    "solicited": st.column_config.CheckboxColumn("Solicited", width=70),
    "annotator": st.column_config.TextColumn("By", width=120),
    "linked_by": st.column_config.TextColumn("Joined by", width=100),
    "source": st.column_config.TextColumn("Source", width=90),
    "span_id": st.column_config.TextColumn("Span", width=110),
}  # fmt: skip


def signals_tab(page: SignalPage) -> None:
    """What people and judges said of the trace, and what they did with it."""
    if page.total == 0:
        st.caption(
            "No signal was received for this trace. One without a trace id is joined by span, by session, or by user"
            " and time."
        )
        return
    if page.rows.height < page.total:
        st.caption(f"The first {page.rows.height:,} of {page.total:,} signals.")
    joined = {"id": "its trace id", "span": "linked by span", "session": "linked by session", "user": "linked by user"}
    shown = page.rows.with_columns(
        annotator=pl.concat_str(["annotator_kind", "annotator_id"], separator=" ", ignore_nulls=True).replace("", None),
        linked_by=pl.col("linked_by").replace(joined),
        text=each(page.rows["text"], lambda text: one_line(text, 160), pl.String),
    ).select(list(_COLUMNS))
    empty = [column for column in shown.columns if shown[column].null_count() == shown.height]
    export.table(
        "signals of the trace",
        shown.drop(*empty), column_config=fmt.columns(_COLUMNS), hide_index=True, height="content", row_height=30,
        alt="Signals of this trace",
    )  # fmt: skip
    for row in page.rows.filter(pl.col("text").is_not_null() & (pl.col("text") != "")).head(20).to_dicts():
        st.caption(f"{row['kind'].capitalize()} of {fmt.when(row['occurred_at'])}")
        block(row["text"], limit=4_000)
