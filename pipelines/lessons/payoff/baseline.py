"""What a unit would be expected to give, whatever lessons it is served: the outcome model that narrows the effects.

m(x) adds up shrunk deviations: of the segment, the task and the arm, each from the units of other people (folds keep a
person together), and of the person, from the person's own earlier units only. Nothing in it is known after the
decision, so it cannot be changed by a lesson. Effects are right whatever this model is, because the propensities are.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

__all__ = ["FOLDS", "KAPPA", "SHRINK", "codes", "contexts", "expected", "folds"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FOLDS = 5
SHRINK = 20.0
KAPPA = 10.0  # of a person's own units


def codes(values: pl.Series) -> Ints:
    """Numbers from 0 in place of values, the same for equal ones; nulls are a value of their own."""
    return (values.rank("dense").fill_null(0).cast(pl.Int64)).to_numpy()


def folds(person: Ints) -> Ints:
    """A fold from 0 to FOLDS - 1 for each person's number."""
    return person % FOLDS


def contexts(units: pl.DataFrame) -> list[Ints]:
    """Numbers of the segment, the task and the arm of each unit."""
    return [codes(units[name]) for name in ("segment", "task", "arm")]


def expected(y: Floats, levels: Sequence[Ints], person: Ints, decided_at: pl.Series) -> Floats:
    """m(x) of each unit, shape (units,); NaN where no unit has an outcome.

    `y` (units,) are outcomes, NaN where missing; `levels` numbers from 0, each (units,); `person` numbers people.
    """
    known = np.isfinite(y)
    if not known.any():
        return np.full(y.size, np.nan)
    fold = folds(person)
    fitted = np.full(y.size, float(y[known].mean()))
    for own in range(FOLDS):
        others = known & (fold != own)
        if not others.any():
            continue
        here = fold == own
        mean = float(y[others].mean())
        left, guess = y[others] - mean, np.full(int(here.sum()), mean)
        for level in levels:
            size = int(level.max()) + 1
            count = np.bincount(level[others], minlength=size)
            deviation = np.bincount(level[others], weights=left, minlength=size) / (count + SHRINK)
            left = left - deviation[level[others]]
            guess += deviation[level[here]]
        fitted[here] = guess
    return fitted + _own_past(np.where(known, y - fitted, 0.0), known, person, decided_at)


def _own_past(left: Floats, known: NDArray[np.bool_], person: Ints, decided_at: pl.Series) -> Floats:
    """The shrunk mean of what earlier units of the same person left over."""
    order = np.lexsort((decided_at.to_physical().to_numpy(), person))
    sums, counts = np.cumsum(left[order]), np.cumsum(known[order], dtype=np.float64)
    starts = np.flatnonzero(np.r_[True, np.diff(person[order]) != 0])
    lengths = np.diff(np.r_[starts, order.size])
    before_sum = np.r_[0.0, sums[:-1]] - np.repeat(np.r_[0.0, sums][starts], lengths)
    before_count = np.r_[0.0, counts[:-1]] - np.repeat(np.r_[0.0, counts][starts], lengths)
    past = np.empty(left.size)
    past[order] = before_sum / (before_count + KAPPA)
    return past
