"""Sending files: recognition, mapping, preview and the button that loads them."""

from typing import Any

import streamlit as st
from pipelines.ingest.templates import template

from dashboard.intake.mapping_editor import edit_mapping
from dashboard.runtime import Runtime
from pipelines.ingest.inspection import Inspection, inspect
from pipelines.ingest.layout_columns import LAYOUTS
from pipelines.ingest.mapping import Mapping
from pipelines.ingest.uploads import Upload
from store import sources
from store.errors import TrimtabError

_KIND_NAMES = {"trace_records": "traces", "spans": "spans", "signals": "signals"}


def upload_panel(runtime: Runtime) -> None:
    """The uploader and one card for each file that was chosen and is not loading yet."""
    files = st.file_uploader(
        "Files of traces, spans, clicks or feedback",
        accept_multiple_files=True,
        key="data_files",
        help="CSV, JSONL, JSON or Parquet, plain or compressed with gzip or zstd. "
        "The format is recognised by what is in the file.",
    )
    received: dict[str, Upload] = st.session_state.setdefault("data_received", {})
    started: dict[str, str] = st.session_state.setdefault("data_started", {})
    present = {file.file_id for file in files}
    for gone in [key for key in received if key not in present]:
        upload = received.pop(gone)
        if gone not in started:
            runtime.uploads.discard(upload)
    for file in files:
        if file.file_id not in received:
            with st.spinner(f"Receiving {file.name} …"):
                received[file.file_id] = runtime.uploads.receive(file, file.name)
        if file.file_id not in started:
            _card(runtime, file.file_id, received[file.file_id])
    _templates()


def _card(runtime: Runtime, key: str, upload: Upload) -> None:
    """What was recognised in one file, and what will become of it."""
    with st.container(border=True):
        st.text(upload.file)
        mapping: Mapping | None = st.session_state.get(f"data_mapping_{key}")
        try:
            with st.spinner("Looking at the first records …"):
                inspection = inspect(runtime.store, upload.path, file=upload.file, mapping=mapping)
        except TrimtabError as error:
            st.error(str(error), icon=":material/error:")
            if mapping is not None and st.button("Go back to the guessed mapping", key=f"data_reset_{key}"):
                del st.session_state[f"data_mapping_{key}"]
                st.rerun()
            return
        recipe = inspection.recipe
        st.markdown(f"**Recognised as {recipe.label}** ({inspection.container}).")
        st.caption(recipe.why)
        source = st.text_input(
            "Source",
            value=recipe.source,
            key=f"data_source_{key}",
            help="Where this data comes from. A column mapping is saved for its source and used again.",
        )
        if inspection.mapping is not None and recipe.format.value == "mapped":
            changed = edit_mapping(key, inspection, source)
            if changed is not None:
                st.session_state[f"data_mapping_{key}"] = changed
                st.rerun()
        _preview(inspection)
        st.button(
            "Load this file",
            key=f"data_load_{key}",
            type="primary",
            icon=":material/download:",
            on_click=_start,
            args=(runtime, key, upload, inspection),
        )


def _start(runtime: Runtime, key: str, upload: Upload, inspection: Inspection) -> None:
    """Queue the file, and keep its mapping for the next one from the same source."""
    source = (st.session_state.get(f"data_source_{key}") or inspection.recipe.source).strip()[:100]
    mapping = inspection.mapping if inspection.recipe.format.value == "mapped" else None
    if mapping is not None:
        mapping = Mapping(mapping.kind, mapping.rules, source)
        sources.save(runtime.store, source, mapping.to_json(), inspection.columns)
    st.session_state["data_started"][key] = runtime.uploads.submit(upload, source=source, mapping=mapping)


def _preview(inspection: Inspection) -> None:
    """The first rows as they will be stored, and those that will be rejected with the reason."""
    rejected = inspection.rejects.height
    taken = inspection.received - rejected
    st.markdown(
        f"Of the first **{inspection.received:,}** records **{taken:,}** will be loaded and **{rejected:,}** rejected."
    )
    for kind, rows in inspection.previews.items():
        filled = [name for name in rows.columns if rows[name].null_count() < rows.height]
        with st.expander(f"First {_KIND_NAMES[kind]} as they will be stored ({rows.height:,})", expanded=True):
            st.dataframe(rows.select(filled), hide_index=True, height=240, key=None)
    if rejected:
        with st.expander(f"Records that will be rejected ({rejected:,})", expanded=True):
            st.dataframe(inspection.rejects, hide_index=True, height=200)
            st.caption("After loading they can be downloaded, repaired and sent again.")


def _templates() -> None:
    """Downloadable files in Trimtab's own layouts."""
    with st.expander("Templates of Trimtab's own layouts"):
        st.caption("Only trace_id, span_id and a signal's kind are required. Unknown columns are kept as attributes.")
        columns: Any = st.columns(len(LAYOUTS))
        for column, kind in zip(columns, LAYOUTS, strict=True):
            for form in ("csv", "jsonl"):
                column.download_button(
                    f"{kind}.{form}",
                    data=template(kind, form),
                    file_name=f"{kind}.{form}",
                    key=f"data_template_{kind}_{form}",
                    on_click="ignore",
                    width="stretch",
                )
