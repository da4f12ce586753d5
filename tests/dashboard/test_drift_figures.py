"""Figures and words of drift: empty cells are seen, nothing is markup, and changes are told in the metric's terms."""

import tomllib
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from math import exp, log
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loop_data import HOSTILE, NOW

from dashboard.drift import days, words
from dashboard.drift.course import Change, course
from dashboard.drift.days_figure import days_figure
from dashboard.drift.heat_figure import SCALES, heat_map, weeks_of
from dashboard.drift.incident_figure import moved_first
from dashboard.drift.marks import Mark
from dashboard.drift.model_figure import daily
from dashboard.ui.theme import DARK, LIGHT
from store.drift import BY_WEEK
from store.drift_series import DAILY
from store.incidents import MOVED
from store.model_figures import FIGURES

CONFIG = Path(__file__).resolve().parents[2] / ".streamlit" / "config.toml"
MONDAY = datetime(2026, 11, 2, tzinfo=UTC)


def by_week(*rows):
    """Cells (user, weeks after MONDAY, mean, n, z)."""
    listed = [
        {"user_id": user, "week": MONDAY + timedelta(weeks=week), "mean": mean, "n": n, "z": z}
        for user, week, mean, n, z in rows
    ]
    return pl.DataFrame(listed, schema=BY_WEEK)


def events(values):
    return pl.DataFrame(
        {"occurred_at": [NOW + timedelta(hours=place) for place in range(len(values))], "value": values},
        schema={"occurred_at": pl.Datetime("us", "UTC"), "value": pl.Float64},
    )


def test_the_scale_is_the_theme_s():
    theme = tomllib.loads(CONFIG.read_text())["theme"]
    for name in ("light", "dark"):
        assert list(SCALES[name]) == theme[name]["chartDivergingColors"]


def test_every_cell_is_coloured_or_says_why_not():
    frame = by_week(("a", 0, 0.5, 9, -9.0), ("a", 2, 0.5, 2, 1.0), ("b", 1, 0.7, 5, None), ("b", 2, 0.7, 5, 0.5))
    users, weeks = ["a", "b", "c"], weeks_of(frame, 12)
    assert weeks == [date(2026, 11, 2), date(2026, 11, 9), date(2026, 11, 16)]
    marks, colours = heat_map(frame, users, weeks, LIGHT, unit="").data
    assert [list(row) for row in colours.z] == [[-3.0, None, None], [None, None, 0.5], [None, None, None]]
    assert [list(row) for row in marks.text] == [["", "·", "○"], ["·", "○", ""], ["·", "·", "·"]]
    assert "n 2, too few" in marks.customdata[0][2]
    assert "no events" in marks.customdata[2][1]


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), min_size=1, max_size=30, unique=True),
    st.integers(1, 20),
)
def test_weeks_have_no_gaps_and_end_with_the_newest(cells, most):
    frame = by_week(*((f"u{user}", week, 0.5, 5, 0.0) for week, user in cells))
    weeks = weeks_of(frame, most)
    assert weeks[-1] == (MONDAY + timedelta(weeks=max(week for week, _ in cells))).date()
    assert all(after - before == timedelta(weeks=1) for before, after in pairwise(weeks))
    assert len(weeks) <= most
    figure = heat_map(frame, sorted({f"u{user}" for _, user in cells}), weeks, DARK, unit="")
    coloured = sum(value is not None for row in figure.data[1].z for value in row)
    assert coloured == sum((MONDAY + timedelta(weeks=week)).date() in weeks for week, _ in cells)


def test_a_course_shows_both_means_the_change_and_what_was_done_meanwhile():
    change = Change(NOW + timedelta(hours=5), NOW + timedelta(hours=3), NOW + timedelta(hours=7), 0.9, 0.2, True)
    marks = (Mark(NOW + timedelta(hours=4), HOSTILE), Mark(NOW - timedelta(days=90), "long before"))
    figure = course(events([1.0, 1, 1, 0, 1, 0, 0, 0, 1]), LIGHT, axis="x", change=change, marks=marks,
                    names=("yes", "no"))  # fmt: skip
    levels = [list(trace.y) for trace in figure.data if trace.line.width == 3]
    assert levels == [[0.9, 0.9], [0.2, 0.2]]
    (diamonds,) = [trace for trace in figure.data if trace.marker.symbol == "diamond"]
    assert len(diamonds.x) == 1
    assert "<img" not in figure.to_json()
    assert "change, 2026-11-20" in figure.to_json()


@pytest.mark.parametrize("values", [[], [0.5], [2.0] * 3, [1e-9, 1e9], [-1.0, 0.0]])
def test_a_course_stands_any_events(values):
    change = Change(NOW, None, None, None, None, False)
    figure = course(events(values), DARK, axis="x", change=change, marks=(Mark(NOW, "m"),), logarithmic=True)
    positive = bool(values) and min(values) > 0
    assert (figure.layout.yaxis.type == "log") is positive


