"""Recognition by keys, and what every importer owes to any JSON value."""

import json
import math
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from importing import check as check_importer
from importing import places

from pipelines.ingest.formats import Format, importer_for, recognise_columns, recognise_record
from pipelines.ingest.layout_columns import (
    SIGNALS,
    SPANS,
    TRACES,
)
from pipelines.ingest.rows import RecordRejected

CHAT = {
    "id": "c1", "created": 1_785_578_400, "model": "m", "user": "u", "metadata": {"session_id": "s"},
    "messages": [
        {"role": "system", "content": "# Help"},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "assistant", "content": None, "function_call": None, "timestamp": "2026-08-01",
         "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "a", "name": "f", "content": "Error"},
    ],
    "response": {"id": "r", "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}}]},
    "usage": {"prompt_tokens": 1}, "feedback": {"rating": 4, "comment": "c", "created_at": "2026-08-01"}, "score": 1,
    "scores": {"a": 0.5}, "latency_ms": 5, "error": None,
}  # fmt: skip
WRAPPED = {"request": {"messages": CHAT["messages"], "user": "u"}, "response": {"body": CHAT["response"]}}
TAU = {
    "task_id": 0, "reward": 1.0, "trial": 0, "traj": CHAT["messages"],
    "info": {"task": {"user_id": "u", "actions": []}, "reward_info": {"info": {"r_actions": 1}}},
}  # fmt: skip
OBSERVATION = {
    "id": "o1", "traceId": "t1", "type": "SPAN", "startTime": "2026-08-01T10:00:00Z", "level": "DEFAULT",
    "parentObservationId": "o0", "latency": 2, "usageDetails": {"input": 1, "output": 2}, "costDetails": {"total": 1},
    "promptName": "p", "promptVersion": 1, "metadata": {"attributes": {"openinference.span.kind": "TOOL"}},
    "comments": [{"id": "k", "content": "x", "created_at": "2026-08-01"}], "quality": [0.5], "input": {"a": 1},
}  # fmt: skip
SCORE = {
    "id": "s1", "traceId": "t1", "name": "feedback", "dataType": "BOOLEAN", "source": "API", "value": 1,
    "subject": {"kind": "trace", "id": "t1"}, "comment": "c", "timestamp": "2026-08-01", "stringValue": "True",
}  # fmt: skip
TRACE = {
    "id": "t1", "timestamp": "2026-08-01", "name": "n", "environment": "e", "public": True, "tags": ["x"],
    "metadata": {"steer.arm": "a"}, "observations": [OBSERVATION], "scores": [SCORE], "latency": 1, "totalCost": 2,
}  # fmt: skip
SESSION = {"id": "s1", "userIds": ["u"], "countTraces": 1, "traces": [TRACE], "comments": [], "happy": [True]}

SAMPLES: dict[Format, list[dict[str, Any]]] = {
    Format.CHAT: [CHAT, WRAPPED],
    Format.TAU_BENCH: [TAU],
    Format.LANGFUSE_DOCUMENT: [{"trace": TRACE, "observations": [OBSERVATION], "scores": [SCORE]}],
    Format.LANGFUSE_TRACES: [TRACE],
    Format.LANGFUSE_OBSERVATIONS: [OBSERVATION],
    Format.LANGFUSE_EVENTS: [{**OBSERVATION, "latencyMs": 3}],
    Format.LANGFUSE_SCORES: [SCORE],
    Format.LANGFUSE_SESSIONS: [SESSION],
}
NESTED = [(name, sample) for name, samples in SAMPLES.items() for sample in samples]

INTERFACE_COLUMNS = {
    Format.LANGFUSE_TRACES: "id, timestamp, name, userId, sessionId, release, version, environment, tags, bookmarked, "
    "public, input, output, metadata, comments, accuracy",
    Format.LANGFUSE_EVENTS: "id, traceId, traceName, type, name, startTime, endTime, completionStartTime, environment, "
    "version, userId, sessionId, level, statusMessage, promptName, promptId, promptVersion, modelId, "
    "providedModelName, modelParameters, usageDetails, costDetails, totalCost, input, output, metadata, latencyMs, "
    "timeToFirstTokenMs, tags, release, parentObservationId, comments",
    Format.LANGFUSE_OBSERVATIONS: "id, traceId, startTime, endTime, projectId, parentObservationId, type, environment, "
    "name, level, statusMessage, version, createdAt, updatedAt, input, output, metadata, model, latency, traceName",
    Format.LANGFUSE_SCORES: "id, traceId, sessionId, datasetRunId, timestamp, source, name, dataType, value, "
    "stringValue, comment, metadata, observationId, traceName, userId, traceTags, environment, authorUserName",
    Format.LANGFUSE_SESSIONS: "id, userIds, countTraces, sessionDuration, inputCost, outputCost, totalCost, "
    "totalTokens, traceTags, createdAt, bookmarked, public, totalCount, comments",
}  # fmt: skip
BLOB_COLUMNS = {
    Format.LANGFUSE_TRACES: "id, timestamp, name, environment, project_id, metadata, user_id, session_id, release, "
    "version, public, bookmarked, tags, input, output, created_at, updated_at",
    Format.LANGFUSE_SCORES: "id, timestamp, project_id, environment, trace_id, observation_id, session_id, "
    "dataset_run_id, name, value, source, comment, data_type, string_value, created_at, updated_at",
    Format.LANGFUSE_OBSERVATIONS: "id, trace_id, project_id, environment, type, parent_observation_id, start_time, "
    "end_time, name, metadata, level, status_message, version, input, output, provided_model_name, usage_details, "
    "cost_details, total_cost, latency, user_id, session_id, bookmarked, public, tags, release, trace_name",
}  # fmt: skip


@pytest.mark.parametrize(("name", "sample"), NESTED)
def test_samples_are_recognised_by_their_keys(name: Format, sample: dict[str, Any]) -> None:
    assert recognise_record(sample) is name
    importer = importer_for(name)
    assert importer is not None
    rows = importer(sample, "source")
    assert rows.traces or rows.spans or rows.signals


@pytest.mark.parametrize("tables", [INTERFACE_COLUMNS, BLOB_COLUMNS])
def test_tables_are_recognised_by_their_columns(tables: dict[Format, str]) -> None:
    for name, columns in tables.items():
        assert recognise_columns(columns.split(", ")) is name
        assert recognise_record(dict.fromkeys(columns.split(", "), "")) is name


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        ([column.name for column in TRACES], Format.TRACES),
        ([column.name for column in SPANS], Format.SPANS),
        ([column.name for column in SIGNALS], Format.SIGNALS),
        (["trace_id", "input", "colour"], Format.TRACES),
        (["trace_id", "agent", "task"], Format.TRACES),
        (["trace_id", "span_id", "kind", "name"], Format.SPANS),
        (["trace_id", "kind", "value"], Format.SIGNALS),
        (["user_id", "kind", "item", "position"], Format.SIGNALS),
        (["trace_id", "span_id", "kind", "value"], Format.SIGNALS),
        (["messages"], Format.CHAT),
        (["task_id", "traj", "reward"], Format.TAU_BENCH),
        (["trace_id"], Format.MAPPED),
        (["trace_id", "thumbs", "user_id"], Format.MAPPED),
        (["user", "item", "position", "clicked", "time", "propensity"], Format.MAPPED),
        (["id", "trace_id", "run_type", "status", "start_time", "inputs"], Format.LANGSMITH_RUNS),
        (["id", "name", "price"], Format.MAPPED),
        (["timestamp", "item_id", "position", "click", "propensity_score"], Format.MAPPED),
        ([], None),
    ],
)
def test_own_layouts_and_others(columns: list[str], name: Format | None) -> None:
    assert recognise_columns(columns) is name


