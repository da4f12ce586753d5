"""Partial pooling of arms within groups (users in a segment, segments in an agent), with the spread between groups
estimated from the data and averaged over.

    y_ga = m_a + g + d_ga + e_ga     g ~ N(0, common^2), d_ga ~ N(0, specific^2), e_ga ~ N(0, v_ga)

`g` is what all arms of a group have in common (a strict user), `d_ga` how much better an arm suits this group.
Without `g`, a strict user's one arm would look bad beside arms of which nothing is known of this user.

Given both spreads everything is Gaussian and in closed form (Lindley & Smith 1972, JRSS B 34:1-41; the rank-one
covariance of a group is inverted by Sherman & Morrison). The spreads have half-normal priors (Gelman 2006, Bayesian
Analysis 1:515-534) and are averaged over their posterior on a grid, weighted by the marginal likelihood, instead of
being fixed at its maximum: few groups hardly tell them, and zero would be a possible estimate (Morris 1983).

Arms are compared with one another, so what is unsure of `g` alone must not pass for doubt about the best arm: `sd` is
that of the arms relative to each other, `level_sd` that of the mean itself.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Shrunk", "Spread", "shrink", "spread"]

Floats = NDArray[np.float64]

_GRID = np.array([0.0, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.14, 0.19, 0.25, 0.33])
_PRIOR_SCALE = 0.15  # of both spreads, in reward from 0 to 1
_MOST_GROUPS = 5_000  # tell the spreads as well as more would
_MANY_GROUPS = 2_000
_LEAST_WEIGHT = 0.01  # of a grid point that is averaged over, against that of the likeliest


@dataclass(frozen=True)
class Spread:
    """Possible pairs of spreads and their posterior weights: `common`, `specific` and `weight` (points,)."""

    common: Floats
    specific: Floats
    weight: Floats

    @property
    def mean(self) -> tuple[float, float]:
        """Root mean square of the common and the specific spread."""
        return (
            float(np.sqrt(self.weight @ self.common**2)),
            float(np.sqrt(self.weight @ self.specific**2)),
        )


@dataclass(frozen=True)
class Shrunk:
    """Of each group and arm, (groups, arms): posterior mean; sd relative to the other arms; sd of the mean itself."""

    mean: Floats
    sd: Floats
    level_sd: Floats


def spread(deviation: Floats, variance: Floats) -> Spread:
    """The posterior of the spreads between groups.

    Args: `deviation` (groups, arms) of a group's mean from what it is shrunk to; `variance` of its error, inf where
    the group has nothing on the arm.
    """
    seen = np.isfinite(variance)
    told = np.flatnonzero(seen.any(axis=1))
    if told.size > _MOST_GROUPS:
        told = told[:: -(-told.size // _MOST_GROUPS)]
    x, v, there = np.where(seen, deviation, 0.0)[told], np.where(seen, variance, 1.0)[told], seen[told]
    rough = _posterior(x, v, there, _GRID, _GRID)
    fine = _posterior(x, v, there, _around(rough.common), _around(rough.specific))
    if told.size < _MANY_GROUPS:
        return fine
    # So many tell the spreads so well that averaging over what is left of doubt changes nothing.
    common, specific = fine.mean
    return Spread(np.array([common]), np.array([specific]), np.ones(1))


def _around(likely: Floats) -> Floats:
    """A finer grid between the neighbours of the likely points."""
    first, last = (int(np.searchsorted(_GRID, edge)) for edge in (likely.min(), likely.max()))
    return np.linspace(_GRID[max(first - 1, 0)], _GRID[min(last + 1, _GRID.size - 1)], _GRID.size)


def _posterior(x: Floats, v: Floats, there: NDArray[np.bool_], commons: Floats, specifics: Floats) -> Spread:
    """The likely points of a grid with their weights: half-normal priors times the marginal likelihood."""
    score = np.empty((commons.size, specifics.size))
    for column, tau_d in enumerate(specifics):
        precision = np.where(there, 1.0 / (v + tau_d**2), 0.0)
        total, pull = precision.sum(axis=1), (precision * x).sum(axis=1)
        own = np.log(precision[there]).sum() - (precision * x**2).sum()
        for row, tau_g in enumerate(commons):
            inflated = 1.0 + tau_g**2 * total
            score[row, column] = 0.5 * (own - np.log(inflated).sum() + (pull**2 * tau_g**2 / inflated).sum())
    score -= 0.5 * (commons[:, None] ** 2 + specifics**2) / _PRIOR_SCALE**2
    # A grid may be uneven: each point stands for the width around it.
    score += np.log(np.gradient(commons))[:, None] + np.log(np.gradient(specifics))
    weight = np.exp(score - score.max()).ravel()
    kept = weight >= _LEAST_WEIGHT
    common, specific = (each.ravel()[kept] for each in np.meshgrid(commons, specifics, indexing="ij"))
    return Spread(common, specific, weight[kept] / weight[kept].sum())


def shrink(mean: Floats, variance: Floats, centre: Floats, centre_sd: Floats, found: Spread) -> Shrunk:
    """Every group's posterior of every arm.

    Args: `mean`, `variance` (groups, arms) what the group's own data say and how surely, inf for nothing; `centre`,
    `centre_sd` (groups, arms) or (arms,): what groups are shrunk to; `found` by `spread`.
    """
    seen = np.isfinite(variance)
    x = np.where(seen, mean - centre, 0.0)
    v = np.where(seen, variance, 1.0)
    arms = mean.shape[1]
    # Independent errors of all arms have to be as far apart as the dependent ones are, on average over pairs.
    paired = arms / (arms - 1.0) if arms > 1 else 1.0
    first, second, moved, moved_twice, relative, whole = (np.zeros(mean.shape) for _ in range(6))
    for tau_g, tau_d, weight in zip(found.common, found.specific, found.weight, strict=True):
        precision = np.where(seen, 1.0 / (v + tau_d**2), 0.0)
        own = tau_d**2 * precision  # share of a group's deviation that is the arm's own
        left = 1.0 / (1.0 + tau_g**2 * precision.sum(axis=1, keepdims=True))
        level_variance = tau_g**2 * left
        level = level_variance * (precision * x).sum(axis=1, keepdims=True)
        at = level + own * (x - level)
        arm_variance = np.where(seen, own * v, tau_d**2)
        # What is known of the group replaces what is unsure of the centre.
        arm_variance += (1.0 - own) ** 2 * centre_sd**2
        loading = 1.0 - own
        apart = loading - loading.mean(axis=1, keepdims=True)
        apart_at = at - at.mean(axis=1, keepdims=True)
        first += weight * at
        second += weight * at**2
        moved += weight * apart_at
        moved_twice += weight * apart_at**2
        relative += weight * (arm_variance + paired * apart**2 * level_variance)
        whole += weight * (arm_variance + loading**2 * level_variance)
    relative += np.maximum(moved_twice - moved**2, 0.0)
    whole += np.maximum(second - first**2, 0.0)
    return Shrunk(centre + first, np.sqrt(relative), np.sqrt(whole))
