"""A whole fit: measurement, trace-level model, calibration, and the report that goes with the version.

Pure functions over frames. `refit` gives everything a version is made of, or raises `FitRefused` with the reason why
the fallback (`empirical_bayes`) is used instead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.rewards import calibration, measurement, trace_model
from pipelines.rewards.features import fit_encoder, metadata_name
from pipelines.rewards.labels import Labels, choose_labels, judge_qualities
from pipelines.rewards.leakage import Refused, refuse
from pipelines.rewards.outcome import common_sds, in_place_of_rewards, outcomes
from pipelines.rewards.segment_means import segment_means
from pipelines.rewards.stated import Evidence, Scoped, apply_weights, scoped_weights
from pipelines.rewards.trace_model import Prior, TraceModel
from pipelines.rewards.weighted_agents import Correction, fit_corrections

__all__ = ["Refit", "aligned", "leniency_of", "outcome_columns", "refit", "rewards_of", "segment_of"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Refit:
    """One row a trace in `rewards` (trace_id, mean, sd, signals), the frames of the report, and plain parameters."""

    model: TraceModel
    rewards: pl.DataFrame
    cells: pl.DataFrame
    metrics: pl.DataFrame
    bins: pl.DataFrame
    weights: pl.DataFrame
    loadings: pl.DataFrame
    segment_means: pl.DataFrame
    people: pl.DataFrame
    scopes: list[Scoped]
    corrections: list[Correction]
    parameters: dict[str, Any]
    notes: list[dict[str, Any]]


def refit(
    facts: pl.DataFrame,
    tokens: pl.DataFrame,
    token_names: tuple[str, ...],
    numbers: tuple[str, ...],
    categories: tuple[str, ...],
    traces: pl.DataFrame,
    signals: pl.DataFrame,
    stated_weights: pl.DataFrame,
    random: np.random.Generator,
    config: trace_model.TraceModelConfig | None = None,
) -> Refit:
    """Fit everything.

    Args: `facts`, `tokens` and the names of tokens and metadata paths as `store.reward_features` gives them; `traces`
    and `signals` as the measurement models read them; `stated_weights` of `store.reward_versions.STATED_WEIGHTS`.
    Raises: `FitRefused`.
    """
    measuring = measurement.MeasurementConfig(judges=judge_qualities(signals))
    measured = measurement.fit(traces, signals, measuring)
    segments = segment_of(facts, categories)
    whole = aligned(facts, measured.evidence)
    own_signals = _signals_of(facts, measured.evidence)

    def without(kinds: tuple[str, ...]) -> Evidence:
        return aligned(facts, measurement.fit(traces, signals.filter(~pl.col("kind").is_in(kinds)), measuring).evidence)

    weight = scoped_weights(stated_weights, facts["agent"], segments)
    evidence, scoped = apply_weights(whole, weight, facts["agent"], segments, without)

    labels = choose_labels(signals)
    at, label, asking = _label_rows(facts, labels)
    spread = np.full(facts.height, np.nan)
    spread[at] = label
    refused = refuse({metadata_name(path): _column(facts, path) for path in (*numbers, *categories)}, spread)
    out = {one.feature for one in refused}
    encoder = fit_encoder(
        facts, token_names, [p for p in numbers if metadata_name(p) not in out],
        [p for p in categories if metadata_name(p) not in out],
    )  # fmt: skip
    model, prior = trace_model.fit(facts, tokens, encoder, whole.location, whole.precision, config)
    leniency = leniency_of(facts["user_id"], measured.leniency)
    calibrates = labels.basis == "solicited"
    spread_of_people = float(np.median(leniency)) if len(at) else 0.0
    if calibrates:
        link = calibration.fit_link(prior.mean[at], prior.variance[at] + spread_of_people, label, labels.basis, asking)
        model = replace(model, link=link)
    metrics, bins = _held_out(model, prior, facts, at, label, labels.basis, spread_of_people, random)
    prior, corrections, weight_notes = fit_corrections(
        facts, tokens, segments, encoder, prior, evidence, scoped, config
    )
    mean, sd, variance = rewards_of(model, prior, evidence, leniency)
    fits = measured.parameters["agents"]
    rewards = pl.DataFrame(
        {"trace_id": facts["trace_id"], "mean": mean, "sd": sd, "signals": own_signals},
        schema_overrides={"signals": pl.Int32},
    ).with_columns(outcome_columns(facts["agent"], evidence, fits))
    rewarded = facts.select("trace_id", "agent", "arm", "task", "user_id").with_columns(
        segment=segments, mean=mean, sd=sd, signals=rewards["signals"]
    )
    return Refit(
        model=model,
        rewards=rewards,
        cells=_cells(rewarded, model, evidence),
        metrics=metrics,
        bins=bins,
        weights=trace_model.weights(model),
        loadings=measured.loadings,
        segment_means=segment_means(in_place_of_rewards(rewarded.with_columns(rewards["outcome"])), common_sds(fits)),
        people=measured.leniency.rename({"sd": "leniency_sd"}),
        scopes=scoped,
        corrections=corrections,
        parameters={
            **_parameters(model, measured, labels, scoped, refused, evidence, prior, variance),
            "judges": {name: vars(one) for name, one in measuring.judges.items()},
        },
        notes=_notes(model, measured.notes, labels, refused, scoped, facts.height) + weight_notes,
    )


def aligned(facts: pl.DataFrame, evidence: pl.DataFrame) -> Evidence:
    """The evidence (columns of `measured.EVIDENCE`) in the order of `facts`; zeros where a trace has none."""
    rows = facts.select("trace_id").join(evidence, on="trace_id", how="left", maintain_order="left")
    precision = rows["precision"].fill_null(0.0).fill_nan(0.0).to_numpy()
    return Evidence(np.where(precision > 0, rows["location"].fill_null(0.0).fill_nan(0.0).to_numpy(), 0.0), precision)


def rewards_of(model: TraceModel, prior: Prior, evidence: Evidence, leniency: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean and standard deviation of every trace's reward, and the variance of its latent quality."""
    fused = trace_model.fuse(prior, evidence.location, evidence.precision)
    mean, sd = calibration.reward_moments(fused.mean, fused.variance + leniency, model.link)
    return mean, sd, fused.variance


