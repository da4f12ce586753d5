"""Ridge regression cross-fitted by two groupings at once: nobody and no task is on both sides of a prediction.

People and tasks are each split into K folds by a hash of their name; a trace lies in the cell (fold of its user, fold
of its task). It is predicted by the fit on the traces whose user *and* task lie in other folds, so what it tells of new
people and new tasks is honest (two-way cross-validation as in Owen & Perry 2009, Ann. Appl. Stat. 3:564). All K² fits
come from the K² cells' Gram matrices, read once: the Gram matrix of a training set is the whole less a row and a column
of cells plus their crossing.

    beta_c = (sum X'WX + diag(penalty))^-1 sum X'Wz,   w_i = 1 / (1 + 1/precision_i)

The first column of the design is a constant without penalty. Columns come in groups (steps, words, ...) with a penalty
each, one over the prior variance of a coefficient: those with the smallest loss out of fold, which the Gram matrices
give as well (empirical Bayes over groups, as in van de Wiel et al. 2016, Stat. Med. 35:368).
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

__all__ = ["PENALTIES", "CrossFit", "Grams", "fold_of", "solve"]

Floats = NDArray[np.float64]

PENALTIES = (3.0, 10.0, 30.0, 100.0, 300.0)
_CONSTANT = 1e-6
_LEAST, _MOST = 3.0, 10_000.0
_ROUNDS = 4
_MANY_ROWS = 30_000


def fold_of(names: pl.Series, lone: pl.Series, folds: int) -> NDArray[np.int64]:
    """The fold of each row by a stable hash (CRC-32) of its name; a row without a name is on its own (`lone`)."""
    filled = pl.select(pl.coalesce(names.cast(pl.String), pl.lit("row ") + lone.cast(pl.String))).to_series()
    unique = filled.unique()
    codes = pl.Series([zlib.crc32(name.encode()) % folds for name in unique], dtype=pl.Int64)
    return filled.replace_strict(unique, codes, return_dtype=pl.Int64).to_numpy()


@dataclass
class Grams:
    """Sums over the training rows of each of `cells` cells: X'WX, X'Wz and z'Wz, with a constant as first column."""

    cells: int
    columns: int
    xx: Floats = field(init=False)
    xz: Floats = field(init=False)
    zz: Floats = field(init=False)
    rows: NDArray[np.int64] = field(init=False)
    nonzero: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        width = self.columns + 1
        self.xx = np.zeros((self.cells, width, width))
        self.xz = np.zeros((self.cells, width))
        self.zz = np.zeros(self.cells)
        self.rows = np.zeros(self.cells, np.int64)
        self.nonzero = np.zeros(width, np.int64)

    def add(self, matrix: NDArray[np.float32], z: Floats, weight: Floats, cell: NDArray[np.int64]) -> None:
        """Add rows: `matrix` (rows, columns), targets, weights and cells of the rows."""
        design = np.concatenate([np.ones((len(matrix), 1), np.float32), matrix], axis=1)
        self.nonzero += (design != 0.0).sum(axis=0)
        scaled = design * np.sqrt(weight).astype(np.float32)[:, None]
        target = (z * np.sqrt(weight)).astype(np.float32)
        order = np.argsort(cell, kind="stable")
        edges = np.searchsorted(cell[order], np.arange(self.cells + 1))
        for number in np.unique(cell).tolist():
            rows = order[edges[number] : edges[number + 1]]
            own = scaled[rows]
            self.xx[number] += own.T @ own
            self.xz[number] += own.T @ target[rows]
            self.zz[number] += float(np.sum(weight[rows] * z[rows] ** 2))
            self.rows[number] += len(rows)


@dataclass(frozen=True)
class CrossFit:
    """`coefficients` (cells, columns + 1) of the fits that have not seen their cell; `whole` of the fit on everything
    with its standard deviations; `penalties` by group of columns; the weighted loss out of fold and the share of
    variance that is explained there.
    """

    coefficients: Floats
    whole: Floats
    whole_sd: Floats
    penalties: dict[str, float]
    loss: float
    explained: float
    nonzero: NDArray[np.int64]
    rows: int


