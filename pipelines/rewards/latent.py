"""One latent quality per trace behind all its signals: marginal maximum likelihood on a grid.

    quality   θ ~ N(μ, s²) over the traces of one agent
    report    η = θ + c, c ~ N(0, τ²): what a person says of it, by their leniency
    log L  =  Σ_traces log Σ_k w_k(μ, s) Π P(behaviour, checks | θ_k) Σ_j v_j Π P(what was said | θ_k + c_j)

This is item response theory with marginal likelihood (Bock & Aitkin 1981): what a person is to a test there, a trace is
here. The anchor fixes origin and unit: asked at random, P(satisfied) = σ(η). Traces that show the same are one pattern
with a count, so a million of them cost what their patterns cost. Traces of one person, task or session depend on each
other: the product over traces is a composite likelihood (Varin, Reid & Firth 2011), consistent all the same, and its
standard errors are the sandwich clustered by user (White 1982; Liang & Zeger 1986).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, minimize
from scipy.special import logsumexp

from pipelines.rewards.grid import GRID, Patterns, compress, gaussian_nodes, normal_weights
from pipelines.rewards.response_models import Array, Family, IntArray

__all__ = ["Item", "LatentFit", "fit_latent"]

_PRIOR_MEAN = np.array([0.0, 0.0])  # of μ and ln s
_PRIOR_SD = np.array([2.5, 0.5])
_FEW_USERS = 20
_FARTHEST = 8.0  # sds of the weak priors
_SETTLED = 0.05  # standard errors that one more Newton step may move a parameter


@dataclass(frozen=True)
class Item:
    """One thing that can be seen of a trace, with its response model.

    `states` (traces,) is -1 where the trace is not at risk of it. `signalled` (states,) marks states that are a signal,
    as against its absence. `group` names signals that depend on each other beyond quality. `lists` (codes, states) and
    `list_of` (traces,) hold, for lists of items shown, the mean over the whole list; `states` is then one drawn of it.
    """

    kind: str
    name: str | None
    family: Family
    on: Literal["quality", "report"]
    group: str
    basis: str
    states: IntArray
    signalled: NDArray[np.bool_]
    score: Array  # (states,) a number per state, for residuals
    anchor: bool = False
    estimated: bool = True  # False: known rates, used as evidence only
    lists: Array | None = None
    list_of: IntArray | None = None
    note: str | None = None


@dataclass(frozen=True)
class LatentFit:
    """μ, s, τ and the parameters of the items; `covariance` of all of them in the order of `free`."""

    items: tuple[Item, ...]
    patterns: Patterns
    free: Array
    covariance: Array
    tau: float
    log_likelihood: float
    converged: bool
    slices: tuple[slice, ...] = field(default=())

    @property
    def mean(self) -> float:
        """μ."""
        return float(self.free[0])

    @property
    def sd(self) -> float:
        """s."""
        return float(np.exp(self.free[1]))

    def own(self, index: int) -> tuple[Array, Array]:
        """Free parameters of one item and their covariance."""
        at = self.slices[index]
        return self.free[at], self.covariance[at, at]


class _Likelihood:
    """The penalised log-likelihood of one agent's patterns, its gradient and the scores of the patterns."""

    def __init__(self, items: Sequence[Item], patterns: Patterns, tau: float) -> None:
        self.items, self.patterns = items, patterns
        self.nodes, self.node_weights = gaussian_nodes(tau)
        at, slices = 2, []
        for item in items:
            slices.append(slice(at, at + len(item.family.start)))
            at += len(item.family.start)
        self.slices = tuple(slices)
        self.prior_mean = np.concatenate([_PRIOR_MEAN, *(i.family.prior_mean for i in items)])
        self.prior_sd = np.concatenate([_PRIOR_SD, *(i.family.prior_sd for i in items)])
        self.quality = [index for index, item in enumerate(items) if item.on == "quality"]
        self.report = [index for index, item in enumerate(items) if item.on == "report"]
        said = compress([patterns.states[:, i] for i in self.report], len(patterns.count))
        self.said, self.said_states = said.of_trace, said.states
        self.by_said = sp.csr_matrix(
            (np.ones(len(self.said)), (self.said, np.arange(len(self.said)))), shape=(len(said.count), len(self.said))
        )

    def start(self, mean: float) -> Array:
        return np.concatenate([[mean, np.log(1.2)], *(item.family.start for item in self.items)])

    def posterior(self, free: Array) -> tuple[Array, Array, Array, Array]:
        """log-likelihood (patterns,), posterior on the grid (patterns, grid), and of what was said: (said, nodes, grid)
        posterior of the leniency node, and log Σ_j (said, grid).
        """
        log_weights = np.log(np.maximum(normal_weights(float(free[0]), float(np.exp(free[1]))), 1e-300))
        log_joint = np.repeat(log_weights[None, :], len(self.patterns.count), axis=0)
        for index in self.quality:
            table = _padded(self.items[index].family.table(free[self.slices[index]], GRID))
            log_joint += table[self.patterns.states[:, index]]
        said = np.repeat(
            np.log(self.node_weights)[None, :, None] + np.zeros((1, 1, len(GRID))), len(self.said_states), axis=0
        )
        for column, index in enumerate(self.report):
            for node, shift in enumerate(self.nodes):
                table = _padded(self.items[index].family.table(free[self.slices[index]], GRID + shift))
                said[:, node, :] += table[self.said_states[:, column]]
        log_said = logsumexp(said, axis=1)
        node_posterior = np.exp(said - log_said[:, None, :])
        log_joint += log_said[self.said]
        top = log_joint.max(axis=1, keepdims=True)
        joint = np.exp(log_joint - top)
        total = joint.sum(axis=1, keepdims=True)
        return (top + np.log(total))[:, 0], joint / total, node_posterior, log_said

    def value(self, free: Array) -> tuple[float, Array]:
        """Minus the penalised log-likelihood and its gradient."""
        log_likelihood, posterior, node_posterior, _ = self.posterior(free)
        weighted = posterior * self.patterns.count[:, None]
        gradient = np.zeros_like(free)
        gradient[:2] = _normal_scores(free) @ weighted.sum(axis=0)
        for index in self.quality:
            item, at = self.items[index], self.slices[index]
            if at.start == at.stop:
                continue
            derivatives = item.family.derivatives(free[at], GRID)
            states = self.patterns.states[:, index]
            expected = _sum_by_state(states, weighted, derivatives.shape[1])
            gradient[at] = np.einsum("tsk,sk->t", derivatives, expected)
        by_said = self.by_said @ weighted
        for column, index in enumerate(self.report):
            at = self.slices[index]
            if at.start < at.stop:
                slopes = self._said_slopes(index, column, free, node_posterior)
                gradient[at] = np.einsum("trk,rk->t", slopes, by_said)
        deviation = (free - self.prior_mean) / self.prior_sd
        value = float(self.patterns.count @ log_likelihood) - 0.5 * float(deviation @ deviation)
        return -value, -(gradient - deviation / self.prior_sd)

    def scores(self, free: Array) -> Array:
        """Score of one trace of each pattern, without the prior, (patterns, parameters)."""
        _, posterior, node_posterior, _ = self.posterior(free)
        scores = np.empty((len(self.patterns.count), len(free)))
        scores[:, :2] = posterior @ _normal_scores(free).T
        for index in self.quality:
            at = self.slices[index]
            for offset, slope in enumerate(self.items[index].family.derivatives(free[at], GRID)):
                scores[:, at.start + offset] = np.einsum(
                    "pk,pk->p", posterior, _padded(slope)[self.patterns.states[:, index]]
                )
        for column, index in enumerate(self.report):
            at = self.slices[index]
            for offset, slope in enumerate(self._said_slopes(index, column, free, node_posterior)):
                scores[:, at.start + offset] = np.einsum("pk,pk->p", posterior, slope[self.said])
        return scores

    def _said_slopes(self, index: int, column: int, free: Array, node_posterior: Array) -> Array:
        """Derivatives of log Σ_j in an item's parameters, (parameters, said, grid)."""
        at, states = self.slices[index], self.said_states[:, column]
        total = np.zeros((at.stop - at.start, len(states), len(GRID)))
        for node, shift in enumerate(self.nodes):
            derivatives = self.items[index].family.derivatives(free[at], GRID + shift)
            for offset, slope in enumerate(derivatives):
                total[offset] += node_posterior[:, node, :] * _padded(slope)[states]
        return total


