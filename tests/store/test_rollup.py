"""The trace rollup: what a trace row says of its spans and statements."""

from datetime import UTC, datetime, timedelta

import pytest

from store import rollup

START = datetime(2026, 11, 1, tzinfo=UTC)


def _at(seconds):
    return START + timedelta(seconds=seconds)


def _trace(store, trace_id="t"):
    with store.read() as reader:
        return reader.any_frame("FROM traces WHERE trace_id = $t", {"t": trace_id}).to_dicts()[0]


def test_a_trace_is_what_its_spans_add_up_to(publish, store):
    publish(
        spans=[
            {"trace_id": "t", "span_id": "2", "parent_span_id": "1", "kind": "llm", "model": "m", "started_at": _at(1),
             "ended_at": _at(2), "input_tokens": 10, "output_tokens": 5, "cost_usd": 0.1},
            {"trace_id": "t", "span_id": "1", "kind": "agent", "name": "desk", "started_at": _at(0), "ended_at": _at(9),
             "input": "question", "output": "answer", "status": "ok", "user_id": "u"},
            {"trace_id": "t", "span_id": "3", "parent_span_id": "1", "kind": "tool", "status": "error",
             "started_at": _at(3), "ended_at": _at(4)},
        ]
    )  # fmt: skip
    trace = _trace(store)
    assert (trace["agent"], trace["user_id"], trace["model"]) == ("desk", "u", "m")
    assert (trace["started_at"], trace["ended_at"], trace["status"]) == (_at(0), _at(9), "ok")
    assert (trace["input"], trace["output"]) == ("question", "answer")
    assert (trace["span_count"], trace["error_count"], trace["tool_count"]) == (3, 1, 1)
    assert (trace["input_tokens"], trace["output_tokens"]) == (10, 5)
    assert trace["cost_usd"] == pytest.approx(0.1)


def test_totals_that_a_parent_repeats_are_counted_once(publish, store):
    publish(
        spans=[
            {"trace_id": "t", "span_id": "1", "kind": "agent", "input_tokens": 30, "cost_usd": 0.3},
            {
                "trace_id": "t",
                "span_id": "2",
                "parent_span_id": "1",
                "kind": "llm",
                "input_tokens": 10,
                "cost_usd": 0.1,
            },
            {
                "trace_id": "t",
                "span_id": "3",
                "parent_span_id": "1",
                "kind": "llm",
                "input_tokens": 20,
                "cost_usd": 0.2,
            },
        ]
    )
    trace = _trace(store)
    assert trace["input_tokens"] == 30
    assert trace["cost_usd"] == pytest.approx(0.3)


def test_what_is_stated_about_a_trace_goes_before_what_its_spans_say(publish, store):
    publish(spans=[{"trace_id": "t", "span_id": "1", "kind": "llm", "agent": "from span", "cost_usd": 0.1}])
    publish(traces=[{"trace_id": "t", "agent": "stated", "task": "k", "metadata": {"a": 1}}])
    trace = _trace(store)
    assert (trace["agent"], trace["task"], trace["task_origin"]) == ("stated", "k", "given")
    assert trace["cost_usd"] == pytest.approx(0.1)
    assert trace["metadata"] == '{"a": 1}'


def test_of_several_statements_each_field_comes_from_the_latest_that_has_it(publish, store):
    publish(traces=[{"trace_id": "t", "status": "error", "user_id": "u", "ended_at": _at(1)}])
    publish(traces=[{"trace_id": "t", "status": "ok", "ended_at": _at(5)}])
    assert (_trace(store)["status"], _trace(store)["user_id"]) == ("ok", "u")


def test_a_trace_without_times_is_placed_when_it_was_received(publish, store, clock):
    publish(spans=[{"trace_id": "t", "span_id": "1", "kind": "llm"}])
    assert _trace(store)["started_at"] is None
    assert _trace(store)["seen_at"] == clock.now()


def test_parents_in_a_circle_and_a_parent_that_never_comes(publish, store):
    publish(
        spans=[
            {"trace_id": "circle", "span_id": "1", "parent_span_id": "2", "kind": "llm", "input": "i", "ordinal": 1},
            {"trace_id": "circle", "span_id": "2", "parent_span_id": "1", "kind": "llm", "output": "o", "ordinal": 2},
            {"trace_id": "orphan", "span_id": "1", "parent_span_id": "gone", "kind": "llm", "input": "q"},
        ]
    )
    assert (_trace(store, "circle")["input"], _trace(store, "circle")["output"]) == ("i", "o")
    assert _trace(store, "orphan")["input"] == "q"


def test_status_without_a_root_status(publish, store):
    publish(
        spans=[
            {"trace_id": "bad", "span_id": "1", "kind": "agent"},
            {"trace_id": "bad", "span_id": "2", "parent_span_id": "1", "kind": "tool", "status": "error"},
            {"trace_id": "quiet", "span_id": "1", "kind": "agent"},
            {"trace_id": "recovered", "span_id": "1", "kind": "tool", "status": "error", "ordinal": 1},
            {"trace_id": "recovered", "span_id": "2", "kind": "llm", "ordinal": 2},
        ]
    )
    statuses = [_trace(store, name)["status"] for name in ("bad", "quiet", "recovered")]
    assert statuses == ["error", "unknown", "unknown"]


def test_previews_are_cut(publish, store):
    publish(spans=[{"trace_id": "t", "span_id": "1", "kind": "agent", "input": "ü" * 2_000}])
    assert _trace(store)["input"] == "ü" * rollup.PREVIEW_CHARACTERS


def test_a_full_recomputation_changes_nothing(publish, store, clock):
    publish(
        spans=[{"trace_id": str(i % 3), "span_id": str(i), "kind": "llm", "started_at": _at(i)} for i in range(9)],
        traces=[{"trace_id": "7", "agent": "a"}],
    )
    with store.read() as reader:
        before = sorted(map(repr, reader.any_frame("SELECT * EXCLUDE publication FROM traces").rows()))

    def everything(connection):
        return rollup.refresh(connection, 99, clock.now(), rollup.everything(connection))

    assert store.write(everything) == 0
    with store.read() as reader:
        assert sorted(map(repr, reader.any_frame("SELECT * EXCLUDE publication FROM traces").rows())) == before
