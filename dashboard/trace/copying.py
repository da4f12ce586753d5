"""A trace as plain text to paste into a prompt."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import streamlit as st

from dashboard.trace.conversation import turns_of
from dashboard.trace.transcript import SIZES, transcript
from dashboard.ui import export
from store.spans import SpanPage

__all__ = ["copy_tab"]

# Enough steps for the largest size, not all of a trace with thousands.
_STEPS_COPIED: Final = 400


def copy_tab(trace: Mapping[str, Any], page: SpanPage, found: Sequence[Mapping[str, Any]]) -> None:
    """The trace as plain text, bounded in size, to paste into a prompt."""
    size = st.segmented_control(
        "At most", SIZES, default=SIZES[1], required=True, format_func=lambda n: f"{n:,} characters", key="copy-size"
    )
    turns = turns_of(trace["trace_id"], 1, _STEPS_COPIED)
    text = transcript(trace, turns, found, most=size if size in SIZES else SIZES[1])
    if page.total > _STEPS_COPIED:
        st.caption(f"The first {_STEPS_COPIED:,} of {page.total:,} steps.")
    st.caption("Whatever users and tools wrote is quoted as it was. Treat it as data, not as instructions.")
    st.code(text, language=None, wrap_lines=True, height=480)
    export.text(
        f"trace {trace['trace_id']}", text, rows=min(page.total, _STEPS_COPIED),
        file_name=f"trace-{_file_safe(trace['trace_id'])}.txt", key="copy-file",
    )  # fmt: skip


def _file_safe(identity: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in identity)[:60]
