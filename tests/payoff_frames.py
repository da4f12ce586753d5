"""Exposures for tests of payoffs: one lesson, or a few, drawn with known probabilities."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from pipelines.lessons.payoff.exposed import EXPOSED

START = datetime(2026, 3, 2, tzinfo=UTC)


def exposures(units, *, effect=0.0, holdout=0.2, empty=0.02, users=None, seed=0, lesson="l1", **columns):
    """One decision a unit (columns EXPOSED); outcomes are 0 or 1 around .5; `columns` replace those drawn.

    `holdout` may be an array, one a unit.
    """
    random = np.random.default_rng(seed)
    chance = np.broadcast_to(np.asarray(holdout, dtype=float), units)
    none = random.random(units) < empty
    served = (random.random(units) >= chance) & ~none
    user = np.arange(units) if users is None else random.integers(0, users, units)
    outcome = (random.random(units) < 0.5 + effect * served).astype(float)
    frame = pl.DataFrame(
        {
            "decision_id": [f"d{place}" for place in range(units)],
            "unit": [f"s{place}" for place in range(units)],
            "user_id": [f"u{place}" for place in user],
            "segment": [("new", "old")[place % 2] for place in user],
            "task": [f"t{place}" for place in random.integers(0, 5, units)],
            "arm": ["default"] * units,
            "lesson_id": [lesson] * units,
            "version": pl.Series([1] * units, dtype=pl.Int32),
            "status": np.where(none, "empty", np.where(served, "served", "withheld")),
            "served_probability": (1.0 - empty) * (1.0 - chance),
            "empty_probability": [empty] * units,
            "lesson_tokens": [50] * units,
            "decided_at": [START + timedelta(minutes=place) for place in range(units)],
            "young": [False] * units,
            "traces": [1] * units,
            "outcome": outcome,
            "reward": 0.25 + outcome / 2,
            "cost_usd": 0.01 + 0.002 * served + random.normal(0, 0.001, units),
            "tokens": 1000.0 + 50 * served + random.normal(0, 30, units),
        }
    )
    return frame.with_columns(**columns).select(list(EXPOSED)).cast(EXPOSED)


def row(found, **where):
    """The one payoff row with these values (by default of the lesson, for everybody, by DR on the outcome)."""
    wanted = {"kind": "lesson", "measure": "outcome", "estimator": "doubly robust", "segment": None} | where
    rows = found.rows
    for name, value in wanted.items():
        rows = rows.filter(pl.col(name).eq_missing(pl.lit(value)))
    assert rows.height == 1, rows
    return rows.row(0, named=True)
