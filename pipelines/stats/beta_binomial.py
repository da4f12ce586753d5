"""Empirical-Bayes shrinkage of proportions: a beta-binomial prior by moments, and the update that uses it.

The prior of a cell's mean is Beta(κm, κ(1-m)) with m the parent's mean and κ = m(1-m)/τ² - 1 the concentration
(METHODS §4). τ² comes from the moment estimator of Kleinman (1973, JASA 68:46-54), whose weights suit cells of
unequal size. The parent's mean is itself uncertain: it gets a Jeffreys posterior with the cells' effective number of
trials, and `update` carries that variance on, so a small agent's cells are as uncertain as they should be.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

__all__ = ["MomentsConfig", "Prior", "fit_prior", "interval", "update"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MomentsConfig:
    """Limits of the moment fit: below `min_cells` cells, or where nothing is identified, κ is `default`."""

    default: float = 10.0
    lowest: float = 0.1
    highest: float = 1000.0
    min_cells: int = 5


@dataclass(frozen=True)
class Prior:
    """Where cell means come from: mean m with its variance, concentration κ, and why κ is not estimated (or None).

    `reason` is one of no_trials, too_few_cells, constant, single_trials, not_detected, all_or_nothing.
    """

    mean: float
    mean_variance: float
    concentration: float
    cells: int
    trials: float
    reason: str | None


def fit_prior(successes: Array, trials: Array, config: MomentsConfig | None = None) -> Prior:
    """Fit the prior of cell means from `successes` out of `trials`, both of shape (cells,) and possibly fractional.

    Cells without trials are left out. Never fails: where the data cannot tell κ, the default or a limit is used and
    `reason` says so.
    """
    config = config or MomentsConfig()
    used = trials > 0
    k, n = successes[used], trials[used]
    if n.size == 0:
        return Prior(0.5, 0.125, config.default, 0, 0.0, "no_trials")
    correlation, reason = _intraclass_correlation(k, n, config)
    weights = n / (1.0 + np.maximum(n - 1.0, 0.0) * correlation)
    weights /= weights.sum()
    pooled = float(np.clip(weights @ (k / n), 0.0, 1.0))
    # Var(k/n) = m(1-m) (1 + (n-1)ρ) / n, so the pooled mean is worth this many independent trials.
    effective = 1.0 / float(np.sum(weights**2 * (1.0 + np.maximum(n - 1.0, 0.0) * correlation) / n))
    mean = (pooled * effective + 0.5) / (effective + 1.0)
    return Prior(
        mean=mean,
        mean_variance=mean * (1.0 - mean) / (effective + 2.0),
        concentration=1.0 / correlation - 1.0,
        cells=int(n.size),
        trials=float(n.sum()),
        reason=reason,
    )


def _intraclass_correlation(k: Array, n: Array, config: MomentsConfig) -> tuple[float, str | None]:
    """ρ = 1/(κ+1) = τ²/(m(1-m)), kept inside the configured limits of κ, and the reason when it is not estimated."""
    fallback = 1.0 / (config.default + 1.0)
    if n.size < config.min_cells:
        return fallback, "too_few_cells"
    share = k / n
    if np.ptp(share) == 0.0 and share[0] in (0.0, 1.0):
        return fallback, "constant"
    if np.all(n <= 1.0):
        return fallback, "single_trials"
    correlation = fallback
    estimate = fallback
    for _ in range(20):
        w = n / (1.0 + np.maximum(n - 1.0, 0.0) * correlation)
        total = w.sum()
        mean = float(w @ share / total)
        spread = float(w @ (share - mean) ** 2)
        variance = mean * (1.0 - mean)
        binomial = float(np.sum(w / n * (1.0 - w / total)))
        between = float(np.sum(w * (1.0 - w / total))) - binomial
        if between <= 0.0:
            return fallback, "single_trials"
        estimate = (spread - variance * binomial) / (variance * between)
        previous = correlation
        correlation = float(np.clip(estimate, 1.0 / (config.highest + 1.0), 1.0 / (config.lowest + 1.0)))
        if abs(correlation - previous) < 1e-9:
            break
    if estimate < 1.0 / (config.highest + 1.0):
        return correlation, "not_detected"
    return correlation, "all_or_nothing" if estimate > 1.0 / (config.lowest + 1.0) else None


def update(
    mean: Array, variance: Array, concentration: Array | float, successes: Array, trials: Array
) -> tuple[Array, Array]:
    """Posterior mean and variance of a proportion whose prior is Beta(cμ, c(1-μ)) with μ itself uncertain.

    `mean` and `variance` are the moments of μ (shape (n,)), `concentration` is c. Given μ the posterior mean is linear
    in μ, so both moments are exact by the laws of total expectation and total variance, whatever the shape of μ.
    """
    total = concentration + trials
    keep = concentration / total
    posterior = keep * mean + successes / total
    carried = keep**2 * variance
    spread = np.maximum(posterior * (1.0 - posterior) - carried, 0.0) / (total + 1.0)
    return posterior, spread + carried


def interval(mean: Array, sd: Array, level: float = 0.95) -> tuple[Array, Array]:
    """Central credible interval of a quantity in 0..1 known by mean and sd: quantiles of the Beta they match."""
    spread = mean * (1.0 - mean)
    certain = (sd < 1e-9) | (spread < 1e-12)
    share = np.clip(np.where(certain, 0.5, sd**2 / np.where(certain, 1.0, spread)), 0.0, 1.0 - 1e-9)
    concentration = 1.0 / share - 1.0
    a = np.where(certain, 1.0, mean * concentration)
    b = np.where(certain, 1.0, (1.0 - mean) * concentration)
    tail = (1.0 - level) / 2.0
    lower = np.where(certain, mean, betaincinv(a, b, tail))
    upper = np.where(certain, mean, betaincinv(a, b, 1.0 - tail))
    return np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)
