"""Which surviving patterns are findings of their own, and which only go with a stronger one.

Leaving out a check shows as `missing`, as `precedes` and in the order of all other steps. So findings are taken one by
one, the clearest first; after each, the other patterns are tested again among the rollouts that are not on the
bad side of what was taken. One that would not have survived there, at the p-value at which the agent's family was cut,
or whose sign turns, is explained by what was taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.stats.stratified import compare

__all__ = ["Candidate", "explained"]

_MOST = 60  # survivors that are looked at; the others count as explained by the last finding
_CLOSE = 0.02
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Candidate:
    """A surviving pattern over the rollouts of its agent: `present` and `defined` of shape (rows,)."""

    effect: float
    z: float
    rank: tuple[float, ...]  # of those that are nearly as clear the lowest speaks
    present: Bools
    defined: Bools


def explained(
    candidates: Sequence[Candidate], y: NDArray[np.float64], strata: NDArray[np.int64], cut: float, least: int
) -> list[int | None]:
    """Per candidate the index of the finding that explains it, None for findings themselves.

    Args: outcome `y` and task codes `strata` of shape (rows,); `cut` the p-value at which the family was cut;
    `least` rollouts on each side for a test.
    """
    order = sorted(range(len(candidates)), key=lambda at: (-abs(candidates[at].z), candidates[at].rank, at))
    answer: list[int | None] = [None] * len(candidates)
    left, beyond = order[:_MOST], order[_MOST:]
    kept = np.ones(y.size, dtype=bool)
    taken = -1
    z = {at: candidates[at].z for at in left}
    while left:
        # Patterns that hardly differ are told apart by what is plainer to say, not by a rollout or two.
        best = max(abs(z[at]) for at in left)
        taken = min(
            (at for at in left if abs(z[at]) >= (1.0 - _CLOSE) * best), key=lambda at: (candidates[at].rank, at)
        )
        left.remove(taken)
        finding = candidates[taken]
        bad = finding.present if finding.effect < 0 else ~finding.present
        kept &= ~(finding.defined & bad)
        for at in tuple(left):
            own = candidates[at]
            rows = kept & own.defined
            test = compare(own.present[rows], y[rows], strata[rows])
            enough = min(test.rows_with, test.rows_without) >= least and test.informative
            if not enough or test.p_value > cut or (test.effect > 0) != (own.effect > 0):
                answer[at] = taken
                left.remove(at)
            else:
                z[at] = test.z
    for at in beyond:
        answer[at] = taken
    return answer
