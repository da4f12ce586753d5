"""How large an effect would have been seen, and how many decisions an effect takes to be seen.

The interval after t independent units of variance v has the half-width r(t, v) of the confidence sequence, and the
estimate a standard error of sqrt(v / t). So an effect d is told apart from 0 at the look t with probability

    P = Φ((|d| - r(t, v)) / sqrt(v / t))

which is the power. A sequence may tell at any look up to t, so by t it has told with this probability at least: the
t of power .5 is an upper bound of the median of the time to a verdict, that of power .9 of its 90 % quantile.
"""

import numpy as np
from scipy.special import ndtri

from pipelines.stats.confidence_sequence import TUNE_AT, radius

__all__ = ["POWER", "minimum_detectable", "units_needed"]

POWER = 0.8
_FAR = 1e9


def minimum_detectable(
    units: float, variance: float, *, alpha: float = 0.05, power: float = POWER, tune_at: float = TUNE_AT
) -> float:
    """The smallest effect that is told apart from 0 with probability `power` at `units` of this `variance`."""
    error = np.sqrt(variance / units)
    return float(radius(units, variance, alpha=alpha, tune_at=tune_at)) + float(ndtri(power)) * float(error)


def units_needed(
    effect: float, variance: float, *, alpha: float = 0.05, power: float = POWER, tune_at: float = TUNE_AT
) -> float:
    """The number of units at which `effect` is told apart from 0 with probability `power`; infinite beyond 1e9."""
    low, high = 1.0, _FAR
    if effect == 0.0 or minimum_detectable(high, variance, alpha=alpha, power=power, tune_at=tune_at) > abs(effect):
        return float(np.inf)
    for _ in range(80):
        middle = float(np.sqrt(low * high))
        if minimum_detectable(middle, variance, alpha=alpha, power=power, tune_at=tune_at) > abs(effect):
            low = middle
        else:
            high = middle
    return float(high)
