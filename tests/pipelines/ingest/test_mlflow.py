"""MLflow: traces as `to_dict()` and `search_traces()` give them, with assessments; samples shaped like 3.17's."""

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from importing import anything, check, damaged, keys_in
from loading import loaded, rows_of, table, write_rows
from publishing import state

from pipelines.ingest.formats import Format, recognise_columns, recognise_record
from pipelines.ingest.layouts.mlflow import import_trace, trace_id_of
from pipelines.ingest.rows import RecordRejected, Row, Rows
from store.connection import Store

TRACE = "5850dc87f424da8d3bd356ddec489a89"
AGENT = "bbb7d9c115f1e3c8"
CALL = "0102030405060708"
AT = datetime(2026, 11, 20, 22, 26, 14, 62_000, tzinfo=UTC)
NS = 1_795_213_574_062_000_000


def b64(digits: str) -> str:
    return base64.b64encode(bytes.fromhex(digits)).decode()


FEEDBACK: dict[str, Any] = {
    "assessment_id": "a-1", "assessment_name": "user_feedback", "trace_id": f"tr-{TRACE}",
    "source": {"source_type": "HUMAN", "source_id": "user-1"}, "create_time": "2026-11-20T22:30:00Z",
    "last_update_time": "2026-11-20T22:31:00Z", "feedback": {"value": True}, "rationale": "good", "valid": True,
    "metadata": {"device": "phone"},
}  # fmt: skip
EXPECTED: dict[str, Any] = {
    "assessment_id": "a-2", "assessment_name": "expected_response", "trace_id": f"tr-{TRACE}", "span_id": CALL,
    "source": {"source_type": "HUMAN", "source_id": "expert"}, "create_time": "2026-11-20T22:30:00Z",
    "last_update_time": "2026-11-20T22:30:00Z", "expectation": {"value": "Hello!"}, "valid": True,
}  # fmt: skip
INFO: dict[str, Any] = {
    "trace_id": f"tr-{TRACE}",
    "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "1"}},
    "request_time": "2026-11-20T22:26:14.062Z", "state": "OK",
    "trace_metadata": {
        "mlflow.trace.user": "user-1", "mlflow.trace.session": "sess-1",
        "mlflow.trace.tokenUsage": '{"input_tokens": 5, "output_tokens": 3, "total_tokens": 8}',
        "mlflow.traceInputs": '{"q": "hello"}', "mlflow.traceOutputs": '"hi"', "mlflow.trace_schema.version": "3",
        "steer.arm": "bold",
    },
    "assessments": [FEEDBACK, EXPECTED],
    "tags": {"mlflow.traceName": "agent", "team": "support"},
    "request_preview": '{"q": "hello"}', "response_preview": '"hi"', "execution_duration_ms": 35,
}  # fmt: skip
AGENT_SPAN: dict[str, Any] = {
    "trace_id": b64(TRACE), "span_id": b64(AGENT), "parent_span_id": None, "name": "agent",
    "start_time_unix_nano": NS, "end_time_unix_nano": NS + 35_000_000, "events": [],
    "status": {"code": "STATUS_CODE_OK", "message": ""},
    "attributes": {"mlflow.traceRequestId": f'"tr-{TRACE}"', "mlflow.spanType": '"AGENT"',
                   "mlflow.spanInputs": '{"q": "hello"}', "mlflow.spanOutputs": '"hi"'},
    "links": [],
}  # fmt: skip
CALL_SPAN: dict[str, Any] = {
    "trace_id": b64(TRACE), "span_id": b64(CALL), "parent_span_id": b64(AGENT), "name": "Completions",
    "start_time_unix_nano": NS + 1_000_000, "end_time_unix_nano": NS + 9_000_000,
    "events": [{"name": "exception", "time_unix_nano": NS + 8_000_000,
                "attributes": {"exception.message": "too slow", "exception.type": "Timeout"}}],
    "status": {"code": "STATUS_CODE_ERROR", "message": "too slow"},
    "attributes": {"mlflow.spanType": '"CHAT_MODEL"', "mlflow.spanInputs": '{"messages": [{"role": "user"}]}',
                   "mlflow.chat.tokenUsage": '{"input_tokens": 5, "output_tokens": 3, "total_tokens": 8}',
                   "mlflow.llm.model": '"gpt-4o-mini"', "colour": '"blue"', "size": "3"},
    "links": [{"trace_id": f"tr-{TRACE}", "span_id": b64(AGENT), "attributes": {"why": "retry"}}],
}  # fmt: skip
DOCUMENT = {"info": INFO, "data": {"spans": [AGENT_SPAN, CALL_SPAN]}}
JUDGED = {
    **FEEDBACK, "assessment_id": "a-3", "assessment_name": "correctness", "feedback": {"value": "yes"},
    "source": {"source_type": "LLM_JUDGE", "source_id": "openai:/gpt-4o"},
}  # fmt: skip
ROW: dict[str, Any] = {
    "trace_id": f"tr-{TRACE}", "trace": json.dumps(DOCUMENT), "client_request_id": None, "state": "TraceState.OK",
    "request_time": 1_795_213_574_062, "execution_duration": 35, "request": {"q": "hello"}, "response": "hi",
    "trace_metadata": INFO["trace_metadata"], "tags": INFO["tags"], "spans": [AGENT_SPAN], "assessments": [FEEDBACK],
}  # fmt: skip
SAMPLES = [
    DOCUMENT, INFO, ROW, {"info": {**INFO, "assessments": [JUDGED, {**FEEDBACK, "overrides": "a-0"}]}, "data": {}},
]  # fmt: skip


