"""From the latent quality to the reward: the probability that the person would be satisfied, calibrated and measured.

    reward mean = E[s(a + b theta)],  theta ~ N(m, v),  s(x) = 1 / (1 + exp(-x))

a and b are Platt's (1999): fitted by maximum likelihood to what people answered who were asked at random, from
predictions that have not seen those answers, with a normal prior around a = 0, b = 1, which is what the measurement
model itself says. The average over theta is by Gauss-Hermite quadrature (15 nodes).

Metrics are on labels that the predictions have not seen, with 95 % intervals by a bootstrap over people (Field & Welsh
2007): traces of one person depend on each other.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, ndtr, stdtrit, xlogy
from scipy.stats import rankdata

from pipelines.stats.proportion import wilson_interval
from store.reward_versions import BINS, METRICS

__all__ = ["LEAST_LABELS", "Link", "crossfit_link", "fit_link", "measure", "reliability", "reward_moments"]

Floats = NDArray[np.float64]

LEAST_LABELS = 50
_PRIOR_SD = (0.5, 0.25)  # of a and of b
_NODES, _NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(15)
_RESAMPLES = 300
_PER_BIN = 40
_MOST_BINS = 10


@dataclass(frozen=True)
class Link:
    """Platt's a and b with their standard deviations, the labels they rest on and what those are."""

    intercept: float
    slope: float
    intercept_sd: float
    slope_sd: float
    labels: int
    basis: str


UNCALIBRATED = Link(0.0, 1.0, _PRIOR_SD[0], _PRIOR_SD[1], 0, "prior")


def reward_moments(mean: Floats, variance: Floats, link: Link) -> tuple[Floats, Floats]:
    """Mean and standard deviation of s(a + b theta) for theta ~ N(mean, variance), one per trace."""
    spread = np.sqrt(np.maximum(variance, 0.0))
    first, second = np.zeros(len(mean)), np.zeros(len(mean))
    weights = _NODE_WEIGHTS / _NODE_WEIGHTS.sum()
    for node, weight in zip(_NODES.tolist(), weights.tolist(), strict=True):
        p = expit(link.intercept + link.slope * (mean + node * spread))
        first += weight * p
        second += weight * p * p
    return np.clip(first, 0.0, 1.0), np.sqrt(np.maximum(second - first**2, 0.0))


def fit_link(mean: Floats, variance: Floats, labels: Floats, basis: str, weight: Floats | None = None) -> Link:
    """Platt's a and b from predictions (mean, variance) that have not seen their `labels` (0 to 1).

    `weight`: one over the probability of having been asked, up to scale. With fewer than `LEAST_LABELS` labels nothing
    is fitted and the link is the prior's.
    """
    if len(labels) < LEAST_LABELS:
        return UNCALIBRATED
    weight = np.ones(len(labels)) if weight is None else weight / weight.mean()

    def loss(at: Floats) -> float:
        p = np.clip(reward_moments(mean, variance, Link(at[0], at[1], 0.0, 0.0, 0, ""))[0], 1e-9, 1 - 1e-9)
        fit = -(weight * (xlogy(labels, p) + xlogy(1.0 - labels, 1.0 - p))).sum()
        return float(fit + 0.5 * (at[0] / _PRIOR_SD[0]) ** 2 + 0.5 * ((at[1] - 1.0) / _PRIOR_SD[1]) ** 2)

    found = minimize(loss, np.array([0.0, 1.0]), method="L-BFGS-B", bounds=[(-4.0, 4.0), (0.05, 4.0)])
    sds = np.sqrt(np.maximum(np.diag(np.linalg.pinv(_hessian(loss, found.x))), 0.0))
    return Link(float(found.x[0]), float(found.x[1]), float(sds[0]), float(sds[1]), len(labels), basis)


def crossfit_link(mean: Floats, variance: Floats, labels: Floats, basis: str, fold: NDArray[np.int64]) -> Floats:
    """Calibrated predictions in which nobody's answers calibrate their own: one link per fold, fitted on the others."""
    predicted = np.empty(len(labels))
    for number in np.unique(fold).tolist():
        test = fold == number
        link = fit_link(mean[~test], variance[~test], labels[~test], basis)
        predicted[test] = reward_moments(mean[test], variance[test], link)[0]
    return predicted


