"""What failure rules read of spans: how a call failed, the shape of its arguments, and what an answer rests on."""

import json

import pytest
from loop_data import NOW
from publishing import publisher

from store import failures
from store.clock import FixedClock
from store.connection import Store


@pytest.fixture
def store(tmp_path):
    opened = Store.open(tmp_path / "trimtab.duckdb", clock=FixedClock(NOW), threads=1)
    yield opened
    opened.close()


def _call(step, name="tool", **columns):
    return {"trace_id": "t", "span_id": f"s{step}", "kind": "tool", "name": name, "ordinal": step, **columns}


def _calls(store, tmp_path, spans):
    publisher(store, tmp_path)(traces=[{"trace_id": "t"}], spans=spans)
    return {row["span_id"]: row for row in failures.calls(store, ["t"]).iter_rows(named=True)}


@pytest.mark.parametrize(
    ("columns", "failed", "fault"),
    [
        ({"status": "error", "status_message": "503 upstream unavailable"}, True, "platform"),
        ({"status": "error", "output": '{"error": "504 gateway timeout"}'}, True, "platform"),
        ({"status": "error", "status_message": "ValidationError: date must be a string"}, True, "argument"),
        ({"status": "error", "status_message": "missing required argument: order_id"}, True, "argument"),
        ({"status": "error", "status_message": "HTTP 422"}, True, "argument"),
        ({"status": "error"}, True, "other"),
        ({"status": "ok", "output": "Error: user not found"}, True, "argument"),
        ({"output": "Error: payment amount does not add up"}, True, "argument"),
        ({"output": "Error: something else"}, True, "other"),
        ({"status": "ok", "output": '{"error": "invalid id"}'}, True, "argument"),
        ({"status": "ok", "output": '{"error": null, "rows": 3}'}, False, None),
        ({"status": "ok", "output": '{"errors": [], "rows": 3}'}, False, None),
        ({"status": "ok", "output": '{"error_rate": 0.1}'}, False, None),
        ({"output": "an error is a mistake"}, False, None),
    ],
)
def test_a_failed_call_is_put_down_to_its_arguments_or_the_platform(store, tmp_path, columns, failed, fault):
    row = _calls(store, tmp_path, [_call(1, **columns)])["s1"]
    assert (row["failed"], row["fault"]) == (failed, fault)


def test_a_shape_is_the_arguments_with_types_for_values(store, tmp_path):
    arguments = {
        "day": "2026-11-20", "at": "2026-11-20T10:00:00Z", "limit": "about 5", "amount": "12.50", "n": -3, "x": 1.5e-7,
        "deep": {"flag": True, "none": None}, "list": [1, [2, "a"]], "quoted": 'say "hi": 5, "x": 2',
    }  # fmt: skip
    row = _calls(store, tmp_path, [_call(1, input=json.dumps(arguments))])["s1"]
    assert row["shape"] == (
        '{"day":@D,"at":@D,"limit":@S,"amount":@N,"n":@0,"x":@0,"deep":{"flag":@B,"none":@_},"list":@A,"quoted":@S}'
    )


def test_what_is_no_json_object_has_no_shape(store, tmp_path):
    rows = _calls(store, tmp_path, [_call(1, input="tea"), _call(2, input="[1, 2]"), _call(3), _call(4, input="{}")])
    assert [rows[f"s{step}"]["shape"] for step in range(1, 5)] == [None, None, None, "{}"]


def test_same_calls_differ_in_white_space_only(store, tmp_path):
    rows = _calls(
        store,
        tmp_path,
        [_call(1, input='{"q": "tea"}'), _call(2, input='{ "q":"tea" }'), _call(3, input='{"q": "milk"}'),
         _call(4, name="other", input='{"q": "tea"}'), _call(5)],
    )  # fmt: skip
    assert rows["s1"]["call"] == rows["s2"]["call"]
    assert len({rows[name]["call"] for name in ("s1", "s3", "s4")}) == 3
    assert rows["s5"]["call"] is None
    assert [rows[f"s{step}"]["position"] for step in range(1, 6)] == [1, 2, 3, 4, 5]


