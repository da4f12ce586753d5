"""A proportion and its change: Wilson's interval, Newcombe's interval of a difference, and the verdict read off one.

Both stay inside what is possible (0 to 1, -1 to 1) and keep their coverage at small n and at 0 or n successes, where
the textbook interval p ± z·sqrt(p(1-p)/n) has width zero.
"""

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Literal

__all__ = ["Interval", "Verdict", "newcombe_difference", "verdict", "wilson_interval"]

Verdict = Literal["better", "no worse", "worse", "can't tell yet"]


@dataclass(frozen=True)
class Interval:
    """An estimate with its lower and upper confidence limit."""

    estimate: float
    lower: float
    upper: float


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """The score interval of a proportion (Wilson 1927, JASA 22:209-212; method 3 of Newcombe 1998, Stat Med 17:857).

    With p = k/n and z the normal quantile: (p + z²/2n ± z·sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n).
    Raises ValueError for no trials, counts that are not 0 <= k <= n, or a confidence outside (0, 1).
    """
    if trials <= 0 or not 0 <= successes <= trials:
        raise ValueError(f"expected 0 <= successes <= trials with at least one trial, came {successes} of {trials}")
    z = _quantile(confidence)
    p = successes / trials
    centre = p + z * z / (2 * trials)
    spread = z * sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    # At 0 and n successes one limit is exact; rounding must not move it outside.
    lower = 0.0 if successes == 0 else (centre - spread) / scale
    upper = 1.0 if successes == trials else (centre + spread) / scale
    return Interval(p, lower, upper)


def newcombe_difference(
    successes: int, trials: int, successes_before: int, trials_before: int, confidence: float = 0.95
) -> Interval:
    """The interval of p - p_before for independent samples (Newcombe 1998, Stat Med 17:873-890, method 10).

    With [l, u] the Wilson interval of each: lower d - sqrt((p-l)² + (u'-p')²), upper d + sqrt((u-p)² + (p'-l')²).
    Raises ValueError as `wilson_interval`.
    """
    now = wilson_interval(successes, trials, confidence)
    before = wilson_interval(successes_before, trials_before, confidence)
    difference = now.estimate - before.estimate
    below = sqrt((now.estimate - now.lower) ** 2 + (before.upper - before.estimate) ** 2)
    above = sqrt((now.upper - now.estimate) ** 2 + (before.estimate - before.lower) ** 2)
    return Interval(difference, difference - below, difference + above)


def verdict(difference: Interval, *, margin: float, higher_is_better: bool) -> Verdict:
    """What the interval of a change says.

    Better or worse when it excludes 0, no worse when it excludes a loss of `margin`, else can't tell yet. `margin`
    (> 0) is the largest loss that does not matter, in the unit of the difference.
    """
    if margin <= 0:
        raise ValueError(f"expected a margin above 0, came {margin}")
    lower, upper = difference.lower, difference.upper
    if not higher_is_better:
        lower, upper = -upper, -lower
    if lower > 0:
        return "better"
    if upper < 0:
        return "worse"
    return "no worse" if lower > -margin else "can't tell yet"


def _quantile(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, came {confidence}")
    return NormalDist().inv_cdf(0.5 + confidence / 2)
