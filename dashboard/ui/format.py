"""Numbers, durations, money, times and ids as operators read them. Every function gives plain text, never Markdown.

Times are shown in UTC, or in the zone of the operator's browser when they chose that (`dashboard.feel.arrival`).
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from math import isfinite, sqrt
from typing import Any, Final
from zoneinfo import ZoneInfo

import polars as pl
import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from pipelines.stats.proportion import Interval

__all__ = [
    "MINIMUM_MEAN", "MINIMUM_POINT", "MINIMUM_RATE", "NONE", "ZONE", "browser_zone", "change", "columns", "count",
    "date_range", "duration", "interval_percent", "mean_interval", "mean_limits", "missing", "money",
    "percent", "plural", "points", "relative", "reward", "short_id", "when", "zone", "zone_label",
]  # fmt: skip

NONE: Final = "–"

ZONE: Final = "zone_of_browser"
"""In the session's state: whether times are shown in the browser's zone."""

_OF_UTC: Final = " (UTC)"

# Below these a page says "not enough data" instead of a number: trials of a rate, traces of a mean, traces of a point
# of a course over time.
MINIMUM_RATE: Final = 20
MINIMUM_MEAN: Final = 30
MINIMUM_POINT: Final = 10

_Z95: Final = 1.959963984540054


def count(value: int | None) -> str:
    """A whole number with thousands separated: 12,304."""
    return NONE if value is None else f"{value:,}"


def plural(value: int, singular: str, many: str | None = None) -> str:
    """A count with its noun: 1 trace, 12,304 traces."""
    return f"{value:,} {singular if value == 1 else many or singular + 's'}"


def percent(share: float | None) -> str:
    """A share of 1 with two or three significant digits: 0.42 %, 5.1 %, 42 %."""
    if share is None or not isfinite(share):
        return NONE
    value = share * 100
    size = abs(value)
    digits = 0 if size >= 99.95 or size == 0 else 1 if size >= 1 else 2
    return f"{value:.{digits}f} %"


def points(difference: float) -> str:
    """A difference of two shares in percentage points, with its sign: +0.4 points."""
    return f"{difference * 100:+.1f} points"


def interval_percent(interval: Interval) -> str:
    """The limits of a share: 4.1 to 6.2 %."""
    return f"{interval.lower * 100:.1f} to {interval.upper * 100:.1f} %"


def change(now: float, before: float) -> str | None:
    """A relative change with its sign: +12 %; None when there was nothing before."""
    if before == 0:
        return None
    share = (now - before) / before * 100
    return f"{share:+.0f} %" if abs(share) >= 1 or share == 0 else f"{share:+.1f} %"


def money(usd: float | None) -> str:
    """An amount in US dollars: $1,204, $12.30, $0.0012, <$0.0001."""
    if usd is None or not isfinite(usd):
        return NONE
    size = abs(usd)
    sign = "-" if usd < 0 else ""
    if 0 < size < 0.00005:
        return f"{sign}<$0.0001"
    digits = 0 if size >= 1000 else 2 if size >= 0.1 or size == 0 else 4
    return f"{sign}${size:,.{digits}f}"


def duration(seconds: float | None) -> str:
    """A length of time in at most two units: 850 ms, 1.2 s, 3 min 20 s, 2 h 5 min, 4 d 3 h."""
    if seconds is None or not isfinite(seconds):
        return NONE
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, smaller, lower in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {lower}" if rest else "")
    return f"{whole} s"


def browser_zone() -> ZoneInfo | None:
    """The zone of this browser where it is another one than UTC; None where it is not, or not known."""
    if get_script_run_ctx(suppress_warning=True) is None:
        return None
    name = st.context.timezone
    # A browser may say anything.
    if not name or name.upper().removeprefix("ETC/") in ("UTC", "GMT", "UCT", "ZULU"):
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


def zone() -> ZoneInfo | None:
    """The zone in which this operator reads times; None for UTC."""
    theirs = browser_zone()
    return theirs if theirs is not None and st.session_state.get(ZONE) is True else None


def zone_label(of: ZoneInfo | None) -> str:
    """A zone in a heading: UTC, Berlin, Buenos Aires."""
    return "UTC" if of is None else of.key.rpartition("/")[2].replace("_", " ")


def when(at: datetime | None, *, seconds: bool = True) -> str:
    """A moment in the operator's zone: 2026-11-20 12:00:05 UTC, 2026-11-20 13:00:05 CET."""
    if at is None:
        return NONE
    local = at.astimezone(zone() or UTC)
    return f"{local:{'%Y-%m-%d %H:%M:%S' if seconds else '%Y-%m-%d %H:%M'} %Z}"


