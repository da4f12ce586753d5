"""Users: who drifts, who is unhappy, and what does one person value, say and get?"""

from collections.abc import Callable
from datetime import timedelta

import streamlit as st

from dashboard import data, runtime
from dashboard.learn import actions
from dashboard.ui import filters, states, theme
from dashboard.users import choices, lessons_served, listing, person, steering, timeline, went_wrong
from store import drift, preferences, user_history, users

now = runtime.current().clock.now()
selection = filters.current()
chosen = st.query_params.get(listing.CHOSEN)
colours = theme.current()


def timeline_tab(user_id: str) -> None:
    """What changed for them, and when."""
    timeline.show(user_id, colours)
    with states.guarded("Rewards", key="rewards"):
        st.subheader("Reward over time", anchor=False)
        person.rewards_over_time(user_id, colours)


def preferences_tab(user_id: str, span: timedelta) -> None:
    """What they value, now and over time, and whether that is what they say."""
    run = data.query(preferences.latest_run)
    left, right = st.columns(2, gap="medium")
    with left, states.guarded("What they value", key="values"):
        st.subheader("What they value", anchor=False)
        person.values(user_id, run, colours)
    with right, states.guarded("What they say and do", key="says"):
        st.subheader("What they say and do", anchor=False)
        person.says_and_does(user_id, run, colours)
    with states.guarded("Choices over time", key="choices"):
        st.subheader("What they chose over time", anchor=False)
        choices.show(user_id, run, colours, span=span)


def steering_tab(user_id: str) -> None:
    """What was tried on them, why, and what they were taught."""
    steering.show(user_id, now)
    with states.guarded("Lessons served", key="lessons"):
        lessons_served.show(user_id)


def one_user(user_id: str) -> None:
    """Everything about one user. Raises: `NotFound`."""
    found = data.query(users.one, user_id).row(0, named=True)
    person.facts(found, now)
    person.satisfaction(user_id)
    known = found["first_at"] is not None and found["latest_at"] is not None
    span = found["latest_at"] - found["first_at"] if known else timedelta()
    contents: dict[str, Callable[[], None]] = {
        "Timeline": lambda: timeline_tab(user_id),
        "Preferences": lambda: preferences_tab(user_id, span),
        "Steering": lambda: steering_tab(user_id),
        "What went wrong": lambda: went_wrong.show(user_id),
        "Signals": lambda: person.signals(user_id),
    }
    drawn = st.tabs(list(contents), key="user_tab", on_change="rerun", bind="query-params")
    for tab, (name, show) in zip(drawn, contents.items(), strict=True):
        if tab.open:
            with tab, states.guarded(f"The tab {name}", key=f"tab-{name}", height=320):
                show()


if chosen is not None:
    person.back()
actions.heading("Users" if chosen is None else "User")

if chosen is not None:
    with states.guarded("The user", key="user"):
        one_user(chosen)
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
    first = listing.page(wanted, 1)
    place = listing.pager(first.total)
    page = first if place == 1 else listing.page(wanted, place)
    with answer_slot:
        listing.answer(
            counted, data.query(preferences.compared_users), data.query(drift.latest_run), first, wanted, now
        )
    with rows_slot:
        if page.total == 0:
            states.nothing("No user matches", "Search for a part of an id, or choose another segment.")
        else:
            changed = data.query(user_history.changed, tuple(page.rows["user_id"].to_list()))
            listing.table(page, changed, alt=f"Users, page {place} of the list")
            listing.exported(wanted)
