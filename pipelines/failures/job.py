"""The job `failures`: names a cause for every bad trace, rules first, the model where one is configured.

All bad traces are examined, and of the good ones enough to learn from; what is recorded replaces the run before.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from pipelines.failures import badness, model_labels
from pipelines.failures.agreement import Agreement, kappa
from pipelines.failures.axes import AXES
from pipelines.failures.badness import FailureConfig
from pipelines.failures.label import RULES_VERSION, Labelled, label
from pipelines.failures.model_labels import Asked
from pipelines.jobs import JobResult
from store import failures, guardrails, judges, meta
from store.connection import Store
from store.version import code_version

if TYPE_CHECKING:
    from pipelines.jobs import JobContext

__all__ = ["MOST_QUESTIONS", "run"]

MOST_QUESTIONS: Final = 60


def run(context: "JobContext") -> JobResult:
    """Label and record; `rows` counts the bad traces. Raises: the model's error where asking again does not help."""
    return label_traces(context, FailureConfig(), environ=os.environ)


def label_traces(context: "JobContext", config: FailureConfig, *, environ: Mapping[str, str]) -> JobResult:
    """As `run`, with its thresholds and the environment that holds the model's key from outside."""
    store = context.store
    context.progress(0.0, "labelling bad traces")
    found = context.compute(_examine, store, config)
    if found is None:
        return JobResult(0, "There are no traces yet.")
    labelled, bad = found.labelled, found.bad
    asked = _asked(context, labelled, environ)
    labels = labelled.labels if asked is None else model_labels.merged(labelled.labels, asked)
    final = Labelled(labels, labelled.rules)
    context.progress(0.9, "writing labels")
    summary = failures.Summary(
        rules_version=RULES_VERSION,
        reward_model_id=failures.active_model(store),
        traces=found.traces,
        bad=bad,
        unknown=final.unknown,
        explored=final.explored,
        parameters={
            "thresholds": found.thresholds,
            "config": asdict(config),
            "examined_good": found.good,
            "agreement": _agreement(labelled, failures.human_labels(store), asked),
            "model": None if asked is None else _model_summary(asked),
        },
    )
    rules = final.rules.with_columns(pl.col("agent").replace("", None))
    failures.record(store, final.labels, rules, summary, data_version=found.data_version, code_version=code_version())
    return JobResult(bad, _message(found.traces, bad, final, asked))


@dataclass(frozen=True)
class _Examined:
    """What the rules said of the traces, how many there were, bad ones and examined good ones, and what is bad."""

    labelled: Labelled
    traces: int
    bad: int
    good: int
    thresholds: list[dict[str, Any]]
    data_version: int


def _examine(store: Store, config: FailureConfig) -> _Examined | None:
    """Label the bad traces by the rules; None where there are no traces."""
    version = meta.data_version(store)
    traces = failures.traces(store)
    if traces.is_empty():
        return None
    examined = badness.examined(badness.mark(traces, config), config)
    ids = examined["trace_id"].to_list()
    bad = int(examined["bad"].sum())
    labelled = label(
        examined, failures.calls(store, ids), failures.answers(store, ids), failures.requests(store, ids), config,
        violations=guardrails.violations_in(store, ids),
    )  # fmt: skip
    thresholds = badness.thresholds(traces, config).to_dicts()
    return _Examined(labelled, traces.height, bad, len(ids) - bad, thresholds, version)


def _asked(context: "JobContext", labelled: Labelled, environ: Mapping[str, str]) -> Asked | None:
    """The model's causes; None without a model or without bad traces."""
    chosen, sample = model_labels.choose(labelled.labels, MOST_QUESTIONS)
    if not chosen or not context.settings.model:
        return None
    # Imported here: the library behind it takes a second to load, and most stores have no model.
    from pipelines.llm import connect

    port = connect(context.store, context.settings, environ=environ, random=context.random)
    if port is None:
        return None
    context.progress(0.8, f"asking the model about {len(chosen)} traces")
    with port:
        stated, steps = judges.stated(context.store, chosen), judges.steps(context.store, chosen)
        return model_labels.ask(port, chosen, sample, stated, steps)


def _agreement(labelled: Labelled, people: pl.DataFrame, asked: Asked | None) -> dict[str, Any]:
    """Agreement of the rules' first labels with people and with the model, on the bad traces that both labelled."""
    first = labelled.labels.filter(pl.col("rank") == 1).select("trace_id", ruled="axis")
    said = people.filter(pl.col("axis").is_in(list(AXES))).group_by("trace_id", maintain_order=True).last()
    against = {"people": _compared(first, said)}
    if asked is not None:
        drawn = asked.labels.filter(pl.col("trace_id").is_in(list(asked.sample)))
        against["model"] = _compared(first, drawn)
        both = asked.labels.select("trace_id", ruled="axis")
        against["model and people"] = _compared(both, said)
    return {name: asdict(value) for name, value in against.items()}


def _compared(first: pl.DataFrame, second: pl.DataFrame) -> Agreement:
    both = first.join(second.select("trace_id", "axis"), on="trace_id").sort("trace_id")
    return kappa(both["ruled"], both["axis"])


def _model_summary(asked: Asked) -> dict[str, Any]:
    return {
        "prompt": model_labels.PROMPT,
        "answered": asked.labels.height,
        "sample": len(asked.sample),
        "unanswered": asked.unanswered,
        "stopped": asked.stopped,
    }


def _message(traces: int, bad: int, final: Labelled, asked: Asked | None) -> str:
    known = bad - final.unknown - final.explored
    text = (
        f"{bad} of {traces} traces went badly: {known} with a cause, {final.explored} deliberate exploration, "
        f"{final.unknown} unknown"
    )
    if asked is not None:
        text += f"; the model was asked about {asked.labels.height + asked.unanswered}"
    return text + "."
