"""The probability that each of several arms is the best, from independent Gaussian posteriors of their means.

P(i is best) = ∫ φ(x; μ_i, σ_i) ∏_{j≠i} Φ((x-μ_j)/σ_j) dx by Gauss-Hermite quadrature with 48 nodes (METHODS §6): exact
propensities without Monte-Carlo noise. Two arms have the closed form Φ((μ_1-μ_2)/√(σ_1²+σ_2²)). Absolute error against
a fine grid: below 1e-6 where the largest sd is 3 times the smallest, .004 at 10 times, .02 at 100 times.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr, roots_hermitenorm

__all__ = ["probability_best"]

Array = NDArray[np.float64]
NODES = 48


def probability_best(means: Array, sds: Array, *, nodes: int = NODES) -> Array:
    """P(each arm has the highest mean); `means` and `sds` of shape (..., arms), `sds` > 0; rows of the result sum to 1.

    One arm is best with certainty. Raises ValueError for an sd that is not positive and finite or shapes that differ.
    """
    means, sds = np.asarray(means, dtype=np.float64), np.asarray(sds, dtype=np.float64)
    if means.shape != sds.shape or means.shape[-1] == 0:
        raise ValueError(f"means and sds need one shape with at least one arm, came {means.shape} and {sds.shape}")
    if not (np.all(np.isfinite(means)) and np.all(np.isfinite(sds)) and np.all(sds > 0)):
        raise ValueError("means must be finite and sds positive and finite")
    arms = means.shape[-1]
    if arms == 1:
        return np.ones_like(means)
    if arms == 2:
        first = ndtr((means[..., 0] - means[..., 1]) / np.hypot(sds[..., 0], sds[..., 1]))
        return np.stack([first, 1.0 - first], axis=-1)
    points, weights = _rule(nodes)
    best = np.empty_like(means)
    for arm in range(arms):
        x = means[..., arm, None] + sds[..., arm, None] * points
        others = [other for other in range(arms) if other != arm]
        z = (x[..., None, :] - means[..., others, None]) / sds[..., others, None]
        best[..., arm] = np.exp(log_ndtr(z).sum(axis=-2)) @ weights
    return np.asarray(best / best.sum(axis=-1, keepdims=True), dtype=np.float64)


@lru_cache(maxsize=8)
def _rule(nodes: int) -> tuple[Array, Array]:
    """Nodes and weights for a standard normal; finding them takes longer than using them for one unit."""
    points, weights = roots_hermitenorm(nodes)
    return points, weights / weights.sum()
