"""The job `transitions`: what follows what in the paths of traces, and how surprising each trace is (METHODS §5).

Paths are kept up to date trace by trace; a model is fitted anew from their counts, which takes seconds. No version is
made when neither a path nor the rewards in use have changed.
"""

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from pipelines.jobs import JobResult
from pipelines.transitions import inference, scoring
from pipelines.transitions.abstraction import labels
from pipelines.transitions.model import ModelConfig, fit_agent, refused
from store import trace_paths, transition_models, transitions
from store.connection import Store
from store.version import code_version

if TYPE_CHECKING:
    from pipelines.jobs import JobContext

__all__ = ["run"]

_FRAMES = {
    "transition_states": transition_models.STATES,
    "transition_folds": transition_models.FOLDS,
    "transition_counts": transition_models.MOVES,
    "trace_surprise": transition_models.SURPRISE,
    "reliability": transition_models.RELIABILITY,
    "inferred_weights": transition_models.WEIGHTS,
}


def run(context: "JobContext") -> JobResult:
    """Refresh paths, fit and publish; `rows` counts the traces scored."""
    context.progress(0.0, "finding the abstract steps of new traces")
    refreshed = trace_paths.refresh(context.store)
    human = transitions.human(context.store)
    basis = {"publication": refreshed.publication, "human": human.height}
    if _unchanged(context, basis):
        return JobResult(0, "Nothing changed: the models in use hold.")
    context.progress(0.3, "fitting what follows what")
    fitted = context.compute(_fit_all, context.store, context.random, ModelConfig())
    if fitted is None:
        return JobResult(0, "There are no traces yet.")
    entries, joined = fitted.models, fitted.frames
    context.progress(0.95, "writing models")
    for entry in entries:
        entry["parameters"]["basis"] = basis
    number = transition_models.publish(context.store, fitted)
    return JobResult(joined["trace_surprise"].height, _message(number, joined["trace_surprise"], entries))


def _fit_all(store: Store, random: np.random.Generator, config: ModelConfig) -> transition_models.Run | None:
    """The models of all agents that the store holds traces of; None where it holds none."""
    observed = transitions.observed(store)
    if observed.episodes.is_empty():
        return None
    labelled = labels(trace_paths.states(store))
    entries, joined = _fit(observed, labelled, transitions.human(store), random, config)
    return transition_models.Run(entries, joined, observed.data_version, observed.reward_model_id, code_version())


def _fit(
    observed: transitions.Observed, labelled: pl.DataFrame, human: pl.DataFrame, random: np.random.Generator,
    config: ModelConfig,
) -> tuple[list[dict[str, Any]], dict[str, pl.DataFrame]]:  # fmt: skip
    """The model of every agent with enough traces, and its frames by table."""
    entries = []
    frames: dict[str, list[pl.DataFrame]] = {name: [pl.DataFrame(schema=schema)] for name, schema in _FRAMES.items()}
    agents = observed.episodes.partition_by("agent", as_dict=True, maintain_order=True)
    for (name,), episodes in agents.items():
        agent = str(name)
        if episodes.height < config.min_traces:
            entries.append(refused(agent, episodes, f"{episodes.height} of at least {config.min_traces} traces."))
            continue
        model = fit_agent(
            agent, episodes, observed.counts.filter(agent=agent), observed.user_counts.filter(agent=agent), labelled,
            random, config,
        )  # fmt: skip
        entries.append(model.entry)
        until = episodes["seen_at"][-1]
        own = human.filter(agent=agent)
        shown = set(own.filter(kind="demonstration")["trace_id"])
        for table, frame in (
            ("transition_states", model.states),
            ("transition_folds", model.folds),
            ("transition_counts", model.moves),
            ("reliability", model.reliability),
            ("trace_surprise", scoring.score(agent, episodes, model.transitions, model.surprise, until)),
            ("inferred_weights", inference.acted_values(agent, model, episodes, random)),
            ("inferred_weights", inference.demonstrated(agent, model, episodes, shown, random)),
            ("inferred_weights", inference.corrections(agent, own.filter(kind="correction"), random)),
        ):
            frames[table].append(frame)
    return entries, {name: pl.concat(parts) for name, parts in frames.items()}


def _unchanged(context: "JobContext", basis: dict[str, int]) -> bool:
    models = transition_models.models(context.store)
    if models.is_empty():
        return False
    newest = models.row(0, named=True)
    return bool(
        newest["abstraction"] == trace_paths.ABSTRACTION
        and newest["reward_model_id"] == transitions.active_rewards(context.store)
        and json.loads(newest["parameters"]).get("basis") == basis
    )


def _message(number: int, surprise: pl.DataFrame, entries: list[dict[str, object]]) -> str:
    fitted = sum(1 for entry in entries if entry["concentration"] is not None)
    unusual = surprise.filter(pl.col("p_value") <= 0.01).height
    text = f"Version {number}: {fitted} agents, {surprise.height} traces, {unusual} of them with p of .01 or less"
    left = len(entries) - fitted
    return f"{text}; {left} agents have too few traces." if left else f"{text}."
