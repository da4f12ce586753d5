"""Scans for one change in each of many sequences at once, over every split (METHODS §7, items 2 and 6).

G = max_s [l(before s) + l(after s) - l(all)], the generalised likelihood ratio over all splits with at least
`min_segment` events on both sides:

- `Bernoulli`: l(k, n) = k ln(k/n) + (n-k) ln(1 - k/n), from a table of x ln x;
- `Categories`: l = sum over categories of k_c ln(k_c/n), half of the G-test's statistic at the split;
- `NormalScores`: Gaussian with one variance, G = -(t-2)/2 ln(1 - B/S) of the normal scores of the ranks, B the sum of
  squares between the two sides and S all of it; so any order-preserving scale of the values gives the same G.

Sequences of equal length form blocks that stay in the processor's cache.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

__all__ = ["Bernoulli", "Categories", "NormalScores", "Scan", "blocks", "normal_scores", "scan"]

_BLOCK_EVENTS = 1 << 16
_MOSTLY_ONE = 0.75

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# Gains of all allowed splits, shape (sequences, splits), of a block of equally long sequences (sequences, events); the
# first split has `min_segment` events before it.
Gains = Callable[[NDArray[Any]], Floats]


@dataclass(frozen=True)
class Scan:
    """Per sequence, shape (sequences,): the statistic G (NaN when too short) and how many events precede the change."""

    statistic: Floats
    before: Ints


@dataclass(frozen=True)
class Bernoulli:
    """Gains of sequences of 0/1."""

    min_segment: int = 10

    def __call__(self, block: NDArray[Any]) -> Floats:
        """Gains of a block."""
        entropy = _entropy(block.shape[1])
        running = np.cumsum(block, axis=1, dtype=np.intp)
        return _two_sided(running, self.min_segment, entropy) + _two_sided(
            np.arange(1, block.shape[1] + 1) - running, self.min_segment, entropy
        ) - _sizes(block.shape[1], self.min_segment, entropy)  # fmt: skip


@dataclass(frozen=True)
class Categories:
    """Gains of sequences of codes 0..categories-1."""

    categories: int
    min_segment: int = 20

    def __call__(self, block: NDArray[Any]) -> Floats:
        """Gains of a block."""
        entropy = _entropy(block.shape[1])
        gains = np.repeat(-_sizes(block.shape[1], self.min_segment, entropy)[None, :], block.shape[0], axis=0)
        for code in range(self.categories):
            gains += _two_sided(np.cumsum(block == code, axis=1, dtype=np.intp), self.min_segment, entropy)
        return gains


@dataclass(frozen=True)
class NormalScores:
    """Gains of sequences of numbers, by the normal scores of their ranks; ties share their mean rank.

    Where one value has more than three quarters of the events, the others are too rare for a normal distribution: then
    the gain is at most that of "this value or another" as a Bernoulli sequence, whose tail is no heavier.
    """

    min_segment: int = 20

    def __call__(self, block: NDArray[Any]) -> Floats:
        """Gains of a block."""
        scores, middle = _scored(block)
        gains = self._of_scores(scores)
        if middle is None:
            return gains
        # A value that has most of the events is the middle one.
        usual = block == middle[:, None]
        rare = np.flatnonzero(usual.mean(axis=1) > _MOSTLY_ONE)
        if rare.size:
            gains[rare] = np.minimum(gains[rare], Bernoulli(self.min_segment)(usual[rare]))
        return gains

    def _of_scores(self, scores: Floats) -> Floats:
        events = scores.shape[1]
        sizes = np.arange(self.min_segment, events - self.min_segment + 1)
        total = np.einsum("ij,ij->i", scores, scores)
        # Mean ranks of ties keep the mean score near 0 but not at it.
        running = np.cumsum(scores, axis=1)
        whole = running[:, -1:]
        total -= whole[:, 0] ** 2 / events
        between = running[:, sizes - 1] - whole * (sizes / events)
        between *= between
        between *= events / (sizes * (events - sizes))
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(total[:, None] > 1e-9, between / total[:, None], 0.0)
        # A perfect separation of two values would be infinite; no larger than what the numbers can tell.
        return np.asarray(-0.5 * (events - 2) * np.log1p(-np.minimum(share, 1.0 - 1e-9)), dtype=np.float64)


def scan(
    values: NDArray[Any], lengths: Ints, gains: Bernoulli | Categories | NormalScores, *, threads: int = 1
) -> Scan:
    """Scan sequences laid end to end in `values`; `lengths` says how many events each has (0 allowed).

    Among equal maxima the earliest split is taken. Sequences shorter than two segments get NaN and 0. `threads` share
    the blocks. Raises ValueError when lengths do not add up, or values are not finite or not what `gains` reads.
    """
    values, lengths = np.asarray(values), np.asarray(lengths, dtype=np.int64)
    _check(values, lengths, gains)
    statistic = np.full(lengths.size, np.nan)
    before = np.zeros(lengths.size, dtype=np.int64)

    def of_block(block: tuple[Ints, NDArray[Any]]) -> None:
        rows, sequences = block
        found = gains(sequences)
        best = found.argmax(axis=1)
        statistic[rows] = np.maximum(found[np.arange(rows.size), best], 0.0)
        before[rows] = best + gains.min_segment

    found_blocks = blocks(values, lengths, shortest=2 * gains.min_segment)
    if threads == 1:
        for block in found_blocks:
            of_block(block)
    else:
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(of_block, found_blocks):
                pass
    return Scan(statistic, before)


def blocks(values: NDArray[Any], lengths: Ints, *, shortest: int) -> Iterator[tuple[Ints, NDArray[Any]]]:
    """Rows of equally long sequences of at least `shortest` events, and their values of shape (rows, events)."""
    starts = np.cumsum(lengths) - lengths
    order = np.argsort(lengths, kind="stable")
    ordered = lengths[order]
    for length in np.unique(ordered[ordered >= max(shortest, 1)]).tolist():
        same = order[np.searchsorted(ordered, length) : np.searchsorted(ordered, length, side="right")]
        step = max(1, _BLOCK_EVENTS // length)
        for first in range(0, same.size, step):
            rows = same[first : first + step]
            begin = int(starts[rows[0]])
            if int(starts[rows[-1]]) - begin == (rows.size - 1) * length:  # they lie side by side
                yield rows, values[begin : begin + rows.size * length].reshape(rows.size, length)
            else:
                yield rows, values[starts[rows][:, None] + np.arange(length)]


def normal_scores(block: NDArray[Any]) -> Floats:
    """Normal scores of each row's ranks, Phi^-1((rank - 1/2) / n); ties share their mean rank. Shape (rows, n)."""
    return _scored(block)[0]


