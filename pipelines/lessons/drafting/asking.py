"""Asks the model about one group: in one question, or after a summary of each rollout where texts do not fit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pipelines.lessons.drafting import gather, material
from pipelines.lessons.drafting.closing import close, close_without
from pipelines.lessons.drafting.gather import Candidate
from pipelines.lessons.drafting.group import Group
from pipelines.lessons.drafting.material import Question
from pipelines.llm_requests import Message, content_hash, stated
from pipelines.llm_setup import ModelSetup
from store import drafting, llm_calls, meta
from store.connection import Store
from store.drafting import Asked, Ended
from store.llm_calls import Charge, Record

if TYPE_CHECKING:
    from pipelines.llm import ModelPort

__all__ = ["ENOUGH", "PURPOSE", "SUMMARY_PURPOSE", "Posed", "ask", "messages", "pose", "question_hash"]

PURPOSE: Final = "draft-lesson"
SUMMARY_PURPOSE: Final = "summarise-rollout"
ENOUGH: Final = 0.6
"""Where one prompt holds less than this share of the rollouts, they are summarised first."""


@dataclass(frozen=True)
class Posed:
    """A group with its question, the summaries in it counted as `stages`, and what these cost."""

    candidate: Candidate
    question: Question
    stages: int
    spent: Record | None
    notes: tuple[str, ...]


def messages(question: Question) -> tuple[Message, Message]:
    """The two messages of a question."""
    return Message("system", question.system), Message("user", question.user)


def question_hash(setup: ModelSetup, question: Question) -> str:
    """By what the answer to a question about a group is kept."""
    return content_hash(setup, PURPOSE, question.prompt_version, messages(question), question.schema)


def pose(store: Store, candidate: Candidate, port: "ModelPort | None" = None) -> Posed:
    """The question about a candidate; with a `port`, after summaries where they are needed and the budget allows.

    Raises: `BudgetExceeded`, `ModelRejected`, `ModelUnavailable` from asking for a summary.
    """
    group = gather.group(store, candidate)
    question = material.question(group)
    if port is None or question.kept >= ENOUGH or not _affordable(store, port, group, question):
        return Posed(candidate, question, 1, None, ())
    return _after_summaries(store, candidate, group, port)


def ask(store: Store, posed: Posed, port: "ModelPort", tries: int) -> Ended:
    """Ask, and close the row that says so.

    Raises: `ModelRejected`, `ModelUnavailable`, after their row is closed; what ends the process, with it open.
    """
    from pipelines.llm import BudgetExceeded, ModelError, ModelRejected, ModelUnavailable

    row = begin(store, posed, port.setup, tries)
    question = posed.question
    try:
        answer = port.complete(
            PURPOSE, messages(question), question.schema, prompt_version=question.prompt_version, subject=row["task"]
        )
    except BudgetExceeded as error:
        return close_without(store, row, "over budget", str(error), extra=posed.spent)
    except ModelError as error:
        ended = close_without(store, row, error.outcome, str(error), extra=posed.spent)
        if isinstance(error, ModelRejected | ModelUnavailable):
            raise
        return ended
    kept = llm_calls.Kept("", answer.model, answer.answered_at)
    return close(store, row, kept, answer.value, extra=posed.spent)


def begin(store: Store, posed: Posed, setup: ModelSetup, tries: int, *, waiting: bool = False) -> Mapping[str, Any]:
    """Write down that a group is asked about; returns the row (columns `store.drafting.ROWS`)."""
    row, question = posed.candidate.row, posed.question
    asked = Asked(
        agent=posed.candidate.agent, task=posed.candidate.task, fingerprint=posed.candidate.fingerprint,
        data_version=meta.data_version(store), rollouts=row["rollouts"], value=row["value"],
        chosen=gather.told(posed.candidate), cut=[*question.cut, *posed.notes], prompt_version=question.prompt_version,
        stages=posed.stages, model=setup.model, output_limit=setup.output_tokens, prompt_tokens=question.tokens,
        content_hash=question_hash(setup, question), tries=tries + 1,
    )  # fmt: skip
    number = drafting.begin(store, asked, status="waiting" if waiting else "asking")
    return next(one for one in drafting.open_rows(store).to_dicts() if one["draft_no"] == number)


def _after_summaries(store: Store, candidate: Candidate, group: Group, port: "ModelPort") -> Posed:
    """The question with a summary of each rollout; one that cannot be summarised stands for itself."""
    from pipelines.llm import ModelMalformed, ModelRefused, ModelTruncated

    summaries: dict[str, str] = {}
    notes: list[str] = []
    tokens, usd, last = 0, 0.0, 0
    for rollout in group.rollouts:
        asked = material.summary_question(group, rollout)
        try:
            answer = port.complete(
                SUMMARY_PURPOSE, messages(asked), asked.schema, prompt_version=asked.prompt_version,
                subject=rollout.trace_id,
            )  # fmt: skip
        except (ModelRefused, ModelMalformed, ModelTruncated) as error:
            notes.append(f"Run {rollout.alias} has no summary: {error}")
            continue
        summaries[rollout.alias] = _summary(rollout, answer.value)
        usd += answer.cost_usd
        tokens += (answer.input_tokens or 0) + (answer.output_tokens or 0)
        last = answer.call_id
    question = material.question(group, summaries=summaries)
    return Posed(candidate, question, 2, Record(last, "answered", None, tokens, usd), tuple(notes))


def _summary(rollout: Any, value: Mapping[str, Any]) -> str:
    """A summary as the next prompt tells it, with those of its passages that stand where it says."""
    lines = [" ".join(str(value["summary"]).split())]
    if value["missed"]:
        lines.append("Missed: " + " ".join(str(value["missed"]).split()))
    for passage in value["passages"][:6]:
        step = rollout.step(int(passage["step"]))
        quote = " ".join(str(passage["quote"]).split())
        if step is not None and step.field_of(quote) is not None:
            lines.append(f"Step {step.number} says: {quote[:300]}")
    return "\n".join(lines)[:3_000]


def _affordable(store: Store, port: "ModelPort", group: Group, question: Question) -> bool:
    """Whether the question and a summary of each rollout fit into what is left of the budgets, at the most."""
    setup = port.setup
    whole = setup.most(stated(messages(question), question.schema))
    for rollout in group.rollouts:
        asked = material.summary_question(group, rollout)
        whole += setup.most(stated(messages(asked), asked.schema))
    today, run = llm_calls.spent(store), llm_calls.spent(store, run=port.run)
    return not (today + whole).exceeds(setup.budget.day) and not (run + Charge(0, 0.0) + whole).exceeds(
        setup.budget.run
    )
