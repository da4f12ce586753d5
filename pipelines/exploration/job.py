"""The job `exploration`: recommends exploration rates to agents that run two or more arms, their segments and users.

A recommendation waits for an operator, unless one allowed it to apply by itself within bounds; what is applied stays
applied until someone decides otherwise. Rates of segments and users follow once the agent has a policy.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from pipelines.exploration.evidence import Evidence, Found, decisions_of, recommended
from pipelines.exploration.tolerance import DECISIONS
from pipelines.jobs import JobResult
from store import arms, exploration, exploration_evidence, logged_decisions, never_explore, policies, rewards
from store.connection import Store

if TYPE_CHECKING:
    from pipelines.jobs import JobContext

_TOLERANCE_DAYS = timedelta(days=240)  # after which a decision counts next to nothing for tolerance


def run(context: "JobContext") -> JobResult:
    """Recommend rates; `rows` counts the new recommendations of agents."""
    store = context.store
    context.progress(0.0, "computing rates")
    found = context.compute(_recommended, store, context.clock.now())
    if found is None:
        return JobResult(0, "No agent has rewards on two or more arms.")
    context.progress(0.8, "writing rates")
    enough = found.agents.filter(pl.col("status") == "recommended")
    added = exploration.recommend(store, enough, found.units)
    missing = found.agents.height - enough.height
    units = f", with rates of {found.units.height} segments and users" if found.units.height else ""
    message = f"{added} new recommendations for {enough.height} agents with enough data{units}"
    return JobResult(added, f"{message}; {missing} agents need more." if missing else f"{message}.")


def _recommended(store: Store, now: datetime) -> Found | None:
    """What is recommended by what the store holds; None where no agent has rewards on two or more arms.

    Decisions count up to `now`.
    """
    off = arms.listed(store).filter(state="off").select("agent", "arm")
    rewarded = rewards.by_arm(store).join(off, on=["agent", "arm"], how="anti")
    if rewarded.is_empty():
        return None
    names = rewarded["agent"].unique().sort().to_list()
    since = now - _TOLERANCE_DAYS
    decided = [decisions_of(logged_decisions.read(store, agent, since), now) for agent in names]
    traffic = exploration_evidence.traffic(store)
    evidence = Evidence(
        rewards=rewarded,
        traffic=traffic,
        noise=exploration_evidence.noise(store),
        tasks=exploration_evidence.tasks(store),
        user_tasks=exploration_evidence.user_tasks(store),
        drifted=exploration_evidence.drifted(store),
        decisions=pl.concat([pl.DataFrame(schema=DECISIONS), *decided]),
        policies={policy.agent: policy for policy in policies.newest(store) if policy.agent in names},
        bounds={agent: exploration.bounds(store, agent) for agent in names},
        never={agent: never_explore.listed(store, agent) for agent in names},
        opted_out=traffic.select("agent", "user_id").filter(pl.col("user_id").is_in(never_explore.opted_out(store))),
        now=now,
    )
    return recommended(evidence)