def test_values_decide_where_keys_do_not() -> None:
    assert recognise_record({"messages": "a text"}) is Format.MAPPED
    assert recognise_record({"messages": json.dumps(CHAT["messages"])}) is Format.CHAT
    assert recognise_record({"trace": {"name": "opik"}, "observations": []}) is Format.MAPPED
    assert recognise_record({"trace_id": "t", "span_id": "s", "kind": "click"}) is Format.SIGNALS
    assert recognise_record({"trace_id": "t", "span_id": "s", "kind": "tool"}) is Format.SPANS
    assert recognise_record({"trace_id": "t", "kind": "invoice", "value": 3}) is Format.MAPPED
    assert recognise_record({"trace_id": "t", "kind": "thumb", "value": 1}) is Format.SIGNALS
    assert recognise_record({}) is None


def test_real_files_are_recognised(shared_data: Path) -> None:
    (first, *_) = json.loads((shared_data / "tau_bench" / "gpt-4o-airline.json").read_text())
    assert recognise_record(first) is Format.TAU_BENCH
    outcomes = (shared_data / "dynamic_cheatsheet" / "outcomes.jsonl").read_text().splitlines()
    assert recognise_record(json.loads(outcomes[0])) is Format.MAPPED


def test_every_format_says_what_it_is_and_why() -> None:
    assert all(name.label and name.why.endswith(".") for name in Format)
    assert len({name.label for name in Format}) == len(Format)
    own = {Format.TRACES, Format.SPANS, Format.SIGNALS, Format.MAPPED}
    assert {name for name in Format if importer_for(name) is None} == own


