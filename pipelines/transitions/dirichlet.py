"""Hierarchical Dirichlet transition probabilities and what single transitions tell: surprise and Bayesian surprise.

p(s'|s) = (n(s,s') + κ m(s')) / (n(s) + κ) with m the distribution pooled over all states of the agent and κ, the weight
of that prior in transitions, by maximum marginal likelihood of the Dirichlet-multinomial (MacKay & Peto 1995, Natural
Language Engineering 1:289-308; Minka 2000). One user's probabilities have the population's as their prior.

Surprise of a transition is -ln p. It is standardised by the entropy H of its state and the standard deviation of -ln p
there, so a state that is random by nature does not alarm. Bayesian surprise is the information that one observation
brings about p(.|s) (Itti & Baldi 2009, Vision Research 49:1295-1306), in closed form for a Dirichlet:
KL = ln(A / a_j) + ψ(a_j + 1) - ψ(A + 1), with a and A before the observation.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import digamma, gammaln

__all__ = [
    "Concentration", "DirichletConfig", "Surprise", "bayesian_surprise", "concentration", "entropy", "path_surprise",
    "pooled", "predictive", "surprise", "user_concentration",
]  # fmt: skip

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class DirichletConfig:
    """κ where the data cannot tell (METHODS §9), the limits of its search, and the least spread of surprise (nats)."""

    default: float = 10.0
    lowest: float = 0.1
    highest: float = 1000.0
    least_sd: float = 0.05


@dataclass(frozen=True)
class Concentration:
    """κ, and why it is not estimated or at a limit: too_few_states, lowest, highest or None."""

    value: float
    reason: str | None


@dataclass(frozen=True)
class Surprise:
    """Matrices of shape (from, to): information -ln p in nats, its standardised value z, and Bayesian surprise.

    Entropy and sd of -ln p are per from-state, shape (from,).
    """

    information: Array
    z: Array
    bayesian: Array
    entropy: Array
    sd: Array


def pooled(counts: Array) -> Array:
    """m: how often each state is next, over all from-states; `counts` (from, to), result (to,), sums to 1, positive.

    Half an observation is added to each: a state that was never next keeps a little probability.
    """
    _check(counts)
    total = counts.sum(axis=0) + 0.5
    return np.asarray(total / total.sum(), dtype=np.float64)


def concentration(counts: Array, base: Array, config: DirichletConfig | None = None) -> Concentration:
    """κ by maximum marginal likelihood of `counts` (from, to) given `base` (to,)."""
    config = config or DirichletConfig()
    _check(counts)
    rows, columns = np.nonzero(counts)
    if np.count_nonzero(counts.sum(axis=1) > 1) < 2:
        return Concentration(config.default, "too_few_states")
    return _maximise(counts[rows, columns], base[columns], counts.sum(axis=1), config)


def user_concentration(cells: Array, prior: Array, group: Ints, config: DirichletConfig | None = None) -> Concentration:
    """κ_u of users' own probabilities around the population's.

    `cells` are positive counts of transitions of one (user, from-state), `prior` the population's probability of each,
    `group` which (user, from-state) it belongs to, from 0: all of shape (cells,).
    """
    config = config or DirichletConfig()
    if cells.size == 0:
        return Concentration(config.default, "too_few_states")
    totals = np.bincount(group, weights=cells).astype(np.float64)
    if np.count_nonzero(totals > 1) < 2:
        return Concentration(config.default, "too_few_states")
    return _maximise(cells, prior, totals, config)


def predictive(counts: Array, base: Array, kappa: float) -> Array:
    """p(s'|s) of shape (from, to); `base` is (to,), or (from, to) where each state has a prior of its own."""
    _check(counts)
    return np.asarray((counts + kappa * base) / (counts.sum(axis=1, keepdims=True) + kappa), dtype=np.float64)


def entropy(probabilities: Array, least_sd: float = 0.0) -> tuple[Array, Array]:
    """Entropy of each row and standard deviation of -ln p under it (at least `least_sd`), both (from,), in nats."""
    information = -np.log(np.where(probabilities > 0.0, probabilities, 1.0))
    mean = (probabilities * information).sum(axis=1)
    variance = (probabilities * (information - mean[:, None]) ** 2).sum(axis=1)
    return mean, np.maximum(np.sqrt(variance), least_sd)


def surprise(
    counts: Array, base: Array, kappa: float, *, included: bool = True, config: DirichletConfig | None = None
) -> Surprise:
    """What a transition tells, for every pair of states.

    With `included` the transition asked about is one of those counted and is taken out of them first, so that a trace
    does not vouch for itself.
    """
    config = config or DirichletConfig()
    own = np.where(counts >= 1.0, 1.0, 0.0) if included else np.zeros_like(counts)
    a = counts - own + kappa * base
    total = counts.sum(axis=1, keepdims=True) - own + kappa
    information = np.log(total) - np.log(a)
    mean, sd = entropy(predictive(counts, base, kappa), config.least_sd)
    return Surprise(information, (information - mean[:, None]) / sd[:, None], bayesian_surprise(a, total), mean, sd)


def path_surprise(
    counts: Array, base: Array, kappa: float, ends: int, *, included: bool = True, config: DirichletConfig | None = None
) -> Surprise:
    """As `surprise`, with the last `ends` columns taken as one: that a trace ended surprises, how it ended does not.

    The surprise of a path must not know the outcome, or it could not be asked what it says about it.
    """
    steps = counts.shape[1] - ends
    merged = np.column_stack([counts[:, :steps], counts[:, steps:].sum(axis=1)])
    found = surprise(merged, np.append(base[:steps], base[steps:].sum()), kappa, included=included, config=config)
    spread = np.append(np.arange(steps), np.full(ends, steps))
    return Surprise(
        found.information[:, spread], found.z[:, spread], found.bayesian[:, spread], found.entropy, found.sd
    )


def bayesian_surprise(a: Array, total: Array) -> Array:
    """KL(posterior after one observation j || before), nats: `a` is the Dirichlet parameter of j, `total` the sum."""
    return np.asarray(np.log(total) - np.log(a) + digamma(a + 1.0) - digamma(total + 1.0), dtype=np.float64)


def _maximise(cells: Array, prior: Array, totals: Array, config: DirichletConfig) -> Concentration:
    totals = totals[totals > 0]

    def loss(log_kappa: float) -> float:
        kappa = float(np.exp(log_kappa))
        inside = gammaln(cells + kappa * prior) - gammaln(kappa * prior)
        outside = gammaln(kappa) - gammaln(totals + kappa)
        return -float(inside.sum() + outside.sum())

    found = minimize_scalar(
        loss, bounds=(np.log(config.lowest), np.log(config.highest)), method="bounded", options={"xatol": 1e-3}
    )
    value = float(np.exp(found.x))
    reason = "lowest" if value < config.lowest * 1.01 else "highest" if value > config.highest * 0.99 else None
    return Concentration(value, reason)


def _check(counts: Array) -> None:
    if counts.ndim != 2 or not np.all(np.isfinite(counts)) or np.any(counts < 0):
        raise ValueError("counts must be a matrix (from, to) of finite numbers that are not negative")
