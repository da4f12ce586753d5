"""The job `policies`: finds the arms that traces name, works out each arm's posterior, and publishes what changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl

from pipelines.jobs import JobResult
from pipelines.steering import arm_discovery, publishing
from pipelines.steering.policy_build import PEOPLE, beliefs
from pipelines.steering.posterior import NOTHING_KNOWN, ROWS, Posterior, delay_weights, posterior
from store import arm_rewards, arms, never_explore
from store.connection import Store

if TYPE_CHECKING:
    from pipelines.jobs import JobContext

__all__ = ["posteriors", "run"]

LEAST_PEOPLE = 5  # of a segment; what fewer have in common cannot be told
MOST_SEGMENTS = 200  # of an agent, the largest


def run(context: "JobContext") -> JobResult:
    """Publish policies; `rows` counts the versions."""
    store = context.store
    context.progress(0.0, "looking for arms in traces")
    found = arm_discovery.discover(arm_rewards.run_arms(store))
    added = arms.discover(store, found.arms)
    listed = arms.listed(store)
    names = {agent: own["arm"].to_list() for (agent,), own in listed.group_by("agent", maintain_order=True)}
    if not names:
        only = publishing.republish(store, cause="schedule")
        told = f" Published for agents that have lessons: {', '.join(only)}." if only else ""
        return JobResult(len(only), f"No agent has an arm: no trace names one, and nobody defined any.{told}")
    context.progress(0.1, "computing posteriors")
    known = context.compute(_known, store, names, store.clock.now())
    context.progress(0.7, "publishing")
    fresh = {
        agent: beliefs(one, known.people[agent], opted_out=known.opted_out, reward_model_id=known.reward_model_id)
        for agent, one in known.posteriors.items()
    }
    published = publishing.publish(store, fresh, cause="schedule")
    # Agents that have lessons and no arms.
    published |= publishing.republish(store, cause="schedule")
    return JobResult(len(published), _message(published, len(fresh), added, found.notes))


@dataclass(frozen=True)
class _Known:
    """By agent its posterior and its people (columns `PEOPLE`), and on what they rest."""

    posteriors: Mapping[str, Posterior]
    people: Mapping[str, pl.DataFrame]
    opted_out: frozenset[str]
    reward_model_id: int | None


def _known(store: Store, names: Mapping[str, Sequence[str]], now: datetime) -> _Known:
    """What is known of the arms in `names`, by agent."""
    seen = arm_rewards.evidence(store)
    people = _people(seen.people)
    late = dict(arm_rewards.delays(store).select("agent", "hours").iter_rows())
    worked_out = posteriors(seen.traces, people, late, names, now)
    own = {agent: people.filter(pl.col("agent") == agent).select(list(PEOPLE)) for agent in worked_out}
    return _Known(worked_out, own, frozenset(never_explore.opted_out(store)), seen.reward_model_id)


def posteriors(
    traces: pl.DataFrame,
    people: pl.DataFrame,
    late: Mapping[str, Sequence[float]],
    names: Mapping[str, Sequence[str]],
    now: datetime,
) -> dict[str, Posterior]:
    """The posterior of every agent in `names`, whose arms these are.

    Args: `traces` as `store.arm_rewards.TRACES`, `people` as `PEOPLE` there with segments that are used, `late` the
    quantiles of delays by agent.
    """
    cleaned = {name: arms.clean_name(name) for name in traces["arm"].unique()}
    rows = traces.with_columns(pl.col("arm").replace(cleaned)).join(
        people, on=["agent", "user_id"], how="left", maintain_order="left"
    )
    elsewhere = NOTHING_KNOWN
    result = {}
    for agent, own in names.items():
        part = rows.filter(pl.col("agent") == agent)
        weight = delay_weights(part["done_at"], now, late.get(agent))
        result[agent] = posterior(
            part.with_columns(weight=pl.Series(weight)).select(list(ROWS)), own, elsewhere=elsewhere
        )
    return result


def _people(people: pl.DataFrame) -> pl.DataFrame:
    """The people, with the segments that have enough of them to be told apart."""
    large = (
        people.drop_nulls("segment")
        .group_by("agent", "segment")
        .len()
        .filter(pl.col("len") >= LEAST_PEOPLE)
        .sort("agent", "len", "segment", descending=[False, True, False])
        .group_by("agent", maintain_order=True)
        .head(MOST_SEGMENTS)
        .select("agent", "segment", kept=pl.col("segment"))
    )
    return people.join(large, on=["agent", "segment"], how="left", maintain_order="left").select(
        "agent", "user_id", segment="kept"
    )


def _message(published: Mapping[str, int], agents: int, added: int, notes: Sequence[str]) -> str:
    versions = ", ".join(f"{agent} version {version}" for agent, version in published.items())
    parts = [f"Published {versions}" if published else f"The policies of {agents} agents are as they were"]
    if added:
        parts.append(f"{added} new arms seen in traces")
    return "; ".join([*parts, *notes]) + "."
