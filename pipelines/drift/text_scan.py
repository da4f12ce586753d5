"""The metric of texts scanned at the level of users: what each asks about, without what everybody does.

The work is bounded: what everybody has in common is learnt from a sample of sessions, and of each user with enough
sessions at most `MOST_SESSIONS` are hashed. A sequence is looked at only at 40, 80, 160 ... sessions
(`pipelines.drift.vector_changes`); those of the second half of a long one, in which nobody has looked for a change yet,
are thinned evenly, so that a change at any time is in the sessions of some look.
"""

from typing import Final

import numpy as np
import polars as pl

from pipelines.drift import likelihoods, state, texts
from pipelines.drift.detection import FINDINGS, DetectionConfig, detect
from pipelines.drift.metrics import Metric
from pipelines.drift.scan import Read, Scanned, state_values
from store.drift import METRICS
from store.drift_states import STATES

__all__ = ["LEARNT_SESSIONS", "MOST_SESSIONS", "learn", "scan", "scan_users"]

MOST_SESSIONS: Final = 320
LEARNT_SESSIONS: Final = 50_000
_SLICE: Final = 250_000  # sessions, about, in one of several slices


def scan(
    metric: Metric, read: Read, slices: int, config: DetectionConfig, random: np.random.Generator
) -> Scanned | None:
    """Learn and scan, slice by slice; None where nobody wrote anything."""
    known = learn(read, slices)
    if known is None:
        return None
    found, states, events = [pl.DataFrame(schema=FINDINGS)], [pl.DataFrame(schema=STATES)], 0
    for number in range(slices):
        held = _written(read(number))
        if held.is_empty():
            continue
        events += held.height
        found.append(scan_users(metric, held, known, config, random))
        states.append(state.begin(state_values(held, metric.name)))
    every = pl.concat(found)
    return Scanned(every, _measured(every, metric, events, known), pl.concat(states))


def learn(read: Read, slices: int) -> texts.Shared | None:
    """What everybody has in common, from the sessions with the smallest draws; None where there are none."""
    sampled = []
    for number in range(slices):
        held = _written(read(number))
        share = LEARNT_SESSIONS / (held.height if slices == 1 else slices * _SLICE) if held.height else 0.0
        sampled.append(held.filter(pl.col("draw") < share))
    sample = pl.concat(sampled)
    return texts.shared(sample, texts.vectors(sample["category"])) if sample.height else None


def scan_users(
    metric: Metric, events: pl.DataFrame, known: texts.Shared, config: DetectionConfig, random: np.random.Generator
) -> pl.DataFrame:
    """Findings (columns `FINDINGS`) of whole users; `events` of columns `store.drift_events.SCANNED`, ordered."""
    least = 2 * config.min_segment_other
    numbered = _written(events).sort("user_id", "occurred_at", maintain_order=True).with_columns(
        place=pl.int_range(1, pl.len() + 1).over("user_id"), n=pl.len().over("user_id").cast(pl.Int64)
    )  # fmt: skip
    few = numbered.filter(pl.col("n") < least)
    looked = _looked_at(numbered.filter(pl.col("n") >= least), least)
    found = [pl.DataFrame(schema=FINDINGS), _waiting(few, metric, least)]
    if looked.height:
        left = texts.residual(looked, texts.vectors(looked["category"]), known)
        sequences = looked.select(
            pl.lit("user").alias("level"), "user_id", "segment",
            pl.lit(None, pl.String).alias("agent"), pl.lit(metric.name).alias("metric"),
            pl.lit("embedding").alias("likelihood"), pl.lit(None, pl.Float64).alias("practical"), "occurred_at",
            pl.lit(0.0).alias("value"), pl.lit(None, pl.Float64).alias("residual"),
            # A session is one row already.
            pl.lit(None, pl.String).alias("block"), "place", pl.Series("vector", left).arr.to_list(),
        )  # fmt: skip
        totals = looked.group_by("user_id").agg(pl.col("n").first().alias("events_total"))
        made = detect(sequences, config, random=random).drop("events_total")
        found.append(made.join(totals, on="user_id", how="left", maintain_order="left").select(list(FINDINGS)))
    return pl.concat(found)


def _written(events: pl.DataFrame) -> pl.DataFrame:
    return events.filter(pl.col("category").is_not_null())


def _looked_at(numbered: pl.DataFrame, least: int) -> pl.DataFrame:
    """The rows of each user's newest look, thinned to `MOST_SESSIONS`, with `place` numbered without gaps up to it."""
    # Doublings of the least: whole logarithms, exactly.
    doublings = (pl.col("n") / least).log(2.0).add(1e-12).floor().cast(pl.Int64)
    look = pl.lit(2, pl.Int64).pow(doublings) * least
    every = pl.max_horizontal(look // (2 * MOST_SESSIONS), pl.lit(1, pl.Int64))
    ago = look - pl.col("place")
    wanted = (ago >= 0) & (ago % every == 0) & (ago // every < MOST_SESSIONS)
    return numbered.filter(wanted).with_columns(place=look - ago // every)


def _waiting(few: pl.DataFrame, metric: Metric, least: int) -> pl.DataFrame:
    """Users with too few sessions: nothing of theirs is hashed."""
    counted = few.group_by("user_id", maintain_order=True).agg(pl.col("segment").last(), pl.col("n").first())
    known = counted.select(
        "user_id", "segment", level=pl.lit("user"), metric=pl.lit(metric.name), likelihood=pl.lit("embedding"),
        status=pl.lit("not enough data"), events="n", events_total="n", missing=least - pl.col("n"),
        ignored=pl.lit(0, pl.Int64), flagged=pl.lit(value=False),
    )  # fmt: skip
    return known.select(
        pl.col(name).cast(to) if name in known.columns else pl.lit(None, to).alias(name)
        for name, to in FINDINGS.items()
    )


def _measured(found: pl.DataFrame, metric: Metric, events: int, known: texts.Shared) -> pl.DataFrame:
    waiting = found.filter(status="not enough data")
    likelihood, reason = likelihoods.choose(np.zeros(0), metric)
    row = {
        "level": "user", "metric": metric.name, "likelihood": likelihood, "reason": reason,
        "threshold": metric.practical, "events": events, "ignored": 0, "subjects": found.height,
        "scanned": found.height - waiting.height, "flagged": 0, "too_few": waiting.height,
        "missing_median": waiting["missing"].median(), "explained": known.explained,
    }  # fmt: skip
    return pl.DataFrame([row], schema=METRICS)
