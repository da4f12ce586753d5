"""The days of a metric of an agent or of a segment at it, as drift tests them above single users, for pages.

The same sessions as in `store.drift_events`, by the day on which they began, in UTC: a picture of anything else would
not be one of what was tested.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import polars as pl

from store.connection import Store
from store.drift_events import SEGMENTS, STATED, measure_of, sessions
from store.frames import UTC_TIME, Reader, declare

__all__ = ["DAILY", "MOST_SAMPLED", "SAMPLED", "daily"]

DAILY: Final = declare({"day": pl.Date, "mean": pl.Float64, "n": pl.Int64, "sd": pl.Float64})

# Metrics whose values cost so much to tell that they are told of a sample of the sessions.
SAMPLED: Final = ("language",)
MOST_SAMPLED: Final = 6_000  # traces, about

_LONGEST_SESSION: Final = timedelta(days=1)  # that is still whole where it crosses the ends of what is read
_DAY: Final = timedelta(days=1)


def daily(
    store: Store,
    metric: str,
    *,
    agent: str | None = None,
    segment: str | None = None,
    category: str | None = None,
    logarithms: bool = False,
    until: datetime | None = None,
    days: int = 120,
    timeout: float | None = None,
) -> pl.DataFrame:
    """The mean of a metric on each day that has sessions, with their number and standard deviation (columns `DAILY`).

    Args: `agent`, None for what names no agent, as in findings; `segment`, None for all of the agent's users;
    `category` whose share is meant, for a metric with categories; `logarithms` as of likelihood log: `mean` is the
    geometric mean of values above 0 and `sd` that of their logarithms; `until`, the last day, None for the newest with
    a trace; `days` up to and with it.
    Raises: `NotFound` for an unknown metric; `QueryTimeout`.
    """
    in_categories = measure_of(metric).nature == "category"
    value = "(category = $category)::DOUBLE" if in_categories else "ln(value)" if logarithms else "value"
    usable = "category IS NOT NULL" if in_categories else "value > 0" if logarithms else "true"
    mean = "exp(avg(v))" if logarithms and not in_categories else "avg(v)"
    with store.read(timeout=timeout) as reader:
        last = until or _newest(reader, store.clock.now())
        if last is None:
            return pl.DataFrame(schema=DAILY)
        end = last.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + _DAY
        begin = end - days * _DAY
        params: dict[str, Any] = {
            "agent": agent or "", "since": begin - _LONGEST_SESSION, "until": end + _LONGEST_SESSION,
            "begin": begin, "end": end,
        }  # fmt: skip
        who = _within(metric)
        if segment is not None:
            who += f" AND {{user}} IN (SELECT user_id FROM {SEGMENTS} WHERE segment = $segment)"
            params["segment"] = segment
        if metric in SAMPLED:
            who += _share(reader, who, params)
        if in_categories:
            params["category"] = category
        return reader.frame(
            f"""SELECT day, {mean} AS mean, count(*) AS n, stddev_samp(v) AS sd FROM (
                SELECT make_timestamp(epoch_us(occurred_at))::DATE AS day, {value} AS v
                FROM ({sessions(metric, who)})
                WHERE occurred_at >= $begin AND occurred_at < $end AND {usable})
            WHERE isfinite(v) GROUP BY day ORDER BY day""",
            DAILY,
            params,
        )


def _within(metric: str) -> str:
    """The condition on the agent and on the time of a metric's traces or signals."""
    agent = "coalesce(t.agent, '') = $agent"
    if metric != STATED:
        return f"{agent} AND t.started_at >= $since AND t.started_at < $until"
    # The first one is of signals alone, so it is checked before they are joined.
    return f"""{agent} AND (s.occurred_at IS NULL OR s.occurred_at >= $since AND s.occurred_at < $until)
        AND coalesce(s.occurred_at, t.started_at) >= $since AND coalesce(s.occurred_at, t.started_at) < $until"""


def _share(reader: Reader, who: str, params: dict[str, Any]) -> str:
    """The condition that keeps whole sessions, about as many traces as are to be read; the same ones each time."""
    named = {name: value for name, value in params.items() if name not in ("begin", "end")}
    traces = int(str(reader.value(f"SELECT count(*) FROM traces AS t WHERE {who.format(user='t.user_id')}", named)))
    if traces <= MOST_SAMPLED:
        return ""
    largest = (2**64 - 1) * MOST_SAMPLED // traces
    return f" AND hash(coalesce(nullif(t.session_id, ''), t.trace_id)) <= {largest:d}"


def _newest(reader: Reader, now: datetime) -> datetime | None:
    """When the newest trace began, but for those that say they are of the future."""
    found = reader.frame(
        "SELECT max(started_at) AS at FROM traces WHERE started_at <= $soon",
        declare({"at": UTC_TIME}),
        {"soon": now + _DAY},
    )
    return found["at"][0] if found.height else None
