"""Braintrust's rows in all containers: hierarchy, scores, corrections, and exports of whole traces without children."""

import json
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from import_checks import check, damaged, keys_in, odd_values
from loading import loaded, rejects_of, rows_of, table, write_rows
from publishing import state

from pipelines.ingest.formats import Format, importer_for, recognise_columns, recognise_record
from pipelines.ingest.layouts.braintrust import import_row
from pipelines.ingest.rows import RecordRejected, Row
from store.connection import Store

AT = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
START = AT.timestamp()
FIXED = {
    "project_id": "p-1",
    "log_id": "g",
    "org_id": "o-1",
    "_xact_id": "1000193",
    "created": "2026-11-20T10:00:00.5Z",
}

ROOT: dict[str, Any] = {
    **FIXED, "id": "row-1", "span_id": "span-1", "root_span_id": "span-1", "span_parents": None, "is_root": True,
    "input": {"question": "où?"}, "output": "ici", "expected": "là", "error": None, "tags": ["beta"],
    "scores": {"user_feedback": 1, "Factuality": 0.6, "not_judged": None, "user_rating": 4},
    "metadata": {"user_id": "ada", "session_id": "s-1", "plan": "pro"},
    "metrics": {"start": START, "end": START + 2.5},
    "span_attributes": {"name": "support-agent", "type": "task", "exec_counter": 0},
    "comments": [{"id": "c-1", "comment": {"text": "too short"}, "created": "2026-11-20T11:00:00Z",
                  "metadata": {"page": "review"}, "source": "app"}],
}  # fmt: skip
CALL: dict[str, Any] = {
    **FIXED, "id": "row-2", "span_id": "span-2", "root_span_id": "span-1", "span_parents": ["span-1"],
    "is_root": False, "input": [{"role": "user", "content": "où?"}], "output": [{"message": {"content": "ici"}}],
    "expected": None, "error": None, "scores": {}, "tags": None, "metadata": {"model": "gpt-5-mini", "temperature": 0},
    "metrics": {"start": START + 0.5, "end": START + 1.5, "prompt_tokens": 120, "completion_tokens": 30, "tokens": 150,
                "prompt_cached_tokens": 64, "estimated_cost": 0.0021},
    "span_attributes": {"name": "Chat Completion", "type": "llm", "exec_counter": 1},
}  # fmt: skip
TOOL: dict[str, Any] = {
    **FIXED, "id": "row-3", "span_id": "span-3", "root_span_id": "span-1", "span_parents": ["span-1", "span-2"],
    "is_root": False, "input": {"city": "Lyon"}, "output": None, "expected": None, "scores": None, "metadata": {},
    "error": "Timeout: no answer", "metrics": {"start": START + 1.5, "end": START + 2},
    "span_attributes": {"name": "lookup", "type": "tool", "exec_counter": 2},
}  # fmt: skip
SCORER: dict[str, Any] = {
    **FIXED, "id": "row-4", "span_id": "span-4", "root_span_id": "span-1", "span_parents": ["span-1"],
    "is_root": False, "input": {"output": "ici", "expected": "là"}, "output": {"score": 0.6},
    "scores": {"Factuality": 0.6}, "metadata": {}, "metrics": {"start": START + 2, "end": START + 2.2},
    "span_attributes": {"name": "Factuality", "type": "score", "purpose": "scorer"},
}  # fmt: skip
SPANS = [ROOT, CALL, TOOL, SCORER]
# a row of the export of "Logs (traces)": totals of the whole trace, children are nowhere
TRACE_ONLY: dict[str, Any] = {
    **{name: value for name, value in ROOT.items() if name not in ("metrics", "comments")}, "id": "row-9",
    "span_id": "span-9", "root_span_id": "span-9",
    "metrics": {"duration": 2.5, "llm_duration": 1.0, "prompt_tokens": 120, "completion_tokens": 30,
                "total_tokens": 150, "llm_calls": 1, "tool_calls": 1, "estimated_cost": 0.0021},
}  # fmt: skip


def span_of(record: dict[str, Any]) -> Row:
    (span,) = import_row(record, "braintrust").spans
    return span


def test_rows_are_recognised_in_every_container() -> None:
    for record in [*SPANS, TRACE_ONLY]:
        assert recognise_record(record) is Format.BRAINTRUST
        assert recognise_columns(record) is Format.BRAINTRUST
    query = ["id", "span_id", "root_span_id", "input", "output", "scores", "metadata"]
    assert recognise_columns(query) is Format.BRAINTRUST
    interface = ["id", "created", "input", "output", "expected", "scores", "metrics", "span_attributes"]
    assert recognise_columns(interface) is Format.BRAINTRUST
    assert recognise_columns(["id", "input", "output", "expected"]) is Format.MAPPED
    assert recognise_columns(["trace_id", "span_id", "name", "metrics"]) is Format.SPANS


