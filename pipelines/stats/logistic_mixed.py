"""Logistic regression with one random intercept per user, by adaptive Gauss-Hermite quadrature over all users at once.

logit P(y_i = 1) = x_i'β + offset_i + σ z_u with z_u ~ N(0, 1), integrated with K = 9 nodes a user (gauss_hermite.py);
unlike the Laplace approximation that is accurate for users with a handful of events (METHODS §3). Newton's method on
the observed information, which may bend the wrong way far from the maximum, with step halving. Responses may lie
between 0 and 1 and rows may carry weights (a tempered or repeated row); then the likelihood is a quasi-likelihood and
the clustered sandwich is the covariance to use.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from pipelines.stats.contract import FitRefused, codes, numbers
from pipelines.stats.gauss_hermite import Marginal, Moments
from pipelines.stats.logistic import checked_rows, initial
from pipelines.stats.sandwich import inverse, sandwich

__all__ = ["MixedFit", "fit", "posterior"]

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
MODEL = "logistic model with user intercepts"
NODES = 9
PILOT_USERS = 20_000  # with more, starting values come from every k-th user
NO_SPREAD = 1e-2  # an sd below is reported as 0: the likelihood is flat there
RUNAWAY_SD = 20.0
WALD_BELOW = 0.2  # relative error of sd up to which Wald on ln sd is as good as the profile likelihood
Z95 = 1.959963984540054


@dataclass(frozen=True)
class MixedFit:
    """A fitted model; `beta` has shape (p,), `user_*` (n_users,), covariances (p, p).

    `covariance` of beta is from the observed information, `robust_covariance` the sandwich clustered by user. `sd` is
    that of the intercepts, with its standard error (NaN when given or 0) and 95 % interval (Wald on ln sd where
    precise, else profile likelihood; the lower limit may be 0). `user_mean` and `user_sd` are each intercept's
    posterior, given beta and sd; users without rows have 0 and `sd`. `note` is no_spread (users do not differ
    detectably), sd_given, or None.
    """

    beta: Array
    covariance: Array
    robust_covariance: Array
    sd: float
    sd_error: float
    sd_lower: float
    sd_upper: float
    user_mean: Array
    user_sd: Array
    log_likelihood: float
    rows: int
    users: int
    note: str | None


def fit(
    response: Array,
    design: Array,
    users: IntArray,
    *,
    n_users: int | None = None,
    weight: Array | None = None,
    offset: Array | None = None,
    sd: float | None = None,
    nodes: int = NODES,
    names: Sequence[str] | None = None,
) -> MixedFit:
    """Fit by maximum likelihood.

    `response` (rows,) in 0..1, `design` (rows, p) with its own column of ones, `users` (rows,) codes below `n_users`
    (default: the largest code + 1), `weight` (rows,) ≥ 0, `offset` (rows,) on the logit scale. `sd`, when given, is
    kept. `names` of the columns appear in refusals. Raises FitRefused: no_rows, not_finite, out_of_range,
    constant_response, one_user, single_events (no user has two events, so sd is not identified: pass it), collinear,
    separation, not_converged.
    """
    rows = checked_rows(MODEL, response, design, weight=weight, offset=offset, names=names)
    users = codes(MODEL, "users", users, rows.count, n_users)
    present, who = np.unique(users, return_inverse=True)
    total = int(present[-1]) + 1 if n_users is None else n_users
    if sd is None:
        if present.size < 2:
            raise FitRefused(MODEL, "one_user", "all rows are of one user, so how users differ cannot be known.")
        if present.size == rows.count and rows.weight.max() <= 1.0:
            raise FitRefused(MODEL, "single_events", "no user has two events; give the sd of users' intercepts.")
    elif not (np.isfinite(sd) and sd >= 0):
        raise ValueError(f"sd must be finite and at least 0, came {sd}")
    beta = initial(MODEL, rows)
    model = Marginal(rows, who, present.size, nodes)
    parameters = np.append(beta, 1.0 if sd is None else sd)
    free = np.arange(parameters.size - (sd is not None))
    if sd is None and present.size > PILOT_USERS:
        parameters = _pilot(model.pilot(present.size // (PILOT_USERS // 4)), parameters, free)
    parameters, moments = _maximise(model, parameters, free)
    found = abs(float(parameters[-1]))
    error, lower, upper = np.nan, found, found
    note: str | None = "sd_given"
    if sd is None:
        error, lower, upper, problem = _spread(model, parameters, moments)
        note = problem
        if problem is not None:
            found = 0.0
            parameters, moments = _maximise(model, np.append(parameters[:-1], 0.0), free[:-1])
            free = free[:-1]
    bread = inverse(moments.information[np.ix_(free, free)])
    p = beta.size
    robust = sandwich(bread, moments.scores[:, free])
    mean, spread = np.zeros(total), np.full(total, found)
    sign = np.sign(parameters[-1])
    mean[present] = sign * found * moments.mean
    spread[present] = found * np.sqrt(moments.variance)
    return MixedFit(
        parameters[:p], bread[:p, :p], robust[:p, :p], found, error, lower, upper, mean, spread,
        moments.value, rows.count, int(present.size), note,
    )  # fmt: skip


def posterior(
    beta: Array,
    sd: float,
    response: Array,
    design: Array,
    users: IntArray,
    *,
    n_users: int | None = None,
    weight: Array | None = None,
    offset: Array | None = None,
    nodes: int = NODES,
) -> tuple[Array, Array]:
    """Posterior mean and sd of each user's intercept under known `beta` and `sd` (the update between two fits).

    Shapes as in `fit`; both results have shape (n_users,). Raises FitRefused: no_rows, not_finite, out_of_range.
    """
    rows = checked_rows(MODEL, response, design, weight=weight, offset=offset, names=None, fitted=False)
    users = codes(MODEL, "users", users, rows.count, n_users)
    beta = numbers(MODEL, "coefficients", beta, (rows.design.shape[1],))
    present, who = np.unique(users, return_inverse=True)
    total = int(present[-1]) + 1 if n_users is None else n_users
    mean, spread = np.zeros(total), np.full(total, float(sd))
    moments = Marginal(rows, who, present.size, nodes).moments(np.append(beta, sd), np.zeros(present.size))
    mean[present], spread[present] = sd * moments.mean, sd * np.sqrt(moments.variance)
    return mean, spread


def _pilot(model: "Marginal", parameters: Array, free: IntArray) -> Array:
    """Starting values from fewer users; a part that cannot be fitted says nothing about the whole."""
    try:
        return _maximise(model, parameters, free)[0]
    except FitRefused:
        return parameters


def _maximise(model: Marginal, parameters: Array, free: IntArray) -> tuple[Array, Moments]:
    """Newton's method on the `free` parameters with step halving; the others keep their value."""
    moments = model.moments(parameters, np.zeros(model.count))
    for _ in range(60):
        gradient = moments.scores.sum(axis=0)[free]
        values, vectors = np.linalg.eigh(moments.information[np.ix_(free, free)])
        # Away from the maximum the surface can bend the other way; its absolute curvature still climbs.
        bent = np.maximum(np.abs(values), 1e-8 * max(float(np.abs(values).max()), 1e-300))
        step = vectors @ ((vectors.T @ gradient) / bent)
        step *= min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-300))
        for _ in range(30):
            moved = parameters.copy()
            moved[free] += step
            reached = model.moments(moved, moments.mode)
            if reached.value >= moments.value - 1e-9 * (1.0 + abs(moments.value)):
                break
            step = step / 2.0
        parameters, moments = moved, reached
        if abs(parameters[-1]) > RUNAWAY_SD:
            raise FitRefused(
                MODEL, "separation", "each user always answers the same, so users' spread has no finite estimate."
            )
        if np.abs(step).max() < 1e-6 or float(gradient @ step) < 1e-10:
            return parameters, moments
    raise FitRefused(MODEL, "not_converged", "the likelihood has no maximum that could be found.")


