"""Where the next exploratory decision teaches most, and whom to ask what they think."""

from typing import Final

import numpy as np
import polars as pl
import streamlit as st

from dashboard import data
from dashboard.explore import in_force
from dashboard.explore.preview import posteriors
from dashboard.learn import tables
from dashboard.ui import export, states
from dashboard.ui import format as fmt
from dashboard.ui.text import clean, one_line
from pipelines.exploration import bounds, intrinsic
from pipelines.steering.propensities import greedy_arms
from store import exploration, exploration_evidence, task_arms
from store.connection import Store
from store.policy import Policy

__all__ = ["show"]

_PEOPLE: Final = 50


def show(agent: str) -> None:
    """Tasks by what a look teaches there, and people by how much an answer would tell."""
    with states.guarded("Where to explore next", key="teach"), st.spinner("Working out what a look would teach"):
        _groups(data.query(_taught, agent))
    st.subheader("Whom to ask", anchor=False)
    with states.guarded("Whom to ask", key="ask"):
        _ask(agent)


def _groups(found: pl.DataFrame) -> None:
    if found.is_empty():
        states.nothing(
            "Nothing to compare yet",
            "Tasks are compared once traces of this agent ran two enabled arms, and have tasks and rewards. The "
            "jobs Tasks, Rewards and Transitions work these out.",
        )
        return
    known = found.drop_nulls("worth")
    if known.height:
        top = known.row(0, named=True)
        st.text(
            clean(
                f"The next exploratory decision teaches most in the task {one_line(top['task'], 80)} with "
                f"{one_line(top['arm'], 80)}: {top['reason']}"
            )
        )
    export.table(
        "tasks worth teaching",
        pl.DataFrame(
            [
                {
                    "task": one_line(row["task"], 80), "arm": one_line(row["arm"], 80) or None, "worth": row["worth"],
                    "interest": row["interest"], "novelty": row["novelty"], "progress": _progress(row),
                    "traces": row["traces"], "users": row["users"], "why": one_line(row["reason"], 400),
                }
                for row in found.to_dicts()
            ],
            schema_overrides={"arm": pl.String, "worth": pl.Float64, "novelty": pl.Float64, "progress": pl.String},
        ),
        hide_index=True, height=tables.height(found.height), alt=f"{found.height} tasks",
        column_config={
            "task": st.column_config.TextColumn(pinned=True, width=170),
            "arm": st.column_config.TextColumn("try", width=150),
            "worth": st.column_config.NumberColumn(
                "worth", format="%.3f", width=70, help="Of one look, in reward points over the decisions ahead"
            ),
            "interest": st.column_config.ProgressColumn("interest", format="percent", max_value=1.0, width=100),
            "novelty": st.column_config.NumberColumn("novelty", format="percent", width=72, help="1 / sqrt(n + 1)"),
            "progress": st.column_config.TextColumn(
                "learning progress", width=150, help="Drop of held-out loss in nats a step, with its lower 95 % limit"
            ),
            "traces": st.column_config.NumberColumn(format="localized", width=64),
            "users": st.column_config.NumberColumn(format="localized", width=60),
            "why": st.column_config.TextColumn(width=440),
        },
    )  # fmt: skip
    st.caption(
        "Interest is learning progress and novelty, not raw surprise: what is random by nature teaches nothing. As of "
        "the last fits of the rewards and transitions jobs."
    )


def _ask(agent: str) -> None:
    held = in_force.policy(agent)
    if held is None or not held.arms:
        st.caption("Not known yet: the job Policies has published no policy of this agent.")
        return
    answers = data.query(exploration_evidence.asked, agent)
    if answers.is_empty():
        st.caption("No trace of this agent names a user.")
        return
    found = data.query(_weights, agent, held.version)
    rate = bounds.of_agent(data.query(exploration.bounds, agent)).solicit_rate
    never = int((answers["answers"] == 0).sum())
    st.text(
        f"{fmt.percent(rate)} of decisions, drawn at random, tell the agent to ask. {never:,} of "
        f"{fmt.plural(answers.height, 'person', 'people')} never answered. An answer tells most from:"
    )
    shown = found.head(_PEOPLE)
    export.table(
        "people to ask",
        pl.DataFrame(
            {
                "user": [one_line(user, 80) for user in shown["user_id"]], "weight": shown["weight"],
                "answers": shown["answers"], "why": [one_line(reason, 300) for reason in shown["reason"]],
            },
            schema_overrides={"user": pl.String, "why": pl.String},
        ),
        hide_index=True, height=tables.height(shown.height), alt=f"{shown.height} people to ask",
        column_config={
            "user": st.column_config.TextColumn(pinned=True, width=170),
            "weight": st.column_config.NumberColumn(
                format="%.2f", width=70, help="How much more an answer tells than the mean person's; 1 is the mean"
            ),
            "why": st.column_config.TextColumn(width=460),
        },
    )  # fmt: skip
    if found.height > _PEOPLE:
        st.caption(f"The first {_PEOPLE} of {found.height:,}.")


def _taught(store: Store, agent: str, *, timeout: float | None = None) -> pl.DataFrame:
    tasks = exploration_evidence.tasks(store).filter(agent=agent)
    noise = exploration_evidence.noise(store)
    spread = {name: variance**0.5 for name, variance, _ in noise.iter_rows() if variance is not None}
    return intrinsic.groups(tasks, task_arms.means(store, agent, timeout=timeout), noise=spread)


def _weights(store: Store, agent: str, version: int) -> pl.DataFrame:
    """How much an answer of each person tells; `version` of the policy is what the cache is keyed on."""
    held = in_force.policy(agent)
    answers = exploration_evidence.asked(store, agent)
    if held is None:
        return pl.DataFrame(schema=intrinsic.ASK)
    known = _greedy_sds(held)
    lead = int(greedy_arms(held.mean))
    typical = float(np.median(list(known.values()))) if known else float(held.sd[lead])
    sds = np.array([known.get(user, typical) for user in answers["user_id"]])
    return intrinsic.solicit_weights(sds, answers, typical)


def _greedy_sds(held: Policy) -> dict[str, float]:
    """Of each person the sd of what their best arm is worth to them."""
    users = held.users
    if not users.index:
        return {}
    means, sds = posteriors(held, np.arange(len(users.index)))
    own = np.take_along_axis(sds, greedy_arms(means)[:, None], axis=1)[:, 0]
    return {user: float(own[row]) for user, row in users.index.items()}


def _progress(row: dict[str, object]) -> str | None:
    progress, lower = row["progress"], row["progress_lower"]
    if not isinstance(progress, float) or not isinstance(lower, float):
        return None
    return f"{progress:.4f} (from {round(lower, 4) + 0.0:.4f})"
