"""Saved column mappings: one a source, used for its next file. They can be read, taken along and forgotten."""

import polars as pl
import streamlit as st

from dashboard.access import offer
from dashboard.intake.batch_report import mapping_table
from dashboard.intake.mapping_editor import KINDS
from dashboard.learn.actions import operator, perform
from dashboard.runtime import Runtime, current
from dashboard.ui import format as fmt
from dashboard.ui import states
from pipelines.ingest.mapping import Mapping
from store import sources

__all__ = ["mappings_panel"]


def mappings_panel(runtime: Runtime) -> None:
    """The saved mappings and, of the chosen one, its rules."""
    saved = sources.all_saved(runtime.store)
    if saved.is_empty():
        states.nothing(
            "No column mapping is saved",
            "One is saved when a file is loaded whose columns were mapped. The next file of the same source, or with "
            "the same columns, is read in the same way.",
        )
        return
    st.caption(
        f"{fmt.plural(saved.height, 'saved mapping')}. A file of the same source, or with the same columns, is read "
        "in the same way."
    )
    chosen = st.selectbox("Source", saved["source"].to_list(), key="mapping", bind="query-params", width=320)
    rows = saved.filter(pl.col("source") == chosen)
    if rows.is_empty():
        return
    row = rows.row(0, named=True)
    mapping = Mapping.from_json(row["mapping"])
    st.markdown(
        f"Each row is **{KINDS[mapping.kind]}**. Saved {fmt.relative(row['updated_at'], runtime.clock.now())}, "
        f"{fmt.when(row['updated_at'], seconds=False)}."
    )
    mapping_table(mapping)
    with st.container(horizontal=True):
        st.download_button(
            "Download as TOML", data=mapping.to_toml(), file_name="mapping.toml", key="data_mapping_download",
            icon=":material/download:", on_click="ignore",
            help="For the command line: python -m pipelines ingest FILE --map mapping.toml",
        )  # fmt: skip
        with st.popover("Forget it", icon=":material/delete:"):
            st.caption(
                "What was loaded stays as it is. The next file of this source is guessed anew. "
                "The audit log keeps the mapping."
            )
            offer.button(
                "Forget this mapping",
                key="data_mapping_delete",
                type="primary",
                on_click=_forget,
                args=(row["source"],),
            )


def _forget(source: str) -> None:
    store = current().store

    def work() -> str:
        sources.delete(store, source, operator=operator())
        return f"The mapping of {source} is forgotten."

    perform(work)
