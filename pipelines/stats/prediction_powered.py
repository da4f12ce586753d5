"""A population's mean from many predictions and few human labels, and a prevalence through an imperfect judge.

Prediction-powered inference with power tuning (Angelopoulos, Duchi & Zrnic 2023, "PPI++", arXiv 2311.01453): the mean
of the predictions plus what the labelled items say about their error. With logged labelling probabilities π the
correction is the weighted mean of Y - λf over the labelled items with weights 1/π (Hájek), so that
m = λ mean(f) + Σ (Y - λf)/π / Σ 1/π; λ minimises the estimated variance of m. λ = 0 is labels alone, so predictions
never cost more than their estimate of λ. Labelled items are part of the population, whose mean f they share.

Intervals of quantities between 0 and 1 are Wilson's at the number of labels that would have the same standard error,
with a t quantile: near 0 and 1 a symmetric interval would cover too little.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from pipelines.stats.contract import FitRefused, numbers

__all__ = ["FEW_LABELS", "PredictionPowered", "Prevalence", "mean", "rogan_gladen"]

Array = NDArray[np.float64]
MODEL = "prediction-powered mean"
JUDGE = "prevalence through the judge"
FEW_LABELS = 50


@dataclass(frozen=True)
class PredictionPowered:
    """The mean with its standard error and interval, and the same from the labels alone for comparison.

    `weight` is λ, `labels` of `items` are labelled. `warning` is few_labels (below 50), constant_labels (all labels are
    0 or all are 1: predictions cannot help, the interval is that of the labels) or None.
    """

    estimate: float
    standard_error: float
    lower: float
    upper: float
    labels_only: float
    labels_only_lower: float
    labels_only_upper: float
    weight: float
    labels: int
    items: int
    warning: str | None


@dataclass(frozen=True)
class Prevalence:
    """The share that truly has the property, the judge's informedness, and few_labels or None."""

    estimate: float
    lower: float
    upper: float
    informedness: float
    warning: str | None


def mean(
    prediction: Array, label: Array, probability: Array, *, level: float = 0.95, weight: float | None = None
) -> PredictionPowered:
    """The mean label of all items.

    All of shape (items,): `prediction` (the judge's value), `label` (NaN where not labelled) and `probability`, the
    logged probability with which the item was drawn for labelling; items that could not be drawn (0) belong to another
    population and are refused. `weight` fixes λ. Raises FitRefused: no_rows, not_finite, bad_propensity, no_labels
    (fewer than two), constant_labels (all equal, but not 0 or 1).
    """
    if len(prediction) == 0:
        raise FitRefused(MODEL, "no_rows", "there are no items.")
    f = numbers(MODEL, "predictions", prediction, (len(prediction),))
    drawn = np.asarray(probability, dtype=np.float64)
    if drawn.shape != f.shape:
        raise ValueError(f"probability must have the shape {f.shape}, came {drawn.shape}")
    wrong = ~((drawn > 0.0) & (drawn <= 1.0))
    if wrong.any():
        raise FitRefused(
            MODEL,
            "bad_propensity",
            f"{int(wrong.sum())} of {f.size} labelling probabilities are missing, zero, negative or above 1; log the "
            "probability with which each item is drawn.",
        )
    label = np.asarray(label, dtype=np.float64)
    labelled = ~np.isnan(label)
    count = int(labelled.sum())
    if count < 2:
        raise FitRefused(MODEL, "no_labels", f"{count} items are labelled; label at least {FEW_LABELS}.")
    y = numbers(MODEL, "labels", label[labelled], (count,))
    w = 1.0 / drawn[labelled]
    few = "few_labels" if count < FEW_LABELS else None
    if np.ptp(y) == 0.0:
        if y[0] not in (0.0, 1.0):
            raise FitRefused(
                MODEL, "constant_labels", f"all {count} labels are {y[0]:g}, so nothing shows their spread."
            )
        size = float(w.sum() ** 2 / np.sum(w**2))
        lower, upper = _wilson(float(y[0]), size, count, level)
        return PredictionPowered(
            float(y[0]), 0.0, lower, upper, float(y[0]), lower, upper, 0.0, count, f.size, "constant_labels"
        )
    unit = bool(y.min() >= 0.0 and y.max() <= 1.0)
    centred, at = f - f.mean(), f[labelled]
    share = w / w.sum()
    # The influence of item i on m is a_i + λ b_i (times 1/items): a from the labels, b from the predictions.
    a, b = np.zeros(f.size), centred.copy()
    a[labelled] = f.size * share * (y - share @ y)
    b[labelled] -= f.size * share * (at - share @ at)
    power = float(b @ b)
    tuned = weight if weight is not None else -float(a @ b) / power if power > 1e-12 * f.size else 0.0
    # λ is estimated: as for a regression slope, one degree of freedom is its.
    spent = 1.0 if weight is None and tuned != 0.0 else 0.0
    estimate = tuned * float(f.mean()) + float(share @ (y - tuned * at))
    error = _error(a + tuned * b, count, 1.0 + spent)
    lower, upper = _interval(estimate, error, count, level, unit)
    alone, alone_error = float(share @ y), _error(a, count, 1.0)
    alone_lower, alone_upper = _interval(alone, alone_error, count, level, unit)
    return PredictionPowered(estimate, error, lower, upper, alone, alone_lower, alone_upper, tuned, count, f.size, few)


