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
from dataclasses import dataclass
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
from store.connection import Store
from store.reward_features import Material, Selection
from store.reward_rows import WRITTEN, with_outcomes
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
    newest = reward_versions.versions(context.store, 1)
    why = versions.due(
        active, context.clock.now(), traces=traces, signals=signals,
        newest=newest.row(0, named=True) if newest.height else None,
    )  # fmt: skip
    if why is None and active is not None:
        scored = _score(context, active)
        if scored is not None:
            return scored
        why = "the version in use has no stored parameters"
    notes = []
    if signals and traces >= trace_model.TraceModelConfig().min_traces:
        try:
            return _kept_up(context, active, _fit(context, active, why or ""))
        except FitRefused as refused:
            notes = [{"agent": "all agents", "reason": refused.reason, "text": str(refused)}]
    return _kept_up(context, active, _fall_back(context, active, notes))


def _kept_up(context: "JobContext", held: dict[str, Any] | None, made: JobResult) -> JobResult:
    """What was made. Where it did not take the place of the version `held`, that one scores what is new: a version may
    wait for an operator for days, and meanwhile arms, guardrails and lessons go by the one in use."""
    active = reward_versions.active(context.store)
    if held is None or active is None or active["reward_model_id"] != held["reward_model_id"]:
        return made
    scored = _score(context, active, begin=0.95)
    if scored is None or not scored.rows:
        return made
    return JobResult(made.rows + scored.rows, f"{made.message} {scored.message}" if made.rows else scored.message)


@dataclass(frozen=True)
class _Made:
    """A fit, which arm for which request, and what is said of the material it rests on."""

    fitted: Refit
    choices: list[dict[str, Any]]
    means: dict[str, Any]
    window: dict[str, Any]
    selection: Selection
    signals: int
    before_trace: pl.DataFrame
    publication: int
    data_version: int


def _fit(context: "JobContext", active: dict[str, Any] | None, why: str) -> JobResult:
    """A new version by the model of single traces."""
    context.progress(0.02, "reading and fitting traces and signals")
    made = context.compute(_estimate, context.store, context.random)
    fitted = made.fitted
    decision = _decision(context, trace_model.METHOD, fitted.metrics, active)
    context.progress(0.9, "writing rewards")
    report = Report(
        **made.window,
        publication=made.publication,
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
                "selection": vars(made.selection),
                "stated_weights": [vars(one) for one in fitted.scopes],
                "corrections": [one.parameters() for one in fitted.corrections],
            },
            sort_keys=True,
            allow_nan=False,
        ),
    )
    model = _publish(
        context, trace_model.METHOD,
        {**fitted.parameters, "fitted_because": why, "notes": [*fitted.notes, *_before_trace(made.before_trace)],
         "choice_of_arm": made.choices},
        made.means, fitted.rewards, fitted.cells, made.signals, made.data_version, report,
    )  # fmt: skip
    if model is None:
        return JobResult(0, "Nothing changed: the version in use holds.")
    return _said(model, fitted, decision)


def _estimate(store: Store, random: np.random.Generator) -> _Made:
    """The whole fit of what the store holds. Raises: `FitRefused`."""
    measured = rewards.measured(store)
    material = reward_features.gather(store)
    facts, selection = material.facts, material.selection
    fitted = refit(
        facts, material.tokens, selection.tokens, selection.numbers, selection.categories, measured.traces,
        measured.signals, reward_versions.stated_weights(store), random,
    )  # fmt: skip
    return _Made(
        fitted,
        choice_by_agent.lifts(material, fitted.rewards),
        _means(_rewarded(facts, fitted.rewards), fitted.cells, fitted.parameters),
        _window(facts),
        selection,
        measured.signals.height,
        measured.before_trace,
        material.publication,
        material.data_version,
    )


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


def _score(context: "JobContext", active: dict[str, Any], begin: float = 0.1) -> JobResult | None:
    """Score what came since the version in use was last applied; None when it cannot be."""
    store, model_id = context.store, int(active["reward_model_id"])
    state = reward_versions.model_state(store, model_id)
    if state is None:
        return None
    kept = json.loads(state)
    selection = Selection(**{name: tuple(values) for name, values in kept["selection"].items()})
    context.progress(begin, "scoring new and changed traces")
    fresh, publication = context.compute(_score_fresh, store, kept, selection, int(active["publication"]))
    if fresh.is_empty():
        return JobResult(0, "Nothing changed: the version in use holds.")
    report = _writing(context, max(0.9, begin))
    written = rewards.extend(store, model_id, fresh, publication=publication, progress=report)
    return JobResult(written, f"Version {model_id} scored {written:,} new or changed traces.")


