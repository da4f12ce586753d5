"""Other runs of a trace's task."""

from collections.abc import Mapping
from typing import Any

import polars as pl
import streamlit as st

from dashboard import data
from dashboard.trace.listing import table
from dashboard.ui import format as fmt
from store import traces

__all__ = ["rollouts_tab"]


def rollouts_tab(trace: Mapping[str, Any]) -> None:
    """Other runs of the same task by the same agent."""
    if not trace["task"]:
        st.caption("This trace has no task yet. The tasks job groups traces whose source states none.")
        return
    page = data.query(traces.rollouts, trace["task"], trace["agent"])
    others = page.rows.filter(pl.col("trace_id") != trace["trace_id"])
    if others.is_empty():
        st.caption("No other run of this task by this agent.")
        return
    rewarded = page.rows["reward"].drop_nulls()
    values = rewarded.to_list()
    mean = f" Mean reward {sum(values) / len(values):.2f} (n {len(values)})." if values else ""
    cut = f" The latest {page.rows.height} are listed." if page.rows.height < page.total else ""
    st.caption(f"{fmt.plural(page.total, 'run')} of this task by this agent, this one included.{mean}{cut}")
    table(others, key=f"rollouts-{trace['trace_id']}", alt="Other runs of the same task", without=("task", "agent"))
