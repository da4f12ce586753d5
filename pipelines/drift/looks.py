"""When sequences are looked at, and in which of their events: the schedule that the p-values are calibrated for."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.stats.sequential_calibration import CATEGORIES, Schedule, Tail
from store.errors import SettingsError

__all__ = ["DetectionConfig", "newest"]

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class DetectionConfig:
    """The schedule of looks and the false-discovery rate.

    Sequences of users are scanned in their newest `window` events, at multiples of `look_every` events only, however
    often the job runs: that is the schedule the p-values are calibrated for. Numbers (gaussian, log) of segments and
    of the population have one row a day and are looked at every day (`daily_*`). `calibrated` holds schedules beyond
    `sequential_calibration.DEFAULTS`. Raises SettingsError.
    """

    false_discovery_rate: float = 0.05
    look_every: int = 20
    window: int = 1000
    min_segment_bernoulli: int = 10
    min_segment_other: int = 20
    daily_window: int = 400
    daily_min_segment: int = 7
    permutations: int = 500
    calibrated: Mapping[Schedule, Tail] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0.0 < self.false_discovery_rate < 1.0:
            raise SettingsError("drift false_discovery_rate", self.false_discovery_rate, "a number above 0 and below 1")
        for names in (
            ("look_every", "window", "min_segment_bernoulli"),
            ("look_every", "window", "min_segment_other"),
            ("permutations", "daily_window", "daily_min_segment"),
        ):
            every, window, segment = (getattr(self, name) for name in names)
            if min(every, segment) < 1 or window < 2 * segment:
                raise SettingsError(
                    f"drift {', '.join(names)}", (every, window, segment), "at least 1, and a window of two segments"
                )
        if self.window % self.look_every:
            raise SettingsError("drift window", self.window, f"a multiple of look_every, {self.look_every}")

    def schedule(self, likelihood: str, level: str, categories: int = 2) -> Schedule:
        """The schedule of sequences of a likelihood (not embedding) at a level."""
        if likelihood == "bernoulli":
            return Schedule("bernoulli", self.look_every, self.window, self.min_segment_bernoulli)
        if likelihood == "categorical":
            calibrated = next(size for size in CATEGORIES if size >= categories)
            return Schedule("categorical", self.look_every, self.window, self.min_segment_other, calibrated)
        if level == "user":
            return Schedule("gaussian", self.look_every, self.window, self.min_segment_other)
        return Schedule("gaussian", 1, self.daily_window, self.daily_min_segment)

    def schedules(self) -> list[Schedule]:
        """All schedules that `detect` may need: `sequential_calibration.missing` says which are to be computed."""
        pairs = (("bernoulli", "user"), ("gaussian", "user"), ("gaussian", "population"))
        return [self.schedule(*pair) for pair in pairs] + [
            self.schedule("categorical", "user", size) for size in CATEGORIES
        ]


def newest(totals: Ints, schedule: Schedule) -> tuple[Ints, Ints]:
    """Of sequences with `totals` events laid end to end: how many are scanned of each, and where they are.

    The newest `window` up to the last multiple of `look_every`.
    """
    looked_at = totals // schedule.look_every * schedule.look_every
    lengths = np.minimum(looked_at, schedule.window)
    begin = np.cumsum(totals) - totals + looked_at - lengths
    within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return lengths, np.repeat(begin, lengths) + within
