"""Opik's documents, CSV of new and older SDKs, bare traces and spans: every trap of its exports."""

import csv
import io
import json
from copy import deepcopy
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from import_checks import check, damaged, keys_in, odd_values
from loading import loaded, rejects_of, rows_of, table
from publishing import state

from pipelines.ingest.formats import Format, importer_for, recognise_columns, recognise_record
from pipelines.ingest.layouts.opik import import_document, import_row, import_span, import_trace
from pipelines.ingest.layouts.opik_cells import read_cell, unflattened
from pipelines.ingest.layouts.opik_columns import TRACE_FIELDS
from pipelines.ingest.rows import RecordRejected
from store.connection import Store

AT = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
TRACE_ID, ROOT_ID, CALL_ID, CHECK_ID = (f"0195f0c2-1111-7000-8000-00000000000{n}" for n in range(4))


def at(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def score(name: str, value: float, source: str, author: str, **more: Any) -> dict[str, Any]:
    """A feedback score as the SDK's model has it, with its author's entry."""
    entry = {"value": value, "reason": None, "category_name": None, "source": source, "last_updated_at": at(60)} | more
    return {
        "name": name, "category_name": None, "value": value, "reason": None, "source": source,
        "source_queue_id": None, "created_at": at(50), "last_updated_at": at(60), "created_by": author,
        "last_updated_by": author, "value_by_author": {author: entry},
    } | more  # fmt: skip


TWO_AUTHORS = {
    **score("helpfulness", 0.6, "ui", "ada@example.com"),
    "value_by_author": {
        "ada@example.com": {"value": 0.9, "reason": "clear", "category_name": "good", "source": "ui",
                            "last_updated_at": at(60)},
        "bob@example.com": {"value": 0.3, "reason": None, "category_name": None, "source": "ui",
                            "last_updated_at": at(90)},
    },
}  # fmt: skip
COMMON = {
    "project_id": "0195f0c2-0000-7000-8000-0000000000aa", "error_info": None, "created_at": at(1),
    "last_updated_at": at(2), "created_by": "admin", "last_updated_by": "admin", "environment": "production",
}  # fmt: skip
TRACE: dict[str, Any] = {
    **COMMON, "id": TRACE_ID, "name": "support-agent", "start_time": at(0), "end_time": at(3.5),
    "input": {"messages": [{"role": "user", "content": "où?"}], "top_k": 3}, "output": {"answer": "ici"},
    "metadata": {"user_id": "user-7", "steer.arm": "a"}, "tags": ["beta"],
    "usage": {"prompt_tokens": 120, "completion_tokens": 30, "total_tokens": 150},
    "feedback_scores": [
        TWO_AUTHORS,
        score("hallucination", 0.0, "online_scoring", "judge-gpt", reason="grounded"),
        score("user_feedback", 1.0, "sdk", "backend"),
        score("accuracy", 0.75, "sdk", "backend"),
    ],
    "span_feedback_scores": [{"name": "relevance", "value": 0.5, "source": "sdk"}],
    "comments": [{"id": "c-1", "text": "look here", "created_at": at(70), "last_updated_at": at(70),
                  "created_by": "ada@example.com", "last_updated_by": "ada@example.com"}],
    "guardrails_validations": [{"span_id": CHECK_ID, "checks": [{"name": "PII", "result": "passed"},
                                                               {"name": "TOPIC", "result": "failed"}]}],
    "total_estimated_cost": 0.0021, "span_count": 3, "duration": 3500.0, "ttft": 210.0, "thread_id": "thread-1",
    "visibility_mode": "default", "llm_span_count": 1, "has_tool_spans": False, "providers": ["openai"],
    "experiment": None, "annotation_queues": [], "source": "sdk",
}  # fmt: skip
SPANS: list[dict[str, Any]] = [
    {**COMMON, "id": ROOT_ID, "trace_id": TRACE_ID, "parent_span_id": None, "name": "plan", "type": "general",
     "start_time": at(0), "end_time": at(3), "input": {"q": "où?"}, "output": {"a": "ici"}, "metadata": None,
     "tags": [], "usage": None, "feedback_scores": [], "comments": [], "duration": 3000.0, "model": None,
     "provider": None, "total_estimated_cost": None, "total_estimated_cost_version": None},
    {**COMMON, "id": CALL_ID, "trace_id": TRACE_ID, "parent_span_id": ROOT_ID, "name": "chat", "type": "llm",
     "start_time": at(1), "end_time": at(2), "input": {"messages": [{"role": "user", "content": "où?"}]},
     "output": {"text": "ici"}, "metadata": {"temperature": 0.2}, "tags": ["x"],
     "usage": {"prompt_tokens": 120, "completion_tokens": 30, "total_tokens": 150,
               "original_usage.prompt_tokens": 120},
     "feedback_scores": [score("relevance", 0.5, "sdk", "backend")], "comments": [], "duration": 1000.0,
     "model": "gpt-5-mini", "provider": "openai", "total_estimated_cost": 0.0021, "total_estimated_cost_version": "v1"},
    {**COMMON, "id": CHECK_ID, "trace_id": TRACE_ID, "parent_span_id": ROOT_ID, "name": "Guardrail",
     "type": "guardrail", "start_time": at(2), "end_time": at(2.5), "input": {"g": "ici"}, "output": {}, "metadata": {},
     "tags": [], "usage": None, "feedback_scores": [], "comments": [], "duration": 500.0, "model": None,
     "provider": None, "total_estimated_cost": None, "total_estimated_cost_version": None,
     "error_info": {"exception_type": "GuardrailValidationFailed", "message": "off topic", "traceback": "File x"}},
]  # fmt: skip


def exported(trace: dict[str, Any], spans: list[dict[str, Any]]) -> dict[str, Any]:
    """A file of the JSON export: times are written by `json.dump(default=str)`, with a space."""
    document = {
        "trace": trace, "spans": spans, "downloaded_at": "2026-11-21T08:00:00.000000", "project_name": "support",
        "attachments": [{"entity_type": "trace", "entity_id": TRACE_ID, "file_name": "a.png", "mime_type": "image/png",
                         "file_size": 12}],
    }  # fmt: skip
    written: dict[str, Any] = json.loads(json.dumps(document, default=str))
    return written


def flattened(data: dict[str, Any], prefix: str, *, nested: bool) -> dict[str, Any]:
    """Columns of a trace or span as the SDK's CSV export makes them; older SDKs do not flatten what is nested."""
    columns: dict[str, Any] = {}
    for key, value in data.items():
        name = f"{prefix}_{key}"
        if isinstance(value, dict) and value and nested:
            columns |= flattened(value, name, nested=nested)
        elif isinstance(value, dict | list):
            columns[name] = str(value)
        else:
            columns[name] = "" if value is None else value
    return columns


def csv_rows(trace: dict[str, Any], spans: list[dict[str, Any]], *, nested: bool) -> list[dict[str, Any]]:
    of_trace = flattened(trace, "trace", nested=nested)
    if not spans:
        return [{**of_trace, **{f"span_{key}": "" for key in trace}, "span_parent_span_id": ""}]
    return [{**of_trace, **flattened(span, "span", nested=nested)} for span in spans]


def csv_text(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO(newline="")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def read_back(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list(csv.DictReader(io.StringIO(csv_text(rows), newline="")))


DOCUMENT = exported(TRACE, SPANS)
NEW_ROWS, OLD_ROWS = (read_back(csv_rows(TRACE, SPANS, nested=nested)) for nested in (True, False))
BARE_TRACE, BARE_SPAN = deepcopy(DOCUMENT["trace"]), deepcopy(DOCUMENT["spans"][1])
SAMPLES = {
    Format.OPIK_DOCUMENT: [DOCUMENT],
    Format.OPIK_ROWS: [*NEW_ROWS, *OLD_ROWS],
    Format.OPIK_TRACES: [BARE_TRACE],
    Format.OPIK_SPANS: [BARE_SPAN],
}
ALL = [sample for samples in SAMPLES.values() for sample in samples]


# ---- recognition


def test_all_its_files_are_recognised() -> None:
    for name, samples in SAMPLES.items():
        for sample in samples:
            assert recognise_record(sample) is name
            assert recognise_columns(sample) is name
    (bare,) = read_back(csv_rows(TRACE, [], nested=True))
    assert recognise_columns(bare) is Format.OPIK_ROWS


def test_a_langfuse_document_has_a_trace_too() -> None:
    langfuse = {"trace": {"id": "t", "timestamp": "2026-08-01"}, "observations": []}
    assert recognise_record(langfuse) is Format.LANGFUSE_DOCUMENT
    assert recognise_record({**langfuse, "spans": []}) is Format.LANGFUSE_DOCUMENT
    assert recognise_record({"trace": DOCUMENT["trace"], "spans": []}) is Format.OPIK_DOCUMENT
    mlflow = {"trace_id": "tr-1", "trace": "{}", "state": "OK", "spans": "[]", "assessments": "[]"}
    assert recognise_columns(mlflow) is not Format.OPIK_DOCUMENT
    assert recognise_record({"trace": "a text", "spans": [], "project_name": "p"}) is Format.MAPPED


def test_spans_of_other_systems_are_left_alone() -> None:
    assert recognise_columns(["id", "trace_id", "parent_span_id", "type", "start_time"]) is Format.MAPPED
    assert recognise_columns(["id", "start_time", "project_id", "name"]) is Format.MAPPED
    blob = ["id", "trace_id", "project_id", "type", "parent_observation_id", "start_time", "level", "usage_details"]
    assert recognise_columns(blob) is Format.LANGFUSE_OBSERVATIONS
    assert recognise_columns(["trace_id", "span_id", "parent_span_id", "name", "started_at"]) is Format.SPANS


# ---- the document


def test_the_trace() -> None:
    rows = import_document(DOCUMENT, "opik")
    (trace,) = rows.traces
    metadata = trace.pop("metadata")
    assert trace == {
        "trace_id": TRACE_ID, "source": "opik", "agent": "support-agent", "session_id": "thread-1", "user_id": "user-7",
        "arm": "a", "started_at": at(0), "ended_at": at(3.5), "status": "ok", "input_tokens": 120, "output_tokens": 30,
        "cost_usd": 0.0021, "input": json.dumps(TRACE["input"], ensure_ascii=False), "output": '{"answer": "ici"}',
    }  # fmt: skip
    kept = (
        "environment",
        "span_count",
        "ttft",
        "visibility_mode",
        "providers",
        "span_feedback_scores",
        "tags",
        "usage",
    )
    assert {name: metadata[name] for name in kept} == {name: TRACE[name] for name in kept}
    assert metadata["document"] == {name: DOCUMENT[name] for name in ("attachments", "downloaded_at", "project_name")}
    assert metadata["user_id"] == "user-7"


def test_spans_of_all_types() -> None:
    spans = import_document(DOCUMENT, "opik").spans
    assert [(s["kind"], s["name"], s.get("parent_span_id"), s["status"]) for s in spans] == [
        ("other", "plan", None, "ok"), ("llm", "chat", ROOT_ID, "ok"), ("guardrail", "Guardrail", ROOT_ID, "error"),
    ]  # fmt: skip
    assert [(s["started_at"], s["ended_at"]) for s in spans] == [(at(0), at(3)), (at(1), at(2)), (at(2), at(2.5))]
    call = spans[1]
    assert (call["model"], call["input_tokens"], call["output_tokens"], call["cost_usd"]) == (
        "gpt-5-mini", 120, 30, 0.0021,
    )  # fmt: skip
    assert call["attributes"]["provider"] == "openai"
    assert call["attributes"]["temperature"] == 0.2
    assert spans[2]["status_message"] == "GuardrailValidationFailed: off topic"
    assert spans[2]["attributes"]["error_info"]["traceback"] == "File x"
    assert import_document(exported(TRACE, [{**SPANS[0], "type": "tool"}]), "opik").spans[0]["kind"] == "tool"


def test_scores_are_signals_of_each_author() -> None:
    signals = {(s.get("name"), s.get("annotator_id")): s for s in import_document(DOCUMENT, "opik").signals}
    ada, bob = signals["helpfulness", "ada@example.com"], signals["helpfulness", "bob@example.com"]
    assert (ada["kind"], ada["value"], ada["text"], ada["annotator_kind"]) == ("annotation", 0.9, "clear", "operator")
    assert ada["metadata"]["label"] == "good"
    assert (bob["value"], bob["occurred_at"]) == (0.3, at(90))
    assert bob["metadata"]["score"]["value"] == 0.6
    judged = signals["hallucination", "judge-gpt"]
    assert (judged["kind"], judged["annotator_kind"], judged["text"]) == ("judge", "llm", "grounded")
    thumb = signals["user_feedback", "backend"]
    assert (thumb["kind"], thumb["value"], thumb["annotator_kind"]) == ("thumb", 1.0, "user")
    plain = signals["accuracy", "backend"]
    assert (plain["kind"], plain["value"], plain.get("annotator_kind")) == ("annotation", 0.75, None)
    assert {s["trace_id"] for s in signals.values()} == {TRACE_ID}
    assert signals["relevance", "backend"]["span_id"] == CALL_ID


def test_scores_without_authors_have_their_last_editor() -> None:
    bare = {**score("tone", 1.0, "ui", "eve"), "value_by_author": None, "reason": "kind", "category_name": "warm"}
    (signal,) = import_document(exported({**TRACE, "feedback_scores": [bare]}, []), "opik").signals[:1]
    assert (signal["annotator_id"], signal["text"], signal["occurred_at"]) == ("eve", "kind", at(60))
    assert signal["metadata"]["label"] == "warm"
    authored = {**bare, "value_by_author": {"eve": {"value": 0.0, "source": "ui"}}}
    (again,) = import_document(exported({**TRACE, "feedback_scores": [authored]}, []), "opik").signals[:1]
    assert again["signal_id"] == signal["signal_id"], "the same judgement, changed"


def test_comments_and_guardrail_checks_are_signals() -> None:
    signals = import_document(DOCUMENT, "opik").signals
    (comment,) = [s for s in signals if s["kind"] == "comment"]
    assert comment["signal_id"] == "c-1"
    assert (comment["text"], comment["annotator_kind"], comment["annotator_id"], comment["occurred_at"]) == (
        "look here", "operator", "ada@example.com", at(70),
    )  # fmt: skip
    checks = {s["name"]: s for s in signals if s.get("annotator_kind") == "code"}
    assert {name: check["value"] for name, check in checks.items()} == {"PII": 1.0, "TOPIC": 0.0}
    assert {check["span_id"] for check in checks.values()} == {CHECK_ID}
    assert checks["TOPIC"]["metadata"]["result"] == "failed"


def test_the_user_may_be_a_tag_and_an_error_is_the_trace_s() -> None:
    trace = {**TRACE, "metadata": None, "tags": ["beta", "user: ada"], "error_info": {"message": "boom"}}
    (row,) = import_document(exported(trace, []), "opik").traces
    assert (row["user_id"], row["status"]) == ("ada", "error")
    unfinished = {**TRACE, "end_time": None, "duration": None, "total_estimated_cost": 0}
    (row,) = import_document(exported(unfinished, []), "opik").traces
    assert not {"ended_at", "status", "cost_usd"} & set(row)
    (row,) = import_document(exported({**TRACE, "end_time": None}, []), "opik").traces
    assert row["ended_at"] == at(3.5), "by its duration in milliseconds"


def test_nothing_of_a_document_is_dropped() -> None:
    rows = import_document(DOCUMENT, "opik")
    text = json.dumps([rows.traces, rows.spans, rows.signals], default=str, ensure_ascii=False)
    for word in ("0195f0c2-0000-7000-8000-0000000000aa", "a.png", "File x", "production", "top_k", "original_usage"):
        assert word in text
    for span, made in zip(DOCUMENT["spans"], rows.spans, strict=True):
        for name in ("usage", "duration", "created_by", "project_id", "type", "total_estimated_cost_version"):
            assert not span[name] or made["attributes"][name] == span[name]


# ---- the CSV


@pytest.mark.parametrize("lines", [NEW_ROWS, OLD_ROWS], ids=["new", "old"])
def test_csv_says_what_json_says(lines: list[dict[str, Any]]) -> None:
    document = import_document(DOCUMENT, "opik")
    made = [import_row(line, "opik") for line in lines]
    plain = {key: value for key, value in document.traces[0].items() if key not in ("metadata", "input")}
    for rows in made:
        (trace,) = rows.traces
        assert {key: trace[key] for key in plain} == plain
        assert json.loads(trace["input"]) in (TRACE["input"], {**TRACE["input"], "top_k": "3"})
    spans = [rows.spans[0] for rows in made]
    for span, expected in zip(spans, document.spans, strict=True):
        assert {key: span.get(key) for key in expected if key != "attributes"} == {
            key: value for key, value in expected.items() if key != "attributes"
        }
    expected_ids = {signal["signal_id"]: signal for signal in document.signals}
    found = {signal["signal_id"]: signal for rows in made for signal in rows.signals}
    assert found.keys() == expected_ids.keys()
    for signal_id, signal in found.items():
        told = {key: value for key, value in signal.items() if key != "metadata"}
        assert told == {key: value for key, value in expected_ids[signal_id].items() if key != "metadata"}


def test_a_trace_without_spans_has_one_line() -> None:
    (line,) = read_back(csv_rows(TRACE, [], nested=True))
    rows = import_row(line, "opik")
    assert rows.spans == []
    assert rows.traces[0]["trace_id"] == TRACE_ID
    assert len(rows.signals) == 8


def test_underscores_of_names_and_of_nesting() -> None:
    record = {
        "trace_id": "t", "trace_last_updated_at": "x", "trace_error_info_message": "m",
        "trace_usage_prompt_tokens": "3", "trace_tags": "['x']",
        "trace_input_messages": "[{'role': 'user'}]", "trace_total_estimated_cost": "0.5", "trace_custom_field": "c",
        "trace_metadata": "{'a': 1}", "trace_metadata_b": "2", "span_id": "s", "trace_output": "",
        "trace_name": "n", "trace_name_x": "y",
    }  # fmt: skip
    assert unflattened(record, "trace", TRACE_FIELDS) == {
        "id": "t", "last_updated_at": "x", "error_info": {"message": "m"}, "usage": {"prompt_tokens": "3"},
        "input": {"messages": [{"role": "user"}]}, "total_estimated_cost": "0.5", "custom_field": "c",
        "metadata": {"a": 1, "b": "2"}, "tags": ["x"], "name": "n", "name_x": "y",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        (str([{"at": datetime(2026, 11, 20, 10, tzinfo=UTC)}]), [{"at": "2026-11-20T10:00:00+00:00"}]),
        ("[datetime.datetime(2026, 1, 2, 3, 4, 5, 6)]", ["2026-01-02T03:04:05.000006+00:00"]),
        (str([datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=-3)))]), ["2026-01-02T00:00:00-03:00"]),
        ("[datetime.datetime(2026, 1, 2, tzinfo=TzInfo(UTC))]", ["2026-01-02T00:00:00+00:00"]),
        ("[datetime.datetime(2026, 1, 2, tzinfo=TzInfo(+02:00))]", ["2026-01-02T00:00:00+02:00"]),
        ("[datetime.datetime(2026, 1, 2, tzinfo=TzInfo(3600))]", ["2026-01-02T00:00:00+01:00"]),
        ("[Score(name='x', value=Decimal('0.5'), by=None)]", [{"name": "x", "value": "0.5", "by": None}]),
        (
            "[UUID('0195f0c2-1111-7000-8000-000000000000'), -1, nan]",
            ["0195f0c2-1111-7000-8000-000000000000", -1, "nan"],
        ),
        ('{"json": [true, null]}', {"json": [True, None]}),
        ("[datetime.datetime(2026, 13, 45)]", "[datetime.datetime(2026, 13, 45)]"),
        ("[__import__('os').system('x')]", "[__import__('os').system('x')]"),
        ("[a + b]", "[a + b]"),
        ("[<Enum.A: 1>]", "[<Enum.A: 1>]"),
        ("plain text", "plain text"),
        (7, 7),
    ],
)
def test_cells_in_python_s_notation(cell: Any, value: Any) -> None:
    assert read_cell(cell) == value


