"""With which probability each arm is drawn: Thompson sampling held to an exploration rate, with a floor.

For a unit with posteriors N(m_a, s_a²) over K eligible arms, greedy arm g (highest mean) and B_a = P(a is the best):

    doubt   = 1 - B_g
    rate    = min(allowed, max(doubt, (K-1) p_min))
    π(g)    = 1 - rate
    π(a)    = rate ((1-u) B_a / Σ_{b≠g} B_b + u / (K-1)), raised to p_min, the rest lowered in proportion

The exploration rate is the share of decisions that may leave the greedy arm (DESIGN §2): what an operator allows, never
more than the posterior's doubt, and where it allows that enough for every arm to have the floor, so that off-policy
weights stay below 1 / p_min. Where allowed ≥ doubt and u = p_min = 0 this is exact Thompson sampling. p_min is lowered
where K arms or the rate allowed leave no room for it: what an operator allows is never passed.

Everything works over any leading axes, with the arms on the last one.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.stats.quadrature import probability_best

__all__ = ["Propensities", "effective_rate", "greedy_arms", "propensities", "regret", "vector"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PROPENSITY_FLOOR = 0.01
UNIFORM_SHARE = 0.1
# 95 % intervals of the posteriors.
_Z = 1.959963984540054


class Propensities(NamedTuple):
    """What is drawn from. `greedy` indexes the arms; `vector` sums to 1 over them."""

    greedy: Ints  # (...)
    best: Floats  # (..., arms)
    doubt: Floats  # (...)
    rate: Floats  # (...), probability of leaving the greedy arm
    vector: Floats  # (..., arms)


def greedy_arms(means: Floats, order: Ints | None = None) -> Ints:
    """The arm with the highest mean, shape (...).

    Args: `means` (..., arms); `order` (arms,) decides between equal means, the lowest first; by default the position.
    """
    means = np.asarray(means, dtype=np.float64)
    ranks = np.arange(means.shape[-1]) if order is None else np.asarray(order)
    top = means == means.max(axis=-1, keepdims=True)
    return np.asarray(np.where(top, ranks, np.iinfo(np.int64).max).argmin(axis=-1), dtype=np.int64)


def effective_rate(
    allowed: Floats | float, doubt: Floats | float, arms: int, *, propensity_floor: float = PROPENSITY_FLOOR
) -> Floats:
    """The probability of leaving the greedy arm.

    Args: `allowed` 0 to 1, the unit's rate times the budget's scale, 0 for never; `doubt` = 1 - P(greedy arm is best);
    `arms` that are eligible. Both broadcast.
    """
    allowed, doubt = np.asarray(allowed, dtype=np.float64), np.asarray(doubt, dtype=np.float64)
    if arms < 2:
        return np.zeros(np.broadcast_shapes(allowed.shape, doubt.shape))
    floor = _floor(propensity_floor, arms)
    wanted = np.minimum(np.maximum(doubt, (arms - 1) * floor), 1.0 - floor)
    return np.asarray(np.minimum(allowed, wanted), dtype=np.float64)


def vector(
    best: Floats,
    greedy: Ints | np.int64,
    rate: Floats | float,
    *,
    propensity_floor: float = PROPENSITY_FLOOR,
    uniform_share: float = UNIFORM_SHARE,
) -> Floats:
    """The propensity of each arm, (..., arms); rows sum to 1, and the greedy arm has 1 - `rate`.

    Args: `best` (..., arms) from `probability_best`; `greedy` (...) index of the greedy arm; `rate` (...) from
    `effective_rate`. Where the rate is 0 the greedy arm has 1; elsewhere every arm has at least the floor, or an equal
    part of the rate where that is less.
    """
    best = np.asarray(best, dtype=np.float64)
    arms = best.shape[-1]
    if arms == 1:
        return np.ones_like(best)
    is_greedy = np.arange(arms) == np.asarray(greedy)[..., None]
    rate = np.broadcast_to(np.asarray(rate, dtype=np.float64), best.shape[:-1])[..., None]
    others = np.where(is_greedy, 0.0, best)
    total = others.sum(axis=-1, keepdims=True)
    even = np.where(is_greedy, 0.0, 1.0 / (arms - 1))
    share = np.where(total > 0.0, others / np.where(total > 0.0, total, 1.0), even)
    drawn = rate * ((1.0 - uniform_share) * share + uniform_share * even)
    floor = np.minimum(_floor(propensity_floor, arms), rate / (arms - 1))
    drawn = _raised(drawn, floor, rate, is_greedy)
    return np.asarray(np.where(is_greedy, 1.0 - drawn.sum(axis=-1, keepdims=True), drawn), dtype=np.float64)


def regret(means: Floats, sds: Floats, vector: Floats, greedy: Ints | np.int64) -> tuple[Floats, Floats]:
    """What a decision costs against the greedy arm in reward points, each (...): expected, and at the worst.

    Expected: Σ π(a) max(0, m_g - m_a). Worst: the same with the greedy arm at the upper end and the others at the lower
    end of their 95 % intervals, which an operator's daily budget is measured in (conservative bandits, Wu et al. 2016).
    No arm costs more than 1, the whole range of rewards.
    """
    means, sds = np.asarray(means, dtype=np.float64), np.asarray(sds, dtype=np.float64)
    at = np.asarray(greedy)[..., None]
    left = np.where(np.arange(means.shape[-1]) == at, 0.0, vector)
    top = np.take_along_axis(means, at, axis=-1)
    top_sd = np.take_along_axis(sds, at, axis=-1)
    expected = (left * np.clip(top - means, 0.0, 1.0)).sum(axis=-1)
    worst = (left * np.clip(top + _Z * top_sd - (means - _Z * sds), 0.0, 1.0)).sum(axis=-1)
    return expected, worst


def propensities(
    means: Floats,
    sds: Floats,
    allowed: Floats | float,
    *,
    order: Ints | None = None,
    propensity_floor: float = PROPENSITY_FLOOR,
    uniform_share: float = UNIFORM_SHARE,
) -> Propensities:
    """All of it for units with posteriors `means` and `sds` (..., arms) that `allowed` (...) applies to.

    Raises: ValueError for means that are not finite or sds that are not positive.
    """
    best = probability_best(means, sds)
    greedy = greedy_arms(means, order)
    doubt = 1.0 - np.take_along_axis(best, greedy[..., None], axis=-1)[..., 0]
    rate = effective_rate(allowed, doubt, best.shape[-1], propensity_floor=propensity_floor)
    drawn = vector(best, greedy, rate, propensity_floor=propensity_floor, uniform_share=uniform_share)
    return Propensities(greedy, best, doubt, rate, drawn)


def _floor(propensity_floor: float, arms: int) -> float:
    return min(propensity_floor, 1.0 / arms)


def _raised(drawn: Floats, floor: Floats, total: Floats, is_greedy: NDArray[np.bool_]) -> Floats:
    """`drawn` with every entry but the greedy one at least `floor`, still summing to `total`.

    Entries under the floor go to it, the others shrink in proportion, again until none is under it: at most K-2 rounds.
    """
    raised = np.zeros_like(drawn, dtype=np.bool_)
    current = drawn
    for _ in range(drawn.shape[-1]):
        low = ~is_greedy & ~raised & (current < floor)
        if not low.any():
            break
        raised |= low
        free = np.where(is_greedy | raised, 0.0, drawn)
        left = total - floor * raised.sum(axis=-1, keepdims=True)
        whole = free.sum(axis=-1, keepdims=True)
        scale = np.where(whole > 0.0, left / np.where(whole > 0.0, whole, 1.0), 0.0)
        current = np.where(raised, floor, free * scale)
    return current
