"""Tests on a tree: everybody, then groups, then members, each tested only where what is above it was rejected.

A node's p-value is Simes' combination of its leaves (Simes 1986, Biometrika 73:751). Benjamini-Hochberg runs over the
groups, and within each group that opens at the level q R/m, R of m groups open: this keeps the expected false share
within the groups selected at q (Benjamini & Bogomolov 2014, JRSS B 76:297; TreeBH, Bogomolov et al. 2021, Biometrika
108:575).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.stats.false_discovery import adjust

__all__ = ["Gate", "open_gate", "simes"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Gate:
    """`q_value` of every leaf (those at most q are discoveries), Simes' p of all, and p and q of every group."""

    q_value: Floats
    everybody: float
    group_p: Floats
    group_q: Floats


def simes(p_values: Floats, groups: Ints, count: int) -> Floats:
    """Simes' p-value of each group, shape (count,): the smallest n p_(i) / i. NaN are not members; NaN without any."""
    made = ~np.isnan(p_values)
    p, of = p_values[made], groups[made]
    combined = np.full(count, np.nan)
    if p.size == 0:
        return combined
    order = np.lexsort((p, of))
    p, of = p[order], of[order]
    first = np.flatnonzero(np.concatenate(([True], of[1:] != of[:-1])))
    sizes = np.diff(np.append(first, of.size))
    rank = np.arange(of.size) - np.repeat(first, sizes) + 1
    combined[of[first]] = np.minimum.reduceat(p * np.repeat(sizes, sizes) / rank, first)
    return np.asarray(np.minimum(combined, 1.0), dtype=np.float64)


def open_gate(p_values: Floats, groups: Ints, *, q: float) -> Gate:
    """The gate over leaves with `p_values` (NaN: not tested) in `groups` 0, 1, ...; both of shape (leaves,).

    Raises ValueError for q outside 0..1, p-values outside 0..1 or shapes that differ.
    """
    p_values, groups = np.asarray(p_values, dtype=np.float64), np.asarray(groups, dtype=np.int64)
    if p_values.shape != groups.shape or p_values.ndim != 1 or not 0.0 < q < 1.0:
        raise ValueError(
            f"one group for each p-value and q between 0 and 1, came {groups.shape}, {p_values.shape}, {q}"
        )
    count = int(groups.max()) + 1 if groups.size else 0
    everybody = float(simes(p_values, np.zeros(p_values.size, dtype=np.int64), 1)[0])
    group_p = simes(p_values, groups, count)
    group_q = adjust(group_p)
    tested = int((~np.isnan(group_q)).sum())
    opened = int((group_q <= q).sum())
    q_value = np.full(p_values.shape, np.nan)
    order = np.argsort(groups, kind="stable")
    edges = np.searchsorted(groups[order], np.arange(count + 1))
    for group in range(count):
        members = order[edges[group] : edges[group + 1]]
        within = adjust(p_values[members]) * (tested / max(opened, 1))
        q_value[members] = np.maximum(np.maximum(within, group_q[group]), everybody)
    return Gate(np.minimum(q_value, 1.0), everybody, group_p, group_q)
