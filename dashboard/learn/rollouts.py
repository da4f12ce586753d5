"""Evidence of a lesson: a good and a bad rollout side by side, with the step at which they part marked."""

from typing import Final

import polars as pl
import streamlit as st

from dashboard import data
from dashboard.learn.alignment import Pair, Step, align, parting
from dashboard.ui import format as fmt
from dashboard.ui import states, text
from pipelines.lessons.contrast import ContrastConfig, actions
from store import lessons, traces

__all__ = ["evidence_panel"]

_STEPS_SHOWN: Final = 40
_ARGUMENTS: Final = 400
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
    good, bad = frame.filter(role="good"), frame.filter(role="bad")
    if good.is_empty() or bad.is_empty():
        states.nothing("No evidence on both sides", "This lesson has no good and bad rollout to compare.")
        return
    left, right = st.columns(2, gap="medium")
    with left:
        chosen_good = _head(good, "good")
    with right:
        chosen_bad = _head(bad, "bad")
    trace_ids = [chosen_good["trace_id"], chosen_bad["trace_id"]]
    # The traces may have been ingested by a source that logs no actions: then their texts are all there is.
    steps = data.query(lessons.steps, trace_ids, ContrastConfig().action_kinds)
    acted = actions(steps)
    pairs = align(_steps(acted, trace_ids[0]), _steps(acted, trace_ids[1]))
    if not pairs:
        states.nothing("No steps to compare", "Neither rollout has a tool call; open the traces to read what was said.")
        return
    marked = {chosen_good["span_id"], chosen_bad["span_id"]} - {None}
    _comparison(pairs, marked)


def _head(evidence: pl.DataFrame, role: str) -> dict[str, str]:
    """Name, reward and request of one side; returns its row of evidence."""
    number = 0
    if evidence.height > 1:
        number = st.segmented_control(
            f"{role.capitalize()} rollout", range(evidence.height), default=0, required=True, key=f"evidence_{role}",
            format_func=lambda place: f"{role} {place + 1}", label_visibility="collapsed",
        ) or 0  # fmt: skip
    row = evidence.row(number, named=True)
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
        with states.guarded("The trace", key=f"evidence-{role}"):
            trace = data.query(traces.one, row["trace_id"]).row(0, named=True)
            st.caption("Asked")
            text.block(trace["input"], limit=280, length=len(trace["input"] or ""), empty="The trace has no input.")
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
    text.block(text.pretty_json(step.input), limit=_ARGUMENTS, empty="No arguments.")
    text.block(step.output, limit=_RESULT, empty="No result.")