# ---- bare records and rejects


def test_bare_traces_and_spans() -> None:
    assert import_trace(BARE_TRACE, "opik").traces[0]["trace_id"] == TRACE_ID
    rows = import_span(BARE_SPAN, "opik")
    assert (rows.spans[0]["parent_span_id"], rows.spans[0]["trace_id"]) == (ROOT_ID, TRACE_ID)
    assert [signal["name"] for signal in rows.signals] == ["relevance"]


@pytest.mark.parametrize(
    ("path", "value", "column"),
    [
        (("trace", "id"), None, "trace.id"),
        (("trace", "start_time"), "yesterday", "trace.start_time"),
        (("trace", "feedback_scores"), 7, "trace.feedback_scores"),
        (("trace", "feedback_scores", 0, "value_by_author", "ada@example.com"), 7,
         "trace.feedback_scores[0].value_by_author.ada@example.com"),
        (("spans", 1, "usage", "prompt_tokens"), -1, "spans[1].usage.prompt_tokens"),
        (("spans", 0, "id"), None, "spans[0].id"),
        (("spans",), "none", "spans"),
    ],
)  # fmt: skip
def test_rejects_name_the_field(path: tuple[Any, ...], value: Any, column: str) -> None:
    record = deepcopy(DOCUMENT)
    holder: Any = record
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    with pytest.raises(RecordRejected) as rejected:
        import_document(record, "opik")
    assert rejected.value.column == column


