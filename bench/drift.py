"""Change detection beside river 0.26.1 on the same streams; the scan of all users; how many of those flagged are false.

river runs in an environment of its own, DIR/river of `--peers`: python -m venv DIR/river; DIR/river/bin/pip install
river==0.26.1. Without it the rows are ours only.
"""

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bench.drift_streams import CHANGE, EVENTS, SCENARIOS, Scenario
from bench.measure import alone
from pipelines.drift.detection import SEQUENCES, detect, gate
from pipelines.stats.hierarchical_gate import open_gate
from pipelines.stats.likelihood_ratio import Bernoulli, NormalScores, scan
from pipelines.stats.sequential_calibration import Schedule, p_value

__all__ = ["Detection", "FalseDiscoveries", "Throughput", "alarms", "detections", "false_discoveries", "throughput"]

RATE = Schedule("bernoulli", 20, 1000, 10)
NUMBER = Schedule("gaussian", 20, 1000, 20)
HISTORIES = (10, 20, 40, 60, 100, 200, 500, 1_000)
_PATIENCE_SECONDS = 3600.0

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Detection:
    """One detector on one scenario: alarms of unchanged streams, of changed ones after the change, and how late."""

    scenario: str
    detector: str
    false_alarms: float
    power: float
    delay: float | None
    streams: int
    nanoseconds: float | None = None  # per event, where it was measured


