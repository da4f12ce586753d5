"""Exploration: how often should each agent try something other than its best arm?"""

import json

import polars as pl
import streamlit as st

from dashboard import data, runtime
from dashboard.learn import actions, means, rate_panels
from dashboard.ui import filters, states, theme
from dashboard.ui import format as fmt
from store import exploration, rewards

now = runtime.current().clock.now()
selection = filters.current()

st.title("Exploration", anchor=False)
actions.notice()

with states.guarded("Exploration rates", key="exploration"):
    current = data.query(exploration.current)
    history = data.query(exploration.history)
    model = data.query(rewards.models, 1)
    arms = json.loads(model["parameters"][0]).get("arm_means", []) if model.height else []
    short = rate_panels.without_recommendation(means.means(arms))
    if selection.scope.agents:
        wanted = pl.col("agent").is_in(selection.scope.agents)
        current, history, short = current.filter(wanted), history.filter(wanted), short.filter(wanted)
    waiting = current.filter(state="recommended")
    applied = current.filter(state="applied")
    if history.is_empty() and short.is_empty():
        states.nothing(
            "No agent runs several arms",
            "An arm is one alternative an agent can run: a prompt version, a model, a tool set. State it in the column "
            "“arm” of your traces. Once an agent has two arms with 30 traces with signals each, a rate is recommended.",
        )
        st.page_link("views/data.py", label="Data", icon=":material/database:")
        st.stop()
    st.markdown(
        f"**{fmt.plural(waiting.height, 'recommendation')} wait{'s' if waiting.height == 1 else ''} for you**, "
        f"{fmt.plural(applied.height, 'agent')} {'has' if applied.height == 1 else 'have'} an applied rate. "
        "A rate says which share of decisions may leave the best arm to learn about the others."
    )
    st.caption("Estimates use all traces with signals: the time range does not apply. Intervals are for one look.")
    by_agent = {row["agent"]: row for row in applied.iter_rows(named=True)}
    colours = theme.current()
    for row in waiting.iter_rows(named=True):
        rate_panels.agent_panel(row["agent"], row, by_agent.pop(row["agent"], None), colours, now)
    for agent, row in by_agent.items():
        rate_panels.agent_panel(agent, None, row, colours, now)
    if short.height:
        rate_panels.missing_panel(short)
    if history.height:
        st.subheader("History", anchor=False)
        rate_panels.history_table(history)
