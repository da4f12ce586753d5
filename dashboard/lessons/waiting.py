"""The queue of Review: what waits, in which order, where we are in it, and the last decision with its way back."""

from typing import Any, Final, Literal, cast

import polars as pl
import streamlit as st

from dashboard import data, runtime
from dashboard.access import offer
from dashboard.learn.actions import operator, perform
from dashboard.lessons.reports import PAST, report
from dashboard.ui import format as fmt
from dashboard.ui import states
from dashboard.ui.text import clean, one_line
from pipelines.lessons import review
from store import lessons

__all__ = ["LESSON", "go", "headline", "last_review", "navigation", "nothing_waits", "place_in_queue", "queue"]

LESSON: Final = "lesson"
"""The URL parameter that names the lesson shown."""

_ORDERS: Final = {"value": "most valuable first", "uncertainty": "least certain first"}


def queue(agents: tuple[str, ...]) -> pl.DataFrame:
    """What waits (columns `store.lessons.LESSONS`), in the order that the URL asks for, of these agents or all."""
    asked = st.session_state.get("order")
    by = cast(Literal["value", "uncertainty"], asked if asked in _ORDERS else "value")
    frame = data.query(lessons.queue, by=by)
    return frame.filter(pl.col("agent").is_in([*agents, "*"])) if agents else frame


def headline(frame: pl.DataFrame) -> None:
    """How many wait, of which kinds, and the order."""
    tested = int(frame["tested"].fill_null(False).sum())
    back = int(frame["sent_back"].sum())
    blocked = int((frame["blocks"].fill_null(0) > 0).sum())
    written = frame.filter(pl.col("origin") != "contrast").height
    parts = [
        fmt.plural(tested, "tested effect"),
        fmt.plural(frame.height - tested - written, "hypothesis", "hypotheses"),
    ]
    if written:
        parts.append(f"{written} written by people, agents or a model")
    text = (
        f"**{fmt.plural(frame.height, 'lesson')} wait{'s' if frame.height == 1 else ''} for you:** {', '.join(parts)}."
    )
    if blocked:
        text += f" Lint blocks {blocked}."
    if back:
        text += f" {back} sent back, at the end."
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(text)
        st.selectbox(
            "Order", list(_ORDERS), key="order", bind="query-params", format_func=_ORDERS.__getitem__,
            label_visibility="collapsed", width=220,
        )  # fmt: skip


def place_in_queue(ids: list[str]) -> int:
    """Where the lesson that the URL names is in the queue; the first place when it is not there."""
    named = st.query_params.get(LESSON)
    place = ids.index(named) if named in ids else 0
    st.query_params[LESSON] = ids[place]
    return place


def navigation(ids: list[str], place: int) -> None:
    """Previous and next lesson, and where in the queue this one is."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Previous", key="previous", icon=":material/arrow_back:", shortcut="P", disabled=place == 0,
            on_click=go, args=(ids[max(place - 1, 0)],),
        )  # fmt: skip
        st.button(
            "Next", key="next", icon=":material/arrow_forward:", shortcut="N", disabled=place + 1 >= len(ids),
            on_click=go, args=(ids[min(place + 1, len(ids) - 1)],),
        )  # fmt: skip
        st.text(f"{place + 1} of {len(ids)}")


def go(lesson_id: str) -> None:
    """Show another lesson."""
    st.query_params[LESSON] = lesson_id


def last_review() -> None:
    """The latest decision that still stands, with a way back."""
    found = data.query(lessons.undoable)
    if found.is_empty():
        return
    row = found.row(0, named=True)
    now = runtime.current().clock.now()
    with states.guarded("The last review", key="last-review"):
        lesson = data.query(lessons.one, row["lesson_id"])
        with st.container(horizontal=True, vertical_alignment="center", key="last_review"):
            st.text(
                f"Last review: {PAST.get(row['action'], row['action'])} “{one_line(lesson['title'], 70)}”, "
                f"{clean(row['operator'])}, {fmt.relative(row['reviewed_at'], now)}"
            )
            offer.button(
                "Undo", key="undo", icon=":material/undo:", shortcut="U", type="tertiary", on_click=_undo,
                args=(row["lesson_id"], row["sequence"]),
            )  # fmt: skip


def nothing_waits(*, empty: bool, has_model: bool) -> None:
    """Why the queue is empty and what fills it."""
    if empty:
        states.nothing(
            "No traces yet",
            "Lessons are proposed from traces of the same task that went well and badly. Load some on the Data page.",
        )
    elif not has_model:
        states.nothing(
            "No rewards yet",
            "Lessons need to know which traces went well. The jobs tasks, rewards and lessons run by themselves once "
            "traces have outcomes or feedback; “Run now” on the Data page does not wait.",
        )
    else:
        states.nothing(
            "Nothing waits for review",
            "The lessons job compares rollouts of the same task whose outcomes differ and proposes what separates "
            "them, at most five lessons a run. A finding that was decided once is not proposed again. Agents and "
            "people can propose lessons too.",
        )
    with st.container(horizontal=True):
        st.page_link("views/data.py", label="Data", icon=":material/database:", query_params={"tab": "Jobs"})
        st.page_link("views/lessons.py", label="Lessons", icon=":material/menu_book:")


def _undo(lesson_id: str, sequence: int) -> None:
    store: Any = runtime.current().store
    if perform(lambda: report(review.undo(store, lesson_id, sequence=sequence, operator=operator()))):
        go(lesson_id)