def test_figures_of_incidents_and_models_escape_names():
    row = {"place": 1, "metric": HOSTILE, "direction": "up", "moved_at": NOW, "moved_from": NOW,
           "moved_to": NOW + timedelta(days=1), "users": 3, "before_mean": 0.5, "before_n": 9, "after_mean": 0.4,
           "after_n": 9, "effect": 0.1, "effect_sd": 0.1}  # fmt: skip
    moved = moved_first(pl.DataFrame([row], schema=MOVED), LIGHT, marks=((NOW, HOSTILE),))
    day = {"day": NOW.date(), "model": "m", "agent": None, "metric": "latency", "n": 1, "mean": 2.0, "sd": 0.0,
           "adjusted": None, "adjusted_sd": None}  # fmt: skip
    drawn = daily(pl.DataFrame([day], schema=FIGURES), LIGHT, axis="x", changes=(NOW,), anchors=((NOW, HOSTILE),))
    for figure in (moved, drawn):
        assert "<img" not in figure.to_json()
    assert drawn.data[0].marker.symbol == ("circle-open",)


def test_changes_are_told_in_the_metric_s_terms():
    assert words.effect(log(1.25), "log") == "+25 %"
    assert words.effect(-0.4, "bernoulli") == "-0.40"
    assert words.effect(0.012, "gaussian") == "+0.012"
    assert words.effect(-0.0004, "gaussian") == "-0.0004"
    assert words.effect(-0.002, "log") == "-0.2 %"
    assert words.effect_limits({"effect": 0.0, "effect_sd": 0.1, "likelihood": "bernoulli"}) == "-0.20 to +0.20"
    assert words.mean(0.0123, 20, "cost") == "$0.0123, n 20"
    assert words.mean(0.5, 9, "reward", words.counted({"level": "segment", "metric": "reward"})) == "0.50, n 9 days"
    assert words.mean(None, 4, "language") == "n 4"
    assert words.counted({"level": "population", "metric": "language"}) == " sessions"
    assert (words.few(0.05), words.few(3.4)) == ("0.05", "3")


def test_better_and_worse_go_by_the_metric():
    assert words.towards("stated satisfaction", -0.2) == "worse"
    assert words.towards("latency", -0.2) == "better"
    assert words.towards("task mix", 0.3) == "neither"
    assert words.towards("no such metric", 0.3) == "neither"


def test_a_finding_keeps_its_identity_and_shares_it_with_no_other():
    user = {"level": "user", "user_id": "a", "segment": "x", "agent": None, "metric": "reward"}
    assert words.identity(user) == words.identity({**user, "segment": "moved on"})
    segment = {"level": "segment", "user_id": None, "segment": "a", "agent": None, "metric": "reward"}
    others = [user, {**user, "user_id": "b"}, {**user, "metric": "cost"}, segment, {**segment, "agent": "a"},
              {**segment, "level": "population"}]  # fmt: skip
    assert len({words.identity(each) for each in others}) == len(others)


def test_days_have_limits_that_fit_their_scale():
    found = pl.DataFrame(
        [(date(2026, 11, day), mean, n, sd) for day, (mean, n, sd) in enumerate(
            [(0.5, 2, 0.1), (1.0, 9, 0.0), (0.4, 10, 0.516)], start=1)],
        schema=DAILY, orient="row",
    )  # fmt: skip
    shares = days.intervals(found, logarithmic=False, shares=True)
    assert shares["n"].to_list() == [9, 10]  # two sessions are no day that is tested
    # Wilson's by hand: at 9 of 9 the lower limit is 1 / (1 + z²/9).
    assert shares["lower"].to_list() == pytest.approx([9 / (9 + 1.959964**2), 0.16818], abs=1e-4)
    assert shares["upper"].to_list() == pytest.approx([1.0, 0.68733], abs=1e-4)
    numbers = days.intervals(found, logarithmic=False, shares=False)
    half = 2.262157 * 0.516 / 10**0.5
    assert numbers.row(1)[3:] == pytest.approx((0.4 - half, 0.4 + half), abs=1e-5)
    logs = days.intervals(found, logarithmic=True, shares=False)
    assert logs.row(1)[3:] == pytest.approx((0.4 * exp(-half), 0.4 * exp(half)), abs=1e-5)


def test_a_figure_of_days_shows_the_change_within_the_picture_and_both_means():
    frame = pl.DataFrame(
        {"day": [date(2026, 11, day) for day in range(1, 9)], "mean": [0.5] * 8, "n": [9] * 8, "lower": [0.4] * 8,
         "upper": [0.6] * 8}
    )  # fmt: skip
    at = datetime(2026, 11, 5, tzinfo=UTC)
    change = Change(at, at - timedelta(days=90), at + timedelta(days=1), 0.7, 0.3, True)
    marks = (Mark(at, HOSTILE), Mark(at - timedelta(days=90), "long before"))
    figure = days_figure(frame, LIGHT, axis="x", change=change, marks=marks)
    assert [list(trace.y) for trace in figure.data if trace.line.width == 3] == [[0.7, 0.7], [0.3, 0.3]]
    (diamonds,) = [trace for trace in figure.data if trace.marker.symbol == "diamond"]
    assert len(diamonds.x) == 1
    band = figure.layout.shapes[0]
    assert (band.x0, band.x1) == (datetime(2026, 11, 1), datetime(2026, 11, 6))  # noqa: DTZ001
    assert "<img" not in figure.to_json()
    assert "change, 2026-11-05" in figure.to_json()
    assert days_figure(frame.head(0), DARK, axis="x", change=change, marks=marks).data[0].y == ()
