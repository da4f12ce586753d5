"""What each logged decision says of one arm against another, and an interval of it that holds at every look.

With logged propensities p, drawn arm A and outcome Y, augmented inverse probability weighting (Robins, Rotnitzky & Zhao
1994, JASA 89:846-866) gives every decision t in which both arms could be drawn

    ξ_t = q_t(a) - q_t(b) + 1{A_t = a} (Y_t - q_t(a)) / p_t(a) - 1{A_t = b} (Y_t - q_t(b)) / p_t(b)

where q_t is a running mean of the arm's outcomes before t. Whatever q is, E[ξ_t | past] is the difference of the arms'
means for that decision, also where the policy learns from the past and the world drifts, so the running mean of ξ is
covered by the asymptotic confidence sequence of `pipelines.stats.confidence_sequence` (Waudby-Smith et al. 2022, arXiv
2210.10768). Everything works over any leading axes, decisions on the last one.

The sequence is asymptotic, and rare outcomes of rarely drawn arms are where it would be too sure: an arm that has had
no luck shows a small variance too. Measured under a look at every decision, equal arms with outcomes of 2 % and
adaptive draws, .12 of the 95 % sequences missed with the running variance alone; .01 do with what is done here:

* the variance is at least Σ over both arms of mean(1/p) v, v the variance of the arm's outcomes with one more added
  that is as far off as any seen on either arm;
* the guard of METHODS §6, one term an arm, (largest weight)² times the variance of its outcomes, over t, is added;
* nothing is said before the smaller effective sample size has passed the gate, and t 25 times the squared skewness of
  ξ (Cochran 1977, Sampling techniques, 2.15).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.stats.confidence_sequence import ESS_GATE, TUNE_AT, radius
from pipelines.stats.contract import FitRefused

__all__ = ["BURN_IN", "Contrast", "Looks", "contrast", "looks", "probabilities", "values"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
MODEL = "contrast of two arms"
# Decisions from which only the first q is learnt, and what that then counts for beside an arm's own outcomes.
BURN_IN = 20
_PRIOR_WEIGHT = 5.0
_COCHRAN = 25.0


@dataclass(frozen=True)
class Contrast:
    """One entry a decision after the burn-in, shapes (..., n): the pseudo-outcomes, the smaller of the two arms'
    effective sizes up to it, the least variance to be taken, the guard's sum of squared largest weights times
    variances, and draws of each arm so far.
    """

    values: Floats
    ess: Floats
    least: Floats
    guard: Floats
    first: Floats
    second: Floats


class Looks(NamedTuple):
    """The running mean and its limits after each decision, shapes (..., n); NaN limits while collecting.

    `variance` is that of one pseudo-outcome as it was used, `needed` how many decisions their skewness asks for."""

    estimate: Floats
    lower: Floats
    upper: Floats
    variance: Floats
    needed: Floats


def contrast(outcomes: Floats, first: Bools, second: Bools, p_first: Floats, p_second: Floats) -> Contrast:
    """Pseudo-outcomes of the first arm minus the second.

    Args: `outcomes` (..., n) in the order of the decisions, finite; `first`, `second` (..., n) whether the arm was
    drawn (neither where a third was); `p_first`, `p_second` (..., n) the probabilities with which they could be, above
    0. Raises: FitRefused (no_rows, not_finite, bad_propensity).
    """
    outcomes = _checked(outcomes, p_first, p_second)
    start = outcomes[..., :BURN_IN].mean(axis=-1, keepdims=True)
    furthest = np.maximum.accumulate((outcomes - start) ** 2, axis=-1)
    sides = [_side(outcomes, drawn, p, start, furthest) for drawn, p in ((first, p_first), (second, p_second))]
    return Contrast(
        values=sides[0].values - sides[1].values,
        ess=np.minimum(sides[0].ess, sides[1].ess),
        least=sides[0].least + sides[1].least,
        guard=sides[0].guard + sides[1].guard,
        first=sides[0].drawn,
        second=sides[1].drawn,
    )


def looks(found: Contrast, *, alpha: float = 0.05, tune_at: float = TUNE_AT, gate: float = ESS_GATE) -> Looks:
    """The interval after each decision at level 1 - `alpha` over all looks, narrowest about `tune_at` decisions."""
    values = found.values
    t = np.arange(1.0, values.shape[-1] + 1.0)
    # Sums about the first value: a large common offset does not cancel.
    moved = values - values[..., :1]
    centre = np.cumsum(moved, axis=-1) / t
    second = np.cumsum(moved**2, axis=-1) / t
    spread = np.maximum(second - centre**2, 0.0)
    third = np.cumsum(moved**3, axis=-1) / t - 3.0 * centre * second + 2.0 * centre**3
    needed = _COCHRAN * np.divide(third**2, spread**3, out=np.full_like(spread, np.inf), where=spread > 0.0)
    ready = (found.ess >= gate) & (t >= needed)
    variance = np.maximum(spread + found.guard / t, found.least)
    estimate = values[..., :1] + centre
    margin = np.where(ready, radius(t, variance, alpha=alpha, tune_at=tune_at), np.nan)
    return Looks(estimate, estimate - margin, estimate + margin, variance, needed)


def values(outcomes: Floats, drawn: Bools, p: Floats) -> Floats:
    """The same for the mean of one arm: one entry a decision after the burn-in, (..., n). Raises as `contrast`."""
    outcomes = _checked(outcomes, p)
    start = outcomes[..., :BURN_IN].mean(axis=-1, keepdims=True)
    return _side(outcomes, drawn, p, start, np.zeros_like(outcomes)).values


def probabilities(logged: pl.DataFrame, arms: Sequence[str]) -> Floats:
    """The logged probability of each of `arms` in each decision, shape (decisions, arms); 0 where it was not eligible.

    `logged` has the columns `arms` and `propensities`, lists of equal length without nulls.
    """
    found = np.zeros((logged.height, len(arms)))
    index = {arm: place for place, arm in enumerate(arms)}
    numbered = logged.select("arms", "propensities").with_row_index("row")
    # Few distinct eligible sets, many decisions.
    for (eligible,), own in numbered.group_by(["arms"], maintain_order=True):
        known = [(place, index[arm]) for place, arm in enumerate(eligible) if arm in index]
        table = own["propensities"].explode().to_numpy().reshape(own.height, len(eligible))
        for place, column in known:
            found[own["row"].to_numpy(), column] = table[:, place]
    return found


class _Side(NamedTuple):
    values: Floats
    ess: Floats
    least: Floats
    guard: Floats
    drawn: Floats


def _checked(outcomes: Floats, *probabilities: Floats) -> Floats:
    outcomes = np.asarray(outcomes, dtype=np.float64)
    if outcomes.shape[-1] <= BURN_IN:
        raise FitRefused(MODEL, "no_rows", f"there are {outcomes.shape[-1]} decisions, {BURN_IN + 1} are needed.")
    if not np.isfinite(outcomes).all():
        raise FitRefused(MODEL, "not_finite", f"{int((~np.isfinite(outcomes)).sum())} outcomes are missing.")
    for p in probabilities:
        if not ((p > 0.0) & (p <= 1.0)).all():
            raise FitRefused(MODEL, "bad_propensity", "a probability is not above 0 and at most 1.")
    return outcomes


def _side(outcomes: Floats, drawn: Bools, p: Floats, start: Floats, furthest: Floats) -> _Side:
    """One arm's part of the pseudo-outcomes.

    `start` (..., 1) is what its mean is taken for before it was drawn, `furthest` (..., n) the largest squared
    deviation of any outcome so far.
    """
    moved = np.where(drawn, outcomes - start, 0.0)
    count = np.cumsum(drawn, axis=-1, dtype=np.float64)
    total, squares = np.cumsum(moved, axis=-1), np.cumsum(moved**2, axis=-1)
    # Only what came before: the outcome of a decision must not enter the guess it is compared with.
    before = (total - moved) / (count - drawn + _PRIOR_WEIGHT)
    weight = drawn / p
    values = (before + weight * (np.where(drawn, outcomes, 0.0) - np.where(drawn, start + before, 0.0)) + start)[
        ..., BURN_IN:
    ]
    used = weight[..., BURN_IN:]
    sums, sums_of_squares = np.cumsum(used, axis=-1), np.cumsum(used**2, axis=-1)
    ess = np.divide(sums**2, sums_of_squares, out=np.zeros_like(sums), where=sums_of_squares > 0.0)
    seen = np.maximum(count, 1.0)
    spread = np.maximum(squares / seen - (total / seen) ** 2, 0.0)
    inverse = 1.0 / p
    t = np.arange(1.0, outcomes.shape[-1] + 1.0)
    least = np.cumsum(inverse, axis=-1) / t * (spread * count + furthest) / (count + 1.0)
    guard = np.maximum.accumulate(inverse, axis=-1) ** 2 * spread
    return _Side(values, ess, least[..., BURN_IN:], guard[..., BURN_IN:], count[..., BURN_IN:])
