"""How one kind of signal answers to the latent quality: log-likelihoods on a grid of x, and their derivatives.

Every family takes the values that a signal can have as a fixed list of states, so that its likelihood is a small table
(states, grid). x is the quality of a trace, or what a person reports of it (quality + their leniency).

    event        P(y=1) = a σ(α + λ x), a known per state: 1, a position's examination, or the share of late events
                 seen by the trace's age. Two-parameter logistic (Birnbaum 1968); position-based clicks (Richardson et
                 al. 2007); delayed feedback (Chapelle 2014), where a young negative is ln(1 - F(age) p), not a zero.
    told         a person says "satisfied" with p = σ(x) and speaks up unasked with r1 when satisfied and r0 when not:
                 P(silent) = 1 - r1 p - r0 (1-p), P(up) = r1 p, P(down) = r0 (1-p). Given that somebody spoke up this is
                 σ(x + ln(r1/r0)): the selection shifts the intercept only (Prentice & Pyke 1979). A judge with
                 sensitivity r1 and 1 - specificity r0 is the same mixture (Rogan & Gladen 1978).
    graded       cumulative logit P(R <= j) = σ(τ_j - λ x) (McCullagh 1980)
    kept         logit of the share kept ~ N(α + λ x, σ²)
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit

__all__ = ["Array", "Event", "Family", "Graded", "IntArray", "Kept", "Told"]

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
_TINY = 1e-12


class Family(Protocol):
    """A response model with its free parameters, of which weak normal priors keep separated data finite."""

    @property
    def start(self) -> Array:
        """Where the fit starts, (parameters,)."""

    @property
    def prior_mean(self) -> Array:
        """Mean of the weak prior, (parameters,)."""

    @property
    def prior_sd(self) -> Array:
        """Standard deviation of the weak prior, (parameters,)."""

    def table(self, free: Array, x: Array) -> Array:
        """log P(state | x), (states, grid)."""

    def derivatives(self, free: Array, x: Array) -> Array:
        """Derivative of `table` in each parameter, (parameters, states, grid)."""

    def information(self, free: Array, x: Array) -> Array:
        """Fisher information on x of one response, averaged over kinds of states, (grid,)."""

    def report(self, free: Array, covariance: Array) -> tuple[float, float, float, float]:
        """loading, its sd, intercept, its sd; sd 0 where the value is fixed."""


@dataclass(frozen=True)
class Event:
    """Something happens or not; `occurred` and `scale` (the known a) per state. `fixed` makes it the anchor: 0, 1."""

    occurred: Array
    scale: Array
    start: Array
    fixed: bool = False

    @property
    def prior_mean(self) -> Array:
        """Intercepts around even odds, loadings around none."""
        return np.zeros(len(self.start))

    @property
    def prior_sd(self) -> Array:
        """Wide: only separated or empty data feel them."""
        return np.array([5.0, 2.0])[: len(self.start)]

    def _linear(self, free: Array, x: Array) -> Array:
        return x if self.fixed else np.asarray(free[0] + free[1] * x)

    def table(self, free: Array, x: Array) -> Array:
        """log P(state | x)."""
        z = self._linear(free, x)[None, :]
        scale, occurred = self.scale[:, None], self.occurred[:, None] > 0.5
        # 1 - a σ(z) = (1 - a) + a σ(-z), which stays exact when σ(z) is near 1.
        absent = np.log(np.maximum((1.0 - scale) + scale * expit(-z), _TINY))
        return np.asarray(np.where(occurred, np.log(np.maximum(scale, _TINY)) + log_expit(z), absent))

    def derivatives(self, free: Array, x: Array) -> Array:
        """By the chain rule through z = α + λ x."""
        if self.fixed:
            return np.zeros((0, len(self.scale), len(x)))
        slope = self._slope(self._linear(free, x))
        return np.stack([slope, slope * x[None, :]])

    def _slope(self, z: Array) -> Array:
        p, scale = expit(z)[None, :], self.scale[:, None]
        absent = -scale * p * (1.0 - p) / np.maximum((1.0 - scale) + scale * (1.0 - p), _TINY)
        return np.asarray(np.where(self.occurred[:, None] > 0.5, 1.0 - p, absent))

    def information(self, free: Array, x: Array) -> Array:
        """λ² a² p² (1-p)² / (q (1-q)) with q = a p, averaged over the scales."""
        loading = 1.0 if self.fixed else float(free[1])
        p = expit(self._linear(free, x))[None, :]
        scale = np.unique(self.scale)[:, None]
        q = np.clip(scale * p, _TINY, 1.0 - _TINY)
        return np.asarray((loading**2 * (scale * p * (1.0 - p)) ** 2 / (q * (1.0 - q))).mean(axis=0))

    def report(self, free: Array, covariance: Array) -> tuple[float, float, float, float]:
        """The anchor is 1 and 0 by definition."""
        if self.fixed:
            return 1.0, 0.0, 0.0, 0.0
        return float(free[1]), float(covariance[1, 1] ** 0.5), float(free[0]), float(covariance[0, 0] ** 0.5)


@dataclass(frozen=True)
class Told:
    """Volunteered answers: states silent, up, down; or a judge's: states 0 (no) and 1 (yes) with `rates` known."""

    start: Array
    rates: tuple[float, float] | None = None  # (r1, r0), known for a judge

    @property
    def prior_mean(self) -> Array:
        """A few in a hundred speak up."""
        return np.full(len(self.start), -2.0)

    @property
    def prior_sd(self) -> Array:
        """Wide."""
        return np.full(len(self.start), 2.0)

    def _rates(self, free: Array) -> tuple[float, float]:
        return self.rates if self.rates is not None else (float(expit(free[0])), float(expit(free[1])))

    def table(self, free: Array, x: Array) -> Array:
        """log P(state | x), rows silent, up, down; for a judge no, yes."""
        r1, r0 = self._rates(free)
        p = expit(x)
        q = np.clip(r1 * p + r0 * (1.0 - p), _TINY, 1.0 - _TINY)
        if self.rates is not None:
            return np.stack([np.log1p(-q), np.log(q)])
        return np.stack([np.log1p(-q), np.log(r1) + log_expit(x), np.log(r0) + log_expit(-x)])

    def derivatives(self, free: Array, x: Array) -> Array:
        """In logit r1 and logit r0."""
        if self.rates is not None:
            return np.zeros((0, 2, len(x)))
        r1, r0 = self._rates(free)
        p = expit(x)
        silent = np.maximum(1.0 - r1 * p - r0 * (1.0 - p), _TINY)
        zero = np.zeros_like(x)
        in_r1 = np.stack([-p * r1 * (1.0 - r1) / silent, zero + 1.0 - r1, zero])
        in_r0 = np.stack([-(1.0 - p) * r0 * (1.0 - r0) / silent, zero, zero + 1.0 - r0])
        return np.stack([in_r1, in_r0])

    def information(self, free: Array, x: Array) -> Array:
        """Σ_s (dP_s/dx)² / P_s over the states."""
        table = self.table(free, x)
        return np.asarray((np.exp(table) * np.gradient(table, x, axis=1) ** 2).sum(axis=0))

    def report(self, free: Array, covariance: Array) -> tuple[float, float, float, float]:
        """Loading 1 by construction; the intercept is ln(r1/r0), the shift of those who speak up."""
        r1, r0 = self._rates(free)
        if self.rates is not None:
            return 1.0, 0.0, float(np.log(max(r1, _TINY) / max(r0, _TINY))), 0.0
        gradient = np.array([1.0 - r1, -(1.0 - r0)])
        return 1.0, 0.0, float(np.log(r1 / r0)), float((gradient @ covariance @ gradient) ** 0.5)


