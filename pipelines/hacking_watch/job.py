"""The job `hacking-watch`: looks for arms and versions whose proxies rise while what is wanted falls."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import polars as pl

from pipelines.hacking_watch.watch import WatchConfig, Watched, watch
from pipelines.jobs import JobResult
from store import hacking_watch, meta
from store.connection import Store
from store.version import code_version

if TYPE_CHECKING:
    from pipelines.jobs import JobContext

__all__ = ["run"]


def run(context: "JobContext") -> JobResult:
    """Watch and record; `rows` counts the measures that were compared."""
    config = WatchConfig()
    store = context.store
    context.progress(0.0, "comparing with the baselines")
    version = meta.data_version(store)
    seen = context.compute(_watch, store, config)
    if seen is None:
        return JobResult(0, "No agent has two or more arms or versions.")
    context.progress(0.9, "writing what was found")
    parameters = {"config": asdict(config), "composites": seen.composites, "notes": seen.notes}
    hacking_watch.record(
        store, seen.found, alarms=seen.alarms, parameters=parameters, data_version=version, code_version=code_version()
    )
    comparisons = seen.found.select("agent", "axis", "candidate").n_unique() if seen.found.height else 0
    alarmed = seen.found.filter("alarm").select(pl.format("{} {}", "agent", "candidate").unique().sort()).to_series()
    told = f"Alarm: {', '.join(alarmed.to_list())}." if alarmed.len() else "No alarm."
    return JobResult(seen.found.height, f"{comparisons} arms and versions compared with their baseline. {told}")


def _watch(store: Store, config: WatchConfig) -> Watched | None:
    """What is seen in the traces of agents with two or more arms or versions; None where no agent has."""
    traces = hacking_watch.traces(store)
    return None if traces.is_empty() else watch(traces, hacking_watch.measures(store), config)
