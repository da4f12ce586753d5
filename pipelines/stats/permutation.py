"""Permutation tests within blocks: exact p-values for two samples that may differ in nothing but their distribution.

Under the null hypothesis the answers of one block (such as one prompt) are exchangeable between the two samples, so
every assignment with the same numbers a block is equally likely. The p-value counts how many random assignments give a
statistic at least as large, and stops early where that is many: Besag & Clifford (1991, Biometrika 78:301-304). Both
forms are valid at any number of draws: h / l once h of l draws are at least as large, else (h + 1) / (draws + 1)
(Phipson & Smyth 2010).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["PermutationTest", "assignments", "permutation_test"]

_EXTREME: Final = 20
_CHUNK: Final = 1_000
# Equal sums in another order differ in their last bits; a tie counts as at least as large.
_ROUNDING: Final = 1e-9


@dataclass(frozen=True)
class PermutationTest:
    """The observed statistic, its p-value, and how many random assignments it rests on."""

    statistic: float
    p_value: float
    draws: int


def permutation_test(
    observed: float, draw: Callable[[int], NDArray[np.float64]], *, most: int = 19_999
) -> PermutationTest:
    """Compare `observed` with the statistics of random assignments: `draw(count)` gives that many, shape (count,).

    Raises ValueError when `most` is below 1.
    """
    if most < 1:
        raise ValueError(f"at least one assignment must be drawn, not {most}")
    least = observed - _ROUNDING * max(1.0, abs(observed))
    as_large = done = 0
    while done < most:
        hits = np.flatnonzero(draw(min(_CHUNK, most - done)) >= least)
        if as_large + hits.size >= _EXTREME:
            draws = done + int(hits[_EXTREME - as_large - 1]) + 1
            return PermutationTest(observed, _EXTREME / draws, draws)
        as_large += hits.size
        done += min(_CHUNK, most - done)
    return PermutationTest(observed, (as_large + 1) / (most + 1), most)


def assignments(count: int, size: int, chosen: int, random: np.random.Generator) -> NDArray[np.float64]:
    """`count` random assignments of `size` things, `chosen` of them marked 1 and the others 0: (count, size)."""
    places = np.argpartition(random.random((count, size)), chosen - 1, axis=1)[:, :chosen] if chosen else None
    marks = np.zeros((count, size))
    if places is not None:
        np.put_along_axis(marks, places, 1.0, axis=1)
    return marks
