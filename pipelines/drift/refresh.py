"""Between two full scans: new values added to the states, and a scan of the users that look as if they had changed."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from pipelines.drift import state, text_scan
from pipelines.drift.detection import FINDINGS, DetectionConfig, gate
from pipelines.drift.metrics import listed, metric
from pipelines.drift.residuals import prepare
from pipelines.drift.scan import learn, scan_users, slices_of, state_values, usable
from store import drift, drift_events, drift_states, interventions
from store.connection import Store
from store.frames import Reader

__all__ = ["Fresh", "advance", "calmed", "gated", "scan_suspects"]

_EVERYBODY: Final = 0.05  # of the users by one metric, at least `_AT_LEAST`: not their own doing
_AT_LEAST: Final = 10

_SUSPECTS = pl.Schema({"user_id": pl.String(), "metric": pl.String()})


@dataclass(frozen=True)
class Fresh:
    """What new facts changed: states, who looks changed, how many users that were, and up to which publication.

    `everybody`: so many look changed by one metric that a full scan has to tell what they have in common.
    """

    states: pl.DataFrame
    suspects: pl.DataFrame
    users: int
    publication: int
    everybody: bool


def advance(store: Store, after: int) -> Fresh:
    """Add what publications after `after` brought to the states; read only."""
    changed, everybody = [], False
    names = [one.name for one in listed(drift_events.features(store))]
    with store.read() as reader:
        publication = drift_events.newest(reader)
        for name in names:
            touched = drift_events.touched(reader, name, after)
            if touched.is_empty():
                continue
            known = drift_states.of_metric(reader, name)
            advanced = state.advance(known, state_values(touched, name))
            again = advanced.recount["user_id"].to_list()
            parts = [advanced.states]
            if again:
                parts.append(state.recount(state_values(drift_events.of_users(reader, name, again), name)))
            now = pl.concat(parts)
            suspected = int(now["suspected"].sum())
            everybody |= suspected >= max(_AT_LEAST, _EVERYBODY * known.height)
            changed.append(now)
    states = pl.concat(changed) if changed else pl.DataFrame(schema=drift_states.STATES)
    suspects = states.filter("suspected").select(list(_SUSPECTS))
    return Fresh(states, suspects, states["user_id"].n_unique(), publication, everybody)


def calmed(fresh: Fresh) -> pl.DataFrame:
    """The states after the suspects were scanned: their sums begin again."""
    zero = pl.when("suspected").then(0.0)
    return fresh.states.with_columns(
        s_plus=zero.otherwise("s_plus"), s_minus=zero.otherwise("s_minus"), suspected=pl.lit(value=False)
    )


def scan_suspects(
    store: Store, suspects: pl.DataFrame, config: DetectionConfig, random: np.random.Generator
) -> pl.DataFrame:
    """Findings (columns of `detect`) of users by the metrics that they look changed by."""
    known = interventions.known(store)
    found = [pl.DataFrame(schema=FINDINGS)]
    with store.read() as reader:
        for (name,), rows in suspects.group_by("metric", maintain_order=True):
            of = str(name)
            if metric(of).likelihood == "embedding":
                found.append(_texts(reader, of, rows["user_id"].to_list(), config, random))
                continue
            with slices_of(reader, metric(of)) as (read, slices):
                learnt = learn(metric(of), read, slices, known)
            if learnt is None:
                continue
            own = drift_events.of_users(reader, of, rows["user_id"].to_list())
            events = usable(own, learnt.pilot.likelihood)
            if events.height:
                found.append(scan_users(prepare(events, learnt.pilot, known), learnt, config, random))
    return pl.concat(found)


def _texts(
    reader: Reader, name: str, users: list[str], config: DetectionConfig, random: np.random.Generator
) -> pl.DataFrame:
    with slices_of(reader, metric(name)) as (read, slices):
        common = text_scan.learn(read, slices)
    if common is None:
        return pl.DataFrame(schema=FINDINGS)
    return text_scan.scan_users(metric(name), drift_events.of_users(reader, name, users), common, config, random)


def gated(store: Store, run_id: int, found: pl.DataFrame, config: DetectionConfig) -> pl.DataFrame:
    """All findings of a run with the fresh ones in place of theirs, and the gate's decision over all of them."""
    every = drift.findings(store, run_id=run_id, limit=2**31)
    columns = [column for column in FINDINGS if column in every.columns]
    kept = every.join(found.select("level", "user_id", "metric"), on=["level", "user_id", "metric"], how="anti")
    fresh = found.filter(pl.col("p_value").is_not_null())
    return gate(pl.concat([kept.select(columns), fresh.select(columns)]), config)