def measure(
    predicted: Floats, labels: Floats, users: pl.Series, held_out: str, basis: str, rng: np.random.Generator
) -> pl.DataFrame:
    """Brier score, log loss, expected calibration error and Spearman's rho with their intervals (columns METRICS).

    Lower is better but for Spearman's rho. Rho is left out where predictions or labels are constant; nothing is given
    without labels.
    """
    n = len(labels)
    if n == 0:
        return pl.DataFrame(schema=METRICS)
    p = np.clip(predicted, 1e-6, 1.0 - 1e-6)
    per_trace = {
        "brier": (p - labels) ** 2,
        "log_loss": -(xlogy(labels, p) + xlogy(1.0 - labels, 1.0 - p)),
    }
    bins = _bins(p)
    lone = pl.lit("row ") + pl.int_range(n, eager=True).cast(pl.String)
    cluster = pl.select(pl.coalesce(users.cast(pl.String), lone).rank("dense") - 1).to_series().to_numpy()
    clusters = int(cluster.max()) + 1
    ranks = None
    if np.ptp(p) > 0 and np.ptp(labels) > 0:
        ranks = rankdata(p), rankdata(labels)

    def all_of(weight: Floats) -> dict[str, float]:
        total = weight.sum()
        found = {name: float((weight * values).sum() / total) for name, values in per_trace.items()}
        found["ece"] = _calibration_error(p, labels, bins, weight)
        if ranks is not None:
            found["spearman"] = _correlation(*ranks, weight)
        return found

    point = all_of(np.ones(n))
    draws: dict[str, list[float]] = {name: [] for name in point}
    if clusters >= 10:
        for _ in range(_RESAMPLES):
            times = np.bincount(rng.integers(clusters, size=clusters), minlength=clusters)
            for name, value in all_of(times[cluster].astype(float)).items():
                draws[name].append(value)
    # Resampled means of few clusters spread too little: the expanded percentile interval (Hesterberg 2015).
    tail = float(ndtr(-np.sqrt(clusters / max(clusters - 1.0, 1.0)) * stdtrit(max(clusters - 1.0, 1.0), 0.975)))
    rows = []
    for name, value in point.items():
        known = [draw for draw in draws[name] if np.isfinite(draw)]
        lower, upper = np.quantile(known, [tail, 1.0 - tail]).tolist() if known else (None, None)
        if np.isfinite(value):
            rows.append((held_out, name, value, lower, upper, n, clusters, basis))
    return pl.DataFrame(rows, schema=METRICS, orient="row")


def reliability(predicted: Floats, labels: Floats, held_out: str, basis: str) -> pl.DataFrame:
    """The reliability diagram (columns BINS): equally full bins of predictions against what people said (Wilson)."""
    if len(labels) == 0:
        return pl.DataFrame(schema=BINS)
    bins = _bins(predicted)
    rows = []
    for number in range(int(bins.max()) + 1):
        own = bins == number
        n = int(own.sum())
        # Ratings between 0 and 1 count as that share of a yes.
        said = wilson_interval(round(float(labels[own].sum())), n)
        observed = float(labels[own].mean())
        rows.append(
            (held_out, number, float(predicted[own].mean()), observed, min(said.lower, observed),
             max(said.upper, observed), n, basis)
        )  # fmt: skip
    return pl.DataFrame(rows, schema=BINS, orient="row")


def _bins(predicted: Floats) -> NDArray[np.int64]:
    """Equally full bins of at least `_PER_BIN` predictions, at most `_MOST_BINS` of them."""
    count = int(np.clip(len(predicted) // _PER_BIN, 1, _MOST_BINS))
    ranks = np.argsort(np.argsort(predicted, kind="stable"), kind="stable")
    return np.asarray(ranks * count // len(predicted), dtype=np.int64)


def _calibration_error(p: Floats, labels: Floats, bins: NDArray[np.int64], weight: Floats) -> float:
    gap = np.bincount(bins, weight * (p - labels))
    return float(np.abs(gap).sum() / weight.sum())


def _correlation(x: Floats, y: Floats, weight: Floats) -> float:
    total = weight.sum()
    x, y = x - (weight * x).sum() / total, y - (weight * y).sum() / total
    denominator = np.sqrt((weight * x * x).sum() * (weight * y * y).sum())
    return float((weight * x * y).sum() / denominator) if denominator > 0 else float("nan")


def _hessian(loss: object, at: Floats, step: float = 1e-3) -> Floats:
    """Second differences of a function of two numbers."""
    assert callable(loss)
    eye = np.eye(2) * step
    hessian = np.empty((2, 2))
    for i in range(2):
        for j in range(2):
            hessian[i, j] = (
                loss(at + eye[i] + eye[j]) - loss(at + eye[i] - eye[j])
                - loss(at - eye[i] + eye[j]) + loss(at - eye[i] - eye[j])
            ) / (4 * step * step)  # fmt: skip
    return hessian
