"""The job `exploration`: recommends an exploration rate to every agent that runs two or more arms.

A recommendation waits for an operator; what is applied stays applied until someone decides otherwise.
"""

from typing import TYPE_CHECKING

import polars as pl

from pipelines.exploration import rates
from pipelines.jobs import JobResult
from store import exploration, rewards

if TYPE_CHECKING:
    from pipelines.jobs import JobContext


def run(context: "JobContext") -> JobResult:
    """Recommend rates; `rows` counts the new recommendations."""
    context.progress(0.0, "reading rewards")
    rewarded = rewards.by_arm(context.store)
    if rewarded.is_empty():
        return JobResult(0, "No agent has rewards on two or more arms.")
    context.progress(0.4, "computing rates")
    recommended = context.compute(rates.recommend, rewarded, rng=context.random)
    enough = recommended.filter(pl.col("status") == "recommended")
    added = exploration.recommend(context.store, enough)
    missing = recommended.height - enough.height
    message = f"{added} new recommendations for {enough.height} agents with enough data"
    return JobResult(added, f"{message}; {missing} agents need more." if missing else f"{message}.")
