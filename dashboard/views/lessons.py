"""Lessons: what have agents been taught, what does it pay, and what exactly are they served?"""

from collections.abc import Callable

import polars as pl
import streamlit as st

from dashboard import data
from dashboard.feel.glossary import meaning
from dashboard.learn import actions
from dashboard.lessons import (
    contrast_panel,
    drafting_panel,
    graduate_panel,
    library,
    payoff,
    playbook_panel,
    proposing,
    rules_panel,
    tidy_panel,
    why_panel,
)
from dashboard.ui import filters, states, theme
from store import lessons, playbooks

selection = filters.current()
agents = selection.scope.agents


def contrasts_tab() -> None:
    """What rollouts say, and what a model makes of them."""
    contrast_panel.panel(agents)
    drafting_panel.panel(agents)


def rules_tab() -> None:
    """Settings of every agent and of one."""
    rules_panel.panel(sorted(set(frame["agent"]) - {"*"}))


actions.heading("Lessons", help=meaning("lesson"))

with states.guarded("The lessons", key="lessons"):
    frame = data.query(lessons.library)
    books = data.query(playbooks.latest)
    if agents:
        frame = frame.filter(pl.col("agent").is_in([*agents, "*"]))
        books = books.filter(pl.col("agent").is_in(agents))
    served = frame.filter(pl.col("state").is_in(["canary", "active"]))
    waiting = frame.filter(pl.col("state").is_in(["proposed", "approved"])).height
    if frame.is_empty():
        states.nothing(
            "No lessons yet",
            "The lessons job compares traces of the same task that went well and badly and proposes what separates "
            "them. Proposals wait in Review; what you approve there is served to the agent. You can write one too.",
        )
    else:
        st.markdown(f"**{library.headline(served)} {payoff.headline(agents)}** {library.waits(waiting)}")
    with st.container(horizontal=True, vertical_alignment="center"):
        label = f"Review: {waiting:,} waiting" if waiting else "Review"
        st.page_link("views/review.py", label=label, icon=":material/rate_review:")
        proposing.button(agents)
    panels: dict[str, Callable[[], None]] = {
        "Library": lambda: library.panel(frame, agents) if frame.height else None,
        "Payoff": lambda: payoff.panel(agents, theme.current()),
        "Playbooks": lambda: playbook_panel.panel(books),
        "Why": lambda: why_panel.panel(agents),
        "Contrasts": contrasts_tab,
        "Tidy": lambda: tidy_panel.panel(agents),
        "Graduate": lambda: graduate_panel.panel(agents),
        "Rules": rules_tab,
    }
    for name, tab in zip(
        panels, st.tabs(list(panels), key="lessons_tab", on_change="rerun", bind="query-params"), strict=True
    ):
        if tab.open:
            with tab, states.guarded(name, key=name):
                panels[name]()
