"""Review: which proposed lessons may agents be shown? One at a time, with its evidence, by keyboard."""

import streamlit as st

from dashboard import data, runtime
from dashboard.learn import actions, forms, rollouts
from dashboard.learn.lesson_text import lesson_text
from dashboard.learn.reach import reach_panel
from dashboard.ui import filters, states
from dashboard.ui import format as fmt
from store import lessons, overview

store = runtime.current().store
selection = filters.current()

st.title("Review", anchor=False)
actions.notice()

with states.guarded("The queue", key="queue"):
    queue = data.query(lessons.queue)
    if selection.scope.agents:
        queue = queue.filter(queue["agent"].is_in(selection.scope.agents))
    forms.last_review()
    if queue.is_empty():
        held = data.query(overview.extent).row(0, named=True)
        forms.nothing_waits(empty=selection.empty, has_model=held["reward_models"] > 0)
        st.stop()

    tested = int(queue["tested"].fill_null(False).sum())
    st.markdown(
        f"**{fmt.plural(queue.height, 'lesson')} wait{'s' if queue.height == 1 else ''} for you:** "
        f"{fmt.plural(tested, 'tested effect')} and {fmt.plural(queue.height - tested, 'hypothesis', 'hypotheses')}, "
        "tested ones first, then the most valuable."
    )
    ids = queue["lesson_id"].to_list()
    place = forms.place_in_queue(ids)
    lesson = queue.row(place, named=True)

    with st.container(border=True):
        forms.navigation(ids, place)
        text_column, reach_column = st.columns([3, 2], gap="large")
        with text_column:
            lesson_text(lesson, heading=True)
        with reach_column:
            reach_panel(lesson)
        forms.decision(lesson, ids, place)

    st.subheader("Evidence", anchor=False)
    rollouts.evidence_panel(lesson["lesson_id"])
