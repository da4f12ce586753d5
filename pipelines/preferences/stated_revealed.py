"""What people say against what they do: one direction of weights from their goals, one from their choices.

Scales are not comparable, directions are: both are divided by their length. With w_S and w_R the unit vectors, m the
direction half-way and B an orthonormal basis of what is perpendicular to m,

    D = (w_R - w_S)'B [B'(V_R + V_S)B]^-1 B'(w_R - w_S),  chi-squared with d - 1 degrees of freedom when they agree

(METHODS §3), V by the delta method from the posteriors of both sides, each shrunk towards the person's segment
(empirical Bayes). A person contradicts themselves when D is significant after Benjamini-Hochberg over all people
compared and the angle is above 20 degrees, so that a certain but idle difference is not reported.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import chi2

from pipelines.stats.false_discovery import adjust

__all__ = [
    "FALSE_DISCOVERY", "LEAST_ANGLE", "LEAST_LISTS", "LEAST_STATEMENTS", "Direction", "Stated", "Tested", "decide",
    "directions", "shrink", "test",
]  # fmt: skip

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

LEAST_LISTS: Final = 30  # lists a person was shown
LEAST_STATEMENTS: Final = 10  # values they stated, over all features
LEAST_ANGLE: Final = 20.0  # degrees
FALSE_DISCOVERY: Final = 0.05

_CHANGED: Final = 0.001  # p-value below which a person's goals count as changed over time
_ROUNDS: Final = 200
_DRAWS: Final = 400
_UNSTATED: Final = 1e4  # error variance of a feature that a person stated nothing about
_SINGLE_RELIABILITY: Final = 0.75  # assumed share of true variance where nobody stated anything twice


@dataclass(frozen=True)
class Stated:
    """What people say they value: (users, d) posterior means, their covariances, values stated, and the population.

    `error` is the standard deviation of one statement per feature; `assumed` says that it could not be estimated.
    """

    user_ids: list[str]
    features: list[str]
    weights: Floats
    covariance: Floats
    statements: Ints
    mean: Floats  # (segments, d)
    mean_covariance: Floats  # (segments, d, d)
    spread: Floats  # (segments, d, d)
    segment: Ints
    codes: list[int]  # what the codes of `segment` were in `segment_of`; the highest may be of people in none
    error: Floats
    assumed: bool
    changed: Bools  # (users,) whose statements differ between times by more than their error


@dataclass(frozen=True)
class Direction:
    """Unit vectors (n, d) and their covariances (n, d, d)."""

    unit: Floats
    covariance: Floats


@dataclass(frozen=True)
class Tested:
    """Per comparison: the angle in degrees with its 95 % interval, D and its p-value."""

    angle: Floats
    lower: Floats
    upper: Floats
    statistic: Floats
    p_value: Floats


def shrink(statements: pl.DataFrame, features: list[str], segment_of: dict[str, int], others: int) -> Stated | None:
    """Posterior of everybody's stated weights (`statements` of `store.preferences.STATEMENTS`); None without any.

    `segment_of` gives each person's segment code, `others` is the code of everyone who is not in it.

    A person's mean statement of a feature is normal around what they mean, with the pooled variance of repeated
    statements; what people mean is normal around their segment's mean. Means and covariances by EM (Morris 1983).
    """
    own = statements.filter(pl.col("feature").is_in(features))
    if own.is_empty() or own["user_id"].n_unique() < 2:
        return None
    cells = own.group_by("user_id", "feature").agg(
        pl.col("value").mean().alias("mean"), pl.len().alias("n"), (pl.col("value").var() * (pl.len() - 1)).alias("ss")
    )
    users = own.select("user_id").unique(maintain_order=True)["user_id"].to_list()
    row = {user: place for place, user in enumerate(users)}
    column = {name: place for place, name in enumerate(features)}
    at = np.array([row[user] for user in cells["user_id"].to_list()])
    of = np.array([column[name] for name in cells["feature"].to_list()])
    means = np.zeros((len(users), len(features)))
    counts = np.zeros((len(users), len(features)))
    means[at, of], counts[at, of] = cells["mean"].to_numpy(), cells["n"].to_numpy()
    squares, freedom = np.zeros_like(means), np.zeros_like(means)
    squares[at, of], freedom[at, of] = cells["ss"].fill_null(0.0).to_numpy(), cells["n"].to_numpy() - 1.0
    error, assumed = _error(squares, freedom, means, counts)
    changed = _changed(squares, freedom, error)
    error, assumed = _error(squares[~changed], freedom[~changed], means, counts)
    codes = np.array([segment_of.get(user, others) for user in users], dtype=np.int64)
    named, segment = np.unique(codes, return_inverse=True)
    noise = np.where(counts > 0, error**2 / np.maximum(counts, 1.0), _UNSTATED)
    fitted = _normal_model(means, noise, segment.astype(np.int64))
    return Stated(
        user_ids=users, features=features, weights=fitted[0], covariance=fitted[1],
        statements=counts.sum(axis=1).astype(np.int64), mean=fitted[2], mean_covariance=fitted[3], spread=fitted[4],
        segment=segment.astype(np.int64), codes=named.tolist(), error=error, assumed=assumed, changed=changed,
    )  # fmt: skip


def directions(weights: Floats, covariance: Floats) -> Direction:
    """Unit vectors of weights (n, d) with covariance by the delta method: J V J', J = (I - uu') / |w|."""
    length = np.maximum(np.linalg.norm(weights, axis=1), 1e-12)
    unit = weights / length[:, None]
    jacobian = (np.eye(weights.shape[1]) - unit[:, :, None] * unit[:, None, :]) / length[:, None, None]
    return Direction(unit, jacobian @ covariance @ jacobian)


def test(
    revealed: Floats, revealed_cov: Floats, stated: Floats, stated_cov: Floats, random: np.random.Generator
) -> Tested:
    """Compare weights row by row: (n, d) with covariances (n, d, d), at least two features."""
    if revealed.shape[1] < 2:
        raise ValueError("a direction needs at least two features")
    a, b = directions(revealed, revealed_cov), directions(stated, stated_cov)
    basis = _perpendicular(a.unit + b.unit, b.unit)
    gap = np.einsum("nij,ni->nj", basis, a.unit - b.unit)
    variance = np.einsum("nij,nik,nkl->njl", basis, a.covariance + b.covariance, basis)
    variance += 1e-12 * np.eye(variance.shape[1])
    statistic = np.einsum("nj,nj->n", gap, np.linalg.solve(variance, gap[:, :, None])[:, :, 0])
    angle = _angle(a.unit, b.unit)
    lower, upper = _angle_interval(revealed, revealed_cov, stated, stated_cov, random)
    return Tested(
        angle=angle,
        lower=np.minimum(lower, angle),
        upper=np.maximum(upper, angle),
        statistic=statistic,
        p_value=np.asarray(chi2.sf(statistic, revealed.shape[1] - 1)),
    )


def decide(tested: Tested) -> tuple[Floats, Bools]:
    """q-values over the family of people compared, and who contradicts themselves."""
    q = adjust(tested.p_value)
    return q, (q <= FALSE_DISCOVERY) & (tested.angle > LEAST_ANGLE)


def _error(squares: Floats, freedom: Floats, means: Floats, counts: Floats) -> tuple[Floats, bool]:
    """The standard deviation of one statement per feature, pooled over people who stated it more than once."""
    within, free = squares.sum(axis=0), freedom.sum(axis=0)
    seen = counts > 0
    centre = np.where(seen, means, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    total = np.where(seen, (means - centre) ** 2, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0) - 1, 1)
    assumed = np.sqrt((1.0 - _SINGLE_RELIABILITY) * np.maximum(total, 1e-6))
    known = free >= 20
    return np.where(known, np.sqrt(np.maximum(within / np.maximum(free, 1.0), 1e-8)), assumed), not known.all()


def _changed(squares: Floats, freedom: Floats, error: Floats) -> Bools:
    """Whose statements are not repetitions of one: their spread over time is beyond the error of a statement."""
    statistic = (squares / error**2).sum(axis=1)
    free = freedom.sum(axis=1)
    return np.asarray((free > 0) & (chi2.sf(statistic, np.maximum(free, 1.0)) < _CHANGED))


def _normal_model(means: Floats, noise: Floats, segment: Ints) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """EM of y_u ~ N(m_u, diag(noise_u)), m_u ~ N(mu_g, Sigma_g): posteriors, mu with its covariance, and Sigma."""
    users, width = means.shape
    groups = int(segment.max()) + 1
    counts = np.bincount(segment, minlength=groups).astype(np.float64)
    member = np.zeros((users, groups))
    member[np.arange(users), segment] = 1.0
    precision = np.zeros((users, width, width))
    precision[:, np.arange(width), np.arange(width)] = 1.0 / noise
    pull = means / noise
    mu = np.tile((pull.sum(axis=0) / (1.0 / noise).sum(axis=0)), (groups, 1))
    sigma = np.tile(np.eye(width) * max(float(np.var(means)), 1e-4), (groups, 1, 1))
    for _ in range(_ROUNDS):
        prior = np.linalg.inv(sigma)
        covariance = np.linalg.inv(precision + prior[segment])
        own = pull + np.einsum("gij,gj->gi", prior, mu)[segment]
        posterior = np.einsum("uij,uj->ui", covariance, own)
        fresh_mu = (member.T @ posterior) / counts[:, None]
        centred = posterior - fresh_mu[segment]
        square = centred[:, :, None] * centred[:, None, :] + covariance
        fresh = np.einsum("ug,uij->gij", member, square) / counts[:, None, None] + 1e-6 * np.eye(width)
        moved = max(float(np.abs(fresh_mu - mu).max()), float(np.abs(fresh - sigma).max()))
        mu, sigma = fresh_mu, fresh
        if moved < 1e-5:
            break
    prior = np.linalg.inv(sigma)
    marginal = prior[segment] - prior[segment] @ covariance @ prior[segment]
    information = np.einsum("ug,uij->gij", member, marginal)
    return posterior, covariance, mu, np.linalg.inv(information + 1e-9 * np.eye(width)), sigma


def _perpendicular(direction: Floats, fallback: Floats) -> Floats:
    """Orthonormal bases (n, d, d - 1) of what is perpendicular to each row, or to `fallback` where a row is zero."""
    length = np.linalg.norm(direction, axis=1, keepdims=True)
    row = np.where(length > 1e-6, direction / np.maximum(length, 1e-12), fallback)
    # Householder's reflection maps the first axis to the row; its other columns are the basis.
    axis = np.zeros(row.shape[1])
    axis[0] = 1.0
    sign = np.where(row[:, :1] >= 0, 1.0, -1.0)
    mirror = row * sign + axis
    mirror /= np.linalg.norm(mirror, axis=1, keepdims=True)
    reflection = np.eye(row.shape[1]) - 2.0 * mirror[:, :, None] * mirror[:, None, :]
    return np.asarray(reflection[:, :, 1:])


def _angle(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.degrees(np.arccos(np.clip(np.einsum("nd,nd->n", a, b), -1.0, 1.0))))


def _angle_interval(
    revealed: Floats, revealed_cov: Floats, stated: Floats, stated_cov: Floats, random: np.random.Generator
) -> tuple[Floats, Floats]:
    """The 95 % interval of each angle from draws of both posteriors."""
    count, width = revealed.shape
    lower, upper = np.empty(count), np.empty(count)
    normal = random.standard_normal((2, _DRAWS, width))
    block = max(1, 2_000_000 // (_DRAWS * width))
    for begin in range(0, count, block):
        rows = slice(begin, begin + block)
        angles = []
        a = revealed[rows, None, :] + normal[0] @ np.swapaxes(_root(revealed_cov[rows]), 1, 2)
        b = stated[rows, None, :] + normal[1] @ np.swapaxes(_root(stated_cov[rows]), 1, 2)
        cosine = (a * b).sum(axis=2) / np.maximum(np.linalg.norm(a, axis=2) * np.linalg.norm(b, axis=2), 1e-12)
        angles = np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))
        lower[rows], upper[rows] = np.quantile(angles, (0.025, 0.975), axis=1)
    return lower, upper


def _root(covariance: Floats) -> Floats:
    """A matrix square root of each covariance, which may be singular."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :])
