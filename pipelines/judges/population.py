"""How good the traces are by a judge whom labels correct: prediction-powered inference over all that it judged.

Three answers to one question stand side by side: what the judge says (precise and perhaps wrong), what the labels alone
say (right and imprecise), and both together. Only labels asked for at random count: of volunteered ones no one
knows what the silent ones would have said (METHODS §3).
"""

from dataclasses import dataclass
from math import sqrt
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.judges.quality import MINIMUM_LABELS
from pipelines.stats import prediction_powered
from pipelines.stats.contract import FitRefused
from pipelines.stats.prediction_powered import PredictionPowered
from pipelines.stats.proportion import Interval
from store.judged import GOLDS

__all__ = ["Population", "Refused", "population"]

_Z95: Final = 1.959963984540054
_EQUAL: Final = 1e-12
_ROUNDS: Final = 3

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Population:
    """The mean of one kind of label over everything a judge stands for.

    `combined` is prediction-powered, `labels_only` rests on the labels, `judge_only` on the verdicts as if they were
    true. `narrower` is by which share the combined interval is narrower than that of the labels alone (below 0: wider).
    """

    gold: str
    combined: Interval
    labels_only: Interval
    judge_only: Interval
    labels: int
    items: int
    weight: float
    narrower: float
    note: str | None


@dataclass(frozen=True)
class Refused:
    """Why there is no estimate; `have` of `need` where labels are missing."""

    gold: str
    reason: str
    text: str
    have: int
    need: int


def population(judged: pl.DataFrame, gold: str) -> Population | Refused:
    """The estimate for one judge (`judged` of columns `store.judged.JUDGED`) and the labels of column `gold`.

    Traces that were judged with unequal probabilities are weighted by their inverse.
    Raises: `ValueError` for a `gold` that is none.
    """
    if gold not in GOLDS:
        raise ValueError(f"expected one of {', '.join(GOLDS)}, came {gold!r}")
    asked = judged[f"{gold}_probability"].to_numpy().astype(np.float64)
    label = np.where(np.isnan(asked), np.nan, judged[gold].to_numpy().astype(np.float64))
    have = int(np.sum(~np.isnan(label)))
    if have < MINIMUM_LABELS:
        volunteered = judged[gold].count() - have
        text = f"{have} of at least {MINIMUM_LABELS} labels that were asked for at random, with a logged probability"
        if volunteered:
            text += f"; {volunteered:,} more were volunteered, which say nothing of the others"
        return Refused(gold, "few_labels", f"{text}.", have, MINIMUM_LABELS)
    score = judged["score"].to_numpy().astype(np.float64)
    share = judged["judged_probability"].to_numpy().astype(np.float64)
    # An unlabelled item was drawn with some probability too; the estimate needs only those of the labelled ones.
    drawn = np.where(np.isnan(label), 1.0, asked)
    try:
        weight = _weights(share)
        found = _weighted(score, label, drawn, weight)
    except FitRefused as error:
        return Refused(gold, error.reason, str(error), have, MINIMUM_LABELS)
    combined = Interval(found.estimate, found.lower, found.upper)
    alone = Interval(found.labels_only, found.labels_only_lower, found.labels_only_upper)
    wide = alone.upper - alone.lower
    return Population(
        gold=gold,
        combined=combined,
        labels_only=alone,
        judge_only=_mean(score, weight),
        labels=found.labels,
        items=found.items,
        weight=found.weight,
        narrower=1 - (combined.upper - combined.lower) / wide if wide > 0 else 0.0,
        note=_NOTES.get(found.warning or ""),
    )


_NOTES: Final = {
    "constant_labels": "All labels say the same, so verdicts cannot make the estimate more precise.",
    "few_labels": f"Fewer than {MINIMUM_LABELS} labels.",
}


def _weights(share: Array) -> Array:
    """Inverse probabilities with mean 1. Raises: `FitRefused`."""
    if np.any(~((share > 0) & (share <= 1))):
        raise FitRefused("judge", "bad_propensity", "A trace was judged with a probability outside 0 to 1.")
    weight = 1.0 / share
    result: Array = weight / weight.mean()
    return result


def _weighted(score: Array, label: Array, drawn: Array, weight: Array) -> PredictionPowered:
    """The mean under weights: that of w (y - c) is zero when c is the weighted mean, the linear form of a ratio."""
    found = prediction_powered.mean(score, label, drawn)
    if np.ptp(weight) < _EQUAL or found.warning == "constant_labels":
        return found
    centre = found.estimate
    for _ in range(_ROUNDS):
        found = prediction_powered.mean(weight * (score - centre), weight * (label - centre), drawn)
        shifted = _shifted(found, centre)
        centre = shifted.estimate
    return shifted


def _shifted(found: PredictionPowered, centre: float) -> PredictionPowered:
    def inside(value: float) -> float:
        return min(1.0, max(0.0, value + centre))

    return PredictionPowered(
        inside(found.estimate), found.standard_error, inside(found.lower), inside(found.upper),
        inside(found.labels_only), inside(found.labels_only_lower), inside(found.labels_only_upper), found.weight,
        found.labels, found.items, found.warning,
    )  # fmt: skip


def _mean(score: Array, weight: Array) -> Interval:
    """The weighted mean of the verdicts with its 95 % interval from their spread."""
    mean = float(np.average(score, weights=weight))
    error = sqrt(float(np.sum((weight * (score - mean)) ** 2))) / float(weight.sum())
    return Interval(mean, max(0.0, mean - _Z95 * error), min(1.0, mean + _Z95 * error))
