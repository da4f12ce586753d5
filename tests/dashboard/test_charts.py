"""Figures hold what their frames say, escaped, and no more than they should."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from dashboard import charts
from dashboard.trace.bars import bars
from dashboard.ui.theme import DARK, LIGHT
from store.overview import PER_BUCKET
from store.spans import SPAN_ROWS

START = datetime(2026, 11, 2, tzinfo=UTC)


def _per_bucket(agents, days=3):
    rows = [
        (START + timedelta(days=day), agent, 10 + place, place)
        for day in range(days)
        for place, agent in enumerate(agents)
    ]
    return pl.DataFrame(rows, schema=PER_BUCKET, orient="row")


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
def test_every_trace_is_in_a_bar(theme):
    figure = charts.traces_over_time(_per_bucket([f"a{i}" for i in range(9)] + [None]), "day", theme)
    stacked, failed = figure.data[:-1], figure.data[-1]
    assert sum(sum(trace.y) for trace in stacked) == 3 * sum(10 + i for i in range(10))
    assert [trace.name for trace in stacked][-1] == "other agents"
    assert len(stacked) == 5
    assert sum(failed.y) == 3 * sum(range(10))
    assert failed.marker.color == theme.error


def test_bars_stand_in_the_middle_of_what_they_count():
    figure = charts.traces_over_time(_per_bucket(["a"]), "day", LIGHT)
    assert figure.data[0].x[0].isoformat() == "2026-11-02T12:00:00"
    hourly = charts.traces_over_time(_per_bucket(["a"]), "hour", LIGHT)
    assert hourly.data[0].x[0].isoformat() == "2026-11-02T00:30:00"


def test_names_from_data_hold_no_markup():
    figure = charts.traces_over_time(_per_bucket(["<a href='x'>y</a>", None]), "day", LIGHT)
    assert "<a" not in figure.to_json()
    assert {trace.name for trace in figure.data} >= {"no agent stated", "failed"}


def test_a_day_without_rewards_breaks_the_line_and_the_band():
    frame = pl.DataFrame(
        {
            "bucket": [START, START + timedelta(days=1), START + timedelta(days=4)],
            "rewarded": [5, 6, 7],
            "reward": [0.5, 0.6, 0.7],
            "lower": [0.4, 0.5, 0.6],
            "upper": [0.6, 0.7, 0.8],
        }
    )
    figure = charts.reward_over_time(frame, "day", LIGHT)
    *bands, line = figure.data
    assert len(bands) == 2
    assert list(line.y) == [0.5, 0.6, None, None, 0.7]
    assert line.customdata[0] == "0.500 (0.400 to 0.600), n 5"
    assert charts.reward_over_time(frame.head(1), "day", LIGHT).data[-1].y[0] == 0.5


def test_a_week_without_rewards_breaks_the_line_too():
    frame = pl.DataFrame(
        {"bucket": [START, START + timedelta(weeks=2)], "rewarded": [5, 6], "reward": [0.5, 0.6], "lower": [0.4, 0.5],
         "upper": [0.6, 0.7]}
    )  # fmt: skip
    assert list(charts.reward_over_time(frame, "week", LIGHT).data[-1].y) == [0.5, None, 0.6]


def test_a_waterfall_draws_each_span_in_its_kind_and_marks_failures():
    spans = pl.DataFrame(
        [
            {"step": 1, "span_id": "a", "kind": "agent", "name": "root", "status": "ok", "started_at": START,
             "ended_at": START + timedelta(seconds=8)},
            {"step": 2, "span_id": "b", "parent_span_id": "a", "kind": "tool", "name": "<i>x</i>", "status": "error",
             "started_at": START + timedelta(seconds=2), "ended_at": START + timedelta(seconds=4)},
            {"step": 3, "span_id": "c", "parent_span_id": "a", "kind": "strange", "name": None, "status": None,
             "started_at": START + timedelta(seconds=5), "ended_at": START + timedelta(seconds=5)},
        ],
        schema=SPAN_ROWS,
    )  # fmt: skip
    figure = charts.waterfall(bars(spans).rows, DARK, timed=True, selected="b")
    by_kind = {trace.name: trace for trace in figure.data}
    assert set(by_kind) == {"agent", "tool", "strange"}
    assert (by_kind["tool"].base[0], by_kind["tool"].x[0], by_kind["tool"].y[0]) == (2.0, 2.0, 1)
    assert by_kind["tool"].marker.line.width == (2,)
    assert by_kind["agent"].marker.line.width == (0,)
    assert by_kind["strange"].x[0] > 0, "an instant can still be seen and clicked"
    assert by_kind["tool"].customdata[0][0] == "b"
    labels = [label.replace("\u00a0", " ") for label in figure.layout.yaxis.ticktext]
    assert labels == ["root        ", "<b>  ✕ &lt;i&gt;x&lt;/i&gt;</b>", "  strange   "]
