"""How far two distributions over categories are apart: population stability index without its bias, and G-test.

The published thresholds of the index (.1, .25) hold for thousands of events: without any change its expectation is
(B - 1)(1/n0 + 1/n1), .63 with ten bins, 50 events before and 20 after. So it is reported minus that, and tested by
PSI n0 n1 / (n0 + n1) ~ chi-squared with B - 1 degrees of freedom (METHODS §7.6).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincc, xlogy

__all__ = ["Stability", "g_test", "stability"]

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Stability:
    """Per pair: the index, the index minus its expectation without a change, and its p-value at a fixed look."""

    raw: Floats
    corrected: Floats
    p_value: Floats


def stability(before: Counts, after: Counts) -> Stability:
    """Of counts (pairs, categories) before and after. Categories that neither side has do not count as bins.

    Half an event is added to each category seen on either side, since the logarithm of none is infinite. A pair with
    an empty side, or one category, has NaN. Raises ValueError for negative counts or different shapes.
    """
    first, second, bins = _checked(before, after)
    seen = (first + second) > 0
    n0, n1 = first.sum(axis=1), second.sum(axis=1)
    share0 = np.where(seen, first + 0.5, 0.0) / np.maximum(n0 + bins / 2, 1.0)[:, None]
    share1 = np.where(seen, second + 0.5, 0.0) / np.maximum(n1 + bins / 2, 1.0)[:, None]
    ratio = np.log(np.where(seen, share1, 1.0) / np.where(seen, share0, 1.0))
    raw = np.sum((share1 - share0) * ratio, axis=1)
    possible = (n0 > 0) & (n1 > 0) & (bins > 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = (bins - 1) * (1.0 / n0 + 1.0 / n1)
        statistic = raw * n0 * n1 / (n0 + n1)
    nan = np.nan
    p = gammaincc(np.where(possible, (bins - 1) / 2, 1.0), np.where(possible, statistic / 2, 0.0))
    return Stability(
        np.where(possible, raw, nan), np.where(possible, raw - expected, nan), np.where(possible, p, nan)
    )  # fmt: skip


def g_test(before: Counts, after: Counts) -> tuple[Floats, Floats]:
    """G statistics 2 sum O ln(O/E) and p-values at a fixed look, of counts (pairs, categories) before and after.

    Degrees of freedom: categories seen on either side, minus one. NaN where a side is empty or one category is all.
    """
    first, second, bins = _checked(before, after)
    n0, n1, both = first.sum(axis=1), second.sum(axis=1), first + second
    cells = xlogy(first, first).sum(axis=1) + xlogy(second, second).sum(axis=1) - xlogy(both, both).sum(axis=1)
    statistic = 2.0 * (cells - xlogy(n0, n0) - xlogy(n1, n1) + xlogy(n0 + n1, n0 + n1))
    possible = (n0 > 0) & (n1 > 0) & (bins > 1)
    statistic = np.where(possible, np.maximum(statistic, 0.0), np.nan)
    p = gammaincc(np.where(possible, (bins - 1) / 2, 1.0), np.where(possible, statistic / 2, 0.0))
    return statistic, np.where(possible, p, np.nan)


def _checked(before: Counts, after: Counts) -> tuple[Floats, Floats, Floats]:
    first, second = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 2 or np.any(first < 0) or np.any(second < 0):
        raise ValueError(
            f"counts must be 0 or more, of one shape (pairs, categories), came {first.shape} {second.shape}"
        )
    return first, second, ((first + second) > 0).sum(axis=1).astype(np.float64)
