"""LangSmith: runs as the SDK and the bulk export write them, and feedback."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from importing import anything, check, damaged, keys_in
from loading import loaded, rows_of, table, write_rows
from publishing import state

from pipelines.ingest.formats import Format, importer_for, recognise_columns, recognise_record
from pipelines.ingest.layouts.langsmith import import_feedback, import_run
from pipelines.ingest.rows import RecordRejected, Row
from store.connection import Store

PROJECT = "7f4d1d5e-0000-4000-8000-0000000000aa"
ROOT = "11111111-0000-4000-8000-000000000001"
CALL = "11111111-0000-4000-8000-000000000002"
TOOL = "11111111-0000-4000-8000-000000000003"
AT = datetime(2026, 8, 1, 10, 0, tzinfo=UTC)


def step(run: str, second: int = 0) -> str:
    return f"20260801T1000{second:02}000000Z{run}"


def constructed(name: str, **kwargs: Any) -> dict[str, Any]:
    path = ["langchain", "schema", "messages", name]
    return {"lc": 1, "type": "constructor", "id": path, "kwargs": kwargs}


ROOT_RUN: dict[str, Any] = {
    "id": ROOT, "name": "support-agent", "run_type": "chain", "start_time": "2026-08-01T10:00:00",
    "end_time": "2026-08-01T10:00:03.500000", "status": "success", "error": None,
    "inputs": {"messages": [{"role": "user", "content": "Where is my order?"}]},
    "outputs": {"messages": [
        constructed("HumanMessage", content="Where is my order?", type="human", id="m1"),
        constructed("AIMessage", content="It arrives today.", type="ai", id="m2", tool_calls=[]),
    ]},
    "extra": {"metadata": {"thread_id": "thread-1", "user_id": "ada", "revision_id": "v7", "tier": "gold",
                           "steer.arm": "bold"},
              "runtime": {"sdk": "langsmith-py"}},
    "events": [], "tags": ["web"], "trace_id": ROOT, "dotted_order": step(ROOT), "parent_run_id": None,
    "parent_run_ids": [], "child_run_ids": [CALL, TOOL], "direct_child_run_ids": [CALL, TOOL], "session_id": PROJECT,
    "reference_example_id": None, "feedback_stats": {"user_score": {"n": 2, "avg": 0.5}}, "prompt_tokens": 12,
    "completion_tokens": 5, "total_tokens": 17, "prompt_cost": "0.0012", "completion_cost": "0.0005",
    "total_cost": "0.0017", "first_token_time": None, "in_dataset": False, "share_token": None, "app_path": "/o/x",
    "inputs_s3_urls": None, "serialized": None,
}  # fmt: skip
CALL_RUN: dict[str, Any] = {
    "id": CALL, "name": "ChatOpenAI", "run_type": "llm", "start_time": "2026-08-01T10:00:01",
    "end_time": "2026-08-01T10:00:02", "status": "success", "error": None,
    "inputs": {"messages": [[
        constructed("SystemMessage", content="Help.", type="system"),
        constructed("HumanMessage", content="Where is my order?", type="human", example=False, additional_kwargs={}),
    ]]},
    "outputs": {
        "generations": [[{
            "text": "It arrives today.", "type": "ChatGeneration", "generation_info": {"finish_reason": "stop"},
            "message": constructed("AIMessage", content="It arrives today.", type="ai", id="run-1",
                                   response_metadata={"model_name": "gpt-4o-mini-2024-07-18"},
                                   usage_metadata={"input_tokens": 12, "output_tokens": 5, "total_tokens": 17}),
        }]],
        "llm_output": {"system_fingerprint": "fp_1"}, "run": None, "type": "LLMResult",
    },
    "extra": {"metadata": {"ls_provider": "openai", "ls_model_name": "gpt-4o-mini", "ls_temperature": 0.0},
              "invocation_params": {"model": "gpt-4o-mini", "temperature": 0}},
    "trace_id": ROOT, "dotted_order": f"{step(ROOT)}.{step(CALL, 1)}", "parent_run_id": ROOT, "session_id": PROJECT,
    "prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17, "total_cost": "0.0017",
}  # fmt: skip
TOOL_RUN: dict[str, Any] = {
    "id": TOOL, "name": "lookup", "run_type": "tool", "start_time": "2026-08-01T10:00:02.100000",
    "end_time": "2026-08-01T10:00:03", "status": "error", "error": "TimeoutError('slow')",
    "inputs": {"input": "{'order': 7}"}, "outputs": None, "extra": {}, "trace_id": ROOT,
    "dotted_order": f"{step(ROOT)}.{step(TOOL, 2)}", "parent_run_id": ROOT, "session_id": PROJECT,
    "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "total_cost": "0",
}  # fmt: skip
FEEDBACK: dict[str, Any] = {
    "id": "f1", "created_at": "2026-08-01T10:05:00", "modified_at": "2026-08-01T10:06:00", "run_id": ROOT,
    "trace_id": ROOT, "session_id": PROJECT, "key": "user_score", "score": 1.0, "value": None, "comment": "great",
    "correction": None, "feedback_source": {"type": "api", "metadata": {"device": "phone"}, "user_id": None},
    "feedback_group_id": None, "comparative_experiment_id": None, "start_time": "2026-08-01T10:00:00", "extra": None,
}  # fmt: skip
CORRECTED = {**FEEDBACK, "id": "f2", "key": "quality", "score": 0, "correction": {"answer": "Tomorrow."}}
SAMPLES = [ROOT_RUN, CALL_RUN, TOOL_RUN, {**ROOT_RUN, "child_runs": [CALL_RUN, TOOL_RUN]}, FEEDBACK, CORRECTED]


def span_of(record: dict[str, Any]) -> Row:
    (span,) = import_run(record, "langsmith").spans
    return span


def signals_of(**changes: Any) -> list[Row]:
    return import_feedback({**FEEDBACK, **changes}, "langsmith").signals


def signal_of(**changes: Any) -> Row:
    (signal,) = signals_of(**changes)
    return signal


# ---- recognition


def test_runs_and_feedback_are_recognised_by_their_keys() -> None:
    assert [recognise_record(each) for each in (ROOT_RUN, CALL_RUN, TOOL_RUN)] == [Format.LANGSMITH_RUNS] * 3
    assert recognise_columns(ROOT_RUN) is Format.LANGSMITH_RUNS
    assert recognise_record(FEEDBACK) is Format.LANGSMITH_FEEDBACK
    assert recognise_record({"run_id": ROOT, "key": "k", "score": 1}) is Format.LANGSMITH_FEEDBACK
    assert recognise_record({"key": "a", "value": 1}) is Format.MAPPED
    assert recognise_record({"id": "x", "run_type": "nightly"}) is Format.MAPPED


# ---- runs


def test_a_model_call() -> None:
    span = span_of(CALL_RUN)
    assert span == {
        "trace_id": ROOT, "span_id": CALL, "parent_span_id": ROOT, "source": "langsmith", "kind": "llm",
        "name": "ChatOpenAI", "started_at": AT.replace(second=1), "ended_at": AT.replace(second=2), "status": "ok",
        "model": "gpt-4o-mini", "input_tokens": 12, "output_tokens": 5, "cost_usd": 0.0017,
        "input": '[{"role": "system", "content": "Help."}, {"role": "user", "content": "Where is my order?"}]',
        "output": "It arrives today.", "attributes": span["attributes"],
    }  # fmt: skip
    attributes = span["attributes"]
    assert attributes["ls_provider"] == "openai"
    assert attributes["extra"] == {"invocation_params": {"model": "gpt-4o-mini", "temperature": 0}}
    assert attributes["project_id"] == PROJECT
    assert attributes["run_type"] == "llm"
    assert attributes["outputs"]["llm_output"] == {"system_fingerprint": "fp_1"}
    assert attributes["outputs"]["message"]["response_metadata"] == {"model_name": "gpt-4o-mini-2024-07-18"}
    assert attributes["outputs"]["generation"]["generation_info"] == {"finish_reason": "stop"}


def test_session_id_is_the_project_and_never_a_conversation() -> None:
    assert "session_id" not in span_of(CALL_RUN)
    assert "session_id" not in span_of(CALL_RUN)["attributes"]
    root = span_of(ROOT_RUN)
    assert (root["session_id"], root["user_id"], root["agent_version"]) == ("thread-1", "ada", "v7")
    assert root["attributes"]["project_id"] == PROJECT
    (signal,) = import_feedback(FEEDBACK, "langsmith").signals
    assert "session_id" not in signal
    assert signal["metadata"]["project_id"] == PROJECT


@pytest.mark.parametrize("name", ["thread_id", "session_id", "conversation_id"])
def test_a_conversation_is_named_in_the_metadata(name: str) -> None:
    extra = {"metadata": {name: "c9"}}
    assert span_of({**CALL_RUN, "extra": extra})["session_id"] == "c9"
    # cells of the bulk export hold JSON text
    assert span_of({**CALL_RUN, "extra": json.dumps(extra)})["session_id"] == "c9"


def test_the_trace_of_a_root() -> None:
    (trace,) = import_run(ROOT_RUN, "langsmith").traces
    assert trace == {
        "trace_id": ROOT, "source": "langsmith", "agent": "support-agent", "agent_version": "v7", "user_id": "ada",
        "session_id": "thread-1", "arm": "bold", "started_at": AT,
        "ended_at": AT.replace(second=3, microsecond=500_000),
        "status": "ok", "input": "Where is my order?", "output": "It arrives today.", "metadata": trace["metadata"],
    }  # fmt: skip
    assert trace["metadata"]["tier"] == "gold"
    assert trace["metadata"]["tags"] == ["web"]
    assert import_run(CALL_RUN, "langsmith").traces == []


def test_feedback_stats_are_data_and_no_signals() -> None:
    rows = import_run(ROOT_RUN, "langsmith")
    assert rows.signals == []
    assert rows.traces[0]["metadata"]["feedback_stats"] == {"user_score": {"n": 2, "avg": 0.5}}


def test_times_without_a_zone_are_utc() -> None:
    assert span_of(CALL_RUN)["started_at"] == AT.replace(second=1)
    zoned = span_of({**CALL_RUN, "start_time": "2026-08-01T12:00:01+02:00"})
    assert zoned["started_at"] == AT.replace(second=1)


def test_dotted_order_repairs_the_hierarchy() -> None:
    bare = {key: CALL_RUN[key] for key in ("id", "name", "run_type", "dotted_order", "start_time")}
    span = span_of(bare)
    assert (span["trace_id"], span["parent_span_id"]) == (ROOT, ROOT)
    deep = span_of({**bare, "id": TOOL, "dotted_order": f"{step(ROOT)}.{step(CALL, 1)}.{step(TOOL, 2)}"})
    assert (deep["trace_id"], deep["span_id"], deep["parent_span_id"]) == (ROOT, TOOL, CALL)
    unnamed = span_of({**bare, "id": None})
    assert unnamed["span_id"] == CALL
    wrong = span_of({**CALL_RUN, "parent_run_id": TOOL, "trace_id": TOOL})
    assert (wrong["trace_id"], wrong["parent_span_id"]) == (ROOT, ROOT)
    assert (wrong["attributes"]["trace_id"], wrong["attributes"]["parent_run_id"]) == (TOOL, TOOL)


@pytest.mark.parametrize("dotted", [None, "", "nonsense", f"{step(ROOT)}.broken", step(TOOL)])
def test_without_a_path_what_the_run_states_counts(dotted: str | None) -> None:
    span = span_of({**CALL_RUN, "dotted_order": dotted})
    assert (span["trace_id"], span["parent_span_id"]) == (ROOT, ROOT)
    listed = {**CALL_RUN, "dotted_order": dotted, "trace_id": None, "parent_run_id": None, "parent_run_ids": [ROOT]}
    assert span_of(listed)["parent_span_id"] == ROOT
    assert span_of({**ROOT_RUN, "dotted_order": dotted, "trace_id": None})["trace_id"] == ROOT


def test_ids_are_told_alike_however_they_are_written() -> None:
    span = span_of({**CALL_RUN, "id": CALL.upper(), "trace_id": ROOT.replace("-", ""), "dotted_order": None})
    assert (span["trace_id"], span["span_id"]) == (ROOT, CALL)


def test_carried_children_become_spans() -> None:
    bare = [{key: run[key] for key in ("id", "name", "run_type")} for run in (CALL_RUN, TOOL_RUN)]
    rows = import_run({**ROOT_RUN, "child_runs": [bare[0] | {"child_runs": [bare[1]]}]}, "langsmith")
    found = [(span["trace_id"], span["span_id"], span.get("parent_span_id")) for span in rows.spans]
    assert found == [(ROOT, ROOT, None), (ROOT, CALL, ROOT), (ROOT, TOOL, CALL)]


def test_costs_are_texts_and_zeros_of_no_model_call_say_nothing() -> None:
    assert span_of(CALL_RUN)["cost_usd"] == pytest.approx(0.0017)
    assert {"input_tokens", "output_tokens", "cost_usd"}.isdisjoint(span_of(TOOL_RUN))
    free = span_of({**CALL_RUN, "total_cost": "0"})
    assert free["cost_usd"] == 0.0
    unknown = {**CALL_RUN, "prompt_tokens": None, "completion_tokens": None, "total_cost": None}
    assert (span_of(unknown)["input_tokens"], span_of(unknown)["output_tokens"]) == (12, 5)


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [("success", None, "ok"), ("error", "x", "error"), ("pending", None, None), (None, "x", "error"), ("", "", None)],
)
def test_states(status: str | None, error: str | None, expected: str | None) -> None:
    span = span_of({**CALL_RUN, "status": status, "error": error})
    assert (span.get("status"), span.get("status_message")) == (expected, error or None)


@pytest.mark.parametrize(
    ("run_type", "kind"),
    [("llm", "llm"), ("chain", "chain"), ("tool", "tool"), ("retriever", "retriever"), ("embedding", "embedding"),
     ("prompt", "other"), ("parser", "other"), ("novel", "other")],
)  # fmt: skip
def test_kinds_of_runs(run_type: str, kind: str) -> None:
    span = span_of({**CALL_RUN, "run_type": run_type})
    assert (span["kind"], span["attributes"]["run_type"]) == (kind, run_type)


@pytest.mark.parametrize(
    ("message", "plain"),
    [
        ({"type": "human", "data": {"content": "hi", "type": "human", "example": False}}, {"content": "hi"}),
        ({"type": "human", "content": "hi", "id": "m"}, {"content": "hi", "id": "m"}),
        ({"role": "user", "content": "hi"}, {"content": "hi"}),
        (constructed("HumanMessage", content="hi"), {"content": "hi"}),
        (constructed("HumanMessageChunk", content=[{"type": "text", "text": "hi"}], type="HumanMessageChunk"),
         {"content": [{"type": "text", "text": "hi"}]}),
        (constructed("ChatMessage", content="hi", role="user"), {"content": "hi"}),
    ],
)  # fmt: skip
def test_messages_of_langchain_are_unwrapped(message: dict[str, Any], plain: dict[str, Any]) -> None:
    span = span_of({**CALL_RUN, "inputs": {"messages": [message]}})
    assert json.loads(span["input"]) == [{"role": "user", **plain}]


def test_other_objects_keep_what_they_are() -> None:
    document = {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "document", "Document"],
                "kwargs": {"page_content": "text", "metadata": {"source": "a.md"}}}  # fmt: skip
    opaque = {"lc": 1, "type": "not_implemented", "id": ["my", "Class"], "repr": "Class()"}
    span = span_of({**CALL_RUN, "outputs": {"documents": [document], "opaque": opaque}})
    assert json.loads(span["output"]) == {
        "documents": [{"type": "Document", "page_content": "text", "metadata": {"source": "a.md"}}], "opaque": opaque,
    }  # fmt: skip


def test_a_message_that_calls_tools_stays_whole() -> None:
    call = {"name": "lookup", "args": {"order": 7}, "id": "c1", "type": "tool_call"}
    message = constructed("AIMessage", content="", tool_calls=[call], type="ai")
    span = span_of({**CALL_RUN, "outputs": {"generations": [[{"text": "", "message": message}]]}})
    assert json.loads(span["output"]) == [{"role": "assistant", "tool_calls": [call]}]
    choices = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi."}}], "model": "m"}
    span = span_of({**CALL_RUN, "outputs": choices})
    assert span["output"] == "Hi."
    assert span["attributes"]["outputs"]["model"] == "m"


def test_inputs_of_functions() -> None:
    assert span_of(TOOL_RUN)["input"] == "{'order': 7}"
    assert span_of({**TOOL_RUN, "inputs": {"city": "Rome", "days": 2}})["input"] == '{"city": "Rome", "days": 2}'
    assert span_of({**TOOL_RUN, "outputs": {"output": "sunny"}})["output"] == "sunny"


# ---- feedback


def test_a_feedback_of_a_user() -> None:
    signal = signal_of()
    assert signal == {
        "signal_id": "f1", "trace_id": ROOT, "span_id": ROOT, "name": "user_score", "source": "langsmith",
        "kind": "thumb", "value": 1.0, "text": "great", "annotator_kind": "user", "occurred_at": AT.replace(minute=6),
        "metadata": {
            "created_at": "2026-08-01T10:05:00", "modified_at": "2026-08-01T10:06:00", "project_id": PROJECT,
            "start_time": "2026-08-01T10:00:00",
            "feedback_source": {"type": "api", "metadata": {"device": "phone"}},
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "kind", "value", "annotator"),
    [
        ({"score": True}, "thumb", 1.0, "user"),
        ({"score": "false"}, "thumb", 0.0, "user"),
        ({"score": 0.7}, "annotation", 0.7, "user"),
        ({"key": "user_rating", "score": 4}, "rating", 0.75, "user"),
        ({"key": "correctness", "score": 1}, "annotation", 1.0, None),
        ({"key": "user_intent_met", "score": 1}, "annotation", 1.0, None),
        ({"key": "correctness", "feedback_source": {"type": "model"}}, "judge", 1.0, "llm"),
        ({"key": "user_score", "feedback_source": {"type": "auto_eval"}, "score": 0.2}, "judge", 0.2, "llm"),
        ({"key": "user_score", "feedback_source": {"type": "auto-eval-x"}, "score": 0.2}, "judge", 0.2, "llm"),
        ({"key": "quality", "feedback_source": {"type": "app", "user_id": "op"}}, "annotation", 1.0, "operator"),
        ({"key": "note", "feedback_source": {"type": "app"}, "score": None}, "comment", None, "operator"),
        ({"key": "topic", "score": None, "value": "billing", "comment": None}, "annotation", None, None),
        ({"key": "topic", "score": None, "value": {"a": 1}, "comment": None}, "annotation", None, None),
        ({"key": "stars", "score": None, "value": 5}, "rating", 1.0, "user"),
        ({"key": "better", "feedback_group_id": "g1", "score": 1}, "preference", 1.0, None),
        ({"feedback_source": json.dumps({"type": "app", "user_name": "Op"})}, "annotation", 1.0, "operator"),
    ],
)  # fmt: skip
def test_kinds_of_feedback(changes: dict[str, Any], kind: str, value: float | None, annotator: str | None) -> None:
    signal = signal_of(**changes)
    assert (signal["kind"], signal.get("value"), signal.get("annotator_kind")) == (kind, value, annotator)


def test_labels_values_and_authors_are_kept() -> None:
    assert signal_of(key="topic", score=None, value="billing", comment=None)["text"] == "billing"
    both = signal_of(key="topic", score=None, value="billing", comment="clear")
    assert (both["text"], both["metadata"]["label"]) == ("clear", "billing")
    assert signal_of(key="topic", score=None, value={"a": 1})["metadata"]["value"] == {"a": 1}
    assert signal_of(feedback_source={"type": "app", "user_id": "op-1"})["annotator_id"] == "op-1"
    assert signal_of(feedback_group_id="g1")["metadata"]["feedback_group_id"] == "g1"


def test_a_correction_is_a_signal_of_its_own() -> None:
    score, correction = import_feedback(CORRECTED, "langsmith").signals
    assert (score["signal_id"], score["kind"], score["value"]) == ("f2", "annotation", 0.0)
    assert (correction["signal_id"], correction["kind"]) == ("f2-correction", "correction")
    assert correction["text"] == '{"answer": "Tomorrow."}'
    assert correction["metadata"]["correction"] == {"answer": "Tomorrow."}
    alone = signal_of(score=None, comment=None, correction="Tomorrow.")
    assert (alone["signal_id"], alone["kind"], alone["text"]) == ("f1", "correction", "Tomorrow.")
    assert "value" not in alone


@pytest.mark.parametrize(
    ("importer", "record", "column", "reason"),
    [
        (import_run, {"run_type": "llm"}, "id", "expected the id of the run"),
        (import_run, {"id": "x", "parent_run_id": "y"}, "trace_id", "expected the id of the trace"),
        (import_run, {**CALL_RUN, "prompt_tokens": "many"}, "prompt_tokens", "finite number"),
        (import_run, {**CALL_RUN, "total_cost": "free"}, "total_cost", "finite number"),
        (import_run, {**CALL_RUN, "start_time": "soon"}, "start_time", "ISO"),
        (import_run, {**CALL_RUN, "child_runs": [{"name": "x"}]}, "child_runs[0].id", "id of the run"),
        (import_feedback, {"id": "f", "key": "k"}, "score", "expected a score, value, comment or correction"),
        (import_feedback, {**FEEDBACK, "score": "high"}, "score", "finite number"),
        (import_feedback, {**FEEDBACK, "modified_at": "x"}, "modified_at", "ISO"),
    ],
)
def test_wrong_types_name_the_field(importer: Any, record: dict[str, Any], column: str, reason: str) -> None:
    with pytest.raises(RecordRejected) as caught:
        importer(record, "langsmith")
    assert caught.value.column == column
    assert reason in caught.value.reason


# ---- any JSON value


@given(damaged(SAMPLES), st.sampled_from([Format.LANGSMITH_RUNS, Format.LANGSMITH_FEEDBACK]))
@settings(deadline=None, max_examples=250, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_damaged_records_give_rows_or_a_reject(record: dict[str, Any], name: Format) -> None:
    importer = importer_for(name)
    assert importer is not None
    check(importer, record)


KEYS = sorted(set().union(*map(keys_in, SAMPLES)))


@given(st.sampled_from([import_run, import_feedback]), anything(KEYS))
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_any_value_gives_rows_or_a_reject(importer: Any, record: Any) -> None:
    check(importer, record)


# ---- through the pipeline


def bulk_export(folder: Path, runs: list[dict[str, Any]]) -> Path:
    """One file of a bulk export: naive timestamps, objects as JSON texts, in a folder named for its partition."""
    place = folder / "export_id=e" / "tenant_id=t" / f"session_id={PROJECT}" / "runs" / "year=2026" / "month=08"
    place.mkdir(parents=True)
    cells = [
        {
            key: datetime.fromisoformat(each) if key in ("start_time", "end_time")
            else json.dumps(each) if isinstance(each, dict | list) else each
            for key, each in run.items()
        }
        for run in runs
    ]  # fmt: skip
    columns = list(dict.fromkeys(key for run in cells for key in run))
    pq.write_table(pa.table({key: [run.get(key) for run in cells] for key in columns}), place / "part-0.parquet")
    return place / "part-0.parquet"


@pytest.mark.parametrize(
    "name", ["runs.jsonl", "runs.json", "runs.jsonl.gz", "envelope.json", "bulk.parquet", "frame.csv", "frame.parquet"]
)
def test_runs_of_every_container_give_the_same_store(store: Store, tmp_path: Path, name: str) -> None:
    runs = [ROOT_RUN, CALL_RUN, TOOL_RUN]
    if name == "bulk.parquet":
        path = bulk_export(tmp_path, runs)
    elif name.startswith("frame."):
        path = tmp_path / name
        frame = pd.DataFrame([{**run, "prompt_tokens": run["prompt_tokens"] or None} for run in runs])
        if name == "frame.csv":
            frame.to_csv(path, index=False)
        else:
            texts = {key: frame[key].map(json.dumps) for key in ("inputs", "outputs", "extra", "tags", "events")}
            frame[[key for key in frame if key in runs[2]]].assign(**texts).to_parquet(path)
    elif name == "envelope.json":
        path = tmp_path / name
        path.write_text(json.dumps({"runs": runs, "cursors": {"next": None}}))
    else:
        path = write_rows(tmp_path, name, runs)
    report = loaded(store, path)
    assert (report.format, report.source, report.accepted, report.rejected) == ("langsmith-runs", "langsmith", 3, 0)
    held = state(store)
    assert loaded(store, path).duplicate == 3
    assert state(store) == held
    (trace,) = table(store, "SELECT * FROM traces").to_dicts()
    # the root repeats what its model call used
    assert (trace["input_tokens"], trace["output_tokens"], trace["cost_usd"]) == (12, 5, 0.0017)
    assert (trace["agent"], trace["session_id"], trace["status"], trace["tool_count"]) == (
        "support-agent", "thread-1", "ok", 1,
    )  # fmt: skip
    assert {span["span_id"]: span["parent_span_id"] for span in rows_of(store, "spans")} == {
        ROOT: None, CALL: ROOT, TOOL: ROOT,
    }  # fmt: skip


def test_feedback_finds_its_trace_and_an_update_replaces_it(store: Store, tmp_path: Path) -> None:
    loaded(store, write_rows(tmp_path, "runs.jsonl", [ROOT_RUN, CALL_RUN]))
    report = loaded(store, write_rows(tmp_path, "feedback.jsonl", [FEEDBACK, CORRECTED, {"id": "f3", "key": "k"}]))
    assert (report.format, report.accepted, report.rejected) == ("langsmith-feedback", 2, 1)
    later = {**FEEDBACK, "score": 0.0, "modified_at": "2026-08-01T11:00:00"}
    for name, record in (("new.jsonl", later), ("old.jsonl", FEEDBACK)):
        loaded(store, write_rows(tmp_path, name, [record]))
    held = {row["signal_id"]: row for row in rows_of(store, "signals")}
    assert set(held) == {"f1", "f2", "f2-correction"}
    assert (held["f1"]["value"], held["f1"]["trace_id"]) == (0.0, ROOT)


def test_runs_and_feedback_may_share_a_file(store: Store, tmp_path: Path) -> None:
    report = loaded(store, write_rows(tmp_path, "mixed.jsonl", [ROOT_RUN, CALL_RUN, FEEDBACK]))
    assert (report.accepted, report.spans, report.signals) == (3, 2, 1)
