"""The job `rewards`: fits the reward model to all traces and signals and makes the new version the active one.

No version is made when the fit says the same of every trace as the active one. Mean rewards of agents and arms are
part of the version: they change only with it, and a page need not compute them from every trace.
"""

from typing import TYPE_CHECKING

import polars as pl

from pipelines.jobs import JobResult
from pipelines.rewards import empirical_bayes, means
from pipelines.rewards.means import mean_rewards
from store import rewards
from store.version import code_version

if TYPE_CHECKING:
    from pipelines.jobs import JobContext

# The kinds of signal that the model can use; clicks and purchases need models of their own (METHODS §3).
EVIDENCE_KINDS = ("outcome", "thumb", "rating", "annotation", "judge")


def run(context: "JobContext") -> JobResult:
    """Fit and publish; `rows` counts the rewards written."""
    context.progress(0.0, "reading traces and signals")
    evidence = rewards.evidence(context.store, EVIDENCE_KINDS)
    if evidence.traces.is_empty():
        return JobResult(0, "There are no traces yet.")
    context.progress(0.3, f"fitting {evidence.traces.height} traces and {evidence.signals.height} signals")
    fitted = empirical_bayes.fit(evidence.traces, evidence.signals)
    context.progress(0.7, "writing rewards")
    used = int(fitted.rewards["signals"].sum())
    rewarded = (
        evidence.traces.join(fitted.rewards, on="trace_id").cast({"signals": pl.Int64}).select(list(means.REWARDED))
    )
    task_sds = fitted.cells.select(list(means.TASK_SDS))
    model = rewards.publish(
        context.store,
        rewards.Fitted(
            method=empirical_bayes.METHOD,
            parameters={
                **fitted.parameters,
                "notes": fitted.notes.to_dicts(),
                "agent_means": mean_rewards(rewarded.with_columns(arm=pl.lit("all arms")), task_sds).to_dicts(),
                "arm_means": mean_rewards(rewarded, task_sds).to_dicts(),
            },
            rewards=fitted.rewards,
            cells=fitted.cells,
            signals=used,
            data_version=evidence.data_version,
            code_version=code_version(),
        ),
    )
    if model is None:
        return JobResult(0, "Nothing changed: the active model holds.")
    observed = int((fitted.rewards["signals"] > 0).sum())
    message = f"Version {model}: {fitted.rewards.height} traces, {observed} of them with {used} signals of their own."
    return JobResult(fitted.rewards.height, message)
