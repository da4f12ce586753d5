"""Which traces could have shown a signal: the absence of an event says something only of those.

A retry needs a next request, leaving is seen at the last one, and an event that usually takes an hour says nothing of a
trace of a minute ago. Where nearly all events of a kind fall on traces with (or without) a successor in their session,
only those are at risk; otherwise all are.
"""

from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.rewards.response_models import Array, IntArray

__all__ = ["KNOWN_KINDS", "at_risk", "latest_time", "locate", "place", "too_young"]

# Kinds that this model uses, and why the others are left to another one.
KNOWN_KINDS = frozenset(
    {
        "thumb",
        "rating",
        "annotation",
        "outcome",
        "judge",
        "impression",
        "click",
        "copy",
        "edit",
        "retry",
        "abandon",
        "purchase",
        "correction",
    }
)
_ELSEWHERE = {
    "comment": "a comment counts through a judge that reads it",
    "preference": "preferences are compared pair by pair, not measured per trace",
    "demonstration": "demonstrations are compared with rollouts on the same task",
}
_VALUED = ("thumb", "rating", "annotation", "outcome", "judge", "edit")
_MOSTLY = 0.95
_SETTLED = 0.95  # share of events that have come by the age from which their absence counts
_HOUR_US = 3_600_000_000.0


def latest_time(traces: pl.DataFrame, signals: pl.DataFrame) -> datetime | None:
    """The newest time stated anywhere: what `now` is when nobody says."""
    found = [traces["started_at"].max(), traces["ended_at"].max(), signals["occurred_at"].max()]
    times = [time for time in found if isinstance(time, datetime)]
    return max(times, default=None)


def place(traces: pl.DataFrame, now: datetime | None) -> pl.DataFrame:
    """Traces with `row`, `done_at`, `age_hours` (infinite without a time), `last` in session, and `user` code.

    A trace without a user is a cluster of its own; one without a session is the last of its own.
    """
    order = ["session_id", "started_at", "trace_id"]
    done = pl.coalesce("ended_at", "started_at")
    age = (pl.lit(now) - done).dt.total_microseconds() / _HOUR_US if now is not None else pl.lit(None, dtype=pl.Float64)
    placed = (
        traces.with_row_index("row")
        .cast({"row": pl.Int64})
        .with_columns(done_at=done, age_hours=age.clip(lower_bound=0.0).fill_null(float("inf")))
        .sort(order, nulls_last=True)
        .with_columns(
            last=(pl.col("session_id").is_null() | (pl.col("session_id") != pl.col("session_id").shift(-1))).fill_null(
                True
            )
        )
        .sort("row")
    )
    known = placed["user_id"].rank("dense").cast(pl.Int64).to_numpy().astype(np.float64) - 1.0
    unknown = np.isnan(known)
    known[unknown] = np.nanmax(known, initial=-1.0) + 1.0 + np.arange(int(unknown.sum()))
    return placed.with_columns(user=pl.Series(known.astype(np.int64)))


def locate(signals: pl.DataFrame, traces: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """Usable signals with the `row`, `agent` and `delay_hours` of their trace, and how many are left out, by reason.

    A signal that names nobody is about the user of its trace. Impressions and clicks stay without a trace, since they
    still tell how positions are looked at.
    """
    listed = pl.col("kind").is_in(["impression", "click"])
    value = pl.col("value")
    reasons = (
        pl.when(pl.col("kind").is_in(list(_ELSEWHERE)))
        .then(pl.col("kind").replace_strict(_ELSEWHERE, default=None, return_dtype=pl.String))
        .when(~pl.col("kind").is_in(list(KNOWN_KINDS)))
        .then(pl.lit("unknown kind: ") + pl.col("kind"))
        .when(pl.col("row").is_null() & ~listed & pl.col("trace_id").is_null())
        .then(pl.lit("no trace"))
        .when(pl.col("row").is_null() & ~listed)
        .then(pl.lit("trace not in the store"))
        .when(pl.col("kind").is_in(list(_VALUED)) & (value.is_null() | value.is_nan()))
        .then(pl.lit("no value: ") + pl.col("kind"))
        .when(pl.col("kind").is_in(list(_VALUED)) & ~value.is_between(0.0, 1.0))
        .then(pl.lit("value outside 0 to 1: ") + pl.col("kind"))
        .when(pl.col("kind").is_in(["copy", "purchase", "click"]) & (value <= 0.0).fill_null(False))
        .then(pl.lit("value 0, did not happen: ") + pl.col("kind"))
    )
    found = (
        signals.join(traces.select("trace_id", "row", "agent", "done_at", owner="user_id"), on="trace_id", how="left")
        .with_columns(excluded=reasons, user_id=pl.coalesce("user_id", "owner"))
        .with_columns(delay_hours=(pl.col("occurred_at") - pl.col("done_at")).dt.total_microseconds() / _HOUR_US)
    )
    left_out = found.filter(pl.col("excluded").is_not_null()).group_by("excluded").len().sort("excluded")
    counts = dict(zip(left_out["excluded"].to_list(), left_out["len"].to_list(), strict=True))
    return found.filter(pl.col("excluded").is_null()).drop("excluded", "done_at", "owner"), counts


def at_risk(events: IntArray, last: NDArray[np.bool_], *, by_session: bool) -> NDArray[np.bool_]:
    """Which traces could show an event, (traces,): `events` are the rows that do; by place in the session if asked."""
    everything = np.ones(len(last), dtype=bool)
    if not by_session or len(events) == 0 or last.all():
        return everything
    share = float(last[events].mean())
    if share >= _MOSTLY:
        return last
    return ~last if share <= 1.0 - _MOSTLY else everything


def too_young(age_hours: Array, delay_hours: Array) -> NDArray[np.bool_]:
    """Traces younger than nearly all observed delays of an event, (traces,): its absence says nothing yet."""
    known = delay_hours[np.isfinite(delay_hours) & (delay_hours >= 0.0)]
    return age_hours < (float(np.quantile(known, _SETTLED)) if len(known) else 0.0)
