"""The job `signal-yield`: how many bits each source of evidence tells about how a trace went."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from pipelines.jobs import JobResult
from pipelines.signal_yield import sources
from pipelines.signal_yield.yields import ESTIMATOR, YieldConfig, measure
from store import meta, signal_yield
from store.connection import Store
from store.version import code_version

if TYPE_CHECKING:
    from pipelines.jobs import JobContext

__all__ = ["run"]


def run(context: "JobContext") -> JobResult:
    """Measure and record; `rows` counts the sources that could be measured."""
    config = YieldConfig()
    store = context.store
    context.progress(0.0, "measuring sources against traces")
    version = meta.data_version(store)
    measured = context.compute(_measure, store, config, context.random)
    if measured is None:
        return JobResult(0, "There are no traces with signals yet.")
    found, traces, referenced = measured
    context.progress(0.9, "writing yields")
    parameters = {**asdict(config), "estimator": ESTIMATOR, "bins": sources.BINS}
    signal_yield.record(
        store, found, traces=traces, referenced=referenced, parameters=parameters,
        data_version=version, code_version=code_version(),
    )  # fmt: skip
    overall = found.filter(pl.col("agent").is_null())
    with_bits = overall["bits"].count()
    told = f"{with_bits} of {overall.height} sources measured against {referenced} of {traces} traces."
    return JobResult(found["bits"].count(), told)


def _measure(store: Store, config: YieldConfig, random: np.random.Generator) -> tuple[pl.DataFrame, int, int] | None:
    """The bits of every source, how many traces there are and how many have a reference; None without signals."""
    traces, signals = signal_yield.traces(store), signal_yield.signals(store)
    if traces.is_empty() or signals.is_empty():
        return None
    said = pl.concat([sources.spoken(signals), signal_yield.derived(store)])
    referenced = sources.references(said)["trace_id"].n_unique()
    return measure(traces, said, config, random), traces.height, referenced
