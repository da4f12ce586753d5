"""The library of lessons: a table by state, and one lesson with its history and what can be done with it."""

from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import data, runtime
from dashboard.learn import tables
from dashboard.learn.actions import operator, perform
from dashboard.learn.lesson_text import lesson_text
from dashboard.ui import format as fmt
from dashboard.ui import states
from dashboard.ui.text import clean, line
from pipelines.lessons import review
from store import lessons
from store.connection import Store
from store.lesson_reviews import ALLOWED, MAX_CHARACTERS

__all__ = ["panel"]

_LESSON: Final = "lesson"
_STATES: Final = ("proposed", "approved", "canary", "active", "retired", "rejected", "superseded", "graduated")


def panel(frame: pl.DataFrame, books: pl.DataFrame) -> None:
    """The table of `frame` (columns `store.lessons.LESSONS`) and the lesson chosen in it, kept in the URL."""
    present = [state for state in _STATES if state in set(frame["state"])]
    counts = dict(frame["state"].value_counts().iter_rows())
    chosen_states = st.pills(
        "State", present, selection_mode="multi", key="state", bind="query-params", label_visibility="collapsed",
        format_func=lambda state: f"{state} {counts[state]:,}" if state in counts else state,
    )  # fmt: skip
    shown = frame.filter(pl.col("state").is_in(chosen_states)) if chosen_states else frame
    ids = shown["lesson_id"].to_list()
    event: Any = st.dataframe(
        _table(shown, books), key=f"library_{'-'.join(chosen_states)}", hide_index=True, on_select="rerun",
        selection_mode="single-row", height=tables.height(shown.height),
        column_config={
            "lesson": st.column_config.TextColumn(width="large"),
            "value": st.column_config.NumberColumn(
                format="%.1f",
                help="When proposed: reward gap between good and bad evidence, times the rollouts of its scope.",
            ),
            "changed": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm", timezone="UTC"),
        },
        alt=f"{shown.height} lessons with state, agent, evidence and value",
    )  # fmt: skip
    if event.selection.rows:
        st.query_params[_LESSON] = ids[event.selection.rows[0]]
    named = st.query_params.get(_LESSON)
    if named is None:
        st.caption("Choose a lesson to read it, see its history, or retire it.")
        return
    with states.guarded("The lesson", key="lesson"):
        _detail(data.query(lessons.one, named), books)


def _table(frame: pl.DataFrame, books: pl.DataFrame) -> pl.DataFrame:
    served = set(books.explode("lesson_ids")["lesson_ids"].drop_nulls())
    return frame.select(
        pl.col("title").alias("lesson"),
        "state",
        pl.col("lesson_id").is_in(served).alias("served"),
        "agent",
        pl.col("task").fill_null("all tasks"),
        pl.when("tested").then(pl.lit("tested effect")).otherwise(pl.lit("hypothesis")).alias("kind"),
        pl.format("{} good, {} bad", "good", "bad").alias("evidence"),
        "value",
        pl.col("updated_at").alias("changed"),
    )


def _detail(lesson: dict[str, Any], books: pl.DataFrame) -> None:
    left, right = st.columns([3, 2], gap="large")
    with left, st.container(border=True):
        lesson_text(lesson, heading=True)
        _served(lesson, books)
        _buttons(lesson)
    with right:
        _history(lesson["lesson_id"])


def _served(lesson: dict[str, Any], books: pl.DataFrame) -> None:
    if lesson["state"] != "active":
        return
    book = books.filter(agent=lesson["agent"])
    if book.height and lesson["lesson_id"] in book["lesson_ids"][0]:
        st.caption(f"Served since it entered playbook version {book['version'][0]} or an earlier one.")
    else:
        st.warning(
            "Active but not served: it repeats another lesson or does not fit into the token budget. "
            "Retire lessons that are worth less, or shorten them.",
            icon=":material/hourglass_disabled:",
        )


def _buttons(lesson: dict[str, Any]) -> None:
    with st.container(horizontal=True):
        if lesson["state"] in ALLOWED["approve"]:
            st.page_link(
                "views/review.py", label="Decide in Review", icon=":material/rate_review:",
                query_params={_LESSON: lesson["lesson_id"]},
            )  # fmt: skip
    if lesson["state"] in ALLOWED["retire"]:
        _retire_form(lesson)


def _retire_form(lesson: dict[str, Any]) -> None:
    with st.popover("Retire", icon=":material/archive:"), st.form("retire_form", border=False):
        st.caption("Agents stop getting it with the next playbook. It is kept, is not proposed again, can be undone.")
        st.text_area("Why? (optional)", key="retire_reason", max_chars=MAX_CHARACTERS)
        st.form_submit_button(
            "Retire", type="primary", icon=":material/archive:", key="retire_confirm", on_click=_retire, args=(lesson,)
        )


def _retire(lesson: dict[str, Any]) -> None:
    store, reason = runtime.current().store, str(st.session_state["retire_reason"]) or None
    perform(lambda: _retired(store, lesson, reason))


def _retired(store: Store, lesson: dict[str, Any], reason: str | None) -> str:
    done = review.retire(store, lesson["lesson_id"], version=lesson["version"], operator=operator(), reason=reason)
    if done.playbook_version is None:
        return f"Retired. The playbook of {done.agent} did not change."
    return f"Retired. The playbook of {done.agent} is at version {done.playbook_version} now."


def _history(lesson_id: str) -> None:
    """Who decided what, and every text there was."""
    reviews = data.query(lessons.reviews, lesson_id=lesson_id)
    st.markdown("**Reviews**")
    if reviews.is_empty():
        st.caption("Nobody has reviewed it yet.")
    for row in reviews.iter_rows(named=True):
        st.text(
            f"{fmt.utc(row['reviewed_at'], seconds=False)}  {row['action']} (version {row['version']})  "
            f"{clean(row['operator'])}" + (f"\n{clean(row['reason'])}" if row["reason"] else "")
        )
    standing = data.query(lessons.undoable, lesson_id=lesson_id)
    if standing.height:
        st.button(
            "Undo the last review", key="undo_review", icon=":material/undo:", on_click=_undo,
            args=(lesson_id, standing["sequence"][0]),
        )  # fmt: skip
    texts = data.query(lessons.versions, lesson_id)
    st.markdown("**Texts**")
    for row in texts.iter_rows(named=True):
        with st.expander(f"Version {row['version']}, {fmt.utc(row['created_at'], seconds=False)}"):
            line(f"{row['title']}\n\nBy {row['author']}\n\nWhen: {row['when_text']}\n\nDo: {row['do_text']}")


def _undo(lesson_id: str, sequence: int) -> None:
    store = runtime.current().store
    perform(lambda: f"Taken back: the lesson is {_undone(store, lesson_id, sequence)}.")


def _undone(store: Store, lesson_id: str, sequence: int) -> str:
    return review.undo(store, lesson_id, sequence=sequence, operator=operator()).state
