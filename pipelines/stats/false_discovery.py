"""False-discovery control over a family of tests: Benjamini-Hochberg, and Benjamini-Yekutieli for strong dependence.

Adjusted p-values as in Benjamini & Hochberg (1995, JRSS B 57:289-300) and Benjamini & Yekutieli (2001, Ann. Stat.
29:1165-1188). A NaN is a test that was not made: it stays NaN and does not count as a member of the family.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["adjust"]

Method = Literal["bh", "by"]


def adjust(p_values: NDArray[np.float64], method: Method = "bh") -> NDArray[np.float64]:
    """Adjusted p-values (q-values) of shape (tests,): rejecting those ≤ q controls the false-discovery rate at q.

    Raises ValueError for a p-value outside 0..1.
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    made = ~np.isnan(p_values)
    p = p_values[made]
    if np.any((p < 0.0) | (p > 1.0)):
        raise ValueError("p-values must lie from 0 to 1")
    adjusted = np.full(p_values.shape, np.nan)
    if p.size == 0:
        return adjusted
    order = np.argsort(p, kind="stable")
    ranks = np.arange(1, p.size + 1)
    penalty = float(np.sum(1.0 / ranks)) if method == "by" else 1.0
    scaled = p[order] * (p.size * penalty) / ranks
    stepped = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    restored = np.empty_like(p)
    restored[order] = stepped
    adjusted[made] = restored
    return adjusted
