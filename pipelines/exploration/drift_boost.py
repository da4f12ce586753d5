"""After a person changed, what is known of them is out of date: exploring is worth more, and less again day by day."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["HALF_LIFE_DAYS", "boost"]

Floats = NDArray[np.float64]

HALF_LIFE_DAYS = 7.0


def boost(days_since: Floats, *, half_life: float = HALF_LIFE_DAYS) -> Floats:
    """From 1 on the day of the change to 0 long after: 2^(-days / half life). NaN (no change) gives 0."""
    days = np.asarray(days_since, dtype=np.float64)
    return np.where(np.isnan(days), 0.0, 0.5 ** (np.maximum(np.nan_to_num(days), 0.0) / half_life))
