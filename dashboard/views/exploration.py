"""Exploration: where should agents try something new, what does it cost and buy, and what do I approve?"""

from collections.abc import Callable

import streamlit as st

from dashboard import runtime
from dashboard.explore import (
    agents,
    approval,
    arm_editor,
    arm_table,
    bounds_editor,
    decision_list,
    first_steps,
    guardrail_editor,
    guardrail_list,
    headline,
    ledger,
    never_list,
    questions,
    teaching,
    unit_tables,
)
from dashboard.feel.glossary import meaning
from dashboard.learn import actions
from dashboard.ui import filters, states, theme

now = runtime.current().clock.now()
selection = filters.current()
colours = theme.current()


def rates_tab(agent: str) -> None:
    """What is recommended and applied, to whom, and what operators allow."""
    approval.show(agent, now)
    unit_tables.show(agent)
    bounds_editor.show(agent)
    never_list.show(agent)
    approval.history(agent)


def arms_tab(agent: str) -> None:
    """The alternatives, how good each is, and their states."""
    arm_table.show(agent, colours)
    arm_editor.show(agent)


def ledger_tab(agent: str) -> None:
    """What exploring costs, and the latest decisions."""
    ledger.show(agent, now, colours)
    decision_list.show(agent, now)
    with st.expander("How an agent asks for decisions", icon=":material/code:"):
        first_steps.snippets_of()


def guardrails_tab(agent: str) -> None:
    """What must not be done, and what was."""
    guardrail_editor.show(agent)
    guardrail_list.violations(agent, now)
    guardrail_list.floors(agent, colours)


actions.heading("Exploration", help=meaning("exploration rate"))

with states.guarded("Exploration", key="exploration"):
    listed = agents.known(selection.scope.agents)
    if not listed:
        first_steps.nothing_yet()
        st.stop()
    headline.across(listed, now)
    agent = agents.choose(listed)
    headline.one_agent(agent, now)
    st.caption(
        "Estimates use all traces with signals, as of the last fit: the time range of the sidebar does not apply."
    )
    contents: dict[str, Callable[[str], None]] = {
        "Rates": rates_tab,
        "Arms": arms_tab,
        "What if": lambda agent: questions.show(agent, now),
        "Ledger": ledger_tab,
        "Guardrails": guardrails_tab,
        "Teach": teaching.show,
    }
    drawn = st.tabs(list(contents), key="tab", on_change="rerun", bind="query-params")
    for tab, (name, show) in zip(drawn, contents.items(), strict=True):
        if tab.open:
            with tab, states.guarded(f"The tab {name}", key=f"tab-{name}"):
                show(agent)
