"""One metric scanned at all levels: what everybody has in common is learnt slice by slice, then each slice is scanned.

A slice is every so many-th user with their whole history, so memory is bounded by the slice and not by the store: the
first pass adds up what effects are of, the second takes the effects away and scans. One slice is read once.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.drift import levels, likelihoods, residuals, state
from pipelines.drift.detection import DetectionConfig, detect
from pipelines.drift.metrics import Metric
from store import drift_events
from store.drift import METRICS
from store.drift_states import STATES
from store.frames import Reader

__all__ = [
    "SLICE_ROWS", "Learnt", "Read", "Scanned", "learn", "scan", "scan_users", "slices_of", "state_values", "usable",
]  # fmt: skip

SLICE_ROWS: Final = 1_000_000  # sessions in one slice, about; categories take a column each
_CATEGORY_ROWS: Final = 250_000

Read = Callable[[int], pl.DataFrame]
"""Gives the slice of a number (columns `store.drift_events.SCANNED`)."""

_BY_TASK_ITSELF: Final = "task mix"


@dataclass(frozen=True)
class Learnt:
    """What all users have in common by one metric."""

    metric: Metric
    reason: str
    threshold: float
    practical: float  # the threshold on the scale that is scanned
    pilot: residuals.Pilot
    cells: residuals.Cells
    expectation: residuals.Expectation
    sample: pl.DataFrame | None
    events: int
    ignored: int
    kept: pl.DataFrame | None  # the prepared events, where they are one slice


@dataclass(frozen=True)
class Scanned:
    """Findings of all levels (columns of `detect`), one row a level of `METRICS` but `flagged`, and users' states."""

    found: pl.DataFrame
    measured: pl.DataFrame
    states: pl.DataFrame


