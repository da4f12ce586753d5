"""p-values of the change scans that hold for all looks of a schedule, by a Monte-Carlo fit of the tail (METHODS §7.3).

Under a stationary stream the largest G of all looks has an exponential tail: p = min(1, .05 exp(-b (G - c))), c its
95 % quantile. Both depend on the schedule (how often it is looked at, how long the window and the shortest segment
are), so they are simulated for the schedule that is used. A bound that needs no simulation, ln(3 t^1.5 / p), is far
looser: 16.1 instead of 9.6 at 1 %.

A history longer than the window is scanned in its newest `window` events, and every further window has new chances of
a false alarm. Window j = 1, 2, ... may spend .9, .1/2, .1/6, ..., .1/(j (j-1)) of the error: together no more than all
of it, however long it runs.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.stats.likelihood_ratio import Bernoulli, Categories, NormalScores, scan
from store.errors import JobError

__all__ = [
    "CATEGORIES", "DEFAULTS", "RATES", "NotCalibrated", "Schedule", "Tail", "calibrate", "from_json", "largest",
    "missing", "p_value", "shapes", "to_json",
]  # fmt: skip

# Numbers of categories that are calibrated; others use the next larger, whose tail is heavier.
CATEGORIES: Final = (2, 3, 4, 6, 8)
_FIRST_WINDOW = 0.9
# Rates of the streams that calibrate 0/1 sequences; G of a rate and of one minus it are the same.
RATES: Final = (0.02, 0.1, 0.3, 0.5)
_BLOCK = 500

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# Stationary streams of a shape (streams, events).
Draw = Callable[[np.random.Generator, tuple[int, int]], NDArray[Any]]


@dataclass(frozen=True)
class Schedule:
    """A scan and its looks: `likelihood` bernoulli, categorical (with this many `categories`) or gaussian.

    Looks come at every multiple of `look_every` events, at the newest `window` events.
    """

    likelihood: str
    look_every: int
    window: int
    min_segment: int
    categories: int = 2

    def __post_init__(self) -> None:
        if self.likelihood not in ("bernoulli", "gaussian", "categorical"):
            raise ValueError(f"likelihood must be bernoulli, gaussian or categorical, came {self.likelihood}")
        if min(self.look_every, self.min_segment, self.categories - 1) < 1 or self.window < 2 * self.min_segment:
            raise ValueError(f"a schedule needs positive numbers and a window that holds two segments, came {self}")

    @property
    def gains(self) -> Bernoulli | Categories | NormalScores:
        """What scans sequences of this schedule."""
        if self.likelihood == "bernoulli":
            return Bernoulli(self.min_segment)
        if self.likelihood == "categorical":
            return Categories(self.categories, self.min_segment)
        return NormalScores(self.min_segment)


@dataclass(frozen=True)
class Tail:
    """The tail of the largest G over the first window: 95 % quantile `c`, exponential rate `b` beyond it.

    Of 0/1 sequences `c` has one quantile for each of RATES, otherwise one for all. `later` is how many false alarms
    each further window adds, as a multiple of those of the first.
    """

    c: tuple[float, ...]
    b: float
    later: float


class NotCalibrated(JobError):
    """A schedule has no calibration yet."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        super().__init__(
            f"No calibration of the schedule {schedule}. Compute it with sequential_calibration.calibrate and keep it."
        )

    def __reduce__(self) -> tuple[type["NotCalibrated"], tuple[Schedule]]:
        """Comes back from another process as it is."""
        return type(self), (self.schedule,)


