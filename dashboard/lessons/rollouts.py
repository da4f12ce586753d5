"""Evidence of a lesson: a good and a bad rollout side by side, with the step at which they part marked."""

from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import data
from dashboard.lessons.alignment import Pair, Step, align, parting
from dashboard.ui import format as fmt
from dashboard.ui import states, text
from pipelines.lessons.actions import ACTION_KINDS, actions
from store import lessons, traces
from store.errors import NotFound

__all__ = ["evidence_panel"]

_STEPS_SHOWN: Final = 40
_ASKED: Final = 280
_ARGUMENTS: Final = 400
_ON_ONE_LINE: Final = 100
_RESULT: Final = 600
_WORDS: Final = {
    "other arguments": "Same action, other arguments",
    "other action": "Another action",
    "only good": "Only the good rollout does this",
    "only bad": "Only the bad rollout does this",
}


def evidence_panel(lesson_id: str) -> None:
    """One good and one bad piece of evidence of a lesson side by side, chosen by the operator where there are more."""
    frame = data.query(lessons.evidence, lesson_id)
    good, bad = frame.filter(role="good").to_dicts(), frame.filter(role="bad").to_dicts()
    if not good or not bad:
        states.nothing("No evidence on both sides", "This lesson has no good and bad rollout to compare.")
        return
    held = {row["trace_id"]: _trace(row["trace_id"]) for row in (*good, *bad)}
    # Rollouts of the same task are the fairest pair to begin with.
    pairs = [(g, b) for g in range(len(good)) for b in range(len(bad)) if _task(held, good[g]) == _task(held, bad[b])]
    first_good, first_bad = pairs[0] if pairs else (0, 0)
    left, right = st.columns(2, gap="medium")
    with left:
        chosen_good = _head(good, first_good, "good", lesson_id, held)
    with right:
        chosen_bad = _head(bad, first_bad, "bad", lesson_id, held)
    trace_ids = (chosen_good["trace_id"], chosen_bad["trace_id"])
    acted = actions(data.query(lessons.steps, trace_ids, ACTION_KINDS))
    steps = align(_steps(acted, trace_ids[0]), _steps(acted, trace_ids[1]))
    if not steps:
        states.nothing("No steps to compare", "Neither rollout has a tool call; open the traces to read what was said.")
        return
    _comparison(steps, {chosen_good["span_id"], chosen_bad["span_id"]} - {None})


def _trace(trace_id: str) -> dict[str, Any] | None:
    """The trace as a row of `store.traces.TRACE_DETAIL`; None when it is not held any more."""
    try:
        return data.query(traces.one, trace_id).row(0, named=True)
    except NotFound:
        return None


def _task(held: dict[str, dict[str, Any] | None], row: dict[str, Any]) -> str | None:
    trace = held[row["trace_id"]]
    return trace["task"] if trace is not None else None


def _head(
    evidence: list[dict[str, Any]], first: int, role: str, lesson_id: str, held: dict[str, dict[str, Any] | None]
) -> dict[str, Any]:
    """Choice, reward, task and request of one side; returns its row of evidence."""
    number = 0
    if len(evidence) > 1:
        chosen = st.segmented_control(
            f"{role.capitalize()} rollout", range(len(evidence)), default=first, required=True,
            key=f"evidence_{role}_{lesson_id}", format_func=lambda place: f"{role} {place + 1}",
            label_visibility="collapsed",
        )  # fmt: skip
        number = first if chosen is None else chosen
    row = evidence[number]
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            if role == "good":
                st.badge("good rollout", icon=":material/thumb_up:", color="green")
            else:
                st.badge("bad rollout", icon=":material/thumb_down:", color="red")
            st.text(f"reward {fmt.reward(row['reward'], row['reward_sd'], None)}")
            st.page_link(
                "views/traces.py", label="Open the trace", icon=":material/open_in_new:",
                query_params={"trace": row["trace_id"]},
            )  # fmt: skip
        trace = held[row["trace_id"]]
        if trace is None:
            st.caption("This trace is not in the store any more.")
        else:
            st.text(f"task {text.one_line(trace['task'], 60)}")
            text.block(trace["input"], limit=_ASKED, length=len(trace["input"] or ""), empty="The trace has no input.")
    return row


def _steps(acted: pl.DataFrame, trace_id: str) -> list[Step]:
    columns = ("step", "span_id", "name", "arguments", "input", "output", "failed")
    return [Step(*row) for row in acted.filter(pl.col("trace_id") == trace_id).select(columns).iter_rows()]


def _comparison(pairs: list[Pair], marked: set[str]) -> None:
    """Pairs of steps from top to bottom; stretches that are the same on both sides take one line."""
    first = parting(pairs)
    st.caption(
        "Both rollouts take the same steps with the same arguments."
        if first is None
        else "They part at the first step. Arguments above, result below."
        if first == 0
        else f"{fmt.plural(first, 'step')} alike, then they part. Arguments above, result below."
    )
    same: list[Pair] = []
    for place, pair in enumerate(pairs[:_STEPS_SHOWN]):
        if pair.kind == "same" and not _is_marked(pair, marked):
            same.append(pair)
            continue
        _alike(same)
        same = []
        _pair(pair, place, is_parting=place == first, is_marked=_is_marked(pair, marked))
    _alike(same)
    if len(pairs) > _STEPS_SHOWN:
        st.caption(f"The first {_STEPS_SHOWN} of {len(pairs)} steps; open the traces to read on.")


def _is_marked(pair: Pair, marked: set[str]) -> bool:
    return any(step is not None and step.span_id in marked for step in (pair.good, pair.bad))


def _alike(same: list[Pair]) -> None:
    if not same:
        return
    names = [pair.good.name for pair in same if pair.good is not None]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge("alike", icon=":material/drag_handle:", color="gray")
        st.text(text.one_line(" → ".join(names), 300))


def _pair(pair: Pair, place: int, *, is_parting: bool, is_marked: bool) -> None:
    with st.container(border=True, key=f"pair_{'parting' if is_parting else 'step'}_{place}"):
        with st.container(horizontal=True, vertical_alignment="center"):
            if is_parting:
                st.badge("here they part", icon=":material/call_split:", color="orange")
            if is_marked:
                st.badge("what the lesson is about", icon=":material/lightbulb:", color="blue")
            st.caption(_WORDS.get(pair.kind, "The same on both sides"))
        left, right = st.columns(2, gap="medium")
        with left:
            _step(pair.good, "good")
        with right:
            _step(pair.bad, "bad")


def _step(step: Step | None, role: str) -> None:
    if step is None:
        st.caption(f"{role}: nothing here")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.text(f"{role} · action {step.number} · {text.one_line(step.name, 60)}")
        if step.failed:
            st.badge("failed", icon=":material/error:", color="red")
    given = step.input or ""
    short = len(given) <= _ON_ONE_LINE
    text.block(given if short else text.pretty_json(given), limit=_ARGUMENTS, empty="No arguments.")
    text.block(step.output, limit=_RESULT, empty="No result.")
