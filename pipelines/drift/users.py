"""Which users changed: a likelihood-ratio scan of every user's yes/no events, with false-discovery control over users.

The p-value of a scan holds for all looks so far, so the job may run every night (METHODS §7). It was calibrated for
histories of up to 1,000 events: longer ones are scanned in their newest 1,000 and pay a union bound for the earlier
ones. Users and metrics form one family for Benjamini-Hochberg. Users with too few events are listed, never dropped.

The split is where the data differ most, so the means before and after exaggerate the change. Their intervals are those
of the two rates given the split, for display beside n; the test is the p-value.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import betaincinv

from pipelines.stats.contract import ContractError, require
from pipelines.stats.false_discovery import adjust
from pipelines.stats.likelihood_ratio import CALIBRATED_EVENTS, MIN_SEGMENT, p_value
from pipelines.stats.likelihood_ratio import scan as scan_sequences
from store.drift import EVENTS
from store.errors import SettingsError

__all__ = ["EVENTS", "FINDINGS", "DriftConfig", "scan"]

FINDINGS = pl.Schema(
    {
        "user_id": pl.String(),
        "metric": pl.String(),
        "status": pl.String(),  # drift, no drift seen, not enough data
        "events": pl.Int64(),  # scanned
        "events_total": pl.Int64(),
        "missing": pl.Int64(),  # events still needed before a scan is made
        "statistic": pl.Float64(),  # null from here to after_upper where no scan was made
        "p_value": pl.Float64(),
        "q_value": pl.Float64(),
        "flagged": pl.Boolean(),
        "changed_at": pl.Datetime("us", "UTC"),  # the first event after the most likely change
        "before_mean": pl.Float64(),
        "before_n": pl.Int64(),
        "before_lower": pl.Float64(),
        "before_upper": pl.Float64(),
        "after_mean": pl.Float64(),
        "after_n": pl.Int64(),
        "after_lower": pl.Float64(),
        "after_upper": pl.Float64(),
    }
)


@dataclass(frozen=True)
class DriftConfig:
    """False-discovery rate, fewest events of a user, shortest segment, and how many newest events are scanned."""

    false_discovery_rate: float = 0.05
    min_events: int = 20
    min_segment: int = MIN_SEGMENT
    window: int = CALIBRATED_EVENTS

    def __post_init__(self) -> None:
        if not 0.0 < self.false_discovery_rate < 1.0:
            raise SettingsError("drift false_discovery_rate", self.false_discovery_rate, "a number above 0 and below 1")
        if self.min_segment < 1 or self.window < max(self.min_events, 2 * self.min_segment):
            limits = (self.min_segment, self.window)
            raise SettingsError("drift min_segment, window", limits, "segments of at least 1 and a window holding two")


def scan(events: pl.DataFrame, config: DriftConfig | None = None) -> pl.DataFrame:
    """Findings (columns FINDINGS), one row per user and metric, smallest p-value first, users without enough data last.

    `events` has the columns EVENTS, in any order of rows and with `value` 0 or 1; events of one time keep their order.
    Raises ContractError for nulls, other values or wrong columns.
    """
    config = config or DriftConfig()
    events = require(events, EVENTS, "drift events", not_null=EVENTS.names())
    if (other := events.filter(~pl.col("value").is_in([0, 1]))).height:
        raise ContractError("drift events", f"value must be 0 or 1, came {other['value'][0]} in {other.height} rows.")
    ordered = events.sort("user_id", "metric", "occurred_at", maintain_order=True)
    keys = ["user_id", "metric"]
    newest = ordered.group_by(keys, maintain_order=True).agg(
        events_total=pl.len().cast(pl.Int64),
        value=pl.col("value").tail(config.window),
        occurred_at=pl.col("occurred_at").tail(config.window),
    )
    newest = newest.with_columns(events=pl.col("value").list.len().cast(pl.Int64))
    shortest = max(config.min_events, 2 * config.min_segment)
    enough = newest.filter(pl.col("events") >= shortest)
    too_few = newest.filter(pl.col("events") < shortest).select(*keys, "events", "events_total")
    found = _scanned(enough, config) if enough.height else pl.DataFrame(schema=FINDINGS)
    waiting = too_few.with_columns(
        status=pl.lit("not enough data"), missing=shortest - pl.col("events"), flagged=pl.lit(False)
    )
    return pl.concat([found, waiting], how="diagonal").select(list(FINDINGS)).sort("p_value", *keys, nulls_last=True)


def _scanned(users: pl.DataFrame, config: DriftConfig) -> pl.DataFrame:
    values = users["value"].explode().to_numpy()
    lengths = users["events"].to_numpy()
    result = scan_sequences(values, lengths, min_segment=config.min_segment)
    windows = -(-users["events_total"].to_numpy() // config.window)
    p = p_value(result.statistic, windows)
    q = adjust(p)
    starts = np.cumsum(lengths) - lengths
    running = np.concatenate(([0], np.cumsum(values)))
    k_before = running[starts + result.before] - running[starts]
    k_after = running[starts + lengths] - running[starts + result.before]
    n_after = lengths - result.before
    before_lower, before_upper = _jeffreys(k_before, result.before)
    after_lower, after_upper = _jeffreys(k_after, n_after)
    flagged = q <= config.false_discovery_rate
    return users.select(
        "user_id",
        "metric",
        status=pl.when(pl.Series(flagged)).then(pl.lit("drift")).otherwise(pl.lit("no drift seen")),
        events="events",
        events_total="events_total",
        missing=pl.lit(0, pl.Int64),
        statistic=pl.Series(result.statistic),
        p_value=pl.Series(p),
        q_value=pl.Series(q),
        flagged=pl.Series(flagged),
        changed_at=users["occurred_at"].explode().gather(starts + result.before),
        before_mean=pl.Series(k_before / result.before),
        before_n=pl.Series(result.before),
        before_lower=pl.Series(before_lower),
        before_upper=pl.Series(before_upper),
        after_mean=pl.Series(k_after / n_after),
        after_n=pl.Series(n_after),
        after_lower=pl.Series(after_lower),
        after_upper=pl.Series(after_upper),
    )


def _jeffreys(
    k: NDArray[np.int64], n: NDArray[np.int64], level: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Jeffreys interval of a proportion, closed at 0 and 1 (Brown, Cai & DasGupta 2001, Stat. Sci. 16:101)."""
    tail = (1.0 - level) / 2.0
    lower = np.where(k == 0, 0.0, betaincinv(k + 0.5, n - k + 0.5, tail))
    upper = np.where(k == n, 1.0, betaincinv(k + 0.5, n - k + 0.5, 1.0 - tail))
    return lower, upper