# ---- through the pipeline


def write(folder: Path, kind: str) -> Path:
    path = folder / f"trace_{TRACE_ID}.{kind}"
    match kind:
        case "json":
            path.write_text(json.dumps(DOCUMENT, indent=2))
        case "jsonl":
            other = {**DOCUMENT, "trace": {**DOCUMENT["trace"], "id": "t-2"}, "spans": []}
            path.write_text(json.dumps(DOCUMENT) + "\n" + json.dumps(other) + "\n")
        case "csv":
            path.write_text(csv_text(csv_rows(TRACE, SPANS, nested=True)))
    return path


@pytest.mark.parametrize(("kind", "records"), [("json", 1), ("jsonl", 2), ("csv", 3)])
def test_loading_a_file_twice_gives_the_same_store(store: Store, tmp_path: Path, kind: str, records: int) -> None:
    path = write(tmp_path, kind)
    report = loaded(store, path)
    assert (report.source, report.received, report.accepted, report.rejected) == ("opik", records, records, 0)
    assert len(rows_of(store, "spans")) == 3
    trace = table(store, f"FROM traces WHERE trace_id = '{TRACE_ID}'").to_dicts()[0]
    assert (trace["agent"], trace["user_id"], trace["session_id"]) == ("support-agent", "user-7", "thread-1")
    assert (trace["input_tokens"], trace["output_tokens"], trace["cost_usd"]) == (120, 30, 0.0021)
    assert (trace["span_count"], trace["status"], trace["started_at"]) == (3, "ok", at(0))
    before = state(store)
    again = loaded(store, path)
    assert (again.accepted, again.duplicate) == (0, records)
    assert state(store) == before


