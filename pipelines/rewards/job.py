"""The job `rewards`: keeps the reward of every trace up to date.

    measurement -> model of single traces -> calibration -> a version, which takes over or waits (`versions.decide`)

A version is fitted anew once a night, and earlier when the data has grown by a tenth; in between, traces that are new
or have new signals are scored with the version in use (`store.rewards.extend`), from its stored plain parameters. Where
there is too little data for a model of single traces, rewards rest on the means of tasks (`empirical_bayes`), which is
fitted on every run, and the notes name the reason.

No version is made when a fit says the same of every trace as the one in use. Mean rewards of agents and arms are part
of the version: they change only with it, and a page need not compute them from every trace.
"""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from pipelines.jobs import JobResult
from pipelines.rewards import choice_by_agent, empirical_bayes, fallback, means, measurement, trace_model, versions
from pipelines.rewards.labels import judge_qualities
from pipelines.rewards.means import mean_rewards
from pipelines.rewards.outcome import common_sds, in_place_of_rewards
from pipelines.rewards.refit import Refit, aligned, leniency_of, outcome_columns, refit, rewards_of, segment_of
from pipelines.rewards.stated import Evidence, Scoped, apply_again
from pipelines.rewards.trace_model import TraceModel
from pipelines.rewards.weighted_agents import Correction, correct
from pipelines.stats.contract import FitRefused
from store import reward_features, reward_versions, rewards
from store.reward_features import Material, Selection
from store.reward_rows import with_outcomes
from store.reward_versions import Report
from store.version import code_version

if TYPE_CHECKING:
    from pipelines.jobs import JobContext

# The kinds of signal that the fallback can use; clicks and purchases need the measurement models.
EVIDENCE_KINDS = ("outcome", "thumb", "rating", "annotation", "judge")


def run(context: "JobContext") -> JobResult:
    """Fit and publish, or score what is new; `rows` counts the rewards written."""
    context.progress(0.0, "reading traces and signals")
    traces, signals = rewards.counts(context.store)
    if traces == 0:
        return JobResult(0, "There are no traces yet.")
    active = reward_versions.active(context.store)
    why = versions.due(active, context.clock.now(), traces=traces, signals=signals)
    if why is None and active is not None:
        scored = _score(context, active)
        if scored is not None:
            return scored
        why = "the version in use has no stored parameters"
    if signals and traces >= trace_model.TraceModelConfig().min_traces:
        try:
            return _fit(context, active, why or "")
        except FitRefused as refused:
            note = {"agent": "all agents", "reason": refused.reason, "text": str(refused)}
            return _fall_back(context, active, [note])
    return _fall_back(context, active, [])


def _fit(context: "JobContext", active: dict[str, Any] | None, why: str) -> JobResult:
    """A new version by the model of single traces."""
    store = context.store
    measured = rewards.measured(store)
    context.progress(0.02, f"reading the steps of {measured.traces.height:,} traces")
    material = reward_features.gather(store)
    context.progress(0.1, f"fitting {measured.traces.height:,} traces and {measured.signals.height:,} signals")
    fitted, choices = context.compute(
        _estimate, material, measured, reward_versions.stated_weights(store), context.random
    )
    decision = _decision(context, trace_model.METHOD, fitted.metrics, active)
    context.progress(0.9, "writing rewards")
    facts = material.facts
    report = Report(
        **_window(facts),
        publication=material.publication,
        activate=decision.activate,
        reason=decision.reason,
        metrics=fitted.metrics,
        calibration=fitted.bins,
        weights=fitted.weights,
        loadings=fitted.loadings,
        segment_means=fitted.segment_means,
        people=fitted.people,
        state=json.dumps(
            {
                "model": fitted.model.parameters(),
                "selection": vars(material.selection),
                "stated_weights": [vars(one) for one in fitted.scopes],
                "corrections": [one.parameters() for one in fitted.corrections],
            },
            sort_keys=True,
            allow_nan=False,
        ),
    )
    model = _publish(
        context, trace_model.METHOD,
        {**fitted.parameters, "fitted_because": why, "notes": [*fitted.notes, *_before_trace(measured.before_trace)],
         "choice_of_arm": choices},
        _rewarded(facts, fitted.rewards), fitted.rewards, fitted.cells, measured.signals.height,
        material.data_version, report,
    )  # fmt: skip
    if model is None:
        return JobResult(0, "Nothing changed: the version in use holds.")
    return _said(model, fitted, decision)


