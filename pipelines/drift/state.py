"""What is known of a user and metric between two full scans, and who looks as if they had changed since.

Sums, extremes and two cumulative sums (Page 1954, Biometrika 41:100): S+ = max(0, S+ + z - k), S- = max(0, S- - z - k),
z the distance of a value from the reference of the full scan in its standard deviations, held to four of them. A user
whose S exceeds `THRESHOLD` is scanned sooner. That is no finding and needs no error rate of its own: the scan decides.
A stationary user gets there about once in 370 values (Siegmund 1985, 2.6); one that moved by a standard deviation after
about a dozen.

Values that are not newer than the newest known one (data that came late, or rewrites last week) have no place at the
end of the sums: their users are counted afresh.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from store.drift_states import STATES
from store.frames import UTC_TIME, declare

__all__ = ["ALLOWANCE", "THRESHOLD", "VALUES", "Advanced", "advance", "begin", "recount"]

ALLOWANCE: Final = 0.25  # k, half of the shift that is looked for, in standard deviations
THRESHOLD: Final = 8.0
_FARTHEST: Final = 4.0

VALUES = declare({"user_id": pl.String, "metric": pl.String, "occurred_at": UTC_TIME, "value": pl.Float64})

_KEYS: Final = ["user_id", "metric"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Advanced:
    """The states that changed, and the users and metrics that have to be counted afresh (columns of the key)."""

    states: pl.DataFrame
    recount: pl.DataFrame


def begin(values: pl.DataFrame) -> pl.DataFrame:
    """States (columns `STATES`) of all `values` (columns `VALUES`) there are; they become the reference."""
    counted = _counted(values.filter(pl.col("value").is_finite()))
    sd = (pl.col("m2") / (pl.col("n") - 1).clip(1)).sqrt()
    zero = pl.lit(0.0)
    states = counted.with_columns(
        s_plus=zero, s_minus=zero, reference_mean="mean", reference_sd=sd, suspected=pl.lit(False)
    )
    return states.select(list(STATES)).cast(STATES)


def recount(values: pl.DataFrame) -> pl.DataFrame:
    """As `begin`, with the cumulative sums of all values: what was rewritten may have changed anywhere."""
    states = begin(values)
    if states.is_empty():
        return states
    places = states.select(_KEYS).with_row_index("place")
    own = values.filter(pl.col("value").is_finite()).join(places, on=_KEYS)
    summed = _advanced(states, own.select("place", "occurred_at", "value"))
    return (
        states.join(summed.select(*_KEYS, "s_plus", "s_minus", "suspected"), on=_KEYS, suffix="_summed")
        .with_columns(s_plus="s_plus_summed", s_minus="s_minus_summed", suspected="suspected_summed")
        .select(list(STATES))
    )


def advance(states: pl.DataFrame, values: pl.DataFrame) -> Advanced:
    """Add new `values` (columns `VALUES`, any order) to `states` (columns `STATES`, each user and metric once).

    Those of users without a state begin one. One pass over the values, whatever the number of users.
    """
    placed = states.select(*_KEYS, "last_at").with_row_index("place")
    before = values.filter(pl.col("value").is_finite()).join(placed, on=_KEYS, how="left", maintain_order="left")
    is_late = (before["occurred_at"] <= before["last_at"]).fill_null(False)
    late = before.filter(is_late).select("place", *_KEYS).unique("place")
    if late.height:
        before = before.join(late, on="place", how="anti", maintain_order="left")
    fresh = before.filter(pl.col("place").is_null()).select(list(VALUES))
    parts = [begin(fresh)] if fresh.height else []
    known = before.filter(pl.col("place").is_not_null()) if fresh.height else before
    if known.height:
        parts.append(_advanced(states, known.select("place", "occurred_at", "value")))
    changed = pl.concat(parts) if parts else pl.DataFrame(schema=STATES)
    return Advanced(changed, late.select(_KEYS).sort(_KEYS))


def _counted(values: pl.DataFrame) -> pl.DataFrame:
    value = pl.col("value")
    return values.group_by(_KEYS).agg(
        pl.len().cast(pl.Int64).alias("n"),
        value.mean().alias("mean"),
        ((value - value.mean()) ** 2).sum().alias("m2"),
        value.min().alias("minimum"),
        value.max().alias("maximum"),
        pl.col("occurred_at").min().alias("first_at"),
        pl.col("occurred_at").max().alias("last_at"),
    )


def _advanced(states: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """The states of the rows at `place`, each with its values (`occurred_at`, `value`) in order of time added."""
    ordered = known.sort("place", "occurred_at", maintain_order=True)
    place, value = ordered["place"].to_numpy(), ordered["value"].to_numpy()
    begins = np.concatenate(([True], place[1:] != place[:-1]))
    first, owner = np.flatnonzero(begins), np.cumsum(begins) - 1
    last = np.append(first[1:], place.size) - 1
    states = states[place[first]]
    count = (last - first + 1).astype(np.float64)
    mean = np.add.reduceat(value, first) / count
    m2 = np.add.reduceat((value - mean[owner]) ** 2, first)
    n, old_mean, old_m2 = (states[name].to_numpy().astype(np.float64) for name in ("n", "mean", "m2"))
    total = n + count
    # Two samples put together (Chan, Golub & LeVeque 1983, Am. Stat. 37:242).
    gap = mean - old_mean
    sd = states["reference_sd"].to_numpy()[owner]
    off = value - states["reference_mean"].to_numpy()[owner]
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(sd > 0, off / sd, np.where(off == 0, 0.0, np.sign(off) * _FARTHEST))
    z = np.clip(z, -_FARTHEST, _FARTHEST)
    plus = _cumulative(z - ALLOWANCE, first, last, states["s_plus"].to_numpy())
    minus = _cumulative(-z - ALLOWANCE, first, last, states["s_minus"].to_numpy())
    suspected = (plus > THRESHOLD) | (minus > THRESHOLD) | states["suspected"].to_numpy()
    return states.with_columns(
        n=pl.Series(total.astype(np.int64)),
        mean=pl.Series(old_mean + gap * count / total),
        m2=pl.Series(old_m2 + m2 + gap**2 * n * count / total),
        minimum=pl.Series(np.minimum(states["minimum"].to_numpy(), np.minimum.reduceat(value, first))),
        maximum=pl.Series(np.maximum(states["maximum"].to_numpy(), np.maximum.reduceat(value, first))),
        s_plus=pl.Series(plus),
        s_minus=pl.Series(minus),
        last_at=ordered["occurred_at"].gather(last),
        suspected=pl.Series(suspected),
    ).select(list(STATES))


def _cumulative(steps: Floats, first: NDArray[np.int64], last: NDArray[np.int64], before: Floats) -> Floats:
    """S after the steps of each user: max(0, S + step) one by one, which is the sum less its lowest point below 0."""
    running = np.cumsum(steps)
    start = running[first] - steps[first]
    lowest = np.minimum.reduceat(running, first) - start + before
    return np.asarray(running[last] - start + before - np.minimum(lowest, 0.0))
