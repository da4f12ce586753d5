"""Rates of all agents, segments and users from everything that is known of them: the pure part of the job."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from pipelines.exploration import intrinsic, rates, tolerance, units
from pipelines.exploration.bounds import of_agent
from store.policy import Policy

__all__ = ["Evidence", "Found", "decisions_of", "recommended"]

_USABLE = ("missing_propensities", "impossible_propensities", "not_off_policy")


@dataclass(frozen=True)
class Evidence:
    """What the job read. Frames are those of `store.rewards.by_arm`, of `store.exploration_evidence`, and `decisions`
    with the columns of `tolerance.DECISIONS`; `bounds` and `never` by agent, as the store lists them."""

    rewards: pl.DataFrame
    traffic: pl.DataFrame
    noise: pl.DataFrame
    tasks: pl.DataFrame
    user_tasks: pl.DataFrame
    drifted: pl.DataFrame
    decisions: pl.DataFrame
    policies: Mapping[str, Policy]
    bounds: Mapping[str, pl.DataFrame]
    never: Mapping[str, pl.DataFrame]
    opted_out: pl.DataFrame  # agent, user_id
    now: datetime


@dataclass(frozen=True)
class Found:
    """`agents` (columns `rates.RECOMMENDATIONS`) and the rates of their segments and users (`units.UNIT_RATES`)."""

    agents: pl.DataFrame
    units: pl.DataFrame


def decisions_of(logged: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """The logged decisions (columns `store.logged_decisions.LOGGED`) that tell how exploring was taken.

    The arm that was executed counts, and rewards with signals of their own; how the arm was drawn matters less here.
    """
    return logged.filter(
        pl.col("user_id").is_not_null()
        & pl.col("explore").is_not_null()
        & (pl.col("signals") > 0)
        & pl.col("reward").is_finite()
        & (pl.col("dropped").is_null() | pl.col("dropped").is_in(list(_USABLE)))
    ).select(
        "agent", "user_id", "segment", "arm", "explore", "reward", "reward_sd",
        age_days=(pl.lit(now) - pl.col("decided_at")).dt.total_seconds() / 86_400.0,
    )  # fmt: skip


def recommended(evidence: Evidence) -> Found:
    """The rate of every agent that has two arms with enough rewards, and of its segments and users."""
    measured, populations = tolerance.measure(evidence.decisions)
    progress = intrinsic.interest_of_users(evidence.tasks, evidence.user_tasks)
    ahead = dict(evidence.traffic.group_by("agent").agg(pl.col("traces").sum()).iter_rows())
    by_traffic = evidence.traffic.join(progress, on=["agent", "user_id"], how="left")
    mean_progress = dict(
        by_traffic.group_by("agent")
        .agg((pl.col("progress").fill_null(0.0) * pl.col("traces")).sum() / pl.col("traces").sum())
        .iter_rows()
    )
    agents = {}
    for agent in evidence.rewards["agent"].unique():
        population = populations.get(agent)
        known = population is not None and population.basis == "measured"
        agents[agent] = rates.AgentEvidence(
            bounds=of_agent(evidence.bounds[agent]),
            ahead=float(ahead[agent]) if agent in ahead else None,
            tolerance=population.mean if population is not None and known else 0.0,
            tolerance_sd=population.mean_sd if population is not None and known else 0.0,
            progress=float(mean_progress.get(agent, 0.0)),
        )
    found = rates.recommend(evidence.rewards, agents=agents, policies=evidence.policies)
    noise = {agent: variance**0.5 for agent, variance, _ in evidence.noise.iter_rows() if variance is not None}
    days = evidence.drifted.select(
        "user_id", days=(pl.lit(evidence.now) - pl.col("changed_at")).dt.total_seconds() / 86_400.0
    )
    frames = [pl.DataFrame(schema=units.UNIT_RATES)]
    for agent in found.filter(status="recommended")["agent"]:
        policy = evidence.policies.get(agent)
        if policy is None:
            continue
        never = evidence.never[agent]
        people = units.People(
            traffic=evidence.traffic.filter(agent=agent),
            tolerance=measured.filter(agent=agent),
            drift=days,
            progress=progress.filter(agent=agent),
            never_users=dict(never.filter(kind="user").select("unit", "reason").iter_rows()),
            never_segments=dict(never.filter(kind="segment").select("unit", "reason").iter_rows()),
            opted_out=frozenset(evidence.opted_out.filter(agent=agent)["user_id"]),
            population=populations.get(agent),
            noise_sd=max(noise.get(agent, 0.3), 1e-3),
        )
        frames.append(units.unit_rates(policy, people, evidence.bounds[agent]))
    return Found(found, pl.concat(frames))