def _estimate(
    material: Material, measured: rewards.Evidence, stated_weights: pl.DataFrame, random: np.random.Generator
) -> tuple[Refit, list[dict[str, Any]]]:
    """The whole fit, and which arm for which request."""
    selection = material.selection
    fitted = refit(
        material.facts, material.tokens, selection.tokens, selection.numbers, selection.categories, measured.traces,
        measured.signals, stated_weights, random,
    )  # fmt: skip
    return fitted, choice_by_agent.lifts(material, fitted.rewards)


def _decision(
    context: "JobContext", method: str, metrics: pl.DataFrame, active: dict[str, Any] | None
) -> versions.Decision:
    """Whether a fit with these held-out metrics takes over."""
    held = reward_versions.metrics(context.store)
    newest = reward_versions.versions(context.store, 1)
    return versions.decide(
        method, metrics, active,
        held.filter(pl.col("reward_model_id") == active["reward_model_id"]) if active else held.head(0),
        newest=int(newest["reward_model_id"][0]) if newest.height else None,
    )  # fmt: skip


def _before_trace(counts: pl.DataFrame) -> list[dict[str, Any]]:
    """Notes on signals that are dated before their trace began (`counts` of `rewards.BEFORE_TRACE`)."""
    notes = []
    for row in counts.iter_rows(named=True):
        said = []
        if row["left_out"]:
            said.append(f"{row['left_out']:,} by more than a day, which are left out: they are about something else")
        if row["counted"]:
            said.append(f"{row['counted']:,} by less than a day, as clocks that differ make it, which count")
        text = f"Signals dated before their trace began: {'; '.join(said)}."
        notes.append({"agent": row["agent"], "reason": "before_trace", "text": text})
    return notes


def _said(model: int, fitted: Refit, decision: versions.Decision) -> JobResult:
    rows = fitted.rewards.height
    known = fitted.parameters["with_evidence"]
    state = "in use" if decision.activate else "waits for an operator"
    return JobResult(
        rows, f"Version {model}: {rows:,} traces, {known:,} with evidence of their own; {state}: {decision.reason}."
    )


def _score(context: "JobContext", active: dict[str, Any]) -> JobResult | None:
    """Score what came since the version in use was last applied; None when it cannot be."""
    store, model_id = context.store, int(active["reward_model_id"])
    state = reward_versions.model_state(store, model_id)
    if state is None:
        return None
    kept = json.loads(state)
    selection = Selection(**{name: tuple(values) for name, values in kept["selection"].items()})
    material = reward_features.gather(store, selection=selection, since=int(active["publication"]))
    if material.facts.is_empty():
        return JobResult(0, "Nothing changed: the version in use holds.")
    context.progress(0.3, f"scoring {material.facts.height:,} traces")
    fresh = context.compute(_scores, kept, material, rewards.measured(store))
    written = rewards.extend(store, model_id, fresh, publication=material.publication, progress=_writing(context, 0.9))
    return JobResult(written, f"Version {model_id} scored {written:,} new or changed traces.")


def _scores(kept: dict[str, Any], material: Material, measured: rewards.Evidence) -> pl.DataFrame:
    """The reward of every trace of `material` by the version whose state is `kept` (`reward_rows.WRITTEN`)."""
    facts, signals = material.facts, measured.signals
    measuring = measurement.MeasurementConfig(judges=judge_qualities(signals))
    found = measurement.fit(measured.traces, signals, measuring)

    def without(kinds: tuple[str, ...]) -> Evidence:
        rest = signals.filter(~pl.col("kind").is_in(kinds))
        return aligned(facts, measurement.fit(measured.traces, rest, measuring).evidence)

    scopes = [Scoped(**one) for one in kept.get("stated_weights", [])]
    segments = segment_of(facts, material.selection.categories)
    evidence = apply_again(aligned(facts, found.evidence), scopes, facts["agent"], segments, without)
    model = TraceModel.of(kept["model"])
    corrections = [Correction.of(one) for one in kept.get("corrections", [])]
    prior = correct(facts, material.tokens, segments, model.prior(facts, material.tokens), corrections, scopes)
    mean, sd, _ = rewards_of(model, prior, evidence, leniency_of(facts["user_id"], found.leniency))
    own = facts.select("trace_id").join(found.evidence, on="trace_id", how="left", maintain_order="left")
    return facts.select("trace_id").with_columns(
        *outcome_columns(facts["agent"], evidence, found.parameters["agents"]),
        mean=mean,
        sd=sd,
        signals=own["signals"].fill_null(0),
    )


