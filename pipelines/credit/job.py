"""The job `credit`: divides the reward of every trace among its steps and says what choosing each tool is worth."""

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from pipelines.credit.credits import NOTES, CreditConfig, Credited, assign
from pipelines.credit.parallel import shares
from pipelines.credit.randomised import arm_credits
from pipelines.credit.tools import tool_credits
from pipelines.jobs import JobResult
from store import credit
from store.connection import Store
from store.version import code_version

if TYPE_CHECKING:
    from pipelines.jobs import JobContext

__all__ = ["run"]


def run(context: "JobContext") -> JobResult:
    """Estimate and record; `rows` counts the steps that got credit."""
    context.progress(0.0, "valuing the steps of traces")
    found = context.compute(_estimate, context.store, context.random, CreditConfig())
    if found is None:
        return JobResult(0, "There are no rewards yet: credit divides them among steps.")
    context.progress(0.8, "writing credit")
    run_id = credit.record(context.store, found)
    notes = pl.DataFrame(found.notes, schema=NOTES)
    refused = notes.filter(pl.col("reason").is_in(["no_steps", "no_signals", "too_few_traces", "constant_reward"]))
    message = f"Run {run_id}: credit for {found.steps.height:,} steps of {found.traces:,} traces"
    if refused.height:
        message += "; none for " + ", ".join(
            f"{agent or 'traces without an agent'} ({reason.replace('_', ' ')})"
            for agent, reason, _ in refused.head(3).iter_rows()
        )
    return JobResult(found.steps.height, f"{message}.")


def _estimate(store: Store, random: np.random.Generator, config: CreditConfig) -> credit.Found | None:
    """The credit of every step, and of tools and arms; None where there are no rewards."""
    evidence = credit.evidence(store)
    if evidence.reward_model_id is None or evidence.traces.is_empty():
        return None
    credited = assign(evidence.traces, evidence.steps, evidence.parallel, random, config)
    tools = pl.concat([tool_credits(credited, random), arm_credits(credited, evidence.choices)])
    return _found(evidence, credited, tools, config)


def _left_out(evidence: credit.Evidence) -> list[dict[str, str | None]]:
    """What is to be said of agents with more traces than are looked at."""
    taken = dict(evidence.traces.group_by(pl.col("agent").fill_null("")).len().rows())
    return [
        {
            "agent": agent or None, "reason": "newest_only",
            "text": f"The newest {taken.get(agent, 0):,} of {taken.get(agent, 0) + older:,} traces with rewards: about "
            f"{credit.MOST_STEPS:,} steps are divided at once.",
        }
        for agent, older in evidence.older.items()
    ]  # fmt: skip


def _found(evidence: credit.Evidence, credited: Credited, tools: pl.DataFrame, config: CreditConfig) -> credit.Found:
    ids = evidence.traces.select("trace_no", "trace_id")
    steps = credited.frame.join(ids, on="trace_no", how="left", maintain_order="left")
    parallel = shares(credited).join(ids, on="trace_no", how="left", maintain_order="left")
    taught = credited.frame["trace_no"].unique().to_numpy()
    return credit.Found(
        steps=steps.select(list(credit.STEP_CREDITS)).cast(credit.STEP_CREDITS),
        parallel=parallel.select(list(credit.PARALLEL_CREDITS)).cast(credit.PARALLEL_CREDITS),
        tools=tools,
        notes=[*credited.notes.to_dicts(), *_left_out(evidence)],
        parameters={"folds": config.folds, "min_traces": config.min_traces, "methods": credited.methods},
        reward_model_id=evidence.reward_model_id or 0,
        data_version=evidence.data_version,
        code_version=code_version(),
        traces=len(taught),
        informative=int(credited.outcomes.informative[taught].sum()),
    )
