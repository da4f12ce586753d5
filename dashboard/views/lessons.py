"""Lessons: what have agents been taught, by whose decision, and what exactly are they served?"""

import polars as pl
import streamlit as st

from dashboard import data, runtime
from dashboard.learn import actions, library, playbook_history
from dashboard.ui import filters, states
from dashboard.ui import format as fmt
from store import lessons, playbooks

_LIBRARY, _PLAYBOOKS = "Library", "Playbooks"

now = runtime.current().clock.now()
selection = filters.current()

st.title("Lessons", anchor=False)
actions.notice()

with states.guarded("The lessons", key="lessons"):
    frame = data.query(lessons.library)
    books = data.query(playbooks.latest)
    if selection.scope.agents:
        frame = frame.filter(pl.col("agent").is_in(selection.scope.agents))
        books = books.filter(pl.col("agent").is_in(selection.scope.agents))
    if frame.is_empty():
        states.nothing(
            "No lessons yet",
            "The lessons job compares traces of the same task that went well and badly and proposes what separates "
            "them. Proposals wait in Review; what you approve there is served to the agent in its playbook.",
        )
        with st.container(horizontal=True):
            st.page_link("views/review.py", label="Review", icon=":material/rate_review:")
            st.page_link("views/data.py", label="Data", icon=":material/database:", query_params={"tab": "Jobs"})
        st.stop()

    active = frame.filter(state="active")
    waiting = frame.filter(pl.col("state").is_in(["proposed", "approved"])).height
    served = fmt.plural(active["agent"].n_unique(), "agent")
    st.markdown(
        f"**{fmt.plural(active.height, 'active lesson')} for {served}.** "
        f"{fmt.plural(waiting, 'proposal')} wait{'s' if waiting == 1 else ''} in Review, "
        f"{frame.height - active.height - waiting:,} retired or rejected. As of {now:%H:%M} UTC."
    )
    listed, served_text = st.tabs([_LIBRARY, _PLAYBOOKS], key="lessons_tab", on_change="rerun", bind="query-params")
    if listed.open:
        with listed:
            library.panel(frame, books)
    if served_text.open:
        with served_text:
            playbook_history.panel(books)
