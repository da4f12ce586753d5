"""When notices go to a route: which of those that wait make up a message now, and when a failed one is tried again."""

from datetime import datetime, timedelta
from typing import Final

import numpy as np
import polars as pl

from store.notice_route import QuietHours, Route, is_quiet
from store.notices import SEVERITIES

__all__ = ["MOST_ATTEMPTS", "due", "quiet_until", "retry_at"]

MOST_ATTEMPTS: Final = 8
_FIRST_WAIT: Final = 30.0
_LONGEST_WAIT: Final = 3_600.0
# A day has at most 25 hours, and clocks go forward at most once in it.
_SEARCHED: Final = 27 * 60


def due(route: Route, waiting: pl.DataFrame, now: datetime) -> list[int]:
    """The notices that make up a message to this route now; empty: nothing goes out now.

    All that wait go together, once the first is `group_minutes` old. In quiet hours only critical ones go, where the
    route lets them; the others wait for the end.

    Args: `waiting` has the columns `store.notice_deliveries.PENDING`, rows of this route.
    """
    grave = SEVERITIES[SEVERITIES.index(route.least_severity) :]
    wanted = waiting.filter(pl.col("severity").is_in(grave))
    if route.kinds:
        wanted = wanted.filter(pl.col("kind").is_in(route.kinds))
    if is_quiet(route.quiet, now):
        wanted = wanted.filter(pl.col("severity") == "critical") if route.critical_passes else wanted.clear()
    first = wanted["posted_at"].min()
    if not isinstance(first, datetime) or now < first + timedelta(minutes=route.group_minutes):
        return []
    return [int(notice_id) for notice_id in wanted.sort("posted_at", "notice_id")["notice_id"]]


def quiet_until(quiet: QuietHours | None, now: datetime) -> datetime | None:
    """The first whole minute after `now` that is not quiet; None when `now` is not.

    Minutes are counted one by one: clocks that go forward may skip the end, clocks that go back show it twice.
    """
    if not is_quiet(quiet, now):
        return None
    minute = now.replace(second=0, microsecond=0)
    for _ in range(_SEARCHED):
        minute += timedelta(minutes=1)
        if not is_quiet(quiet, minute):
            return minute
    return minute


def retry_at(
    attempts: int, now: datetime, random: np.random.Generator, *, asked_seconds: float | None = None
) -> datetime | None:
    """When a message that failed `attempts` times is tried again; None: never.

    Half a minute, doubled each time up to an hour, times 0.5 to 1.5 so that many do not come back at once; later where
    the other side asks for that, by an hour at most.
    """
    if attempts >= MOST_ATTEMPTS:
        return None
    wait = min(_FIRST_WAIT * 2.0 ** (attempts - 1), _LONGEST_WAIT) * random.uniform(0.5, 1.5)
    return now + timedelta(seconds=max(wait, min(asked_seconds or 0.0, _LONGEST_WAIT)))