def rogan_gladen(
    positive: int,
    judged: int,
    true_positive: int,
    condition_positive: int,
    true_negative: int,
    condition_negative: int,
    *,
    level: float = 0.95,
) -> Prevalence:
    """The true share p = (q + spec - 1)/(sens + spec - 1) of what a judge reports in q (Rogan & Gladen 1978).

    `positive` of `judged` items were called positive; on separate labelled items the judge called `true_positive` of
    `condition_positive` positive and `true_negative` of `condition_negative` negative. The interval is that of Lang &
    Reiczigel (2014, Prev. Vet. Med. 113:13-22), which carries the uncertainty of both rates. Raises FitRefused:
    out_of_range, no_labels (of either kind), uninformative_judge (sens + spec not above 1 beyond its uncertainty).
    """
    pairs = ((positive, judged), (true_positive, condition_positive), (true_negative, condition_negative))
    if any(not 0 <= part <= whole for part, whole in pairs):
        raise FitRefused(JUDGE, "out_of_range", f"counts must be parts of their totals; came {pairs}.")
    if judged == 0:
        raise FitRefused(JUDGE, "no_rows", "the judge has judged nothing.")
    if condition_positive == 0 or condition_negative == 0:
        raise FitRefused(JUDGE, "no_labels", "labelled items of both kinds are needed to know the judge's errors.")
    z = float(ndtri(0.5 + level / 2.0))
    n_sens, n_spec, n = condition_positive + 2.0, condition_negative + 2.0, judged + z**2
    sens, spec = (true_positive + 1.0) / n_sens, (true_negative + 1.0) / n_spec
    informed = sens + spec - 1.0
    v_sens, v_spec = sens * (1.0 - sens) / n_sens, spec * (1.0 - spec) / n_spec
    if informed <= z * np.sqrt(v_sens + v_spec):
        raise FitRefused(
            JUDGE,
            "uninformative_judge",
            f"its sensitivity {true_positive / condition_positive:.2f} and specificity "
            f"{true_negative / condition_negative:.2f} on {condition_positive + condition_negative} labels are not "
            "clearly better than guessing.",
        )
    q = (positive + z**2 / 2.0) / n
    p = (q + spec - 1.0) / informed
    shift = 2.0 * z**2 * (p * v_sens - (1.0 - p) * v_spec)
    error = np.sqrt(q * (1.0 - q) / n + p**2 * v_sens + (1.0 - p) ** 2 * v_spec) / informed
    lower, upper = np.clip([p + shift - z * error, p + shift + z * error], 0.0, 1.0)
    raw = true_positive / condition_positive + true_negative / condition_negative - 1.0
    estimate = float(np.clip((positive / judged + true_negative / condition_negative - 1.0) / raw, 0.0, 1.0))
    few = "few_labels" if condition_positive + condition_negative < FEW_LABELS else None
    return Prevalence(float(np.clip(estimate, lower, upper)), float(lower), float(upper), raw, few)


def _error(influence: Array, labels: int, spent: float) -> float:
    correction = labels / max(labels - spent, 1.0)
    return float(np.sqrt(influence @ influence * correction) / influence.size)


def _interval(estimate: float, error: float, labels: int, level: float, unit: bool) -> tuple[float, float]:
    inside = 0.0 < estimate < 1.0
    if not unit or not inside or error == 0.0:
        margin = float(stdtrit(labels - 1.0, 0.5 + level / 2.0)) * error
        limits = (estimate - margin, estimate + margin)
        return (max(limits[0], 0.0), min(limits[1], 1.0)) if unit else limits
    return _wilson(estimate, estimate * (1.0 - estimate) / error**2, labels, level)


def _wilson(p: float, n: float, labels: int, level: float) -> tuple[float, float]:
    """Wilson's limits of a share `p` known as well as from `n` independent trials, with a t quantile."""
    z2 = float(stdtrit(labels - 1.0, 0.5 + level / 2.0)) ** 2
    centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n)
    spread = np.sqrt(z2 * (p * (1.0 - p) / n + z2 / (4.0 * n * n))) / (1.0 + z2 / n)
    return max(0.0, float(centre - spread)), min(1.0, float(centre + spread))
