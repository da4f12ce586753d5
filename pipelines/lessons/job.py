"""The job `lessons`: proposes lessons from rollouts of the same task that went well and badly.

What it proposes waits in Review. A finding is proposed once: its id is a hash of agent, task and pattern, and an id
that exists in any state is left out. A run proposes at most `MOST_PROPOSALS`, tested effects before hypotheses, then by
value: the gap in mean reward between good and bad evidence times the rollouts that the lesson would apply to.
"""

from typing import TYPE_CHECKING

import polars as pl

from pipelines.jobs import JobResult
from pipelines.lessons import draft
from pipelines.lessons.contrast import ContrastConfig, actions, contrast
from pipelines.lessons.pairing import with_counterpart
from pipelines.rewards.job import EVIDENCE_KINDS
from pipelines.rewards.observations import observe
from store import lessons, rewards

if TYPE_CHECKING:
    from pipelines.jobs import JobContext

__all__ = ["MOST_PROPOSALS", "run"]

MOST_PROPOSALS = 5


def run(context: "JobContext") -> JobResult:
    """Propose lessons; `rows` counts the new ones."""
    context.progress(0.0, "reading rollouts")
    rewarded = lessons.rollouts(context.store)
    if rewarded.is_empty():
        return JobResult(0, "No task has two or more rollouts with a reward of their own.")
    observed = observe(rewards.signals(context.store, EVIDENCE_KINDS)).frame.select("trace_id", "outcome")
    rollouts = rewarded.join(observed, on="trace_id", how="left")
    config = ContrastConfig()
    context.progress(0.2, f"reading the steps of {rollouts.height} rollouts")
    steps = lessons.steps(context.store, rollouts["trace_id"].to_list(), config.action_kinds)
    context.progress(0.5, "contrasting good and bad rollouts")
    found = context.compute(contrast, rollouts, steps, config)
    proposal = context.compute(draft.propose, found, rollouts, steps, contrast_config=config)
    known = lessons.known(context.store)
    fresh = _ranked([one for one in proposal.drafts if one.key not in known], rollouts)[:MOST_PROPOSALS]
    acted = actions(steps, config)
    evidence = _evidence([with_counterpart(one, rollouts, acted) for _, one in fresh])
    added = lessons.propose(context.store, _proposals(fresh), evidence)
    return JobResult(added, _message(added, found.groups.height, len(proposal.drafts) - len(fresh), proposal.reasons))


def value(one: draft.LessonDraft, rollouts: pl.DataFrame) -> float:
    """What a lesson is worth reviewing: reward gap of its evidence times the rollouts of its agent and task."""
    means = {role: [evidence.reward for evidence in one.evidence if evidence.role == role] for role in ("good", "bad")}
    if not means["good"] or not means["bad"]:
        return 0.0
    gap = sum(means["good"]) / len(means["good"]) - sum(means["bad"]) / len(means["bad"])
    applies = rollouts.filter(agent=one.agent) if one.task is None else rollouts.filter(agent=one.agent, task=one.task)
    return max(gap, 0.0) * applies.height


def _ranked(drafts: list[draft.LessonDraft], rollouts: pl.DataFrame) -> list[tuple[float, draft.LessonDraft]]:
    valued = [(value(one, rollouts), one) for one in drafts]
    # Of equally valuable ones the order of the drafts stands: by p-value.
    return sorted(valued, key=lambda entry: (not entry[1].tested, -entry[0]))


def _proposals(ranked: list[tuple[float, draft.LessonDraft]]) -> pl.DataFrame:
    rows = [
        {
            "lesson_id": one.key, "agent": one.agent, "task": one.task, "tested": one.tested, "value": worth,
            "title": one.title, "when_text": one.when_text, "when_not": one.when_not, "do_text": one.do_text,
            "why": one.why,
        }
        for worth, one in ranked
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=lessons.PROPOSALS)


def _evidence(drafts: list[draft.LessonDraft]) -> pl.DataFrame:
    rows = [{"lesson_id": one.key, **vars(evidence)} for one in drafts for evidence in one.evidence]
    return pl.DataFrame(rows, schema=lessons.EVIDENCE)


def _message(added: int, groups: int, left: int, reasons: dict[str, str]) -> str:
    text = f"{added} new proposals from {groups} tasks with mixed outcomes"
    if left:
        text += f"; {left} more were proposed before or wait for the next run"
    return f"{text}. {' '.join(f'{agent}: {why}' for agent, why in sorted(reasons.items())[:3])}".strip()
