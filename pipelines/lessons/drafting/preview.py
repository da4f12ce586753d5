"""What asking the model about a group would say and cost, before anything is spent."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipelines.lessons.drafting import asking, choosing, gather, material
from pipelines.lessons.drafting.gather import Candidate
from pipelines.lessons.drafting.material import Question
from pipelines.llm_requests import Message, stated
from pipelines.llm_setup import ModelSetup, Price, setup
from store import drafting, llm_calls
from store.connection import Store
from store.errors import ActionRefused
from store.llm_calls import Charge
from store.settings import Settings

__all__ = ["Preview", "preview"]

_USUAL_ANSWER_TOKENS = 700
_ENOUGH_CALLS = 10


@dataclass(frozen=True)
class Preview:
    """The question about a group. `likely` and `most` are its cost, None without a configured model.

    `tokens` estimates what the model reads; `cut` says what the prompt leaves out; `not_now` why the job would not ask
    (None: it would); `batch` whether the costs are those of a batch. `kept` is the share of the rollouts' characters
    that the prompt holds: where it is little, a summary of each is asked for first if the budget allows, and the costs
    are those of all `questions`.
    """

    agent: str
    task: str
    prompt_version: str
    messages: tuple[Message, ...]
    tokens: int
    kept: float
    cut: tuple[str, ...]
    model: str | None
    batch: bool
    questions: int
    likely: Charge | None
    most: Charge | None
    not_now: str | None


def preview(store: Store, settings: Settings, agent: str | None = None, task: str | None = None) -> Preview:
    """The question about the most valuable group, of an agent and a task when they are named.

    Raises: `ActionRefused` when there is no such group; `SettingsError` for a model without a price.
    """
    chosen = setup(settings)
    limit = chosen.output_tokens if chosen is not None else settings.model_output_tokens
    before = drafting.asked_before(store)
    first: tuple[Candidate, str | None] | None = None
    for each in gather.candidates(store, agent=agent, task=task):
        pair = (each, choosing.asked_already(each, before, limit)[0])
        first = first if first is not None and pair[1] is not None else pair
        if pair[1] is None:
            break
    if first is None:
        named = "".join(f" of {kind} {name}" for kind, name in (("agent", agent), ("task", task)) if name is not None)
        raise ActionRefused(
            f"Drafting lessons{named}", "there is no task with good and bad traces that no lesson covers.",
            "Load traces with outcomes, run the job lessons, or name a task.",
        )  # fmt: skip
    candidate, not_now = first
    group = gather.group(store, candidate)
    question = material.question(group)
    asked = [question]
    if question.kept < asking.ENOUGH and not settings.model_batches:
        asked += [material.summary_question(group, rollout) for rollout in group.rollouts]
    priced = _priced(chosen, settings)
    likely, most = _costs(store, priced, asked) if priced is not None else (None, None)
    return Preview(
        agent=candidate.agent, task=candidate.task, prompt_version=question.prompt_version,
        messages=asking.messages(question), tokens=question.tokens, kept=question.kept, cut=question.cut,
        model=chosen.model if chosen is not None else None, batch=settings.model_batches,
        questions=len(asked), likely=likely, most=most,
        not_now=not_now if chosen is not None else "No model is configured (TRIMTAB_MODEL).",
    )  # fmt: skip


def _priced(chosen: ModelSetup | None, settings: Settings) -> ModelSetup | None:
    """The setup at the price that the job would pay."""
    if chosen is None or not settings.model_batches:
        return chosen
    share = settings.model_batch_price
    return replace(chosen, price=Price(chosen.price.input_usd * share, chosen.price.output_usd * share))


def _costs(store: Store, chosen: ModelSetup, questions: Sequence[Question]) -> tuple[Charge, Charge]:
    """What the questions cost together: likely, and at most."""
    written = _answer_tokens(store, chosen)
    likely, most = Charge(0, 0.0), Charge(0, 0.0)
    for question in questions:
        text = stated(asking.messages(question), question.schema)
        likely += chosen.likely(text, written)
        most += chosen.most(text)
    return likely, most


def _answer_tokens(store: Store, chosen: ModelSetup) -> float:
    """How long answers have been; a usual length before there were enough."""
    typical = llm_calls.typical(store, asking.PURPOSE, chosen.model)
    return float(typical["output_tokens"]) if typical["calls"] >= _ENOUGH_CALLS else float(_USUAL_ANSWER_TOKENS)
