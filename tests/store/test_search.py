"""Text search: what it finds, what it does not mistake for a pattern, and what it says when it stops early."""

import itertools

import pytest

from store import search
from store.scope import Scope, TraceFilter


@pytest.fixture
def filled(store, publish):
    """Texts in every place that is searched."""
    publish(
        traces=[
            {"trace_id": "in", "agent": "desk", "input": "A Zebra crossing"},
            {"trace_id": "out", "agent": "shop", "output": "no zebra here"},
            {"trace_id": "none", "agent": "desk", "input": "a horse", "metadata": {"zebra": 1}},
        ]
    )
    publish(
        spans=[
            {"trace_id": "span in", "span_id": "1", "kind": "llm", "agent": "desk", "input": "ZEBRA"},
            {"trace_id": "span out", "span_id": "1", "kind": "tool", "output": "x" * 9000 + "zebra"},
            {"trace_id": "span error", "span_id": "1", "kind": "tool", "status_message": "zebra refused"},
            {"trace_id": "percent", "span_id": "1", "kind": "tool", "input": "100% _sure_ O'Neil \\ *"},
            {"trace_id": "umlaut", "span_id": "1", "kind": "tool", "input": "GRÜẞE aus ÖSTERREICH"},
        ]
    )
    return store


EVERYTHING = TraceFilter()


def _ids(store, text, wanted=EVERYTHING, **how):
    return set(search.find(store, text, wanted, **how).trace_ids)


def test_every_text_is_searched_whatever_the_case(filled):
    assert _ids(filled, "zEbRa") == {"in", "out", "span in", "span out", "span error"}
    assert _ids(filled, "österreich") == {"umlaut"}


@pytest.mark.parametrize("text", ["%", "_sure_", "100%", "O'Neil", "\\", "*"])
def test_no_character_is_a_pattern(filled, text):
    assert _ids(filled, text) == {"percent"}


def test_a_filter_narrows_the_search(filled):
    assert _ids(filled, "zebra", TraceFilter(Scope(agents=("desk",)))) == {"in", "span in"}
    assert _ids(filled, "zebra", TraceFilter(reward_below=0.5)) == set()


def test_a_finished_search_says_that_it_saw_everything(filled):
    found = search.find(filled, "zebra", TraceFilter())
    assert (found.rows, found.rows_total, found.cut) == (8, 8, None)


@pytest.mark.parametrize("block_rows", [1, 2, 3, 100])
def test_blocks_cover_every_row_once(filled, block_rows):
    found = search.find(filled, "zebra", TraceFilter(), block_rows=block_rows)
    assert set(found.trace_ids) == {"in", "out", "span in", "span out", "span error"}
    assert found.rows == 8


def test_a_search_out_of_time_says_how_far_it_came(filled):
    ticks = itertools.count()
    found = search.find(filled, "zebra", TraceFilter(), budget=2.5, block_rows=1, monotonic=lambda: float(next(ticks)))
    assert found.cut == "time"
    assert (found.rows, found.rows_total) == (2, 8)


def test_a_search_with_too_many_matches_says_so(filled):
    found = search.find(filled, "e", TraceFilter(), most=2, block_rows=1)
    assert found.cut == "matches"
    assert len(found.trace_ids) == 2


def test_the_newest_rows_come_first(filled):
    found = search.find(filled, "zebra", TraceFilter(), most=1, block_rows=1)
    assert found.trace_ids == ("out",)


def test_an_empty_store_is_searched_at_once(store):
    assert search.find(store, "x", TraceFilter()).rows_total == 0
