"""Effects of being served, of many lessons at once, with intervals that hold at every look.

With A whether a unit was served, p the probability with which it was, and r = y - m(x) what the outcome model left
over, augmented inverse probability weighting (Robins, Rotnitzky & Zhao 1994, JASA 89:846-866) gives each unit

    ξ = δ₁ - δ₀ + A (r - δ₁) / p - (1 - A) (r - δ₀) / (1 - p)

where δ₁ and δ₀ are the mean r of the served and the withheld units of people in other folds. Its mean is the effect,
whatever m and δ are: also where what is served to whom has learnt from what came before.

The variance is that of sums over people (linearised: units differ in number), since what one person gives is not
independent; never less than that of single units with the guards of `pipelines.exploration.pseudo_outcomes`, which
rare outcomes need. The interval is the asymptotic confidence sequence after as many observations as there are units.
Nothing is said below the gate: an effective 200 units on the smaller side, 30 people, and 25 skewness² units.

Beside it stands the plain difference of means, which is an effect only where everybody was served at one rate.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.lessons.payoff.baseline import FOLDS
from pipelines.stats.confidence_sequence import ESS_GATE, TUNE_AT, radius

__all__ = ["CLUSTERS", "Effects", "Rows", "difference", "doubly_robust", "limits"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

CLUSTERS = 30
_PRIOR_WEIGHT = 5.0
_COCHRAN = 25.0


@dataclass(frozen=True)
class Rows:
    """One entry a unit and group, shape (rows,): `group` numbers what is estimated from 0 to `groups` - 1.

    `left` is the outcome minus the outcome model, finite; `p` strictly between 0 and 1; `cluster` numbers people and
    `fold` is the person's.
    """

    group: Ints
    groups: int
    left: Floats
    served: Bools
    p: Floats
    cluster: Ints
    fold: Ints


@dataclass(frozen=True)
class Effects:
    """One entry a group, shape (groups,): `variance` of one unit's share, so that variance / units is that of `effect`;
    `ess` of the smaller side; `needed` units by their skewness; `spread` of the outcomes on both sides."""

    effect: Floats
    variance: Floats
    units: Floats
    served: Floats
    clusters: Floats
    ess: Floats
    needed: Floats
    spread: Floats

    @property
    def sd(self) -> Floats:
        """Standard error of the effect."""
        return np.sqrt(self.variance / np.maximum(self.units, 1.0))


def doubly_robust(rows: Rows) -> Effects:
    """The effect of being served in each group; NaN in groups where one side is missing."""
    a = rows.served.astype(np.float64)
    cell = rows.group * FOLDS + rows.fold
    means = [_elsewhere(rows, cell, side) for side in (rows.served, ~rows.served)]
    w1, w0 = a / rows.p, (1.0 - a) / (1.0 - rows.p)
    off1, off0 = rows.left - means[0], rows.left - means[1]
    xi = means[0] - means[1] + w1 * off1 - w0 * off0
    n = _sum(rows, np.ones(a.size))
    with np.errstate(divide="ignore", invalid="ignore"):
        effect = _sum(rows, xi) / n
        away = xi - effect[rows.group]
        second = _sum(rows, away**2) / n
        needed = _COCHRAN * (_sum(rows, away**3) / n) ** 2 / second**3
        sides = [_side(rows, drawn, off, w, 1.0 / chance)
                 for drawn, off, w, chance in ((a, off1, w1, rows.p), (1.0 - a, off0, w0, 1.0 - rows.p))]  # fmt: skip
        least = sides[0].least + sides[1].least
        guarded = second + (sides[0].guard + sides[1].guard) / n
        single = np.maximum(guarded, least) / n
    return _effects(rows, effect, away, single, n, np.minimum(sides[0].ess, sides[1].ess), needed)


def difference(rows: Rows) -> Effects:
    """The mean of the served minus the mean of the others; `left` is the outcome itself, `p` is not used."""
    a = rows.served.astype(np.float64)
    n, n1 = _sum(rows, np.ones(a.size)), _sum(rows, a)
    n0 = n - n1
    with np.errstate(divide="ignore", invalid="ignore"):
        one, none = _sum(rows, a * rows.left) / n1, _sum(rows, (1.0 - a) * rows.left) / n0
        share = (n1 / n)[rows.group]
        away = a * (rows.left - one[rows.group]) / share - (1.0 - a) * (rows.left - none[rows.group]) / (1.0 - share)
        second = _sum(rows, away**2) / n
        needed = _COCHRAN * (_sum(rows, away**3) / n) ** 2 / second**3
    return _effects(rows, one - none, away, second / n, n, np.minimum(n1, n0), needed)


def limits(
    found: Effects, *, alpha: float | Floats = 0.05, tune_at: float = TUNE_AT, gate: float = ESS_GATE
) -> tuple[Floats, Floats]:
    """Lower and upper limits (groups,) at level 1 - `alpha` over all looks; NaN below the gate."""
    alphas = np.broadcast_to(np.asarray(alpha, dtype=np.float64), found.effect.shape)
    margin = np.full(found.effect.size, np.nan)
    ready = (
        (found.ess >= gate) & (found.clusters >= CLUSTERS) & (found.units >= found.needed)
        & (found.variance > 0.0) & (found.spread > 0.0)
    )  # fmt: skip
    for level in np.unique(alphas[ready]):
        at = ready & (alphas == level)
        margin[at] = radius(found.units[at], found.variance[at], alpha=float(level), tune_at=tune_at)
    return found.effect - margin, found.effect + margin


@dataclass(frozen=True)
class _Side:
    ess: Floats
    least: Floats
    guard: Floats


def _side(rows: Rows, drawn: Floats, off: Floats, weight: Floats, inverse: Floats) -> _Side:
    """What one side alone says of the variance: see `pipelines.exploration.pseudo_outcomes`."""
    count = _sum(rows, drawn)
    squares = _sum(rows, drawn * off**2)
    furthest = np.zeros(rows.groups)
    np.maximum.at(furthest, rows.group, off**2)
    largest = np.zeros(rows.groups)
    np.maximum.at(largest, rows.group, inverse)
    total, total_squares = _sum(rows, weight), _sum(rows, weight**2)
    ess = np.divide(total**2, total_squares, out=np.zeros(rows.groups), where=total_squares > 0.0)
    mean_inverse = _sum(rows, inverse) / _sum(rows, np.ones(drawn.size))
    least = mean_inverse * (squares + furthest) / (count + 1.0)
    return _Side(ess, least, largest**2 * squares / np.maximum(count, 1.0))


def _effects(
    rows: Rows, effect: Floats, away: Floats, single: Floats, n: Floats, ess: Floats, needed: Floats
) -> Effects:
    pair = rows.group * (int(rows.cluster.max(initial=0)) + 1) + rows.cluster
    found, place = np.unique(pair, return_inverse=True)
    group = np.empty(found.size, dtype=np.int64)
    group[place] = rows.group
    sums = np.bincount(place, weights=away, minlength=found.size)
    clusters = np.bincount(group, minlength=rows.groups).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        own = np.bincount(group, weights=sums**2, minlength=rows.groups) / n**2 * clusters / (clusters - 1.0)
    mean = np.divide(_sum(rows, rows.left), n, out=np.zeros(rows.groups), where=n > 0.0)
    spread = _sum(rows, (rows.left - mean[rows.group]) ** 2)
    spread = np.where(spread > 1e-18 * np.maximum(n, 1.0), spread, 0.0)
    variance = np.fmax(own, single) * n
    return Effects(effect, variance, n, _sum(rows, rows.served.astype(np.float64)), clusters, ess, needed, spread)


def _elsewhere(rows: Rows, cell: Ints, side: Bools) -> Floats:
    """The shrunk mean of `left` on one side in the other folds of the row's group, (rows,)."""
    size = rows.groups * FOLDS
    sums = np.bincount(cell[side], weights=rows.left[side], minlength=size).reshape(rows.groups, FOLDS)
    counts = np.bincount(cell[side], minlength=size).reshape(rows.groups, FOLDS)
    others = (sums.sum(axis=1, keepdims=True) - sums) / (counts.sum(axis=1, keepdims=True) - counts + _PRIOR_WEIGHT)
    return np.asarray(others.ravel()[cell], dtype=np.float64)


def _sum(rows: Rows, values: Floats) -> Floats:
    return np.asarray(np.bincount(rows.group, weights=values, minlength=rows.groups), dtype=np.float64)
