"""Cell means shrunk towards the mean of a coarser cell, for several cross-fitting folds at once.

Credibility estimator of Bühlmann & Straub (1970, ASTIN Bulletin 5:111-133): with n visits of a cell, mean ȳ and the
parent's estimate m, the cell's value is (n ȳ + κ m) / (n + κ), κ = σ²/τ². σ² is the variance within cells, τ² that of
cell means around their parent's, both by moments. For yes/no outcomes σ² = m(1-m) - τ², so that κ = m(1-m)/τ² - 1 and
the estimator is the (k + κm)/(n + κ) of METHODS §4; rewards are not only 0 and 1, so σ² is estimated.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["KAPPA", "LARGEST_KAPPA", "Cells", "Sums", "dense", "shrink", "sum_by"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

KAPPA = 10.0  # where the data cannot tell it (METHODS §9)
LARGEST_KAPPA = 1e6  # cells that do not differ: all weight to the parent
_SMALLEST_KAPPA = 0.1
_PRESENCE_LIMIT = 200_000_000


@dataclass(frozen=True)
class Sums:
    """Per cell and fold, shape (cells, folds): visits, and sums of the outcome y and of its square."""

    n: Floats
    total: Floats
    squares: Floats

    def by(self, parent: Ints, parents: int) -> "Sums":
        """The sums of the coarser cells: `parent` (shape (cells,)) says which one each belongs to."""
        return Sums(*(sum_by(parent, values, parents) for values in (self.n, self.total, self.squares)))


@dataclass(frozen=True)
class Cells:
    """Estimates per cell and fold, shape (cells, folds): mean, its variance; and κ per group and fold."""

    mean: Floats
    variance: Floats
    kappa: Floats


def dense(parent: Ints, extra: Ints) -> tuple[Ints, Ints]:
    """Codes 0, 1, ... of the pairs (parent, extra), and for each code its parent's. Entries must not be negative."""
    width = int(extra.max(initial=0)) + 1
    key = parent * width + extra
    highest = int(key.max(initial=-1)) + 1
    if highest <= _PRESENCE_LIMIT:
        present = np.zeros(highest, dtype=bool)
        present[key] = True
        codes = np.cumsum(present) - 1
        return codes[key], np.flatnonzero(present) // width
    values, codes = np.unique(key, return_inverse=True)
    return codes.astype(np.int64), values // width


def sum_by(index: Ints, values: Floats, size: int) -> Floats:
    """Sums of the rows of `values` (shape (rows, folds)) by `index`: shape (size, folds)."""
    columns = [np.bincount(index, weights=column, minlength=size) for column in values.T]
    return np.stack(columns, axis=1) if columns else np.zeros((size, 0))


def shrink(sums: Sums, parent: Ints, prior: Cells, group: Ints, groups: int) -> Cells:
    """Estimates of cells whose parents are estimated by `prior`.

    Args: `sums` of the cells; `parent` and `group` (shape (cells,)): the coarser cell, and the agent for which one κ is
    estimated. Cells without visits get their parent's estimate.
    """
    parents = len(prior.mean)
    above = sums.by(parent, parents)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(sums.n > 0, sums.total / sums.n, 0.0)
        middle = np.where(above.n > 0, above.total / above.n, 0.0)
    seen = (sums.n > 0).astype(np.float64)
    within = sum_by(group, np.maximum(sums.squares - sums.n * mean**2, 0.0), groups)
    between = sum_by(group, sums.n * (mean - middle[parent]) ** 2, groups)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(above.n[parent] > 0, sums.n**2 / above.n[parent], 0.0)
        cells, visits = sum_by(group, seen, groups), sum_by(group, sums.n, groups)
        # Parents seen, counted by the group of their cells: every seen cell counts for its share of its parent.
        siblings = sum_by(parent, seen, parents)[parent]
        families = sum_by(group, np.where(seen > 0, 1.0 / np.maximum(siblings, 1.0), 0.0), groups)
        spread = visits - sum_by(group, share, groups)
        sigma2 = np.where(visits > cells, within / np.maximum(visits - cells, 1.0), np.nan)
        tau2 = np.where(spread > 0, (between - sigma2 * (cells - families)) / spread, np.nan)
        kappa = np.where(tau2 > 0, sigma2 / tau2, LARGEST_KAPPA)
    # Where every parent has one cell only, cells are their parents; without repeated visits nothing tells σ² from τ².
    kappa = np.where(np.isnan(sigma2), KAPPA, np.clip(kappa, _SMALLEST_KAPPA, LARGEST_KAPPA))
    kappa = np.where(spread > 0, kappa, LARGEST_KAPPA)
    sigma2 = np.nan_to_num(sigma2)
    k, above_mean = kappa[group], prior.mean[parent]
    weight = k / (sums.n + k)
    return Cells(
        mean=(sums.total + k * above_mean) / (sums.n + k),
        variance=sigma2[group] / (sums.n + k) + weight**2 * prior.variance[parent],
        kappa=kappa,
    )
