"""What a trace's own signals say of its quality: a location and a precision, without any prior.

The likelihood of a trace's signals on the grid is turned into the Gaussian that, multiplied with the agent's own
N(μ, s²), has the mean and variance of the exact posterior (the moment match of one site of expectation propagation,
Minka 2001). So a lone thumb, whose likelihood has no maximum, has a finite location and the precision it deserves.

Tempering. Signals of one group (what one person said of one trace, the items of one list, checks of one result) share
more than quality. The likelihood of each is raised to a weight, in proportion to its Fisher information at the agent's
traces, that sum to 1 over the group: together they never count for more than the best of them (composite likelihood
weights, Varin, Reid & Firth 2011). Groups whose residuals correlate, given quality, are one group (Yen's Q3, 1984).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logsumexp

from pipelines.rewards.grid import GRID, compress, gaussian_nodes, normal_weights
from pipelines.rewards.latent import Item, LatentFit
from pipelines.rewards.response_models import Array, Event, IntArray

__all__ = ["TraceEvidence", "dependence", "trace_evidence"]

_BLOCK = 20_000
_LEAST = 1e-3  # of the prior's precision: what a signal that says nothing is worth
_FARTHEST = 100.0
_Q3, _Q3_Z = 0.1, 4.0
_MOST_PATTERNS = 50_000


@dataclass(frozen=True)
class TraceEvidence:
    """Per trace (traces,): location, precision, count of signals (all 0 or NaN where nothing was at risk of anything).

    `weights` (traces' patterns, items) with `of_trace` (traces,) gives each item's weight; `mean_weight` (items,).
    """

    location: Array
    precision: Array
    signals: IntArray
    weights: Array
    of_trace: IntArray
    mean_weight: Array


def trace_evidence(
    items: Sequence[Item], free: Sequence[Array], groups: Sequence[str], *, mean: float, sd: float, tau: float,
    traces: int,
) -> TraceEvidence:  # fmt: skip
    """Evidence on quality from `items` with their parameters `free` and final `groups`; the agent's μ, s and τ."""
    columns = [item.states if item.list_of is None else item.list_of for item in items]
    patterns = compress(columns, traces)
    prior = normal_weights(mean, sd)
    worth = np.array([float(prior @ item.family.information(own, GRID)) for item, own in zip(items, free, strict=True)])
    weights = _weights(patterns.states >= 0, worth, groups)
    location, precision = np.zeros(len(patterns.count)), np.zeros(len(patterns.count))
    for first in range(0, len(patterns.count), _BLOCK):
        block = slice(first, first + _BLOCK)
        likelihood = _tempered(items, free, patterns.states[block], weights[block], tau)
        location[block], precision[block] = _site(likelihood, mean, sd)
    seen = weights > 0.0
    counted = np.zeros(len(patterns.count), dtype=np.int64)
    for index, item in enumerate(items):
        signalled = np.ones(1, dtype=bool) if item.lists is not None else item.signalled
        padded = np.concatenate([np.resize(signalled, _width(item)), [False]])
        counted += padded[patterns.states[:, index]]
    nothing = ~seen.any(axis=1)
    location[nothing], precision[nothing] = np.nan, 0.0
    totals = patterns.count @ seen
    return TraceEvidence(
        location[patterns.of_trace],
        precision[patterns.of_trace],
        counted[patterns.of_trace],
        weights,
        patterns.of_trace,
        (patterns.count @ weights) / np.maximum(totals, 1.0),
    )


def dependence(fit: LatentFit) -> list[str]:
    """The groups of the fitted items, those merged whose residuals correlate given quality; one label per item."""
    items, patterns = fit.items, fit.patterns
    groups = [item.group for item in items]
    order = np.argsort(-patterns.count)[:_MOST_PATTERNS]
    count, states = patterns.count[order], patterns.states[order]
    log_joint = np.log(np.maximum(normal_weights(fit.mean, fit.sd), 1e-300))[None, :]
    tables = [np.concatenate([item.family.table(fit.own(i)[0], GRID), np.zeros((1, len(GRID)))])
              for i, item in enumerate(items)]  # fmt: skip
    for index, table in enumerate(tables):
        log_joint = log_joint + table[states[:, index]]
    posterior = np.exp(log_joint - logsumexp(log_joint, axis=1, keepdims=True))
    residuals = [_residuals(item, fit.own(i)[0]) for i, item in enumerate(items)]
    for i in range(len(items)):
        for j in range(i):
            both = np.flatnonzero((states[:, i] >= 0) & (states[:, j] >= 0))
            if groups[i] == groups[j] or len(both) == 0:
                continue
            first, second = residuals[i][states[both, i]], residuals[j][states[both, j]]
            mass = posterior[both] * count[both, None]
            scale = float(np.sqrt((mass * first**2).sum() * (mass * second**2).sum()))
            correlation = float((mass * first * second).sum()) / scale if scale > 0.0 else 0.0
            if abs(correlation) > _Q3 and abs(correlation) * float(np.sqrt(count[both].sum())) > _Q3_Z:
                old, new = groups[i], groups[j]
                groups = [new if group == old else group for group in groups]
    return groups


def _width(item: Item) -> int:
    return len(item.lists) if item.lists is not None else len(item.signalled)


def _weights(observed: NDArray[np.bool_], worth: Array, groups: Sequence[str]) -> Array:
    """Weights in proportion to information, summing to 1 over the observed items of each group, (patterns, items)."""
    weights = np.zeros(observed.shape)
    for group in dict.fromkeys(groups):
        members = np.array([g == group for g in groups])
        share = observed * np.where(members, np.maximum(worth, 1e-9), 0.0)
        total = share.sum(axis=1, keepdims=True)
        weights += np.divide(share, total, out=np.zeros_like(share), where=total > 0.0)
    return weights


def _tempered(items: Sequence[Item], free: Sequence[Array], states: IntArray, weights: Array, tau: float) -> Array:
    """Weighted log-likelihood of every pattern on the grid; what was said is averaged over leniency."""
    done = np.zeros((len(states), len(GRID)))
    nodes, node_weights = gaussian_nodes(tau)
    said = np.repeat(np.log(node_weights)[None, :, None], len(states), axis=0) + np.zeros((1, 1, len(GRID)))
    for index, item in enumerate(items):
        weight, state = weights[:, index, None], states[:, index]
        if item.on == "quality":
            done += weight * _table(item, free[index], GRID)[state]
        else:
            for node, shift in enumerate(nodes):
                said[:, node, :] += weight * _table(item, free[index], GRID + shift)[state]
    return np.asarray(done + logsumexp(said, axis=1))


def _table(item: Item, free: Array, x: Array) -> Array:
    """Log-likelihood of the item's states (or whole lists) with a last row of zeros for traces not at risk."""
    table = item.family.table(free, x)
    if item.lists is not None:
        table = item.lists @ table
    return np.concatenate([table, np.zeros((1, len(x)))])


def _site(log_likelihood: Array, mean: float, sd: float) -> tuple[Array, Array]:
    """Location and precision that turn N(mean, sd²) into the posterior's first two moments."""
    log_joint = log_likelihood + np.log(np.maximum(normal_weights(mean, sd), 1e-300))
    posterior = np.exp(log_joint - log_joint.max(axis=1, keepdims=True))
    posterior /= posterior.sum(axis=1, keepdims=True)
    centre = posterior @ GRID
    variance = np.maximum(posterior @ GRID**2 - centre**2, 1e-6)
    prior = normal_weights(mean, sd)
    prior_mean = float(prior @ GRID)  # of the grid, which is what the posterior is compared with
    prior_precision = 1.0 / float(prior @ (GRID - prior_mean) ** 2)
    precision = np.maximum(1.0 / variance - prior_precision, _LEAST * prior_precision)
    location = (centre * (prior_precision + precision) - prior_mean * prior_precision) / precision
    return np.clip(location, -_FARTHEST, _FARTHEST), precision


def _residuals(item: Item, free: Array) -> Array:
    """Score minus its expectation given quality, (states + 1, grid); zero where not at risk."""
    table = item.family.table(free, GRID)
    if isinstance(item.family, Event):
        linear = GRID if item.family.fixed else free[0] + free[1] * GRID
        expected = item.family.scale[:, None] * expit(linear)[None, :]
    else:
        chance = np.exp(table - logsumexp(table, axis=0, keepdims=True))
        expected = (item.score[:, None] * chance).sum(axis=0, keepdims=True)
    return np.concatenate([item.score[:, None] - expected, np.zeros((1, len(GRID)))])
