"""The words of a lesson as operators read them. Tool names in them come from traces, so nothing of it is Markdown."""

from typing import Any

import streamlit as st

from dashboard.ui.text import line, markdown_safe

__all__ = ["lesson_text"]


def lesson_text(lesson: dict[str, Any], *, heading: bool) -> None:
    """Title, kind and scope, then when, not when, do and why. `lesson` is a row of `store.lessons.LESSONS`."""
    if heading:
        st.subheader(markdown_safe(lesson["title"]), anchor=False)
    with st.container(horizontal=True, vertical_alignment="center"):
        if lesson["tested"]:
            st.badge("tested effect", icon=":material/science:", color="green")
        elif lesson["origin"] == "contrast":
            st.badge("hypothesis", icon=":material/help:", color="orange")
        st.badge(lesson["state"], color="gray")
        st.badge(f"version {lesson['version']}", color="gray")
        st.text(f"{lesson['agent']} · {'all tasks' if lesson['task'] is None else lesson['task']}")
    for label, column in (("When", "when_text"), ("Not when", "when_not"), ("Do", "do_text"), ("Why", "why")):
        if lesson[column]:
            with st.container(gap=None):
                st.caption(label)
                line(lesson[column])
