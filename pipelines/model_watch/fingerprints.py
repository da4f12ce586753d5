"""When the provider's fingerprint behind a model's name became another one.

That a fingerprint is new is a fact; what is asked is whether it may have been there all along, and only was not met
before. If the k sessions that show it lay anywhere among all N with equal chances, they would all be among the last m
with probability C(m, k) / C(N, k): the exact p-value of the place of the first one.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import polars as pl
from scipy.special import gammaln

from pipelines.stats.proportion import Interval, wilson_interval

__all__ = ["LEAST_BEFORE", "LEAST_SHOWN", "Arrival", "newest_arrival"]

LEAST_BEFORE: Final = 20
"""So many sessions must have been without a fingerprint before it can be called new."""

LEAST_SHOWN: Final = 10
"""So many sessions must have shown it."""

_LEAST_SHARE: Final = 0.05
_LOOKS: Final = 120
"""Looked at each day: the p-value is multiplied by the days of the window."""


@dataclass(frozen=True)
class Arrival:
    """A fingerprint that was not there in `before_n` answers and has `share` of the `after_n` since `first_at`.

    `p_value` allows for all the fingerprints of the model and all looks.
    """

    fingerprint: str
    earlier: str
    first_at: datetime
    before_n: int
    after_n: int
    share: Interval
    p_value: float


def newest_arrival(answers: pl.DataFrame) -> Arrival | None:
    """The newest fingerprint of one model's answers in order of time (columns `store.model_answers.ANSWERS`).

    None where no fingerprint came later than the first `LEAST_BEFORE` sessions and was shown by `LEAST_SHOWN`.
    """
    told = answers.filter(pl.col("fingerprint").is_not_null())
    sessions = (
        told.group_by("session", maintain_order=True)
        .agg(pl.col("answered_at").min(), fingerprints=pl.col("fingerprint").unique())
        .sort("answered_at", "session")
        .with_row_index("place")
    )
    shown = (
        sessions.explode("fingerprints")
        .group_by(fingerprint="fingerprints")
        .agg(first=pl.col("place").min(), sessions=pl.len(), first_at=pl.col("answered_at").min())
        .sort("first", "fingerprint")
    )
    total, kinds = sessions.height, shown.height
    for row in reversed(shown.to_dicts()):
        place, k = int(row["first"]), int(row["sessions"])
        if place < LEAST_BEFORE or k < LEAST_SHOWN:
            continue
        since = told.filter(pl.col("answered_at") >= row["first_at"])
        before = told.filter(pl.col("answered_at") < row["first_at"])
        share = wilson_interval(since.filter(pl.col("fingerprint") == row["fingerprint"]).height, since.height)
        if share.estimate < _LEAST_SHARE or before.is_empty():
            continue
        chance = _choose(total - place, k) - _choose(total, k)
        return Arrival(
            fingerprint=row["fingerprint"],
            earlier=str(before["fingerprint"].mode().sort().item(0)),
            first_at=row["first_at"],
            before_n=before.height,
            after_n=since.height,
            share=share,
            p_value=min(1.0, float(pl.Series([chance]).exp().item()) * kinds * _LOOKS),
        )
    return None


def _choose(n: int, k: int) -> float:
    """ln C(n, k)."""
    return float(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))
