"""Delayed outcomes: how long they take, and likelihoods in which a young negative is not a zero.

An outcome (a purchase) comes eventually with probability p and then after a Weibull delay. Seen at age t, a row that
has not had it yet contributes ln(1 - p F(t)), a row that had it after d contributes ln p + ln f(d) (Chapelle 2014, KDD,
"Modeling delayed feedback"; the cure model of Boag 1949). Shape, scale and p are fitted together, since delays of only
those that came are too short: slow ones are still missing. Kaplan & Meier's curve (1958, JASA 53:457-481) of the same
rows, with Greenwood's error on the log-log scale, is there to be drawn over it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit, ndtri

from pipelines.stats.contract import FitRefused, codes, numbers, within
from pipelines.stats.logistic import checked_rows, initial
from pipelines.stats.sandwich import clustered_scores, inverse, sandwich

__all__ = ["DelayFit", "DelayedLogistic", "Incidence", "fit", "fit_logistic", "kaplan_meier", "log_likelihood"]

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
MODEL = "delay distribution"
LOGISTIC = "logistic model of a delayed outcome"
MIN_EVENTS = 10


@dataclass(frozen=True)
class DelayFit:
    """Weibull delays with `shape` and `scale` (unit of the delays given) of a share `eventual` of all rows.

    `covariance` (3, 3) is that of (ln shape, ln scale, logit eventual). `events` of `rows` have happened.
    """

    shape: float
    scale: float
    eventual: float
    covariance: Array
    events: int
    rows: int

    def seen(self, age: Array) -> Array:
        """F(age): the share of eventual outcomes that have happened by `age` ≥ 0, any shape."""
        return np.asarray(-np.expm1(-((np.asarray(age, dtype=np.float64) / self.scale) ** self.shape)))

    def quantile(self, share: float) -> float:
        """The delay below which `share` (0..1) of eventual outcomes come."""
        if not 0.0 <= share < 1.0:
            raise ValueError(f"share must be at least 0 and below 1, came {share}")
        return float(self.scale * (-np.log1p(-share)) ** (1.0 / self.shape))


@dataclass(frozen=True)
class Incidence:
    """The share that has had the outcome by each `time` (distinct delays, ascending), with pointwise limits."""

    time: Array
    share: Array
    lower: Array
    upper: Array


@dataclass(frozen=True)
class DelayedLogistic:
    """Coefficients of the eventual outcome, their model and robust covariances, and the log-likelihood."""

    beta: Array
    covariance: Array
    robust_covariance: Array
    log_likelihood: float


def fit(delay: Array, age: Array) -> DelayFit:
    """Fit delays by censored maximum likelihood.

    `delay` (rows,) is the time until the outcome, NaN where it has not come; `age` (rows,) how long each row has been
    observed, at least its delay. Raises FitRefused: no_rows, not_finite, out_of_range, too_few_events (below 10, or all
    delays equal), not_converged (ages too short to tell a rare outcome from a slow one).
    """
    delay, age, happened = _checked(delay, age)
    events = int(happened.sum())
    if events < MIN_EVENTS or np.ptp(delay[happened]) == 0.0:
        raise FitRefused(
            MODEL, "too_few_events", f"{events} outcomes have come; {MIN_EVENTS} with different delays are needed."
        )
    # A delay of zero has no finite Weibull density; half the smallest positive one stands for "at once".
    positive = delay[happened & (delay > 0)]
    unit = float(np.median(positive))
    came = np.log(np.maximum(delay[happened], positive.min() / 2.0) / unit)
    waiting = np.log(np.maximum(age[~happened], 1e-12 * unit) / unit)

    def loss(parameters: Array) -> tuple[float, Array]:
        value, gradient = _weibull(parameters, came, waiting)
        return -value, -gradient

    start = np.array([0.0, 0.5, np.log(events / (delay.size - events + 1.0))])
    found = minimize(loss, start, jac=True, method="BFGS", options={"gtol": 1e-7 * delay.size, "maxiter": 500})
    parameters = np.asarray(found.x, dtype=np.float64)
    information = _differences(lambda at: -_weibull(at, came, waiting)[1], parameters)
    values = np.linalg.eigvalsh(information)
    if not np.isfinite(parameters).all() or values[0] <= 1e-9 * max(float(values[-1]), 1.0):
        raise FitRefused(
            MODEL,
            "not_converged",
            "the rows are too young to tell an outcome that comes late from one that never comes; wait for older rows.",
        )
    shape, scale = float(np.exp(parameters[0])), unit * float(np.exp(parameters[1]))
    return DelayFit(shape, scale, float(expit(parameters[2])), inverse(information), events, delay.size)


def kaplan_meier(delay: Array, age: Array, *, level: float = 0.95) -> Incidence:
    """The share with the outcome by time, without any assumption on delays; arguments and refusals as `fit`."""
    delay, age, happened = _checked(delay, age)
    time, events = np.unique(delay[happened], return_counts=True)
    until = np.sort(np.where(happened, delay, age))
    at_risk = delay.size - np.searchsorted(until, time, side="left")
    survival = np.cumprod(1.0 - events / at_risk)
    left = np.maximum(at_risk - events, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Everyone at risk had it: survival is 0 and has no log-log interval; the limits of the step before stay.
        greenwood = np.cumsum(np.where(left > 0, events / (at_risk * np.maximum(left, 1)), 0.0))
        error = np.sqrt(greenwood) / np.abs(np.log(survival))
        factor = np.exp(float(ndtri(0.5 + level / 2.0)) * error)
        upper, lower = 1.0 - survival**factor, 1.0 - survival ** (1.0 / factor)
    gone = survival <= 0.0
    return Incidence(
        time,
        np.asarray(1.0 - survival, dtype=np.float64),
        np.where(gone, 0.0, lower),
        np.where(gone, 1.0, upper),
    )


def log_likelihood(eta: Array, response: Array, seen: Array) -> tuple[Array, Array, Array]:
    """Per row y ln p + (1-y) ln(1 - p F), p = s(eta), F = `seen` in 0..1, and its two derivatives in eta; any shape.

    A young negative (F near 0) contributes nothing; with F = 1 this is the Bernoulli log-likelihood.
    """
    p = expit(eta)
    # 1 - pF = (1-p) + p(1-F), both parts positive: no cancellation near p = 1.
    rest = expit(-eta) + p * (1.0 - seen)
    share = seen * p * expit(-eta) / np.maximum(rest, 1e-300)
    missing = np.log(np.maximum(rest, 1e-300))
    value = response * log_expit(eta) + (1.0 - response) * missing
    gradient = response * (1.0 - p) - (1.0 - response) * share
    # d/dη [F p(1-p)/(1-pF)] = share (1 - 2p) + share²
    curvature = -response * p * (1.0 - p) - (1.0 - response) * (share * (1.0 - 2.0 * p) + share**2)
    return value, gradient, curvature


def fit_logistic(
    response: Array,
    design: Array,
    seen: Array,
    *,
    users: IntArray | None = None,
    offset: Array | None = None,
    weight: Array | None = None,
) -> DelayedLogistic:
    """Logistic regression of an outcome that may still come.

    `response` (rows,) 0/1, `design` (rows, p) with its own column of ones, `seen` (rows,) F(age) in 0..1 of each row,
    `users` codes for the clustered covariance. Raises FitRefused: no_rows, not_finite, out_of_range,
    constant_response, collinear, separation, one_user, not_converged.
    """
    rows = checked_rows(LOGISTIC, response, design, weight=weight, offset=offset, names=None)
    seen = numbers(LOGISTIC, "shares seen", seen, (rows.count,))
    within(LOGISTIC, "shares seen", seen, 0.0, 1.0)
    who = None if users is None else np.unique(codes(LOGISTIC, "users", users, rows.count), return_inverse=True)[1]
    if who is not None and who.max() == 0:
        raise FitRefused(LOGISTIC, "one_user", "all rows are one user's, so the spread between users is unknown.")
    beta = initial(LOGISTIC, rows)
    value, slope, bend = log_likelihood(rows.offset + rows.design @ beta, rows.response, seen)
    total = float(rows.weight @ value)
    for _ in range(60):
        gradient = rows.design.T @ (rows.weight * slope)
        information = -rows.design.T @ (rows.design * (rows.weight * bend)[:, None])
        values, vectors = np.linalg.eigh(information)
        bent = np.maximum(np.abs(values), 1e-10 * max(float(np.abs(values).max()), 1e-300))
        step = vectors @ ((vectors.T @ gradient) / bent)
        step *= min(1.0, 4.0 / max(float(np.abs(step).max(initial=0.0)), 1e-300))
        if float(gradient @ step) < 1e-12 * (1.0 + rows.count * 1e-3):
            break
        for _ in range(30):
            moved = beta + step
            value, slope, bend = log_likelihood(rows.offset + rows.design @ moved, rows.response, seen)
            reached = float(rows.weight @ value)
            if reached >= total - 1e-10 * (1.0 + abs(total)):
                break
            step = step / 2.0
        beta, total = moved, reached
    else:
        raise FitRefused(
            LOGISTIC, "not_converged", "the outcomes seen so far have no finite maximum; wait for older rows."
        )
    bread = inverse(information)
    scores = rows.design * (rows.weight * slope)[:, None]
    return DelayedLogistic(beta, bread, sandwich(bread, clustered_scores(scores, who)), total)


def _checked(delay: Array, age: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
    delay = np.asarray(delay, dtype=np.float64)
    if delay.ndim != 1 or delay.size == 0:
        raise FitRefused(MODEL, "no_rows", "there are no rows; collect some first.")
    age = numbers(MODEL, "ages", age, delay.shape)
    within(MODEL, "ages", age, 0.0, np.inf)
    happened = ~np.isnan(delay)
    if not happened.any():
        raise FitRefused(MODEL, "too_few_events", f"none of {delay.size} rows has had the outcome.")
    known = numbers(MODEL, "delays", delay[happened])
    within(MODEL, "delays", known, 0.0, np.inf)
    if np.any(known > age[happened] * (1.0 + 1e-9)):
        raise FitRefused(MODEL, "out_of_range", "a delay is longer than its row has been observed.")
    return delay, age, happened


def _weibull(parameters: Array, came: Array, waiting: Array) -> tuple[float, Array]:
    """Log-likelihood and gradient in (ln k, ln λ, logit p); `came` log delays and `waiting` log ages, in one unit."""
    k = np.exp(np.clip(parameters[0], -5.0, 5.0))
    scale, eta = parameters[1], parameters[2]
    p, q = expit(eta), expit(-eta)
    with np.errstate(over="ignore"):
        x = k * (came - scale)
        hazard = np.exp(np.minimum(x, 700.0))
        y = k * (waiting - scale)
        wait = np.exp(np.minimum(y, 700.0))
    late = np.exp(-wait)  # 1 - F(age)
    rest = q + p * late
    value = came.size * (log_expit(eta) + np.log(k)) + np.sum(x - came) - hazard.sum() + np.log(rest).sum()
    # d rest / d y = -p late wait
    pull = p * late * wait / rest
    by_k = came.size + np.sum(x * (1.0 - hazard)) - np.sum(pull * y)
    by_scale = -k * np.sum(1.0 - hazard) + k * pull.sum()
    by_eta = came.size * q - np.sum(p * q * (1.0 - late) / rest)
    return float(value), np.array([by_k, by_scale, by_eta])


def _differences(gradient: Callable[[Array], Array], at: Array) -> Array:
    """The symmetric matrix of central differences of a gradient."""
    step = 1e-5
    columns = [(gradient(at + step * unit) - gradient(at - step * unit)) / (2.0 * step) for unit in np.eye(at.size)]
    matrix = np.stack(columns)
    return np.asarray((matrix + matrix.T) / 2.0, dtype=np.float64)
