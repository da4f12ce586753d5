"""A trace as a conversation: messages and tool calls in order, as plain text."""

from typing import Final, Literal

import streamlit as st

from dashboard import data
from dashboard.trace.turns import Turn, conversation
from dashboard.ui.text import block, compact_json, line, one_line
from store import spans, traces
from store.spans import SpanPage

__all__ = ["conversation_tab", "turns_of"]

STEPS_A_PAGE: Final = 60
_LONGEST_TURN: Final = 6_000
_SPEAKERS: Final[dict[str, tuple[str, Literal["gray", "blue", "green", "orange"]]]] = {
    "system": ("System", "gray"),
    "user": ("User", "blue"),
    "assistant": ("Assistant", "green"),
    "tool": ("Tool", "orange"),
}


def conversation_tab(trace_id: str, page: SpanPage) -> None:
    """Messages and tool calls in order."""
    first, last = 1, STEPS_A_PAGE
    pages = -(-page.total // STEPS_A_PAGE)
    if pages > 1:
        with st.container(horizontal=True, vertical_alignment="center"):
            chosen = st.pagination(pages, key=f"conversation-{trace_id}")
            first, last = (chosen - 1) * STEPS_A_PAGE + 1, chosen * STEPS_A_PAGE
            st.caption(f"Steps {first:,} to {min(last, page.total):,} of {page.total:,}.", width="content")
    turns = turns_of(trace_id, first, last)
    if not turns:
        st.caption("This trace holds no text.")
    for place, turn in enumerate(turns):
        _show_turn(turn, place)


def turns_of(trace_id: str, first: int, last: int) -> list[Turn]:
    """The turns of the steps from `first` to `last`; of the trace's own texts where it has no messages or calls."""
    steps = data.query(spans.texts, trace_id, first_step=first, last_step=last).to_dicts()
    stated = data.query(traces.texts, trace_id).to_dicts()
    whole = stated[0] if stated else {}
    return conversation(steps, input=whole.get("input"), output=whole.get("output"))


def _show_turn(turn: Turn, place: int) -> None:
    label, colour = _SPEAKERS.get(turn.role, ("Other", "gray"))
    name = turn.name if turn.role in _SPEAKERS else " ".join(text for text in (turn.role, turn.name) if text)
    with st.container(border=True, gap="xsmall", key=f"turn-{place}"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.badge(label, color=colour)
            if name:
                st.text(one_line(name, 80))
            if turn.status == "error":
                st.badge("failed", color="red", icon=":material/error:")
            if turn.step is not None:
                st.caption(f"step {turn.step:,}", width="content")
        if turn.arguments is None:
            if len(turn.text or "") <= _LONGEST_TURN:
                line(turn.text)
            else:
                block(turn.text)
            return
        called, answered = st.columns([2, 3])
        with called:
            st.caption("Arguments")
            block(compact_json(turn.arguments), empty="None.")
        with answered:
            st.caption("Result")
            block(compact_json(turn.text), length=turn.characters, empty="None was received.")
