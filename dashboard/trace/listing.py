"""The list of traces: its controls, which live in the URL, and its table."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Literal, get_args

import polars as pl
import streamlit as st

from dashboard import data, runtime
from dashboard.ui import export
from dashboard.ui import format as fmt
from dashboard.ui.text import clean, one_line
from store import search, traces
from store.connection import Store
from store.scope import Scope, TraceFilter
from store.search import Found
from store.traces import SORTS, Sort

__all__ = [
    "PAGE_SIZE",
    "Wanted",
    "active",
    "controls",
    "exported",
    "found",
    "neighbours",
    "open_trace",
    "pager",
    "table",
    "toolbar",
]

PAGE_SIZE: Final = 50
_EXPORTED: Final = 10_000

Status = Literal["ok", "error", "unknown"]
_STATUSES: Final = get_args(Status)

# How long a text search may take at first, and when everything is asked for.
SEARCH_SECONDS: Final = 0.8
DEEP_SEARCH_SECONDS: Final = 30.0

# The keys of the controls, which are the names in the URL.
_KEYS: Final = (
    "q", "user", "session", "task", "status", "min_cost", "min_seconds", "tool_error", "feedback", "reward_below",
)  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """What the controls say: the filter without the text search, the text, the order, and how far to search."""

    filter: TraceFilter
    text: str
    sort: Sort
    deep: bool


def controls(scope: Scope, *, compact: bool) -> Wanted:
    """Draw the controls; all in a popover where `compact`, else search and order in a row with it."""
    if compact:
        with st.popover("Filters", icon=":material/filter_list:"):
            text, sort = _search(), _sort()
            chosen = _filters(scope)
    else:
        with st.container(horizontal=True, vertical_alignment="bottom", key="trace-controls"):
            text, sort = _search(), _sort()
            with st.popover("Filters", icon=":material/filter_list:"):
                chosen = _filters(scope)
    return Wanted(chosen, text, sort, bool(st.session_state.get("deep_search") == text and text))


def _search() -> str:
    text = st.text_input(
        "Search in inputs, outputs and errors", key="q", bind="query-params", type="search", max_chars=500,
        placeholder="Search in inputs, outputs and errors", label_visibility="collapsed",
    )  # fmt: skip
    return (text or "").strip()


def _sort() -> Sort:
    chosen = st.selectbox(
        "Order", SORTS, key="sort", bind="query-params",
        label_visibility="collapsed", width=180,
    )  # fmt: skip
    return chosen if chosen in SORTS else "latest"


def _filters(scope: Scope) -> TraceFilter:
    user = st.text_input("User", key="user", bind="query-params", placeholder="id, or part* of it")
    session = st.text_input("Session", key="session", bind="query-params", placeholder="id, or part* of it")
    task = st.text_input("Task", key="task", bind="query-params", placeholder="key, or part* of it")
    status = st.segmented_control("Status", _STATUSES, key="status", bind="query-params")
    left, right = st.columns(2)
    with left:
        cost = st.number_input(
            "Cost at least, USD", 0.0, value=None, key="min_cost", bind="query-params", format="%.4f"
        )
        reward = st.number_input("Reward below", value=None, key="reward_below", bind="query-params", step=0.1)
    with right:
        seconds = st.number_input("Duration at least, s", 0.0, value=None, key="min_seconds", bind="query-params")
    tool_error = st.checkbox("A tool call failed", key="tool_error", bind="query-params")
    feedback = st.checkbox("Has explicit feedback", key="feedback", bind="query-params")
    return TraceFilter(
        scope=scope,
        user_id=(user or "").strip() or None,
        session_id=(session or "").strip() or None,
        task=(task or "").strip() or None,
        status=status if status in _STATUSES else None,
        min_cost_usd=cost,
        min_seconds=seconds,
        tool_error=tool_error,
        feedback=feedback,
        reward_below=reward,
    )


def active(wanted: Wanted) -> str:
    """The filters in force, in words; empty when there are none. Holds what was typed, so show it as plain text."""
    chosen = wanted.filter
    words = [
        f"user {chosen.user_id}" if chosen.user_id else "",
        f"session {chosen.session_id}" if chosen.session_id else "",
        f"task {chosen.task}" if chosen.task else "",
        f"status {chosen.status}" if chosen.status else "",
        f"cost at least {fmt.money(chosen.min_cost_usd)}" if chosen.min_cost_usd is not None else "",
        f"duration at least {fmt.duration(chosen.min_seconds)}" if chosen.min_seconds is not None else "",
        "a tool call failed" if chosen.tool_error else "",
        "has explicit feedback" if chosen.feedback else "",
        f"reward below {chosen.reward_below:g}" if chosen.reward_below is not None else "",
        f"holds “{wanted.text}”" if wanted.text else "",
    ]
    return clean(", ".join(word for word in words if word))


def found(wanted: Wanted) -> tuple[TraceFilter, Found | None]:
    """The filter narrowed to what a text search found, and how the search went; None without a text."""
    if not wanted.text:
        return wanted.filter, None
    budget = DEEP_SEARCH_SECONDS if wanted.deep else SEARCH_SECONDS
    result = data.query(search.find, wanted.text, wanted.filter, budget=budget)
    return replace(wanted.filter, trace_ids=result.trace_ids), result


def toolbar(wanted: Wanted, total: int, result: Found | None, words: str) -> None:
    """How many traces there are, what was searched, what narrows the list, and how to widen it again."""
    filters = active(wanted)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        text = f"{fmt.plural(total, 'trace')}, {words}"
        st.text(f"{text}: {filters}" if filters else text)
        if filters:
            st.button("Clear filters", key="clear-filters", type="tertiary", icon=":material/close:", on_click=_clear)
    if result is None:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if result.cut is None:
            st.caption(f"Searched all {result.rows_total:,} texts in {fmt.duration(result.seconds)}.")
            return
        share = result.rows / max(1, result.rows_total)
        why = "time was up" if result.cut == "time" else "there were too many matches to list"
        st.caption(
            f"Searched the newest {result.rows:,} of {result.rows_total:,} texts ({fmt.percent(share)}) in "
            f"{fmt.duration(result.seconds)}, then {why}. Older traces may hold the text too.",
            width="content",
        )
        if result.cut == "time" and not wanted.deep:
            st.button(
                f"Search for up to {DEEP_SEARCH_SECONDS:.0f} s", key="search-deep", type="tertiary",
                icon=":material/manage_search:", on_click=_search_deep,
            )  # fmt: skip


STATUS_WORDS: Final = {"error": "✕ failed", "unknown": ""}

COLUMNS: Final = {
    "seen_at": st.column_config.DatetimeColumn(
        "Time (UTC)", format="MM-DD HH:mm:ss", timezone="UTC", width=112, pinned=True
    ),
    "agent": st.column_config.TextColumn("Agent", width=112),
    "status": st.column_config.TextColumn("Status", width=62),
    "input": st.column_config.TextColumn("Input", width=246),
    "reward": st.column_config.TextColumn("Reward", width=86, alignment="right"),
    "feedback": st.column_config.NumberColumn("Feedback", width=68, help="Explicit signals."),
    "duration": st.column_config.TextColumn("Duration", width=72, alignment="right"),
    "cost": st.column_config.TextColumn("Cost", width=66, alignment="right"),
    "span_count": st.column_config.NumberColumn("Steps", width=50, format="localized"),
    "error_count": st.column_config.NumberColumn("Errors", width=50, format="localized"),
    "user_id": st.column_config.TextColumn("User", width=92),
    "output": st.column_config.TextColumn("Output", width=260),
    "task": st.column_config.TextColumn("Task", width=110),
    "arm": st.column_config.TextColumn("Arm", width=90),
    "model": st.column_config.TextColumn("Model", width=110),
    "trace_id": st.column_config.TextColumn("Trace", width=130),
}  # fmt: skip

_TIME_WITH_YEAR: Final = st.column_config.DatetimeColumn(
    "Time (UTC)", format="YYYY-MM-DD HH:mm:ss", timezone="UTC", width=140, pinned=True
)


def rows(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows of `store.traces.TRACE_ROWS` as the table shows them."""
    shown: list[dict[str, Any]] = [
        {
            **row,
            "status": STATUS_WORDS.get(row["status"], row["status"]),
            "input": one_line(row["input"], 160),
            "output": one_line(row["output"], 160),
            "reward": None if row["reward"] is None else f"{row['reward']:.2f} ± {row['reward_sd']:.2f}",
            "feedback": row["feedback"] or None,
            "duration": None if row["seconds"] is None else fmt.duration(row["seconds"]),
            "cost": None if row["cost_usd"] is None else fmt.money(row["cost_usd"]),
            "error_count": row["error_count"] or None,
        }
        for row in frame.to_dicts()
    ]
    types = {"duration": pl.String, "cost": pl.String, "reward": pl.String}
    schema = {column: types.get(column) or frame.schema[column] for column in COLUMNS}
    return pl.DataFrame(shown, schema=schema, orient="row")


