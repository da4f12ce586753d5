"""The filters that hold on every page: a time range, agents, and the segment (arm, model). They live in the URL.

`sidebar` draws them once a run, in app.py; pages ask `current` for the result.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import streamlit as st

from dashboard import data, runtime
from dashboard.ui import format as fmt
from store import overview
from store.overview import Bucket
from store.scope import Scope

__all__ = ["Selection", "current", "sidebar"]

_DAYS: Final = {"24 hours": 1, "7 days": 7, "30 days": 30, "90 days": 90}
# Minutes by which a range moves on: a thousandth of it or so, so that what was read for it is of use for a while.
_STEPS: Final = {"24 hours": 1, "7 days": 10, "30 days": 30, "90 days": 60}
_ALL: Final = "all time"
_CUSTOM: Final = "from day to day"
_DEFAULT: Final = "30 days"
RANGES: Final = (*_DAYS, _ALL, _CUSTOM)
_STATE: Final = "selection"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Selection:
    """What the filters say: the scope to query, its range in words, the bucket of charts, and what the store holds."""

    scope: Scope
    words: str
    bucket: Bucket
    traces: int
    spans: int
    signals: int
    oldest: datetime | None
    newest: datetime | None
    extent: Mapping[str, Any]  # one row of store.overview.EXTENT

    @property
    def empty(self) -> bool:
        """Whether the store holds nothing at all."""
        return self.traces + self.spans + self.signals == 0


def current() -> Selection:
    """The selection of this run, as `sidebar` left it."""
    selection: Selection = st.session_state[_STATE]
    return selection


def sidebar() -> Selection:
    """Draw the filters into the sidebar and keep what they say for the page. Raises: what the store raises."""
    now = runtime.current().clock.now()
    extent = data.query(overview.extent).row(0, named=True)
    with st.sidebar:
        chosen = _range(now, extent["newest"])
        since, until = _limits(chosen, now)
        agents, arms, models = _segment() if extent["traces"] else ((), (), ())
    scope = Scope(since, until, agents, arms, models)
    selection = Selection(
        scope=scope,
        words=fmt.date_range(since, None if until is None else until - timedelta(microseconds=1)),
        bucket=_bucket(since or extent["oldest"], until or extent["newest"]),
        traces=extent["traces"],
        spans=extent["spans"],
        signals=extent["signals"],
        oldest=extent["oldest"],
        newest=extent["newest"],
        extent=extent,
    )
    st.session_state[_STATE] = selection
    return selection


def _range(now: datetime, newest: datetime | None) -> str:
    # Data that ended long ago would leave the first page empty: then all of it is shown until a range is chosen.
    recent = newest is None or newest >= now - timedelta(days=_DAYS[_DEFAULT])
    chosen = st.selectbox(
        "Time range",
        RANGES,
        index=RANGES.index(_DEFAULT if recent else _ALL),
        key="range",
        bind="query-params",
        help="Holds on every page. Days begin at midnight UTC.",
    )
    # A browser may send anything.
    return chosen if chosen in RANGES else _ALL


def _limits(chosen: str, now: datetime) -> tuple[datetime | None, datetime | None]:
    """Since inclusive and until exclusive, after now: the range moves on in steps, so that answers can be held."""
    if chosen == _ALL:
        return None, None
    if chosen != _CUSTOM:
        step = timedelta(minutes=_STEPS[chosen])
        until = now + step - (now - _EPOCH) % step
        return until - timedelta(days=_DAYS[chosen]), until
    month_ago = (now - timedelta(days=29)).date()
    first = st.date_input("From", value=month_ago, key="from", bind="query-params", format="YYYY-MM-DD")
    last = st.date_input("To", value=now.date(), key="to", bind="query-params", format="YYYY-MM-DD")
    days = sorted(day for day in (first, last) if isinstance(day, date))
    if not days:
        return None, None
    begin = datetime.combine(days[0], time(), UTC)
    return begin, datetime.combine(days[-1], time(), UTC) + timedelta(days=1)


def _segment() -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    frame = data.query(overview.segments)
    values = {field: frame.filter(field=field)["value"].to_list() for field in ("agent", "arm", "model")}
    chosen: list[tuple[str, ...]] = []
    for field, label in (("agent", "Agent"), ("arm", "Arm"), ("model", "Model")):
        # One value is no choice, but a value in the URL must stay visible so that it can be removed.
        if len(values[field]) < 2 and not st.query_params.get_all(field):
            chosen.append(())
            continue
        picked = st.multiselect(label, values[field], key=field, bind="query-params", placeholder="All")
        chosen.append(tuple(value for value in picked if value in values[field]))
    return chosen[0], chosen[1], chosen[2]


def _bucket(since: datetime | None, until: datetime | None) -> Bucket:
    if since is None or until is None:
        return "day"
    days = (until - since).total_seconds() / 86_400
    return "hour" if days <= 2 else "day" if days <= 120 else "week"
