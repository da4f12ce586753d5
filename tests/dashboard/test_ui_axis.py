"""Axes of time: moments follow the operator's clock, days and weeks stay those of UTC, and every axis says which."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import plotly.graph_objects as go
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loop_data import NOW
from page_driver import APP, open_page, store_for_pages
from publishing import publisher

from dashboard import charts
from dashboard.access.actor import LOCAL
from dashboard.drift import course, days_figure, heat_figure, incident_figure, model_figure
from dashboard.drift.marks import Mark
from dashboard.explore import ledger
from dashboard.ui import axis
from dashboard.ui import format as fmt
from dashboard.ui.theme import DARK, LIGHT
from dashboard.users import choices
from store import decisions, incidents, model_figures, user_history, visits

BERLIN = ZoneInfo("Europe/Berlin")  # an hour ahead in November
AT = datetime(2026, 11, 2, 23, 30, tzinfo=UTC)


@pytest.fixture
def of_berlin(monkeypatch):
    monkeypatch.setattr(fmt, "zone", lambda: BERLIN)


def _title(figure):
    return list(figure.select_xaxes())[-1].title.text


def _hours():
    return pl.DataFrame(
        {"bucket": [AT.replace(minute=0)], "rewarded": [5], "reward": [0.5], "lower": [0.4], "upper": [0.6]}
    )


def _course():
    events = pl.DataFrame({"occurred_at": [AT, AT + timedelta(hours=2)], "value": [1.0, 2.0]})
    change = course.Change(AT + timedelta(hours=1), AT, AT + timedelta(hours=2), 1.0, 2.0, flagged=True)
    return course.course(events, LIGHT, axis="value", change=change, marks=(Mark(AT, "x"),))


def _days():
    days = pl.DataFrame(
        {"day": [date(2026, 11, 1), date(2026, 11, 3)], "mean": [1.0, 2.0], "lower": [0.5, 1.0], "upper": [1.5, 3.0],
         "n": [3, 4]}
    )  # fmt: skip
    change = course.Change(AT, None, None, 1.0, 2.0, flagged=True)
    return days_figure.days_figure(days, LIGHT, axis="value", change=change, marks=(Mark(AT, "x"),))


def test_moments_stand_where_the_operators_clock_shows_them(of_berlin):
    figure = _course()
    assert figure.data[0].x[0] == datetime(2026, 11, 3, 0, 30)  # noqa: DTZ001
    assert _title(figure) == "time in Berlin"
    assert "Berlin" in figure.data[0].hovertemplate
    assert "UTC" not in figure.data[0].hovertemplate
    (diamond,) = [trace for trace in figure.data if trace.marker.symbol == "diamond"]
    assert diamond.x[0] == datetime(2026, 11, 3, 0, 30)  # noqa: DTZ001
    dashed = next(shape for shape in figure.layout.shapes if shape.line.dash == "dash")
    assert dashed.x0 == datetime(2026, 11, 3, 1, 30)  # noqa: DTZ001
    assert charts.reward_over_time(_hours(), "hour", LIGHT).data[-1].x[0].hour == 0


def test_without_a_choice_moments_are_of_utc():
    figure = _course()
    assert figure.data[0].x[0] == AT.replace(tzinfo=None)
    assert _title(figure) == "time in UTC"
    assert "UTC" in figure.data[0].hovertemplate


def test_what_is_counted_by_days_of_utc_stays_there_and_says_so(of_berlin):
    figure = _days()
    assert figure.data[0].x[0] == datetime(2026, 11, 1, 12)  # noqa: DTZ001
    assert _title(figure) == "days in UTC"
    dashed = next(shape for shape in figure.layout.shapes if shape.line.dash == "dash")
    assert dashed.x0 == AT.replace(tzinfo=None), "a change among days of UTC stands at its time in UTC"
    (diamond,) = [trace for trace in figure.data if trace.marker.symbol == "diamond"]
    assert diamond.x[0] == AT.replace(tzinfo=None)


def test_every_axis_of_time_says_whose_it_is(of_berlin):
    hours, weeks = _hours(), _hours().with_columns(bucket=pl.lit(AT.replace(hour=0, minute=0)))
    per_bucket = pl.DataFrame({"bucket": [AT.replace(minute=0)], "agent": ["a"], "traces": [3], "errors": [1]})
    moved = pl.DataFrame(
        {"metric": ["reward"], "moved_from": [AT], "moved_at": [AT], "moved_to": [AT], "direction": ["up"],
         "users": [3]}, schema_overrides={"users": pl.Int64},
    )  # fmt: skip
    chosen = pl.DataFrame(
        {name: [value] for name, value in
         {"bucket": AT, "feature": "f", "lists": 9, "preferred": 0.1, "variance": 0.1}.items()},
    )  # fmt: skip
    assert set(moved.columns) <= set(incidents.MOVED)
    kept = pl.DataFrame({"day": [date(2026, 11, 2)], "worst_regret": [0.2], "expected_regret": [0.1]})
    assert set(kept.columns) <= set(decisions.LEDGER)
    figures = pl.DataFrame({"day": [date(2026, 11, 2)], "mean": [0.2], "sd": [0.1], "n": [3]})
    assert set(figures.columns) <= set(model_figures.FIGURES)
    week = pl.DataFrame({"user_id": ["u"], "week": [date(2026, 11, 2)], "mean": [1.0], "n": [30], "z": [0.5]})
    names = {
        "hours": _title(charts.reward_over_time(hours, "hour", LIGHT)),
        "traces by hour": _title(charts.traces_over_time(per_bucket, "hour", DARK)),
        "traces by day": _title(charts.traces_over_time(per_bucket, "day", DARK)),
        "weeks": _title(charts.reward_over_time(weeks, "week", LIGHT)),
        "incident": _title(incident_figure.moved_first(moved, LIGHT)),
        "choices": _title(choices.figure(chosen.cast(dict(user_history.CHOICES)).select(*user_history.CHOICES), LIGHT,
                                         bucket="month")),
        "ledger": _title(ledger.figure(kept, None, LIGHT)),
        "model": _title(model_figure.daily(figures, LIGHT, axis="value")),
        "heat": _title(heat_figure.heat_map(week, ["u"], [date(2026, 11, 2)], LIGHT, unit="points")),
    }  # fmt: skip
    assert names == {
        "hours": "hours in Berlin", "traces by hour": "hours in Berlin", "traces by day": "days in UTC",
        "weeks": "weeks in UTC", "incident": "time in Berlin", "choices": "months in UTC", "ledger": "days in UTC",
        "model": "days in UTC", "heat": "weeks in UTC",
    }  # fmt: skip


def test_the_choice_of_the_sidebar_holds_for_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(fmt, "browser_zone", lambda: BERLIN)
    with store_for_pages(tmp_path / "trimtab.duckdb") as store:
        publisher(store, tmp_path)(
            traces=[{"trace_id": "t", "agent": "desk", "started_at": NOW - timedelta(hours=1), "status": "ok"}]
        )
        axes = {}
        for chosen in ("utc", "browser"):
            visits.set_zone(store, LOCAL, chosen)
            axes[chosen] = open_page("overview", range="24 hours").get("plotly_chart")[0].proto.spec
    assert '"hours in UTC"' in axes["utc"]
    assert '"hours in Berlin"' in axes["browser"]


@given(st.datetimes(datetime(2000, 1, 1), datetime(2040, 1, 1), timezones=st.timezones()))  # noqa: DTZ001
def test_one_moment_has_one_place_whatever_zone_it_was_written_in(at):
    assert axis.in_utc(at) == axis.moment(at) == at.astimezone(UTC).replace(tzinfo=None)
    assert axis.moments([at]) == [axis.moment(at)]


def test_every_figure_lets_the_page_shine_through_its_bar():
    sources = {path: path.read_text(encoding="utf-8") for path in APP.parent.rglob("*.py")}
    drawing = [path for path, source in sources.items() if "go.Figure()" in source or "make_subplots(" in source]
    assert len(drawing) > 10
    assert [path.name for path in drawing if "**theme.layout" not in sources[path] and "**colours.layout"
            not in sources[path]] == []  # fmt: skip
    for theme in (LIGHT, DARK):
        figure = go.Figure().update_layout(**theme.layout)
        assert figure.layout.modebar.bgcolor == "rgba(0,0,0,0)"
        assert figure.layout.modebar.color == theme.muted