def read(record: dict[str, Any] = DOCUMENT) -> Rows:
    return import_trace(record, "mlflow")


def assessed(*assessments: dict[str, Any]) -> list[Row]:
    return read({"info": {**INFO, "assessments": list(assessments)}, "data": {"spans": []}}).signals


def spans_with(**changes: Any) -> Row:
    return read({"info": INFO, "data": {"spans": [{**CALL_SPAN, **changes}]}}).spans[0]


# ---- recognition


def test_records_are_recognised_by_their_keys() -> None:
    assert [recognise_record(each) for each in SAMPLES] == [Format.MLFLOW_TRACES] * len(SAMPLES)
    assert recognise_columns(ROW) is Format.MLFLOW_TRACES
    assert recognise_record({"info": {"a": 1}, "data": {}}) is Format.MAPPED
    assert recognise_record({"info": "text", "data": {}}) is Format.MAPPED
    assert recognise_record({"trace_id": "t", "trace": "x"}) is Format.MAPPED


# ---- ids


@pytest.mark.parametrize(
    "written", [f"tr-{TRACE}", TRACE, TRACE.upper(), b64(TRACE), f"trace:/main.traces/{TRACE}", f"tr-{TRACE.upper()}"]
)
def test_a_trace_has_one_id_in_every_notation(written: str) -> None:
    assert trace_id_of(written) == TRACE


def test_trace_spans_and_assessments_are_of_one_trace() -> None:
    rows = read()
    assert {row["trace_id"] for row in (*rows.traces, *rows.spans, *rows.signals)} == {TRACE}
    assert [(span["span_id"], span.get("parent_span_id")) for span in rows.spans] == [(AGENT, None), (CALL, AGENT)]
    assert rows.traces[0]["metadata"]["mlflow.trace_id"] == f"tr-{TRACE}"
    assert [signal.get("span_id") for signal in rows.signals] == [None, CALL]
    assert not any("mlflow.span_trace_id" in span["attributes"] for span in rows.spans)
    strange = spans_with(trace_id=b64("00" * 15 + "01"))
    assert strange["trace_id"] == TRACE
    assert strange["attributes"]["mlflow.span_trace_id"] == b64("00" * 15 + "01")


# ---- traces and spans


def test_the_trace() -> None:
    (trace,) = read().traces
    assert trace == {
        "trace_id": TRACE, "source": "mlflow", "agent": "agent", "user_id": "user-1", "session_id": "sess-1",
        "arm": "bold", "started_at": AT, "ended_at": AT.replace(microsecond=97_000), "status": "ok",
        "input_tokens": 5, "output_tokens": 3, "metadata": trace["metadata"],
    }  # fmt: skip
    assert trace["metadata"]["team"] == "support"
    assert trace["metadata"]["trace_location"]["mlflow_experiment"] == {"experiment_id": "1"}


