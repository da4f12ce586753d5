"""The material of the trace-level reward model: steps as tokens, metadata as columns, nothing from after the end."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from store import reward_features
from store.reward_features import Selection

START = datetime(2026, 11, 1, tzinfo=UTC)


_SEARCH = '{"query": "tea", "max_price": 4.5, "date": "2026-11-03"}'


def _span(trace, number, kind, name, **more):
    begin = START + timedelta(seconds=number)
    own = {"trace_id": trace, "span_id": str(number), "kind": kind, "name": name, "ordinal": number}
    return {**own, "started_at": begin, "ended_at": begin + timedelta(seconds=1), **more}


@pytest.fixture
def held(publish, store):
    traces = [
        {"trace_id": "t0", "agent": "shop", "started_at": START, "ended_at": START + timedelta(seconds=9),
         "metadata": {"segment": "busy", "answer": {"price": 0.5, "cheap": True}, "id": "x0"}},
        {"trace_id": "t1", "agent": "shop", "started_at": START, "ended_at": START + timedelta(seconds=9),
         "metadata": {"segment": "slow", "answer": {"price": -0.5, "cheap": False}, "id": "x1"}},
        {"trace_id": "t2", "agent": "shop", "started_at": START},
    ]  # fmt: skip
    spans = [
        _span("t0", 1, "llm", "chat"),
        _span("t0", 2, "tool", "search", input=_SEARCH),
        _span("t0", 3, "tool", "search", input=_SEARCH, status="error"),
        _span("t0", 4, "tool", "book", input='{"max_price": "about four"}'),
        _span("t0", 5, "evaluator", "verdict"),
        _span("t0", 12, "tool", "refund"),
        _span("t1", 2, "tool", "book", input='{"max_price": 3}'),
    ]  # fmt: skip
    publish(traces=traces, spans=spans)
    return store


def _tokens(material):
    names = dict(enumerate(material.selection.tokens))
    rows = material.tokens.with_columns(
        trace=pl.col("row").replace_strict(dict(enumerate(material.facts["trace_id"])), return_dtype=pl.String),
        name=pl.col("token").cast(pl.Int64).replace_strict(names, return_dtype=pl.String),
    )
    return {(trace, name): n for trace, name, n in rows.select("trace", "name", "n").iter_rows()}


_SELECTION = Selection(
    tokens=(
        "step:search", "step:search!", "same:search", "pair:^>search", "pair:search>search!", "pair:search!>book",
        "pair:book>$", "pair:^>book", "form:book{\"max_price\":T}", "form:book{\"max_price\":N}", "step:refund",
        "step:verdict", 'form:search{"query":T, "max_price":N, "date":D}',
    ),
    numbers=('$."answer"."price"',),
    categories=('$."segment"', '$."answer"."cheap"'),
)  # fmt: skip


def test_steps_become_tokens_in_order_of_time_and_what_came_after_the_end_is_left_out(held):
    found = _tokens(reward_features.gather(held, selection=_SELECTION))
    assert found == {
        ("t0", "step:search"): 1,
        ("t0", "step:search!"): 1,
        ("t0", "same:search"): 1,
        ("t0", "pair:^>search"): 1,
        ("t0", "pair:search>search!"): 1,
        ("t0", "pair:search!>book"): 1,
        ("t0", "pair:book>$"): 1,
        ("t0", 'form:book{"max_price":T}'): 1,
        ("t0", 'form:search{"query":T, "max_price":N, "date":D}'): 2,
        ("t1", "pair:^>book"): 1,
        ("t1", "pair:book>$"): 1,
        ("t1", 'form:book{"max_price":N}'): 1,
    }


def test_facts_have_metadata_columns_and_counts_without_evaluators(held):
    facts = reward_features.gather(held, selection=_SELECTION).facts
    assert facts["trace_id"].to_list() == ["t0", "t1", "t2"]
    assert facts['$."answer"."price"'].to_list() == [0.5, -0.5, None]
    assert facts['$."segment"'].to_list() == ["busy", "slow", None]
    assert facts['$."answer"."cheap"'].to_list() == ["true", "false", None]
    assert facts["tool_names"].to_list() == [2, 1, None]
    assert facts["tool_errors"].to_list() == [1, 0, None]


def test_a_selection_is_drawn_from_the_traces_and_ids_are_no_category(publish, store):
    publish(
        traces=[
            {"trace_id": f"t{i:03}", "agent": "shop", "started_at": START,
             "metadata": {"segment": f"s{i % 3}", "price": i / 100, "id": f"x{i}", "same": "for all"}}
            for i in range(60)
        ],
        spans=[_span(f"t{i:03}", 1, "tool", f"tool {i % 2}", input='{"a": 1}') for i in range(60)],
    )  # fmt: skip
    chosen = reward_features.gather(store).selection
    assert chosen.numbers == ('$."price"',)
    assert chosen.categories == ('$."segment"',)
    assert {"step:tool 0", "pair:^>tool 1", "pair:tool 0>$", 'form:tool 1{"a":N}'} <= set(chosen.tokens)


def test_only_what_changed_since_a_publication_is_read(held, publish):
    before = reward_features.gather(held, selection=_SELECTION)
    assert reward_features.gather(held, selection=_SELECTION, since=before.publication).facts.is_empty()
    publish(
        traces=[{"trace_id": "t9", "agent": "shop", "started_at": START}],
        signals=[{"signal_id": "g", "trace_id": "t1", "kind": "thumb", "value": 1.0}],
    )
    after = reward_features.gather(held, selection=_SELECTION, since=before.publication)
    assert after.facts["trace_id"].to_list() == ["t1", "t9"]
    assert ("t1", "pair:^>book") in _tokens(after)
    assert after.publication > before.publication


def test_an_empty_store_has_no_material(store):
    material = reward_features.gather(store)
    assert material.facts.is_empty()
    assert material.tokens.is_empty()
    assert material.selection == Selection((), (), ())