# ---- what every importer owes to any JSON value

KEYS = sorted({key for _, sample in NESTED for key in sample} | {"content", "role", "id", "traceId", "min", "max"})
ODD_TEXTS = [
    "", " ", "2026-08-01T10:00:00Z", '"2026-08-01T10:00:00Z"', "1785578400", "NaN", "inf", "-1", "1e400", "9" * 5000,
    "[", "[1, 2]", '{"a": [1]}', "{'a': (1, 2)}", '["x"]', '"quoted"', "{1, 2}", "[" * 500, "\ud800", "\x00", "true",
    "thumbs_up", "user", "assistant", "tool", "CORRECTION", "EVAL", "CATEGORICAL", "[NaN]", "{}", "[]",
]  # fmt: skip
ODD_NUMBERS = [0, -1, 1, 2**31, 2**63, 2**64, 10**400, 1_785_578_400, 1e308, -0.5, math.nan, math.inf]
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(ODD_TEXTS) | st.sampled_from(ODD_NUMBERS)
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def damaged(draw: st.DrawFn) -> tuple[Format, dict[str, Any]]:
    """A sample of a nested format with some of its values replaced by anything."""
    name, sample = draw(st.sampled_from(NESTED))
    record = deepcopy(sample)
    for _ in range(draw(st.integers(1, 3))):
        *parents, last = draw(st.sampled_from(list(places(record))))
        holder = record
        for key in parents:
            holder = holder[key]
        holder[last] = draw(values)
    return name, record


def check(name: Format, record: Any) -> bool:
    """Whether the importer of a format took the record."""
    importer = importer_for(name)
    assert importer is not None
    return check_importer(importer, record)


@pytest.mark.parametrize(("name", "sample"), NESTED)
def test_samples_give_rows_of_the_right_types(name: Format, sample: dict[str, Any]) -> None:
    assert check(name, sample)


@given(damaged())
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_damaged_records_give_rows_or_a_reject(case: tuple[Format, dict[str, Any]]) -> None:
    check(*case)


@given(st.sampled_from(list(SAMPLES)), st.dictionaries(st.sampled_from(KEYS), values, max_size=6) | values)
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_any_value_gives_rows_or_a_reject(name: Format, record: Any) -> None:
    check(name, record)


@given(values | st.dictionaries(st.sampled_from([*KEYS, "data", "traces", "kind", "trace_id"]), values, max_size=6))
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_any_value_is_recognised_or_not(document: Any) -> None:
    recognise_record(document)


@pytest.mark.parametrize(("name", "sample"), NESTED)
def test_records_nested_without_end_are_rejected(name: Format, sample: dict[str, Any]) -> None:
    deep: Any = "x"
    for _ in range(10_000):
        deep = [deep]
    importer = importer_for(name)
    assert importer is not None
    with pytest.raises(RecordRejected, match="nested more than 64 levels"):
        importer({**sample, "deep": deep}, "source")
    assert recognise_record({**sample, "kind": deep, "deep": deep}) is name
