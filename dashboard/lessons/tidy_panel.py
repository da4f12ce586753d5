"""Keeping the library small and true: what the weekly distillation proposes to merge or retire, and the decision."""

from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import data, runtime
from dashboard.access import offer
from dashboard.access.actor import permit
from dashboard.learn.actions import operator, perform
from dashboard.lessons.words import titles
from dashboard.ui import format as fmt
from dashboard.ui import states
from dashboard.ui.text import clean, markdown_safe, one_line
from pipelines.lessons import review
from store import distil_reviews, distilling
from store.distil_reviews import Preview
from store.errors import TrimtabError

__all__ = ["panel"]

_SEEN: Final = "tidy_preview"
_SHOWN: Final = 30
_TITLES: Final = {"merge": "Merge", "retire": "Retire", "escalate": "A person has to look"}
_CAUSES: Final = {
    "exact": "the same words", "near": "nearly the same words", "unused": "nobody gets it", "harmful": "it does harm",
    "conflict": "they contradict each other", "no_effect": "without effect",
    "repeats": "the same again and again without effect",
}  # fmt: skip
_COLOURS: Final[dict[str, Any]] = {"merge": "blue", "retire": "orange", "escalate": "red"}


def panel(agents: tuple[str, ...]) -> None:
    """The open proposals, each with its evidence, its preview and its decision; then those decided."""
    run = data.query(distilling.newest_run)
    frame = data.query(distilling.listed)
    frame = frame.filter(pl.col("agent").is_in([*agents, "*"])) if agents else frame
    if run is None:
        states.nothing(
            "The library was not tidied yet",
            "The weekly job Distil looks for duplicates, for lessons that harm, that nobody gets, that contradict each "
            "other or have no effect. It proposes; you decide.",
        )
        return
    st.caption(f"As of {fmt.when(run['found_at'], seconds=False)}: {markdown_safe(run['message'])}")
    if frame.is_empty():
        states.nothing("Nothing to tidy", "No proposal of the last run waits for you.")
    names = titles()
    for row in frame.head(_SHOWN).iter_rows(named=True):
        _proposal(row, names)
    if frame.height > _SHOWN:
        st.caption(f"The first {_SHOWN} of {frame.height}.")
    _decided(names)


def _cause(row: dict[str, Any]) -> str:
    cause = str(row["cause"])
    return _CAUSES.get(cause, cause.replace("_", " "))


def _proposal(row: dict[str, Any], names: dict[str, str]) -> None:
    identity = row["proposal_id"]
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.badge(_TITLES.get(row["kind"], row["kind"]), color=_COLOURS.get(row["kind"], "gray"))
            st.text(_cause(row))
            if row["similarity"] is not None:
                st.caption(f"cosine {row['similarity']:.2f} ({row['method']})")
        for member in data.query(distilling.members, identity).iter_rows(named=True):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.badge("keeps" if member["role"] == "keep" else "goes", color="gray")
                st.text(one_line(names.get(member["lesson_id"], member["lesson_id"]), 120))
                st.page_link(
                    "views/lessons.py", label="Read", icon=":material/open_in_new:",
                    query_params={"lesson": member["lesson_id"]},
                )  # fmt: skip
        st.text(clean(row["reason"]))
        st.caption(f"Checked against its traces: {row['checked']}")
        seen = st.session_state.get(_SEEN)
        held = seen[1] if seen is not None and seen[0] == identity else None
        if held is not None:
            _preview(held)
        with st.container(horizontal=True):
            offer.button(
                "Preview", key=f"tidy_preview_{identity}", icon=":material/visibility:", on_click=_look,
                args=(identity,), type="secondary" if held else "primary",
            )  # fmt: skip
            offer.button(
                "Approve", key=f"tidy_approve_{identity}", icon=":material/check:", disabled=held is None,
                on_click=_approve, args=(identity,), type="primary" if held else "secondary",
                help=None if held else "Preview first",
            )  # fmt: skip
            with st.popover("Decline", icon=":material/close:"), st.form(f"tidy_form_{identity}", border=False):
                st.text_area("Why?", key=f"tidy_reason_{identity}", max_chars=1_000)
                offer.submit(
                    "Decline", type="primary", key=f"tidy_decline_{identity}", on_click=_decline, args=(identity,)
                )


def _preview(held: Preview) -> None:
    if not held.changes:
        st.caption("Nothing that agents are served changes.")
    for change in held.changes:
        more = f", {len(change.gained):,} more" if change.gained else ""
        same = change.tokens_before == change.tokens_after
        st.text(
            f"{one_line(change.agent, 60)}: {fmt.plural(len(change.lost), 'lesson')} less{more}; the playbook's text "
            + ("stays as long." if same else f"goes from {change.tokens_before:,} to {change.tokens_after:,} tokens.")
        )
    if held.confirm is not None:
        st.warning(
            "Agents lose something by this, as listed. Approving confirms that you have seen it.",
            icon=":material/visibility:",
        )


def _decided(names: dict[str, str]) -> None:
    done = data.query(distilling.listed, ("approved", "declined"))
    if done.is_empty():
        return
    with st.expander(f"Decided ({done.height:,})"):
        for row in done.head(_SHOWN).iter_rows(named=True):
            kept = f" into “{one_line(names.get(row['keep_id'], row['keep_id']), 60)}”" if row["keep_id"] else ""
            with st.container(horizontal=True, vertical_alignment="center"):
                st.text(
                    f"{fmt.when(row['decided_at'], seconds=False)}  {row['state']} by {clean(row['decided_by'] or '')}:"
                    f" {row['kind']}{kept}, {_cause(row)}"
                )
                if row["state"] == "approved":
                    offer.button(
                        "Undo", key=f"tidy_undo_{row['proposal_id']}", on_click=_undo, args=(row["proposal_id"],)
                    )
        if done.height > _SHOWN:
            st.caption(f"The first {_SHOWN} of {done.height:,}.")


def _look(identity: str) -> None:
    try:
        permit("reviewer", "Looking at what a change would do")
        held = distil_reviews.preview(runtime.current().store, identity, operator=operator(), render=review.render)
        st.session_state[_SEEN] = (identity, held)
    except TrimtabError as refused:
        why = refused

        def refuse() -> str:
            raise why

        perform(refuse)


def _approve(identity: str) -> None:
    held: Preview = st.session_state[_SEEN][1]

    def work() -> str:
        done = distil_reviews.approve(
            runtime.current().store, identity, operator=operator(), confirmed=held.confirm, render=review.render
        )
        return f"Done: {fmt.plural(len(done.lesson_ids), 'lesson')} went. It can be undone below."

    if perform(work):
        st.session_state.pop(_SEEN, None)


def _decline(identity: str) -> None:
    reason = str(st.session_state[f"tidy_reason_{identity}"])

    def work() -> str:
        distil_reviews.decline(runtime.current().store, identity, operator=operator(), reason=reason)
        return "Declined: the same is not proposed again."

    perform(work)


def _undo(identity: str) -> None:
    def work() -> str:
        done = distil_reviews.undo(runtime.current().store, identity, operator=operator(), render=review.render)
        return f"Taken back: {fmt.plural(len(done.lesson_ids), 'lesson')} as before."

    perform(work)