def test_attributes_are_json_in_json() -> None:
    agent, call = read().spans
    assert (agent["kind"], agent["input"], agent["output"], agent["status"]) == ("agent", '{"q": "hello"}', "hi", "ok")
    assert (call["kind"], call["model"], call["input_tokens"], call["output_tokens"]) == ("llm", "gpt-4o-mini", 5, 3)
    assert (call["attributes"]["colour"], call["attributes"]["size"]) == ("blue", "3")
    assert agent["started_at"] == AT
    assert agent["ended_at"] == AT.replace(microsecond=97_000)


def test_what_went_wrong_is_kept() -> None:
    span = spans_with()
    assert (span["status"], span["status_message"]) == ("error", "too slow")
    assert "Timeout" in json.dumps(span["attributes"])
    assert span["links"] == [{"trace_id": TRACE, "span_id": AGENT, "attributes": {"why": "retry"}}]


@pytest.mark.parametrize(("state_of", "status"), [("OK", "ok"), ("ERROR", "error"), ("IN_PROGRESS", None)])
def test_states(state_of: str, status: str | None) -> None:
    (trace,) = read({"info": {**INFO, "state": state_of}, "data": {"spans": []}}).traces
    assert (trace.get("status"), trace["metadata"]["state"]) == (status, state_of)


def test_spans_of_older_versions() -> None:
    old = {
        "name": "call", "context": {"trace_id": f"0x{TRACE}", "span_id": CALL}, "parent_id": AGENT,
        "start_time": NS, "end_time": NS + 1_000_000, "status_code": "OK", "status_message": "",
        "attributes": {"mlflow.spanType": '"TOOL"'}, "events": [],
    }  # fmt: skip
    info = {
        "request_id": f"tr-{TRACE}", "experiment_id": "1", "timestamp_ms": 1_795_213_574_062, "execution_time_ms": 35,
        "status": "OK", "request_metadata": {"mlflow.trace.user": "user-1"},
        "tags": [{"key": "mlflow.traceName", "value": "agent"}],
    }  # fmt: skip
    record = {"info": info, "data": {"spans": [old]}}
    assert recognise_record(record) is Format.MLFLOW_TRACES
    rows = read(record)
    (trace,), (span,) = rows.traces, rows.spans
    assert (trace["started_at"], trace["status"], trace["user_id"], trace["agent"]) == (AT, "ok", "user-1", "agent")
    assert (span["span_id"], span["parent_span_id"], span["kind"], span["status"]) == (CALL, AGENT, "tool", "ok")
    assert "mlflow.span_trace_id" not in span["attributes"]


def test_an_info_alone_has_previews() -> None:
    rows = read(INFO)
    assert rows.spans == []
    assert (rows.traces[0]["input"], rows.traces[0]["output"]) == ('{"q": "hello"}', "hi")
    assert len(rows.signals) == 2


def test_of_a_searched_row_only_the_trace_is_read() -> None:
    broken = {**ROW, "assessments": "[<Assessment object>]", "request_time": "never", "tags": "{", "spans": 3}
    assert read(ROW) == read(broken) == read()


# ---- assessments


