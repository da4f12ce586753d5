"""The bars of a waterfall: each span once, parents before children, offsets from the first start."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.trace.bars import BAR_ROWS, bars
from store.spans import SPAN_ROWS

START = datetime(2026, 11, 1, tzinfo=UTC)


def _spans(*rows):
    """Rows of (id, parent, start, end, status) as the store gives them."""
    full = [
        {
            "step": step, "span_id": span_id, "parent_span_id": parent, "kind": "tool", "name": f"<b>{span_id}</b>",
            "started_at": None if start is None else START + timedelta(seconds=start),
            "ended_at": None if end is None else START + timedelta(seconds=end), "status": status,
        }
        for step, (span_id, parent, start, end, status) in enumerate(rows, 1)
    ]  # fmt: skip
    return pl.DataFrame(full, schema=SPAN_ROWS)


def test_bars_start_where_their_spans_do_and_are_as_long():
    drawn = bars(
        _spans(("a", None, 0, 10, "ok"), ("b", "a", 2, 5, "error"), ("c", "b", 3, 4, "ok"), ("d", "a", 6, 7, None))
    )
    assert drawn.timed
    assert drawn.untimed == 0
    assert drawn.rows.select("span_id", "depth", "start", "length").rows() == [
        ("a", 0, 0.0, 10.0), ("b", 1, 2.0, 3.0), ("c", 2, 3.0, 1.0), ("d", 1, 6.0, 1.0),
    ]  # fmt: skip


def test_without_times_a_bar_is_its_step():
    drawn = bars(_spans(("a", None, None, None, "ok"), ("b", "a", None, None, "ok")))
    assert not drawn.timed
    assert drawn.rows.select("start", "length").rows() == [(0.0, 1.0), (1.0, 1.0)]


def test_a_span_without_a_time_stands_where_its_parent_begins():
    drawn = bars(_spans(("a", None, 0, 10, "ok"), ("b", "a", 4, 6, "ok"), ("c", "b", None, None, "ok")))
    assert drawn.untimed == 1
    assert drawn.rows.select("start", "length").rows()[2] == (4.0, 0.0)


def test_what_data_says_is_escaped_in_hovers():
    hover = bars(_spans(("a", None, 0, 1, "error"))).rows["hover"][0]
    assert "&lt;b&gt;a&lt;/b&gt;" in hover
    assert "failed: no message" in hover


MANY = _spans(
    *((f"{i}", None if i == 0 else "0", i, i + (i * 7) % 11, "error" if i % 5 == 0 else "ok") for i in range(50))
)


@pytest.mark.parametrize(
    ("pick", "expected"),
    [
        ("in order", [str(i) for i in range(10)]),
        ("failed", [str(i) for i in range(0, 50, 5)]),
        ("slowest", ["0", "3", "14", "25", "36", "47", "6", "17", "28", "39"]),
    ],
)
def test_of_too_many_spans_some_are_picked(pick, expected):
    drawn = bars(MANY, pick=pick, most=10)
    if pick == "slowest":
        lengths = sorted(drawn.rows["length"].to_list(), reverse=True)
        assert lengths == sorted(((i * 7) % 11 for i in range(50)), reverse=True)[:10]
    else:
        assert drawn.rows["span_id"].to_list() == expected


def test_no_spans_have_no_bars():
    assert bars(_spans()).rows.schema == BAR_ROWS


@given(st.lists(st.integers(-1, 12), max_size=12))
def test_any_parents_even_circles_leave_every_span_drawn_once(parents):
    drawn = bars(_spans(*((f"{i}", f"{parent}", i, i + 1, "ok") for i, parent in enumerate(parents)))).rows
    assert sorted(drawn["span_id"].to_list()) == sorted(f"{i}" for i in range(len(parents)))
    places = {span_id: place for place, span_id in enumerate(drawn["span_id"].to_list())}
    depths = dict(drawn.select("span_id", "depth").rows())
    for i, parent in enumerate(parents):
        if depths[f"{i}"] > 0:
            assert places[f"{parent}"] < places[f"{i}"]
            assert depths[f"{i}"] == depths[f"{parent}"] + 1
