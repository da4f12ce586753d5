"""A fair pair for a lesson's evidence: a good and a bad rollout of the same task.

The clearest traces for a claim often come from different tasks. Reading them side by side then compares the tasks, so
the evidence is completed with the rollout that did the opposite on the same task.
"""

from dataclasses import replace

import polars as pl

from pipelines.lessons.draft import Evidence, LessonDraft

__all__ = ["with_counterpart"]

_OTHER = {"good": "bad", "bad": "good"}


def with_counterpart(draft: LessonDraft, rollouts: pl.DataFrame, acted: pl.DataFrame) -> LessonDraft:
    """The draft with one more piece of evidence, unless a task has both sides already or no task has.

    Args: `rollouts` of columns ROLLOUTS and `acted` of columns ACTIONS (`pipelines.lessons.contrast`). The added
    rollout is on the other side of the task's mean outcome from one in evidence. It preferably lacks the step that the
    evidence points at, or has it where that evidence does not; then the one whose reward differs most is taken.
    """
    own = rollouts.filter(agent=draft.agent).drop_nulls()
    tasks = dict(own.select("trace_id", "task").iter_rows())
    sides = {role: {tasks.get(held.trace_id) for held in draft.evidence if held.role == role} for role in _OTHER}
    doing = _doing(draft, acted)
    if sides["good"] & sides["bad"] or not doing:
        return draft
    known = {held.trace_id for held in draft.evidence}
    found = []
    for anchor in draft.evidence:
        if anchor.trace_id in tasks:
            task = own.filter(task=tasks[anchor.trace_id])
            candidates = _candidates(anchor, task, doing).filter(~pl.col("trace_id").is_in(known))
            found += [(_OTHER[anchor.role], row) for row in candidates.head(1).iter_rows(named=True)]
    if not found:
        return draft
    role, best = max(found, key=lambda entry: (entry[1]["opposite"], entry[1]["gap"], entry[1]["trace_id"]))
    added = Evidence(best["trace_id"], None, role, best["reward"], best["reward_sd"], None)
    return replace(draft, evidence=(*draft.evidence, added))


def _doing(draft: LessonDraft, acted: pl.DataFrame) -> list[str]:
    """The rollouts that take a step of the name that the evidence points at."""
    pointed = pl.DataFrame(
        [(held.trace_id, held.span_id) for held in draft.evidence if held.span_id is not None],
        schema={"trace_id": pl.String, "span_id": pl.String},
        orient="row",
    )
    names = acted.join(pointed, on=["trace_id", "span_id"], how="semi")["name"]
    return acted.filter(pl.col("name").is_in(names.to_list()))["trace_id"].unique().to_list()


def _candidates(anchor: Evidence, task: pl.DataFrame, doing: list[str]) -> pl.DataFrame:
    """Rollouts of the task on the other side of its mean outcome, the best counterpart first."""
    worse = anchor.role == "good"
    middle = task["outcome"].mean()
    does = pl.col("trace_id").is_in(doing)
    return (
        task.filter(pl.col("outcome") < middle if worse else pl.col("outcome") > middle)
        .with_columns(
            opposite=does if anchor.span_id is None else ~does,
            gap=(anchor.reward - pl.col("reward")) if worse else (pl.col("reward") - anchor.reward),
        )
        .sort(["opposite", "gap", "trace_id"], descending=[True, True, False])
    )