def _spread(model: Marginal, parameters: Array, moments: Moments) -> tuple[float, float, float, str | None]:
    """Standard error and 95 % interval of sd, and a note; the profile likelihood where Wald's would be rough."""
    sd = abs(float(parameters[-1]))
    p = parameters.size - 1
    fixed = np.arange(p)

    def profile(value: float) -> float:
        """2 x how much the likelihood falls when sd is `value`, minus the χ²₁ quantile."""
        held = _maximise(model, np.append(parameters[:-1], value), fixed)[1].value
        return 2.0 * (moments.value - held) - Z95**2

    if sd < NO_SPREAD:
        error, note = np.nan, "no_spread"
    else:
        error, note = float(np.sqrt(inverse(moments.information)[p, p])), None
        if error < WALD_BELOW * sd:
            factor = float(np.exp(Z95 * error / sd))
            return error, sd / factor, sd * factor, note
    lower = 0.0
    if note is None and profile(0.0) > 0.0:
        lower = float(brentq(profile, 0.0, sd, xtol=1e-3))
    beyond = sd + 0.5
    while profile(beyond) < 0.0:
        beyond *= 2.0
        if beyond > RUNAWAY_SD:
            return error, lower, np.inf, note
    return error, lower, float(brentq(profile, sd, beyond, xtol=1e-3)), note