@contextmanager
def slices_of(reader: Reader, metric: Metric) -> Iterator[tuple[Read, int]]:
    """What reads the slices of a metric, and how many there are.

    The engine is asked once for each slice: the passes after the first read what that left in a temporary file.
    """
    rows = _CATEGORY_ROWS if metric.likelihood in ("categorical", "embedding") else SLICE_ROWS
    slices = max(1, -(-max(drift_events.counts(reader)) // rows))
    with TemporaryDirectory(prefix="trimtab-drift-") as folder:

        def read(number: int) -> pl.DataFrame:
            left = Path(folder) / f"{number}.parquet"
            if left.exists():
                return pl.read_parquet(left)
            frame = drift_events.slice_of(reader, metric.name, slices, number)
            if slices > 1:
                frame.write_parquet(left, compression="lz4")
            return frame

        yield read, slices


def scan(
    metric: Metric, read: Read, slices: int, known: pl.DataFrame, config: DetectionConfig, random: np.random.Generator
) -> Scanned | None:
    """Learn and scan one metric; None where it has no events. `known`: `store.interventions.known`."""
    learnt = learn(metric, read, slices, known)
    if learnt is None:
        return None
    parts, states = [], []
    for number in range(slices):
        users = learnt.kept if learnt.kept is not None else _prepared(read(number), learnt, known)
        if users.height:
            parts.append(scan_users(users, learnt, config, random))
            states.append(_states(users, learnt))
    if learnt.sample is not None:
        above = levels.sampled(learnt.sample, metric.name, learnt.practical)
    else:
        above = levels.daily(learnt.cells, learnt.pilot, learnt.expectation, metric.name, learnt.practical)
    if above.height:
        parts.append(detect(above, config, random=random))
    found = pl.concat(parts)
    return Scanned(found, _measured(found, learnt), pl.concat(states) if states else pl.DataFrame(schema=STATES))


def learn(metric: Metric, read: Read, slices: int, known: pl.DataFrame) -> Learnt | None:
    """The first pass: likelihood, effects, sums of days; None where the metric has no events."""
    first = read(0)
    number = 0
    while first.is_empty() and number + 1 < slices:
        number += 1
        first = read(number)
    values = first["value"].drop_nulls().head(likelihoods.SAMPLE).to_numpy()
    likelihood, reason = likelihoods.choose(values, metric)
    held = usable(first, likelihood)
    if held.is_empty():
        return None
    pilot = residuals.pilot(held, likelihood, by_task=metric.name != _BY_TASK_ITSELF)
    spells = residuals.Spells(pilot.columns)
    events = ignored = 0
    for at in range(number, slices):
        part = first if at == number else read(at)
        held = usable(part, likelihood)
        ignored += part.height - held.height
        events += held.height
        if held.height:
            spells.add(residuals.prepare(held, pilot, known))
    pilot = residuals.settle(pilot, spells)
    del spells
    cells = residuals.Cells(pilot.columns)
    sample, kept = None, None
    for at in range(number, slices):
        held = usable(first if at == number else read(at), likelihood)
        if held.is_empty():
            continue
        prepared = residuals.prepare(held, pilot, known)
        cells.add(prepared)
        if likelihood == "categorical":
            sample = levels.sample(prepared, sample)
        kept = prepared if slices == 1 else None
    expectation = residuals.fit(cells)
    threshold, practical = _thresholds(metric, likelihood, values)
    return Learnt(metric, reason, threshold, practical, pilot, cells, expectation, sample, events, ignored, kept)


def _thresholds(metric: Metric, likelihood: str, values: NDArray[np.float64]) -> tuple[float, float]:
    """The least change that matters in the metric's unit, and on the scale that is scanned."""
    if metric.of_spread:
        threshold = metric.practical * (float(np.std(values)) if values.size else 1.0)
        return threshold, threshold
    if metric.likelihood != "log":
        return metric.practical, metric.practical
    # Stated as a factor: of the typical value, in its unit.
    threshold = metric.practical * abs(float(np.median(values)))
    return threshold, float(np.log1p(metric.practical)) if likelihood == "log" else threshold


def scan_users(
    users: pl.DataFrame, learnt: Learnt, config: DetectionConfig, random: np.random.Generator
) -> pl.DataFrame:
    """Findings of prepared events of whole users."""
    left = residuals.residual(users, learnt.pilot, learnt.expectation)
    categorical = learnt.pilot.likelihood == "categorical"
    sequences = left.select(
        pl.lit("user").alias("level"),
        "user_id",
        "segment",
        pl.lit(None, pl.String).alias("agent"),
        pl.lit(learnt.metric.name).alias("metric"),
        pl.lit(learnt.pilot.likelihood).alias("likelihood"),
        pl.lit(learnt.practical).alias("practical"),
        "occurred_at",
        pl.lit(0.0).alias("value") if categorical else "value",
        pl.lit(None, pl.Float64).alias("residual") if categorical else "residual",
        # A session is one row already.
        pl.lit(None, pl.String).alias("block"),
        *([pl.col("coupled").alias("category")] if categorical else []),
    )
    return detect(sequences.sort("user_id", "occurred_at", maintain_order=True), config, random=random)


def _prepared(events: pl.DataFrame, learnt: Learnt, known: pl.DataFrame) -> pl.DataFrame:
    return residuals.prepare(usable(events, learnt.pilot.likelihood), learnt.pilot, known)


def usable(events: pl.DataFrame, likelihood: str) -> pl.DataFrame:
    """The events whose value the likelihood can take: numbers, above 0 for logarithms, 0 or 1, or a category."""
    if likelihood == "categorical":
        return events.filter(pl.col("category").is_not_null())
    fits = pl.col("value").is_not_null() & pl.col("value").is_finite()
    if likelihood == "log":
        fits &= pl.col("value") > 0
    if likelihood == "bernoulli":
        fits &= pl.col("value").is_in([0.0, 1.0])
    return events.filter(fits)


def state_values(events: pl.DataFrame, metric: str) -> pl.DataFrame:
    """Values for `pipelines.drift.state`: of categories a number from 0 to 1 that belongs to the category; texts come
    with one.

    As a projection of the shares on a line it moves when they do, unless by rare chance.
    """
    number = pl.col("category").hash(seed=7).cast(pl.Float64) / 2.0**64
    return events.select(
        "user_id",
        pl.lit(metric).alias("metric"),
        "occurred_at",
        pl.when(pl.col("category").is_not_null() & pl.col("value").is_null())
        .then(number)
        .otherwise("value")
        .alias("value"),
    ).cast(pl.Schema(state.VALUES))


def _states(users: pl.DataFrame, learnt: Learnt) -> pl.DataFrame:
    return state.begin(state_values(users, learnt.metric.name))


def _measured(found: pl.DataFrame, learnt: Learnt) -> pl.DataFrame:
    waiting = pl.col("status") == "not enough data"
    counted = found.group_by("level").agg(
        pl.len().cast(pl.Int64).alias("subjects"),
        (~waiting).sum().cast(pl.Int64).alias("scanned"),
        waiting.sum().cast(pl.Int64).alias("too_few"),
        pl.col("missing").filter(waiting).median().alias("missing_median"),
        pl.col("likelihood").first(),
    )
    return counted.with_columns(
        metric=pl.lit(learnt.metric.name),
        reason=pl.lit(learnt.reason),
        threshold=pl.lit(learnt.threshold),
        events=pl.lit(learnt.events, pl.Int64),
        ignored=pl.lit(learnt.ignored, pl.Int64),
        flagged=pl.lit(0, pl.Int64),
        explained=pl.lit(learnt.expectation.explained),
    ).select(list(METRICS)).cast(METRICS)  # fmt: skip
