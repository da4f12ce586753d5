"""Scan for one change in a Bernoulli rate, for all users at once (METHODS §7, items 2 and 3).

G = max_s [l(S_s, s) + l(S_t - S_s, t - s) - l(S_t, t)] with l(k, n) = k ln(k/n) + (n-k) ln(1 - k/n), over every split
with at least `min_segment` events on both sides. The p-value is the Monte-Carlo tail fit of METHODS §7: valid for all
looks so far at a history of up to 1,000 events looked at every 20, and stable over rates from .1 to .9.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["CALIBRATED_EVENTS", "MIN_SEGMENT", "Scan", "p_value", "scan"]

MIN_SEGMENT = 10
CALIBRATED_EVENTS = 1000  # the p-value was calibrated for histories up to this length


@dataclass(frozen=True)
class Scan:
    """Per sequence, shape (sequences,): the statistic G (NaN when too short) and how many events precede the change."""

    statistic: NDArray[np.float64]
    before: NDArray[np.int64]


def scan(values: NDArray[np.int64], lengths: NDArray[np.int64], *, min_segment: int = MIN_SEGMENT) -> Scan:
    """Scan sequences of 0/1 laid end to end in `values`; `lengths` says how many events each has (0 allowed).

    One pass over all events, whatever the number of sequences. Among equal maxima the earliest split is taken.
    Sequences shorter than two segments get NaN and 0. Raises ValueError when values are not 0/1 or lengths do not add
    up.
    """
    values, lengths = np.asarray(values), np.asarray(lengths, dtype=np.int64)
    if lengths.sum() != values.size or np.any(lengths < 0):
        raise ValueError(f"lengths add up to {lengths.sum()}, but there are {values.size} values")
    if values.size and not np.all((values == 0) | (values == 1)):
        raise ValueError("values must be 0 or 1")
    statistic = np.full(lengths.size, np.nan)
    before = np.zeros(lengths.size, dtype=np.int64)
    if values.size == 0:
        return Scan(statistic, before)
    entropy = _counts_entropy(int(lengths.max()))
    starts = np.cumsum(lengths) - lengths
    owner = np.repeat(np.arange(lengths.size), lengths)
    running = np.cumsum(values, dtype=np.int64)
    ahead_of = np.concatenate(([0], running))[starts]
    totals = np.concatenate(([0], running))[starts + lengths] - ahead_of
    t, total = lengths[owner], totals[owner]
    s = np.arange(values.size) - starts[owner] + 1
    k = running - ahead_of[owner]
    allowed = (s >= min_segment) & (t - s >= min_segment)
    s, t, k, total, owner = s[allowed], t[allowed], k[allowed], total[allowed], owner[allowed]
    if owner.size == 0:
        return Scan(statistic, before)
    gain = (
        _log_likelihood(k, s, entropy) + _log_likelihood(total - k, t - s, entropy) - _log_likelihood(total, t, entropy)
    )
    first = np.flatnonzero(np.concatenate(([True], owner[1:] != owner[:-1])))
    highest = np.maximum.reduceat(gain, first)
    sequences = owner[first]
    at_maximum = gain == np.repeat(highest, np.diff(np.append(first, owner.size)))
    hits = np.flatnonzero(at_maximum)
    earliest = hits[np.unique(owner[hits], return_index=True)[1]]
    statistic[sequences] = np.maximum(highest, 0.0)
    before[sequences] = s[earliest]
    return Scan(statistic, before)


def p_value(statistic: NDArray[np.float64], windows: NDArray[np.int64] | int = 1) -> NDArray[np.float64]:
    """Sequential p-value min(1, .05 exp(-.96 (G - 8.2))) times the number of calibrated windows seen so far.

    A history longer than 1,000 events is scanned in its newest 1,000; `windows` = ceil(events / 1000) is a union bound
    over the windows looked at before. NaN stays NaN.
    """
    exponent = np.minimum(-0.96 * (np.asarray(statistic, dtype=np.float64) - 8.2), 50.0)
    return np.asarray(np.minimum(1.0, 0.05 * np.exp(exponent) * windows), dtype=np.float64)


def _counts_entropy(largest: int) -> NDArray[np.float64]:
    """x ln x for x = 0..largest: every term of a Bernoulli log-likelihood is one of these."""
    x = np.arange(largest + 1, dtype=np.float64)
    x[1:] *= np.log(x[1:])
    return x


def _log_likelihood(k: NDArray[np.int64], n: NDArray[np.int64], entropy: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(entropy[k] + entropy[n - k] - entropy[n], dtype=np.float64)
