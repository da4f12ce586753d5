"""Phoenix: spans as REST JSON and as a DataFrame, and annotations in both; samples shaped like captures of 20.26."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from importing import anything, check, damaged, keys_in
from loading import loaded, rejects_of, rows_of, table, write_rows
from publishing import state

from pipelines.ingest.formats import Format, importer_for, recognise_columns, recognise_record
from pipelines.ingest.layouts.phoenix import import_span
from pipelines.ingest.layouts.phoenix_annotations import import_annotation
from pipelines.ingest.repair import rejects_file
from pipelines.ingest.rows import RecordRejected, Row
from store.connection import Store
from store.errors import FileRejected

TRACE = "bca60d6cbf3b4a1f8c5d2e7f90a1b2c3"
AGENT = "97db0123456789ab"
CALL = "0f70fedcba987654"
AT = datetime(2026, 11, 20, 21, 22, 43, 258_012, tzinfo=UTC)

AGENT_SPAN: dict[str, Any] = {
    "id": "U3BhbjoxMjM=", "name": "support", "context": {"trace_id": TRACE, "span_id": AGENT}, "span_kind": "AGENT",
    "parent_id": None, "start_time": "2026-11-20T21:22:43.258012+00:00", "end_time": "2026-11-20T21:22:45+00:00",
    "status_code": "OK", "status_message": "",
    "attributes": {"user.id": "user-49", "session.id": "sess-499", "input.value": '{"q": "hi"}',
                   "output.value": "hello", "metadata.tier": "gold", "metadata.level": 2, "tag.tags": ["a", "b"]},
    "events": [],
}  # fmt: skip
CALL_SPAN: dict[str, Any] = {
    "id": "U3BhbjoxMjQ=", "name": "ChatCompletion", "context": {"trace_id": TRACE, "span_id": CALL},
    "span_kind": "LLM", "parent_id": AGENT, "start_time": "2026-11-20T21:22:43.500000+00:00",
    "end_time": "2026-11-20T21:22:44+00:00", "status_code": "UNSET", "status_message": "",
    "attributes": {
        "llm.model_name": "gpt-4o-mini", "llm.token_count.prompt": 12, "llm.token_count.completion": 5,
        "llm.input_messages.0.message.role": "user", "llm.input_messages.0.message.content": "hi",
        "llm.output_messages.0.message.role": "assistant", "llm.output_messages.0.message.content": "hello",
        "llm.invocation_parameters": '{"temperature": 0}',
    },
    "events": [{"name": "exception", "timestamp": "2026-11-20T21:22:43.900000+00:00",
                "attributes": {"exception.message": "retry", "exception.type": "Timeout"}}],
}  # fmt: skip
SPANS = [AGENT_SPAN, CALL_SPAN]

# as get_spans_dataframe() has them: a column for every attribute, lists of objects, metadata as one object
FRAME_ROWS: list[dict[str, Any]] = [
    {
        "name": "support", "span_kind": "AGENT", "parent_id": None, "start_time": AT,
        "end_time": datetime(2026, 11, 20, 21, 22, 45, tzinfo=UTC), "status_code": "OK", "status_message": "",
        "events": [], "context.span_id": AGENT, "context.trace_id": TRACE, "attributes.user.id": "user-49",
        "attributes.session.id": "sess-499", "attributes.input.value": '{"q": "hi"}',
        "attributes.output.value": "hello", "attributes.metadata": {"tier": "gold", "level": 2},
        "attributes.tag.tags": ["a", "b"],
    },
    {
        "name": "ChatCompletion", "span_kind": "LLM", "parent_id": AGENT,
        "start_time": datetime(2026, 11, 20, 21, 22, 43, 500_000, tzinfo=UTC),
        "end_time": datetime(2026, 11, 20, 21, 22, 44, tzinfo=UTC), "status_code": "UNSET", "status_message": "",
        "events": CALL_SPAN["events"], "context.span_id": CALL, "context.trace_id": TRACE,
        "attributes.llm.model_name": "gpt-4o-mini", "attributes.llm.token_count.prompt": 12.0,
        "attributes.llm.token_count.completion": 5.0,
        "attributes.llm.input_messages": [{"message.role": "user", "message.content": "hi"}],
        "attributes.llm.output_messages": [{"message.role": "assistant", "message.content": "hello"}],
        "attributes.llm.invocation_parameters": '{"temperature": 0}',
    },
]  # fmt: skip
ANNOTATION: dict[str, Any] = {
    "id": "U3BhbkFubm90YXRpb246MQ==", "created_at": "2026-11-20T21:30:00+00:00",
    "updated_at": "2026-11-20T21:31:00+00:00", "source": "API", "user_id": None, "name": "user_feedback",
    "annotator_kind": "HUMAN", "result": {"label": "thumbs-up", "score": 1.0, "explanation": "great"},
    "metadata": {"device": "phone"}, "identifier": "user-0", "span_id": CALL,
}  # fmt: skip
ON_TRACE = {**{k: v for k, v in ANNOTATION.items() if k != "span_id"}, "trace_id": TRACE}
ON_SESSION = {**{k: v for k, v in ANNOTATION.items() if k != "span_id"}, "session_id": "sess-499"}
FRAME_ANNOTATION: dict[str, Any] = {
    "span_id": CALL, "annotation_name": "user_feedback", "annotator_kind": "HUMAN", "metadata": "{'device': 'phone'}",
    "identifier": "user-0", "id": "U3BhbkFubm90YXRpb246MQ==", "created_at": "2026-11-20T21:30:00+00:00",
    "updated_at": "2026-11-20T21:31:00+00:00", "source": "API", "user_id": "", "result.label": "thumbs-up",
    "result.score": "1.0", "result.explanation": "great",
}  # fmt: skip
SAMPLES = [*SPANS, *FRAME_ROWS, ANNOTATION, ON_TRACE, ON_SESSION, FRAME_ANNOTATION]


def span_of(record: dict[str, Any]) -> Row:
    (span,) = import_span(record, "phoenix").spans
    return span


def signal_of(record: dict[str, Any] = ANNOTATION, **changes: Any) -> Row:
    (signal,) = import_annotation({**record, **changes}, "phoenix").signals
    return signal


def frame() -> pd.DataFrame:
    return pd.DataFrame(FRAME_ROWS).set_index("context.span_id", drop=False)


# ---- recognition


def test_records_are_recognised_by_their_keys() -> None:
    assert [recognise_record(span) for span in (*SPANS, *FRAME_ROWS)] == [Format.PHOENIX_SPANS] * 4
    assert recognise_columns(frame().columns) is Format.PHOENIX_SPANS
    for annotation in (ANNOTATION, ON_TRACE, ON_SESSION, FRAME_ANNOTATION):
        assert recognise_record(annotation) is Format.PHOENIX_ANNOTATIONS
    assert recognise_columns(FRAME_ANNOTATION) is Format.PHOENIX_ANNOTATIONS
    assert recognise_record({"context": "a text", "attributes": {}, "start_time": "x"}) is Format.MAPPED
    own = {"trace_id": "t", "span_id": "s", "kind": "thumb", "name": "n", "value": 1, "annotator_kind": "user"}
    assert recognise_record(own) is Format.SIGNALS


# ---- spans


def test_a_model_call() -> None:
    span = span_of(CALL_SPAN)
    assert (span["trace_id"], span["span_id"], span["parent_span_id"]) == (TRACE, CALL, AGENT)
    assert (span["kind"], span["name"], span["model"]) == ("llm", "ChatCompletion", "gpt-4o-mini")
    assert (span["input_tokens"], span["output_tokens"], span["output"]) == (12, 5, "hello")
    assert span["started_at"] == AT.replace(microsecond=500_000)
    assert span["ended_at"] == AT.replace(second=44, microsecond=0)
    assert "hi" in span["input"]
    assert span["attributes"]["phoenix.id"] == "U3BhbjoxMjQ="
    assert "retry" in json.dumps(span["attributes"])


def test_unset_says_nothing_about_success() -> None:
    assert "status" not in span_of(CALL_SPAN)
    assert span_of(AGENT_SPAN)["status"] == "ok"
    failed = span_of({**CALL_SPAN, "status_code": "ERROR", "status_message": "boom"})
    assert (failed["status"], failed["status_message"]) == ("error", "boom")


def test_users_sessions_and_metadata() -> None:
    span = span_of(AGENT_SPAN)
    assert (span["user_id"], span["session_id"], span["kind"]) == ("user-49", "sess-499", "agent")
    assert (span["input"], span["output"]) == ('{"q": "hi"}', "hello")
    assert json.loads(span["attributes"]["metadata"]) == {"tier": "gold", "level": 2}
    assert span["attributes"]["tag.tags"] == ["a", "b"]


def test_a_row_of_the_dataframe_is_the_same_span() -> None:
    for record, row in zip(SPANS, FRAME_ROWS, strict=True):
        span, told = span_of(record), span_of(row)
        assert told["attributes"] | {"phoenix.id": record["id"]} == span["attributes"]
        assert {**told, "attributes": {}} == {**span, "attributes": {}}
        # as CSV has it: missing cells empty, lists and objects in Python's notation, whole numbers as floats
        cells = {name: "" if cell is None else str(cell) for name, cell in row.items()}
        assert span_of(cells) == told


def test_texts_in_cells_stay_texts() -> None:
    row = {**FRAME_ROWS[0], "attributes.input.value": "[1, 2]", "attributes.output.value": "42"}
    span = span_of({name: str(cell) for name, cell in row.items()})
    assert (span["input"], span["output"]) == ("[1, 2]", "42")


@pytest.mark.parametrize(
    ("trace_id", "span_id"),
    [
        (TRACE.upper(), CALL.upper()),
        ("vKYNbL87Sh+MXS5/kKGyww==", "D3D+3LqYdlQ="),
        ("bca60d6c-bf3b-4a1f-8c5d-2e7f90a1b2c3", CALL),
    ],
)
def test_ids_become_lower_case_hexadecimal(trace_id: str, span_id: str) -> None:
    span = span_of({**CALL_SPAN, "context": {"trace_id": trace_id, "span_id": span_id}})
    assert (span["trace_id"], span["span_id"]) == (TRACE, CALL)


def test_annotations_on_the_span_are_signals() -> None:
    attributes = {
        "annotations.0.annotation.name": "quality", "annotations.0.annotation.score": 0.5,
        "annotations.0.annotation.annotator_kind": "LLM",
    }  # fmt: skip
    (signal,) = import_span({**CALL_SPAN, "attributes": attributes}, "phoenix").signals
    assert (signal["trace_id"], signal["span_id"], signal["name"], signal["value"]) == (TRACE, CALL, "quality", 0.5)
    row = {**FRAME_ROWS[1], "attributes.annotations": [{"annotation.name": "quality", "annotation.score": 0.5}]}
    (signal,) = import_span(row, "phoenix").signals
    assert (signal["name"], signal["value"]) == ("quality", 0.5)


def test_nothing_is_lost() -> None:
    span = span_of({**CALL_SPAN, "novel": {"a": 1}, "attributes": {"custom.flag": True, "custom.list": [1, 2]}})
    assert span["attributes"]["phoenix.novel"] == {"a": 1}
    assert (span["attributes"]["custom.flag"], span["attributes"]["custom.list"]) == (True, [1, 2])


# ---- annotations


def test_an_annotation_of_a_span() -> None:
    signal = signal_of()
    assert signal == {
        "signal_id": signal["signal_id"], "span_id": CALL, "name": "user_feedback", "source": "phoenix",
        "kind": "thumb", "value": 1.0, "text": "great", "annotator_kind": "user", "annotator_id": "user-0",
        "occurred_at": datetime(2026, 11, 20, 21, 31, tzinfo=UTC),
        "metadata": {
            "label": "thumbs-up", "device": "phone", "id": "U3BhbkFubm90YXRpb246MQ==", "annotator_kind": "HUMAN",
            "created_at": "2026-11-20T21:30:00+00:00", "updated_at": "2026-11-20T21:31:00+00:00", "source": "API",
            "identifier": "user-0",
        },
    }  # fmt: skip
    assert signal_of(FRAME_ANNOTATION) == signal


def test_annotations_of_traces_and_sessions() -> None:
    assert signal_of(ON_TRACE)["trace_id"] == TRACE
    assert signal_of(ON_SESSION)["session_id"] == "sess-499"
    ids = {signal_of(each)["signal_id"] for each in (ANNOTATION, ON_TRACE, ON_SESSION)}
    assert len(ids) == 3


def test_ids_are_those_by_which_phoenix_updates() -> None:
    first = signal_of()["signal_id"]
    assert signal_of(result={"score": 0.0}, updated_at="2026-11-21T00:00:00Z")["signal_id"] == first
    assert signal_of(id="U3BhbkFubm90YXRpb246Mg==")["signal_id"] == first
    assert signal_of(identifier="user-1")["signal_id"] != first
    assert signal_of(name="quality")["signal_id"] != first
    assert signal_of(span_id=AGENT)["signal_id"] != first


@pytest.mark.parametrize(
    ("changes", "kind", "value", "annotator"),
    [
        ({"annotator_kind": "LLM", "name": "hallucination"}, "judge", 1.0, "llm"),
        ({"annotator_kind": "CODE", "name": "exact_match"}, "annotation", 1.0, "code"),
        ({"annotator_kind": "CODE", "name": "task_success"}, "outcome", 1.0, "code"),
        ({"annotator_kind": "CODE", "name": "success", "result": {"score": 9}}, "annotation", 9.0, "code"),
        ({"source": "APP", "user_id": "VXNlcjox"}, "annotation", 1.0, "operator"),
        ({"result": {"score": 0}}, "thumb", 0.0, "user"),
        ({"name": "tone", "result": {"score": 0.3}}, "annotation", 0.3, "user"),
        ({"name": "tone", "result": {"label": "rude"}}, "annotation", None, "user"),
        ({"name": "tone", "result": {"label": "thumbs-down"}}, "thumb", 0.0, "user"),
        ({"result": {"explanation": "fine"}}, "comment", None, "user"),
        ({"annotator_kind": None, "name": "x"}, "annotation", 1.0, None),
    ],
)
def test_kinds_of_annotations(changes: dict[str, Any], kind: str, value: float | None, annotator: str | None) -> None:
    signal = signal_of(**changes)
    assert (signal["kind"], signal.get("value"), signal.get("annotator_kind")) == (kind, value, annotator)


def test_notes_are_comments() -> None:
    note = signal_of(name="note", result={"explanation": "ask billing"}, source="APP", identifier="")
    assert (note["kind"], note["text"], note["annotator_kind"]) == ("comment", "ask billing", "operator")
    other = signal_of(name="note", result={"explanation": "done"}, source="APP", identifier="")
    assert note["signal_id"] != other["signal_id"]


@pytest.mark.parametrize(
    ("importer", "record", "column", "reason"),
    [
        (import_span, {"context": {"trace_id": TRACE}}, "context.span_id", "expected a span's id"),
        (import_span, {"context.span_id": CALL}, "context.trace_id", "expected the id of the trace"),
        (import_span, {**CALL_SPAN, "start_time": "soon"}, "start_time", "ISO"),
        (import_span, {**CALL_SPAN, "attributes": [1]}, "attributes", "expected an object"),
        (import_span, {**CALL_SPAN, "events": [{"timestamp": "x"}]}, "events[0].timestamp", "ISO"),
        (import_annotation, {"name": "x", "result": {"score": 1}}, "span_id", "id of the span, trace or session"),
        (import_annotation, {**ANNOTATION, "result": {}}, "result", "expected a score, label or explanation"),
        (import_annotation, {**ANNOTATION, "result": {"score": "high"}}, "result.score", "finite number"),
    ],
)
def test_wrong_types_name_the_field(importer: Any, record: dict[str, Any], column: str, reason: str) -> None:
    with pytest.raises(RecordRejected) as caught:
        importer(record, "phoenix")
    assert caught.value.column == column
    assert reason in caught.value.reason


# ---- any JSON value


@given(damaged(SAMPLES), st.sampled_from([Format.PHOENIX_SPANS, Format.PHOENIX_ANNOTATIONS]))
@settings(deadline=None, max_examples=250, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_damaged_records_give_rows_or_a_reject(record: dict[str, Any], name: Format) -> None:
    importer = importer_for(name)
    assert importer is not None
    check(importer, record)


KEYS = sorted(set().union(*map(keys_in, SAMPLES)))


@given(st.sampled_from([import_span, import_annotation]), anything(KEYS))
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_any_value_gives_rows_or_a_reject(importer: Any, record: Any) -> None:
    check(importer, record)


# ---- through the pipeline


def write(folder: Path, name: str) -> Path:
    """The spans in one of the files that Phoenix and pandas write."""
    path = folder / name
    match name:
        case "page.json":
            path.write_text(json.dumps({"data": SPANS, "next_cursor": "U3BhbjoxMjU="}))
        case "frame.csv":
            frame().to_csv(path)
        case "frame.json":
            frame().reset_index(drop=True).to_json(path, orient="records", date_format="iso", date_unit="us")
        case "dataset.parquet":
            frame().reset_index(drop=True).to_parquet(path)
        case _:
            write_rows(folder, name, SPANS)
    return path


@pytest.mark.parametrize(
    "name", ["page.json", "spans.jsonl", "spans.json.gz", "frame.csv", "frame.json", "dataset.parquet"]
)
def test_spans_of_every_container_give_the_same_trace(store: Store, tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name)
    report = loaded(store, path)
    assert (report.format, report.source, report.accepted, report.rejected) == ("phoenix-spans", "phoenix", 2, 0)
    held = state(store)
    assert loaded(store, path).duplicate == 2
    assert state(store) == held
    (trace,) = table(store, "SELECT * FROM traces").to_dicts()
    assert (trace["trace_id"], trace["user_id"], trace["session_id"]) == (TRACE, "user-49", "sess-499")
    assert (trace["input"], trace["output"], trace["status"]) == ('{"q": "hi"}', "hello", "ok")
    assert (trace["input_tokens"], trace["output_tokens"], trace["model"]) == (12, 5, "gpt-4o-mini")
    call = next(span for span in rows_of(store, "spans") if span["span_id"] == CALL)
    assert (call["parent_span_id"], call["started_at"]) == (AGENT, AT.replace(microsecond=500_000))


def test_the_csv_has_its_index_twice(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path, "frame.csv")
    header = path.read_text().splitlines()[0].split(",")
    assert header.count("context.span_id") == 2
    text = path.read_text()
    # a row in which the two differ is refused, and comes back under the header it had
    other = text.rsplit(f"\n{CALL},", 1)
    for number in range(250):
        span = f"{number:016x}"
        other.insert(-1, text.rsplit("\n", 2)[-2].replace(CALL, span))
    lines = "\n".join(other[:-1]) + f"\nffffffffffffffff,{other[-1]}"
    path.write_text(lines)
    report = loaded(store, path)
    assert (report.accepted, report.rejected) == (251, 1)
    ((number, _, column, reason, _),) = rejects_of(store, report)
    assert (number, column) == (252, "context.span_id")
    assert reason == "column 'context.span_id' is there more than once, with different values"
    repair = rejects_file(store, report.batch_id)[1].decode().splitlines()
    assert repair[0].split(",") == header
    assert repair[1].startswith("ffffffffffffffff,")


def test_columns_of_one_name_that_differ_are_refused(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "frame.csv"
    path.write_text(f"context.span_id,context.span_id,context.trace_id,name\n{CALL},{AGENT},{TRACE},x\n")
    with pytest.raises(FileRejected, match="the same name more than once"):
        loaded(store, path)


@pytest.mark.parametrize("name", ["page.json", "annotations.jsonl", "annotations.csv", "annotations.parquet"])
def test_annotations_are_loaded_once(store: Store, tmp_path: Path, name: str) -> None:
    loaded(store, write(tmp_path, "spans.jsonl"))
    path = tmp_path / name
    rows = pd.DataFrame([{**FRAME_ANNOTATION, "metadata": {"device": "phone"}, "user_id": None, "result.score": 1.0}])
    match name:
        case "page.json":
            path.write_text(json.dumps({"data": [ANNOTATION], "next_cursor": None}))
        case "annotations.csv":
            rows.set_index("span_id").to_csv(path)
        case "annotations.parquet":
            rows.set_index("span_id").to_parquet(path)
        case _:
            write_rows(tmp_path, name, [ANNOTATION])
    report = loaded(store, path)
    assert (report.format, report.accepted, report.signals) == ("phoenix-annotations", 1, 1)
    assert loaded(store, path).duplicate == 1
    later = {**ANNOTATION, "result": {"score": 0.0}, "updated_at": "2026-11-21T08:00:00+00:00"}
    loaded(store, write_rows(tmp_path, "later.jsonl", [later]))
    (signal,) = rows_of(store, "signals")
    assert (signal["span_id"], signal["value"], signal["kind"]) == (CALL, 0.0, "thumb")