def outcome_columns(agents: pl.Series, evidence: Evidence, fits: Sequence[Mapping[str, Any]]) -> list[pl.Series]:
    """The columns outcome and outcome_sd of rewards; null where a trace's signals say next to nothing."""
    found = outcomes(agents, evidence.location, evidence.precision, fits)
    names = ("outcome", "outcome_sd")
    return [pl.Series(name, values, nan_to_null=True) for name, values in zip(names, found, strict=True)]


def leniency_of(users: pl.Series, leniency: pl.DataFrame) -> Floats:
    """Variance (logits squared) of what each trace's person adds to what they report; the widest for strangers.

    Only the variance: the model's effect of a person already holds what is known of them on average, and adding the
    estimate of their leniency would count it twice.
    """
    rows = pl.DataFrame({"user_id": users.cast(pl.String)}).join(
        leniency.select("user_id", "sd").unique("user_id", keep="first", maintain_order=True),
        on="user_id", how="left", maintain_order="left",
    )  # fmt: skip
    widest = max(leniency["sd"].drop_nulls().to_list(), default=0.0)
    return np.asarray(rows["sd"].fill_null(float(widest)).to_numpy() ** 2)


def segment_of(facts: pl.DataFrame, categories: tuple[str, ...]) -> pl.Series:
    """The segment of each trace's user by rule, else that which its metadata state; null where no key is called so."""
    by_rule = pl.Series([None] * facts.height, dtype=pl.String)
    if "segment_by_rule" in facts.columns:
        by_rule = facts["segment_by_rule"]
    for path in categories:
        if metadata_name(path).rsplit(".", 1)[-1].lower() in ("segment", "user_segment", "cohort"):
            stated = facts[path].cast(pl.String)
            return facts.select(segment=pl.coalesce(by_rule, stated)).to_series()
    return by_rule.alias("segment")


def _column(facts: pl.DataFrame, path: str) -> Floats | None:
    """Numbers as they are; texts by how often each occurs, which is enough to see a label in disguise of two values."""
    if facts[path].dtype.is_numeric():
        return facts[path].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    codes = facts[path].rank("dense").cast(pl.Float64)
    return codes.fill_null(float("nan")).to_numpy()