def test_the_root() -> None:
    span = span_of(ROOT)
    attributes = span.pop("attributes")
    assert span == {
        "trace_id": "span-1", "span_id": "span-1", "source": "braintrust", "kind": "chain", "name": "support-agent",
        "ordinal": 0, "started_at": AT, "ended_at": AT + timedelta(seconds=2.5), "status": "ok",
        "input": '{"question": "où?"}', "output": "ici", "user_id": "ada", "session_id": "s-1",
    }  # fmt: skip
    for name in ("id", "project_id", "log_id", "org_id", "_xact_id", "created", "tags", "metrics", "span_attributes"):
        assert attributes[name] == ROOT[name]
    assert attributes["plan"] == "pro"


def test_children_and_what_they_used() -> None:
    call, tool, scorer = map(span_of, (CALL, TOOL, SCORER))
    assert [(s["kind"], s["parent_span_id"], s["trace_id"]) for s in (call, tool, scorer)] == [
        ("llm", "span-1", "span-1"), ("tool", "span-1", "span-1"), ("evaluator", "span-1", "span-1"),
    ]  # fmt: skip
    assert (call["model"], call["input_tokens"], call["output_tokens"], call["cost_usd"]) == (
        "gpt-5-mini", 120, 30, 0.0021,
    )  # fmt: skip
    assert call["attributes"]["metrics"]["prompt_cached_tokens"] == 64
    assert (tool["status"], tool["status_message"]) == ("error", "Timeout: no answer")
    assert tool["links"] == [{"trace_id": "span-1", "span_id": "span-2"}]
    assert tool["started_at"] == AT + timedelta(seconds=1.5)


def test_a_parent_by_its_single_name_and_ids_of_rows() -> None:
    other = {name: value for name, value in CALL.items() if name not in ("span_parents", "is_root")}
    assert span_of({**other, "parent_span_id": "span-1"})["parent_span_id"] == "span-1"
    assert span_of({**other, "parent_id": "span-1"})["parent_span_id"] == "span-1"
    assert "parent_span_id" not in span_of({**other, "is_root": "true", "span_parents": ["elsewhere"]})
    assert span_of({**other, "is_root": True, "span_parents": ["x"]})["attributes"]["span_parents"] == ["x"]
    bare = {name: value for name, value in ROOT.items() if name not in ("span_id", "root_span_id")}
    assert (span_of(bare)["trace_id"], span_of(bare)["span_id"]) == ("row-1", "row-1")


def test_scores_corrections_and_comments_are_signals() -> None:
    signals = {signal.get("name", signal["kind"]): signal for signal in import_row(ROOT, "b").signals}
    assert set(signals) == {"user_feedback", "Factuality", "user_rating", "expected", "comment"}
    assert {signal["trace_id"] for signal in signals.values()} == {"span-1"}
    assert {signal["session_id"] for signal in signals.values()} == {"s-1"}
    thumb = signals["user_feedback"]
    assert (thumb["kind"], thumb["value"], thumb["annotator_kind"]) == ("thumb", 1.0, "user")
    plain = signals["Factuality"]
    assert (plain["kind"], plain["value"], plain.get("annotator_kind")) == ("annotation", 0.6, None)
    rating = signals["user_rating"]
    assert (rating["kind"], rating["value"], rating["metadata"]["scale"]["original"]) == ("rating", 0.75, 4)
    correction = signals["expected"]
    assert (correction["kind"], correction["text"], correction["annotator_kind"]) == ("correction", "là", "user")
    comment = signals["comment"]
    assert (comment["signal_id"], comment["text"], comment["occurred_at"]) == (
        "c-1", "too short", datetime(2026, 11, 20, 11, 0, tzinfo=UTC),
    )  # fmt: skip
    assert comment["metadata"] == {"metadata": {"page": "review"}, "source": "app"}
    (judged,) = import_row(SCORER, "b").signals
    assert (judged["kind"], judged["value"], judged["span_id"]) == ("judge", 0.6, "span-4")


def test_a_changed_score_is_the_same_signal() -> None:
    changed = {**ROOT, "scores": {"user_feedback": 0}, "_xact_id": "1000194"}
    before, after = import_row(ROOT, "b").signals[0], import_row(changed, "b").signals[0]
    assert (before["signal_id"], before["value"], after["value"]) == (after["signal_id"], 1.0, 0.0)


def test_a_structured_correction_and_the_reference_of_an_experiment() -> None:
    structured = {**CALL, "expected": {"answer": "là"}, "experiment_id": "e-1"}
    (correction,) = import_row(structured, "b").signals
    assert (correction["text"], correction["annotator_kind"]) == ('{"answer": "là"}', "operator")
    assert correction["metadata"] == {"expected": {"answer": "là"}}


def test_what_is_no_score_stays() -> None:
    rows = import_row({**CALL, "scores": {"tone": "warm", "ok": True}}, "b")
    assert [(signal["name"], signal["value"]) for signal in rows.signals] == [("ok", 1.0)]
    assert rows.spans[0]["attributes"]["scores"] == {"tone": "warm"}


