"""The entry of the dashboard: page settings, navigation, and the filters that hold on every page."""

import base64
from pathlib import Path
from typing import Any

import streamlit as st

from dashboard import data
from dashboard.access import gate
from dashboard.feel import arrival, sidebar
from dashboard.ui import filters, states

_HERE = Path(__file__).parent

PAGES = {
    "": [
        st.Page(
            "views/overview.py",
            title="Overview",
            icon=":material/monitoring:",
            default=True,
            help="Is anything wrong, and what waits for you.",
        )
    ],
    "Learn": [
        st.Page(
            "views/review.py",
            title="Review",
            icon=":material/rate_review:",
            help="Approve, edit or reject proposed lessons, with their evidence side by side.",
        ),
        st.Page(
            "views/lessons.py",
            title="Lessons",
            icon=":material/menu_book:",
            help="The library of lessons and the playbook that each agent is served.",
        ),
    ],
    "Observe": [
        st.Page(
            "views/traces.py",
            title="Traces",
            icon=":material/account_tree:",
            help="Find a trace; read it as a waterfall, as a conversation and with its feedback.",
        ),
        st.Page(
            "views/users.py",
            title="Users",
            icon=":material/group:",
            help="Who is unhappy; what one user values, says and gets.",
        ),
        st.Page(
            "views/rewards.py",
            title="Rewards",
            icon=":material/grade:",
            help="Signals and their coverage, and what the reward model makes of them.",
        ),
    ],
    "Steer": [
        st.Page(
            "views/exploration.py",
            title="Exploration",
            icon=":material/explore:",
            help="Where agents try something new, what it costs and buys, and what waits for your approval.",
        ),
        st.Page(
            "views/drift.py",
            title="Drift",
            icon=":material/trending_down:",
            help="Users whose behaviour or satisfaction has changed.",
        ),
    ],
    "Operate": [
        st.Page(
            "views/data.py",
            title="Data",
            icon=":material/database:",
            help="Upload files, see batches and rejects, and run jobs.",
        ),
        st.Page(
            "views/settings.py",
            title="Settings",
            icon=":material/settings:",
            help="Operators, keys, notices, segments, privacy, and the log of what was done.",
        ),
    ],
}

_NAME = "Trimtab"
_MENU: Any = {
    "Get help": None,
    "Report a bug": None,
    "About": "Trimtab: the learning loop around deployed agents.",
}

data.begin()
acting = None
with states.guarded("The store", key="store"):
    acting = gate.entered()
if acting is None:
    # Pictures of ours are files of a session, which whoever has not signed in may not fetch, and those that Streamlit
    # knows by name are on machines of others: the mark itself stands in the address.
    mark = base64.b64encode((_HERE / "ui" / "mark.png").read_bytes()).decode()
    st.set_page_config(page_title=_NAME, page_icon=f"data:image/png;base64,{mark}", menu_items=_MENU)
    st.navigation(PAGES, position="hidden")
    st.stop()

st.set_page_config(page_title=_NAME, page_icon=str(_HERE / "ui" / "mark.png"), layout="wide", menu_items=_MENU)
st.logo(str(_HERE / "ui" / "wordmark.svg"), icon_image=str(_HERE / "ui" / "mark.svg"), size="large")

page = st.navigation(PAGES)
ready = False
with states.guarded("The store", key="store"):
    arrival.arrived()
    # Files, jobs and settings belong to no time range or agent; the choices stay in the URL for the way back.
    if page.url_path not in ("data", "settings"):
        filters.sidebar()
    sidebar.draw(page.url_path)
    gate.account(acting)
    ready = True
if ready:
    with states.guarded("The page", key="page"):
        page.run()
    sidebar.say_age(data.age())