def test_feedback_of_a_user() -> None:
    (signal,) = assessed(FEEDBACK)
    assert signal == {
        "signal_id": "a-1", "trace_id": TRACE, "name": "user_feedback", "source": "mlflow", "kind": "thumb",
        "value": 1.0, "text": "good", "annotator_kind": "user", "annotator_id": "user-1",
        "occurred_at": datetime(2026, 11, 20, 22, 31, tzinfo=UTC),
        "metadata": {
            "device": "phone", "create_time": "2026-11-20T22:30:00Z", "last_update_time": "2026-11-20T22:31:00Z",
            "source": {"source_type": "HUMAN"},
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "kind", "value", "annotator"),
    [
        ({"feedback": {"value": False}}, "thumb", 0.0, "user"),
        ({"assessment_name": "is_right", "feedback": {"value": True}}, "thumb", 1.0, "user"),
        ({"assessment_name": "user_rating", "feedback": {"value": 4}}, "rating", 0.75, "user"),
        ({"assessment_name": "tone", "feedback": {"value": 0.3}}, "annotation", 0.3, "user"),
        ({"assessment_name": "tone", "feedback": {"value": "rude"}}, "annotation", None, "user"),
        ({**JUDGED}, "judge", 1.0, "llm"),
        ({**JUDGED, "feedback": {"value": "no"}}, "judge", 0.0, "llm"),
        ({**JUDGED, "feedback": {"value": "partly"}}, "judge", None, "llm"),
        ({**JUDGED, "feedback": {"value": {"a": 1}}}, "judge", None, "llm"),
        ({**JUDGED, "feedback": {"error": {"error_code": "X"}}}, "judge", None, "llm"),
        ({"source": {"source_type": "AI_JUDGE"}, "feedback": {"value": 0.5}}, "judge", 0.5, "llm"),
        ({"source": {"source_type": "CODE"}, "assessment_name": "len", "feedback": {"value": 7}}, "annotation", 7.0,
         "code"),
        ({"source": {"source_type": "CODE"}, "assessment_name": "success", "feedback": {"value": True}}, "outcome", 1.0,
         "code"),
    ],
)  # fmt: skip
def test_kinds_of_feedback(changes: dict[str, Any], kind: str, value: float | None, annotator: str) -> None:
    (signal,) = assessed({**FEEDBACK, **changes})
    assert (signal["kind"], signal.get("value"), signal["annotator_kind"]) == (kind, value, annotator)


def test_labels_and_values_are_kept() -> None:
    (judged,) = assessed(JUDGED)
    assert (judged["text"], judged["metadata"]["label"]) == ("good", "yes")
    (structured,) = assessed({**JUDGED, "feedback": {"value": [1, 2]}})
    assert structured["metadata"]["value"] == [1, 2]
    (failed,) = assessed({**JUDGED, "feedback": {"error": {"error_code": "X"}}})
    assert failed["metadata"]["error"] == {"error_code": "X"}


def test_an_expectation_is_a_correction() -> None:
    (signal,) = assessed(EXPECTED)
    assert (signal["signal_id"], signal["kind"], signal["text"]) == ("a-2", "correction", "Hello!")
    assert (signal["annotator_kind"], signal["annotator_id"], signal["span_id"]) == ("operator", "expert", CALL)
    (facts,) = assessed({**EXPECTED, "expectation": {"value": ["a", "b"]}})
    assert (facts["text"], facts["metadata"]["expected"]) == ('["a", "b"]', ["a", "b"])
    serialized = {"serialized_value": {"value": '["a"]', "serialization_format": "JSON"}}
    assert assessed({**EXPECTED, "expectation": serialized})[0]["metadata"]["expected"] == ["a"]


def test_what_is_not_valid_says_nothing() -> None:
    rows = read({"info": {**INFO, "assessments": [{**FEEDBACK, "valid": False}, EXPECTED]}, "data": {"spans": []}})
    assert [signal["signal_id"] for signal in rows.signals] == ["a-2"]
    assert [each["assessment_id"] for each in rows.traces[0]["metadata"]["invalid_assessments"]] == ["a-1"]


def test_an_override_takes_the_place_of_what_it_overrides() -> None:
    second = {**FEEDBACK, "assessment_id": "a-8", "overrides": "a-1", "feedback": {"value": False}}
    third = {**FEEDBACK, "assessment_id": "a-9", "overrides": "a-8", "rationale": "after all"}
    (signal,) = assessed({**FEEDBACK, "valid": False}, {**second, "valid": False}, third)
    assert (signal["signal_id"], signal["value"], signal["text"]) == ("a-1", 1.0, "after all")
    assert signal["metadata"]["assessment_id"] == "a-9"
    # the one before may be missing, or not be marked
    assert [each["signal_id"] for each in assessed(second)] == ["a-1"]
    (signal,) = assessed(FEEDBACK, second)
    assert (signal["signal_id"], signal["value"]) == ("a-1", 0.0)
    circle = {**FEEDBACK, "assessment_id": "a-1", "overrides": "a-8"}
    assert assessed(circle, second) == []


