"""Bradley-Terry strengths of items from paired comparisons, with errors clustered by user and ranks (METHODS §3).

P(i beats j) = s(θ_i - θ_j) (Bradley & Terry 1952, Biometrika 39:324-345); a tie is half a win for each. The objective
is the weighted log-likelihood minus |θ|²/(2τ²). Newton's method runs on the sums of each pair, so that a million
comparisons cost as much as the number of pairs; beyond 500 items each step is solved by conjugate gradients.

The covariance is H⁻¹(G + I/τ²)H⁻¹: G is the spread of the users' scores, I/τ² that of the prior's score when strengths
come from the prior, so the intervals cover with and without shrinkage. Strengths have no origin: only differences mean
anything, and only between items of one strongly connected component, where each has, through others, both won and
lost (Ford 1957, Am. Math. Monthly 64:28-33). Between components the size of a difference is unknown: it is refused.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, stdtrit

from pipelines.stats.contract import FitRefused, codes, numbers, within
from pipelines.stats.paired import (
    MODEL,
    Pairs,
    aggregate,
    comparison_meat,
    components,
    conjugate_step,
    laplacian,
    means,
    user_meat,
)

__all__ = ["COVARIANCE_ITEMS", "DEFAULT_TAU", "Difference", "Ranks", "Strengths", "difference", "fit", "ranks"]

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
DEFAULT_TAU = 2.0
ESTIMATE_TAU_ITEMS = 20  # fewer strengths say too little about their spread
DENSE_ITEMS = 500  # up to here Newton steps factor the matrix
COVARIANCE_ITEMS = 5000  # a dense covariance of more items does not fit in memory
ESTIMATE_TAU_LIMIT = 2000


@dataclass(frozen=True)
class Strengths:
    """Strengths on the log-odds scale.

    `strength` (items,) is NaN for items never compared; its mean is zero, inside each component without a
    prior. `covariance` (items, items), None above COVARIANCE_ITEMS, is for differences inside a component.
    `component` (items,) numbers the strongly connected components from the largest; -1 is never compared.
    `comparisons` is the total weight. `tau_basis` is given, default, estimated (from the spread of the strengths) or
    none (maximum likelihood). `freedom` is users - 1 for the t quantile, inf without users.
    """

    strength: Array
    covariance: Array | None
    component: IntArray
    comparisons: float
    users: int | None
    tau: float | None
    tau_basis: Literal["given", "default", "estimated", "none"]
    freedom: float


@dataclass(frozen=True)
class Difference:
    """A difference of two strengths (log odds that the first is preferred), its standard error and interval."""

    estimate: float
    standard_error: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Ranks:
    """Ranks inside one component, items ordered from the strongest estimate.

    `at_most[i, k]` is P(items[i] is among the k + 1 best); `lower` and `upper` are each item's rank interval.
    """

    items: IntArray
    at_most: Array
    lower: IntArray
    upper: IntArray


def fit(
    first: IntArray,
    second: IntArray,
    score: Array,
    *,
    items: int,
    weight: Array | None = None,
    users: IntArray | None = None,
    tau: float | Literal["auto"] | None = "auto",
    robust: bool = True,
) -> Strengths:
    """Fit strengths of items 0..items-1 from rows of shape (rows,).

    `score` is 1 where `first` won, 0 where `second` won, .5 for a tie; `weight` says how many such comparisons a row
    stands for; `users` (codes) clusters the errors, without it comparisons count as independent. `tau` is the prior sd
    of a strength; "auto" estimates it from 20 items on and is 2 below; None is maximum likelihood, where rows between
    components are left out because they have no finite estimate. With
    `robust=False` the covariance is the inverse information, which trusts the model and knows no users. Raises
    FitRefused: no_rows, not_finite, out_of_range, self_comparison, one_user, not_converged.
    """
    rows = len(first)
    first, second = codes(MODEL, "items", first, rows, items), codes(MODEL, "items", second, rows, items)
    score = numbers(MODEL, "scores", score, (rows,))
    within(MODEL, "scores", score, 0.0, 1.0)
    if weight is not None:
        weight = numbers(MODEL, "weights", weight, (rows,))
        within(MODEL, "weights", weight, 0.0, np.inf)
    if users is not None:
        users = codes(MODEL, "users", users, rows)
    count = None if users is None else int(np.unique(users).size)
    if count == 1:
        raise FitRefused(MODEL, "one_user", "all comparisons are by one user, so how users differ is unknown.")
    pairs = aggregate(first, second, score, weight, items)
    if pairs.low.size == 0:
        raise FitRefused(MODEL, "no_rows", "there is no comparison; collect some first.")
    component = components(pairs)
    comparisons = float(pairs.count.sum())
    if tau is None:
        inside = component[pairs.low] == component[pairs.high]
        pairs = Pairs(
            pairs.low[inside],
            pairs.high[inside],
            pairs.count[inside],
            pairs.score[inside],
            pairs.squared[inside],
            items,
        )
        if users is not None:
            kept = component[first] == component[second]
            weight = kept.astype(np.float64) if weight is None else weight * kept
    sd, basis = _prior_sd(pairs, component, tau)
    precision = 0.0 if sd is None else 1.0 / sd**2
    theta = _maximise(pairs, component, precision, np.zeros(items))
    covariance = None
    if items <= COVARIANCE_ITEMS:
        if not robust:
            p = expit(theta[pairs.low] - theta[pairs.high])
            meat = laplacian(pairs, pairs.count * p * (1.0 - p))
        elif users is None:
            meat = comparison_meat(pairs, theta)
        else:
            meat = user_meat(first, second, score, weight, users, theta)
        covariance = _covariance(pairs, component, precision, theta, meat)
    freedom = np.inf if count is None else max(count - 1.0, 1.0)
    return Strengths(
        _centred(theta, component, sd is None), covariance, component, comparisons, count, sd, basis, freedom
    )


def difference(fit: Strengths, first: int, second: int, *, level: float = 0.95, across: bool = False) -> Difference:
    """Strength of `first` minus that of `second`, with a t interval.

    Raises FitRefused (`not_connected`) for items of two components, unless `across` is set and a prior was used: then
    the size of the difference leans on the prior, and the caller has to say so. (`too_many_items`) without covariance.
    """
    compared = min(fit.component[first], fit.component[second]) >= 0
    same = bool(fit.component[first] == fit.component[second]) or (across and fit.tau is not None)
    if not (compared and same):
        raise FitRefused(
            MODEL,
            "not_connected",
            "the two items are not connected by wins and losses both ways, so how far they are apart is unknown; "
            "compare them with each other, or with items that both have beaten and lost to.",
        )
    if fit.covariance is None:
        raise FitRefused(MODEL, "too_many_items", f"errors are computed for up to {COVARIANCE_ITEMS} items.")
    v = fit.covariance
    estimate = float(fit.strength[first] - fit.strength[second])
    error = float(np.sqrt(max(v[first, first] + v[second, second] - 2.0 * v[first, second], 0.0)))
    margin = _quantile(fit.freedom, level) * error
    return Difference(estimate, error, estimate - margin, estimate + margin)


def ranks(
    fit: Strengths, component: int, random: np.random.Generator, *, draws: int = 4000, level: float = 0.95
) -> Ranks:
    """Ranks of the items of one component by drawing strengths from N(θ, V) (multivariate t with users' errors).

    Raises FitRefused (`too_many_items`) without a covariance and ValueError for a component without items.
    """
    members = np.flatnonzero(fit.component == component)
    if members.size == 0 or component < 0:
        raise ValueError(f"there is no component {component}")
    if fit.covariance is None:
        raise FitRefused(MODEL, "too_many_items", f"ranks are computed for up to {COVARIANCE_ITEMS} items.")
    order = members[np.argsort(-fit.strength[members], kind="stable")]
    values, vectors = np.linalg.eigh(fit.covariance[np.ix_(order, order)])
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    noise = random.standard_normal((draws, order.size)) @ root.T
    if np.isfinite(fit.freedom):
        noise *= np.sqrt(fit.freedom / random.chisquare(fit.freedom, (draws, 1)))
    drawn = fit.strength[order] + noise
    place = np.argsort(np.argsort(-drawn, axis=1), axis=1)
    at = np.stack([np.bincount(column, minlength=order.size) for column in place.T])
    at_most = np.cumsum(at, axis=1) / draws
    tail = (1.0 - level) / 2.0
    lower = 1 + (at_most < tail).sum(axis=1)
    upper = 1 + (at_most < 1.0 - tail).sum(axis=1)
    return Ranks(order, at_most, lower.astype(np.int64), np.minimum(upper, order.size).astype(np.int64))


def _quantile(freedom: float, level: float) -> float:
    # A t distribution of 1e9 degrees of freedom is the normal one to all digits.
    return float(stdtrit(min(freedom, 1e9), 0.5 + level / 2.0))


def _prior_sd(
    pairs: Pairs, component: IntArray, tau: float | Literal["auto"] | None
) -> tuple[float | None, Literal["given", "default", "estimated", "none"]]:
    if tau is None:
        return None, "none"
    if tau != "auto":
        if not (np.isfinite(tau) and tau > 0):
            raise ValueError(f"tau must be positive and finite, came {tau}")
        return float(tau), "given"
    compared = int(np.sum(component >= 0))
    if compared < ESTIMATE_TAU_ITEMS or pairs.items > ESTIMATE_TAU_LIMIT:
        return DEFAULT_TAU, "default"
    theta = np.zeros(pairs.items)

    def deviance(log_tau: float) -> float:
        """-2 x the Laplace approximation of the marginal likelihood (Tierney & Kadane 1986)."""
        nonlocal theta
        precision = float(np.exp(-2.0 * log_tau))
        theta = _maximise(pairs, component, precision, theta)
        factor = np.linalg.cholesky(_information(pairs, component, precision, theta))
        log_determinant = 2.0 * float(np.log(np.diag(factor)).sum())
        return 2.0 * pairs.items * log_tau + log_determinant - 2.0 * _objective(pairs, precision, theta)

    best = minimize_scalar(deviance, bounds=(np.log(0.05), np.log(10.0)), method="bounded", options={"xatol": 1e-3})
    return float(np.exp(best.x)), "estimated"


def _objective(pairs: Pairs, precision: float, theta: Array) -> float:
    gap = theta[pairs.low] - theta[pairs.high]
    likelihood = pairs.score @ gap - pairs.count @ np.logaddexp(0.0, gap)
    return float(likelihood - 0.5 * precision * (theta @ theta))


def _maximise(pairs: Pairs, component: IntArray, precision: float, theta: Array) -> Array:
    value = _objective(pairs, precision, theta)
    for _ in range(100):
        p = expit(theta[pairs.low] - theta[pairs.high])
        residual = pairs.score - pairs.count * p
        gradient = (
            np.bincount(pairs.low, weights=residual, minlength=pairs.items)
            - np.bincount(pairs.high, weights=residual, minlength=pairs.items)
            - precision * theta
        )
        if pairs.items <= DENSE_ITEMS:
            step = np.linalg.solve(_information(pairs, component, precision, theta), gradient)
        else:
            step = conjugate_step(pairs, pairs.count * p * (1.0 - p), precision, gradient)
        # The log-likelihood is concave: a full step overshoots only far from the maximum.
        for _ in range(30):
            moved = theta + step
            reached = _objective(pairs, precision, moved)
            if reached >= value - 1e-9 * (1.0 + abs(value)):
                break
            step = step / 2.0
        theta, value = moved, reached
        if np.abs(step).max() < 1e-9:
            return theta
    raise FitRefused(MODEL, "not_converged", "Newton's method did not settle; give a prior (tau).")


def _information(pairs: Pairs, component: IntArray, precision: float, theta: Array) -> Array:
    """The negative second derivative; without a prior the means of components, which nothing tells, are held."""
    p = expit(theta[pairs.low] - theta[pairs.high])
    matrix = laplacian(pairs, pairs.count * p * (1.0 - p))
    if precision > 0:
        matrix[np.diag_indices(pairs.items)] += precision
        return matrix
    return np.asarray(matrix + means(component), dtype=np.float64)


def _covariance(pairs: Pairs, component: IntArray, precision: float, theta: Array, meat: Array) -> Array:
    bread = np.linalg.inv(_information(pairs, component, precision, theta))
    if precision > 0:
        meat = meat + precision * np.eye(pairs.items)
    else:
        bread = bread - means(component)
    covariance = bread @ meat @ bread
    covariance[component < 0, :] = np.nan
    covariance[:, component < 0] = np.nan
    return np.asarray((covariance + covariance.T) / 2.0, dtype=np.float64)


def _centred(theta: Array, component: IntArray, by_component: bool) -> Array:
    strength = np.where(component >= 0, theta, np.nan)
    if by_component:
        used = component >= 0
        sizes = np.maximum(np.bincount(component[used]), 1)
        strength[used] -= (np.bincount(component[used], weights=theta[used]) / sizes)[component[used]]
    return strength