def test_guardrails_are_refused_by_status_or_by_what_they_say(store, tmp_path):
    rows = _calls(
        store,
        tmp_path,
        [
            _call(1, kind="guardrail", output='{"within_limit": true}'),
            _call(2, kind="guardrail", output='{"within_limit": false}'),
            _call(3, kind="guardrail", output='{"blocked": true}'),
            _call(4, kind="guardrail", status="error"),
            _call(5, output='{"passed": false}'),
        ],
    )
    assert [rows[f"s{step}"]["refused"] for step in range(1, 6)] == [False, True, True, True, False]


def test_warnings_about_arguments_are_read_others_are_not(store, tmp_path):
    rows = _calls(
        store,
        tmp_path,
        [_call(1, output='{"items": [], "warnings": ["max_price ignored: not a number"]}'),
         _call(2, output='{"items": [], "warnings": ["prices may change"]}'),
         _call(3, output='{"warning": "date not understood, using today"}'), _call(4, output='{"warnings": []}')],
    )  # fmt: skip
    assert [rows[f"s{step}"]["warned"] for step in range(1, 5)] == [True, False, True, False]


def _answer(store, tmp_path, answer, *, output="{}", request="How much?", messages="[]"):
    publisher(store, tmp_path)(
        traces=[{"trace_id": "t", "input": request}],
        spans=[
            {"trace_id": "t", "span_id": "root", "kind": "agent", "name": "a", "ordinal": 0, "output": answer},
            {"trace_id": "t", "span_id": "tool", "parent_span_id": "root", "kind": "tool", "ordinal": 1,
             "output": output},
            {"trace_id": "t", "span_id": "llm", "parent_span_id": "root", "kind": "llm", "ordinal": 2,
             "input": messages, "output": answer},
        ],
    )  # fmt: skip
    (row,) = failures.answers(store, ["t"]).to_dicts()
    return row


def test_figures_must_stand_in_a_result_the_request_or_the_messages(store, tmp_path):
    row = _answer(
        store, tmp_path, "It costs 12.50, order GB-1234, invoice 7777, total 99.10, 3 items, code 555.",
        output='{"price": 12.5}', request="About order GB-1234", messages='[{"content": "code 555"}]',
    )  # fmt: skip
    assert row["unsupported"] == ["7777", "99.10"]
    assert row["figures"] == 5
    assert row["span_id"] == "llm"


def test_an_answer_without_figures_claims_none(store, tmp_path):
    row = _answer(store, tmp_path, "Sorry, I could not find it. Which one do you mean?")
    assert (row["figures"], row["unsupported"]) == (0, [])
    assert row["answered"]
    assert row["owns_up"]
    assert row["asks_back"]


def test_a_trace_without_spans_is_read_from_its_statement(store, tmp_path):
    publisher(store, tmp_path)(traces=[{"trace_id": "t", "input": "x", "output": "It is 4711."}])
    (row,) = failures.answers(store, ["t"]).to_dicts()
    assert (row["span_id"], row["answered"], row["unsupported"]) == (None, True, ["4711"])


def test_traces_carry_outcome_and_exploration_from_record_or_span(store, tmp_path):
    publisher(store, tmp_path)(
        traces=[
            {"trace_id": "a", "metadata": '{"steer.explore": true}'},
            {"trace_id": "b", "metadata": '{"steer.explore": false}', "status": "error"},
        ],
        spans=[
            {"trace_id": "c", "span_id": "r", "kind": "agent", "attributes": '{"steer.explore": true}'},
            {"trace_id": "c", "span_id": "s", "parent_span_id": "r", "kind": "tool"},
        ],
        signals=[
            {"signal_id": "1", "trace_id": "a", "kind": "outcome", "value": 0.0, "annotator_kind": "code"},
            {"signal_id": "2", "trace_id": "a", "kind": "outcome", "value": 1.0, "annotator_kind": "llm"},
        ],
    )
    rows = {row["trace_id"]: row for row in failures.traces(store).iter_rows(named=True)}
    assert {name: row["explored"] for name, row in rows.items()} == {"a": True, "b": False, "c": True}
    assert (rows["a"]["outcome"], rows["b"]["outcome"]) == (0.0, None)
    assert (rows["a"]["failed"], rows["b"]["failed"]) == (False, True)