@dataclass(frozen=True)
class Graded:
    """Ordered grades 0..J-1; parameters are the first cutpoint, the logs of the gaps, and the loading."""

    start: Array

    @property
    def prior_mean(self) -> Array:
        """Gaps of one logit."""
        return np.zeros(len(self.start))

    @property
    def prior_sd(self) -> Array:
        """Wide."""
        return np.array([5.0, *[1.5] * (len(self.start) - 2), 2.0])

    def cutpoints(self, free: Array) -> Array:
        """Ascending cutpoints τ, (J - 1,)."""
        return np.asarray(np.cumsum(np.concatenate([free[:1], np.exp(free[1:-1])])))

    def _below(self, free: Array, x: Array) -> Array:
        inner = expit(self.cutpoints(free)[:, None] - free[-1] * x[None, :])
        return np.concatenate([np.zeros((1, len(x))), inner, np.ones((1, len(x)))])

    def table(self, free: Array, x: Array) -> Array:
        """log P(grade | x)."""
        return np.log(np.maximum(np.diff(self._below(free, x), axis=0), _TINY))

    def derivatives(self, free: Array, x: Array) -> Array:
        """Through the cutpoints: moving τ_j adds its density to grade j and takes it from j + 1."""
        below = self._below(free, x)
        density = below * (1.0 - below)
        share = np.maximum(np.diff(below, axis=0), _TINY)
        grades = share.shape[0]
        in_cutpoint = np.zeros((grades - 1, grades, len(x)))
        for j in range(grades - 1):
            in_cutpoint[j, j] = density[j + 1] / share[j]
            in_cutpoint[j, j + 1] = -density[j + 1] / share[j + 1]
        # τ_j contains every gap up to it.
        from_gap = np.flip(np.cumsum(np.flip(in_cutpoint, axis=0), axis=0), axis=0)
        gaps = from_gap * np.concatenate([[1.0], np.exp(free[1:-1])])[:, None, None]
        loading = -x[None, :] * np.diff(density, axis=0) / share
        return np.concatenate([gaps, loading[None]])

    def information(self, free: Array, x: Array) -> Array:
        """λ² Σ_j (f_j - f_{j-1})² / p_j."""
        below = self._below(free, x)
        steps, share = np.diff(below * (1.0 - below), axis=0), np.maximum(np.diff(below, axis=0), _TINY)
        return np.asarray(free[-1] ** 2 * (steps**2 / share).sum(axis=0))

    def report(self, free: Array, covariance: Array) -> tuple[float, float, float, float]:
        """The intercept is that of the middle cutpoint, with the sign of an event: P(above) = σ(α + λ x)."""
        middle = (len(free) - 1) // 2 if len(free) > 2 else 0
        gradient = np.zeros(len(free))
        gradient[0] = -1.0
        gradient[1 : middle + 1] = -np.exp(free[1 : middle + 1])
        value = -float(self.cutpoints(free)[middle])
        return (
            float(free[-1]),
            float(covariance[-1, -1] ** 0.5),
            value,
            float((gradient @ covariance @ gradient) ** 0.5),
        )


