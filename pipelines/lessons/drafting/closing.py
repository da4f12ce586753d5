"""Ends what was asked about a group: an answer becomes proposed lessons that lint has read, a failure a named one."""

from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from pipelines.lessons.drafting import gather
from pipelines.lessons.drafting.reading import Draft, Reading, read
from pipelines.lessons.lint import gather as lint
from store import drafting, lessons, llm_calls
from store.connection import Store
from store.drafting import Ended, Status
from store.llm_calls import Kept, Outcome, Record

__all__ = ["close", "close_without"]

_STATUS: Final[Mapping[Outcome, Status]] = {
    "refused": "refused", "malformed": "off-schema", "truncated": "truncated", "over budget": "over budget",
    "rejected": "unavailable", "unavailable": "unavailable", "interrupted": "interrupted", "running": "interrupted",
}  # fmt: skip
_CUT_SHORT: Final = (
    "The process ended while the model was asked. It may have answered and billed that; the answer did not arrive."
)


def close(store: Store, row: Mapping[str, Any], kept: Kept, value: Mapping[str, Any], *, extra: Record | None) -> Ended:
    """Propose what is to be taken of an answer, and close its row.

    Args: `row` of columns `store.drafting.ROWS`; `kept` the answer's origin, `value` the answer; `extra` what the
    questions before it cost.
    """
    rollouts = gather.again(store, row["chosen"])
    found = read(row["agent"], row["task"], rollouts, value)
    proposed = _propose(store, row, found, kept.model)
    status, message = _said(found, proposed)
    return _end(store, row, Ended(status, message, lesson_ids=proposed, dropped=found.dropped), extra)


def close_without(
    store: Store, row: Mapping[str, Any], outcome: Outcome, message: str | None, *, extra: Record | None = None
) -> Ended:
    """Close a row that brought no answer; `outcome` is that of its call."""
    return _end(store, row, Ended(_STATUS.get(outcome, "interrupted"), message or _CUT_SHORT), extra)


def _end(store: Store, row: Mapping[str, Any], ended: Ended, extra: Record | None) -> Ended:
    record = llm_calls.of_question(store, row["content_hash"], row["asked_at"])
    whole = Ended(
        ended.status, ended.message, ended.lesson_ids, ended.dropped,
        call_id=record.call_id if record else None,
        tokens=(record.tokens if record else 0) + (extra.tokens if extra else 0),
        cost_usd=(record.usd if record else 0.0) + (extra.usd if extra else 0.0),
    )  # fmt: skip
    drafting.end(store, row["draft_no"], whole)
    return whole


def _propose(store: Store, row: Mapping[str, Any], found: Reading, model: str) -> list[str]:
    """Propose the drafts; returns the ids of those that this row has added, now or before it was cut short."""
    if not found.drafts:
        return []
    rows = [_proposal(draft, row) for draft in found.drafts]
    proposals = pl.DataFrame(rows, schema={name: lessons.PROPOSALS[name] for name in rows[0]})
    evidence = pl.DataFrame([one for draft in found.drafts for one in _evidence(draft)], schema=lessons.EVIDENCE)
    added = set(lessons.propose(store, proposals, evidence, author=model, origin="model", trust="model"))
    library = lessons.library(store, agent=row["agent"]).filter(pl.col("created_at") >= row["asked_at"])
    ours = (added | set(library["lesson_id"])) - drafting.proposed_elsewhere(store, row["draft_no"])
    proposed = [draft.lesson_id for draft in found.drafts if draft.lesson_id in ours]
    for lesson_id in proposed:
        lint.check(store, lesson_id)
    return proposed


def _proposal(draft: Draft, row: Mapping[str, Any]) -> dict[str, Any]:
    sides: dict[str, list[float]] = {"good": [], "bad": []}
    for quote in draft.quotes:
        sides[quote.role].append(quote.reward)
    gap = 0.0
    if sides["good"] and sides["bad"]:
        gap = sum(sides["good"]) / len(sides["good"]) - sum(sides["bad"]) / len(sides["bad"])
    return {
        "lesson_id": draft.lesson_id, "agent": draft.agent, "task": draft.task, "tested": False,
        "value": max(gap, 0.0) * row["rollouts"], "title": draft.text.title, "when_text": draft.text.when_text,
        "when_not": draft.text.when_not, "do_text": draft.text.do_text, "why": draft.why, "trust": draft.trust,
        "taint": draft.taint_json, "parents": "[]",
    }  # fmt: skip


def _evidence(draft: Draft) -> list[dict[str, Any]]:
    return [
        {
            "lesson_id": draft.lesson_id, "trace_id": quote.trace_id, "span_id": quote.span_id, "role": quote.role,
            "reward": quote.reward, "reward_sd": quote.reward_sd, "quote": quote.quote, "step": quote.step,
            "field": quote.field, "verified": True,
        }
        for quote in draft.quotes
    ]  # fmt: skip


def _said(found: Reading, proposed: list[str]) -> tuple[Status, str]:
    """How reading an answer ended, in one word and in a sentence."""
    left_out = f" Not taken: {' '.join(found.dropped)}" if found.dropped else ""
    if proposed:
        count = len(proposed)
        return "proposed", f"{count} {'lesson' if count == 1 else 'lessons'} proposed.{left_out}"
    if found.drafts:
        return "nothing to learn", f"What the model wrote was proposed before, in the same words.{left_out}"
    if not found.offered:
        return "nothing to learn", f"The model gave no lesson: {found.nothing or 'it does not say why'}"
    if found.unfounded:
        return "quotes not found", f"No lesson is left of {found.offered}.{left_out}"
    return "off-schema", f"No lesson of {found.offered} can be taken.{left_out}"