def _signals_of(facts: pl.DataFrame, evidence: pl.DataFrame) -> pl.Series:
    rows = facts.select("trace_id").join(evidence, on="trace_id", how="left", maintain_order="left")
    return rows["signals"].fill_null(0).cast(pl.Int32)


def _label_rows(facts: pl.DataFrame, labels: Labels) -> tuple[NDArray[np.int64], Floats, Floats]:
    rows = facts.select("trace_id").with_row_index("at").join(labels.frame, on="trace_id").sort("at")
    return rows["at"].cast(pl.Int64).to_numpy(), rows["label"].to_numpy(), rows["asking"].to_numpy()


def _held_out(
    model: TraceModel, prior: Prior, facts: pl.DataFrame, at: NDArray[np.int64], label: Floats, basis: str,
    people: float, random: np.random.Generator,
) -> tuple[pl.DataFrame, pl.DataFrame]:  # fmt: skip
    """Metrics and reliability diagrams on people, on tasks and on both that the prediction has not seen."""
    effects, whole = model.effects, facts[at]
    base = effects.residual + people + prior.disagreement[at]
    user, task = effects.users, effects.tasks
    views = {
        "users and tasks": (np.zeros(len(at)), np.full(len(at), user.variance + task.variance)),
        "users": (task.mean[at], task.sd2[at] + user.variance),
        "tasks": (user.mean[at], user.sd2[at] + task.variance),
    }
    metrics, bins = [], []
    fold = trace_model.user_folds(whole, model.folds)
    for held_out, (shift, variance) in views.items():
        mean = prior.features[at] + shift
        if basis == "solicited":
            predicted = calibration.crossfit_link(mean, base + variance, label, basis, fold)
        else:
            predicted = calibration.reward_moments(mean, base + variance, model.link)[0]
        metrics.append(calibration.measure(predicted, label, whole["user_id"], held_out, basis, random))
        bins.append(calibration.reliability(predicted, label, held_out, basis))
    return pl.concat(metrics), pl.concat(bins)


def _cells(rewarded: pl.DataFrame, model: TraceModel, evidence: Evidence) -> pl.DataFrame:
    """Posterior mean reward of every (agent, task): `raw_mean` is what the evidence alone says."""
    alone, _ = calibration.reward_moments(evidence.location, 1.0 / np.maximum(evidence.precision, 1e-6), model.link)
    task = model.effects.tasks
    known = pl.DataFrame(
        {"task": task.table["name"], "own": task.variance / (1 + task.variance * task.table["weight"])}
    )
    return (
        rewarded.with_columns(alone=alone, weight=evidence.precision / (1.0 + evidence.precision))
        .group_by("agent", "task")
        .agg(
            traces=pl.len().cast(pl.Int64),
            observed=(pl.col("signals") > 0).sum().cast(pl.Int64),
            raw_mean=(pl.col("alone") * pl.col("weight")).sum() / pl.col("weight").sum(),
            mean=pl.col("mean").mean(),
            own=(pl.col("sd") ** 2).sum().sqrt() / pl.len(),
            slope=(pl.col("mean") * (1.0 - pl.col("mean"))).mean(),
        )
        .join(known.rename({"own": "of_task"}), on="task", how="left")
        .join(_levels(rewarded, model, evidence), on="agent", how="left", nulls_equal=True)
        .with_columns(
            raw_mean=pl.when(pl.col("raw_mean").is_finite()).then(pl.col("raw_mean")),
            shared_sd=pl.col("level").sqrt() * pl.col("slope"),
        )
        .with_columns(
            sd=(
                pl.col("own") ** 2
                + pl.col("of_task").fill_null(task.variance) * pl.col("slope") ** 2
                + pl.col("shared_sd") ** 2
            ).sqrt()
        )
        .select("agent", "task", "traces", "observed", "raw_mean", "mean", "sd", "shared_sd")
        .sort("agent", "task", nulls_last=True)
    )