def fit_latent(
    items: Sequence[Item],
    traces: int,
    users: IntArray,
    tau: float,
    *,
    mean: float,
    start: LatentFit | None = None,
    errors: bool = True,
) -> LatentFit:
    """Fit one agent's items; `users` (traces,) codes of the clusters, `mean` a first guess of μ (logits).

    `start` continues an earlier fit of the same items; without `errors` the covariance is left at zero. Never raises
    for separated or empty data: weak priors keep every parameter finite, and its standard deviation then is theirs.
    """
    patterns = compress([item.states for item in items], traces) if start is None else start.patterns
    likelihood = _Likelihood(items, patterns, tau)
    begin = likelihood.start(mean) if start is None else start.free
    # The outer product of scores is close to the curvature (Berndt et al. 1974), so that few steps suffice.
    scores = likelihood.scores(begin)
    curvature = (scores * patterns.count[:, None]).T @ scores + np.diag(1.0 / likelihood.prior_sd**2)
    result = _minimised(likelihood, begin, _symmetric(np.asarray(np.linalg.inv(curvature) * traces)), traces)
    free = np.asarray(result.x, dtype=np.float64)
    value, gradient = likelihood.value(free)
    covariance, converged = np.zeros((len(free), len(free))), bool(result.success)
    if errors:
        hessian = _hessian(likelihood, free, gradient)
        covariance = _sandwich(likelihood, free, hessian, users)
        ahead = np.abs(np.linalg.solve(hessian, gradient)) / np.sqrt(np.diag(covariance))
        converged = bool(ahead.max() < _SETTLED)
    return LatentFit(tuple(items), patterns, free, covariance, tau, -value, converged, likelihood.slices)


