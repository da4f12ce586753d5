"""The job `draft-lessons`: asks the model what separates good from bad rollouts of the most promising tasks.

Each run first reads what earlier runs have asked (answers of a batch, or of a run that was cut short), then asks about
the most valuable groups that it has not asked about on the same data, within the budget of the model's port. Each ends
as proposed lessons or as a failure with a name (`store.drafting`).
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from pipelines.jobs import JobResult
from pipelines.lessons.drafting import asking, choosing
from pipelines.lessons.drafting.closing import close, close_without
from pipelines.lessons.drafting.material import answer_schema
from pipelines.llm_schema import mismatch
from store import drafting, llm_batches, llm_calls
from store.connection import Store
from store.drafting import Ended
from store.settings import Settings

if TYPE_CHECKING:
    from pipelines.jobs import JobContext
    from pipelines.llm import ModelPort

__all__ = ["draft", "run"]

_BATCH_EVERY: Final = timedelta(hours=20)


@dataclass
class _Tally:
    """What a run has done so far; `stopped` is why it did not go on."""

    asked: int = 0
    lessons: int = 0
    cost_usd: float = 0.0
    others: list[str] = field(default_factory=list)
    batches: list[str] = field(default_factory=list)
    stopped: str | None = None

    def add(self, row: Mapping[str, Any], ended: Ended) -> None:
        """Count how a row has ended."""
        self.lessons += len(ended.lesson_ids)
        self.cost_usd += ended.cost_usd
        if ended.status == "over budget":
            self.stopped = ended.message
        elif ended.status != "proposed":
            self.others.append(f"{row['task']} {ended.status}")


def run(context: "JobContext") -> JobResult:
    """Draft lessons; `rows` counts the new proposals.

    Raises: the model's error when nothing more can be asked and the budget is not the reason; `JobInterrupted`.
    """
    return draft(context, environ=os.environ)


def draft(context: "JobContext", *, environ: Mapping[str, str]) -> JobResult:
    """As `run`, with the environment that holds the key from outside."""
    # Imported here: the library behind it takes a second to load, and most stores have no model.
    from pipelines.llm import connect

    store, settings = context.store, context.settings
    port = connect(store, settings, environ=environ, wait=context.wait_for_model, random=context.random)
    if port is None:
        return JobResult(0, "No model is configured (TRIMTAB_MODEL).")
    tally = _Tally()
    with port:
        context.progress(0.0, "reading what was asked before")
        _follow(store, settings, port, tally)
        _resume(store, tally)
        if settings.model_batches:
            _submit(context, port, tally)
        else:
            _ask(context, port, tally)
    return JobResult(tally.lessons, _sentence(tally))


def _follow(store: Store, settings: Settings, port: "ModelPort", tally: _Tally) -> None:
    """Take open batches further; the answers they bring are kept."""
    if llm_batches.open_batches(store, asking.PURPOSE).is_empty():
        return
    from pipelines.llm_batches import Batches

    for followed in Batches(store, port, asking.PURPOSE, settings.model_batch_price).follow():
        said = followed.message or "the server is answering it"
        tally.batches.append(f"Batch {followed.batch_no} ({followed.state}): {said}")


def _resume(store: Store, tally: _Tally) -> None:
    """Close the rows whose answers are there, and those whose question has ended without one."""
    for row in drafting.open_rows(store).to_dicts():
        kept = llm_calls.kept(store, row["content_hash"])
        record = llm_calls.of_question(store, row["content_hash"], row["asked_at"])
        value: Any = json.loads(kept.answer) if kept is not None else None
        problem = mismatch(value, answer_schema()) if kept is not None else None
        if problem is not None:
            # Asked by an earlier version, for an answer of another form.
            tally.add(row, close_without(store, row, "malformed", f"The answer cannot be read any more: {problem}."))
        elif kept is not None:
            tally.add(row, close(store, row, kept, value, extra=None))
        elif row["status"] == "waiting" and record is not None and record.outcome == "running":
            continue
        else:
            outcome = record.outcome if record is not None else "interrupted"
            tally.add(row, close_without(store, row, outcome, record.error if record is not None else None))


def _ask(context: "JobContext", port: "ModelPort", tally: _Tally) -> None:
    """Ask about one group after the other. Raises: `ModelRejected`, `ModelUnavailable`, `JobInterrupted`."""
    from pipelines.llm import BudgetExceeded, ModelError

    store, room = context.store, context.settings.drafted_per_run
    chosen = choosing.due(store, room, port.setup.output_tokens)
    for number, (candidate, tries) in enumerate(chosen):
        context.progress(number / len(chosen), f"asking about {candidate.task}")
        try:
            posed = asking.pose(store, candidate, port)
        except (BudgetExceeded, ModelError) as error:
            # It was a summary that could not be had; the row tells of the question that would have come after it.
            row = asking.begin(store, asking.pose(store, candidate), port.setup, tries)
            outcome = error.outcome if isinstance(error, ModelError) else "over budget"
            tally.add(row, close_without(store, row, outcome, str(error)))
            if isinstance(error, ModelError):
                raise
            return
        tally.asked += 1
        tally.add({"task": candidate.task}, asking.ask(store, posed, port, tries))
        if tally.stopped is not None:
            return


def _submit(context: "JobContext", port: "ModelPort", tally: _Tally) -> None:
    """Send the night's questions as one batch, unless one is on its way or was sent within the day."""
    from pipelines.llm_batches import Batches, BatchQuestion

    store, settings = context.store, context.settings
    latest = llm_batches.listed(store, asking.PURPOSE, 1).to_dicts()
    recent = bool(latest) and context.clock.now() - latest[0]["created_at"] < _BATCH_EVERY
    if recent or not llm_batches.open_batches(store, asking.PURPOSE).is_empty():
        return
    posed = []
    for candidate, tries in choosing.due(store, settings.drafted_per_run, port.setup.output_tokens):
        context.progress(0.5, f"preparing the question about {candidate.task}")
        posed.append((asking.pose(store, candidate), tries))
    if not posed:
        return
    rows = [asking.begin(store, one, port.setup, tries, waiting=True) for one, tries in posed]
    submitted = Batches(store, port, asking.PURPOSE, settings.model_batch_price).submit(
        [
            BatchQuestion(
                asking.messages(one.question), one.question.schema, one.question.prompt_version, one.candidate.task
            )
            for one, _ in posed
        ]
    )
    for row, call_id in zip(rows, submitted.call_ids, strict=False):
        if submitted.batch_no is not None:
            drafting.send(store, row["draft_no"], batch_no=submitted.batch_no, call_id=call_id)
    for row in rows[len(submitted.call_ids) :]:
        tally.add(row, close_without(store, row, "over budget", str(submitted.refused)))
    tally.asked += len(submitted.call_ids)
    if submitted.batch_no is not None:
        sent = f"Batch {submitted.batch_no}: {len(submitted.call_ids)} questions sent"
        tally.batches.append(f"{sent}. {submitted.message}" if submitted.message else f"{sent}.")
    # A batch that the server has refused at once leaves nothing to wait for.
    _resume(store, tally)


def _sentence(tally: _Tally) -> str:
    tasks, lessons = ("task" if tally.asked == 1 else "tasks"), ("lesson" if tally.lessons == 1 else "lessons")
    parts = [f"{tally.asked:,} {tasks} asked about, {tally.lessons:,} {lessons} proposed for ${tally.cost_usd:.4f}."]
    if tally.others:
        more = f" and {len(tally.others) - 5:,} more" if len(tally.others) > 5 else ""
        parts.append(f"Without a lesson: {'; '.join(tally.others[:5])}{more}.")
    parts += tally.batches
    if tally.stopped:
        parts.append(tally.stopped)
    return " ".join(parts)