def test_json_and_csv_of_one_trace_are_one_trace(store: Store, tmp_path: Path) -> None:
    loaded(store, write(tmp_path, "json"))
    count = len(rows_of(store, "signals"))
    loaded(store, write(tmp_path, "csv"))
    assert (len(rows_of(store, "spans")), len(rows_of(store, "signals"))) == (3, count)
    assert table(store, "SELECT count(*) AS n FROM traces")["n"][0] == 1


def test_a_bad_line_costs_only_itself(store: Store, tmp_path: Path) -> None:
    lines = csv_rows(TRACE, SPANS, nested=False)
    lines[1]["span_start_time"] = "soon"
    path = tmp_path / "export.csv"
    path.write_text(csv_text(lines))
    report = loaded(store, path)
    assert (report.received, report.accepted, report.rejected) == (3, 2, 1)
    (reject,) = rejects_of(store, report)
    assert reject[2] == "span_start_time"


# ---- any value


@given(damaged(ALL))
@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_damaged_records_give_rows_or_a_reject(record: dict[str, Any]) -> None:
    for name in SAMPLES:
        importer = importer_for(name)
        assert importer is not None
        check(importer, record)


@given(odd_values(keys_in(ALL)))
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_any_value_gives_rows_or_a_reject(record: Any) -> None:
    for importer in (import_document, import_row, import_trace, import_span):
        check(importer, record)
    recognise_record(record)


def test_records_nested_without_end_are_rejected() -> None:
    deep: Any = "x"
    for _ in range(10_000):
        deep = [deep]
    for sample in ALL:
        found = recognise_record({**sample, "deep": deep})
        assert found is recognise_record(sample)
        assert found is not None
        importer = importer_for(found)
        assert importer is not None
        with pytest.raises(RecordRejected, match="nested more than 64 levels"):
            importer({**sample, "deep": deep}, "source")
