"""Numbers as people read them."""

from datetime import UTC, datetime, timedelta
from math import sqrt

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.ui import format as fmt
from pipelines.stats.proportion import Interval

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"), (float("nan"), "–"), (0, "0 ms"), (0.0004, "0 ms"), (0.85, "850 ms"), (0.9999, "1.0 s"),
        (1.23, "1.2 s"), (59.94, "59.9 s"), (59.96, "1 min"), (200, "3 min 20 s"), (3600, "1 h"), (7500, "2 h 5 min"),
        (356_400, "4 d 3 h"), (-2, "-2.0 s"),
    ],
)  # fmt: skip
def test_durations(seconds, text):
    assert fmt.duration(seconds) == text


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        (None, "–"), (float("inf"), "–"), (0, "$0.00"), (0.00001, "<$0.0001"), (0.0012, "$0.0012"), (0.5, "$0.50"),
        (12.3, "$12.30"), (1204.4, "$1,204"), (-3, "-$3.00"),
    ],
)  # fmt: skip
def test_money(usd, text):
    assert fmt.money(usd) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(None, "–"), (0, "0 %"), (0.0042, "0.42 %"), (0.051, "5.1 %"), (0.42, "42.0 %"), (0.9996, "100 %"), (1, "100 %")],
)
def test_percentages(share, text):
    assert fmt.percent(share) == text


@pytest.mark.parametrize(
    ("past", "text"),
    [
        (timedelta(seconds=20), "just now"), (timedelta(minutes=3), "3 min ago"), (timedelta(hours=30), "30 h ago"),
        (timedelta(days=214), "214 days ago"), (timedelta(hours=-2), "in 2 h"),
    ],
)  # fmt: skip
def test_relative_times(past, text):
    assert fmt.relative(NOW - past, NOW) == text
    assert fmt.relative(None, NOW) == "–"


@pytest.mark.parametrize(
    ("since", "until", "text"),
    [
        (None, None, "all time"),
        (NOW, None, "since 20 Nov 2026"),
        (None, NOW, "until 20 Nov 2026"),
        (NOW - timedelta(days=29), NOW, "22 Oct to 20 Nov 2026"),
        (NOW - timedelta(days=365), NOW, "20 Nov 2025 to 20 Nov 2026"),
        (NOW - timedelta(days=1), NOW, "19 Nov 12:00 to 20 Nov 2026 12:00 UTC"),
    ],
)
def test_ranges(since, until, text):
    assert fmt.date_range(since, until) == text


def test_counts_nouns_and_what_is_missing():
    assert fmt.count(None) == "–"
    assert fmt.count(12304) == "12,304"
    assert fmt.plural(1, "trace") == "1 trace"
    assert fmt.plural(2000, "batch", "batches") == "2,000 batches"
    assert fmt.missing(3, 20, "trace") == "not enough data: 3 of 20 traces"


def test_changes_carry_their_sign():
    assert fmt.change(112, 100) == "+12 %"
    assert fmt.change(99.5, 100) == "-0.5 %"
    assert fmt.change(100, 100) == "+0 %"
    assert fmt.change(5, 0) is None
    assert fmt.points(-0.004) == "-0.4 points"


def test_intervals_and_rewards():
    assert fmt.interval_percent(Interval(0.05, 0.041, 0.0619)) == "4.1 to 6.2 %"
    assert fmt.reward(0.4234, 0.11, 3) == "0.42 ± 0.11 (n 3)"
    assert fmt.reward(None, None, None) == "–"


@given(st.text(max_size=80), st.integers(6, 40))
def test_a_shortened_id_keeps_its_ends(identity, keep):
    short = fmt.short_id(identity, keep=keep)
    assert len(short) <= keep
    if len(identity) <= keep:
        assert short == identity
    else:
        head, tail = short.split("…", 1) if "…" not in identity else (short[:2], short[-2:])
        assert identity.startswith(head)
        assert identity.endswith(tail)


def test_the_interval_of_a_mean_adds_both_variances():
    interval = fmt.mean_interval(100, 0.5, 0.04, 0.05)
    assert interval.upper - interval.estimate == pytest.approx(1.96 * sqrt(0.09 / 100), rel=1e-4)
    frame = pl.DataFrame({"n": [100, 1], "m": [0.5, 0.2], "v": [0.04, None], "s": [0.05, 0.01], "c": [None, 0.2]})
    limits = fmt.mean_limits(frame, n="n", mean="m", variance="v", sd2="s", shared_sd="c")
    assert limits["lower"][0] == pytest.approx(interval.lower)
    # What traces have in common does not shrink with their number.
    assert limits["upper"][1] == pytest.approx(0.2 + 1.96 * sqrt(0.01 + 0.04), rel=1e-4)
    shared = fmt.mean_interval(1_000_000, 0.5, 0.04, 0.05, 0.1)
    assert shared.upper - shared.estimate == pytest.approx(1.96 * 0.1, rel=1e-3)
