"""The job `signal-yield`: how many bits each source of evidence tells about how a trace went."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import polars as pl

from pipelines.jobs import JobResult
from pipelines.signal_yield import sources
from pipelines.signal_yield.yields import ESTIMATOR, YieldConfig, measure
from store import meta, signal_yield
from store.version import code_version

if TYPE_CHECKING:
    from pipelines.jobs import JobContext

__all__ = ["run"]


def run(context: "JobContext") -> JobResult:
    """Measure and record; `rows` counts the sources that could be measured."""
    config = YieldConfig()
    store = context.store
    context.progress(0.0, "reading signals")
    version = meta.data_version(store)
    traces, signals = signal_yield.traces(store), signal_yield.signals(store)
    if traces.is_empty() or signals.is_empty():
        return JobResult(0, "There are no traces with signals yet.")
    said = pl.concat([sources.spoken(signals), signal_yield.derived(store)])
    referenced = sources.references(said)["trace_id"].n_unique()
    context.progress(0.3, f"measuring {said['source'].n_unique()} sources against {referenced} traces")
    found = context.compute(measure, traces, said, config, context.random)
    context.progress(0.9, "writing yields")
    parameters = {**asdict(config), "estimator": ESTIMATOR, "bins": sources.BINS}
    signal_yield.record(
        store, found, traces=traces.height, referenced=referenced, parameters=parameters,
        data_version=version, code_version=code_version(),
    )  # fmt: skip
    overall = found.filter(pl.col("agent").is_null())
    measured = overall["bits"].count()
    told = f"{measured} of {overall.height} sources measured against {referenced} of {traces.height} traces."
    return JobResult(found["bits"].count(), told)
