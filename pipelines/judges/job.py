"""The job `judges`: asks the model about a random sample of what is new, by every active rubric, within the budget.

The answer to a question is kept with the question (`pipelines.llm`), the verdict as a signal, and last that the subject
is done. Whatever ends the process in between, the next run goes on there and pays for nothing twice.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from pipelines.jobs import JobResult
from pipelines.judges import asking, material
from pipelines.judges.cost import PURPOSE
from pipelines.judges.material import Material
from pipelines.judges.publish import publish, verdict_row
from store import judges, rubrics
from store.connection import Store
from store.judges import Verdict
from store.rubrics import Rubric
from store.settings import Settings

if TYPE_CHECKING:
    from pipelines.ingest.rows import Row
    from pipelines.jobs import JobContext
    from pipelines.llm import ModelPort

_SETTLED: Final = timedelta(minutes=15)
"""A trace that ended so long ago is taken to be complete."""

_BATCH: Final = 10
"""So many verdicts are written at once; the texts of so many subjects are in memory."""


@dataclass
class _Tally:
    """What a run has done so far; `stopped` is why it did not go on."""

    scored: int = 0
    other: dict[str, int] = field(default_factory=dict)
    cached: int = 0
    cost_usd: float = 0.0
    stopped: str | None = None


@dataclass(frozen=True)
class _Subject:
    subject_id: str
    trace_id: str | None
    probability: float
    material: Material | None
    user_id: str | None = None
    session_id: str | None = None


def has_work(store: Store, settings: Settings) -> bool:
    """Whether there is a model to ask and a rubric to ask by."""
    return bool(settings.model) and bool(rubrics.active(store))


def run(context: "JobContext") -> JobResult:
    """Judge what is drawn; `rows` counts the verdicts.

    Raises: the model's error when nothing more can be asked and the budget is not the reason; `JobInterrupted`.
    """
    return judge(context, environ=os.environ)


def judge(context: "JobContext", *, environ: Mapping[str, str]) -> JobResult:
    """As `run`, with the environment that holds the key from outside."""
    # Imported here: the library behind it takes a second to load, and most runs of most stores have no model.
    from pipelines.llm import connect

    chosen = rubrics.active(context.store)
    if not chosen:
        return JobResult(0, "No rubric is active.")
    port = connect(
        context.store, context.settings, environ=environ, wait=context.wait_for_model,
        random=context.random,
    )  # fmt: skip
    if port is None:
        return JobResult(0, "No model is configured (TRIMTAB_MODEL).")
    tally = _Tally()
    room = max(1, context.settings.judged_per_run // len(chosen))
    with port:
        for number, rubric in enumerate(chosen):
            if tally.stopped is None:
                _by_rubric(context, port, rubric, room, tally, (number / len(chosen), 1 / len(chosen)))
    return JobResult(tally.scored, _sentence(tally))


def _by_rubric(
    context: "JobContext", port: "ModelPort", rubric: Rubric, room: int, tally: _Tally, part: tuple[float, float]
) -> None:
    """Draw, and judge what is drawn and waits, `room` subjects at most."""
    store = context.store
    waiting = judges.pending(store, rubric, room)
    if waiting.height < room:
        judges.draw(store, rubric, room=room - waiting.height, settled_before=context.clock.now() - _SETTLED)
        waiting = judges.pending(store, rubric, room)
    done = 0
    for batch in waiting.iter_slices(_BATCH):
        verdicts: list[Verdict] = []
        signals: list[Row] = []
        try:
            for subject in _subjects(store, rubric, batch):
                context.progress(part[0] + part[1] * done / waiting.height, f"judging by {rubric.rubric}")
                _one(port, rubric, subject, tally, verdicts, signals)
                done += 1
                if tally.stopped is not None:
                    return
        finally:
            publish(store, signals)
            judges.record(store, rubric, verdicts)


def _one(
    port: "ModelPort",
    rubric: Rubric,
    subject: _Subject,
    tally: _Tally,
    verdicts: list[Verdict],
    signals: "list[Row]",
) -> None:
    """Ask about one subject and add what came of it. Raises: `ModelRejected`, `ModelUnavailable`."""
    from pipelines.llm import BudgetExceeded, Message, ModelMalformed, ModelRefused, ModelTruncated

    version = asking.PROMPTS[rubric.subject]

    def without(outcome: str) -> None:
        verdicts.append(Verdict(subject.subject_id, subject.trace_id, outcome, version))
        tally.other[outcome] = tally.other.get(outcome, 0) + 1

    if subject.material is None:
        without("empty")
        return
    question = asking.question(rubric, subject.material)
    messages = (Message("system", question.system), Message("user", question.user))
    try:
        answer = port.complete(PURPOSE, messages, question.schema, prompt_version=version, subject=subject.subject_id)
    except BudgetExceeded as error:
        tally.stopped = str(error)
        return
    except (ModelRefused, ModelMalformed, ModelTruncated) as error:
        without(error.outcome)
        return
    found = asking.verdict(rubric, subject.material, answer.value)
    metadata: dict[str, Any] = {
        "prompt": version, "confidence": found.confidence, "quote": found.quote,
        "quote_found": found.quote is not None,
    }  # fmt: skip
    if rubric.subject == "comment":
        metadata["comment"] = subject.subject_id
    row = verdict_row(
        rubric, subject_id=subject.subject_id, trace_id=subject.trace_id,
        span_id=found.piece.span_id if found.piece else None, score=found.score, reason=found.reason,
        model=answer.model, judged_at=_judged_at(rubric, answer.answered_at),
        probability=subject.probability, metadata=metadata,
        user_id=subject.user_id, session_id=subject.session_id,
    )  # fmt: skip
    signals.append(row)
    verdicts.append(
        Verdict(
            subject.subject_id, subject.trace_id, "scored", version, answer.call_id, str(row["signal_id"]),
            found.score, found.quote is not None,
        )
    )  # fmt: skip
    tally.scored += 1
    tally.cached += answer.cached
    tally.cost_usd += answer.cost_usd


def _subjects(store: Store, rubric: Rubric, batch: pl.DataFrame) -> list[_Subject]:
    """The subjects of a batch (columns `store.judges.PENDING`) with their texts."""
    ids = batch["subject_id"].to_list()
    if rubric.subject == "comment":
        comments = {row["signal_id"]: row for row in judges.comments(store, ids).to_dicts()}
        return [
            _Subject(
                row["subject_id"], row["trace_id"], row["probability"],
                material.of_comment(comment) if (comment := comments.get(row["subject_id"])) else None,
                comment["user_id"] if comment else None, comment["session_id"] if comment else None,
            )
            for row in batch.to_dicts()
        ]  # fmt: skip
    stated = {row["trace_id"]: row for row in judges.stated(store, ids).to_dicts()}
    steps: dict[str, list[dict[str, Any]]] = {}
    for row in judges.steps(store, ids).to_dicts():
        steps.setdefault(row["trace_id"], []).append(row)
    return [
        _Subject(
            row["subject_id"], row["trace_id"], row["probability"],
            material.of_trace(stated.get(row["subject_id"]), steps.get(row["subject_id"], [])),
        )
        for row in batch.to_dicts()
    ]  # fmt: skip


def _judged_at(rubric: Rubric, answered_at: datetime) -> datetime:
    """When a verdict was given: an answer out of the cache keeps its time, unless this version came after it.

    So the same verdict is the same signal whenever it is written, and a later version's takes the earlier one's place.
    """
    return answered_at if rubric.created_at is None else max(answered_at, rubric.created_at)


def _sentence(tally: _Tally) -> str:
    said = f"{tally.scored:,} verdicts for ${tally.cost_usd:.4f}"
    if tally.cached:
        said += f", {tally.cached:,} of them from the cache"
    if tally.other:
        said += "; without a verdict: " + ", ".join(f"{count:,} {name}" for name, count in sorted(tally.other.items()))
    return f"{said}. {tally.stopped}" if tally.stopped else f"{said}."
