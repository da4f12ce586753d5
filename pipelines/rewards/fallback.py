"""The fallback `empirical_bayes` as a version: its fit, and how it does on people and tasks it has not seen."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from pipelines.rewards import calibration, empirical_bayes
from pipelines.rewards.crossfit import fold_of
from pipelines.rewards.labels import choose_labels

__all__ = ["Held", "held_out"]

_FOLDS = 5
_MOST_TRACES = 100_000  # held-out fits of a larger store are made on that many of its traces


@dataclass(frozen=True)
class Held:
    """Metrics and reliability diagrams (columns of `store.reward_versions`)."""

    metrics: pl.DataFrame
    bins: pl.DataFrame


def held_out(traces: pl.DataFrame, signals: pl.DataFrame, random: np.random.Generator) -> Held:
    """What the means of tasks say of people, tasks and both whose signals they have not seen.

    Args: `traces` with trace_id, agent, task and user_id; `signals` with the columns `empirical_bayes.SIGNALS`. For
    each fold the signals of its people (tasks) are left out and its traces are predicted. Empty without labels.
    """
    if traces.height > _MOST_TRACES:
        traces = traces.gather_every(traces.height // _MOST_TRACES + 1)
        signals = signals.join(traces, on="trace_id", how="semi")
    labels = choose_labels(signals.with_columns(propensity=pl.lit(None, pl.Float64)))
    fold = {
        "users": fold_of(traces["user_id"], traces["trace_id"], _FOLDS),
        "tasks": fold_of(traces["task"], traces["trace_id"], _FOLDS),
    }
    fold["users and tasks"] = fold["users"] * _FOLDS + fold["tasks"]
    metrics, bins = [], []
    for held, number in fold.items():
        predicted = _predicted(traces, signals, number, both=held == "users and tasks")
        rows = labels.frame.join(predicted, on="trace_id").join(traces.select("trace_id", "user_id"), on="trace_id")
        rows = rows.sort("trace_id")
        p, label = rows["mean"].to_numpy(), rows["label"].to_numpy()
        metrics.append(calibration.measure(p, label, rows["user_id"], held, labels.basis, random))
        bins.append(calibration.reliability(p, label, held, labels.basis))
    return Held(pl.concat(metrics), pl.concat(bins))


def _predicted(traces: pl.DataFrame, signals: pl.DataFrame, fold: np.ndarray, *, both: bool) -> pl.DataFrame:
    """Each trace by the fit without the signals of its fold; with `both`, of its row and its column of folds."""
    folded = traces.select("trace_id", fold=fold)
    of_signal = signals.join(folded, on="trace_id", how="left", maintain_order="left")
    parts = []
    for number in sorted(set(fold.tolist())):
        kept = pl.col("fold") != number
        if both:
            kept = (pl.col("fold") // _FOLDS != number // _FOLDS) & (pl.col("fold") % _FOLDS != number % _FOLDS)
        fitted = empirical_bayes.fit(traces, of_signal.filter(kept))
        parts.append(fitted.rewards.join(folded.filter(fold=number), on="trace_id", how="semi"))
    return pl.concat(parts).select("trace_id", "mean")
