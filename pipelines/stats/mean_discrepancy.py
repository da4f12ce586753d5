"""Did the distribution of vectors change somewhere along a sequence? Maximum mean discrepancy, blocks permuted.

Gretton et al. (2012, JMLR 13:723): MMD² of before and after a split, Gaussian kernel with the median distance as its
bandwidth, or linear kernel: then MMD² is the squared distance of the means, and nothing but means is compared.
The statistic is the largest of a grid of splits, each divided by its standard deviation under permutation, and the
p-value comes from permutations of whole blocks (sessions), since rows of one session are alike: so it holds for the
choice of the split and for dependence within blocks. All permutations are one matrix product (METHODS §7.7).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Discrepancy", "project", "split_discrepancy"]

_SPLITS = 9
_MOST_ROWS = 1000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Discrepancy:
    """The largest standardised MMD², its permutation p-value, MMD² there, and rows before the split."""

    statistic: float
    p_value: float
    squared: float
    before: int


def project(vectors: Floats, *, random: np.random.Generator, dimensions: int = 64) -> Floats:
    """Random projection of rows to at most `dimensions`, which keeps distances (Johnson & Lindenstrauss 1984)."""
    vectors = np.asarray(vectors, dtype=np.float64)
    if vectors.shape[1] <= dimensions:
        return vectors
    return np.asarray(vectors @ (random.normal(size=(vectors.shape[1], dimensions)) / np.sqrt(dimensions)))


def split_discrepancy(
    vectors: Floats,
    blocks: NDArray[np.int64],
    *,
    random: np.random.Generator,
    min_segment: int = 20,
    permutations: int = 500,
    kernel: Literal["gaussian", "linear"] = "gaussian",
) -> Discrepancy:
    """Scan the newest 1,000 rows (rows, dimensions) in order of time; `blocks` numbers the block of each row.

    p is (1 + permutations at least as large) / (1 + permutations), beyond the tenth largest of them with an exponential
    tail fitted to the largest tenth (Knijnenburg et al. 2009, Bioinformatics 25:i161). p = 1 where all rows are equal,
    or where fewer than two blocks or two segments are there. Raises ValueError for vectors that are not finite or
    shapes that differ.
    """
    vectors, blocks = np.asarray(vectors, dtype=np.float64), np.asarray(blocks)
    if vectors.ndim != 2 or blocks.shape != vectors.shape[:1] or not np.isfinite(vectors).all():
        raise ValueError(f"vectors must be finite, one block for each, came {vectors.shape} and {blocks.shape}")
    dropped = max(vectors.shape[0] - _MOST_ROWS, 0)
    vectors, blocks = vectors[dropped:], blocks[dropped:]
    rows = vectors.shape[0]
    _, codes = np.unique(blocks, return_inverse=True)
    sizes = np.bincount(codes) if rows else np.zeros(0, dtype=np.int64)
    nothing = Discrepancy(0.0, 1.0, 0.0, 0)
    if rows < 2 * min_segment or sizes.size < 2:
        return nothing
    similar = _gaussian(vectors) if kernel == "gaussian" else _linear(vectors)
    if similar is None:
        return nothing
    splits = np.unique(np.linspace(min_segment, rows - min_segment, _SPLITS).astype(np.int64))
    squared = _permuted(similar, codes, sizes, splits, random, permutations)
    centre, spread = squared.mean(axis=0), squared.std(axis=0)
    possible = spread > 1e-12
    if not possible.any():
        return nothing
    standard = np.where(possible, (squared - centre) / np.where(possible, spread, 1.0), -np.inf)
    highest = standard.max(axis=1)
    best = int(standard[0].argmax())
    p = _tail(float(highest[0]), highest[1:])
    return Discrepancy(float(highest[0]), p, float(squared[0, best]), int(splits[best]) + dropped)


def _tail(statistic: float, permuted: Floats) -> float:
    larger = int(np.sum(permuted >= statistic - 1e-12))
    tenth = permuted.size // 10
    if larger >= 10 or tenth < 20:
        return (1 + larger) / (1 + permuted.size)
    ordered = np.sort(permuted)
    threshold = ordered[-tenth - 1]
    mean = float(np.mean(ordered[-tenth:] - threshold))
    if mean <= 0.0:
        return (1 + larger) / (1 + permuted.size)
    return float(tenth / permuted.size * np.exp(-(statistic - threshold) / mean))


def _gaussian(vectors: Floats) -> Floats | None:
    """Gaussian kernel of all pairs at the median distance, diagonal 0; None where all rows are equal."""
    lengths = np.einsum("ij,ij->i", vectors, vectors)
    distances = np.maximum(lengths[:, None] + lengths[None, :] - 2.0 * vectors @ vectors.T, 0.0)
    apart = distances[np.triu_indices_from(distances, 1)]
    positive = apart[apart > 1e-12 * max(float(lengths.max()), 1.0)]
    if positive.size == 0:
        return None
    kernel = np.exp(-distances / float(np.median(positive)))
    np.fill_diagonal(kernel, 0.0)
    return np.asarray(kernel, dtype=np.float64)


def _linear(vectors: Floats) -> Floats | None:
    """Inner products of all pairs of centred rows, diagonal 0; None where all rows are equal."""
    centred = vectors - vectors.mean(axis=0)
    if float(np.abs(centred).max()) <= 1e-9 * max(float(np.abs(vectors).max()), 1e-300):
        return None
    products = centred @ centred.T
    products = products / float(np.trace(products))
    np.fill_diagonal(products, 0.0)
    return np.asarray(products * vectors.shape[0], dtype=np.float64)


def _permuted(
    kernel: Floats, codes: NDArray[np.int64], sizes: NDArray[np.int64], splits: NDArray[np.int64],
    random: np.random.Generator, permutations: int,
) -> Floats:  # fmt: skip
    """Unbiased MMD² of the given order (row 0) and of random orders of blocks, shape (1 + permutations, splits)."""
    rows, blocks = codes.size, sizes.size
    members = np.argsort(codes, kind="stable")
    rank_within = np.arange(rows) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    place = np.empty((permutations + 1, rows), dtype=np.int64)
    place[0] = np.arange(rows)
    orders = random.permuted(np.broadcast_to(np.arange(blocks), (permutations, blocks)), axis=1)
    ordered_sizes = sizes[orders]
    starts = np.empty_like(orders)
    np.put_along_axis(starts, orders, np.cumsum(ordered_sizes, axis=1) - ordered_sizes, axis=1)
    place[1:, members] = np.repeat(starts, sizes, axis=1) + rank_within
    whole = float(kernel.sum())
    degree = kernel.sum(axis=1)
    found = np.empty((permutations + 1, splits.size))
    for number, split in enumerate(splits.tolist()):
        side = (place < split).astype(np.float64)
        inside = np.einsum("ij,ij->i", side @ kernel, side)
        across = side @ degree - inside
        outside = whole - inside - 2.0 * across
        after = rows - split
        found[:, number] = (
            inside / (split * (split - 1)) + outside / (after * (after - 1)) - 2.0 * across / (split * after)
        )
    return found