def table(frame: pl.DataFrame, *, key: str, alt: str, without: tuple[str, ...] = ()) -> None:
    """The traces as a table; selecting a row opens its trace."""
    shown = rows(frame).drop(*without)
    # A column that nobody filled only takes room.
    empty = [column for column in shown.columns if shown.height and shown[column].null_count() == shown.height]
    # The year only takes room while all traces are of this one.
    years = set(shown["seen_at"].dt.year().to_list())
    this_year = years <= {runtime.current().clock.now().year}
    event = st.dataframe(
        shown.drop(*empty),
        column_config=fmt.columns(COLUMNS if this_year else {**COLUMNS, "seen_at": _TIME_WITH_YEAR}),
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        height="content",
        placeholder="",
        row_height=30,
        key=key,
        alt=alt,
    )
    chosen = event["selection"]["rows"]
    if chosen and chosen[0] < frame.height:
        open_trace(frame["trace_id"][chosen[0]])
        st.rerun()


def exported(narrowed: TraceFilter, wanted: Wanted, total: int) -> None:
    """The list by these controls as a file, read when it is asked for."""
    if total > _EXPORTED:
        st.caption(f"Files hold the first {_EXPORTED:,} of {total:,} traces.", text_alignment="right")
    export.download(partial(_whole, runtime.current().store, narrowed, wanted.sort), "traces", "traces-export")


