"""Integrals over latent variables as sums, and traces that show the same as one pattern with a count."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.polynomial.hermite_e import hermegauss

from pipelines.rewards.response_models import Array, IntArray

__all__ = ["GRID", "Patterns", "compress", "gaussian_nodes", "normal_weights"]

# The trapezoid rule on a normal density errs by exp(-2 (π s / step)²): nothing for any s that can be fitted.
GRID: Array = np.linspace(-8.0, 8.0, 49)
LENIENCY_NODES = 7


@dataclass(frozen=True)
class Patterns:
    """Distinct rows of states: `of_trace` (traces,), `count` (patterns,), `states` (patterns, items)."""

    of_trace: IntArray
    count: Array
    states: IntArray


def gaussian_nodes(sd: float, count: int = LENIENCY_NODES) -> tuple[Array, Array]:
    """Gauss-Hermite nodes and weights of N(0, sd²); a single node at 0 where sd is 0."""
    if sd <= 0.0:
        return np.zeros(1), np.ones(1)
    nodes, weights = hermegauss(count)
    return np.asarray(nodes * sd), np.asarray(weights / weights.sum())


def normal_weights(mean: float, sd: float) -> Array:
    """The density of N(mean, sd²) on the grid, summing to 1."""
    weights = np.exp(-0.5 * ((GRID - mean) / sd) ** 2)
    return np.asarray(weights / weights.sum())


def compress(columns: Sequence[IntArray], traces: int) -> Patterns:
    """Distinct rows of several columns of small integers from -1."""
    code = np.zeros(traces, dtype=np.int64)
    size = 1
    for column in columns:
        width = int(column.max(initial=-1)) + 2
        if size * width > 2**40:
            values, code = np.unique(code, return_inverse=True)
            size = len(values)
        code = code * width + (column + 1)
        size *= width
    _, first, inverse, count = np.unique(code, return_index=True, return_inverse=True, return_counts=True)
    rows = np.stack([c[first] for c in columns], axis=1) if columns else np.zeros((len(first), 0), dtype=np.int64)
    return Patterns(inverse.astype(np.int64), count.astype(np.float64), rows.astype(np.int64))
