"""What people of one segment have in common: the prior that somebody with few events leans on.

    effects of person u of segment g    (q_u, c_u) ~ N(b_g, diag(σ²(1 - ρ_q), τ²(1 - ρ_c)))
    mean of the segment                 b_g = a_g - Σ n_h a_h,   a_g ~ N(0, diag(ψ_q², ψ_c²)),   ψ² B = ρ σ² (or τ²)

0 is the agent: the mean over all of its people, whose shares in the segments are n_g (those of none have a = 0). What
segments differ by is a contrast: with shares of .9 and .1 the large one lies a ninth as far from the agent as the small
one. Where all people together lie says nothing of it, and has a flat prior. B = Σ n_g - Σ n_g² is how much of ψ² shows
between people, so that the spread of all people stays what was estimated, whatever lies between segments. What each
person's events say is taken as Gaussian (a site of two dimensions: posterior over prior), which makes everything
closed-form; ψ is averaged over its posterior instead of maximised, since a handful of segments hardly tells it (Deely
& Lindley 1981; Morris 1983): the means' covariances hold that doubt as well. Its prior is flat in ψ², under which
intervals of shrunken means cover at their nominal rate whatever ψ is (Tang & Morris 2011, Stat. Sci. 26:271-298):
.94 to .96 from ψ = .15 on, .96 to .99 at 0, where a half-normal prior left .91 at ψ = .3.
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
_LEAST_BALANCE, _TINY = 1e-6, 1e-9
_NO_INFORMATION = 1e-9  # on where people lie together


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

    Args: `segment` (people,) codes from 0, -1 for people of none; `shares` (segments,) of the agent's people. Returns
    None where segments cannot be told from the agent, as when everybody is of the same one.
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
        total, mean, covariance = _given(sites, segment, shares, psi * spread, within, spread**2)
        log_weight.append(total + float(np.log(np.maximum(psi[spread > 0.0], _TINY)).sum()))
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


def _given(
    sites: Sites, segment: IntArray, shares: Array, between: Array, within: Array, of_none: Array
) -> tuple[float, Array, Array]:
    """log-likelihood of the sd between segments and the variance within them, (2,) each, and b of every segment given
    them: mean and covariance. `of_none` (2,) is the variance of people of no segment.
    """
    # ∫ N(x; b, W) exp(h'x - x'Λx/2) dx = |I + WΛ|^-½ exp(h'(W⁻¹+Λ)⁻¹h/2 + b'r - b'Jb/2), r and J below; W may be 0.
    own = np.where((segment >= 0)[:, None], within, of_none)
    spread, determinant = _inverse(np.eye(2) + sites.precision * own[:, None, :])  # (I + ΛW)⁻¹
    pull = np.einsum("uij,uj->ui", spread, sites.pull)
    gain = spread @ sites.precision
    total = 0.5 * float(np.einsum("ui,ui,ui->", sites.pull, own, pull)) - 0.5 * float(np.log(determinant).sum())
    # People of no segment are one more group, the last, which tells where people lie together and no more.
    groups, code = len(shares) + 1, np.where(segment >= 0, segment, len(shares))
    pulls = np.stack([np.bincount(code, pull[:, i], groups) for i in range(2)], axis=1)
    gains = np.empty((groups, 2, 2))
    for i in range(2):
        for j in range(2):
            gains[:, i, j] = np.bincount(code, gain[:, i, j], groups)
    # With the place m of people together integrated over, a = Ψ½z has the precision D - E T⁻¹ E' in z: D of blocks
    # I + Ψ½JΨ½, E = Ψ½J, T = ΣJ. Its inverse is D⁻¹ + F K F' with F = D⁻¹E (Woodbury 1950).
    place = gains.sum(axis=0) + _NO_INFORMATION * np.eye(2)
    centre = np.linalg.solve(place, pulls.sum(axis=0))
    total += 0.5 * float(centre @ place @ centre)
    gains, pulls = gains[:-1], pulls[:-1]
    blocks, determinant = _inverse(np.eye(2) + between[:, None] * gains * between)
    sides = blocks @ (between[:, None] * gains)
    left = place - np.einsum("gij,gjk->ik", gains * between, sides)
    kernel = np.linalg.inv(left + _NO_INFORMATION * np.eye(2))
    rest = between * (pulls - gains @ centre)
    carried = np.einsum("gji,gj->i", sides, rest)
    z = np.einsum("gij,gj->gi", blocks, rest) + sides @ (kernel @ carried)
    total += 0.5 * float((rest * z).sum()) - 0.5 * float(np.log(determinant).sum())
    total -= 0.5 * float(np.log(max(np.linalg.det(left), 1e-300)))
    # b = a - Σ n a, and its covariance from the blocks of that of z.
    whole = np.einsum("g,gij->ij", shares, sides)
    spread_of = blocks + sides @ kernel @ np.swapaxes(sides, 1, 2)
    with_all = shares[:, None, None] * blocks + sides @ kernel @ whole.T
    of_all = np.einsum("g,gij->ij", shares**2, blocks) + whole @ kernel @ whole.T
    covariance = spread_of - with_all - np.swapaxes(with_all, 1, 2) + of_all
    return total, between * (z - shares @ z), between[:, None] * covariance * between


def _inverse(matrices: Array) -> tuple[Array, Array]:
    """Inverses and determinants of (n, 2, 2): written out, as there are a hundred for every person."""
    a, b, c, d = matrices[:, 0, 0], matrices[:, 0, 1], matrices[:, 1, 0], matrices[:, 1, 1]
    determinant = np.maximum(a * d - b * c, 1e-12)
    inverse = np.stack([d, -b, -c, a], axis=1).reshape(-1, 2, 2) / determinant[:, None, None]
    return inverse, determinant
