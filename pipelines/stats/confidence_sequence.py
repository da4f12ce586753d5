"""Asymptotic confidence sequences: intervals of a running mean that hold at every look, not only at one fixed size.

After t observations with mean μ_t and standard deviation s_t the interval is μ_t ± s_t h_t with
h_t = sqrt(2 (tρ²+1) / (t²ρ²) ln(sqrt(tρ²+1)/α)) (Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024, Ann. Stat.
52:2613-2640, eq. 3), narrowest around t* for ρ² = (-2 ln α + ln(-2 ln α) + 1)/t*. The guarantee is asymptotic:
limits are given only from an effective sample size of 200 on, where coverage under constant looking was measured to
hold (METHODS §6), and s² carries a guard against values and weights not seen yet.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipelines.stats.contract import FitRefused, numbers

__all__ = ["ESS_GATE", "TUNE_AT", "Look", "Sequence", "difference", "mean", "radius", "sequence"]

Array = NDArray[np.float64]
MODEL = "confidence sequence"
ESS_GATE = 200.0
TUNE_AT = 1000.0


@dataclass(frozen=True)
class Sequence:
    """After each observation, arrays of shape (n,); limits are NaN while `ess` is below the gate ("collecting")."""

    estimate: Array
    lower: Array
    upper: Array
    ess: Array


@dataclass(frozen=True)
class Look:
    """The same at one moment; limits are NaN and `ready` is False while collecting or while all values are equal."""

    estimate: float
    lower: float
    upper: float
    ess: float
    ready: bool


def radius(n: ArrayLike, variance: ArrayLike, *, alpha: float = 0.05, tune_at: float = TUNE_AT) -> Array:
    """Half the width after `n` > 0 observations of this `variance` ≥ 0 (any shape); narrowest about n = `tune_at`."""
    if not 0.0 < alpha < 1.0 or not tune_at > 0.0:
        raise ValueError(f"expected alpha between 0 and 1 and tune_at above 0, came {alpha} and {tune_at}")
    spread = -2.0 * np.log(alpha)
    rho_squared = (spread + np.log(spread) + 1.0) / tune_at
    n, variance = np.asarray(n, dtype=np.float64), np.asarray(variance, dtype=np.float64)
    grown = n * rho_squared + 1.0
    return np.asarray(
        np.sqrt(variance * 2.0 * grown / (n**2 * rho_squared) * np.log(np.sqrt(grown) / alpha)), dtype=np.float64
    )


def sequence(
    values: Array,
    *,
    importance: Array | None = None,
    alpha: float = 0.05,
    tune_at: float = TUNE_AT,
    gate: float = ESS_GATE,
) -> Sequence:
    """The interval after each of `values` (n,), in the order they came.

    `importance` (n,) > 0 are the weights already multiplied into pseudo-outcomes: their effective size (Σw)²/Σw² is
    gated, and their running maximum enters the guard. Raises FitRefused: no_rows, not_finite, bad_propensity.
    """
    if len(values) == 0:
        raise FitRefused(MODEL, "no_rows", "there are no observations.")
    values = numbers(MODEL, "values", values, (len(values),))
    t = np.arange(1.0, values.size + 1.0)
    weights = np.ones(values.size) if importance is None else numbers(MODEL, "weights", importance, values.shape)
    if weights.min() <= 0.0:
        raise FitRefused(
            MODEL, "bad_propensity", f"{int((weights <= 0).sum())} of {values.size} weights are zero or negative."
        )
    ess = np.cumsum(weights) ** 2 / np.cumsum(weights**2)
    # Sums about the first value: a large common offset does not cancel.
    moved = values - values[0]
    centre = np.cumsum(moved) / t
    variance = np.maximum(np.cumsum(moved**2) / t - centre**2, 0.0)
    estimate = values[0] + centre
    margin = radius(t, _guarded(variance, estimate, np.maximum.accumulate(weights), t), alpha=alpha, tune_at=tune_at)
    margin = np.where((ess >= gate) & (variance > 0.0), margin, np.nan)
    return Sequence(estimate, estimate - margin, estimate + margin, ess)


def mean(
    n: float,
    average: float,
    variance: float,
    *,
    ess: float | None = None,
    largest_weight: float = 1.0,
    alpha: float = 0.05,
    tune_at: float = TUNE_AT,
    gate: float = ESS_GATE,
) -> Look:
    """The interval now, from the number of observations, their average and their (population) variance.

    `ess` is the effective size when observations carry weights (default n) and `largest_weight` the largest of them.
    Raises FitRefused: no_rows, not_finite, out_of_range.
    """
    n, average, variance = _moments(n, average, variance)
    size = n if ess is None else ess
    margin = float(radius(n, _guarded(variance, average, largest_weight, n), alpha=alpha, tune_at=tune_at))
    return _look(average, margin, size, bool(size >= gate and variance > 0.0))


def difference(
    first: tuple[float, float, float],
    second: tuple[float, float, float],
    *,
    alpha: float = 0.05,
    tune_at: float = TUNE_AT,
    gate: float = ESS_GATE,
) -> Look:
    """First minus second of two independent streams, each (n, mean, variance).

    The n₁ + n₂ observations are one stream whose variance is (n₁+n₂)(v₁/n₁ + v₂/n₂); the smaller stream is gated.
    Raises FitRefused: no_rows, not_finite, out_of_range.
    """
    n1, average1, variance1 = _moments(*first)
    n2, average2, variance2 = _moments(*second)
    total = n1 + n2
    v1, v2 = _guarded(variance1, average1, 1.0, n1), _guarded(variance2, average2, 1.0, n2)
    margin = float(radius(total, total * (v1 / n1 + v2 / n2), alpha=alpha, tune_at=tune_at))
    size = min(n1, n2)
    return _look(average1 - average2, margin, size, bool(size >= gate and variance1 + variance2 > 0.0))


def _guarded(variance: ArrayLike, average: ArrayLike, largest: ArrayLike, n: ArrayLike) -> Array:
    """s² + w² q(1-q)/n, q the average as a rate: what one more value of the largest weight could add."""
    rate = np.clip(average, 0.0, 1.0)
    guard = np.square(largest) * rate * (1.0 - rate) / n
    return np.asarray(variance + guard, dtype=np.float64)


def _moments(n: float, average: float, variance: float) -> tuple[float, float, float]:
    n, average, variance = (float(value) for value in numbers(MODEL, "moments", np.array([n, average, variance])))
    if n <= 0:
        raise FitRefused(MODEL, "no_rows", "there are no observations.")
    if variance < 0:
        raise FitRefused(MODEL, "out_of_range", f"a variance cannot be {variance:g}.")
    return n, average, variance


def _look(estimate: float, margin: float, size: float, ready: bool) -> Look:
    if not ready:
        return Look(estimate, np.nan, np.nan, size, False)
    return Look(estimate, estimate - margin, estimate + margin, size, True)
