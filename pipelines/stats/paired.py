"""Paired comparisons as sums of each pair, the graph they make, and its linear algebra.

Sums make a fit cost as much as there are pairs, however many comparisons. The second derivative of a paired-comparison
likelihood is a weighted graph Laplacian: dense, or solved by conjugate gradients where items are many.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import LinearOperator, cg
from scipy.special import expit

from pipelines.stats.contract import FitRefused

__all__ = [
    "MODEL",
    "Pairs",
    "aggregate",
    "comparison_meat",
    "components",
    "conjugate_step",
    "laplacian",
    "means",
    "user_meat",
]

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
MODEL = "Bradley-Terry model"
TABLE_CELLS = 4_000_000  # up to here pairs are summed in a table, beyond by sorting


@dataclass(frozen=True)
class Pairs:
    """Sums of each unordered pair (low < high): comparisons, score of `low`, and squared score of `low`."""

    low: IntArray
    high: IntArray
    count: Array
    score: Array
    squared: Array
    items: int


def aggregate(first: IntArray, second: IntArray, score: Array, weight: Array | None, items: int) -> Pairs:
    """Sums of each pair from rows. Raises FitRefused (self_comparison)."""
    keys = first * items + second
    directed = np.arange(items * items) if items * items <= TABLE_CELLS else None
    if directed is None:
        directed, keys = np.unique(keys, return_inverse=True)
    size = directed.size
    weighted = score if weight is None else score * weight
    count, wins = _summed(keys, weight, size), _summed(keys, weighted, size)
    ties = bool(((score > 0.0) & (score < 1.0)).any())
    squared = _summed(keys, weighted * score, size) if ties else wins
    used = count > 0
    i, j = directed[used] // items, directed[used] % items
    count, wins, squared = count[used], wins[used], squared[used]
    if np.any(i == j):
        same = float(count[i == j].sum())
        raise FitRefused(MODEL, "self_comparison", f"{same:g} comparisons are of an item with itself.")
    turned = i > j
    wins, squared = np.where(turned, count - wins, wins), np.where(turned, count - 2.0 * wins + squared, squared)
    low, high = np.where(turned, j, i), np.where(turned, i, j)
    pair, at = np.unique(low * items + high, return_inverse=True)
    count, wins, squared = (_summed(at, each, pair.size) for each in (count, wins, squared))
    return Pairs(pair // items, pair % items, count, wins, squared, items)


def _summed(places: IntArray, weights: Array | None, size: int) -> Array:
    return np.bincount(places, weights=weights, minlength=size).astype(np.float64)


def components(pairs: Pairs) -> IntArray:
    """Strongly connected components of "has won against", numbered from the largest; -1 where never compared."""
    won, lost = pairs.score > 0, pairs.score < pairs.count
    winners = np.concatenate([pairs.low[won], pairs.high[lost]])
    losers = np.concatenate([pairs.high[won], pairs.low[lost]])
    graph = coo_array((np.ones(winners.size), (winners, losers)), shape=(pairs.items, pairs.items))
    labels = connected_components(graph, directed=True, connection="strong")[1]
    compared = np.zeros(pairs.items, dtype=bool)
    compared[pairs.low] = compared[pairs.high] = True
    found, index, sizes = np.unique(labels[compared], return_inverse=True, return_counts=True)
    place = np.empty(found.size, dtype=np.int64)
    place[np.argsort(-sizes, kind="stable")] = np.arange(found.size)
    component = np.full(pairs.items, -1, dtype=np.int64)
    component[compared] = place[index]
    return component


def laplacian(pairs: Pairs, weight: Array) -> Array:
    """Σ over pairs of weight (e_low - e_high)(e_low - e_high)ᵀ as a dense matrix."""
    matrix = np.zeros((pairs.items, pairs.items))
    matrix[pairs.low, pairs.high] = -weight
    matrix[pairs.high, pairs.low] = -weight
    matrix[np.diag_indices(pairs.items)] = _degrees(pairs, weight)
    return matrix


def _degrees(pairs: Pairs, weight: Array) -> Array:
    low = np.bincount(pairs.low, weights=weight, minlength=pairs.items)
    return np.asarray(low + np.bincount(pairs.high, weights=weight, minlength=pairs.items), dtype=np.float64)


def means(component: IntArray) -> Array:
    """The projection on the means of components; the identity for items never compared."""
    same = component[:, None] == component[None, :]
    same[component < 0] = False
    projection = same / np.maximum(same.sum(axis=1, keepdims=True), 1)
    alone = np.flatnonzero(component < 0)
    projection[alone, alone] = 1.0
    return np.asarray(projection, dtype=np.float64)


def conjugate_step(pairs: Pairs, weight: Array, precision: float, gradient: Array) -> Array:
    """A Newton step by conjugate gradients, where `weight` is each pair's curvature. Raises FitRefused."""
    diagonal = _degrees(pairs, weight) + precision
    diagonal[diagonal <= 0] = 1.0
    nodes = np.arange(pairs.items)
    rows = np.concatenate([pairs.low, pairs.high, nodes])
    columns = np.concatenate([pairs.high, pairs.low, nodes])
    shape = (pairs.items, pairs.items)
    matrix = coo_array((np.concatenate([-weight, -weight, diagonal]), (rows, columns)), shape=shape).tocsr()
    jacobi = LinearOperator(shape, matvec=lambda vector: vector / diagonal, dtype=np.float64)
    # Steps solved to 1e-6 still converge fast; nothing is solved below the rounding of the gradient.
    rounding = 1e-11 * float(diagonal.max())
    step, failed = cg(matrix, gradient, rtol=1e-6, atol=rounding, maxiter=20 * pairs.items, M=jacobi)
    if failed:
        raise FitRefused(MODEL, "not_converged", "conjugate gradients did not settle; give a prior (tau).")
    return np.asarray(step, dtype=np.float64)


def comparison_meat(pairs: Pairs, theta: Array) -> Array:
    """Spread of the scores when every comparison is independent: Σ (score - p)² of each pair."""
    p = expit(theta[pairs.low] - theta[pairs.high])
    return laplacian(pairs, pairs.squared - 2.0 * p * pairs.score + p * p * pairs.count)


def user_meat(
    first: IntArray, second: IntArray, score: Array, weight: Array | None, users: IntArray, theta: Array
) -> Array:
    """Spread of the scores when users are independent, from their rows; multiplied by m/(m-1) for m users."""
    residual = score - expit(theta[first] - theta[second])
    if weight is not None:
        residual = residual * weight
    who = np.unique(users, return_inverse=True)[1]
    count = int(who.max()) + 1
    values = np.concatenate([residual, -residual])
    places = (np.concatenate([who, who]), np.concatenate([first, second]))
    scores = coo_array((values, places), shape=(count, theta.size)).tocsr()
    return np.asarray((scores.T @ scores).toarray() * (count / (count - 1.0)), dtype=np.float64)
