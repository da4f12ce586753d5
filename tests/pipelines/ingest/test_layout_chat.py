"""OpenAI chat records: the ways loggers wrap them, tool calls in every form, feedback beside them."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from pipelines.ingest.layouts.chat import import_chat
from pipelines.ingest.layouts.feedback import rating_value, thumb_value
from pipelines.ingest.rows import RecordRejected, Row, Rows

ASK = {"role": "user", "content": "What is 2 + 2?"}
ANSWER = {"role": "assistant", "content": "4"}
AT = datetime(2026, 8, 1, 10, 0, tzinfo=UTC)
EPOCH = 1_785_578_400


def call(call_id: str, name: str, arguments: str = "{}") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def spans(rows: Rows, kind: str) -> list[Row]:
    return [span for span in rows.spans if span["kind"] == kind]


def read(record: dict[str, Any]) -> tuple[Row, Rows]:
    rows = import_chat(record, "chat")
    (trace,) = rows.traces
    assert {span["trace_id"] for span in rows.spans} == {trace["trace_id"]}
    assert [span["ordinal"] for span in rows.spans] == list(range(len(rows.spans)))
    held = {span["span_id"] for span in rows.spans}
    assert len(held) == len(rows.spans)
    assert all(span["parent_span_id"] in held for span in rows.spans[1:])
    return trace, rows


def test_messages_alone() -> None:
    trace, rows = read({"messages": [{"role": "system", "content": "Be brief."}, ASK, ANSWER]})
    assert (trace["input"], trace["output"]) == ("What is 2 + 2?", "4")
    assert trace["trace_id"].startswith("chat-")
    assert [(span["kind"], span["span_id"]) for span in rows.spans] == [("agent", "root"), ("llm", "message-2")]
    assert json.loads(rows.spans[1]["input"]) == [{"role": "system", "content": "Be brief."}, ASK]
    assert rows.signals == []
    assert "started_at" not in trace


def test_identity_without_an_id_is_the_content() -> None:
    first, _ = read({"messages": [ASK, ANSWER], "model": "m"})
    again, _ = read({"model": "m", "messages": [dict(reversed(ASK.items())), ANSWER]})
    other, _ = read({"model": "n", "messages": [ASK, ANSWER]})
    assert first["trace_id"] == again["trace_id"] != other["trace_id"]


@pytest.mark.parametrize("name", ["trace_id", "id", "request_id", "custom_id"])
def test_a_given_id_is_kept(name: str) -> None:
    assert read({name: "x-1", "messages": [ASK]})[0]["trace_id"] == "x-1"
    assert read({name: 12, "messages": [ASK]})[0]["trace_id"] == "12"


def test_all_columns_of_a_flat_record() -> None:
    trace, rows = read(
        {
            "id": "t1", "agent": "sums", "agent_version": "3", "user": "u1", "session_id": "s1", "task": "add",
            "arm": "terse", "model": "gpt-4o", "system_fingerprint": "fp_1", "decision_id": "d1",
            "created_at": "2026-08-01T10:00:00Z", "latency_ms": 1500, "status": "success",
            "usage": {"prompt_tokens": "11", "completion_tokens": 2, "total_tokens": 13}, "cost_usd": "0.002",
            "metadata": {"tier": "gold"}, "tools": [{"type": "function"}], "messages": [ASK, ANSWER],
        }
    )  # fmt: skip
    metadata = trace.pop("metadata")
    assert trace == {
        "trace_id": "t1", "source": "chat", "agent": "sums", "agent_version": "3", "user_id": "u1",
        "session_id": "s1", "task": "add", "arm": "terse", "model": "gpt-4o", "model_fingerprint": "fp_1",
        "decision_id": "d1", "started_at": AT, "ended_at": AT.replace(second=1, microsecond=500_000), "status": "ok",
        "input": "What is 2 + 2?", "output": "4", "input_tokens": 11, "output_tokens": 2, "cost_usd": 0.002,
    }  # fmt: skip
    assert metadata["tier"] == "gold"
    assert metadata["tools"] == [{"type": "function"}]
    assert metadata["usage"]["total_tokens"] == 13
    assert rows.spans[0]["name"] == "sums"
    assert rows.spans[1]["model"] == "gpt-4o"


def completion(**about: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": "stop", "message": ANSWER}
    usage = {"prompt_tokens": 11, "completion_tokens": 2}
    return {"id": "cmpl-1", "created": EPOCH, "model": "gpt-4o-2024", "usage": usage, "choices": [choice], **about}


@pytest.mark.parametrize(
    "record",
    [
        {"request": {"messages": [ASK], "model": "gpt-4o"}, "response": completion()},
        {"request": json.dumps({"messages": [ASK], "model": "gpt-4o"}), "response": json.dumps(completion())},
        {"body": {"messages": [ASK], "model": "gpt-4o"}, "response": {"status_code": 200, "body": completion()}},
        {"messages": [ASK], **completion()},
        {"messages": [ASK, ANSWER], **completion()},
        {"messages": json.dumps([ASK]), "response": completion()},
        {"input": {"messages": [ASK]}, "output": completion()},
    ],
)
def test_requests_and_responses_in_every_wrapper(record: dict[str, Any]) -> None:
    trace, rows = read(record)
    assert trace["trace_id"] == "cmpl-1"
    assert (trace["input"], trace["output"]) == ("What is 2 + 2?", "4")
    assert trace["started_at"] == AT
    assert (trace["input_tokens"], trace["output_tokens"]) == (11, 2)
    (turn,) = spans(rows, "llm")
    assert (turn["input_tokens"], turn["output_tokens"]) == (11, 2)
    assert turn["attributes"]["finish_reason"] == "stop"
    assert trace["model"] in ("gpt-4o", "gpt-4o-2024")


@pytest.mark.parametrize(
    "answer", ["4", ANSWER, [ANSWER], {"message": ANSWER}, {"choices": [{"text": "4"}]}, {"content": "4"}]
)
def test_answers_in_every_form(answer: Any) -> None:
    trace, rows = read({"id": "a", "messages": [ASK], "response": answer})
    assert trace["output"] == "4"
    assert len(spans(rows, "llm")) == 1


def test_a_text_beside_a_conversation_that_has_its_answer_is_no_further_turn() -> None:
    trace, rows = read({"messages": [ASK, ANSWER], "output": "four"})
    assert (trace["output"], trace["metadata"]) == ("4", {"output": "four"})
    assert len(spans(rows, "llm")) == 1
    assert "metadata" not in read({"messages": [ASK, ANSWER], "output": "4"})[0]


def test_the_user_may_be_an_object() -> None:
    trace, _ = read({"messages": [ASK], "user": {"id": "u1", "plan": "free"}})
    assert trace["user_id"] == "u1"
    assert trace["metadata"]["user"]["plan"] == "free"


def test_other_choices_are_kept() -> None:
    second = {"index": 1, "message": {"role": "assistant", "content": "four"}}
    trace, _ = read({"messages": [ASK], "response": completion(choices=[{"message": ANSWER}, second])})
    assert trace["metadata"]["response"]["choices"] == [second]
    trace, _ = read({"messages": [ASK], "choices": [{"message": ANSWER}, second]})
    assert trace["metadata"]["response"]["choices"] == [second]


def test_an_error_instead_of_an_answer() -> None:
    trace, rows = read({"messages": [ASK], "response": {"status_code": 429, "error": {"message": "slow down"}}})
    assert trace["status"] == "error"
    assert rows.spans[0]["status_message"] == "slow down"
    assert spans(rows, "other")[0]["input"] == "What is 2 + 2?"
    assert read({"messages": [ASK], "response": {"status_code": 500, "usage": {}}})[0]["status"] == "error"
    assert "status" not in read({"messages": [ASK], "error": False})[0]
    assert read({"messages": [ASK], "error": "boom"})[1].spans[0]["status_message"] == "boom"
    assert read({"messages": [ASK], "status": "failed"})[0]["status"] == "error"
    assert "status" not in read({"messages": [ASK], "status": "odd"})[0]


def test_parallel_tool_calls_are_matched_by_id_in_any_order() -> None:
    turn = {"role": "assistant", "content": None, "tool_calls": [call("a", "sum", '{"x":1}'), call("b", "product")]}
    results = [
        {"role": "tool", "tool_call_id": "b", "content": "6"},
        {"role": "tool", "tool_call_id": "a", "content": "5"},
    ]
    _, rows = read({"messages": [ASK, turn, *results, ANSWER]})
    tools = spans(rows, "tool")
    assert [(s["name"], s.get("input"), s["output"]) for s in tools] == [
        ("sum", '{"x":1}', "5"),
        ("product", "{}", "6"),
    ]
    assert {s["parent_span_id"] for s in tools} == {"message-1"}
    assert json.loads(spans(rows, "llm")[1]["input"]) == results


def test_repeated_call_ids_match_the_latest_call() -> None:
    first = {"role": "assistant", "tool_calls": [call("c", "one")]}
    second = {"role": "assistant", "tool_calls": [call("c", "two")]}
    one, two = ({"role": "tool", "tool_call_id": "c", "content": text} for text in ("1", "2"))
    _, rows = read({"messages": [ASK, first, one, second, two, ANSWER]})
    assert [(s["name"], s["output"]) for s in spans(rows, "tool")] == [("one", "1"), ("two", "2")]


def test_results_without_a_call_are_kept() -> None:
    orphan = {"role": "tool", "tool_call_id": "gone", "name": "lookup", "content": "found"}
    _, rows = read({"messages": [ASK, orphan, ANSWER]})
    (tool,) = spans(rows, "tool")
    assert (tool["parent_span_id"], tool["name"], tool["output"]) == ("root", "lookup", "found")
    assert tool["attributes"] == {"tool_call_id": "gone", "orphan": True}


def test_a_second_result_of_one_call_is_kept() -> None:
    turn = {"role": "assistant", "tool_calls": [call("a", "sum")]}
    twice = [{"role": "tool", "tool_call_id": "a", "content": text} for text in ("5", "6")]
    _, rows = read({"messages": [ASK, turn, *twice]})
    assert [s["output"] for s in spans(rows, "tool")] == ["5", "6"]


def test_legacy_function_calls_are_matched_by_name() -> None:
    turn = {"role": "assistant", "content": None, "function_call": {"name": "sum", "arguments": '{"x":1}'}}
    _, rows = read({"messages": [ASK, turn, {"role": "function", "name": "sum", "content": "5"}, ANSWER]})
    (tool,) = spans(rows, "tool")
    assert (tool["name"], tool["input"], tool["output"]) == ("sum", '{"x":1}', "5")


def test_arguments_as_objects_and_custom_tools() -> None:
    flat = {"id": "a", "name": "sum", "arguments": {"x": 1}}
    custom = {"id": "b", "type": "custom", "custom": {"name": "shell", "input": "ls"}}
    _, rows = read({"messages": [ASK, {"role": "assistant", "tool_calls": [flat, custom]}]})
    assert [(s["name"], s["input"]) for s in spans(rows, "tool")] == [("sum", '{"x": 1}'), ("shell", "ls")]
    assert not any("status" in s for s in spans(rows, "tool"))


@pytest.mark.parametrize(
    ("result", "status"),
    [("Error: no such user", "error"), ("Error", "error"), ("Errors found: 0", "ok"), ("no Error", "ok"), ("", "ok")],
)
def test_status_of_a_tool_by_its_result(result: str, status: str) -> None:
    turn = {"role": "assistant", "tool_calls": [call("a", "sum")]}
    _, rows = read({"messages": [ASK, turn, {"role": "tool", "tool_call_id": "a", "content": result}]})
    assert spans(rows, "tool")[0]["status"] == status


def test_multi_modal_parts_are_kept_as_text_or_json() -> None:
    words = [{"type": "text", "text": "What is"}, {"type": "text", "text": "this?"}]
    picture = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}
    assert read({"messages": [{"role": "user", "content": words}]})[0]["input"] == "What is\nthis?"
    mixed = [*words, picture]
    assert json.loads(read({"messages": [{"role": "user", "content": mixed}]})[0]["input"]) == mixed


def test_unknown_roles_are_kept() -> None:
    odd = {"role": "critic", "content": "too long"}
    _, rows = read({"messages": [ASK, odd, ANSWER, {"role": "critic", "content": "better", "score": 1}]})
    assert odd in json.loads(spans(rows, "llm")[0]["input"])
    (last,) = spans(rows, "other")
    assert (last["name"], last["input"], last["attributes"]) == ("critic", "better", {"score": 1})


def test_a_longer_export_of_a_conversation_extends_the_shorter_one() -> None:
    turns = [ASK, ANSWER, {"role": "user", "content": "And 3 + 3?"}, {"role": "assistant", "content": "6"}]
    shorter, longer = read({"id": "c", "messages": turns[:2]})[1], read({"id": "c", "messages": turns})[1]
    assert longer.spans[1] == shorter.spans[1]


def test_times_of_messages() -> None:
    asked = {**ASK, "timestamp": EPOCH}
    turn = {"role": "assistant", "timestamp": EPOCH + 1, "tool_calls": [call("a", "sum")]}
    result = {"role": "tool", "tool_call_id": "a", "content": "5", "timestamp": EPOCH + 3}
    trace, rows = read({"messages": [asked, turn, result]})
    (tool,) = spans(rows, "tool")
    assert (tool["started_at"], tool["ended_at"]) == (AT.replace(second=1), AT.replace(second=3))
    assert (trace["started_at"], trace["ended_at"]) == (AT.replace(second=1), AT.replace(second=3))


def test_names_in_metadata_fill_columns_that_the_record_leaves() -> None:
    trace, _ = read({"messages": [ASK], "metadata": {"user_id": "u", "thread_id": "s", "agent": "sums", "task": {}}})
    assert (trace["user_id"], trace["session_id"], trace["agent"]) == ("u", "s", "sums")
    assert "task" not in trace
    assert trace["metadata"]["user_id"] == "u"


def test_negative_durations_keep_the_row() -> None:
    trace, _ = read({"messages": [ASK], "created": EPOCH, "latency_ms": -5})
    assert trace["started_at"] == AT
    assert "ended_at" not in trace
    assert trace["metadata"]["latency_ms"] == -5


def signal_of(**feedback: Any) -> list[Row]:
    record = {"id": "t", "user": "u", "messages": [ASK, ANSWER], **feedback}
    return [
        {key: each for key, each in signal.items() if key not in ("trace_id", "source")}
        for signal in read(record)[1].signals
    ]


@pytest.mark.parametrize(
    ("feedback", "kind", "value"),
    [
        ({"feedback": "thumbs_up"}, "thumb", 1.0),
        ({"feedback": "👎"}, "thumb", 0.0),
        ({"thumbs": True}, "thumb", 1.0),
        ({"feedback": -1}, "thumb", 0.0),
        ({"rating": 4}, "rating", 0.75),
        ({"rating": "0.25"}, "rating", 0.25),
        ({"rating": 10}, "rating", 1.0),
        ({"feedback": {"rating": 3, "max": 5, "min": 0}}, "rating", 0.6),
        ({"feedback": {"score": 1, "comment": "nice"}}, "thumb", 1.0),
        ({"score": 0.7}, "outcome", 0.7),
        ({"reward": False}, "outcome", 0.0),
    ],
)
def test_feedback_becomes_a_signal(feedback: dict[str, Any], kind: str, value: float) -> None:
    (signal,) = signal_of(**feedback)
    assert (signal["kind"], signal["value"]) == (kind, pytest.approx(value))


def test_feedback_keeps_who_when_and_why() -> None:
    given = {"thumb": "down", "comment": "wrong sum", "user_id": "u2", "created_at": EPOCH, "device": "phone"}
    assert signal_of(feedback=given) == [
        {
            "signal_id": "t-feedback", "kind": "thumb", "name": "feedback", "value": 0.0, "text": "wrong sum",
            "annotator_kind": "user", "annotator_id": "u2", "user_id": "u", "occurred_at": AT,
            "metadata": {"device": "phone"},
        }
    ]  # fmt: skip


def test_ratings_state_the_scale_they_were_read_on() -> None:
    (signal,) = signal_of(rating=4)
    assert signal["metadata"] == {"scale": {"original": 4.0, "min": 1.0, "max": 5.0, "assumed": True}}
    assert rating_value(4, 0, 4) == (1.0, {"scale": {"original": 4, "min": 0, "max": 4, "assumed": False}})
    assert rating_value(-3) is None
    assert signal_of(rating=-3)[0]["kind"] == "annotation"


def test_lists_of_feedback_and_named_scores() -> None:
    found = signal_of(
        feedback=["up", {"id": "f7", "comment": "more detail please"}], scores={"fluency": 0.9, "ok": True}
    )
    assert [(s["signal_id"], s["kind"], s["name"]) for s in found] == [
        ("t-feedback", "thumb", "feedback"),
        ("t-feedback-f7", "comment", "comment"),
        ("t-scores", "outcome", "fluency"),
        ("t-scores-#2", "outcome", "ok"),
    ]


def test_comments_and_corrections() -> None:
    found = signal_of(feedback={"comment": "no", "correction": "5"}, correction="five", comment="hm")
    assert [(s["kind"], s.get("text"), s.get("value")) for s in found] == [
        ("comment", "no", None), ("correction", "5", None), ("comment", "hm", None), ("correction", "five", None)
    ]  # fmt: skip


@pytest.mark.parametrize("feedback", [{"score": "high"}, {"feedback": {"colour": "red"}}, {"scores": {"a": "b"}}])
def test_what_is_no_feedback_stays_in_the_metadata(feedback: dict[str, Any]) -> None:
    trace, rows = read({"messages": [ASK], **feedback})
    assert rows.signals == []
    assert feedback.items() <= trace["metadata"].items()


def test_parts_of_a_feedback_that_are_no_verdict_are_kept() -> None:
    (signal,) = signal_of(feedback={"label": "spam", "comment": "odd"})
    assert (signal["kind"], signal["text"], signal["metadata"]) == ("comment", "odd", {"label": "spam"})


def test_thumbs() -> None:
    assert [thumb_value(value) for value in (True, 1, "1", "Thumbs-Up", "Like")] == [1.0] * 5
    assert [thumb_value(value) for value in (False, 0, -1, "-1", "thumbs down", "dislike")] == [0.0] * 6
    assert [thumb_value(value) for value in (None, 2, 0.5, "maybe", [], {}, "x" * 10**6)] == [None] * 7


@pytest.mark.parametrize(
    ("record", "column", "reason"),
    [
        ({}, "messages", "messages is null; expected a list of at least one chat message"),
        ({"messages": []}, "messages", "messages is a list; expected a list of at least one"),
        ({"messages": "hello"}, "messages", "messages is the text 'hello'; expected a list"),
        ({"messages": [ASK, "hi"]}, "messages[1]", "the text 'hi'; expected an object"),
        ({"messages": [{"role": 5.5, "content": "x"}, {"role": {}}, 3]}, "messages[2]", "the number 3"),
        ({"messages": [{"role": ["user"]}]}, "messages[0].role", "a list; expected text"),
        ({"messages": [{"role": "assistant", "tool_calls": "x"}]}, "messages[0].tool_calls", "expected a list"),
        ({"messages": [{"role": "assistant", "tool_calls": [1]}]}, "messages[0].tool_calls[0]", "expected an object"),
        ({"request": {"messages": [1]}}, "request.messages[0]", "the number 1; expected an object"),
        ({"messages": [ASK], "created_at": "soon"}, "created_at", "expected an ISO 8601 time"),
        ({"messages": [ASK], "created": 5}, "created", "outside 1990 to 2100"),
        ({"messages": [ASK], "created_at": "2170-01-01"}, "created_at", "between 1990"),
        ({"messages": [ASK], "usage": {"prompt_tokens": -1}}, "usage.prompt_tokens", "at least 0"),
        ({"messages": [ASK], "usage": {"prompt_tokens": 1.5}}, "usage.prompt_tokens", "whole number"),
        ({"messages": [ASK], "usage": {"prompt_tokens": 2**63}}, "usage.prompt_tokens", "whole number"),
        ({"messages": [ASK], "cost_usd": "free"}, "cost_usd", "finite number"),
        ({"messages": [ASK], "session_id": {}, "id": [1]}, "id", "a list; expected text"),
        ({"messages": [ASK], "choices": [1]}, "choices", "expected a list of objects"),
        ({"messages": [ASK], "feedback": {"thumb": 1, "created_at": "?"}}, "feedback.created_at", "expected an ISO"),
    ],
)
def test_wrong_types_name_the_field(record: dict[str, Any], column: str, reason: str) -> None:
    with pytest.raises(RecordRejected) as caught:
        import_chat(record, "chat")
    assert caught.value.column == column
    assert reason in caught.value.reason


def test_nesting_is_limited_to_64_levels() -> None:
    def nested(levels: int) -> Any:
        value: Any = "x"
        for _ in range(levels):
            value = [value]
        return value

    assert read({"messages": [ASK], "deep": nested(62)})[0]["metadata"]["deep"] == nested(62)
    with pytest.raises(RecordRejected, match="deep is nested more than 64 levels"):
        import_chat({"messages": [ASK], "deep": nested(64)}, "chat")
    # a text is walked only as far as it goes
    text = "[" * 10_000 + "]" * 10_000
    assert read({"messages": [ASK], "deep": text})[0]["metadata"]["deep"] == text


def test_text_cells_are_decoded_as_far_as_they_can_be_walked() -> None:
    cells = {
        "json": '{"a": [1]}', "python": "{'a': (1, None)}", "broken": "{'a'", "words": '"a" or "b"',
        "deep": "[" * 100 + "]" * 100, "blank": "",
    }  # fmt: skip
    metadata = read({"messages": [ASK], **cells})[0]["metadata"]
    kept = {name: cells[name] for name in ("broken", "words", "deep")}
    assert metadata == {"json": {"a": [1]}, "python": {"a": [1, None]}, **kept}


def test_values_of_parquet_and_python_are_made_plain() -> None:
    record = {"messages": [ASK], "day": AT.date(), "price": Decimal("0.5"), "raw": b"x", "uuid": UUID(int=1), "s": {2}}
    metadata = read(record)[0]["metadata"]
    assert metadata == {"day": "2026-08-01", "price": 0.5, "raw": "x", "uuid": str(UUID(int=1)), "s": [2]}


def test_metadata_and_fields_of_one_name_are_both_kept() -> None:
    metadata = read({"messages": [ASK], "metadata": {"tier": 1, "record.tier": 2}, "tier": 3})[0]["metadata"]
    assert metadata == {"tier": 1, "record.tier": 2, "record.record.tier": 3}
    assert read({"messages": [ASK], "metadata": "a note"})[0]["metadata"] == {"metadata": "a note"}


def test_a_result_without_an_id_answers_the_oldest_call_of_its_name() -> None:
    turn = {"role": "assistant", "tool_calls": [call("a", "sum"), call("b", "product")]}
    results = [{"role": "tool", "name": "product", "content": "6"}, {"role": "tool", "content": "5"}]
    _, rows = read({"messages": [ASK, turn, *results]})
    assert [(s["name"], s["output"]) for s in spans(rows, "tool")] == [("sum", "5"), ("product", "6")]


def test_numbers_that_json_does_not_have_are_kept_as_text() -> None:
    trace, _ = read({"messages": [ASK], "a": float("nan"), "b": float("inf"), "c": 10**5000})
    assert (trace["metadata"]["a"], trace["metadata"]["b"]) == ("nan", "inf")
    assert trace["metadata"]["c"] == hex(10**5000)
