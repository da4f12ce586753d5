"""Langfuse in all its shapes: real documents, and constructed records for every trap of its exports."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.ingest.formats import Format, importer_for, recognise_record
from pipelines.ingest.layouts.langfuse import (
    import_document,
    import_observation,
    import_score,
    import_session,
    import_trace,
)
from pipelines.ingest.rows import RecordRejected, Row, Rows

AT = datetime(2026, 8, 1, 10, 0, tzinfo=UTC)
OBSERVATIONS = {
    "agno": 6, "autogen": 2, "claude": 7, "crewai": 6, "google": 5, "langgraph": 9, "openai": 5, "pydantic": 3,
    "vercel": 3, "vertex": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def documents(shared_data: Path) -> dict[str, dict[str, Any]]:
    files = sorted((shared_data / "langfuse_traces").glob("*.trace.json"))
    return {file.name.split("-")[0]: json.loads(file.read_text()) for file in files}


@pytest.fixture(scope="module")
def imported(documents: dict[str, dict[str, Any]]) -> dict[str, Rows]:
    assert {recognise_record(document) for document in documents.values()} == {Format.LANGFUSE_DOCUMENT}
    return {name: import_document(document, "langfuse") for name, document in documents.items()}


# ---- the real documents


def test_every_observation_is_kept_and_its_parent_resolved(
    documents: dict[str, dict[str, Any]], imported: dict[str, Rows]
) -> None:
    assert {name: len(rows.spans) for name, rows in imported.items()} == OBSERVATIONS
    for name, rows in imported.items():
        stated = {o["id"]: o["parentObservationId"] for o in documents[name]["observations"]}
        assert {s["span_id"]: s.get("parent_span_id") for s in rows.spans} == stated
        assert sum("parent_span_id" not in span for span in rows.spans) == 1
        assert {span["trace_id"] for span in rows.spans} == {documents[name]["trace"]["id"]}


def test_scores_and_corrections_are_signals(documents: dict[str, dict[str, Any]], imported: dict[str, Rows]) -> None:
    for name, rows in imported.items():
        trace = documents[name]["trace"]
        stated = {s["id"]: s for s in trace["scores"] + trace["corrections"]}
        assert {signal["signal_id"] for signal in rows.signals} == set(stated)
        for signal in rows.signals:
            score = stated[signal["signal_id"]]
            assert signal["trace_id"] == trace["id"]
            assert signal["name"] == score["name"]
            if score["source"] == "EVAL":
                assert (signal["kind"], signal["annotator_kind"]) == ("judge", "llm")
                assert (signal["value"], signal["text"]) == (score["value"], score["comment"])
    (correction,) = imported["pydantic"].signals
    assert (correction["kind"], correction["annotator_kind"]) == ("correction", "operator")
    assert correction["text"].startswith("Langfuse is a tool designed")
    assert correction["annotator_id"] == "cm167x5rh00018bk3mcnituff"
    assert "value" not in correction


def test_tokens_cost_and_models(documents: dict[str, dict[str, Any]], imported: dict[str, Rows]) -> None:
    for name, rows in imported.items():
        stated = {o["id"]: o for o in documents[name]["observations"]}
        for span in rows.spans:
            observation = stated[span["span_id"]]
            assert span.get("input_tokens", 0) == observation["inputUsage"]
            assert span.get("output_tokens", 0) == observation["outputUsage"]
            assert span.get("cost_usd", 0) == pytest.approx(observation["totalCost"])
            assert span.get("model") == observation["model"]
            assert ("input_tokens" in span) == bool(observation["usageDetails"])


def test_kinds_say_more_than_span_where_attributes_do(imported: dict[str, Rows]) -> None:
    kinds = {name: sorted(span["kind"] for span in rows.spans) for name, rows in imported.items()}
    assert kinds["openai"] == ["agent", "agent", "llm", "llm", "tool"]
    assert kinds["agno"] == ["agent", "llm", "llm", "llm", "llm", "tool"]
    assert kinds["claude"] == ["chain", "llm", "llm", "llm", "llm", "tool", "tool"]
    assert kinds["langgraph"].count("other") == 7


def test_the_trace_itself(imported: dict[str, Rows]) -> None:
    (trace,) = imported["autogen"].traces
    metadata = trace.pop("metadata")
    assert trace == {
        "trace_id": "1b72c51fabed12ae7df83bfd4a09f545", "source": "langfuse", "agent": "autogen-chat-trace",
        "agent_version": "1.0.0", "user_id": "user_123", "session_id": "session_abc",
        "started_at": datetime(2025, 6, 6, 11, 31, 33, 965_000, UTC),
        "ended_at": datetime(2025, 6, 6, 11, 31, 34, 610_000, UTC),
        "input": "Say 'Hello World!'", "output": "Hello World!",
    }  # fmt: skip
    assert metadata["tags"] == ["autogen", "dev"]
    assert metadata["email"] == "user@langfuse.com"
    assert metadata["public"] is True


def test_nothing_of_an_observation_is_dropped(documents: dict[str, dict[str, Any]], imported: dict[str, Rows]) -> None:
    mapped = {
        "id", "traceId", "parentObservationId", "name", "startTime", "endTime", "input", "output", "model", "metadata",
        "version", "statusMessage",
    }  # fmt: skip
    for name, rows in imported.items():
        spans = {span["span_id"]: span for span in rows.spans}
        for observation in documents[name]["observations"]:
            attributes = spans[observation["id"]]["attributes"]
            rest = {key: value for key, value in observation.items() if key not in mapped}
            assert all(attributes[key] == value for key, value in rest.items() if value not in (None, "", {}, []))
            if observation["metadata"]:
                assert json.loads(observation["metadata"]).items() <= attributes.items()


def test_a_score_embedded_and_exported_apart_is_one_signal(
    documents: dict[str, dict[str, Any]], imported: dict[str, Rows]
) -> None:
    for name, rows in imported.items():
        for score in documents[name]["trace"]["scores"]:
            (apart,) = import_score(score, "langfuse").signals
            assert apart in rows.signals


# ---- constructed records


def observation(**about: Any) -> dict[str, Any]:
    return {
        "id": "o1", "traceId": "t1", "startTime": "2026-08-01T10:00:00.000Z", "endTime": None, "type": "GENERATION",
        "parentObservationId": None, "name": "call", "level": "DEFAULT", **about,
    }  # fmt: skip


def span_of(record: dict[str, Any]) -> Row:
    (span,) = import_observation(record, "langfuse").spans
    return span


def trace_of(record: dict[str, Any]) -> Row:
    (trace,) = import_trace(record, "langfuse").traces
    return trace


def signal_of(**about: Any) -> Row:
    (signal,) = import_score({"id": "sc1", "traceId": "t1", "name": "quality", **about}, "langfuse").signals
    return signal


INTERFACE_ROW = {
    "id": "t1", "timestamp": '"2026-08-01T10:00:00.000Z"', "name": "chat", "userId": "u1", "sessionId": "",
    "release": "", "version": "v2", "environment": "default", "tags": '["web","beta"]', "bookmarked": "false",
    "public": "true", "input": '"What is 2 + 2?"', "output": '{"answer":4}', "metadata": '{"tier":"gold"}',
    "comments": '[\n  {\n    "id": "c1",\n    "content": "look at this",\n    "author_email": "op@example.org",\n'
    '    "created_at": "2026-08-02T10:00:00.000Z"\n  }\n]',
    "accuracy": "[0.9,1]", "verdict": '["good"]', "user-thumbs": "[1]",
}  # fmt: skip


def test_a_csv_row_of_the_interface() -> None:
    rows = import_trace(INTERFACE_ROW, "langfuse")
    assert rows.traces == [
        {
            "trace_id": "t1", "source": "langfuse", "agent": "chat", "agent_version": "v2", "user_id": "u1",
            "started_at": AT, "input": "What is 2 + 2?", "output": '{"answer":4}',
            "metadata": {
                "tier": "gold", "name": "chat", "environment": "default", "tags": ["web", "beta"],
                "bookmarked": "false", "public": "true",
            },
        }
    ]  # fmt: skip
    comment, *scores = rows.signals
    assert comment == {
        "signal_id": "c1", "trace_id": "t1", "kind": "comment", "source": "langfuse", "text": "look at this",
        "annotator_kind": "operator", "annotator_id": "op@example.org", "occurred_at": AT.replace(day=2),
    }  # fmt: skip
    assert [(s["name"], s["kind"], s.get("value"), s.get("text")) for s in scores] == [
        ("accuracy", "annotation", 0.9, None),
        ("accuracy", "annotation", 1.0, None),
        ("verdict", "annotation", None, "good"),
        ("user-thumbs", "thumb", 1.0, None),
    ]
    assert len({s["signal_id"] for s in scores}) == 4
    assert all(s["metadata"] == {"flattened": True} and s["trace_id"] == "t1" for s in scores)


def test_a_jsonl_row_of_the_interface_is_the_same() -> None:
    decoded = {**INTERFACE_ROW, "sessionId": None, "release": None, "bookmarked": False, "public": True}
    for name in ("timestamp", "tags", "metadata", "comments", "accuracy", "verdict", "user-thumbs", "output"):
        decoded[name] = json.loads(INTERFACE_ROW[name])
    csv, jsonl = import_trace(INTERFACE_ROW, "langfuse"), import_trace(decoded, "langfuse")
    assert jsonl.signals == csv.signals
    assert {**jsonl.traces[0], "metadata": None, "output": None} == {
        **csv.traces[0], "metadata": None, "output": None
    }  # fmt: skip
    assert json.loads(jsonl.traces[0]["output"]) == {"answer": 4}


def test_a_score_named_like_a_column_takes_its_place() -> None:
    rows = import_trace({**INTERFACE_ROW, "name": "[0.5]"}, "langfuse")
    assert "agent" not in rows.traces[0]
    assert ("name", 0.5) in [(s.get("name"), s.get("value")) for s in rows.signals]


def test_the_blob_export_says_the_same_in_snake_case() -> None:
    trace = trace_of(
        {
            "id": "t1", "timestamp": "2026-08-01 10:00:00.000", "name": "chat", "environment": "default",
            "project_id": "p", "metadata": [["tier", "gold"]], "user_id": "u1", "session_id": "s1", "release": "r",
            "version": None, "public": False, "bookmarked": False, "tags": ["web"], "input": "hi", "output": None,
            "created_at": "2026-08-01 10:00:01", "updated_at": "2026-08-01 10:00:02",
        }
    )  # fmt: skip
    assert (trace["user_id"], trace["session_id"], trace["started_at"]) == ("u1", "s1", AT)
    assert trace["metadata"]["release"] == "r"
    span = span_of(
        {
            "id": "o1", "trace_id": "t1", "project_id": "p", "environment": "default", "type": "GENERATION",
            "parent_observation_id": "o0", "start_time": AT, "end_time": "2026-08-01 10:00:02", "name": "call",
            "metadata": "{}", "level": "ERROR", "status_message": "timeout", "provided_model_name": "gpt-4o",
            "usage_details": [("input", 10), ("input_cache_read", 5), ("output", 2), ("total", 17)],
            "cost_details": '{"input":0.1,"total":0.3}', "total_cost": "0.3", "prompt_name": "sum",
            "prompt_version": 3, "latency": 2, "input_price": "0.01",
        }
    )  # fmt: skip
    attributes = span.pop("attributes")
    assert span == {
        "trace_id": "t1", "span_id": "o1", "source": "langfuse", "kind": "llm", "name": "call",
        "parent_span_id": "o0", "started_at": AT, "ended_at": AT.replace(second=2), "status": "error",
        "status_message": "timeout", "model": "gpt-4o", "input_tokens": 15, "output_tokens": 2, "cost_usd": 0.3,
        "arm": "sum@3",
    }  # fmt: skip
    assert attributes["prompt_version"] == 3
    assert attributes["input_price"] == "0.01"


def test_an_event_counts_latency_in_milliseconds() -> None:
    event = observation(
        startTime="2026-08-01 10:00:00.000", latencyMs="1500", timeToFirstTokenMs="20", usageDetails='{"input":"7"}',
        providedModelName="m", traceName="chat", userId="u1", sessionId="s1", tags='["a"]', costDetails="{}",
        totalCost="0",
    )  # fmt: skip
    assert recognise_record(event) is Format.LANGFUSE_EVENTS
    span = span_of(event)
    assert span["ended_at"] == AT.replace(second=1, microsecond=500_000)
    assert span["input_tokens"] == 7
    assert (span["agent"], span["user_id"], span["session_id"], span["model"]) == ("chat", "u1", "s1", "m")
    assert span["attributes"]["timeToFirstTokenMs"] == "20"
    assert "cost_usd" not in span


def test_an_observation_counts_latency_in_seconds() -> None:
    assert span_of(observation(latency=1.5))["ended_at"] == AT.replace(second=1, microsecond=500_000)
    kept = span_of(observation(latency=-2))
    assert "ended_at" not in kept
    assert kept["attributes"]["latency"] == -2
    ended = span_of(observation(latency=60, endTime="2026-08-01T09:59:00Z"))
    assert ended["ended_at"] < ended["started_at"]


@pytest.mark.parametrize(
    ("kind", "stated"),
    [
        ("llm", "GENERATION"), ("other", "SPAN"), ("other", "EVENT"), ("agent", "AGENT"), ("tool", "TOOL"),
        ("chain", "CHAIN"), ("retriever", "RETRIEVER"), ("evaluator", "EVALUATOR"), ("embedding", "EMBEDDING"),
        ("guardrail", "GUARDRAIL"), ("other", "SOMETHING_NEW"),
    ],
)  # fmt: skip
def test_types(kind: str, stated: str) -> None:
    span = span_of(observation(type=stated))
    assert (span["kind"], span["attributes"]["type"]) == (kind, stated)


@pytest.mark.parametrize(
    ("attribute", "value", "kind"),
    [
        ("openinference.span.kind", "RETRIEVER", "retriever"),
        ("openinference.span.kind", "RERANKER", "retriever"),
        ("openinference.span.kind", "PROMPT", "other"),
        ("gen_ai.operation.name", "execute_tool", "tool"),
        ("gen_ai.operation.name", "invoke_agent", "agent"),
        ("gen_ai.operation.name", "embeddings", "embedding"),
        ("traceloop.span.kind", "workflow", "chain"),
        ("custom.kind", "tool", "other"),
    ],
)
def test_attributes_of_opentelemetry_refine_a_span(attribute: str, value: str, kind: str) -> None:
    metadata = {"attributes": {attribute: value}}
    assert span_of(observation(type="SPAN", metadata=metadata))["kind"] == kind
    assert span_of(observation(type="SPAN", metadata=json.dumps(metadata)))["kind"] == kind
    assert span_of(observation(type="GENERATION", metadata=metadata))["kind"] == "llm"


def test_levels() -> None:
    statuses = {level: span_of(observation(level=level)).get("status") for level in ("ERROR", "WARNING", "DEFAULT", "")}
    assert statuses == {"ERROR": "error", "WARNING": "ok", "DEFAULT": "ok", "": None}


def test_usage_in_older_shapes() -> None:
    usage = {"input": 3, "output": 4, "total": 7, "unit": "TOKENS", "inputCost": 0.1}
    span = span_of(observation(usage=usage))
    assert (span["input_tokens"], span["output_tokens"]) == (3, 4)
    assert "input_tokens" not in span_of(observation(usage={**usage, "unit": "CHARACTERS"}))
    flat = span_of(observation(promptTokens="3", completionTokens="4", calculatedTotalCost="0.5"))
    assert (flat["input_tokens"], flat["output_tokens"], flat["cost_usd"]) == (3, 4, 0.5)


def test_a_trace_of_the_programming_interface_carries_its_observations_and_scores() -> None:
    record = {
        "id": "t1", "timestamp": "2026-08-01T10:00:00Z", "name": "chat", "public": False, "environment": "default",
        "observations": [observation(traceId=None), observation(id="o2", parentObservationId="o1")],
        "scores": [{"id": "sc1", "name": "ok", "value": 1, "dataType": "BOOLEAN", "source": "API"}],
        "latency": 2.0, "totalCost": 0.25, "htmlPath": "/x",
    }  # fmt: skip
    assert recognise_record(record) is Format.LANGFUSE_TRACES
    rows = import_trace(record, "langfuse")
    assert [(s["trace_id"], s["span_id"]) for s in rows.spans] == [("t1", "o1"), ("t1", "o2")]
    assert [(s["trace_id"], s["signal_id"]) for s in rows.signals] == [("t1", "sc1")]
    assert (rows.traces[0]["cost_usd"], rows.traces[0]["ended_at"]) == (0.25, AT.replace(second=2))
    listed = import_trace({**record, "observations": ["o1", "o2"], "scores": ["sc1"]}, "langfuse")
    assert (listed.spans, listed.signals) == ([], [])


def test_parents_that_are_not_there_make_roots() -> None:
    observations = [
        observation(parentObservationId="t1"),
        observation(id="o2", parentObservationId="gone"),
        observation(id="o3", parentObservationId="o3"),
        observation(id="o4", parentObservationId="o2"),
    ]
    rows = import_document({"trace": {"id": "t1"}, "observations": observations}, "langfuse")
    assert [span.get("parent_span_id") for span in rows.spans] == [None, None, None, "o2"]
    assert rows.spans[1]["attributes"]["parentObservationId"] == "gone"
    # alone, an observation cannot know what else is there
    assert span_of(observations[1])["parent_span_id"] == "gone"


def test_only_a_single_prompt_is_the_arm_of_a_trace() -> None:
    def arms(*versions: int) -> tuple[str | None, set[str | None]]:
        made = [observation(id=f"o{v}", promptName="sum", promptVersion=v) for v in versions]
        rows = import_document({"trace": {"id": "t1"}, "observations": made}, "langfuse")
        return rows.traces[0].get("arm"), {span.get("arm") for span in rows.spans}

    assert arms(1) == ("sum@1", {"sum@1"})
    assert arms(1, 2) == (None, {None})


def test_what_the_agent_logged_of_its_steering() -> None:
    metadata = {"attributes": {"steer.arm": "bold", "steer.decision_id": "d1"}, "tier": 1}
    span = span_of(observation(metadata=metadata, promptName="sum"))
    assert (span["arm"], span["decision_id"]) == ("bold", "d1")
    assert trace_of({"id": "t1", "metadata": {"steer.arm": "bold"}})["arm"] == "bold"


def test_documents_merge_what_is_repeated() -> None:
    thin = observation(input=None, metadata="{}", name="call")
    full = observation(input="hi", metadata={"a": 1}, extra="kept")
    record = {"trace": {"id": "t1", "observations": [thin]}, "observations": [full], "exportedBy": "me"}
    rows = import_document(record, "langfuse")
    (span,) = rows.spans
    assert span["input"] == "hi"
    assert span["attributes"]["a"] == 1
    assert span["attributes"]["extra"] == "kept"
    assert rows.traces[0]["metadata"]["document"] == {"exportedBy": "me"}


# ---- scores


@pytest.mark.parametrize(
    ("score", "kind", "value", "annotator"),
    [
        ({"source": "EVAL", "dataType": "NUMERIC", "value": 0.4}, "judge", 0.4, "llm"),
        ({"source": "EVAL", "dataType": "BOOLEAN", "value": True}, "judge", 1.0, "llm"),
        ({"source": "ANNOTATION", "dataType": "NUMERIC", "value": "4"}, "annotation", 4.0, "operator"),
        ({"source": "API", "dataType": "BOOLEAN", "value": 1, "stringValue": "True"}, "thumb", 1.0, None),
        ({"source": "API", "dataType": "BOOLEAN", "value": "false"}, "thumb", 0.0, None),
        ({"source": "API", "dataType": "NUMERIC", "value": 0, "name": "user-thumbs"}, "thumb", 0.0, "user"),
        ({"source": "API", "dataType": "NUMERIC", "value": -1, "name": "user_feedback"}, "thumb", 0.0, "user"),
        ({"source": "API", "dataType": "NUMERIC", "value": 0.7, "name": "user_feedback"}, "annotation", 0.7, "user"),
        ({"source": "API", "dataType": "NUMERIC", "value": 1}, "annotation", 1.0, None),
        ({"source": "API", "dataType": "CATEGORICAL", "value": 0, "stringValue": "poor"}, "annotation", None, None),
        ({"source": "API", "data_type": "TEXT", "value": 0, "string_value": "x", "name": "Feedback"}, "comment", None,
         "user"),
        ({"source": "ANNOTATION", "dataType": "CORRECTION", "value": "better"}, "correction", None, "operator"),
    ],
)  # fmt: skip
def test_kinds_of_scores(score: dict[str, Any], kind: str, value: float | None, annotator: str | None) -> None:
    signal = signal_of(**score)
    assert (signal["kind"], signal.get("value"), signal.get("annotator_kind")) == (kind, value, annotator)


def test_a_score_of_the_interface() -> None:
    score = {
        "id": "sc1", "traceId": "t1", "sessionId": None, "datasetRunId": None,
        "timestamp": "2026-08-01T10:00:00.000Z", "source": "API", "name": "user-thumbs", "dataType": "BOOLEAN",
        "value": 1, "stringValue": "True", "comment": "great", "metadata": {"device": "phone"}, "observationId": "o1",
        "traceName": "chat", "userId": "u1", "traceTags": ["web"], "environment": "default", "authorUserName": None,
    }  # fmt: skip
    (signal,) = import_score(score, "langfuse").signals
    assert signal == {
        "signal_id": "sc1", "trace_id": "t1", "span_id": "o1", "user_id": "u1", "name": "user-thumbs",
        "source": "langfuse", "kind": "thumb", "value": 1.0, "text": "great", "annotator_kind": "user",
        "occurred_at": AT,
        "metadata": {
            "device": "phone", "source": "API", "dataType": "BOOLEAN", "traceName": "chat", "traceTags": ["web"],
            "environment": "default", "label": "True",
        },
    }  # fmt: skip
    cells = {key: "" if v is None else v if isinstance(v, str) else json.dumps(v) for key, v in score.items()}
    assert import_score({**cells, "timestamp": f'"{cells["timestamp"]}"'}, "langfuse").signals == [signal]


def test_texts_labels_and_comments_are_all_kept() -> None:
    signal = signal_of(source="ANNOTATION", dataType="CATEGORICAL", value=2, stringValue="poor", comment="too long")
    assert signal["text"] == "too long"
    assert signal["metadata"]["label"] == "poor"
    assert signal["metadata"]["value"] == 2
    correction = signal_of(source="ANNOTATION", dataType="CORRECTION", longStringValue="Yes.", comment="was No.")
    assert (correction["text"], correction["metadata"]["comment"]) == ("Yes.", "was No.")
    assert signal_of(dataType="NUMERIC", value=1, comment="ok")["text"] == "ok"


@pytest.mark.parametrize(
    ("subject", "target"),
    [
        ({"kind": "trace", "id": "t9"}, {"trace_id": "t9"}),
        ({"kind": "observation", "id": "o9", "traceId": "t9"}, {"trace_id": "t9", "span_id": "o9"}),
        ({"kind": "session", "id": "s9"}, {"session_id": "s9"}),
        ({"kind": "experiment", "id": "e9"}, {}),
    ],
)
def test_a_score_of_the_third_interface_names_its_subject(subject: dict[str, str], target: dict[str, str]) -> None:
    score = {"id": "sc1", "name": "ok", "value": True, "dataType": "BOOLEAN", "source": "API", "subject": subject}
    assert recognise_record(score) is Format.LANGFUSE_SCORES
    (signal,) = import_score(score, "langfuse").signals
    assert {key: signal[key] for key in ("trace_id", "span_id", "session_id") if key in signal} == target
    if not target:
        assert signal["metadata"]["subject"] == subject


def test_a_score_without_an_id_gets_one_from_its_content() -> None:
    score = {"traceId": "t1", "name": "ok", "value": 1}
    first, again = (import_score(dict(score), source).signals[0] for source in ("a", "b"))
    assert first["signal_id"] == again["signal_id"]
    assert import_score({**score, "value": 0}, "a").signals[0]["signal_id"] != first["signal_id"]


def test_sessions_have_comments_scores_and_traces() -> None:
    row = {
        "id": "s1", "userIds": '["u1"]', "countTraces": "2", "sessionDuration": "3.5", "traceTags": "[]",
        "createdAt": '"2026-08-01T10:00:00.000Z"', "comments": "[]", "happy": "[1]",
    }  # fmt: skip
    assert recognise_record(row) is Format.LANGFUSE_SESSIONS
    (signal,) = import_session(row, "langfuse").signals
    assert (signal["session_id"], signal["name"], signal["value"]) == ("s1", "happy", 1.0)
    api = {"id": "s1", "createdAt": "2026-08-01T10:00:00Z", "projectId": "p", "traces": [{"id": "t1"}]}
    assert recognise_record(api) is Format.LANGFUSE_SESSIONS
    assert import_session(api, "langfuse").traces[0] == {"session_id": "s1", "trace_id": "t1", "source": "langfuse"}


def test_records_of_another_kind_in_the_same_file_go_to_their_own_importer() -> None:
    importer = importer_for(Format.LANGFUSE_TRACES)
    assert importer is not None
    score = {"id": "sc1", "traceId": "t1", "name": "ok", "value": 1, "dataType": "BOOLEAN", "source": "API"}
    assert len(importer(score, "langfuse").signals) == 1
    assert len(importer(observation(), "langfuse").spans) == 1


@pytest.mark.parametrize(
    ("importer", "record", "column", "reason"),
    [
        (import_trace, {"name": "x"}, "id", "id is null; expected the id of the trace"),
        (import_trace, {"id": {}, "timestamp": "2026-08-01"}, "id", "expected the id of the trace"),
        (import_trace, {"id": "t", "timestamp": "1969-01-01"}, "timestamp", "between 1990"),
        (import_trace, {"id": "t", "totalCost": "?"}, "totalCost", "finite number"),
        (import_trace, {"id": "t", "latency": 1e18, "timestamp": "2026-08-01"}, "latency", "after the year 2100"),
        (import_trace, {"id": "t", "observations": [1]}, "observations[0]", "expected an object"),
        (import_trace, {"id": "t", "observations": "x"}, "observations", "expected a list"),
        (
            import_trace,
            {"id": "t", "observations": [{"id": "o", "startTime": "x"}]},
            "observations[0].startTime",
            "ISO",
        ),
        (import_document, {"trace": [], "observations": []}, "trace", "expected a Langfuse trace"),
        (import_document, {"trace": {"id": True}, "observations": []}, "trace.id", "true; expected text"),
        (import_observation, {"id": "o"}, "traceId", "expected the id of the trace"),
        (import_observation, {"traceId": "t"}, "id", "expected the id of the observation"),
        (import_observation, observation(usageDetails={"input": "many"}), "usageDetails.input", "finite number"),
        (import_observation, observation(usageDetails=[1]), "usageDetails", "expected an object"),
        (import_observation, observation(usageDetails={"input": 2**62, "input_x": 2**62}), "usageDetails.input", "tok"),
        (import_score, {"id": "s", "dataType": "NUMERIC", "value": "high"}, "value", "finite number"),
        (import_score, {"id": "s", "subject": 3}, "subject", "the number 3; expected an object"),
        (import_session, {"userIds": []}, "id", "expected the id of the session"),
    ],
)
def test_wrong_types_name_the_field(importer: Any, record: dict[str, Any], column: str, reason: str) -> None:
    with pytest.raises(RecordRejected) as caught:
        importer(record, "langfuse")
    assert caught.value.column == column
    assert reason in caught.value.reason
