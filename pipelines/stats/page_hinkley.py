"""Page-Hinkley's test for many streams at once, as river 0.26.1 computes it for one (Page 1954, Biometrika 41:100).

A comparison, not a detector of ours: its alarms have no error rate that holds across users.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["PageHinkley", "alarms"]


@dataclass(frozen=True)
class PageHinkley:
    """The tolerated deviation `delta`, the alarm's `threshold`, the forgetting factor `alpha`, and the warm-up."""

    min_instances: int = 30
    delta: float = 0.005
    threshold: float = 50.0
    alpha: float = 0.9999


def alarms(streams: NDArray[np.float64], settings: PageHinkley | None = None) -> NDArray[np.bool_]:
    """Where each stream raises an alarm, shape (streams, events); after an alarm a stream starts anew.

    Both directions are watched. One pass over events, all streams at a time. Raises ValueError unless `streams` has
    two dimensions and only finite values.
    """
    settings = settings or PageHinkley()
    streams = np.asarray(streams, dtype=np.float64)
    if streams.ndim != 2 or not np.isfinite(streams).all():
        raise ValueError(f"streams must be finite, of shape (streams, events), came {streams.shape}")
    count = streams.shape[0]
    raised = np.zeros(streams.shape, dtype=bool)
    seen, mean, increase, decrease = (np.zeros(count) for _ in range(4))
    lowest, highest = np.full(count, np.inf), np.full(count, -1.0)
    for event in range(streams.shape[1]):
        value = streams[:, event]
        seen += 1.0
        mean += (value - mean) / seen
        deviation = value - mean
        increase = settings.alpha * increase + deviation - settings.delta
        decrease = settings.alpha * decrease + deviation + settings.delta
        lowest, highest = np.minimum(lowest, increase), np.maximum(highest, decrease)
        alarm = (increase - lowest > settings.threshold) | (highest - decrease > settings.threshold)
        alarm &= seen >= settings.min_instances
        raised[:, event] = alarm
        if alarm.any():
            for state, start in ((seen, 0.0), (mean, 0.0), (increase, 0.0), (decrease, 0.0)):
                state[alarm] = start
            lowest[alarm], highest[alarm] = np.inf, -1.0
    return raised
