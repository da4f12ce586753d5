"""Rewards: how good are the agents' answers, and how much do we really know about it?"""

import json

import polars as pl
import streamlit as st

from dashboard import data
from dashboard.learn import means, reward_panels
from dashboard.ui import filters, states, theme
from dashboard.ui import format as fmt
from store import rewards

selection = filters.current()
agents = selection.scope.agents

st.title("Rewards", anchor=False)

with states.guarded("The reward model", key="model"):
    versions = data.query(rewards.models)
    signals = data.query(rewards.coverage)
    if versions.is_empty():
        states.nothing(
            "No reward model yet",
            "The rewards job fits one from outcomes, thumbs, ratings and annotations, and runs by itself when data "
            "arrives. Load traces and their feedback on the Data page, or run the job there now.",
        )
        st.page_link("views/data.py", label="Data", icon=":material/database:", query_params={"tab": "Jobs"})
        if signals.height:
            st.subheader("Signals so far", anchor=False)
            reward_panels.coverage(signals)
        st.stop()

    model = versions.row(0, named=True)
    parameters = json.loads(model["parameters"])
    by_agent = means.means(parameters.get("agent_means", []))
    by_arm = means.means(parameters.get("arm_means", []))
    if agents:
        by_agent = by_agent.filter(pl.col("agent").is_in(agents))
        by_arm = by_arm.filter(pl.col("agent").is_in(agents))

    known = by_agent.filter(pl.col("n") >= fmt.MINIMUM_MEAN).sort("n", descending=True)
    if known.is_empty():
        st.markdown(f"**Not enough data:** no agent has {fmt.MINIMUM_MEAN} traces with signals of their own.")
    st.text(
        "\n".join(
            f"{row['agent']}: mean reward {row['mean']:.2f} ({row['lower']:.2f} to {row['upper']:.2f}), "
            f"n {row['n']:,} of {row['traces']:,} traces"
            for row in known.head(5).iter_rows(named=True)
        )
    )
    if known.height > 5:
        st.caption(f"{known.height - 5} more agents below.")
    st.caption("A model is fitted on all traces: the time range and the model filter of the sidebar do not apply here.")
    reward_panels.model_card(model, parameters, versions)

    colours = theme.current()
    left, right = st.columns(2, gap="medium")
    with left:
        st.subheader("Reward per agent", anchor=False)
        reward_panels.agents(by_agent, colours)
    with right:
        st.subheader("Reward per arm", anchor=False)
        reward_panels.arms(by_arm, colours)

    st.subheader("Coverage of signals", anchor=False)
    if signals.is_empty():
        states.nothing("No signals", "Outcomes and feedback arrive with traces or in files of their own.")
    else:
        reward_panels.coverage(signals)

    st.subheader("Reliability over repeated runs", anchor=False)
    outcomes = data.query(rewards.outcomes)
    reward_panels.pass_table(outcomes.filter(pl.col("agent").is_in(agents)) if agents else outcomes)

    st.subheader("Tasks with the lowest reward", anchor=False)
    cells = data.query(rewards.cells)
    reward_panels.lowest_tasks(cells.filter(pl.col("agent").is_in(agents)) if agents else cells)
