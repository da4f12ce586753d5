"""Rewards: how good are the agents' answers, because of what, and how much do we really know about it?"""

import json
from collections.abc import Callable
from typing import Any

import polars as pl
import streamlit as st

from dashboard import data
from dashboard.feel.glossary import meaning
from dashboard.learn import (
    actions,
    calibration_panels,
    credit_panels,
    failure_panels,
    judge_panels,
    means,
    model_panels,
    preference_panels,
    reward_panels,
    signal_panels,
    transition_panels,
    watch_panels,
    yield_panels,
)
from dashboard.ui import filters, states, theme
from dashboard.ui import format as fmt
from store import reward_versions, rewards

selection = filters.current()
agents = selection.scope.agents
colours = theme.current()


def headline(by_agent: pl.DataFrame) -> None:
    """The answer: the mean reward of the agents that are known well enough."""
    known = by_agent.filter(pl.col("n") >= fmt.MINIMUM_MEAN).sort("n", descending=True)
    if known.is_empty():
        st.markdown(f"**Not enough data:** no agent has {fmt.MINIMUM_MEAN} traces with signals of their own.")
    else:
        st.text(
            "\n".join(
                f"{row['agent']}: mean reward {row['mean']:.2f} ({row['lower']:.2f} to {row['upper']:.2f}), "
                f"n {row['n']:,} of {row['traces']:,} traces"
                for row in known.head(5).iter_rows(named=True)
            )
        )
    if known.height > 5:
        st.caption(f"{known.height - 5} more agents below.")
    st.caption(
        "As of the last fit: traces scored since are in the next. A model is fitted on all traces: the time range and "
        "the model filter of the sidebar do not apply here."
    )


def means_tab(by_agent: pl.DataFrame, by_arm: pl.DataFrame) -> None:
    """Agents, arms, repeated runs, tasks."""
    left, right = st.columns(2, gap="medium")
    with left:
        st.subheader("Reward per agent", anchor=False)
        reward_panels.agents(by_agent, colours)
    with right:
        st.subheader("Reward per arm", anchor=False, help=meaning("arm"))
        reward_panels.arms(by_arm, colours)
    st.subheader("Arms by segment", anchor=False)
    model_panels.arm_by_segment(model["reward_model_id"], agents)
    st.subheader("Which arm for this request", anchor=False)
    model_panels.choice_of_arm(parameters)
    st.subheader("Reliability over repeated runs", anchor=False)
    outcomes = data.query(rewards.outcomes)
    reward_panels.pass_table(outcomes.filter(pl.col("agent").is_in(agents)) if agents else outcomes)
    st.subheader("Tasks with the lowest reward", anchor=False)
    cells = data.query(rewards.cells)
    reward_panels.lowest_tasks(cells.filter(pl.col("agent").is_in(agents)) if agents else cells)


def signals_tab() -> None:
    """What is known, of how many, and how far it can be trusted."""
    st.subheader("Coverage of signals", anchor=False, help=meaning("signal"))
    signals = data.query(rewards.coverage)
    if signals.is_empty():
        states.nothing("No signals", "Outcomes and feedback arrive with traces or in files of their own.")
    else:
        reward_panels.coverage(signals)
    st.subheader("Volunteered feedback against feedback asked for at random", anchor=False, help=meaning("solicited"))
    signal_panels.volunteered(agents, colours)
    st.subheader("What each signal is worth", anchor=False)
    signal_panels.loadings(model["reward_model_id"], agents)
    st.subheader("Signal yield", anchor=False)
    yield_panels.show(colours, agents)


def models_tab() -> None:
    """The model in use beside the others."""
    reward_panels.model_card(model, parameters, versions)
    st.subheader("Versions on people and tasks they have not seen", anchor=False)
    model_panels.versions(colours)
    st.subheader("Calibration", anchor=False)
    calibration_panels.show(model["reward_model_id"], colours)
    st.subheader("What the features are worth", anchor=False)
    model_panels.feature_weights(model["reward_model_id"], colours)
    st.subheader("Stated against revealed", anchor=False)
    means_by_segment = data.query(reward_versions.segment_means, model["reward_model_id"])
    model_panels.stated_weights(means_by_segment.select("agent", "segment").unique())


def steps_tab() -> None:
    """Because of what: steps, transitions, failures."""
    st.subheader("Failures and their causes", anchor=False)
    failure_panels.show(agents)
    st.subheader("Credit of tools", anchor=False, help=meaning("credit"))
    credit_panels.show(agents, colours)
    st.subheader("How runs unfold", anchor=False)
    transition_panels.show(agents, colours)


actions.heading("Rewards", help=meaning("reward"))

with states.guarded("The reward model", key="model"):
    versions = data.query(rewards.models)
    if versions.is_empty():
        states.nothing(
            "No reward model yet",
            "The rewards job fits one from outcomes, thumbs, ratings and annotations, and runs by itself when data "
            "arrives. Load traces and their feedback on the Data page, or run the job there now.",
        )
        st.page_link("views/data.py", label="Data", icon=":material/database:", query_params={"tab": "Jobs"})
        signals = data.query(rewards.coverage)
        if signals.height:
            st.subheader("Signals so far", anchor=False)
            reward_panels.coverage(signals)
        st.stop()

    active = versions.filter(pl.col("active"))
    model: dict[str, Any] = (active if active.height else versions).row(0, named=True)
    parameters: dict[str, Any] = json.loads(model["parameters"])
    of_agents = means.means(parameters.get("agent_means", []))
    of_arms = means.means(parameters.get("arm_means", []))
    if agents:
        of_agents = of_agents.filter(pl.col("agent").is_in(agents))
        of_arms = of_arms.filter(pl.col("agent").is_in(agents))
    headline(of_agents)

    contents: dict[str, Callable[[], None]] = {
        "Rewards": lambda: means_tab(of_agents, of_arms),
        "Signals": signals_tab,
        "Models": models_tab,
        "Preferences": lambda: preference_panels.show(colours, agents),
        "Judges": lambda: judge_panels.show(colours),
        "Steps": steps_tab,
        "Hacking watch": lambda: watch_panels.show(agents),
    }
    drawn = st.tabs(list(contents), key="tab", on_change="rerun", bind="query-params")
    for tab, (name, show) in zip(drawn, contents.items(), strict=True):
        if tab.open:
            with tab, states.guarded(f"The tab {name}", key=f"tab-{name}"):
                show()
