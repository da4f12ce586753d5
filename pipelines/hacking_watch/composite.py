"""A composite of several signals in which none decides more than its share.

The contribution of signal k to the variance of c = sum of w_k z_k is w_k (S w)_k, S being the signals' covariance: the
contributions sum to var c (Euler's theorem for a homogeneous function). A signal above the cap has its weight scaled
down to where its share is exactly the cap; METHODS §3 caps at one half, so that no single signal that an arm learns to
please can carry the composite alone.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from store.errors import JobError

__all__ = ["Capped", "cap_contributions"]

Floats = NDArray[np.float64]

_ROUNDS: Final = 200
_CLOSE: Final = 1e-9


@dataclass(frozen=True)
class Capped:
    """Weights and shares of the variance, shape (signals,); `capped` marks the signals that were scaled down.

    `reason` says why the cap could not be kept: then the weights are as close as was possible.
    """

    weights: Floats
    shares: Floats
    capped: NDArray[np.bool_]
    reason: str | None = None


def cap_contributions(weights: Floats, covariance: Floats, cap: float = 0.5) -> Capped:
    """Scale weights down until no signal makes up more than `cap` of the composite's variance.

    Args: `weights` (signals,), not negative; `covariance` (signals, signals) of the signals, symmetric and positive
    semi-definite; `cap` from above 1 / signals to 1.
    Raises: JobError for other shapes, negative or unknown weights, or a matrix that is no covariance.
    """
    weights = np.asarray(weights, dtype=np.float64).copy()
    covariance = np.asarray(covariance, dtype=np.float64)
    _check(weights, covariance, cap)
    capped = np.zeros(len(weights), dtype=bool)
    shares = _shares(weights, covariance)
    telling = int((shares > _CLOSE).sum())
    if telling == 0:
        return Capped(weights, shares, capped, "no signal varies")
    if telling * cap < 1.0 - _CLOSE:
        return Capped(weights, shares, capped, f"{telling} signals cannot each stay below {cap:.0%} of the variance")
    for _ in range(_ROUNDS):
        largest = int(np.argmax(shares))
        if shares[largest] <= cap + _CLOSE:
            return Capped(weights, shares, capped)
        weights[largest] *= _scale(weights, covariance, largest, cap)
        capped[largest] = True
        shares = _shares(weights, covariance)
    return Capped(weights, shares, capped, "the signals depend so strongly that no weights keep the cap")


def _scale(weights: Floats, covariance: Floats, at: int, cap: float) -> float:
    """The factor s at which signal `at` has the share `cap`: (1-cap) A s² + (1-2cap) B s - cap V = 0.

    A is its own variance in the composite, B its covariance with the rest, V the variance of the rest.
    """
    rest = weights.copy()
    rest[at] = 0.0
    own = weights[at] ** 2 * covariance[at, at]
    crossed = float(weights[at] * (covariance[at] @ rest))
    others = float(rest @ covariance @ rest)
    a, b, c = (1.0 - cap) * own, (1.0 - 2.0 * cap) * crossed, -cap * others
    if a <= 0.0:
        return 1.0
    return float((-b + sqrt(max(b * b - 4.0 * a * c, 0.0))) / (2.0 * a))


def _shares(weights: Floats, covariance: Floats) -> Floats:
    contributions = weights * (covariance @ weights)
    total = contributions.sum()
    return np.asarray(contributions / total if total > 0.0 else np.zeros_like(weights))


def _check(weights: Floats, covariance: Floats, cap: float) -> None:
    k = len(weights)
    if weights.ndim != 1 or k == 0 or covariance.shape != (k, k):
        raise JobError(f"{weights.shape} weights do not fit a covariance of shape {covariance.shape}.")
    if not np.isfinite(weights).all() or (weights < 0.0).any():
        raise JobError(f"Weights must be finite and not negative; came {weights.tolist()}.")
    if not 0.0 < cap <= 1.0:
        raise JobError(f"A cap is a share above 0 and at most 1; came {cap}.")
    scale = max(float(np.abs(covariance).max()), 1e-300) if np.isfinite(covariance).all() else float("nan")
    if not np.isfinite(scale) or not np.allclose(covariance, covariance.T, atol=1e-9 * scale):
        raise JobError("A covariance must be finite and symmetric.")
    if float(np.linalg.eigvalsh(covariance)[0]) < -1e-6 * scale:
        raise JobError("A covariance must not have negative eigenvalues.")
