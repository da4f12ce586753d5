"""The job `drift`: every user, segment and agent scanned by every metric, and between full scans who looks changed.

A full scan is made when the newest one is `FULL_EVERY` old, when a person asks for it, and when so many look changed
that something happened to everybody. Otherwise new values are added to the states of their users, and only users whose
sums say so are scanned; what that finds takes the place of their findings in the newest run, and the gate decides anew
over all of them, so that looking twice at a few does not find more than looking at all.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from pipelines.drift import refresh, text_scan
from pipelines.drift.detection import DetectionConfig, gate
from pipelines.drift.metrics import Metric, listed
from pipelines.drift.scan import Scanned, scan, slices_of
from pipelines.jobs import JobResult
from pipelines.stats import sequential_calibration
from store import drift, drift_events, drift_states, interventions, job_runs, meta
from store.connection import Store
from store.version import code_version

if TYPE_CHECKING:
    from pipelines.jobs import JobContext

__all__ = ["FULL_EVERY", "run"]

FULL_EVERY: Final = timedelta(hours=6)


def run(context: "JobContext") -> JobResult:
    """Scan and record; `rows` counts the users scanned."""
    config = _calibrated(context, DetectionConfig())
    standing = drift_states.standing(context.store)
    newest = drift.latest_run(context.store)
    if standing is None or newest is None or _due(context, standing[1]):
        return _full(context, config)
    context.progress(0.0, "adding new values")
    fresh = context.compute(refresh.advance, context.store, standing[0])
    if fresh.everybody:
        return _full(context, config)
    if fresh.publication == standing[0]:
        return JobResult(0, "Nothing new to count.")
    if fresh.suspects.is_empty():
        drift_states.replace(context.store, fresh.states, publication=fresh.publication)
        return JobResult(0, f"{fresh.users:,} users have new values; none looks changed.")
    context.progress(0.5, "scanning users that look changed")
    found = context.compute(refresh.scan_suspects, context.store, fresh.suspects, config, context.random)
    gated = refresh.gated(context.store, newest["run_id"], found, config)
    newly = drift.revise(context.store, newest["run_id"], found.filter(pl.col("p_value").is_not_null()), gated)
    drift_states.replace(context.store, refresh.calmed(fresh), publication=fresh.publication)
    users = found["user_id"].n_unique()
    return JobResult(
        users, f"{fresh.users:,} users have new values; {users:,} were scanned, {newly:,} findings are new."
    )


def _due(context: "JobContext", full_at: datetime) -> bool:
    """Whether a full scan is due by the clock or asked for by a person."""
    if context.clock.now() - full_at >= FULL_EVERY:
        return True
    running = job_runs.recent(context.store, job="drift", limit=1).filter(status="running")
    return running.height > 0 and running["cause"][0] == "manual"


def _calibrated(context: "JobContext", config: DetectionConfig) -> DetectionConfig:
    """The configuration with the calibrations of all its schedules; those not known yet are computed and kept."""
    known = {
        schedule: tail
        for text in drift_states.calibrations(context.store).values()
        for schedule, tail in sequential_calibration.from_json(text).items()
    }
    missing = sequential_calibration.missing(config.schedules(), known)
    for schedule in missing:
        context.progress(0.0, "calibrating p-values for the schedule of looks")
        known[schedule] = context.compute(sequential_calibration.calibrate, schedule, random=context.random)
        drift_states.keep(context.store, {str(schedule): sequential_calibration.to_json({schedule: known[schedule]})})
    return replace(config, calibrated={one: known[one] for one in config.schedules() if one in known})


def _full(context: "JobContext", config: DetectionConfig) -> JobResult:
    store = context.store
    version = meta.data_version(store)
    with store.read() as reader:
        publication = drift_events.newest(reader)
    known = interventions.known(store)
    parts: list[Scanned] = []
    metrics = listed(drift_events.features(store))
    for number, metric in enumerate(metrics):
        context.progress(number / len(metrics), f"scanning {metric.title.lower()}")
        one = context.compute(scan_metric, store, metric, known, config, context.random)
        parts += [one] if one is not None else []
    if not parts:
        return JobResult(0, "No user has values yet: traces with a user and a start, or thumbs and ratings.")
    found = pl.concat(part.found for part in parts)
    gated = gate(found.filter(pl.col("p_value").is_not_null()), config)
    summary = _summary(found, gated, config)
    measured = _with_flags(pl.concat(part.measured for part in parts), gated)
    drift.record(store, gated, summary, measured=measured, data_version=version, code_version=code_version())
    drift_states.replace_all(store, pl.concat(part.states for part in parts), publication=publication)
    above = gated.filter(pl.col("flagged") & (pl.col("level") != "user")).height
    return JobResult(
        summary.scanned,
        f"{summary.scanned:,} users scanned by {measured['metric'].n_unique()} metrics, {summary.flagged:,} flagged; "
        f"{above:,} changes of segments and agents; {summary.too_few:,} users have too few events.",
    )


def scan_metric(
    store: Store, metric: Metric, known: pl.DataFrame, config: DetectionConfig, random: np.random.Generator
) -> Scanned | None:
    """Scan one metric from what the store holds, slice by slice; None where it has no values."""
    with store.read() as reader, slices_of(reader, metric) as (read, slices):
        if metric.likelihood == "embedding":
            return text_scan.scan(metric, read, slices, config, random)
        return scan(metric, read, slices, known, config, random)


def _summary(found: pl.DataFrame, gated: pl.DataFrame, config: DetectionConfig) -> drift.Summary:
    """Users counted over all metrics: scanned by at least one of them, or by none with the least that is missing."""
    users = found.filter(level="user").group_by("user_id").agg(
        pl.col("p_value").is_not_null().any().alias("scanned"), pl.col("missing").min()
    )  # fmt: skip
    waiting = users.filter(~pl.col("scanned"))
    missing = waiting["missing"].median()
    return drift.Summary(
        false_discovery_rate=config.false_discovery_rate,
        users=users.height,
        scanned=users.height - waiting.height,
        flagged=gated.filter(pl.col("flagged") & (pl.col("level") == "user"))["user_id"].n_unique(),
        too_few=waiting.height,
        min_events=2 * config.min_segment_bernoulli,
        missing_median=missing if isinstance(missing, float) else None,
        schedule=str(config.schedule("gaussian", "user")),
    )


def _with_flags(measured: pl.DataFrame, gated: pl.DataFrame) -> pl.DataFrame:
    flagged = gated.filter("flagged").group_by("level", "metric").agg(pl.len().cast(pl.Int64).alias("flagged"))
    return measured.drop("flagged").join(flagged, on=["level", "metric"], how="left").with_columns(
        pl.col("flagged").fill_null(0)
    )  # fmt: skip
