"""The controls of Review: moving through the queue, deciding, and taking a decision back. All have a key."""

from typing import Any, Final

import streamlit as st

from dashboard import data, runtime
from dashboard.learn.actions import operator, perform
from dashboard.ui import format as fmt
from dashboard.ui import states
from dashboard.ui.text import clean, markdown_safe, one_line
from pipelines.lessons import review
from store import lessons
from store.lesson_reviews import MAX_CHARACTERS, LessonText, Reviewed

__all__ = ["decision", "last_review", "navigation", "nothing_waits", "place_in_queue"]

_LESSON: Final = "lesson"
_OPEN: Final = "review_open"
_TITLE_CHARACTERS: Final = 200
_FIELDS: Final = {"title": "Title", "when_text": "When", "when_not": "Not when", "do_text": "Do"}
_PAST: Final = {"approve": "approved", "reject": "rejected", "edit": "edited", "retire": "retired"}


def place_in_queue(ids: list[str]) -> int:
    """Where the lesson that the URL names is in the queue; the first place when it is not there."""
    named = st.query_params.get(_LESSON)
    place = ids.index(named) if named in ids else 0
    st.query_params[_LESSON] = ids[place]
    return place


def navigation(ids: list[str], place: int) -> None:
    """Previous and next lesson, and where in the queue this one is."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Previous", key="previous", icon=":material/arrow_back:", shortcut="P", disabled=place == 0,
            on_click=_go, args=(ids[max(place - 1, 0)],),
        )  # fmt: skip
        st.button(
            "Next", key="next", icon=":material/arrow_forward:", shortcut="N", disabled=place + 1 >= len(ids),
            on_click=_go, args=(ids[min(place + 1, len(ids) - 1)],),
        )  # fmt: skip
        st.text(f"{place + 1} of {len(ids)}")


def decision(lesson: dict[str, Any], ids: list[str], place: int) -> None:
    """Approve, reject with a reason, edit, or skip to the next lesson. A form opens below the buttons."""
    following = ids[place + 1] if place + 1 < len(ids) else ids[0]
    found = review.literals(LessonText(lesson["title"], lesson["when_text"], lesson["when_not"], lesson["do_text"]))
    confirmed = True
    if found:
        named = ", ".join(f"{literal.form} {literal.text}" for literal in found[:5])
        st.warning(markdown_safe(f"The text holds {named}. Lessons must be true of every customer."))
        confirmed = st.checkbox("These literals belong there", key=f"literals_{lesson['lesson_id']}")
    with st.container(horizontal=True):
        st.button(
            "Approve", key="approve", type="primary", icon=":material/check:", shortcut="A", disabled=not confirmed,
            on_click=_approve, args=(lesson, following),
        )  # fmt: skip
        for label, icon, shortcut in (("Reject", "close", "X"), ("Edit", "edit", "E")):
            st.button(
                label, key=label.lower(), icon=f":material/{icon}:", shortcut=shortcut, on_click=_open,
                args=(label.lower(), lesson["lesson_id"]),
            )  # fmt: skip
        st.button(
            "Skip", key="skip", icon=":material/skip_next:", shortcut="S", disabled=len(ids) < 2,
            on_click=_go, args=(following,),
        )  # fmt: skip
    opened = st.session_state.get(_OPEN)
    if opened == ("reject", lesson["lesson_id"]):
        _reject_form(lesson, following)
    elif opened == ("edit", lesson["lesson_id"]):
        _edit_form(lesson)


def last_review() -> None:
    """The latest decision that still stands, with a way back."""
    standing = data.query(lessons.undoable)
    if standing.is_empty():
        return
    row = standing.row(0, named=True)
    now = runtime.current().clock.now()
    with states.guarded("The last review", key="last-review"):
        lesson = data.query(lessons.one, row["lesson_id"])
        with st.container(horizontal=True, vertical_alignment="center", key="last_review"):
            st.text(
                f"Last review: {_PAST[row['action']]} “{one_line(lesson['title'], 70)}”, "
                f"{clean(row['operator'])}, {fmt.relative(row['reviewed_at'], now)}"
            )
            st.button(
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
            "them, at most five lessons a run. A finding that was decided once is not proposed again.",
        )
    with st.container(horizontal=True):
        st.page_link("views/data.py", label="Data", icon=":material/database:", query_params={"tab": "Jobs"})
        st.page_link("views/lessons.py", label="Lessons", icon=":material/menu_book:")


def _reject_form(lesson: dict[str, Any], following: str) -> None:
    with st.form("reject_form"):
        st.text_area(
            "Why is it rejected?", key="reject_reason", max_chars=MAX_CHARACTERS,
            placeholder="It is not proposed again. Ctrl+Enter rejects.",
        )  # fmt: skip
        with st.container(horizontal=True):
            st.form_submit_button(
                "Reject", type="primary", icon=":material/close:", key="reject_confirm", on_click=_reject,
                args=(lesson, following),
            )  # fmt: skip
            st.form_submit_button("Cancel", key="reject_cancel", on_click=_close)


def _edit_form(lesson: dict[str, Any]) -> None:
    with st.form("edit_form"):
        for field, label in _FIELDS.items():
            name, value = f"edit_{field}_{lesson['lesson_id']}_{lesson['version']}", lesson[field] or ""
            if field == "title":
                st.text_input(label, value, key=name, max_chars=_TITLE_CHARACTERS)
            else:
                st.text_area(label, value, key=name, max_chars=MAX_CHARACTERS, height="content")
        st.caption("The earlier text stays in the history. Agents read it as written: say what to do.")
        with st.container(horizontal=True):
            st.form_submit_button(
                "Save as a new version", type="primary", icon=":material/save:", key="edit_confirm", on_click=_edit,
                args=(lesson,),
            )  # fmt: skip
            st.form_submit_button("Cancel", key="edit_cancel", on_click=_close)


def _open(action: str, lesson_id: str) -> None:
    st.session_state[_OPEN] = (action, lesson_id)


def _close() -> None:
    st.session_state.pop(_OPEN, None)


def _reject(lesson: dict[str, Any], following: str) -> None:
    store, reason = runtime.current().store, str(st.session_state["reject_reason"])
    identity, version = lesson["lesson_id"], lesson["version"]
    if perform(lambda: _report(review.reject(store, identity, version=version, operator=operator(), reason=reason))):
        _close()
        _go(following)


def _edit(lesson: dict[str, Any]) -> None:
    store, identity, version = runtime.current().store, lesson["lesson_id"], lesson["version"]
    typed = {field: str(st.session_state[f"edit_{field}_{identity}_{version}"]) for field in _FIELDS}
    text = LessonText(typed["title"], typed["when_text"], typed["when_not"] or None, typed["do_text"])
    if perform(lambda: _report(review.edit(store, identity, version=version, operator=operator(), text=text))):
        _close()


def _approve(lesson: dict[str, Any], following: str) -> None:
    checked = bool(st.session_state.get(f"literals_{lesson['lesson_id']}"))
    store = runtime.current().store
    if perform(
        lambda: _report(
            review.approve(
                store, lesson["lesson_id"], version=lesson["version"], operator=operator(), literals_checked=checked
            )
        )
    ):
        _go(following)


def _undo(lesson_id: str, sequence: int) -> None:
    store = runtime.current().store
    if perform(lambda: _report(review.undo(store, lesson_id, sequence=sequence, operator=operator()))):
        _go(lesson_id)


def _go(lesson_id: str) -> None:
    st.query_params[_LESSON] = lesson_id


def _report(done: Reviewed) -> str:
    """What an action did, in one sentence or two."""
    said = {"undo": "Taken back"}.get(done.action, _PAST.get(done.action, done.action).capitalize())
    report = f"{said}: the lesson is {done.state}, at version {done.version}."
    if done.playbook_version is not None:
        report += f" The playbook of {done.agent} is at version {done.playbook_version} now."
    elif done.state == "active":
        report += f" The playbook of {done.agent} did not change."
    return report
