"""Users: who is unhappy, and what does one person value, say and get?"""

import streamlit as st

from dashboard import data, runtime
from dashboard.ui import filters, states, theme
from dashboard.users import listing, person
from store import preferences, users

now = runtime.current().clock.now()
selection = filters.current()
chosen = st.query_params.get(listing.CHOSEN)

if chosen is not None:
    person.back()
st.title("Users" if chosen is None else "User", anchor=False)

if chosen is not None:
    with states.guarded("The user", key="user"):
        found = data.query(users.one, chosen).row(0, named=True)
        run = data.query(preferences.latest_run)
        colours = theme.current()
        person.facts(found, now)
        person.satisfaction(chosen)
        left, right = st.columns(2, gap="medium")
        with left, states.guarded("What they value", key="values"):
            st.subheader("What they value", anchor=False)
            person.values(chosen, run, colours)
        with right, states.guarded("What they say and do", key="says"):
            st.subheader("What they say and do", anchor=False)
            person.says_and_does(chosen, run, colours)
        with states.guarded("Rewards", key="rewards"):
            st.subheader("Reward over time", anchor=False)
            person.rewards_over_time(chosen, colours)
        with states.guarded("Signals", key="signals"):
            st.subheader("Signals", anchor=False)
            person.signals(chosen)
    st.stop()

with states.guarded("The list of users", key="users", height=400):
    counted = data.query(users.latest_run)
    if counted is None or counted.users == 0:
        states.nothing(
            "There are no users yet",
            "Users appear when traces or signals name them (user_id) and the preferences job has counted them; it runs "
            "by itself when data arrives." + (" Load a file on the Data page first." if selection.empty else ""),
        )
        st.page_link("views/data.py", label="Data", icon=":material/database:", query_params={"tab": "Jobs"})
        st.stop()
    answer_slot = st.container()
    wanted = listing.controls()
    # The pager stands below the table, but says which rows to fetch.
    rows_slot = st.container()
    first = data.query(
        users.page, search=wanted.search, segment=wanted.segment, sort=wanted.sort, limit=listing.PAGE_SIZE, offset=0
    )
    place = listing.pager(first.total)
    page = first
    if place > 1:
        page = data.query(
            users.page, search=wanted.search, segment=wanted.segment, sort=wanted.sort, limit=listing.PAGE_SIZE,
            offset=(place - 1) * listing.PAGE_SIZE,
        )  # fmt: skip
    with answer_slot:
        listing.answer(counted, data.query(preferences.compared_users), first, wanted, now)
    with rows_slot:
        if page.total == 0:
            states.nothing("No user matches", "Search for a part of an id, or choose another segment.")
        else:
            listing.table(page, alt=f"Users, page {place} of the list")