def _minimised(likelihood: _Likelihood, begin: Array, inverse: Array, traces: int) -> OptimizeResult:
    """BFGS; where its steps leave the range of numbers, the slower L-BFGS-B within eight sds of the weak priors."""

    def objective(free: Array) -> tuple[float, Array]:
        value, gradient = likelihood.value(free)
        return value / traces, gradient / traces

    with np.errstate(all="ignore"):
        result = minimize(
            objective, begin, jac=True, method="BFGS", options={"gtol": 1e-6, "maxiter": 300, "hess_inv0": inverse}
        )
    if np.isfinite(result.x).all() and np.isfinite(result.fun) and result.fun <= objective(begin)[0]:
        return result
    reach = _FARTHEST * likelihood.prior_sd
    limits = np.stack([likelihood.prior_mean - reach, likelihood.prior_mean + reach], axis=1)
    return minimize(
        objective, np.clip(begin, limits[:, 0], limits[:, 1]), jac=True, method="L-BFGS-B", bounds=limits,
        options={"gtol": 1e-7, "ftol": 1e-13, "maxiter": 500},
    )  # fmt: skip


def _symmetric(matrix: Array) -> Array:
    return np.asarray(0.5 * (matrix + matrix.T))


def _hessian(likelihood: _Likelihood, free: Array, gradient: Array) -> Array:
    """Differences of the gradient; symmetric and made positive definite where it is not."""
    step = 1e-4
    rows = [(likelihood.value(free + step * shift)[1] - gradient) / step for shift in np.eye(len(free))]
    values, vectors = np.linalg.eigh(_symmetric(np.array(rows)))
    # No direction can be known less than its prior says: a flat or saddle direction falls back to it.
    floor = float(np.min(1.0 / likelihood.prior_sd**2))
    return np.asarray((vectors * np.maximum(values, floor)) @ vectors.T)


def _sandwich(likelihood: _Likelihood, free: Array, hessian: Array, users: IntArray) -> Array:
    """H⁻¹ (J + prior) H⁻¹ with J clustered by user; the prior's part keeps unseen parameters as uncertain as it is."""
    inverse = np.linalg.inv(hessian)
    clusters = int(users.max(initial=-1)) + 1
    if clusters < _FEW_USERS:
        return np.asarray(inverse)
    of_trace = likelihood.patterns.of_trace
    counts = sp.csr_matrix((np.ones(len(users)), (users, of_trace)), shape=(clusters, len(likelihood.patterns.count)))
    sums = np.asarray(counts @ likelihood.scores(free))
    middle = sums.T @ sums * clusters / (clusters - 1.0) + np.diag(1.0 / likelihood.prior_sd**2)
    return np.asarray(inverse @ middle @ inverse)


def _normal_scores(free: Array) -> Array:
    """Derivatives of the log weights of the grid in μ and ln s, (2, grid)."""
    sd = float(np.exp(free[1]))
    z = (GRID - free[0]) / sd
    weights = normal_weights(float(free[0]), sd)
    raw = np.stack([z / sd, z**2])
    return np.asarray(raw - (raw @ weights)[:, None])


def _padded(table: Array) -> Array:
    """A last row of zeros, which is what state -1 picks: not at risk says nothing."""
    return np.concatenate([table, np.zeros((1, table.shape[1]))])


def _sum_by_state(states: IntArray, weighted: Array, size: int) -> Array:
    seen = np.flatnonzero(states >= 0)
    choose = sp.csr_matrix((np.ones(len(seen)), (states[seen], seen)), shape=(size, len(states)))
    return np.asarray(choose @ weighted)
