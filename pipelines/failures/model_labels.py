"""Causes named by the language model where one is configured: for bad traces without a finding, and for a sample.

The sample holds traces that rules labelled, drawn by a hash: on them the model's agreement with the rules is measured,
and it is shown beside every label of the model. The rules go first: a model's cause becomes the label only where no
rule found one. What stands in a trace is data between two lines that nobody who writes into a trace can write.
"""

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

import polars as pl

from pipelines.failures.axes import AXES, EXPLORATION, UNKNOWN
from pipelines.failures.weigh import LABELS
from pipelines.judges.material import of_trace
from pipelines.llm_schema import strict_object
from pipelines.prompts import prompt
from store.frames import each

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.llm_schema import Schema

__all__ = ["PROMPT", "PURPOSE", "Asked", "ask", "choose", "merged"]

PURPOSE: Final = "failure-label"
PROMPT: Final = "failure_label.v1"
NAMED: Final = tuple(axis for axis in AXES if axis != EXPLORATION)  # whether a run explored is known, not guessed
_SCHEMA: Final = strict_object(
    {
        "reason": {"type": "string"},
        "axis": {"type": "string", "enum": list(NAMED)},
        "step": {"type": "integer", "minimum": 0},
        "confidence": {"type": "integer", "minimum": 0, "maximum": 100},
    }
)
_REASON_CHARACTERS: Final = 500


class Answered(Protocol):
    """What is read of an answer of `pipelines.llm.ModelPort`."""

    @property
    def value(self) -> dict[str, Any]: ...


class Port(Protocol):
    """The part of `pipelines.llm.ModelPort` that is used here."""

    def complete(
        self,
        purpose: str,
        messages: "Sequence[Any]",
        schema: "Schema",
        *,
        prompt_version: str = "",
        subject: str | None = None,
    ) -> Answered: ...


@dataclass(frozen=True)
class Asked:
    """The model's causes (columns LABELS, rank 0), which of the traces were drawn as sample, and why it stopped."""

    labels: pl.DataFrame
    sample: frozenset[str] = field(default_factory=frozenset)
    unanswered: int = 0
    stopped: str | None = None


def choose(labels: pl.DataFrame, most: int) -> tuple[list[str], frozenset[str]]:
    """Which bad traces to ask about, at most `most`: half a sample of the ruled ones, the rest those without finding.

    Ordered by a hash of the id, so that a later run asks about the same ones, which the cache answers for nothing.
    Traces whose label is exploration are left out. Also returns which of them are the sample.
    """
    first = labels.filter((pl.col("rank") == 1) & (pl.col("axis") != EXPLORATION))
    places = each(
        first["trace_id"], lambda text: hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(), pl.String
    )
    ordered = first.with_columns(places.alias("place")).sort("place", "trace_id")
    ruled = ordered.filter(pl.col("axis") != UNKNOWN)["trace_id"].head(most // 2).to_list()
    unknown = ordered.filter(pl.col("axis") == UNKNOWN)["trace_id"].head(most - len(ruled)).to_list()
    return [*ruled, *unknown], frozenset(ruled)


def _place(trace_id: str) -> str:
    return hashlib.sha256(trace_id.encode("utf-8", "surrogatepass")).hexdigest()


def ask(port: Port, trace_ids: list[str], sample: frozenset[str], stated: pl.DataFrame, steps: pl.DataFrame) -> Asked:
    """Ask about these traces; `stated` and `steps` are `store.judges.STATED` and `STEPS` of them.

    A question that brings no answer is counted and the next one asked; a spent budget ends the asking. Raises: the
    model's error where asking again does not help (`ModelRejected`, `ModelUnavailable`).
    """
    from pipelines.llm import BudgetExceeded, Message, ModelMalformed, ModelRefused, ModelTruncated

    told = {row["trace_id"]: row for row in stated.iter_rows(named=True)}
    taken = {str(key[0]): frame for key, frame in steps.group_by("trace_id", maintain_order=True)}
    chosen = prompt(PROMPT)
    rows: list[dict[str, Any]] = []
    unanswered, stopped = 0, None
    for trace_id in trace_ids:
        own = taken.get(trace_id, steps.clear())
        material = of_trace(told.get(trace_id), own.to_dicts())
        if material is None:
            unanswered += 1
            continue
        boundary = hashlib.sha256(material.text.encode("utf-8", "surrogatepass")).hexdigest()[:24]
        system, user = chosen.filled({"boundary": boundary, "material": material.text})
        try:
            answer = port.complete(
                PURPOSE,
                [Message("system", system), Message("user", user)],
                _SCHEMA,
                prompt_version=chosen.version,
                subject=trace_id,
            )
        except (ModelMalformed, ModelRefused, ModelTruncated):
            unanswered += 1
            continue
        except BudgetExceeded as error:
            stopped = str(error)
            break
        rows.append(_row(trace_id, answer.value, own))
    return Asked(pl.DataFrame(rows, schema=LABELS), sample, unanswered, stopped)


def merged(labels: pl.DataFrame, asked: Asked) -> pl.DataFrame:
    """The labels with the model's: first where no rule found a cause, else after the rules' (columns LABELS)."""
    if asked.labels.is_empty():
        return labels
    named = asked.labels.filter(pl.col("axis") != UNKNOWN)
    replaced = labels.filter(pl.col("axis") == UNKNOWN).join(named.select("trace_id"), on="trace_id", how="semi")
    kept = labels.join(replaced.select("trace_id"), on="trace_id", how="anti")
    last = kept.group_by("trace_id").agg(last=pl.col("rank").max())
    placed = named.join(last, on="trace_id", how="left").with_columns(
        rank=(pl.col("last").fill_null(0) + 1).cast(pl.Int32)
    )
    return pl.concat([kept, placed.select(list(LABELS))]).sort("trace_id", "rank")


def _row(trace_id: str, value: dict[str, Any], steps: pl.DataFrame) -> dict[str, Any]:
    shown = steps.filter(pl.col("step") == int(value["step"]))["span_id"].to_list()
    return {
        "trace_id": trace_id,
        "rank": 0,
        "axis": str(value["axis"]),
        "origin": "model",
        "rule": PROMPT,
        "span_id": shown[0] if shown else None,
        "confidence": int(value["confidence"]) / 100,
        "detail": " ".join(str(value["reason"]).split())[:_REASON_CHARACTERS],
    }