def detections(environments: Path, scale: int = 1) -> list[Detection]:
    """Ours at p ≤ .01 and .002 and river's on 2,000 unchanged and 2,000 changed streams per scenario, a `scale`-th."""
    count = max(2_000 // scale, 20)
    theirs = _peer(environments, count)
    rows = []
    for scenario in SCENARIOS:
        p = [_p_values(scenario, scenario.streams(count, changed=changed)) for changed in (False, True)]
        for level in (0.01, 0.002):
            unchanged, changed = (alarms(each, level, _schedule(scenario)) for each in p)
            rows.append(_row(scenario.name, f"ours, p ≤ {level:g}", unchanged, changed))
        for name in ("ADWIN", "Page-Hinkley"):
            parts = [theirs[f"{scenario.name}/{name}/{changed}"] for changed in (False, True)] if theirs else []
            if not parts:
                continue
            unchanged, changed = (np.array(part["first"]) for part in parts)
            taken = sum(part["seconds"] for part in parts) / (2 * count * EVENTS) * 1e9
            rows.append(_row(scenario.name, f"river {name}", unchanged, changed, taken))
    return rows


def alarms(p: Floats, level: float, schedule: Schedule) -> Ints:
    """The event of the first look with p ≤ level, 0 where none; of p-values (looks, streams)."""
    ends = _ends(schedule)
    hit = p <= level
    return np.where(hit.any(axis=0), ends[hit.argmax(axis=0)], 0)


@dataclass(frozen=True)
class Throughput:
    """A scan of users x 1,000 events with its p-values: seconds and peak MB of the process, data included."""

    what: str
    users: int
    seconds: float
    peak_mb: float

    @property
    def nanoseconds(self) -> float:
        """Per event."""
        return self.seconds / (self.users * EVENTS) * 1e9


def throughput(scale: int = 1) -> list[Throughput]:
    """100,000 users with 0/1 events, 20,000 with numbers (two threads), and 1,000 from a frame to findings."""
    rows = []
    for what, users in (("yes/no events", 100_000), ("numbers by rank", 20_000), ("from a frame to findings", 1_000)):
        measured = alone(_scanned, what, max(users // scale, 10))
        rows.append(Throughput(what, max(users // scale, 10), measured.value, measured.peak_mb))
    return rows


@dataclass(frozen=True)
class FalseDiscoveries:
    """Of all seeds together: how many were flagged and of these falsely; by length of history how many changed and of
    these were found; `mean_share` is the mean of the seeds' false shares."""

    seeds: int
    users: int
    flagged: int
    false: int
    mean_share: float
    standard_error: float
    too_few: int
    by_length: dict[int, tuple[int, int]]  # changed, found


def false_discoveries(scale: int = 1, seeds: int = 20, *, concentrated: bool = False) -> FalseDiscoveries:
    """100,000 users a seed, 2 % of them changed by .3 in the middle half of their history, in twenty segments.

    Histories are of 10 to 1,000 events. `concentrated`: all that changed are of two segments.
    """
    users = 100_000 // scale
    shares, flagged, false, too_few = [], 0, 0, 0
    changed_by, found_by = (np.zeros(len(HISTORIES), dtype=np.int64) for _ in range(2))
    for seed in range(seeds):
        random = np.random.default_rng(seed)
        length = np.sort(random.integers(0, len(HISTORIES), users))
        segment = random.integers(0, 20, users)
        changed = np.zeros(users, dtype=bool)
        pool = np.flatnonzero(segment < 2) if concentrated else np.arange(users)
        changed[random.choice(pool, users // 50, replace=False)] = True
        p = np.full(users, np.nan)
        for kind, events in enumerate(HISTORIES):
            p[length == kind] = _users(random, events, changed[length == kind])
        q = open_gate(p, segment, q=0.05).q_value
        hit = q <= 0.05
        shares.append(np.sum(hit & ~changed) / max(hit.sum(), 1))
        flagged, false = flagged + int(hit.sum()), false + int(np.sum(hit & ~changed))
        too_few += int(np.isnan(p).sum())
        changed_by += np.bincount(length[changed], minlength=len(HISTORIES))
        found_by += np.bincount(length[changed & hit], minlength=len(HISTORIES))
    by_length = {
        events: (int(of), int(found)) for events, of, found in zip(HISTORIES, changed_by, found_by, strict=True)
    }
    error = float(np.std(shares, ddof=1) / np.sqrt(seeds)) if seeds > 1 else 0.0
    return FalseDiscoveries(seeds, users, flagged, false, float(np.mean(shares)), error, too_few, by_length)


def _users(random: np.random.Generator, events: int, changed: NDArray[np.bool_]) -> Floats:
    """p-values of users with histories of one length; rates from .1 to .9."""
    if events < 2 * RATE.min_segment:
        return np.full(changed.size, np.nan)
    found = np.full(changed.size, np.nan)
    for first in range(0, changed.size, 5_000):
        some = changed[first : first + 5_000]
        base = random.uniform(0.1, 0.9, some.size)
        other = np.where(base > 0.5, base - 0.3, base + 0.3)
        at = random.integers(events // 4, 3 * events // 4 + 1, some.size)
        after = some[:, None] & (np.arange(events) >= at[:, None])
        streams = (random.random((some.size, events)) < np.where(after, other[:, None], base[:, None])).astype(np.uint8)
        result = scan(streams.reshape(-1), np.full(some.size, events), RATE.gains)
        found[first : first + 5_000] = p_value(result.statistic, events, RATE, share=streams.mean(axis=1))
    return found


def _scanned(what: str, users: int) -> float:
    random = np.random.default_rng(1)
    lengths = np.full(users, EVENTS)
    if what == "yes/no events":
        values = np.empty(users * EVENTS, dtype=np.uint8)
        for first in range(0, values.size, 1 << 22):
            part = values[first : first + (1 << 22)]
            part[:] = random.random(part.size, dtype=np.float32) < 0.3
        started = time.perf_counter()
        found = scan(values, lengths, Bernoulli(), threads=2)
        p_value(found.statistic, lengths, RATE)
        return time.perf_counter() - started
    if what == "from a frame to findings":
        sequences = _sequences(random, users)
        started = time.perf_counter()
        gate(detect(sequences, random=random))
        return time.perf_counter() - started
    numbers = random.standard_normal(users * EVENTS, dtype=np.float32)
    started = time.perf_counter()
    found = scan(numbers, lengths, NormalScores(), threads=2)
    p_value(found.statistic, lengths, NUMBER)
    return time.perf_counter() - started


def _sequences(random: np.random.Generator, users: int) -> pl.DataFrame:
    """Yes/no events of users, one an hour (columns `SEQUENCES`)."""
    owner = pl.Series("user_id", np.repeat(np.arange(users), EVENTS)).cast(pl.String)
    hours = np.tile(np.arange(EVENTS) * 3_600_000_000, users)
    constant = {"level": "user", "segment": "all", "metric": "thumbs", "likelihood": "bernoulli", "practical": 0.1}
    return pl.DataFrame(
        {
            "user_id": owner,
            "occurred_at": pl.Series(hours).cast(pl.Datetime("us", "UTC")),
            "value": (random.random(owner.len()) < 0.3).astype(np.float64),
            **{name: pl.Series([None]).new_from_index(0, owner.len()) for name in ("agent", "residual", "block")},
            **{name: pl.Series([value]).new_from_index(0, owner.len()) for name, value in constant.items()},
        }
    ).select(pl.col(name).cast(dtype) for name, dtype in SEQUENCES.items())


def _schedule(scenario: Scenario) -> Schedule:
    return RATE if scenario.kind == "rate" else NUMBER


def _ends(schedule: Schedule) -> Ints:
    return np.arange(2 * schedule.min_segment, EVENTS + 1, schedule.look_every)


def _p_values(scenario: Scenario, streams: NDArray[np.float64]) -> Floats:
    schedule = _schedule(scenario)
    looks = []
    for end in _ends(schedule).tolist():
        seen = np.ascontiguousarray(streams[:, :end])
        found = scan(seen.reshape(-1), np.full(seen.shape[0], end), schedule.gains)
        share = seen.mean(axis=1) if scenario.kind == "rate" else None
        looks.append(p_value(found.statistic, end, schedule, share=share))
    return np.array(looks)


def _row(scenario: str, detector: str, unchanged: Ints, changed: Ints, nanoseconds: float | None = None) -> Detection:
    late = changed[changed > CHANGE]
    delay = float(np.median(late)) - CHANGE if late.size else None
    return Detection(
        scenario, detector, float(np.mean(unchanged > 0)), late.size / changed.size, delay, changed.size, nanoseconds
    )


def _peer(environments: Path, count: int) -> dict[str, Any] | None:
    python = environments / "river" / "bin" / "python"
    if not python.exists():
        return None
    done = subprocess.run(
        [python, Path(__file__).with_name("drift_peer.py"), str(count)], capture_output=True, text=True, check=False,
        timeout=_PATIENCE_SECONDS,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"river: {done.stderr.strip().splitlines()[-1:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
