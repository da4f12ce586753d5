"""The top of an opened trace: where it lies in the list, what it was, and the way to others like it."""

from collections.abc import Mapping
from typing import Any

import streamlit as st

from dashboard.trace.listing import open_trace
from dashboard.ui import format as fmt
from dashboard.ui.text import one_line
from store.traces import Neighbours

__all__ = ["facts", "related", "steps"]


def steps(place: Neighbours | None) -> None:
    """Back to the list, and to the traces beside this one."""
    st.title("Trace", anchor=False, width="content")
    st.button(
        "All traces", key="trace-back", icon=":material/arrow_back:", shortcut="Esc", on_click=open_trace, args=(None,)
    )
    previous = place.previous if place else None
    following = place.following if place else None
    st.button(
        "Previous", key="trace-previous", icon=":material/arrow_upward:", shortcut="K", disabled=previous is None,
        on_click=open_trace, args=(previous,),
    )  # fmt: skip
    st.button(
        "Next", key="trace-next", icon=":material/arrow_downward:", shortcut="J", disabled=following is None,
        on_click=open_trace, args=(following,),
    )  # fmt: skip
    if place is not None:
        where = f"{place.place:,} of {place.total:,}" if place.place else f"not among the {place.total:,} listed"
        st.caption(where, width="content")


def facts(trace: Mapping[str, Any]) -> None:
    """What is known of the trace (`store.traces.TRACE_DETAIL`), as labelled plain text."""
    tokens = (
        f"{fmt.count(trace['input_tokens'])} in, {fmt.count(trace['output_tokens'])} out"
        if trace["input_tokens"] is not None or trace["output_tokens"] is not None
        else None
    )
    started = (
        fmt.when(trace["started_at"]) if trace["started_at"] else f"not stated; received {fmt.when(trace['seen_at'])}"
    )
    agent = " ".join(text for text in (trace["agent"], trace["agent_version"]) if text) or None
    task = f"{trace['task']}{' (grouped)' if trace['task_origin'] == 'grouped' else ''}" if trace["task"] else None
    steps = f"{trace['span_count']:,}, {fmt.plural(trace['tool_count'], 'tool call')}, {trace['error_count']:,} failed"
    shown = (
        ("Agent", agent),
        ("Status", {"error": "failed", "ok": "ok"}.get(trace["status"], "not stated")),
        ("Started", started),
        ("Duration", fmt.duration(trace["seconds"]) if trace["seconds"] is not None else None),
        ("Reward, mean ± sd", fmt.reward(trace["reward"], trace["reward_sd"], trace["reward_signals"])),
        ("Cost", fmt.money(trace["cost_usd"])),
        ("Tokens", tokens),
        ("Steps", steps),
        ("Model", " ".join(text for text in (trace["model"], trace["model_fingerprint"]) if text) or None),
        ("User", trace["user_id"]),
        ("Session", trace["session_id"]),
        ("Task", task),
        ("Arm", trace["arm"]),
        ("Source", trace["source"]),
        ("Trace", trace["trace_id"]),
    )
    with st.container(border=True), st.grid(5, min_column_width=150, gap=("xsmall", "medium"), key="trace-facts"):
        for label, value in shown:
            with st.container(gap=None):
                st.caption(label)
                st.text(one_line(value, 64) if value else fmt.NONE)


def related(trace: Mapping[str, Any]) -> None:
    """A menu that lists the other traces of its user, session or task."""
    values = {"user": trace["user_id"], "session": trace["session_id"], "task": trace["task"]}
    options = [key for key, value in values.items() if value]
    if options:
        st.menu_button(
            "More of the same", options, key="trace-related", icon=":material/filter_alt:",
            on_click=_list_same, args=(values,),
        )  # fmt: skip


def _list_same(values: Mapping[str, str | None]) -> None:
    key = st.session_state["trace-related"]
    if key not in values:
        return
    for other in ("q", *values):
        st.session_state[other] = ""
    st.session_state[key] = values[key]
    open_trace(None)
