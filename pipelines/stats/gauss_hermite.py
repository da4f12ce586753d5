"""The marginal likelihood of a logistic model with one normal intercept per user, by adaptive Gauss-Hermite quadrature.

Each user's integral over z ~ N(0, 1) is taken with nodes placed at the user's posterior mode and scaled by its
curvature (Pinheiro & Bates 1995, J. Comput. Graph. Stat. 4:12-35), all users at once. Gradient and information are
posterior moments of the scores at the nodes: Fisher's identity and Louis (1982, JRSS B 44:226-233).
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logsumexp, roots_hermite

from pipelines.stats.logistic import Rows

__all__ = ["Marginal", "Moments"]

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
CHUNK_ROWS = 200_000  # rows integrated at a time: bounds memory, and arrays of K x rows stay near the cache


@dataclass(frozen=True)
class Moments:
    """Log-likelihood, scores per user (users, p + 1), information, and each user's posterior of z."""

    value: float
    scores: Array
    information: Array
    mean: Array
    variance: Array
    mode: Array


class Marginal:
    """Rows sorted by user, and the marginal likelihood with its derivatives."""

    def __init__(self, rows: Rows, who: IntArray, count: int, nodes: int) -> None:
        self.rows, self.who, self.count, self.nodes = rows, who, count, nodes
        if np.any(who[1:] < who[:-1]):
            order = np.argsort(who, kind="stable")
            self.rows, self.who = rows.take(order), who[order]
        self.rows = replace(self.rows, design=np.asfortranarray(self.rows.design))  # columns are read one by one
        sizes = np.bincount(self.who, minlength=count)
        self.starts = np.concatenate([[0], np.cumsum(sizes)])
        points, weights = roots_hermite(nodes)
        self.points = np.sqrt(2.0) * points
        # ∫ f(z) dz = Σ_k w_k e^{x_k²} √2 s f(m + √2 s x_k), and the prior's 1/√(2π) is taken into the weights.
        self.log_weights = np.log(weights) + points**2 - 0.5 * np.log(np.pi)

    def pilot(self, every: int) -> "Marginal":
        """The same model of every `every`-th user."""
        kept = self.who % every == 0
        return Marginal(
            self.rows.take(np.flatnonzero(kept)), self.who[kept] // every, -(-self.count // every), self.nodes
        )

    def moments(self, parameters: Array, mode: Array) -> Moments:
        """Everything at one parameter vector; `mode` (users,) is where the search for the modes starts."""
        parts = []
        first = 0
        while first < self.count:
            last = int(np.searchsorted(self.starts, self.starts[first] + CHUNK_ROWS, side="right")) - 1
            last = min(max(last, first + 1), self.count)
            parts.append(self._chunk(parameters, mode[first:last], first, last))
            first = last
        return Moments(
            sum(part.value for part in parts),
            np.concatenate([part.scores for part in parts]),
            np.sum([part.information for part in parts], axis=0),
            np.concatenate([part.mean for part in parts]),
            np.concatenate([part.variance for part in parts]),
            np.concatenate([part.mode for part in parts]),
        )

    def _chunk(self, parameters: Array, mode: Array, first: int, last: int) -> Moments:
        begin, end = self.starts[first], self.starts[last]
        rows = self.rows.slice(int(begin), int(end))
        who = self.who[begin:end] - first
        starts = self.starts[first:last] - begin
        sd = parameters[-1]
        eta = rows.offset + rows.design @ parameters[:-1]
        mode, scale = _modes(eta, rows, who, starts, sd, mode)
        z = mode + scale * self.points[:, None]
        columns = rows.design.shape[1]
        log_joint = np.empty((self.nodes, last - first))
        scores = np.empty((columns + 1, self.nodes, last - first))
        curvature = np.empty((self.nodes, end - begin))
        for k in range(self.nodes):
            linear = eta + (sd * z[k])[who]
            softplus, p = _softplus(linear)
            row_value = rows.weight * (rows.response * linear - softplus)
            log_joint[k] = np.add.reduceat(row_value, starts) - 0.5 * z[k] ** 2 + self.log_weights[k]
            residual = rows.weight * (rows.response - p)
            curvature[k] = rows.weight * p * (1.0 - p)
            for j in range(columns):
                scores[j, k] = np.add.reduceat(residual * rows.design[:, j], starts)
            scores[columns, k] = np.add.reduceat(residual, starts) * z[k]
        log_user = logsumexp(log_joint, axis=0) + np.log(scale)
        share = np.exp(log_joint - (log_user - np.log(scale)))
        mean_score = np.einsum("ku,jku->ju", share, scores)
        flat = (scores * np.sqrt(share)).reshape(columns + 1, -1)
        explained = flat @ flat.T - mean_score @ mean_score.T
        information = _complete_information(rows.design, curvature, share, z, who) - explained
        mean = np.sum(share * z, axis=0)
        variance = np.maximum(np.sum(share * z**2, axis=0) - mean**2, 0.0)
        return Moments(float(log_user.sum()), mean_score.T, information, mean, variance, mode)


def _softplus(linear: Array) -> tuple[Array, Array]:
    """ln(1 + e^x) and 1/(1 + e^-x) from one exponential, for any x."""
    small = np.exp(-np.abs(linear))
    positive = linear >= 0
    p = np.where(positive, 1.0, small) / (1.0 + small)
    return np.where(positive, linear, 0.0) + np.log1p(small), p


def _modes(eta: Array, rows: Rows, who: IntArray, starts: IntArray, sd: float, mode: Array) -> tuple[Array, Array]:
    """Mode and scale (curvature^-1/2) of each user's integrand in z by Newton's method with bounded steps."""
    curvature = np.ones_like(mode)
    for _ in range(50):
        p = expit(eta + (sd * mode)[who])
        gradient = sd * np.add.reduceat(rows.weight * (rows.response - p), starts) - mode
        curvature = sd**2 * np.add.reduceat(rows.weight * p * (1.0 - p), starts) + 1.0
        step = np.clip(gradient / curvature, -1.0, 1.0)
        if np.abs(step).max(initial=0.0) < 1e-5:
            break
        mode = mode + step
    return mode, 1.0 / np.sqrt(curvature)


def _complete_information(design: Array, curvature: Array, share: Array, z: Array, who: IntArray) -> Array:
    """Posterior mean of Σ w p(1-p) d dᵀ with d = (x, z), of shape (p + 1, p + 1)."""
    plain = np.zeros(design.shape[0])
    crossed = np.zeros(design.shape[0])
    squared = 0.0
    for k in range(share.shape[0]):
        part = curvature[k] * share[k][who]
        plain += part
        at_node = part * z[k][who]
        crossed += at_node
        squared += float(at_node @ z[k][who])
    p = design.shape[1]
    information = np.empty((p + 1, p + 1))
    information[:p, :p] = design.T @ (design * plain[:, None])
    information[p, :p] = information[:p, p] = design.T @ crossed
    information[p, p] = squared
    return information