def _score_fresh(store: Store, kept: dict[str, Any], selection: Selection, since: int) -> tuple[pl.DataFrame, int]:
    """As `_scores`, of what publications after `since` have changed, and the last publication that is in it."""
    material = reward_features.gather(store, selection=selection, since=since)
    if material.facts.is_empty():
        return pl.DataFrame(schema=WRITTEN), material.publication
    return _scores(kept, material, rewards.measured(store)), material.publication


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
    context.progress(0.1, "reading and fitting traces and signals")
    made = context.compute(_fall_back_fit, context.store, context.random)
    fitted, held = made.fitted, made.held
    decision = _decision(context, empirical_bayes.METHOD, held.metrics, active)
    context.progress(0.9, "writing rewards")
    used = int(fitted.rewards["signals"].sum())
    report = Report(
        users=made.users,
        tasks=made.tasks,
        activate=decision.activate,
        reason=decision.reason,
        metrics=held.metrics,
        calibration=held.bins,
    )
    model = _publish(
        context, empirical_bayes.METHOD,
        {**fitted.parameters, "notes": [*notes, *fitted.notes.to_dicts(), *_before_trace(made.before_trace)]},
        made.means, fitted.rewards, fitted.cells, used, made.data_version, report,
    )  # fmt: skip
    if model is None:
        return JobResult(0, "Nothing changed: the active model holds.")
    observed = int((fitted.rewards["signals"] > 0).sum())
    message = f"Version {model}: {fitted.rewards.height} traces, {observed} of them with {used} signals of their own."
    return JobResult(fitted.rewards.height, message)


@dataclass(frozen=True)
class _FallenBack:
    """A fit by the means of tasks, how it does on what it has not seen, and what is said of its evidence."""

    fitted: empirical_bayes.RewardFit
    held: fallback.Held
    means: dict[str, Any]
    users: int
    tasks: int
    before_trace: pl.DataFrame
    data_version: int


def _fall_back_fit(store: Store, random: np.random.Generator) -> _FallenBack:
    """The fit, and how it does on people and tasks it has not seen."""
    evidence = rewards.evidence(store, EVIDENCE_KINDS)
    fitted = empirical_bayes.fit(evidence.traces, evidence.signals)
    return _FallenBack(
        fitted,
        fallback.held_out(evidence.traces, evidence.signals, random),
        _means(evidence.traces.join(fitted.rewards, on="trace_id"), fitted.cells, fitted.parameters),
        evidence.traces["user_id"].drop_nulls().n_unique(),
        evidence.traces["task"].drop_nulls().n_unique(),
        evidence.before_trace,
        evidence.data_version,
    )


def _means(rewarded: pl.DataFrame, cells: pl.DataFrame, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Mean rewards of agents and arms, as a version keeps them among its parameters."""
    rows = in_place_of_rewards(with_outcomes(rewarded)).cast({"signals": pl.Int64}).select(list(means.REWARDED))
    task_sds = cells.select(list(means.TASK_SDS))
    of_agents = rows.with_columns(arm=pl.lit("all arms"))
    shared = common_sds(parameters.get("measurement", {}).get("agents", []))
    common = means.beyond_sampling(shared, mean_rewards(of_agents, task_sds))
    return {
        "agent_means": mean_rewards(of_agents, task_sds, common).to_dicts(),
        "arm_means": mean_rewards(rows, task_sds, common).to_dicts(),
    }


def _publish(
    context: "JobContext", method: str, parameters: dict[str, Any], mean_of: dict[str, Any], reward: pl.DataFrame,
    cells: pl.DataFrame, signals: int, data_version: int, report: Report,
) -> int | None:  # fmt: skip
    """Add the version, with mean rewards of agents and arms (`mean_of`) among its parameters."""
    return rewards.publish(
        context.store,
        rewards.Fitted(
            method=method,
            parameters={**_plain(parameters), **mean_of},
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
