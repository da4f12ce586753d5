"""Spans of one trace: their order, their texts, and one of them with everything."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from store import spans
from store.errors import NotFound

START = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def filled(store, publish):
    """Nine spans in shuffled arrival: timed ones, a tie broken by ordinal, and ones without times."""
    rows = [
        {"trace_id": "t", "span_id": f"{i}", "parent_span_id": "0" if i else None, "kind": "tool" if i % 2 else "llm",
         "name": f"n{i}", "ordinal": i, "started_at": START + timedelta(seconds=i // 2) if i < 6 else None,
         "ended_at": START + timedelta(seconds=i) if i < 6 else None, "input": f"in {i}", "output": "x" * i,
         "attributes": {"i": i}, "links": [{"trace_id": "o", "span_id": "p"}], "status_message": "m" * 400}
        for i in range(9)
    ]  # fmt: skip
    random.Random(5).shuffle(rows)
    publish(spans=[*rows, {"trace_id": "other", "span_id": "1", "kind": "llm"}])
    return store


def test_spans_come_in_step_order_timed_ones_first(filled):
    page = spans.of_trace(filled, "t")
    assert page.total == 9
    assert page.rows["span_id"].to_list() == [str(i) for i in range(9)]
    assert page.rows["step"].to_list() == list(range(1, 10))
    assert page.rows["status_message"].str.len_chars().to_list() == [300] * 9


def test_a_long_trace_is_cut_and_says_how_long_it_is(filled):
    page = spans.of_trace(filled, "t", limit=4)
    assert page.rows["span_id"].to_list() == ["0", "1", "2", "3"]
    assert page.total == 9


def test_texts_are_those_of_the_steps_asked_for(filled):
    frame = spans.texts(filled, "t", first_step=3, last_step=4, max_characters=2)
    assert frame.select("step", "span_id", "input", "output", "input_characters", "output_characters").rows() == [
        (3, "2", "in", "xx", 4, 2),
        (4, "3", "in", "xx", 4, 3),
    ]


def test_one_span_has_its_step_and_everything_else(filled):
    row = spans.one(filled, "t", "7").to_dicts()[0]
    assert (row["step"], row["input"], row["attributes"], row["parent_span_id"]) == (8, "in 7", '{"i": 7}', "0")
    assert row["links"] == '[{"trace_id": "o", "span_id": "p"}]'


@pytest.mark.parametrize(("trace_id", "span_id"), [("t", "99"), ("nobody", "1")])
def test_a_span_that_is_not_there_is_named(filled, trace_id, span_id):
    with pytest.raises(NotFound, match="span"):
        spans.one(filled, trace_id, span_id)


def test_a_trace_without_spans_has_none(filled):
    page = spans.of_trace(filled, "nobody")
    assert (page.rows.height, page.total) == (0, 0)
    assert spans.texts(filled, "nobody").is_empty()


def test_ten_thousand_spans_are_listed(store, publish):
    publish(spans=[{"trace_id": "t", "span_id": f"{i:05d}", "kind": "tool", "ordinal": i} for i in range(10_050)])
    page = spans.of_trace(store, "t")
    assert (page.rows.height, page.total) == (10_000, 10_050)
    assert page.rows["step"].to_list() == list(range(1, 10_001))
