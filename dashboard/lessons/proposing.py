"""Writing a lesson oneself: it waits in Review like any other, and is linted like any other."""

from collections.abc import Sequence
from typing import Final

import streamlit as st

from dashboard import data, runtime
from dashboard.access import offer
from dashboard.learn.actions import operator, perform
from dashboard.lessons.words import FIELDS, TITLE_CHARACTERS
from dashboard.ui.text import one_line
from pipelines.lessons.proposing import propose_by_operator
from store import overview
from store.lesson_reviews import MAX_CHARACTERS, LessonText, Scope
from store.lesson_versions import EVERY_AGENT

__all__ = ["button"]

_HINTS: Final = {
    "title": "Look the order up before promising a date",
    "when_text": "When a customer asks when something arrives",
    "when_not": "Leave it empty where there is no exception",
    "do_text": "Say what to do, in the order in which to do it",
}


def button(agents: Sequence[str]) -> None:
    """A button that opens the form."""
    if offer.button("Write a lesson", key="write_lesson", icon=":material/edit_note:"):
        _dialog(tuple(agents))


@st.dialog("Write a lesson", width="large")
def _dialog(agents: tuple[str, ...]) -> None:
    known = agents or tuple(data.query(overview.segments).filter(field="agent")["value"].to_list())
    with st.form("write_form", border=False):
        st.selectbox(
            "Agent", [*known, EVERY_AGENT], key="write_agent",
            format_func=lambda name: "every agent" if name == EVERY_AGENT else one_line(name, 60),
        )  # fmt: skip
        for field, label in FIELDS.items():
            if field == "title":
                st.text_input(label, key=f"write_{field}", max_chars=TITLE_CHARACTERS, placeholder=_HINTS[field])
            else:
                st.text_area(
                    label, key=f"write_{field}", max_chars=MAX_CHARACTERS, placeholder=_HINTS[field], height=90
                )
        st.text_area("Why", key="write_why", max_chars=MAX_CHARACTERS, height=90, placeholder="How you know it")
        task, segment = st.columns(2)
        task.text_input("Task", key="write_task", placeholder="any")
        segment.text_input("Segment", key="write_segment", placeholder="any")
        st.caption("It waits in Review, is checked like any other lesson, and is measured once it is served.")
        offer.submit("Propose", type="primary", icon=":material/send:", key="write_confirm", on_click=_propose)


def _propose() -> None:
    read = {name: str(st.session_state[f"write_{name}"] or "").strip() for name in (*FIELDS, "why", "task", "segment")}
    store, agent = runtime.current().store, str(st.session_state["write_agent"])

    def work() -> str:
        text = LessonText(read["title"], read["when_text"], read["when_not"] or None, read["do_text"])
        scope = Scope(agent, read["task"] or None, read["segment"] or None)
        made = propose_by_operator(store, operator=operator(), scope=scope, text=text, why=read["why"])
        st.query_params["lesson"] = made
        return "Proposed: it waits in Review."

    perform(work)
