"""Which lessons fit best into a budget of tokens: the 0-1 knapsack problem.

Where everything fits, everything is taken. A few lessons are solved exactly by dynamic programming over the budget
(Bellman 1957). Many are taken greedily by value per token, passing over what does not fit, or only the most valuable
one where that is worth more: at least half of the best possible (Dantzig 1957; Kellerer, Pferschy & Pisinger, Knapsack
Problems, 2.4), and nearly all of it where single lessons are small against the budget, as they are. Equal values give
equal results: ties go to the lesson that comes first.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["EXACT_CELLS", "best"]

EXACT_CELLS: Final = 120_000
"""Lessons times tokens of budget up to which the result is exact: under a millisecond."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def best(values: Floats, tokens: Ints, budget: int) -> tuple[Ints, Ints]:
    """The places of what is taken and of what is not, each by value per token, the highest first.

    Args: `values` above 0, (n,); `tokens` above 0, (n,); at most `budget` tokens are taken in all.
    """
    order = np.argsort(-(values / tokens), kind="stable")
    if int(tokens.sum()) <= budget:
        return order, order[:0]
    ranked = tokens[order]
    fits = np.flatnonzero(ranked <= budget)
    if not fits.size:
        return fits, order
    if fits.size * (budget + 1) <= EXACT_CELLS:
        taken = fits[_exact(values[order[fits]], ranked[fits], budget)]
    else:
        taken = _greedy(ranked, budget)
        single = int(fits[np.argmax(values[order[fits]])])
        if values[order[taken]].sum() < values[order[single]]:
            taken = np.array([single], dtype=np.int64)
    left = np.ones(order.size, dtype=np.bool_)
    left[taken] = False
    return order[taken], order[left]


def _greedy(tokens: Ints, budget: int) -> Ints:
    """The places taken when each that still fits is taken, in order."""
    sums = np.cumsum(tokens)
    first = int(np.searchsorted(sums, budget, side="right"))
    taken = list(range(first))
    left = budget - (int(sums[first - 1]) if first else 0)
    place = first
    while True:
        rest = np.flatnonzero(tokens[place:] <= left)
        if not rest.size:
            return np.array(taken, dtype=np.int64)
        place += int(rest[0])
        taken.append(place)
        left -= int(tokens[place])
        place += 1


def _exact(values: Floats, tokens: Ints, budget: int) -> Ints:
    """The places of a most valuable set, in order."""
    worth = np.zeros(budget + 1)
    better = np.zeros((values.size, budget + 1), dtype=np.bool_)
    for place in range(values.size):
        size = int(tokens[place])
        with_it = worth[: budget + 1 - size] + values[place]
        np.greater(with_it, worth[size:], out=better[place, size:])
        np.maximum(worth[size:], with_it, out=worth[size:])
    taken, left = [], budget
    for place in range(values.size - 1, -1, -1):
        if better[place, left]:
            taken.append(place)
            left -= int(tokens[place])
    return np.array(taken[::-1], dtype=np.int64)