def _whole(store: Store, narrowed: TraceFilter, sort: Sort) -> pl.DataFrame:
    return traces.page(store, narrowed, sort=sort, limit=_EXPORTED).rows


def pager(total: int) -> int:
    """The buttons of the pages of `total` traces; the page chosen, from 1."""
    pages = max(1, -(-total // PAGE_SIZE))
    chosen = st.pagination(pages, key="page", bind="query-params") if pages > 1 else 1
    return min(max(1, chosen), pages)


def open_trace(trace_id: str | None) -> None:
    """Go to a trace on this page, or back to the list."""
    st.query_params.pop("span", None)
    if trace_id is None:
        st.query_params.pop("trace", None)
    else:
        st.query_params["trace"] = trace_id


def _clear() -> None:
    for key in _KEYS:
        st.session_state[key] = {
            "q": "",
            "user": "",
            "session": "",
            "task": "",
            "tool_error": False,
            "feedback": False,
        }.get(key)


def _search_deep() -> None:
    st.session_state["deep_search"] = (st.session_state.get("q") or "").strip()


def neighbours(wanted: Wanted, trace_id: str) -> traces.Neighbours:
    """The traces before and after one in the list that the controls describe."""
    narrowed, _ = found(wanted)
    return data.query(traces.neighbours, narrowed, trace_id, sort=wanted.sort)
