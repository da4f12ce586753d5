"""The job `drift`: scans every user's yes/no events for a change (see `store.drift` for what the events are)."""

from typing import TYPE_CHECKING

import polars as pl

from pipelines.drift import users
from pipelines.jobs import JobResult
from store import drift, meta
from store.connection import Store
from store.version import code_version

if TYPE_CHECKING:
    from pipelines.jobs import JobContext

__all__ = ["run"]


def run(context: "JobContext") -> JobResult:
    """Scan and record; `rows` counts the users scanned."""
    config = users.DriftConfig()
    context.progress(0.0, "scanning events")
    version = meta.data_version(context.store)
    found = context.compute(_scan, context.store, config)
    if found is None:
        return JobResult(0, "No user has events yet: thumbs, ratings, or traces with a reward of their own.")
    waiting = found.filter(pl.col("status") == "not enough data")
    scanned = found.filter(pl.col("status") != "not enough data")
    flagged = int(scanned["flagged"].sum())
    missing = waiting["missing"].median()
    summary = drift.Summary(
        false_discovery_rate=config.false_discovery_rate,
        users=found.height,
        scanned=scanned.height,
        flagged=flagged,
        too_few=waiting.height,
        min_events=config.min_events,
        missing_median=missing if isinstance(missing, float) else None,
    )
    drift.record(context.store, scanned, summary, data_version=version, code_version=code_version())
    message = f"{scanned.height} users scanned, {flagged} flagged; {waiting.height} have too few events."
    return JobResult(scanned.height, message)


def _scan(store: Store, config: users.DriftConfig) -> pl.DataFrame | None:
    """The scan of every user's events; None where there are none."""
    events = drift.events(store, min_events=config.min_events)
    return None if events.is_empty() else users.scan(events, config)