def solve(
    grams: Grams, folds: int, groups: Sequence[str] | None = None, penalties: Sequence[float] = PENALTIES
) -> CrossFit:
    """Fit every cell's model and the whole one with the penalties that predict best out of fold.

    Args: `groups` names the group of each column (default: one for all). Columns of a group share a penalty; the search
    begins with the best penalty for all and then changes one group at a time while that helps.
    Raises ValueError when the cells are not folds x folds, or for another number of groups.
    """
    if grams.cells != folds * folds:
        raise ValueError(f"expected {folds} x {folds} cells, came {grams.cells}")
    groups = list(groups) if groups is not None else ["all"] * grams.columns
    if len(groups) != grams.columns:
        raise ValueError(f"expected a group for each of {grams.columns} columns, came {len(groups)}")
    names = sorted(set(groups))
    fits = _Fits(grams, folds, np.array([names.index(group) for group in groups], dtype=np.int64))
    choice, loss = _search(fits, len(names), penalties)
    betas = fits.cells(np.array(choice), fits.every)
    whole, inverse = fits.whole(np.array(choice))
    total_weight = float(fits.total_xx[0, 0])
    mean = float(fits.total_xz[0]) / max(total_weight, 1e-12)
    spread = float(grams.zz.sum()) - total_weight * mean * mean
    loss = fits.loss(betas, fits.every)
    return CrossFit(
        coefficients=betas,
        whole=whole,
        whole_sd=np.sqrt(np.maximum(np.diag(inverse), 0.0)),
        penalties=dict(zip(names, choice, strict=True)),
        loss=loss,
        explained=1.0 - loss / spread if spread > 0 else 0.0,
        nonzero=grams.nonzero,
        rows=int(grams.rows.sum()),
    )


def _search(fits: "_Fits", groups: int, penalties: Sequence[float]) -> tuple[list[float], float]:
    """Penalties of the groups with the smallest loss out of fold, one after the other."""
    tried: dict[tuple[float, ...], float] = {}

    def loss(choice: list[float]) -> float:
        key = tuple(choice)
        if key not in tried:
            tried[key] = fits.loss(fits.cells(np.array(choice), fits.searched), fits.searched)
        return tried[key]

    best = min(([penalty] * groups for penalty in penalties), key=loss)
    if groups == 1:
        return best, loss(best)
    for _ in range(_ROUNDS):
        before = loss(best)
        for group in range(groups):
            ladder = [step for step in (best[group] / 3, best[group] * 3) if _LEAST <= step <= _MOST]
            options = [best, *([*best[:group], step, *best[group + 1 :]] for step in ladder)]
            best = min(options, key=loss)
        if loss(best) > before * (1 - 1e-4):
            break
    return best, loss(best)


class _Fits:
    """Solutions of the training sets of the cells, for given penalties of the groups."""

    def __init__(self, grams: Grams, folds: int, group: NDArray[np.int64]) -> None:
        width = grams.columns + 1
        self.grams, self.folds, self.group = grams, folds, group
        xx, xz = grams.xx.reshape(folds, folds, width, width), grams.xz.reshape(folds, folds, width)
        self.total_xx, self.total_xz = xx.sum(axis=(0, 1)), xz.sum(axis=(0, 1))
        self.by_user = xx.sum(axis=1), xz.sum(axis=1)
        self.by_task = xx.sum(axis=0), xz.sum(axis=0)
        self.every = list(range(folds * folds))
        # A diagonal of cells has every fold once; of many rows it is as good a guide as all cells.
        shifts = folds if int(grams.rows.sum()) < _MANY_ROWS else 1
        self.searched = [fold * folds + (fold + shift) % folds for shift in range(shifts) for fold in range(folds)]

    def cells(self, penalty: Floats, cells: Sequence[int]) -> Floats:
        """Coefficients (cells, columns + 1), each fitted without the rows of its cell's people and tasks."""
        ridge = self._ridge(penalty)
        diagonal = np.arange(len(ridge))
        betas = np.empty((len(cells), len(ridge)))
        # With so many small factorisations threads wait for each other more than they work.
        with threadpool_limits(1):
            for at, cell in enumerate(cells):
                user, task = divmod(cell, self.folds)
                gram = self.total_xx - self.by_user[0][user] - self.by_task[0][task] + self.grams.xx[cell]
                gram[diagonal, diagonal] += ridge
                moment = self.total_xz - self.by_user[1][user] - self.by_task[1][task] + self.grams.xz[cell]
                factor = cho_factor(gram, overwrite_a=True, check_finite=False)
                betas[at] = cho_solve(factor, moment, check_finite=False)
        return betas

    def whole(self, penalty: Floats) -> tuple[Floats, Floats]:
        """Coefficients of the fit on all rows, and the inverse of its Gram matrix."""
        factor = cho_factor(self.total_xx + np.diag(self._ridge(penalty)))
        return cho_solve(factor, self.total_xz), cho_solve(factor, np.eye(len(self.total_xz)))

    def loss(self, betas: Floats, cells: Sequence[int]) -> float:
        """Weighted squared error of the cells' rows by the fits that have not seen them."""
        total = 0.0
        for beta, cell in zip(betas, cells, strict=True):
            total += float(self.grams.zz[cell] - 2.0 * beta @ self.grams.xz[cell] + beta @ self.grams.xx[cell] @ beta)
        return total

    def _ridge(self, penalty: Floats) -> Floats:
        return np.concatenate([[_CONSTANT], penalty[self.group]])
