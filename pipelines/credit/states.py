"""The abstract states of a run: nested cells of prefixes, from the agent alone to everything that is kept of a prefix.

A state and what is chosen in it are compared at the finest cell that enough visits fell into: `Choices` says which one
that is for each step, and how often the step's choice was made there.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.credit.shrinkage import dense
from pipelines.credit.steps import Prefixes

__all__ = ["ENOUGH_VISITS", "Choices", "States", "choices", "states"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

ENOUGH_VISITS = 30  # METHODS §9, minimum of a cell

# Cells at which two steps come from the same tool and result: what people read as "the state".
COARSE, SITUATION, USED = 1, 3, 4


@dataclass(frozen=True)
class States:
    """Cells of the steps' prefixes, coarsest first.

    `codes[level]` is each step's cell (shape (steps,)), `parents[level]` the coarser cell of each cell of that level
    (shape (cells,)); level 0 is the agent. `action` codes the step's choice (what was called and how), `tool_of` what
    was called, by action; both are codes within all agents.
    """

    codes: list[Ints]
    parents: list[Ints]
    action: Ints
    tool_of: Ints

    def ancestors(self, level: int, coarser: int) -> Ints:
        """For each cell of `level`, its cell at the coarser level."""
        cells = np.arange(len(self.parents[level]))
        for step in range(level, coarser, -1):
            cells = self.parents[step][cells]
        return cells


@dataclass(frozen=True)
class Choices:
    """Where a step's choice is compared with others: `cell` (a code of its own per level and cell), how often the
    step's action was chosen there (`share`, 1 where nothing else ever was), and the state cell of level COARSE."""

    cell: Ints
    cells: int
    share: Floats
    level: Ints


def states(prefixes: Prefixes, task: Ints) -> States:
    """Cells of all steps: agent; last step and its status; what went wrong so far; number of the step; names so far;
    amount spent so far; task (`task` has its code for each trace)."""
    groups = np.arange(len(prefixes.agents))
    codes, parents = [prefixes.agent], [groups]
    wrong = (prefixes.errors * 4 + prefixes.flags) * 8 + np.minimum(prefixes.last_variant, 7)
    used = np.unique(prefixes.used, return_inverse=True)[1].astype(np.int64)
    for extra in (
        prefixes.last * 3 + prefixes.last_failed,
        wrong,
        prefixes.bucket,
        used,
        prefixes.spend,
        task[prefixes.trace],
    ):
        code, parent = dense(codes[-1], extra)
        codes.append(code)
        parents.append(parent)
    action, tool_of = dense(prefixes.what, prefixes.variant)
    return States(codes, parents, action, tool_of)


def choices(found: States, visits: NDArray[np.bool_] | None = None) -> Choices:
    """The cell in which each step's choice is compared: the finest, down to the names used so far, with enough visits.

    `visits` (shape (steps,)): the steps that count as visits; all by default.
    """
    steps = len(found.action)
    counted = np.ones(steps) if visits is None else visits.astype(np.float64)
    cell = found.codes[COARSE].copy()
    level = np.full(steps, COARSE, dtype=np.int64)
    offset = len(found.parents[COARSE])
    for finer in range(COARSE + 1, USED + 1):
        codes = found.codes[finer]
        n = np.bincount(codes, weights=counted, minlength=len(found.parents[finer]))
        enough = n[codes] >= ENOUGH_VISITS
        cell = np.where(enough, codes + offset, cell)
        level = np.where(enough, finer, level)
        offset += len(found.parents[finer])
    pair, cell_of = dense(cell, found.action)
    made = np.bincount(pair, weights=counted, minlength=len(cell_of))
    total = np.bincount(cell, weights=counted, minlength=offset)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(total[cell_of] > 0, made / total[cell_of], 1.0)
    return Choices(cell, offset, share[pair], level)
