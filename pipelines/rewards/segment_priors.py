"""What people of one segment have in common: the prior that somebody with few events leans on.

    effects of person u of segment g    (q_u, c_u) ~ N(b_g, diag(σ²(1 - ρ_q), τ²(1 - ρ_c)))
    mean of the segment                 b_g ~ N(0, diag(ψ_q², ψ_c²)),   ψ² B = ρ σ² (or τ²)

0 is the agent. B = Σ n_g - Σ n_g² over the segments' shares n_g of the agent's people is how much of ψ² shows between
people, so that the spread of all people stays what was estimated, whatever lies between segments. What each person's
events say is taken as Gaussian (a site of two dimensions: posterior over prior), which makes everything closed-form;
ψ is averaged over its posterior under a half-normal prior (Gelman 2006) instead of maximised, since a handful of
segments hardly tells it (Deely & Lindley 1981; Morris 1983): the means' covariances hold that doubt as well.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from pipelines.rewards.response_models import Array, IntArray

__all__ = ["LEAST_PEOPLE", "SegmentPriors", "Sites", "segment_priors", "sites_of", "stated_segments"]

LEAST_PEOPLE = 20
_MOST_BETWEEN = 0.85  # of the variance of people
_MOST_PSI = 3.0  # in standard deviations of people
_PSI_NODES = 10
_LEAST_BALANCE = 1e-6


@dataclass(frozen=True)
class Sites:
    """What the events of each person say of (q, c): precision (people, 2, 2) and pull = precision · location."""

    precision: Array
    pull: Array


@dataclass(frozen=True)
class SegmentPriors:
    """Per segment: mean (segments, 2) and covariance (segments, 2, 2); `within` (2,) is the sd of people around it."""

    mean: Array
    covariance: Array
    within: Array


def stated_segments(traces: pl.DataFrame) -> pl.DataFrame:
    """The segment that each known person's traces state, the latest (columns `user`, `segment`).

    `traces` with `user`, `user_id`, `segment` and `done_at`. People without an id are no people to count by.
    """
    return (
        traces.filter(pl.col("user_id").is_not_null() & pl.col("segment").is_not_null() & (pl.col("segment") != ""))
        .sort("done_at", "trace_id", nulls_last=False)
        .group_by("user")
        .agg(pl.col("segment").last())
        .sort("user")
    )


def sites_of(mean: Array, covariance: Array, prior: Array) -> Sites:
    """Posterior moments (people, 2) and (people, 2, 2) under N(0, diag(prior²)) without that prior.

    A dimension whose prior sd is 0 is known to be 0: it says nothing.
    """
    free = np.flatnonzero(prior > 0.0)
    precision, pull = np.zeros(covariance.shape), np.zeros(mean.shape)
    at = np.ix_(np.arange(len(mean)), free, free)
    inverse = np.linalg.inv(covariance[at] + 1e-9 * np.eye(len(free)))
    values, vectors = np.linalg.eigh(inverse - np.diag(prior[free] ** -2.0))
    precision[at] = (vectors * np.maximum(values, 0.0)[:, None, :]) @ np.swapaxes(vectors, 1, 2)
    pull[:, free] = np.einsum("uij,uj->ui", inverse, mean[:, free])
    return Sites(precision, pull)


def segment_priors(sites: Sites, segment: IntArray, shares: Array, spread: Array) -> SegmentPriors | None:
    """Means of the segments given the sds of all people `spread` (2,) = (σ, τ).

    Args: `segment` (people,) codes from 0; `shares` (segments,) of the agent's people. Returns None where segments
    cannot be told from the agent, as when everybody is of the same one.
    """
    balance = float(shares.sum() - (shares**2).sum())
    if balance < _LEAST_BALANCE:
        return None
    most = min(float(np.sqrt(_MOST_BETWEEN / balance)), _MOST_PSI)
    nodes = np.linspace(0.0, most, _PSI_NODES)
    tastes = nodes if spread[0] > 0.0 else nodes[:1]
    grid = np.array([(q, c) for q in tastes for c in nodes])
    log_weight, means, covariances = [], [], []
    for psi in grid:
        within = spread**2 * (1.0 - balance * psi**2)
        total, mean, covariance = _given(sites, segment, len(shares), (psi * spread) ** 2, within)
        log_weight.append(total - 0.5 * float(psi @ psi))
        means.append(mean)
        covariances.append(covariance)
    weight = np.exp(np.array(log_weight) - max(log_weight))
    weight /= weight.sum()
    stacked = np.array(means)
    mean = np.einsum("k,kgi->gi", weight, stacked)
    apart = stacked - mean
    covariance = np.einsum("k,kgij->gij", weight, np.array(covariances) + apart[..., :, None] * apart[..., None, :])
    # What the means themselves explain and no more: with ψ's share taken off, people of equal segments look too sure.
    left = np.maximum(spread**2 - shares @ mean**2, (1.0 - _MOST_BETWEEN) * spread**2)
    return SegmentPriors(mean, covariance, np.sqrt(left))


def _given(sites: Sites, segment: IntArray, segments: int, between: Array, within: Array) -> tuple[float, Array, Array]:
    """log-likelihood of the variances between and within segments (2,), and the segments' posteriors given them."""
    # ∫ N(x; b, W) exp(h'x - x'Λx/2) dx = |I + WΛ|^-½ exp(h'(W⁻¹+Λ)⁻¹h/2 + b'r - b'Jb/2), r and J below; W may be 0.
    spread, determinant = _inverse(np.eye(2) + sites.precision * within)  # (I + ΛW)⁻¹
    pull = np.einsum("uij,uj->ui", spread, sites.pull)
    gain = spread @ sites.precision
    explained = np.einsum("ui,i,ui->", sites.pull, within, pull)
    total = 0.5 * float(explained) - 0.5 * float(np.log(determinant).sum())
    pulls = np.stack([np.bincount(segment, pull[:, i], segments) for i in range(2)], axis=1)
    gains = np.empty((segments, 2, 2))
    for i in range(2):
        for j in range(2):
            gains[:, i, j] = np.bincount(segment, gain[:, i, j], segments)
    shrunk, determinant = _inverse(np.eye(2) + gains * between)
    covariance = between[:, None] * shrunk  # Ψ (I + PΨ)⁻¹ = (Ψ⁻¹ + P)⁻¹
    mean = np.einsum("gij,gj->gi", covariance, pulls)
    total += 0.5 * float((pulls * mean).sum()) - 0.5 * float(np.log(determinant).sum())
    return total, mean, covariance


def _inverse(matrices: Array) -> tuple[Array, Array]:
    """Inverses and determinants of (n, 2, 2): written out, as there are a hundred for every person."""
    a, b, c, d = matrices[:, 0, 0], matrices[:, 0, 1], matrices[:, 1, 0], matrices[:, 1, 1]
    determinant = np.maximum(a * d - b * c, 1e-12)
    inverse = np.stack([d, -b, -c, a], axis=1).reshape(-1, 2, 2) / determinant[:, None, None]
    return inverse, determinant
