"""Times as exporters write them."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.ingest.times import EARLIEST, LATEST, parse_time

AUGUST = datetime(2026, 8, 1, 10, 0, tzinfo=UTC)
SECONDS = 1_785_578_400


@pytest.mark.parametrize(
    "value",
    [
        "2026-08-01T10:00:00Z",
        "2026-08-01T10:00:00.000Z",
        '"2026-08-01T10:00:00.000Z"',
        "2026-08-01 10:00:00.000",
        "2026-08-01 10:00:00",
        "2026-08-01 10:00:00 UTC",
        "2026-08-01T10:00",
        "2026-08-01t10:00:00z",
        "2026-08-01T12:00:00+02:00",
        "2026-08-01 12:00:00 +0200",
        "20260801T100000Z",
        " 2026-08-01T10:00:00Z\n",
        SECONDS,
        SECONDS * 1000,
        SECONDS * 10**6,
        SECONDS * 10**9,
        str(SECONDS),
        f"{SECONDS}000",
        f"{SECONDS}000000000",
        float(SECONDS),
        Decimal(SECONDS),
        "1.7855784e9",
        datetime(2026, 8, 1, 10, 0),  # noqa: DTZ001 naive on purpose
        datetime(2026, 8, 1, 5, 0, tzinfo=timezone(timedelta(hours=-5))),
    ],
)
def test_ways_of_writing_one_time(value: object) -> None:
    parsed = parse_time(value)
    assert parsed == AUGUST
    assert parsed.tzinfo is UTC


def test_expected_epoch_agrees_with_the_calendar() -> None:
    assert timedelta(seconds=SECONDS) + datetime(1970, 1, 1, tzinfo=UTC) == AUGUST


def test_fractions_are_cut_at_microseconds() -> None:
    assert parse_time("2026-08-01 10:00:00.123456789") == AUGUST.replace(microsecond=123456)
    assert parse_time(SECONDS * 10**9 + 123_456_789) == AUGUST.replace(microsecond=123456)
    assert parse_time(SECONDS + 0.5) == AUGUST.replace(microsecond=500_000)


def test_a_date_is_its_midnight() -> None:
    assert parse_time("2026-08-01") == datetime(2026, 8, 1, tzinfo=UTC)
    assert parse_time("20260801") == datetime(2026, 8, 1, tzinfo=UTC)


@pytest.mark.parametrize("value", [None, "", "  ", '""'])
def test_nothing_is_no_time(value: object) -> None:
    assert parse_time(value) is None


@pytest.mark.parametrize(
    "value",
    [
        "yesterday", "2026-13-01", "2026-02-30", "1970-01-01T00:00:00Z", "2170-01-01", "0001-01-01T00:00:00+23:00",
        "9999-12-31T23:59:59-10:00", 0, -1, 1, 10**30, float("nan"), float("inf"), 1e308, True, [], {}, b"x",
        "9" * 5000, -(10**400), "1e999", "2026-08-01x10:00", "10:00", "20269999", Decimal("NaN"),
        datetime(1970, 1, 1, tzinfo=UTC), datetime(2170, 1, 1, tzinfo=UTC),
    ],
)  # fmt: skip
def test_what_is_no_time_says_what_was_expected(value: object) -> None:
    with pytest.raises(ValueError, match="expected an ISO 8601 time"):
        parse_time(value)


def test_a_number_too_long_to_print_is_no_time() -> None:
    with pytest.raises(ValueError, match="expected an ISO 8601 time"):
        parse_time(10**5000)


@given(st.datetimes(EARLIEST.replace(tzinfo=None), LATEST.replace(tzinfo=None)), st.sampled_from([1, 10**3, 10**6]))
@settings(deadline=None)
def test_counts_of_every_unit_return_the_same_time(moment: datetime, ticks: int) -> None:
    aware = moment.replace(tzinfo=UTC, microsecond=0)
    seconds = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    assert parse_time(seconds * ticks) == parse_time(str(seconds * ticks)) == aware
    assert parse_time(seconds * 10**9) == aware


@given(st.datetimes(EARLIEST.replace(tzinfo=None), LATEST.replace(tzinfo=None)))
@settings(deadline=None)
def test_iso_texts_return_the_same_time(moment: datetime) -> None:
    aware = moment.replace(tzinfo=UTC)
    assert parse_time(aware.isoformat()) == parse_time(moment.isoformat(sep=" ")) == aware


@given(st.text() | st.integers() | st.floats() | st.text(alphabet='0123456789-:TZ+. "'))
@settings(deadline=None)
def test_any_value_gives_a_time_in_range_or_an_error(value: object) -> None:
    try:
        parsed = parse_time(value)
    except ValueError:
        return
    assert parsed is None or EARLIEST <= parsed <= LATEST