@pytest.mark.parametrize(
    ("record", "column", "reason"),
    [
        ({"info": {"state": "OK"}, "data": {}}, "info.trace_id", "expected the id of the trace"),
        ({"info": {**INFO, "request_time": "x"}, "data": {}}, "info.request_time", "ISO"),
        ({"info": INFO, "data": {"spans": [{"name": "x"}]}}, "data.spans[0].span_id", "expected the id of the span"),
        ({"info": INFO, "data": {"spans": [{**CALL_SPAN, "start_time_unix_nano": 5}]}},
         "data.spans[0].start_time_unix_nano", "1990"),
        ({"info": INFO, "data": {"spans": 3}}, "data.spans", "expected a list"),
        ({"info": {**INFO, "assessments": [{**FEEDBACK, "create_time": "x", "last_update_time": None}]}, "data": {}},
         "info.assessments[0].create_time", "ISO"),
        ({"info": {**INFO, "assessments": [{**EXPECTED, "expectation": {"value": None, "x": 1}}]}, "data": {}},
         "info.assessments[0].expectation.value", "expected the value that is expected"),
        ({"trace": "{", "trace_id": "x"}, "trace", "expected an object"),
    ],
)  # fmt: skip
def test_wrong_types_name_the_field(record: dict[str, Any], column: str, reason: str) -> None:
    with pytest.raises(RecordRejected) as caught:
        read(record)
    assert caught.value.column == column
    assert reason in caught.value.reason


# ---- any JSON value


@given(damaged(SAMPLES))
@settings(deadline=None, max_examples=250, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_damaged_records_give_rows_or_a_reject(record: dict[str, Any]) -> None:
    check(import_trace, record)


KEYS = sorted(set().union(*map(keys_in, SAMPLES)))


@given(anything(KEYS))
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_any_value_gives_rows_or_a_reject(record: Any) -> None:
    check(import_trace, record)


# ---- through the pipeline


def write(folder: Path, name: str) -> Path:
    """The trace in one of the files that MLflow and pandas write."""
    path = folder / name
    match name:
        case "trace.json":
            path.write_text(json.dumps(DOCUMENT, indent=2))
        case "page.json":
            path.write_text(json.dumps({"traces": [DOCUMENT], "next_page_token": ""}))
        case "search.csv":
            pd.DataFrame([ROW]).to_csv(path, index=False)
        case "search.parquet":
            frame = pd.DataFrame([ROW])[["trace_id", "trace", "state", "request_time", "execution_duration"]]
            frame.to_parquet(path)
        case _:
            write_rows(folder, name, [DOCUMENT])
    return path


@pytest.mark.parametrize(
    "name", ["trace.json", "page.json", "traces.jsonl", "traces.json", "search.csv", "search.parquet"]
)
def test_traces_of_every_container_give_the_same_store(store: Store, tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name)
    report = loaded(store, path)
    assert (report.format, report.source, report.accepted, report.rejected) == ("mlflow-traces", "mlflow", 1, 0)
    assert (report.traces, report.spans, report.signals) == (1, 2, 2)
    held = state(store)
    assert loaded(store, path).duplicate == 1
    loaded(store, write(tmp_path, "again.jsonl"))
    assert state(store) == held
    (trace,) = table(store, "SELECT * FROM traces").to_dicts()
    assert (trace["trace_id"], trace["user_id"], trace["session_id"]) == (TRACE, "user-1", "sess-1")
    assert (trace["input"], trace["output"], trace["input_tokens"]) == ('{"q": "hello"}', "hi", 5)


def test_a_later_override_replaces_the_signal(store: Store, tmp_path: Path) -> None:
    loaded(store, write_rows(tmp_path, "before.jsonl", [DOCUMENT]))
    later = {
        **FEEDBACK, "assessment_id": "a-9", "overrides": "a-1", "feedback": {"value": False},
        "last_update_time": "2026-11-21T08:00:00Z",
    }  # fmt: skip
    info = {**INFO, "assessments": [{**FEEDBACK, "valid": False}, EXPECTED, later]}
    loaded(store, write_rows(tmp_path, "after.jsonl", [{"info": info, "data": DOCUMENT["data"]}]))
    loaded(store, write_rows(tmp_path, "again.jsonl", [DOCUMENT]))
    held = {row["signal_id"]: row["value"] for row in rows_of(store, "signals")}
    assert held == {"a-1": 0.0, "a-2": None}
