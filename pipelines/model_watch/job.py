"""The job `model-watch`: measures what models answered on the days that are over, and looks for silent changes.

A day is looked at once, and again when answers came for it later. Only whole days count, so that looking often is no
more looks than one a day, which is what the p-values are calibrated for.
"""

import json
from dataclasses import asdict
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Final

import polars as pl

from pipelines.jobs import JobResult
from pipelines.model_watch.announcing import announce
from pipelines.model_watch.features import features
from pipelines.model_watch.passive import PassiveConfig, Watched, watch
from store import interventions, meta, model_anchors, model_answers, model_figures
from store.connection import Store
from store.version import code_version

if TYPE_CHECKING:
    from datetime import date

    from pipelines.jobs import JobContext

__all__ = ["SAMPLE", "run"]

SAMPLE: Final = 80
"""Answers of a model, agent and day that are measured, drawn by hash; latency, tokens and style need no more."""

_KEPT: Final = timedelta(days=200)
_DAYS_AT_ONCE: Final = 60  # of a model and agent: some thousand texts


def run(context: "JobContext") -> JobResult:
    """Measure new days and compare; `rows` counts the figures that had enough data. Raises: `JobInterrupted`."""
    store = context.store
    today = store.clock.now().astimezone(UTC).date()
    newest = model_answers.newest_day(store, until=today)
    if newest is None:
        return JobResult(0, "No trace names the model that answered on a day that is over.")
    version = meta.data_version(store)
    since = newest - _KEPT
    model_answers.forget_before(store, since)
    days = model_answers.days_to_look_at(store, since=since, until=today)
    for start in range(0, days.height, _DAYS_AT_ONCE):
        context.progress(0.9 * start / days.height, "measuring answers")
        some = days.slice(start, _DAYS_AT_ONCE)
        model_answers.keep(store, some, context.compute(_measured, store, some))
    context.progress(0.9, "comparing models")
    config = PassiveConfig()
    found = context.compute(_compared, store, since, config)
    scanned = found.found.filter(pl.col("status") != "not enough data")
    flagged = found.found.filter("flagged")
    summary = model_figures.Summary(
        version, code_version(), found.models, scanned.height, flagged.height, json.dumps(asdict(config))
    )
    model_figures.record(store, found.found, found.figures, summary, announce=announce(store.clock.now))
    changed = sorted(flagged["model"].unique().to_list())
    said = f"{found.models} models, {days['day'].n_unique():,} days with new answers; {scanned.height} figures had "
    said += f"enough data, {flagged.height} changed" + (f": {', '.join(changed[:5])}." if changed else ".")
    return JobResult(scanned.height, said)


def _measured(store: Store, days: pl.DataFrame) -> pl.DataFrame:
    """The features of the sampled answers of days."""
    return features(model_answers.texts(store, days, sample=SAMPLE))


def _compared(store: Store, since: "date", config: PassiveConfig) -> Watched:
    """What the answers since a day say of each model."""
    answers = model_answers.watched(store, since=datetime.combine(since, time(), UTC))
    known = interventions.known(store, since=datetime.combine(since, time(), UTC))
    return watch(answers, model_anchors.latest(store), config, known)
