"""Sending files: recognition, mapping, preview and the button that loads them."""

from dataclasses import dataclass
from typing import Final

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from dashboard.access.actor import actor, permit
from dashboard.intake import guidance
from dashboard.intake.looking import Look, forget, look
from dashboard.intake.mapping_editor import edit_mapping
from dashboard.intake.preview import preview
from dashboard.intake.running import running_panel
from dashboard.learn.actions import operator
from dashboard.runtime import Runtime
from dashboard.ui import format as fmt
from dashboard.ui.text import markdown_safe, one_line
from pipelines.ingest.formats import Format
from pipelines.ingest.mapping import Mapping
from pipelines.ingest.uploads import Upload
from store import batches, operators, sources

__all__ = ["upload_panel"]

_LONGEST_SOURCE: Final = 100

# In the session: files received and not loading yet, loads started, how often the uploader was emptied, and the
# sources suggested for files.
_RECEIVED: Final = "data_received"
_STARTED: Final = "data_started"
_ROUND: Final = "data_round"
_SUGGESTED: Final = "data_suggested"

_UNNAMED: Final = "upload"
_SENDING: Final = "Sending files"


@dataclass(frozen=True)
class Ready:
    """A file that can be loaded, and how: `key` is the browser's for it, `columns` those its mapping was made for."""

    key: str
    upload: Upload
    source: str
    mapping: Mapping | None
    columns: list[str]


def upload_panel(runtime: Runtime) -> None:
    """The uploader, the loads under way, and one card for each file that is not loading yet."""
    if not operators.allows(actor().role, "reviewer"):
        st.caption("Sending files takes the role reviewer.")
        running_panel(runtime, {})
        return
    empty = batches.recent(runtime.store, limit=1).is_empty()
    files = st.file_uploader(
        "Traces, spans, clicks or feedback as CSV, JSONL, JSON or Parquet, plain or compressed (gzip, zstd)",
        accept_multiple_files=True,
        key=f"data_files_{st.session_state.setdefault(_ROUND, 0)}",
        help="The format is recognised by what is in the file, never by its name: OpenTelemetry (OTLP) and exports of "
        "Langfuse, Phoenix, LangSmith, MLflow, Opik, Braintrust and Weave, with their feedback; ATIF and tau-bench "
        "trajectories, OpenAI chat logs, Trimtab's own layouts, or any table, whose columns are mapped.",
    )
    started: dict[str, str] = st.session_state.setdefault(_STARTED, {})
    running_panel(runtime, started)
    present = {file.file_id: file for file in files if file.file_id not in started}
    received = _receive(runtime, present)
    together = st.container()
    ready = [
        made for key, upload in received.items() if (made := _card(runtime, key, upload, present[key].size)) is not None
    ]
    if len(ready) > 1 and together.button(
        f"Load all {len(ready)} files", key="data_load_all", type="primary", icon=":material/download:"
    ):
        _start(runtime, ready)
    guidance.ways_in(runtime.settings, empty=empty and not received)
    guidance.templates()


def _receive(runtime: Runtime, present: dict[str, UploadedFile]) -> dict[str, Upload]:
    """Keep the bytes of new files beside the store, and let go of those that were taken back."""
    permit("reviewer", _SENDING)
    received: dict[str, Upload] = st.session_state.setdefault(_RECEIVED, {})
    for gone in [key for key in received if key not in present]:
        upload = received.pop(gone)
        forget(gone)
        if gone not in st.session_state[_STARTED]:
            runtime.uploads.discard(upload)
    for key, file in present.items():
        if key in received:
            continue
        try:
            with st.spinner("Receiving the file …"):
                received[key] = runtime.uploads.receive(file, file.name)
        except OSError as error:
            st.error(f"The file could not be kept on the server's disk: {error.strerror}.", icon=":material/error:")
            st.text(one_line(file.name))
    return received