def _levels(rewarded: pl.DataFrame, model: TraceModel, evidence: Evidence) -> pl.DataFrame:
    """Variance of the level of each agent (agent, level), which the predictions of all its traces share.

    It is that of the weighted mean of the evidence, whose people and tasks are a sample: with w = 1 / (s² + noise)

        [sum w + tau_u² sum_user (sum w)² + tau_t² sum_task (sum w)²] / (sum w)²,

    at most what is known of a trace of an agent without any evidence.
    """
    effects = model.effects
    known = pl.col("precision") > 0.0
    rows = rewarded.select("agent", "user_id", "task", precision=pl.Series(evidence.precision)).with_columns(
        w=pl.when(known).then(1.0 / (effects.residual + 1.0 / pl.col("precision"))).otherwise(0.0)
    )
    most = effects.residual + effects.users.variance + effects.tasks.variance

    def crossed(group: str) -> pl.DataFrame:
        sums = rows.with_columns(lone=pl.when(pl.col(group).is_null()).then(pl.int_range(pl.len())))
        sums = sums.group_by("agent", group, "lone").agg(pl.col("w").sum())
        return sums.group_by("agent").agg((pl.col("w") ** 2).sum().alias(group))

    return (
        rows.group_by("agent")
        .agg(total=pl.col("w").sum())
        .join(crossed("user_id"), on="agent", nulls_equal=True)
        .join(crossed("task"), on="agent", nulls_equal=True)
        .select(
            "agent",
            level=pl.when(pl.col("total") > 0.0)
            .then(
                (pl.col("total") + effects.users.variance * pl.col("user_id") + effects.tasks.variance * pl.col("task"))
                / pl.col("total") ** 2
            )
            .otherwise(most)
            .clip(upper_bound=most),
        )
    )


def _parameters(
    model: TraceModel, measured: measurement.MeasurementFit, labels: Labels, scoped: list[Scoped],
    refused: list[Refused],
    evidence: Evidence, prior: Prior, variance: Floats,
) -> dict[str, Any]:  # fmt: skip
    known = evidence.precision > 0
    return {
        "method": trace_model.METHOD,
        "link": vars(model.link),
        "labels": {"basis": labels.basis, "n": labels.frame.height},
        "penalties": model.crossfit.penalties,
        "explained": model.crossfit.explained,
        "training_traces": model.crossfit.rows,
        "columns": len(model.crossfit.whole) - 1,
        "folds": model.folds,
        "variance": {
            "residual": model.effects.residual,
            "users": model.effects.users.variance,
            "tasks": model.effects.tasks.variance,
            "cross_fits": float(prior.disagreement.mean()),
            "posterior": float(variance.mean()),
        },
        "with_evidence": int(known.sum()),
        "stated_weights": [vars(one) for one in scoped],
        "refused_features": [vars(one) for one in refused],
        "measurement": measured.parameters,
        "anchor_rate": measured.anchor_rate.to_dicts(),
        "clicks": measured.clicks.to_dicts(),
        "delay": measured.delay.to_dicts(),
    }


def _notes(
    model: TraceModel, measured: pl.DataFrame, labels: Labels, refused: list[Refused], scoped: list[Scoped], traces: int
) -> list[dict[str, Any]]:
    notes: list[dict[str, Any]] = measured.select("agent", "reason", "text").to_dicts()
    if labels.basis != "solicited":
        text = (
            f"Not calibrated: {labels.frame.height} of {traces} traces have labels, which are {labels.basis}; "
            f"calibration needs {calibration.LEAST_LABELS} answers that were asked for at random."
        )
        notes.append({"agent": "all agents", "reason": "not_calibrated", "text": text})
    elif model.link.labels < calibration.LEAST_LABELS:
        text = (
            f"Not calibrated: {labels.frame.height} answers were asked for at random and {calibration.LEAST_LABELS} "
            "are needed."
        )
        notes.append({"agent": "all agents", "reason": "few_labels", "text": text})
    notes += [{"agent": "all agents", "reason": one.reason, "text": one.text} for one in refused]
    notes += [
        {"agent": one.agent, "reason": "weight_not_applied", "text": f"{one.segment or 'no segment'}: {one.note}."}
        for one in scoped
        if one.note
    ]
    return notes