def test_a_trace_without_child_spans_has_its_duration_and_totals() -> None:
    span = span_of(TRACE_ONLY)
    assert span["started_at"] == AT + timedelta(seconds=0.5), "its creation; nothing else is stated"
    assert span["ended_at"] - span["started_at"] == timedelta(seconds=2.5)
    assert (span["input_tokens"], span["output_tokens"], span["cost_usd"]) == (120, 30, 0.0021)
    assert span["attributes"]["metrics"]["llm_calls"] == 1


@pytest.mark.parametrize(
    ("field", "value", "column"),
    [
        ("metrics", {"start": "soon"}, "metrics.start"),
        ("metrics", {"prompt_tokens": -4}, "metrics.prompt_tokens"),
        ("span_parents", [7], "span_parents[0]"),
        ("created", "never", "created"),
        ("scores", 7, "scores"),
        ("span_id", {"a": 1}, "span_id"),
    ],
)
def test_rejects_name_the_field(field: str, value: Any, column: str) -> None:
    record = {**CALL, field: value}
    if field == "created":
        record["metrics"] = {}
    with pytest.raises(RecordRejected) as rejected:
        import_row(record, "b")
    assert rejected.value.column == column


def write(folder: Path, kind: str) -> Path:
    if kind == "envelope.json":
        path = folder / "query.json"
        path.write_text(json.dumps({"data": SPANS, "schema": {"type": "array"}, "cursor": "x"}))
        return path
    if kind == "nested.parquet":
        path = folder / "automation.parquet"
        # what differs in type from row to row is JSON text, as a warehouse has it
        rows = [{**row, "input": json.dumps(row["input"]), "output": json.dumps(row["output"])} for row in SPANS]
        pl.DataFrame(rows, infer_schema_length=None).write_parquet(path)
        return path
    return write_rows(folder, f"logs.{kind}", SPANS)


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "parquet", "envelope.json", "nested.parquet"])
def test_loading_a_file_twice_gives_the_same_store(store: Store, tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind)
    report = loaded(store, path)
    assert (report.source, report.received, report.accepted, report.rejected) == ("braintrust", 4, 4, 0)
    assert (report.spans, report.signals) == (4, 6)
    (trace,) = table(store, "FROM traces").to_dicts()
    assert (trace["trace_id"], trace["agent"], trace["user_id"], trace["session_id"]) == (
        "span-1", "support-agent", "ada", "s-1",
    )  # fmt: skip
    assert (trace["model"], trace["input_tokens"], trace["cost_usd"], trace["tool_count"]) == (
        "gpt-5-mini", 120, 0.0021, 1,
    )  # fmt: skip
    assert (trace["started_at"], trace["ended_at"]) == (AT, AT + timedelta(seconds=2.5))
    before = state(store)
    again = loaded(store, path)
    assert (again.accepted, again.duplicate) == (0, 4)
    assert state(store) == before


def test_whole_traces_first_and_their_spans_later(store: Store, tmp_path: Path) -> None:
    whole = {**TRACE_ONLY, "id": "row-1", "span_id": "span-1", "root_span_id": "span-1"}
    loaded(store, write_rows(tmp_path, "traces.jsonl", [whole]))
    assert table(store, "FROM traces")["input_tokens"].to_list() == [120]
    loaded(store, write_rows(tmp_path, "spans.jsonl", SPANS))
    (trace,) = table(store, "FROM traces").to_dicts()
    assert (trace["span_count"], trace["input_tokens"], trace["cost_usd"]) == (4, 120, 0.0021)


def test_a_bad_row_costs_only_itself(store: Store, tmp_path: Path) -> None:
    bad = {**deepcopy(CALL), "id": "row-8", "span_id": "span-8", "metrics": {"start": "soon"}}
    report = loaded(store, write_rows(tmp_path, "logs.jsonl", [ROOT, bad, TOOL]))
    assert (report.received, report.accepted, report.rejected) == (3, 2, 1)
    assert rejects_of(store, report)[0][2] == "metrics.start"
    assert len(rows_of(store, "spans")) == 2


@given(damaged([*SPANS, TRACE_ONLY]))
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_damaged_records_give_rows_or_a_reject(record: dict[str, Any]) -> None:
    check(import_row, record)


@given(odd_values(keys_in(SPANS)))
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_any_value_gives_rows_or_a_reject(record: Any) -> None:
    check(import_row, record)
    recognise_record(record)


def test_records_nested_without_end_are_rejected() -> None:
    deep: Any = "x"
    for _ in range(10_000):
        deep = [deep]
    for sample in SPANS:
        found = recognise_record({**sample, "deep": deep})
        assert found is recognise_record(sample)
        assert found is not None
        importer = importer_for(found)
        assert importer is not None
        with pytest.raises(RecordRejected, match="nested more than 64 levels"):
            importer({**sample, "deep": deep}, "source")