def _writing(context: "JobContext", begin: float) -> Callable[[float], None]:
    """Progress of writing, which is the rest of the job from `begin`."""
    return lambda fraction: context.progress(begin + (1.0 - begin) * fraction, "writing rewards")


def _fall_back(context: "JobContext", active: dict[str, Any] | None, notes: list[dict[str, Any]]) -> JobResult:
    """A version by the means of tasks."""
    evidence = rewards.evidence(context.store, EVIDENCE_KINDS)
    context.progress(0.3, f"fitting {evidence.traces.height} traces and {evidence.signals.height} signals")
    fitted, held = context.compute(_fall_back_fit, evidence, context.random)
    decision = _decision(context, empirical_bayes.METHOD, held.metrics, active)
    context.progress(0.9, "writing rewards")
    used = int(fitted.rewards["signals"].sum())
    report = Report(
        users=evidence.traces["user_id"].drop_nulls().n_unique(),
        tasks=evidence.traces["task"].drop_nulls().n_unique(),
        activate=decision.activate,
        reason=decision.reason,
        metrics=held.metrics,
        calibration=held.bins,
    )
    model = _publish(
        context, empirical_bayes.METHOD,
        {**fitted.parameters, "notes": [*notes, *fitted.notes.to_dicts(), *_before_trace(evidence.before_trace)]},
        evidence.traces.join(fitted.rewards, on="trace_id"), fitted.rewards, fitted.cells, used, evidence.data_version,
        report,
    )  # fmt: skip
    if model is None:
        return JobResult(0, "Nothing changed: the active model holds.")
    observed = int((fitted.rewards["signals"] > 0).sum())
    message = f"Version {model}: {fitted.rewards.height} traces, {observed} of them with {used} signals of their own."
    return JobResult(fitted.rewards.height, message)


def _fall_back_fit(
    evidence: rewards.Evidence, random: np.random.Generator
) -> tuple[empirical_bayes.RewardFit, fallback.Held]:
    """The fit, and how it does on people and tasks it has not seen."""
    fitted = empirical_bayes.fit(evidence.traces, evidence.signals)
    return fitted, fallback.held_out(evidence.traces, evidence.signals, random)


def _publish(
    context: "JobContext", method: str, parameters: dict[str, Any], rewarded: pl.DataFrame, reward: pl.DataFrame,
    cells: pl.DataFrame, signals: int, data_version: int, report: Report,
) -> int | None:  # fmt: skip
    """Add the version, with mean rewards of agents and arms among its parameters."""
    rows = in_place_of_rewards(with_outcomes(rewarded)).cast({"signals": pl.Int64}).select(list(means.REWARDED))
    common = common_sds(parameters.get("measurement", {}).get("agents", []))
    task_sds = cells.select(list(means.TASK_SDS))
    return rewards.publish(
        context.store,
        rewards.Fitted(
            method=method,
            parameters={
                **_plain(parameters),
                "agent_means": mean_rewards(rows.with_columns(arm=pl.lit("all arms")), task_sds, common).to_dicts(),
                "arm_means": mean_rewards(rows, task_sds, common).to_dicts(),
            },
            rewards=reward,
            cells=cells,
            signals=signals,
            data_version=data_version,
            code_version=code_version(),
            report=report,
        ),
        _writing(context, 0.9),
    )


def _plain(value: Any) -> Any:
    """The value as JSON can hold it: what is not a finite number becomes null, times become text."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if isfinite(value) else None
    return value.isoformat() if isinstance(value, datetime) else value


def _rewarded(facts: pl.DataFrame, reward: pl.DataFrame) -> pl.DataFrame:
    return facts.select("trace_id", "agent", "arm", "task", "user_id").join(reward, on="trace_id")


def _window(facts: pl.DataFrame) -> dict[str, Any]:
    times = facts.select(first=pl.col("started_at").min(), last=pl.col("started_at").max()).row(0)
    return {
        "window_start": times[0],
        "window_end": times[1],
        "users": facts["user_id"].drop_nulls().n_unique(),
        "tasks": facts["task"].drop_nulls().n_unique(),
    }
