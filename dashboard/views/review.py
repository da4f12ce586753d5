"""Review: which proposed lessons may agents be shown? One at a time, with its evidence, by keyboard."""

import streamlit as st

from dashboard import data, runtime
from dashboard.feel.glossary import meaning
from dashboard.learn import actions
from dashboard.lessons import decide, rollouts, waiting
from dashboard.lessons.findings import findings_panel
from dashboard.lessons.reach import reach_panel
from dashboard.lessons.similar import similar_panel
from dashboard.lessons.words import words_panel
from dashboard.ui import filters, states
from store import overview

now = runtime.current().clock.now()
selection = filters.current()

actions.heading("Review", help=meaning("lesson"))

with states.guarded("The queue", key="queue"):
    queue = waiting.queue(selection.scope.agents)
    waiting.last_review()
    if queue.is_empty():
        held = data.query(overview.extent).row(0, named=True)
        waiting.nothing_waits(empty=selection.empty, has_model=held["reward_models"] > 0)
        st.stop()
    waiting.headline(queue)
    ids = queue["lesson_id"].to_list()
    place = waiting.place_in_queue(ids)
    lesson = queue.row(place, named=True)

    with st.container(border=True):
        waiting.navigation(ids, place)
        text_column, reach_column = st.columns([3, 2], gap="large")
        with text_column:
            words_panel(lesson, now)
        with reach_column:
            reach_panel(lesson)
            findings_panel(lesson)
            similar_panel(lesson)
        decide.decision(lesson, ids, place)

    st.subheader("Evidence", anchor=False)
    rollouts.evidence_panel(lesson["lesson_id"])