def _scored(block: NDArray[Any]) -> tuple[Floats, NDArray[Any] | None]:
    """Normal scores, and the middle value of each row where any row has ties."""
    rows, events = block.shape
    order = np.argsort(block, axis=1)
    ordered = np.take_along_axis(block, order, axis=1)
    place = np.arange(events)
    fresh = np.ones((rows, events), dtype=bool)
    np.not_equal(ordered[:, 1:], ordered[:, :-1], out=fresh[:, 1:])
    distinct = bool(fresh.all())
    if distinct:
        twice = np.broadcast_to(2 * place, (rows, events))
    else:
        first = np.maximum.accumulate(np.where(fresh, place, 0), axis=1)
        ends = np.ones((rows, events), dtype=bool)
        ends[:, :-1] = fresh[:, 1:]
        last = np.minimum.accumulate(np.where(ends, place, events - 1)[:, ::-1], axis=1)[:, ::-1]
        twice = first + last
    scores = np.empty((rows, events))
    np.put_along_axis(scores, order, _quantiles(events)[twice], axis=1)
    return scores, None if distinct else ordered[:, events // 2]


@lru_cache(maxsize=2048)
def _quantiles(events: int) -> Floats:
    """Phi^-1 at twice the rank from 0 (so that a mean of two ranks is an index), shape (2 events - 1,)."""
    return np.asarray(ndtri((np.arange(2 * events - 1) / 2.0 + 0.5) / events), dtype=np.float64)


@lru_cache(maxsize=8)
def _entropy_to(largest: int) -> Floats:
    x = np.arange(largest + 1, dtype=np.float64)
    x[1:] *= np.log(x[1:])
    return x


def _entropy(largest: int) -> Floats:
    """x ln x for x = 0..at least `largest`: every term of a log-likelihood of counts is one of these."""
    return _entropy_to(1 << max(largest, 1).bit_length())


def _two_sided(running: NDArray[np.intp], min_segment: int, entropy: Floats) -> Floats:
    """x ln x of a count before and after each split, minus that of the whole; of counts (sequences, events)."""
    counts = running[:, min_segment - 1 : running.shape[1] - min_segment]
    whole = running[:, -1:]
    gains = np.take(entropy, counts, mode="clip")
    gains += np.take(entropy, whole - counts, mode="clip")
    gains -= entropy[whole]
    return gains


def _sizes(events: int, min_segment: int, entropy: Floats) -> Floats:
    sizes = np.arange(min_segment, events - min_segment + 1)
    return np.asarray(entropy[sizes] + entropy[events - sizes] - entropy[events], dtype=np.float64)


def _check(values: NDArray[Any], lengths: Ints, gains: Bernoulli | Categories | NormalScores) -> None:
    if lengths.sum() != values.size or np.any(lengths < 0):
        raise ValueError(f"lengths add up to {lengths.sum()}, but there are {values.size} values")
    if values.size == 0:
        return
    if isinstance(gains, NormalScores):
        if not np.isfinite(values).all():
            raise ValueError("values must be finite")
        return
    categories = 2 if isinstance(gains, Bernoulli) else gains.categories
    low, high = values.min(), values.max()
    if not (low >= 0 and high < categories) or (values.dtype.kind == "f" and not np.all(values == np.floor(values))):
        raise ValueError("values must be 0 or 1" if categories == 2 else f"values must be codes 0 to {categories - 1}")