def p_value(
    statistic: Floats,
    length: Ints | int,
    schedule: Schedule,
    calibrated: Mapping[Schedule, Tail] | None = None,
    *,
    share: Floats | None = None,
) -> Floats:
    """p-values, shape (sequences,), valid for all looks so far at sequences that have had `length` events in all.

    `share` is the share of ones in what was scanned of 0/1 sequences: where they are rare the tail is lighter (without
    it the heaviest counts). `calibrated` adds to DEFAULTS. NaN stays NaN. Raises NotCalibrated.
    """
    tail = (calibrated or {}).get(schedule) or DEFAULTS.get(schedule)
    if tail is None:
        raise NotCalibrated(schedule)
    windows = np.maximum(-(-np.asarray(length, dtype=np.float64) // schedule.window), 1.0)
    later = tail.later * windows * (windows - 1.0) / (1.0 - _FIRST_WINDOW)
    factor = np.where(windows <= 1.0, 1.0 / _FIRST_WINDOW, later)
    c: Floats | float = max(tail.c)
    if share is not None and len(tail.c) == len(RATES):
        rarer = np.minimum(share, 1.0 - share)
        c = np.interp(np.log(np.maximum(rarer, RATES[0])), np.log(RATES), tail.c)
    exponent = np.minimum(-tail.b * (np.asarray(statistic, dtype=np.float64) - c), 50.0)
    return np.asarray(np.minimum(1.0, 0.05 * np.exp(exponent) * factor), dtype=np.float64)


def missing(schedules: Iterable[Schedule], calibrated: Mapping[Schedule, Tail] | None = None) -> list[Schedule]:
    """The schedules that `p_value` would refuse, each once."""
    known = {**DEFAULTS, **(calibrated or {})}
    return [schedule for schedule in dict.fromkeys(schedules) if schedule not in known]


def calibrate(schedule: Schedule, *, random: np.random.Generator, streams: int = 4_000) -> Tail:
    """The tail of a schedule from `streams` stationary streams of each shape; some seconds to a minute.

    b is of all shapes together. Of categories c is that of the worst of two shapes; normal scores have one
    distribution for all continuous values.
    """
    drawn = shapes(schedule)
    highest = [largest(schedule, draw, random=random, streams=streams) for draw in drawn]
    quantiles = [float(np.quantile(values, 0.95)) for values in highest]
    beyond = [values[values > level] - level for values, level in zip(highest, quantiles, strict=True)]
    mean = float(np.concatenate(beyond).mean())
    # The maximum-likelihood rate of an exponential tail; beyond 1 nothing is gained for large samples.
    b = min(1.0 / mean, 1.0) if mean > 0 else 1.0
    kept = quantiles if schedule.likelihood == "bernoulli" else [max(quantiles)]
    worst = drawn[int(np.argmax(quantiles))]
    both = largest(schedule, worst, random=random, streams=max(streams // 4, 100), later=True)
    later = max(1.0, float(np.mean(both > max(quantiles))) / 0.05)
    return Tail(tuple(round(c, 3) for c in kept), round(b, 3), round(later, 2))


def largest(
    schedule: Schedule, draw: Draw, *, random: np.random.Generator, streams: int, later: bool = False
) -> Floats:  # fmt: skip
    """The largest G of all looks of the first window (`later`: of the second), shape (streams,)."""
    window, every = schedule.window, schedule.look_every
    found = []
    for first in range(0, streams, _BLOCK):
        count = min(_BLOCK, streams - first)
        values = draw(random, (count, 2 * window if later else window))
        best = np.zeros(count)
        ends = range(window + every, 2 * window + 1, every) if later else range(every, window + 1, every)
        for end in ends:
            if end >= 2 * schedule.min_segment:
                seen = np.ascontiguousarray(values[:, max(end - window, 0) : end])
                result = scan(seen.reshape(-1), np.full(count, seen.shape[1]), schedule.gains)
                np.maximum(best, result.statistic, out=best)
        found.append(best)
    return np.concatenate(found)


def to_json(calibrated: Mapping[Schedule, Tail]) -> str:
    """The calibrations as JSON, for the store."""
    return json.dumps([{**asdict(schedule), **asdict(tail)} for schedule, tail in calibrated.items()])


def from_json(text: str) -> dict[Schedule, Tail]:
    """What `to_json` wrote. Raises ValueError for anything else."""
    try:
        rows = json.loads(text)
        return {
            Schedule(**{name: row[name] for name in Schedule.__dataclass_fields__}): Tail(
                tuple(map(float, row["c"])), float(row["b"]), float(row["later"])
            )
            for row in rows
        }
    except (TypeError, KeyError) as error:
        raise ValueError(f"expected a list of calibrations, came {text[:100]!r}") from error


def shapes(schedule: Schedule) -> list[Draw]:
    """Stationary streams that a schedule is calibrated by: of 0/1 sequences one for each of RATES."""
    if schedule.likelihood == "gaussian":
        return [lambda random, shape: random.random(shape)]
    if schedule.likelihood == "bernoulli":
        return [_categories(np.array([1.0 - rate, rate])) for rate in RATES]
    even = np.full(schedule.categories, 1.0 / schedule.categories)
    skewed = 0.5 ** np.arange(1, schedule.categories + 1)
    return [_categories(even), _categories(skewed / skewed.sum())]


def _categories(shares: Floats) -> Draw:
    edges = np.cumsum(shares)[:-1]
    return lambda random, shape: np.searchsorted(edges, random.random(shape), side="right").astype(np.uint8)


# By `calibrate` with seed 20261121 of 30,000 (bernoulli), 20,000 (gaussian), 10,000 (daily) and 8,000 (categorical)
# streams; a test recomputes them within Monte Carlo error.
DEFAULTS: Final[Mapping[Schedule, Tail]] = {
    Schedule("bernoulli", 20, 1000, 10): Tail((6.971, 7.769, 8.14, 8.365), 0.916, 1.89),
    Schedule("gaussian", 20, 1000, 20): Tail((7.641,), 0.869, 1.9),
    Schedule("gaussian", 1, 400, 7): Tail((8.359,), 0.866, 2.17),
    Schedule("categorical", 20, 1000, 20, 2): Tail((8.089,), 0.867, 1.91),
    Schedule("categorical", 20, 1000, 20, 3): Tail((9.873,), 0.839, 1.99),
    Schedule("categorical", 20, 1000, 20, 4): Tail((11.31,), 0.836, 1.83),
    Schedule("categorical", 20, 1000, 20, 6): Tail((13.762,), 0.798, 1.95),
    Schedule("categorical", 20, 1000, 20, 8): Tail((16.025,), 0.752, 1.78),
}
