"""What goes out when: severity, kinds, grouping, quiet hours in any time zone, and the waits after failures."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines.notices.planning import MOST_ATTEMPTS, due, quiet_until, retry_at
from store.notice_deliveries import PENDING
from store.notice_route import QuietHours, Route, Webhook, is_quiet

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
NIGHT = QuietHours("22:00", "07:00", "Europe/Berlin")
ZONES = [
    "UTC", "Europe/Berlin", "America/New_York", "America/St_Johns", "Asia/Kolkata", "Asia/Kathmandu",
    "Australia/Lord_Howe", "Pacific/Apia", "Pacific/Chatham", "Africa/Casablanca", "America/Sao_Paulo",
    "Asia/Tehran", "Antarctica/Troll",
]  # fmt: skip
clocks = st.times().map(lambda moment: f"{moment.hour:02d}:{moment.minute:02d}")
quiets = st.builds(QuietHours, clocks, clocks, st.sampled_from(ZONES)).filter(lambda quiet: quiet.start != quiet.end)
moments = st.integers(946_684_800, 2_145_916_800).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


def waiting(*rows: tuple[int, str, str, float]) -> pl.DataFrame:
    """Notices by id, kind, severity and minutes ago."""
    return pl.DataFrame(
        [(1, number, kind, severity, NOON - timedelta(minutes=ago)) for number, kind, severity, ago in rows],
        schema=PENDING, orient="row",
    )  # fmt: skip


def route(**more: object) -> Route:
    return Route("chat", Webhook("https://example.com/"), **{"group_minutes": 0, **more})  # type: ignore[arg-type]


def test_severity_and_kinds() -> None:
    rows = waiting((1, "drift", "info", 9), (2, "drift", "warning", 8), (3, "job", "critical", 7))
    assert due(route(), rows, NOON) == [2, 3]
    assert due(route(least_severity="info"), rows, NOON) == [1, 2, 3]
    assert due(route(least_severity="critical"), rows, NOON) == [3]
    assert due(route(least_severity="info", kinds=("drift",)), rows, NOON) == [1, 2]
    assert due(route(kinds=("lesson",)), rows, NOON) == []
    assert due(route(), rows.clear(), NOON) == []


def test_notices_within_the_minutes_are_one_message() -> None:
    grouped = route(group_minutes=5)
    assert due(grouped, waiting((1, "drift", "warning", 4.99)), NOON) == []
    assert due(grouped, waiting((1, "drift", "warning", 5), (2, "drift", "warning", 0.1)), NOON) == [1, 2]
    # What the route does not want does not start the minutes.
    assert due(grouped, waiting((1, "drift", "info", 50), (2, "drift", "warning", 1)), NOON) == []


def test_quiet_hours_hold_all_but_critical() -> None:
    night = datetime(2026, 11, 20, 23, 30, tzinfo=UTC)
    rows = waiting((1, "drift", "warning", 0), (2, "job", "critical", 0))
    assert due(route(quiet=NIGHT), rows, night) == [2]
    assert due(route(quiet=NIGHT, critical_passes=False), rows, night) == []
    morning = quiet_until(NIGHT, night)
    assert morning == datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
    assert due(route(quiet=NIGHT, critical_passes=False, group_minutes=5), rows, morning) == [1, 2]


@pytest.mark.parametrize(
    ("wall", "quiet"), [("21:59", False), ("22:00", True), ("00:00", True), ("06:59", True), ("07:00", False)]
)
def test_the_clock_on_the_wall_decides(wall: str, quiet: bool) -> None:
    moment = datetime.combine(NOON.date(), time.fromisoformat(wall), ZoneInfo("Europe/Berlin"))
    assert is_quiet(NIGHT, moment.astimezone(UTC)) is quiet


def test_clocks_that_change_within_the_quiet_hours() -> None:
    # Berlin 2026: forward on 29 March at 01:00 UTC, back on 25 October at 01:00 UTC.
    assert quiet_until(NIGHT, datetime(2026, 3, 28, 22, 0, tzinfo=UTC)) == datetime(2026, 3, 29, 5, 0, tzinfo=UTC)
    assert quiet_until(NIGHT, datetime(2026, 10, 24, 21, 0, tzinfo=UTC)) == datetime(2026, 10, 25, 6, 0, tzinfo=UTC)
    # The end, half past two, is skipped: at three it is over.
    short = QuietHours("01:00", "02:30", "Europe/Berlin")
    assert quiet_until(short, datetime(2026, 3, 29, 0, 30, tzinfo=UTC)) == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)
    # Half past two is shown twice, and between the two it is quiet again.
    first, second = datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 25, 1, 0, tzinfo=UTC)
    assert not is_quiet(short, first)
    assert quiet_until(short, second) == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)


@given(quiets, moments)
@example(QuietHours("03:00", "02:30", "Europe/Berlin"), datetime(2026, 3, 29, 0, 59, 59, tzinfo=UTC))
@example(QuietHours("00:00", "23:59", "Pacific/Apia"), datetime(2011, 12, 30, 9, 0, tzinfo=UTC))
def test_held_until_the_first_minute_that_is_not_quiet(quiet: QuietHours, now: datetime) -> None:
    zone = ZoneInfo(quiet.zone)

    def by_minutes(moment: datetime) -> bool:
        # Counted along the dial from the start, not compared.
        wall = moment.astimezone(zone)
        minute = wall.hour * 60 + wall.minute
        start, end = (int(each[:2]) * 60 + int(each[3:]) for each in (quiet.start, quiet.end))
        return (minute - start) % 1440 < (end - start) % 1440

    assert is_quiet(quiet, now) is by_minutes(now)
    until = quiet_until(quiet, now)
    if until is None:
        assert not by_minutes(now)
        return
    assert now < until <= now + timedelta(hours=27)
    assert not by_minutes(until)
    assert by_minutes(until - timedelta(microseconds=1))
    # Any moment between is quiet.
    for share in np.linspace(0, 1, 20, endpoint=False):
        assert by_minutes(now + share * (until - now))


@given(st.integers(0, 2**32), st.one_of(st.none(), st.floats(0, 1e9)))
def test_waits_double_up_to_an_hour_with_chance_and_end(seed: int, asked: float | None) -> None:
    random = np.random.default_rng(seed)
    for attempt in range(1, MOST_ATTEMPTS):
        again = retry_at(attempt, NOON, random, asked_seconds=asked)
        assert again is not None
        base = min(30 * 2 ** (attempt - 1), 3600)
        wait = (again - NOON).total_seconds()
        assert max(base * 0.5, min(asked or 0, 3600)) <= wait + 1e-6
        assert wait <= max(base * 1.5, min(asked or 0, 3600)) + 1e-6
    assert retry_at(MOST_ATTEMPTS, NOON, random, asked_seconds=asked) is None


def test_waits_of_two_messages_differ() -> None:
    random = np.random.default_rng(1)
    assert len({retry_at(3, NOON, random) for _ in range(20)}) == 20
