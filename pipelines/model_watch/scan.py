"""Whether a model's sequence changed: a scan over all splits, which its own days and the comparison must both bear out.

The gain of a split is the smallest of four generalised likelihood ratios (METHODS §7.2): Gaussian of the values and of
their normal scores, each of the model's own sequence and of its difference from the other models. So another model's
change, a change that hits all models, a few outliers, or another mixture with the same mean raise nothing. The smallest
of several statistics is no larger than any of them, hence the calibration of one holds for it (`CALIBRATION`).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from pipelines.model_watch.series import Sequence
from pipelines.stats.likelihood_ratio import NormalScores
from pipelines.stats.sequential_calibration import Schedule, Tail, p_value

__all__ = ["CALIBRATION", "MIN_PERIODS", "SCHEDULE", "Shift", "scan"]

Floats = NDArray[np.float64]

SCHEDULE: Final = Schedule("gaussian", look_every=1, window=120, min_segment=5)
"""Looked at each day, at the newest 120 periods; five of them must lie on each side of a change."""

CALIBRATION: Final = {SCHEDULE: Tail(c=(7.126,), b=0.959, later=2.27)}
"""Of 8,000 streams, seed 20261121 (`sequential_calibration.calibrate`); a test computes it again."""

MIN_PERIODS: Final = 14
_NEARLY: Final = 2.0


@dataclass(frozen=True)
class Shift:
    """The likeliest change: so many periods come before it. `effect` is after minus before on the measure's scale.

    `earliest` and `latest` bound the splits whose gain is nearly as large (within 2). `lower` and `upper` are the
    effect's 95 % interval at the likeliest one, by the spread between periods.
    """

    before: int
    earliest: int
    latest: int
    statistic: float
    p_value: float
    effect: float
    lower: float
    upper: float


def scan(found: Sequence, looks: int) -> Shift | None:
    """The likeliest change of a sequence that has had `looks` periods since it began; None for fewer than MIN_PERIODS.

    Only its newest `SCHEDULE.window` periods are scanned.
    """
    newest = slice(-SCHEDULE.window, None)
    series = [(found.own[newest], found.own_variance[newest])]
    if found.compared is not None and found.compared_variance is not None:
        series.append((found.compared[newest], found.compared_variance[newest]))
    if series[0][0].size < MIN_PERIODS:
        return None
    gains, directions = [], []
    for values, variance in series:
        scaled = values / np.sqrt(_weights_to(values, variance))
        gains += [NormalScores(SCHEDULE.min_segment)(scaled[None, :])[0], _gaussian(scaled)]
        directions.append(_direction(scaled))
    gain = np.minimum.reduce(gains)
    # Up by itself and down beside the others is nobody's change.
    gain = np.where(directions[0] == directions[-1], gain, 0.0)
    best = int(gain.argmax())
    split = best + SCHEDULE.min_segment
    effect, lower, upper = _effect(*series[-1], split)
    p = p_value(np.array([gain[best]]), looks, SCHEDULE, CALIBRATION)
    near = np.flatnonzero(gain > gain[best] - _NEARLY) + SCHEDULE.min_segment
    return Shift(split, int(near[0]), int(near[-1]), float(gain[best]), float(p[0]), effect, lower, upper)


def _weights_to(values: Floats, variance: Floats) -> Floats:
    """The variance of each period: what its answers leave open, and what periods differ by beyond that."""
    centre = values - values.mean()
    between = max(0.0, float(centre @ centre) / max(values.size - 1, 1) - float(variance.mean()))
    # A constant has no spread at all; then every period counts alike.
    total = between + variance
    return np.asarray(total + max(float(total.mean()), 1e-12) * 1e-6)


def _sides(values: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Means after minus before at every allowed split, and how many periods come before."""
    sizes = np.arange(SCHEDULE.min_segment, values.size - SCHEDULE.min_segment + 1)
    running = np.cumsum(values)
    before = running[sizes - 1] / sizes
    return (running[-1] - running[sizes - 1]) / (values.size - sizes) - before, sizes


def _direction(values: Floats) -> NDArray[np.int8]:
    return np.asarray(np.sign(_sides(values)[0]), dtype=np.int8)


def _gaussian(values: Floats) -> Floats:
    """-(t-2)/2 ln(1 - B/S) of the values as they are, at every allowed split."""
    difference, sizes = _sides(values)
    centre = values - values.mean()
    between = difference**2 * sizes * (values.size - sizes) / values.size
    total = float(centre @ centre)
    share = between / total if total > 1e-12 else np.zeros_like(between)
    return np.asarray(-0.5 * (values.size - 2) * np.log1p(-np.minimum(share, 1.0 - 1e-9)))


def _effect(values: Floats, variance: Floats, split: int) -> tuple[float, float, float]:
    """The weighted difference of both sides with its 95 % interval."""
    weights = 1.0 / _weights_to(values, variance)
    sides = [slice(None, split), slice(split, None)]
    means = [float(np.average(values[side], weights=weights[side])) for side in sides]
    squares = sum(float(weights[s] @ (values[s] - m) ** 2) for s, m in zip(sides, means, strict=True))
    freedom = values.size - 2
    deviation = np.sqrt(squares / freedom * sum(1.0 / float(weights[side].sum()) for side in sides))
    reach = float(student.ppf(0.975, freedom) * deviation)
    effect = means[1] - means[0]
    return effect, effect - reach, effect + reach
