"""Weave's calls: names in references, usage by model, roll-ups of parents, feedback in the summary."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from import_checks import check, damaged, keys_in, odd_values
from loading import loaded, table, write_rows
from publishing import state

from pipelines.ingest.formats import Format, importer_for, recognise_columns, recognise_record
from pipelines.ingest.layouts.weave import import_call
from pipelines.ingest.rows import RecordRejected
from store.connection import Store

AT = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
USAGE = {"gpt-5-mini": {"requests": 1, "prompt_tokens": 120, "completion_tokens": 30, "total_tokens": 150}}
PARENT: dict[str, Any] = {
    "id": "call-1", "project_id": "team/support", "op_name": "weave:///team/support/op/answer:Vhash",
    "display_name": None, "trace_id": "t-1", "parent_id": None, "started_at": "2026-11-20T10:00:00.000000Z",
    "ended_at": "2026-11-20T10:00:03Z", "deleted_at": None, "inputs": {"question": "où?"}, "output": "ici",
    "exception": None, "attributes": {"user_id": "ada", "weave": {"client_version": "0.54.0"}},
    "summary": {"usage": USAGE, "status_counts": {"success": 2}, "weave": {"status": "success", "feedback": [
        {"id": "f-1", "feedback_type": "wandb.reaction.1", "payload": {"emoji": "👍", "alias": ":+1:"},
         "created_at": "2026-11-20T11:00:00Z", "creator": "Ada", "wb_user_id": "VXNl"},
        {"id": "f-2", "feedback_type": "wandb.note.1", "payload": {"note": "nice"},
         "created_at": "2026-11-20T11:01:00Z"},
        {"id": "f-3", "feedback_type": "wandb.annotation.tone", "payload": {"value": 0.5}},
        {"id": "f-4", "feedback_type": "wandb.runnable.judge", "payload": {"output": True}},
    ]}},
    "thread_id": "thread-1", "turn_id": "call-1", "wb_user_id": "VXNl", "wb_run_id": None,
}  # fmt: skip
CALL: dict[str, Any] = {
    **PARENT, "id": "call-2", "parent_id": "call-1", "display_name": None,
    "op_name": "weave:///team/support/op/openai.chat.completions.create:hash", "inputs": {"messages": []},
    "output": {"choices": []}, "summary": {"usage": USAGE, "weave": {"latency_ms": 900}}, "exception": "Timeout",
    "started_at": "2026-11-20T10:00:01Z", "ended_at": "2026-11-20T10:00:02Z",
}  # fmt: skip
CALLS = [PARENT, CALL]


def test_calls_are_recognised() -> None:
    for call in CALLS:
        assert recognise_record(call) is Format.WEAVE
        assert recognise_columns(call) is Format.WEAVE
    assert recognise_columns(["id", "op_name", "price"]) is Format.MAPPED


def test_a_call_is_a_span() -> None:
    (root,), (call,) = (import_call(each, "weave").spans for each in CALLS)
    attributes = root.pop("attributes")
    assert root == {
        "trace_id": "t-1", "span_id": "call-1", "kind": "other", "name": "answer", "source": "weave",
        "started_at": AT, "ended_at": AT + timedelta(seconds=3), "status": "ok", "input": '{"question": "où?"}',
        "output": "ici", "model": "gpt-5-mini", "input_tokens": 120, "output_tokens": 30, "user_id": "ada",
        "session_id": "thread-1",
    }  # fmt: skip
    assert attributes["summary"] == {"usage": USAGE, "status_counts": {"success": 2}, "weave": {"status": "success"}}
    assert (attributes["wb_user_id"], attributes["project_id"]) == ("VXNl", "team/support")
    assert (call["kind"], call["name"], call["parent_span_id"]) == ("llm", "openai.chat.completions.create", "call-1")
    assert (call["status"], call["status_message"]) == ("error", "Timeout")
    (tool,) = import_call({**PARENT, "attributes": {"kind": "tool"}, "display_name": "look up"}, "weave").spans
    assert (tool["kind"], tool["name"]) == ("tool", "look up")


def test_feedback_is_signals() -> None:
    signals = import_call(PARENT, "weave").signals
    assert [(s["signal_id"], s["kind"], s.get("value"), s.get("text"), s["annotator_kind"]) for s in signals] == [
        ("f-1", "thumb", 1.0, "👍", "user"), ("f-2", "comment", None, "nice", "operator"),
        ("f-3", "annotation", 0.5, None, "operator"), ("f-4", "judge", 1.0, None, "llm"),
    ]  # fmt: skip
    assert (signals[0]["annotator_id"], signals[0]["span_id"]) == ("VXNl", "call-1")
    assert signals[0]["metadata"]["creator"] == "Ada"


def test_rejects_name_the_field() -> None:
    with pytest.raises(RecordRejected) as rejected:
        import_call({**CALL, "trace_id": None}, "weave")
    assert rejected.value.column == "trace_id"
    with pytest.raises(RecordRejected) as rejected:
        import_call({**CALL, "summary": {"usage": {"m": {"prompt_tokens": -1}}}}, "weave")
    assert rejected.value.column == "summary.usage.m.prompt_tokens"


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
def test_loading_a_file_twice_gives_the_same_store(store: Store, tmp_path: Path, kind: str) -> None:
    path = write_rows(tmp_path, f"calls.{kind}", CALLS)
    report = loaded(store, path)
    assert (report.source, report.accepted, report.rejected, report.signals) == ("weave", 2, 0, 4)
    (trace,) = table(store, "FROM traces").to_dicts()
    assert (trace["agent"], trace["input_tokens"], trace["user_id"]) == ("answer", 120, "ada")
    before = state(store)
    assert loaded(store, path).duplicate == 2
    assert state(store) == before


@given(damaged(CALLS))
@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_damaged_records_give_rows_or_a_reject(record: dict[str, Any]) -> None:
    check(import_call, record)


@given(odd_values(keys_in(CALLS)))
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_any_value_gives_rows_or_a_reject(record: Any) -> None:
    check(import_call, record)
    recognise_record(record)


def test_records_nested_without_end_are_rejected() -> None:
    deep: Any = "x"
    for _ in range(10_000):
        deep = [deep]
    for sample in CALLS:
        found = recognise_record({**sample, "deep": deep})
        assert found is recognise_record(sample)
        assert found is not None
        importer = importer_for(found)
        assert importer is not None
        with pytest.raises(RecordRejected, match="nested more than 64 levels"):
            importer({**sample, "deep": deep}, "source")
