"""Drift: which users changed, when, and how sure are we?"""

import streamlit as st

from dashboard import data, runtime
from dashboard.learn import drift_panels
from dashboard.ui import filters, states, theme
from store import drift

now = runtime.current().clock.now()
selection = filters.current()

st.title("Drift", anchor=False)

with states.guarded("Drift", key="drift"):
    run = data.query(drift.latest_run)
    if run is None:
        states.nothing(
            "No scan yet",
            "The drift job looks for a change in every user's thumbs and ratings, or in the rewards of their traces. A "
            "user needs 20 events with a time; it runs by itself when data arrives."
            + (" Load traces and feedback on the Data page first." if selection.empty else ""),
        )
        st.page_link("views/data.py", label="Data", icon=":material/database:", query_params={"tab": "Jobs"})
        st.stop()
    drift_panels.answer(run, now)
    flagged = data.query(drift.findings, flagged_only=True)
    everyone = data.query(drift.findings)
    if everyone.is_empty():
        states.nothing(
            "Nobody to scan",
            f"No user has {run['min_events']} events yet: thumbs and ratings with a user and a time, or traces with "
            "signals and a start.",
        )
        st.stop()
    only_flagged = flagged.height > 0 and not st.toggle(
        "Show every user that was scanned", key="everyone", bind="query-params"
    )
    shown = flagged if only_flagged else everyone
    drift_panels.findings_table(shown)
    chosen = drift_panels.chosen_user(shown)
    if chosen is None:
        st.caption("The user that the address names was not scanned, or is not in this list.")
    else:
        drift_panels.user_panel(chosen, theme.current())
