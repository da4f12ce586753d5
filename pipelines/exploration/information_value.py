"""What knowing more about the arms would be worth, from independent Gaussian posteriors N(m_a, s_a²) of their means.

- Value of perfect information: E[max θ] - max m, the reward a decision gains if the best arm were known (Howard 1966;
  Raiffa & Schlaifer 1961).
- Knowledge gradient: the part of it that some further looks at one arm are expected to bring (Frazier, Powell & Dayanik
  2008, SIAM J. Control Optim. 47:2410-2439): s̃ f(-|m_a - max_{b≠a} m_b| / s̃) with f(z) = φ(z) + z Φ(z) and
  s̃² = s_a⁴ / (s_a² + σ²/looks), the variance by which the looks are expected to move the posterior mean.
- Looks worth taking: the number n at which ahead · KG(n) - n · cost, the expected net gain of sampling (Raiffa &
  Schlaifer 1961), is highest, `ahead` being the decisions that will profit. One look alone may teach next to nothing
  where ten would: so what a look is worth is ahead · KG(n) / n at its best n (Frazier & Powell 2010, Decision Anal.
  7:378-403).

All count what can be learnt. Noise that no look removes, raw surprise, is worth nothing here.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

__all__ = ["Looks", "expected_maximum", "knowledge_gradient", "looks", "perfect_information"]

Floats = NDArray[np.float64]

NODES = 32
_REACH = 6.0  # standard deviations beyond which a Gaussian adds nothing
_CHUNK = 200_000  # values of one intermediate array, times NODES
_MOST_LOOKS = 4096.0
_SQRT_2PI = float(np.sqrt(2.0 * np.pi))


def expected_maximum(means: Floats, sds: Floats, *, nodes: int = NODES) -> Floats:
    """E[max of the arms]; `means` and `sds` (..., arms), sds ≥ 0; result (...).

    Two arms have a closed form (Clark 1961). Else E = m + ∫_m (1 - ∏F) - ∫^m ∏F from the highest mean m, by
    Gauss-Legendre quadrature whose nodes gather near m; error below 4e-3 of the largest sd, and never under the exact
    value for the best arm and any one other.
    """
    means, sds = _checked(means, sds)
    arms = means.shape[-1]
    top = np.asarray(means.max(axis=-1), dtype=np.float64)
    if arms == 1:
        return top
    if arms == 2:
        spread = np.hypot(sds[..., 0], sds[..., 1])
        return np.asarray(top + _unit_loss(means[..., 0] - means[..., 1], spread))
    shape = means.shape[:-1]
    flat, wide = means.reshape(-1, arms), sds.reshape(-1, arms)
    result = np.empty(flat.shape[0])
    step = max(1, _CHUNK // arms)
    for start in range(0, flat.shape[0], step):
        part = slice(start, start + step)
        result[part] = _by_quadrature(flat[part], wide[part], nodes)
    best = np.take_along_axis(sds, means.argmax(axis=-1)[..., None], axis=-1)
    of_pairs = np.where(
        np.arange(arms) == means.argmax(axis=-1)[..., None],
        0.0,
        _unit_loss(top[..., None] - means, np.hypot(best, sds)),
    ).max(axis=-1)
    return np.asarray(np.maximum(result.reshape(shape), top + of_pairs))


def perfect_information(means: Floats, sds: Floats) -> Floats:
    """The value of perfect information of each decision, in reward points, (...)."""
    means, sds = _checked(means, sds)
    return np.asarray(np.maximum(expected_maximum(means, sds) - means.max(axis=-1), 0.0))


def knowledge_gradient(means: Floats, sds: Floats, noise_sd: Floats | float, *, looks: Floats | float = 1.0) -> Floats:
    """What `looks` further rewards of each arm are expected to add to a decision's reward, (..., arms).

    Args: `noise_sd` of one reward around its arm's mean, > 0.
    """
    means, sds = _checked(means, sds)
    if means.shape[-1] == 1:
        return np.zeros_like(means)
    variance = sds**2
    moved = variance / np.sqrt(variance + np.asarray(noise_sd, dtype=np.float64) ** 2 / looks)
    ordered = np.sort(means, axis=-1)
    rival = np.where(means == ordered[..., -1:], ordered[..., -2:-1], ordered[..., -1:])
    return _unit_loss(means - rival, moved)


class Looks(NamedTuple):
    """`worth`: reward points that one look brings to all decisions ahead; `best`: how many pay, 0 where none does."""

    worth: Floats  # (..., arms)
    best: Floats  # (..., arms)


def looks(means: Floats, sds: Floats, noise_sd: Floats | float, ahead: Floats | float, cost: Floats) -> Looks:
    """What looks at each arm are worth, and how many pay, up to half of the decisions `ahead` (...).

    Args: `cost` (..., arms) of one look in reward points. The gain is computed at powers of two; between them the best
    number is that of the parabola through the highest and its neighbours.
    """
    means, sds = _checked(means, sds)
    ahead = np.broadcast_to(np.asarray(ahead, dtype=np.float64), means.shape[:-1])[..., None]
    worth, best, highest = (np.zeros_like(means) for _ in range(3))
    before, left, right = (np.full_like(means, np.nan) for _ in range(3))
    newest = np.zeros(means.shape, dtype=np.bool_)
    n = 1.0
    while n == 1.0 or (n <= _MOST_LOOKS and np.any(2.0 * n <= ahead)):
        allowed = 2.0 * n <= np.maximum(ahead, 2.0)
        gain = np.where(allowed, ahead * knowledge_gradient(means, sds, noise_sd, looks=n), 0.0)
        net = np.where(allowed, gain - n * cost, np.nan)
        right = np.where(newest, net, right)
        newest = allowed & (net > highest)
        left, right = np.where(newest, before, left), np.where(newest, np.nan, right)
        worth, best, highest = np.maximum(worth, gain / n), np.where(newest, n, best), np.where(newest, net, highest)
        before = net
        n *= 2.0
    bend = left - 2.0 * highest + right
    shift = np.where(bend < 0.0, 0.5 * (left - right) / np.where(bend < 0.0, bend, 1.0), 0.0)  # NaN: at an end
    return Looks(worth, np.where(np.isnan(shift), best, best * 2.0 ** np.clip(shift, -0.5, 0.5)))


def _unit_loss(gap: Floats, spread: Floats) -> Floats:
    """E[(X - |gap|)+] for X ~ N(0, spread²)."""
    gap = np.abs(gap)
    positive = spread > 0.0
    z = gap / np.where(positive, spread, 1.0)
    return np.asarray(np.where(positive, spread * (np.exp(-0.5 * z**2) / _SQRT_2PI - z * ndtr(-z)), 0.0))


def _by_quadrature(means: Floats, sds: Floats, nodes: int) -> Floats:
    points, weights = np.polynomial.legendre.leggauss(nodes)
    t = 0.5 * (points + 1.0)
    place, weight = t**2, weights * t  # x = m + width t², dx = 2 width t dt, on half the interval of the nodes
    top = means.max(axis=-1)
    greedy = means.argmax(axis=-1)
    above = (means + _REACH * sds).max(axis=-1) - top
    below = _REACH * np.take_along_axis(sds, greedy[:, None], axis=-1)[:, 0]
    safe = np.where(sds > 0.0, sds, 1e-300)[:, None, :]
    with np.errstate(over="ignore"):
        upper = (top[:, None] + above[:, None] * place)[:, :, None]
        gained = ((1.0 - ndtr((upper - means[:, None, :]) / safe).prod(axis=-1)) * weight).sum(axis=-1) * above
        lower = (top[:, None] - below[:, None] * place)[:, :, None]
        lost = (ndtr((lower - means[:, None, :]) / safe).prod(axis=-1) * weight).sum(axis=-1) * below
    return np.asarray(top + gained - lost)


def _checked(means: Floats, sds: Floats) -> tuple[Floats, Floats]:
    means, sds = np.asarray(means, dtype=np.float64), np.asarray(sds, dtype=np.float64)
    if means.shape != sds.shape or means.shape[-1] == 0:
        raise ValueError(f"means and sds need one shape with at least one arm, came {means.shape} and {sds.shape}")
    if not (np.all(np.isfinite(means)) and np.all(np.isfinite(sds)) and np.all(sds >= 0.0)):
        raise ValueError("means must be finite and sds finite and not negative")
    return means, sds