@dataclass(frozen=True)
class Kept:
    """Logit of the share kept, on the values of the states; parameters α, λ and ln σ."""

    values: Array
    start: Array

    @property
    def prior_mean(self) -> Array:
        """Centred at no loading and σ = 1."""
        return np.zeros(3)

    @property
    def prior_sd(self) -> Array:
        """Wide."""
        return np.array([5.0, 2.0, 1.5])

    def _standardised(self, free: Array, x: Array) -> Array:
        return np.asarray((self.values[:, None] - free[0] - free[1] * x[None, :]) / np.exp(free[2]))

    def table(self, free: Array, x: Array) -> Array:
        """log density, without its constant."""
        return np.asarray(-0.5 * self._standardised(free, x) ** 2 - free[2])

    def derivatives(self, free: Array, x: Array) -> Array:
        """In α, λ and ln σ."""
        z = self._standardised(free, x)
        slope = z / np.exp(free[2])
        return np.stack([slope, slope * x[None, :], z**2 - 1.0])

    def information(self, free: Array, x: Array) -> Array:
        """λ² / σ²."""
        return np.full(len(x), float(free[1] ** 2 * np.exp(-2.0 * free[2])))

    def report(self, free: Array, covariance: Array) -> tuple[float, float, float, float]:
        """On the logit scale of the share kept."""
        return float(free[1]), float(covariance[1, 1] ** 0.5), float(free[0]), float(covariance[0, 0] ** 0.5)