def _card(runtime: Runtime, key: str, upload: Upload, size: int) -> Ready | None:
    """What was recognised in one file and what will become of it; None when it cannot be loaded as it stands."""
    with st.container(border=True, key=f"data_card_{key}"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.text(one_line(upload.file), width="content")
            st.caption(_size(size), width="content")
        with st.spinner("Looking at the first records …"):
            found = look(runtime.store, key, upload, source=_stated_source(key), mapping=None)
        recognised = found.inspection is not None and found.inspection.recipe.format is not Format.MAPPED
        _recognition(found, recognised)
        if not found.columns:
            return None
        with st.container(horizontal=True, vertical_alignment="bottom"):
            source = _source(key, found)
            by_hand = not recognised or st.toggle("Map the columns by hand", key=f"data_by_hand_{key}")
        if not by_hand:
            return _verdict(runtime, found, Ready(key, upload, source, None, found.columns))
        _other_mapping(runtime, found, source)
        mapping = edit_mapping(key, found, source)
        if mapping is None:
            return None
        if found.inspection is None or mapping != found.inspection.mapping:
            with st.spinner("Looking at the first records …"):
                found = look(runtime.store, key, upload, source=source, mapping=mapping)
        return _verdict(runtime, found, Ready(key, upload, source, mapping, found.columns))


def _source(key: str, found: Look) -> str:
    """Where the file comes from, as suggested or typed."""
    suggested: dict[str, str] = st.session_state.setdefault(_SUGGESTED, {})
    default = suggested.setdefault(key, found.inspection.recipe.source if found.inspection else _UNNAMED)
    typed = st.text_input(
        "Source", value=default, key=f"data_source_{key}", max_chars=_LONGEST_SOURCE, width=280,
        help="The system this data comes from. A column mapping is kept for its source and used again.",
    )  # fmt: skip
    return (typed or "").strip()[:_LONGEST_SOURCE] or default


def _other_mapping(runtime: Runtime, found: Look, source: str) -> None:
    """Say that loading this file replaces the mapping of other files, while that can be avoided."""
    saved = sources.mapping_texts(runtime.store).get(source)
    if saved is not None and saved[1] != found.columns:
        st.caption(
            "This source has a mapping for files with other columns, which this one replaces. Another name keeps both."
        )


def _stated_source(key: str) -> str | None:
    """The source that the operator typed; None while it is the suggested one."""
    typed = str(st.session_state.get(f"data_source_{key}") or "").strip()[:_LONGEST_SOURCE]
    return typed if typed and typed != st.session_state.get(_SUGGESTED, {}).get(key) else None


def _recognition(found: Look, recognised: bool) -> None:
    if found.inspection is None:
        if found.columns:
            st.warning("Its columns were not recognised. Say below what they hold.", icon=":material/table_edit:")
        else:
            st.error(markdown_safe(found.problem or ""), icon=":material/error:")
        return
    recipe, container = found.inspection.recipe, found.inspection.container.upper()
    if recognised:
        st.markdown(f"Recognised as **{recipe.label}**, {container}.")
    else:
        st.markdown(f"**A table with columns of its own**, {container}: check what they become.")
    st.caption(markdown_safe(recipe.why))


def _verdict(runtime: Runtime, found: Look, ready: Ready) -> Ready | None:
    """How many of the first records will be loaded, the button, and the rows as they will be stored."""
    inspection = found.inspection
    if inspection is None:
        st.error(markdown_safe(found.problem or ""), icon=":material/error:")
        return None
    rejected = inspection.rejects.height
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(
            f"Of the first {fmt.plural(inspection.received, 'record')} **{inspection.received - rejected:,} will be "
            f"loaded** and **{rejected:,} rejected**.",
            width="content",
        )
        # Not a callback: those are handed what the run before this one saw.
        if st.button("Load this file", key=f"data_load_{ready.key}", type="primary", icon=":material/download:"):
            _start(runtime, [ready])
    preview(inspection)
    return ready


def _start(runtime: Runtime, files: list[Ready]) -> None:
    """Queue files, and keep their mappings for the next ones of the same sources."""
    permit("reviewer", _SENDING)
    for ready in files:
        if ready.mapping is not None:
            sources.save(runtime.store, ready.source, ready.mapping.to_json(), ready.columns, operator=operator())
        load_id = runtime.uploads.submit(ready.upload, source=ready.source, mapping=ready.mapping, actor=operator())
        st.session_state[_STARTED][ready.key] = load_id
    if all(key in st.session_state[_STARTED] for key in st.session_state[_RECEIVED]):
        st.session_state[_ROUND] += 1
    st.rerun()


def _size(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "KB", "MB"):
        if size < 1000:
            return f"{size:,.0f} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"
