"""Lessons that agents and people propose: quotes looked for in the traces, words of users and tools marked, linted.

An agent may teach; an operator decides. Nothing that comes in says how far it is trusted, or in which state it is.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal

import polars as pl

from pipelines.lessons.lint import gather
from pipelines.lessons.lint.material import Passage
from pipelines.lessons.lint.taint import taint
from store import lesson_sources, lessons
from store.connection import Store
from store.errors import ActionRefused, IngestError
from store.lesson_versions import LessonText, Scope, checked, checked_scope, within

__all__ = [
    "MOST_EVIDENCE", "MOST_WAITING", "SHORTEST_QUOTE", "Claim", "EvidenceRefused", "Proposal", "Proposed",
    "propose", "propose_by_operator",
]  # fmt: skip

MOST_EVIDENCE: Final = 20
MOST_WAITING: Final = 100  # proposals of agents for one agent
SHORTEST_QUOTE: Final = 8

# Spans in which users and tools speak; a model's own spans repeat the operator's instructions.
_FOREIGN: Final = ("tool", "retriever", "guardrail")


@dataclass(frozen=True)
class Claim:
    """A trace that went well or badly, and where in it to look: a span, words that stand there, both or neither."""

    trace_id: str
    role: Literal["good", "bad"]
    span_id: str | None = None
    quote: str | None = None


@dataclass(frozen=True)
class Proposal:
    """What is proposed, for whom, and what it rests on."""

    scope: Scope
    text: LessonText
    why: str
    evidence: tuple[Claim, ...] = ()


@dataclass(frozen=True)
class Proposed:
    """The lesson, and whether it is new: the same words for the same requests are the same lesson."""

    lesson_id: str
    new: bool


class EvidenceRefused(IngestError):
    """Evidence that is not there. `field` names it, as evidence[2].quote."""

    def __init__(self, field: str, problem: str, remedy: str) -> None:
        self.field = field
        super().__init__(f"{field}: {problem} {remedy}")


def propose(
    store: Store,
    proposal: Proposal,
    *,
    origin: Literal["agent", "operator"],
    author: str,
    most_waiting: int | None = None,
) -> Proposed:
    """Add a proposal, which waits for an operator; one that is known already is left as it is.

    Raises: `ActionRefused` for an unusable text or scope; `EvidenceRefused` naming what is not in the traces;
    `TooManyWaiting` when `most_waiting` of this origin wait for the agent already.
    """
    text = checked(proposal.text, "Propose")
    scope = checked_scope(proposal.scope, "Propose")
    why = within("why", proposal.why)
    if not why:
        raise ActionRefused("Propose", "the field 'why' is empty.", "Say what the lesson rests on.")
    lesson_id = _identity(origin, scope, text)
    if lesson_id in lessons.known(store):
        return Proposed(lesson_id, new=False)
    said = _said(store, proposal.evidence)
    # A person may reason from one agent to another; an agent teaches from what it went through.
    of_agent = scope.agent if origin == "agent" else None
    evidence = _evidence(store, lesson_id, proposal.evidence, said, of_agent)
    found = taint(text, [Passage(*row) for row in _foreign(said)])
    row = {
        "lesson_id": lesson_id, **asdict(scope), **asdict(text), "why": why,
        "taint": json.dumps([asdict(one) for one in found], ensure_ascii=False),
    }  # fmt: skip
    added = lessons.propose(
        store, pl.DataFrame([row], schema=lessons.PROPOSALS), evidence, author=author, origin=origin, trust=origin,
        most_waiting=most_waiting,
    )  # fmt: skip
    if added:
        gather.check(store, lesson_id)
    return Proposed(lesson_id, bool(added))


def propose_by_operator(
    store: Store, *, operator: str, scope: Scope, text: LessonText, why: str, evidence: Sequence[Claim] = ()
) -> str:
    """Add what a person wrote and return its id; it waits like any other proposal.

    Raises: `ActionRefused` for an unusable text, or when a person proposed the same before; `EvidenceRefused`.
    """
    made = propose(store, Proposal(scope, text, why, tuple(evidence)), origin="operator", author=operator)
    if not made.new:
        state = lessons.one(store, made.lesson_id)["state"]
        raise ActionRefused(
            "Propose", f"the same lesson was proposed before and is {state}.", f"Look at lesson {made.lesson_id}."
        )
    return made.lesson_id


def _identity(origin: str, scope: Scope, text: LessonText) -> str:
    said = [origin, *asdict(scope).values(), *asdict(text).values()]
    words = [None if one is None else " ".join(one.casefold().split()) for one in said]
    return hashlib.sha256(json.dumps(words).encode("utf-8", "replace")).hexdigest()[:16]


def _said(store: Store, claims: Sequence[Claim]) -> pl.DataFrame:
    """What the traces of the evidence say (columns `store.lesson_sources.TEXTS`)."""
    ids = sorted({claim.trace_id for claim in claims})
    return lesson_sources.texts(store, ids) if ids else pl.DataFrame(schema=lesson_sources.TEXTS)


def _foreign(said: pl.DataFrame) -> list[tuple[str, str, str | None, str]]:
    """(text, trace_id, span_id, field) of what users and tools said, and of what the trace as a whole says."""
    kept = said.filter(
        pl.col("text").is_not_null() & (pl.col("span_id").is_null() | pl.col("kind").is_in(list(_FOREIGN)))
    )
    return kept.select("text", "trace_id", "span_id", "field").rows()


def _evidence(
    store: Store, lesson_id: str, claims: Sequence[Claim], said: pl.DataFrame, agent: str | None
) -> pl.DataFrame:
    """The claims as rows of evidence (columns `lessons.EVIDENCE`), all of one agent where one is named.

    Raises: `EvidenceRefused`.
    """
    if len(claims) > MOST_EVIDENCE:
        raise EvidenceRefused("evidence", f"has {len(claims)} entries.", f"Send at most {MOST_EVIDENCE}.")
    found = lesson_sources.traces(store, [claim.trace_id for claim in claims])
    held = {row["trace_id"]: row for row in found.iter_rows(named=True)}
    rows = []
    for place, claim in enumerate(claims):
        name = f"evidence[{place}]"
        trace = held.get(claim.trace_id)
        if trace is None:
            raise EvidenceRefused(
                f"{name}.trace_id", f"there is no trace {claim.trace_id[:100]!r}.", "Send the trace before the lesson."
            )
        if agent is not None and trace["agent"] != agent:
            raise EvidenceRefused(
                f"{name}.trace_id",
                f"the trace {claim.trace_id[:100]!r} is of another agent.",
                "Name its own.",
            )
        place_in = _looked_up(name, claim, said.filter(trace_id=claim.trace_id))
        rows.append(
            {
                "lesson_id": lesson_id, "trace_id": claim.trace_id, "role": claim.role, "reward": trace["reward"],
                "reward_sd": trace["reward_sd"], "quote": claim.quote, **place_in,
            }
        )  # fmt: skip
    return pl.DataFrame(rows, schema=lessons.EVIDENCE)


def _looked_up(name: str, claim: Claim, said: pl.DataFrame) -> dict[str, object]:
    """Where in its trace a claim's span or quote stands. Raises: `EvidenceRefused`."""
    if claim.span_id is not None:
        said = said.filter(span_id=claim.span_id)
        if said.is_empty():
            raise EvidenceRefused(
                f"{name}.span_id", f"the trace has no span {claim.span_id[:100]!r}.", "Name one of its spans, or none."
            )
    if claim.quote is None:
        step = said["step"][0] if claim.span_id is not None else None
        return {"span_id": claim.span_id, "step": step, "field": None, "verified": None}
    wanted = " ".join(claim.quote.split())
    if len(wanted) < SHORTEST_QUOTE:
        raise EvidenceRefused(
            f"{name}.quote", f"{len(wanted)} characters show nothing.", f"Quote at least {SHORTEST_QUOTE}."
        )
    # Words of a step show more than the same words in the trace as a whole.
    for row in said.drop_nulls("text").sort(pl.col("span_id").is_null(), "step").iter_rows(named=True):
        if wanted in " ".join(row["text"].split()):
            return {
                "span_id": row["span_id"], "step": row["step"] or None, "field": row["field"], "verified": True,
            }  # fmt: skip
    where = f"span {claim.span_id[:100]!r}" if claim.span_id is not None else "the trace"
    raise EvidenceRefused(
        f"{name}.quote",
        f"these words do not stand in {where}: {wanted[:80]!r}.",
        "Quote word for word, as the trace was sent.",
    )
