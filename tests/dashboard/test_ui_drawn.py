"""Figures that were drawn before are given again, and only to those for whom they would look the same."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import plotly.graph_objects as go
import polars as pl
import pytest

from dashboard import charts
from dashboard.ui import drawn, theme
from dashboard.ui import format as fmt

THEMES = [one for one in vars(theme).values() if isinstance(one, theme.Theme)]


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    monkeypatch.setattr(fmt, "zone", lambda: None)


def frame(last: int = 3) -> pl.DataFrame:
    """Traces of two days and one agent."""
    begin = datetime(2026, 11, 1, tzinfo=UTC)
    rows = [{"bucket": begin + timedelta(days=day), "agent": "shop", "traces": n, "errors": 1}
            for day, n in enumerate((5, last))]  # fmt: skip
    return pl.DataFrame(rows)


def test_the_same_is_drawn_once_and_looks_as_drawn_anew(monkeypatch):
    first = drawn.figure(charts.traces_over_time, frame(), "hour", THEMES[0])
    assert drawn.figure(charts.traces_over_time, frame(), "hour", THEMES[0]) is first
    assert first.to_json() == charts.traces_over_time(frame(), "hour", THEMES[0]).to_json()


def test_whatever_would_look_otherwise_is_drawn(monkeypatch):
    first = drawn.figure(charts.traces_over_time, frame(), "hour", THEMES[0])
    others = [
        drawn.figure(charts.traces_over_time, frame(last=4), "hour", THEMES[0]),
        drawn.figure(charts.traces_over_time, frame(), "day", THEMES[0]),
        drawn.figure(charts.traces_over_time, frame(), "hour", THEMES[1]),
        drawn.figure(charts.traces_over_time, frame(), "hour", THEMES[0], height=200),
    ]
    monkeypatch.setattr(fmt, "zone", lambda: ZoneInfo("Asia/Tokyo"))
    others.append(drawn.figure(charts.traces_over_time, frame(), "hour", THEMES[0]))
    told = [one.to_json() for one in (first, *others)]
    assert len(set(told)) == len(told)


def test_a_figure_that_cannot_be_drawn_is_tried_again():
    tries = []

    def draw(frame: pl.DataFrame) -> go.Figure:
        tries.append(frame.height)
        if len(tries) == 1:
            raise ValueError("no")
        return go.Figure()

    with pytest.raises(ValueError, match="no"):
        drawn.figure(draw, frame())
    assert isinstance(drawn.figure(draw, frame()), go.Figure)
