"""What people weigh when they choose among the options shown: conditional logit with an outside option, per user too.

P(option a of a shown set is chosen) ∝ exp(w'φ_a); the outside option ("ignore") has features zero and a constant of its
own (McFadden 1974, in Frontiers in Econometrics, 105-142). One-step inverse reinforcement learning is this model
(METHODS §3): its scale is fixed by the noise of choices, so ratios of weights and contrasts are what can be read.

Per-user weights are w_u ~ N(μ, Σ): each user's mode and curvature by batched Newton steps, μ and Σ by EM on those
(Laplace empirical Bayes). The Laplace approximation is too sure for users with few choices (METHODS §3, measured), so
below a median of 30 choices the posterior sds are widened by 1.15.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.stats.choice_sets import MODEL, Choices, checked, per_set, require_identified, shares
from pipelines.stats.contract import FitRefused, codes, numbers
from pipelines.stats.sandwich import clustered_scores, inverse, sandwich

__all__ = ["ChoiceFit", "UserWeights", "fit", "pool", "probabilities"]

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
ENOUGH_CHOICES = 30
INFLATION = 1.15


@dataclass(frozen=True)
class ChoiceFit:
    """Population weights (d,), or (d + 1,) with the constant of the outside option last, and their covariances.

    `covariance` is the inverse information, `robust_covariance` the sandwich clustered by user (by set without users).
    `null_log_likelihood` is that of weights all zero.
    """

    weights: Array
    covariance: Array
    robust_covariance: Array
    log_likelihood: float
    null_log_likelihood: float
    sets: int
    users: int | None
    outside: bool


@dataclass(frozen=True)
class UserWeights:
    """Weights of users around a population; d counts the outside option's constant when there is one.

    `mean` (d,) with `mean_covariance`, `between` (d, d) the covariance of users, `weights` (n_users, d) with
    `covariance` (n_users, d, d), `choices` (n_users,). Users without choices have the population's mean and spread.
    `inflation` is the factor already applied to the users' posterior sds.
    """

    mean: Array
    mean_covariance: Array
    between: Array
    weights: Array
    covariance: Array
    choices: IntArray
    inflation: float
    outside: bool
    iterations: int


def fit(
    features: Array,
    sets: IntArray,
    chosen: BoolArray,
    *,
    users: IntArray | None = None,
    weight: Array | None = None,
    outside: bool = True,
    names: Sequence[str] | None = None,
) -> ChoiceFit:
    """Fit one weight per feature by Newton's method from one row per option shown.

    `features` (rows, d); `sets` (rows,) codes of the shown sets; `chosen` (rows,), at most one in a set, none is the
    outside option; `users` codes and `weight` (rows,), the same throughout a set. With `outside=False` a set without a
    choice is refused. Raises FitRefused: no_rows, not_finite, out_of_range, no_choice, many_chosen, constant_response
    (always or never the outside option), not_identified (a feature that is the same for all options), separation.
    """
    choices = checked(features, sets, chosen, users, weight, outside, names)
    require_identified(choices)
    weights, value, information = _newton(choices)
    bread = inverse(information)
    scores = _set_scores(choices, weights)
    robust = sandwich(bread, clustered_scores(scores, None if users is None else choices.user))
    null = shares(choices, np.zeros((1, weights.size)), False)[0]
    return ChoiceFit(
        weights,
        bread,
        robust,
        value,
        float(null @ choices.weight),
        choices.starts.size,
        None if users is None else choices.users.size,
        outside,
    )


def pool(
    features: Array,
    sets: IntArray,
    chosen: BoolArray,
    users: IntArray,
    *,
    n_users: int | None = None,
    outside: bool = True,
    names: Sequence[str] | None = None,
    iterations: int = 200,
) -> UserWeights:
    """Fit each user's weights, pooled towards the population; arguments as `fit`, `n_users` above all codes.

    EM runs until the population moves by less than 1e-4, at most `iterations` times. Raises FitRefused as `fit`, and
    one_user.
    """
    codes(MODEL, "users", users, len(features), n_users)
    choices = checked(features, sets, chosen, users, None, outside, names)
    count = choices.users.size
    if count < 2:
        raise FitRefused(MODEL, "one_user", "all choices are by one user; fit the population model instead.")
    require_identified(choices)
    mean = _newton(choices)[0]
    d = mean.size
    between = np.diag(np.maximum(0.25 * mean**2, 0.05))
    at = _per_user(choices, np.tile(mean, (count, 1)))
    done, moved = 0, np.inf
    while done < iterations and moved > 1e-4:
        done += 1
        # One Newton step an iteration: the modes follow the population as it settles.
        precision = np.linalg.inv(between)
        at = _climb(choices, at, mean, precision, 1)
        centre = at.weights.mean(axis=0)
        gap = at.weights - centre
        spread = gap.T @ gap / count + np.linalg.inv(at.information + precision).mean(axis=0)
        moved = max(
            float(np.abs(centre - mean).max()),
            float(np.abs(spread - between).max() / max(float(np.abs(between).max()), 1e-12)),
        )
        mean, between = centre, (spread + spread.T) / 2.0 + 1e-9 * np.eye(d)
    precision = np.linalg.inv(between)
    at = _climb(choices, at, mean, precision, 30)
    weights, covariance = at.weights, np.linalg.inv(at.information + precision)
    per_user = np.bincount(choices.user, minlength=count)
    inflation = INFLATION if float(np.median(per_user)) < ENOUGH_CHOICES else 1.0
    total = int(choices.users[-1]) + 1 if n_users is None else n_users
    all_weights, all_covariance = np.tile(mean, (total, 1)), np.tile(between, (total, 1, 1))
    all_weights[choices.users], all_covariance[choices.users] = weights, covariance * inflation**2
    every = np.zeros(total, dtype=np.int64)
    every[choices.users] = per_user
    # What users' own data say about the mean: Σ (Σ_between + information_u⁻¹)⁻¹, and posterior covariance
    # C = (Σ⁻¹ + J)⁻¹ gives (Σ + J⁻¹)⁻¹ = Σ⁻¹ - Σ⁻¹ C Σ⁻¹ without inverting a singular J.
    told = count * precision - precision @ covariance.sum(axis=0) @ precision
    return UserWeights(
        mean,
        np.linalg.pinv((told + told.T) / 2.0),
        between,
        all_weights,
        all_covariance,
        every,
        inflation,
        outside,
        done,
    )


def probabilities(weights: Array, features: Array, sets: IntArray, *, outside: bool = True) -> Array:
    """P(each option is chosen), shape (rows,); what a set lacks to 1 is the outside option.

    `weights` is (d,) or one row per option (rows, d), with the outside option's constant last when `outside`.
    """
    features = numbers(MODEL, "features", features)
    rows, d = features.shape
    weights = np.broadcast_to(numbers(MODEL, "weights", weights), (rows, d + outside))
    group = np.unique(codes(MODEL, "sets", sets, rows), return_inverse=True)[1]
    if rows == 0:
        return np.empty(0)
    utility = np.einsum("rd,rd->r", features, weights[:, :d])
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    top = np.maximum.reduceat(utility[order], starts)
    ignored = weights[order][starts, d] if outside else np.full(starts.size, -np.inf)
    top = np.maximum(top, ignored)
    strength = np.exp(utility - top[group])
    total = np.bincount(group, weights=strength) + np.exp(ignored - top)
    return np.asarray(strength / total[group], dtype=np.float64)


def _set_scores(choices: Choices, weights: Array) -> Array:
    """The score of each set, shape (sets, d)."""
    _, p, ignored = shares(choices, weights[None, :], False)
    surprise = choices.chosen - p
    d = choices.features.shape[1]
    scores = np.empty((choices.starts.size, weights.size))
    for j in range(d):
        scores[:, j] = np.add.reduceat(surprise * choices.features[:, j], choices.starts)
    if choices.outside:
        scores[:, d] = choices.observed[d] - ignored
    return scores * choices.weight[:, None]


def _newton(choices: Choices) -> tuple[Array, float, Array]:
    """Weights, log-likelihood and information at the maximum. Raises FitRefused (separation)."""
    weights = np.zeros((1, choices.features.shape[1] + choices.outside))
    reach = np.append(np.abs(choices.features).max(axis=0), [1.0] * choices.outside)
    value, gradient, information = per_set(choices, weights, False)
    total = float(value @ choices.weight)
    for _ in range(40):
        try:
            step = np.linalg.solve(information[0], gradient[0])
        except np.linalg.LinAlgError:
            break
        for _ in range(30):
            moved = weights + step
            value, gradient, information = per_set(choices, moved, False)
            reached = float(value @ choices.weight)
            if reached >= total - 1e-9 * (1.0 + abs(total)):
                break
            step = step / 2.0
        weights, total = moved, reached
        if np.all(np.abs(step) * reach < 1e-8):
            return weights[0], total, information[0]
    names = (*choices.names, *(("outside option",) if choices.outside else ()))
    worst = names[int(np.argmax(np.abs(weights[0]) * reach))]
    raise FitRefused(
        MODEL, "separation", f"{worst} tells every choice without error, so its weight has no finite estimate."
    )


@dataclass(frozen=True)
class _PerUser:
    """Users' weights, and the likelihood of their own choices there with its gradient and information."""

    weights: Array
    value: Array
    gradient: Array
    information: Array


def _per_user(choices: Choices, weights: Array) -> _PerUser:
    value, gradient, information = per_set(choices, weights, True)
    by_user = np.bincount(choices.user, value, minlength=weights.shape[0]).astype(np.float64)
    return _PerUser(weights, by_user, gradient, information)


def _climb(choices: Choices, at: _PerUser, mean: Array, precision: Array, steps: int) -> _PerUser:
    """Up to `steps` Newton steps of every user towards the mode under N(mean, precision⁻¹), halved where too long."""

    def objective(state: _PerUser) -> Array:
        gap = state.weights - mean
        return np.asarray(state.value - 0.5 * np.einsum("ud,ud->u", gap, gap @ precision), dtype=np.float64)

    before = objective(at)
    for _ in range(steps):
        slope = at.gradient - (at.weights - mean) @ precision
        step = np.linalg.solve(at.information + precision, slope[:, :, None])[:, :, 0]
        for _ in range(20):
            moved = _per_user(choices, at.weights + step)
            after = objective(moved)
            worse = after < before - 1e-9 * (1.0 + np.abs(before))
            if not worse.any():
                break
            step[worse] /= 2.0
        at, before = moved, after
        if np.abs(step).max() < 1e-5:
            break
    return at
