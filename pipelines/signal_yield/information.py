"""Mutual information of two coded variables in bits, and its interval by a bootstrap over users.

Plug-in estimate with the first-order bias removed (Miller 1955; Madow): I - (K_xy - K_x - K_y + 1) / (2 n ln 2), with K
the numbers of values that occur. It is zero on average where there is no information, so single estimates may be below.

The interval is a percentile bootstrap that draws whole users, since one person's traces depend; beyond `_MOST_BLOCKS`
users it draws blocks of users, which depend on nothing either. A resample of a table is biased by as much again as the
table itself; that part is removed from every replicate, or intervals near zero would stand above it.
"""

from dataclasses import dataclass
from math import log
from typing import Final

import numpy as np
from numpy.typing import NDArray

from store.errors import JobError

__all__ = ["Information", "gaussian_bits", "mutual_information", "within_strata"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_MOST_BLOCKS: Final = 2_000
_CHUNK: Final = 4_000_000  # numbers drawn at once


@dataclass(frozen=True)
class Information:
    """Bits and the limits of their 95 % interval (NaN with fewer than two users), from n pairs of so many users."""

    bits: float
    lower: float
    upper: float
    n: int
    users: int


def gaussian_bits(prior_variance: float, posterior_variance: float) -> float:
    """What a measurement told about a Gaussian quantity: 0.5 log2(prior variance / posterior variance).

    Raises JobError unless both are above 0 and finite.
    """
    if not (0.0 < posterior_variance < float("inf") and 0.0 < prior_variance < float("inf")):
        raise JobError(f"Variances must be above 0 and finite; came {prior_variance} and {posterior_variance}.")
    return 0.5 * float(np.log2(prior_variance / posterior_variance))


def mutual_information(counts: Floats) -> Floats:
    """Bias-corrected bits of tables of counts, shape (..., x, y); shape (...). An empty table tells nothing: 0."""
    plug_in, bias = _plug_in(counts)
    return np.asarray(plug_in - bias)


def within_strata(
    x: Ints,
    y: Ints,
    stratum: Ints,
    user: Ints,
    *,
    replicates: int,
    random: np.random.Generator,
    present: Ints | None = None,
) -> Information:
    """I(X; Y | stratum) in bits: the mean of the strata's information, each by its share of the pairs.

    All arrays have shape (n,) and hold codes from 0. `present` (0 or 1) restricts to the pairs where it is 1 in each
    replicate. A single stratum gives I(X; Y). Raises JobError for unequal lengths, negative codes, or no pairs.
    """
    if present is not None:
        chosen = present == 1
        x, y, stratum, user = x[chosen], y[chosen], stratum[chosen], user[chosen]
    if len({len(x), len(y), len(stratum), len(user)}) != 1 or len(x) == 0:
        raise JobError(f"Information needs pairs: came {len(x)}, {len(y)}, {len(stratum)} and {len(user)} values.")
    if min(int(each.min()) for each in (x, y, stratum, user)) < 0:
        raise JobError("Information needs codes from 0; some are negative.")
    shape = (int(stratum.max()) + 1, int(x.max()) + 1, int(y.max()) + 1)
    cell = np.ravel_multi_index((stratum, x, y), shape)
    _, user = np.unique(user, return_inverse=True)
    users = int(user.max()) + 1
    whole = np.bincount(cell, minlength=int(np.prod(shape))).astype(np.float64).reshape(shape)
    bits = float(_averaged(whole, corrections=1))
    if users < 2 or replicates < 2:
        return Information(bits, float("nan"), float("nan"), len(x), users)
    drawn = np.concatenate(
        [_averaged(table, corrections=2) for table in _resampled(cell, user, shape, replicates, random)]
    )
    lower, upper = np.quantile(drawn, [0.025, 0.975])
    return Information(bits, float(min(lower, bits)), float(max(upper, bits)), len(x), users)


def _resampled(
    cell: Ints, user: Ints, shape: tuple[int, ...], replicates: int, random: np.random.Generator
) -> list[Floats]:
    """Tables of bootstrap replicates that draw users with replacement (Poisson counts), in chunks."""
    user = user % _MOST_BLOCKS
    users, cells = int(user.max()) + 1, int(np.prod(shape))
    # Only the (user, cell) pairs that occur: most users are in few cells.
    key, times = np.unique(user * cells + cell, return_counts=True)
    of_user, of_cell = np.divmod(key, cells)
    order = np.argsort(of_cell, kind="stable")
    of_user, of_cell, times = of_user[order], of_cell[order], times[order].astype(np.float64)
    starts = np.flatnonzero(np.concatenate([[True], np.diff(of_cell) > 0]))
    at_once = max(1, _CHUNK // max(users, len(key)))
    tables = []
    for begin in range(0, replicates, at_once):
        rows = min(at_once, replicates - begin)
        weights = random.poisson(1.0, size=(rows, users)).astype(np.float64)
        sums = np.add.reduceat(weights[:, of_user] * times, starts, axis=1)
        table = np.zeros((rows, cells))
        table[:, of_cell[starts]] = sums
        tables.append(table.reshape(rows, *shape))
    return tables


def _averaged(counts: Floats, *, corrections: int) -> Floats:
    """Bits of tables (..., strata, x, y), averaged over strata by their counts; the bias is removed so many times."""
    plug_in, bias = _plug_in(counts)
    size = counts.sum(axis=(-2, -1))
    total = np.maximum(size.sum(axis=-1), 1.0)
    return np.asarray(((plug_in - corrections * bias) * size).sum(axis=-1) / total)


def _plug_in(counts: Floats) -> tuple[Floats, Floats]:
    n = counts.sum(axis=(-2, -1), keepdims=True)
    share = counts / np.maximum(n, 1.0)
    rows, columns = share.sum(axis=-1, keepdims=True), share.sum(axis=-2, keepdims=True)
    expected = rows * columns
    ratio = np.divide(share, expected, out=np.ones_like(share), where=share > 0.0)
    plug_in = (share * np.log2(ratio)).sum(axis=(-2, -1))
    kinds = (
        (share > 0.0).sum(axis=(-2, -1)) - (rows > 0.0).sum(axis=(-2, -1)) - (columns > 0.0).sum(axis=(-2, -1)) + 1.0
    )
    size = n[..., 0, 0]
    return plug_in, np.where(size > 0.0, kinds, 0.0) / (2.0 * np.maximum(size, 1.0) * log(2.0))
