"""A model of the reward of each arm in each context, as means shrunk towards coarser ones, fitted across folds.

q(x, a) adds up the overall mean, the deviations of the segment and of the task, of the arm, and of the arm within the
segment and within the task; each is the mean of what those before it leave over, times n/(n + SHRINK). Nobody's reward
enters what is predicted for them: folds keep the decisions of one person together. Doubly robust estimates are right
whatever this model is, because the propensities are; it only narrows them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["FOLDS", "SHRINK", "Contexts", "predict"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
FOLDS = 5
SHRINK = 20.0


@dataclass(frozen=True)
class Contexts:
    """Codes of each decision, (decisions,), from 0; `fold` below FOLDS, the same for all decisions of a person."""

    segment: Ints
    task: Ints
    fold: Ints


def predict(contexts: Contexts, arm: Ints, reward: Floats, arms: int) -> Floats:
    """q of every arm for every decision, (decisions, arms), each from the other folds.

    `arm` (decisions,) is the one drawn, `reward` (decisions,) what came of it. A fold without others predicts .5.
    """
    fitted = np.full((len(reward), arms), 0.5)
    segments, tasks = (int(code.max(initial=-1)) + 1 for code in (contexts.segment, contexts.task))
    for fold in range(FOLDS):
        own = np.flatnonzero(contexts.fold == fold)
        others = np.flatnonzero(contexts.fold != fold)
        if own.size == 0 or others.size == 0:
            continue
        segment, task, drawn = contexts.segment[others], contexts.task[others], arm[others]
        left = reward[others]
        mean = float(left.mean())
        left = left - mean
        levels = []
        for code, size in (
            (segment, segments), (task, tasks), (drawn, arms),
            (segment * arms + drawn, segments * arms), (task * arms + drawn, tasks * arms),
        ):  # fmt: skip
            deviation = _deviation(code, left, size)
            left = left - deviation[code]
            levels.append(deviation)
        of_segment, of_task, of_arm, in_segment, in_task = levels
        by_segment = mean + of_segment[:, None] + of_arm + in_segment.reshape(segments, arms)
        by_task = of_task[:, None] + in_task.reshape(tasks, arms)
        fitted[own] = by_segment[contexts.segment[own]] + by_task[contexts.task[own]]
    return fitted


def _deviation(code: Ints, left: Floats, size: int) -> Floats:
    """Shrunk mean of what is left over in each cell, (size,)."""
    count = np.bincount(code, minlength=size)
    return np.asarray(np.bincount(code, weights=left, minlength=size) / (count + SHRINK))