def columns(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a table whose columns of moments follow the operator's zone, headings included."""
    of = zone()
    if of is None:
        return dict(config)
    return {name: _followed(column, of) for name, column in config.items()}


def _followed(column: Any, of: ZoneInfo) -> Any:
    kind = column.get("type_config") if isinstance(column, dict) else None
    if not kind or kind.get("type") != "datetime":
        return column
    label = column.get("label")
    if label and label.endswith(_OF_UTC):
        label = f"{label.removesuffix(_OF_UTC)} ({zone_label(of)})"
    return {**column, "label": label, "type_config": {**kind, "timezone": of.key}}


def relative(moment: datetime | None, now: datetime) -> str:
    """How long ago, or in how long: 3 min ago, 214 days ago, in 2 h."""
    if moment is None:
        return NONE
    seconds = (now - moment).total_seconds()
    size = abs(seconds)
    if size < 60:
        return "just now"
    if size < 3_600:
        text = f"{size // 60:.0f} min"
    elif size < 2 * 86_400:
        text = f"{size // 3_600:.0f} h"
    else:
        text = f"{size // 86_400:,.0f} days"
    return f"{text} ago" if seconds > 0 else f"in {text}"


def date_range(since: datetime | None, until: datetime | None) -> str:
    """A range of days in UTC, the last one included: 1 to 30 Nov 2026."""
    if since is None and until is None:
        return "all time"
    if since is None or until is None:
        return f"since {since:%-d %b %Y}" if since is not None else f"until {until:%-d %b %Y}"
    if (until - since).total_seconds() <= 2 * 86_400:
        return f"{since:%-d %b %H:%M} to {until:%-d %b %Y %H:%M} UTC"
    return f"{since:%-d %b}{'' if since.year == until.year else f' {since:%Y}'} to {until:%-d %b %Y}"


def short_id(identity: str | None, *, keep: int = 18) -> str:
    """An id shortened in its middle to at most `keep` characters."""
    if identity is None:
        return NONE
    if len(identity) <= keep:
        return identity
    tail = keep // 3
    return f"{identity[: keep - tail - 1]}…{identity[-tail:]}"


def reward(mean: float | None, sd: float | None, signals: int | None) -> str:
    """A reward as mean ± standard deviation with the signals behind it: 0.42 ± 0.11 (n 3)."""
    if mean is None or sd is None:
        return NONE
    return f"{mean:.2f} ± {sd:.2f}" + ("" if signals is None else f" (n {signals})")


def missing(have: int, need: int, noun: str) -> str:
    """What is missing for a number to be shown: not enough data: 3 of 20 traces."""
    return f"not enough data: {have:,} of {plural(need, noun)}"


def mean_interval(
    n: int, mean: float, variance: float | None, sd2: float | None, shared_sd: float | None = None
) -> Interval:
    """The 95 % interval of a mean of uncertain values, by the law of total variance.

    The standard error is sqrt((V + S) / n + C^2) with V the sample variance of the n estimates, S the mean of their own
    variances and C what they have in common, which more of them do not lessen (`pipelines.rewards.means`).
    """
    spread = _Z95 * sqrt(((variance or 0.0) + (sd2 or 0.0)) / n + (shared_sd or 0.0) ** 2)
    return Interval(mean, mean - spread, mean + spread)


def mean_limits(frame: pl.DataFrame, *, n: str, mean: str, variance: str, sd2: str, shared_sd: str) -> pl.DataFrame:
    """`frame` with columns `lower` and `upper`: `mean_interval` of each row."""
    independent = (pl.col(variance).fill_null(0.0) + pl.col(sd2).fill_null(0.0)) / pl.col(n)
    spread = _Z95 * (independent + pl.col(shared_sd).fill_null(0.0) ** 2).sqrt()
    return frame.with_columns(lower=pl.col(mean) - spread, upper=pl.col(mean) + spread)
