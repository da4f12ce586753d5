"""The fitted items as a table: what each kind of signal says of quality, with its standard error and interval.

A loading is a ratio: with s the sd of quality, λ = κ / s, of which the slope κ per sd of quality and s itself (which is
the slope of the anchor, whose loading is 1) have errors that are close to normal. λ has not: where s comes out too
large, λ comes out too small and so does its standard error, and λ ± 1.96 sd covers .90 instead of .95, missing only
above. Its limits are therefore those of Fieller (1954, JRSS B 16:175-185): all values x of which κ - x s is not told
apart from 0, a quadratic inequality. An intercept α = ι - κ μ / s, with ι the logit at mean quality μ, is a ratio as
well: (ι - x) s - κ μ = 0.

The reported sd is half the interval's width over 1.96, so that an estimate ± its error is as wide as its interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from pipelines.rewards.latent import Item, LatentFit
from pipelines.rewards.measured import LOADINGS
from pipelines.rewards.response_models import Array, Family, IntArray

__all__ = ["Reported", "loading_rows", "loading_slope", "reported"]

_UNSURE = 1.0  # standard deviation of a loading from which it is the weak prior that speaks
_Z = 1.959963984540054
_LEAST_KNOWN = 0.05  # share of s² left after its error: without a scale at all the interval would be unbounded
_STEP = 1e-4


@dataclass(frozen=True)
class Reported:
    """A loading or an intercept: the estimate, its sd (0 where it is fixed) and the limits of its 95 % interval."""

    value: float
    sd: float
    lower: float
    upper: float


def reported(fit: LatentFit, index: int) -> tuple[Reported, Reported]:
    """Loading and intercept of one of the fitted items."""
    at, family = fit.slices[index], fit.items[index].family
    free, covariance = fit.own(index)
    loading, loading_sd, intercept, intercept_sd = family.report(free, covariance)
    if loading_sd == 0.0:
        return _wald(loading, 0.0), _wald(intercept, intercept_sd)
    # (μ, s, κ, ι) in terms of all free parameters.
    gradient = np.zeros((4, len(fit.free)))
    gradient[2:, at] = _slopes(family, free)
    mean, sd = fit.mean, fit.sd
    slope, level = loading * sd, intercept + loading * mean
    gradient[3] += mean * gradient[2]
    gradient[2] *= sd
    gradient[:, :2] = [[1.0, 0.0], [0.0, sd], [0.0, slope], [loading, 0.0]]
    covariance = gradient @ fit.covariance @ gradient.T
    return (
        _ratio(loading, slope, sd, np.array([0.0, 0.0, 1.0, 0.0]), covariance),
        _ratio(intercept, level * sd - slope * mean, sd, np.array([-slope, level, -mean, sd]), covariance),
    )


def loading_slope(family: Family, free: Array) -> tuple[float, Array]:
    """A family's loading and its derivative in the family's own parameters."""
    return family.report(free, np.eye(len(free)))[0], np.asarray(_slopes(family, free)[0])


def _slopes(family: Family, free: Array) -> Array:
    """Derivatives of loading and intercept in the family's own parameters, (2, parameters)."""
    unit, slopes = np.eye(len(free)), np.zeros((2, len(free)))
    for place, step in enumerate(_STEP * unit):
        ahead, behind = family.report(free + step, unit), family.report(free - step, unit)
        slopes[:, place] = (ahead[0] - behind[0]) / (2.0 * _STEP), (ahead[2] - behind[2]) / (2.0 * _STEP)
    return slopes


def _ratio(value: float, top: float, bottom: float, slopes: Array, covariance: Array) -> Reported:
    """Fieller's interval of x where `top` - x `bottom` is 0; `slopes` (4,) are the derivatives of `top`.

    `bottom` is s, the second of the four parameters.
    """
    other = covariance[1]
    # (top - x bottom)² <= z² (slopes - x e₂)' V (slopes - x e₂)
    square = max(bottom**2 - _Z**2 * float(other[1]), _LEAST_KNOWN * bottom**2)
    half = top * bottom - _Z**2 * float(slopes @ other)
    constant = top**2 - _Z**2 * float(slopes @ covariance @ slopes)
    root = float(np.sqrt(max(half**2 - square * constant, 0.0)))
    lower, upper = min((half - root) / square, value), max((half + root) / square, value)
    return Reported(value, (upper - lower) / (2.0 * _Z), lower, upper)


def _wald(value: float, sd: float) -> Reported:
    return Reported(value, sd, value - _Z * sd, value + _Z * sd)


def loading_rows(
    agent: str | None, fit: LatentFit, items: Sequence[Item], weights: Array, users: IntArray
) -> pl.DataFrame:
    """One row per item (columns LOADINGS); `weights` (items,) mean tempering weights, `users` (traces,) codes."""
    fitted = {id(item): index for index, item in enumerate(fit.items)}
    rows = []
    for item, weight in zip(items, weights, strict=True):
        signalled = np.concatenate([item.signalled, [False]])[item.states]
        if item.name == "given":
            signalled = item.states == 1
        index = fitted.get(id(item))
        if index is not None:
            loading, intercept = reported(fit, index)
        else:
            known = item.family.report(np.zeros(0), np.zeros((0, 0)))
            loading, intercept = _wald(known[0], known[1]), _wald(known[2], known[3])
        rows.append(
            (
                agent, item.kind, item.name, int(signalled.sum()), len(np.unique(users[signalled])),
                int((item.states >= 0).sum()), loading.value, loading.sd, loading.lower, loading.upper,
                intercept.value, intercept.sd, intercept.lower, intercept.upper, float(weight), item.anchor,
                item.basis, _note(loading),
            )
        )  # fmt: skip
    return pl.DataFrame(rows, schema=LOADINGS, orient="row")


def _note(loading: Reported) -> str | None:
    if loading.sd >= _UNSURE:
        return "too little data: the loading is mostly its weak prior"
    if loading.sd > 0.0 and loading.lower <= 0.0 <= loading.upper:
        return "not told apart from saying nothing of quality"
    return None
