"""The routes for agents over real HTTP: what is taken, what is refused and how, and that the counts add up."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from prometheus_client.parser import text_string_to_metric_families

from store.errors import MemoryExhausted, StoreError
from tests.gateway.live_server import JSON, PROTOBUF, LiveServer, serving

BEGAN = 1_795_600_000_000_000_000
TRACE = "5b8efff798038103d269b633813fc60c"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    with serving(tmp_path) as live:
        yield live


def request_of(*numbers: int, trace: str = TRACE, text: str = "hello") -> ExportTraceServiceRequest:
    """A request with these spans of one trace; span 1 is the root."""
    request = ExportTraceServiceRequest()
    part = request.resource_spans.add()
    part.resource.attributes.add(key="service.name").value.string_value = "shop"
    spans = part.scope_spans.add().spans
    for number in numbers:
        span = spans.add(trace_id=bytes.fromhex(trace), span_id=number.to_bytes(8, "big"), name=f"step {number}")
        span.parent_span_id = b"" if number == 1 else (1).to_bytes(8, "big")
        span.start_time_unix_nano = BEGAN + number * 1_000_000
        span.end_time_unix_nano = BEGAN + number * 2_000_000
        span.attributes.add(key="input.value").value.string_value = text
    return request


def as_json(request: ExportTraceServiceRequest) -> bytes:
    """The canonical JSON of OTLP: as protobuf's, with hexadecimal ids."""
    document = MessageToDict(request)
    for resource_spans in document["resourceSpans"]:
        for scope_spans, sent in zip(resource_spans["scopeSpans"], request.resource_spans[0].scope_spans, strict=True):
            for span, original in zip(scope_spans["spans"], sent.spans, strict=True):
                span["traceId"], span["spanId"] = original.trace_id.hex(), original.span_id.hex()
                if original.parent_span_id:
                    span["parentSpanId"] = original.parent_span_id.hex()
    return json.dumps(document).encode()


def balanced(totals: dict[str, int]) -> bool:
    return totals["received"] == totals["accepted"] + totals["duplicate"] + totals["rejected"]


# Signals


def test_one_signal_and_an_array_are_stored_with_every_field(server: LiveServer) -> None:
    thumb = {
        "signal_id": "t-1", "trace_id": TRACE, "span_id": "00f067aa0ba902b7", "session_id": "s", "user_id": "u",
        "kind": "thumb", "value": "up", "text": "très bien ✓", "solicited": True, "propensity": 0.25,
        "annotator_kind": "user", "annotator_id": "u", "occurred_at": "2026-10-01T12:00:00+02:00",
        "name": "helpful", "metadata": {"page": 3}, "colour": "green",
    }  # fmt: skip
    clicks = [
        {"signal_id": "c-1", "session_id": "s", "kind": "impression", "item": "sku-1", "position": 2, "propensity": 1},
        {"signal_id": "c-2", "session_id": "s", "kind": "click", "item": "sku-1", "position": 2},
    ]
    assert server.signals(thumb).json() == {"accepted": 1, "rejected": []}
    answer = server.signals(clicks)
    assert (answer.status, answer.json()) == (200, {"accepted": 2, "rejected": []})
    stored = {row["signal_id"]: row for row in server.rows("FROM signals ORDER BY signal_id")}
    assert list(stored) == ["c-1", "c-2", "t-1"]
    first = stored["t-1"]
    assert json.loads(first.pop("metadata")) == {"page": 3, "colour": "green"}
    expected = {name: value for name, value in thumb.items() if name not in ("metadata", "colour")}
    expected |= {"value": 1.0, "occurred_at": datetime(2026, 10, 1, 10, tzinfo=UTC), "source": "local"}
    assert {name: first[name] for name in expected} == expected
    assert (stored["c-1"]["position"], stored["c-1"]["propensity"], stored["c-2"]["item"]) == (2, 1.0, "sku-1")
    assert server.totals() == {
        "received": 3, "accepted": 3, "duplicate": 0, "rejected": 0, "traces": 0, "spans": 0, "signals": 3,
    }  # fmt: skip


def test_signals_that_are_wrong_are_named_and_the_others_are_kept(server: LiveServer) -> None:
    answer = server.signals(
        [
            {"signal_id": "a", "trace_id": TRACE, "kind": "thumb", "value": 1},
            {"signal_id": "b", "trace_id": TRACE, "kind": "applause"},
            {"signal_id": "c", "trace_id": TRACE, "kind": "rating", "value": 4},
            {"signal_id": "d", "kind": "copy"},
            "thumb",
            {"signal_id": "e", "user_id": "u", "kind": "comment", "text": "good"},
            {"signal_id": "f", "user_id": "u", "kind": "click", "position": 0},
            {"signal_id": "g", "user_id": "u", "kind": "click", "propensity": 0},
            {"signal_id": "h", "user_id": "u", "kind": "click", "occurred_at": "yesterday"},
        ]
    )
    assert answer.status == 200
    rejected = {each["where"]: each["reason"] for each in answer.json()["rejected"]}
    assert answer.json()["accepted"] == 2
    assert list(rejected) == ["[1]", "[2]", "[3]", "[4]", "[6]", "[7]", "[8]"]
    for where, part in {
        "[1]": "applause", "[2]": "0 to 1", "[3]": "trace_id", "[4]": "object", "[6]": "position",
        "[7]": "propensity", "[8]": "yesterday",
    }.items():  # fmt: skip
        assert part in rejected[where]
    assert [row["signal_id"] for row in server.rows("FROM signals ORDER BY signal_id")] == ["a", "e"]
    totals = server.totals()
    assert balanced(totals)
    assert (totals["received"], totals["accepted"], totals["rejected"]) == (9, 2, 7)
    kept = server.rows("SELECT column_name, reason FROM ingest_rejects ORDER BY record_no")
    assert {row["column_name"]: row["reason"] for row in kept} == rejected


def test_when_no_signal_is_taken_the_answer_is_an_error(server: LiveServer) -> None:
    answer = server.signals({"trace_id": TRACE, "kind": "thumb"})
    assert answer.status == 400
    assert "value" in answer.json()["error"]
    assert answer.json()["accepted"] == 0
    assert server.rows("FROM signals") == []
    assert server.signals([]).json() == {"accepted": 0, "rejected": []}


def test_signals_are_idempotent_by_id_and_by_content(server: LiveServer) -> None:
    named = {"signal_id": "r-1", "trace_id": TRACE, "kind": "rating", "value": 0.5}
    unnamed = {"trace_id": TRACE, "kind": "copy", "occurred_at": "2026-10-01T12:00:00Z"}
    other = {**unnamed, "occurred_at": "2026-10-01T12:00:01Z"}
    for _ in range(3):
        assert server.signals([named, unnamed, other]).status == 200
    reordered = dict(reversed(unnamed.items()))
    assert server.signals(reordered).status == 200
    assert server.rows("SELECT count(*) AS n FROM signals") == [{"n": 3}]
    assert server.rows("SELECT count(*) AS n FROM superseded_signals") == [{"n": 0}]
    totals = server.totals()
    assert (totals["received"], totals["accepted"], totals["duplicate"]) == (10, 3, 7)
    ids = [row["signal_id"] for row in server.rows("FROM signals WHERE kind = 'copy'")]
    assert len(set(ids)) == 2
    assert all(ids)


def test_the_same_signal_twice_in_one_request_is_stored_once(server: LiveServer) -> None:
    signal = {"signal_id": "x", "trace_id": TRACE, "kind": "copy"}
    assert server.signals([signal, signal]).status == 200
    assert server.rows("SELECT count(*) AS n FROM signals") == [{"n": 1}]
    totals = server.totals()
    assert (totals["received"], totals["accepted"], totals["duplicate"]) == (2, 1, 1)


def test_a_corrected_signal_replaces_the_earlier_one_which_is_kept(server: LiveServer) -> None:
    first = {
        "signal_id": "r", "trace_id": TRACE, "kind": "rating", "value": 0.5, "occurred_at": "2026-10-01T12:00:00Z",
    }  # fmt: skip
    second = {**first, "value": 0.75, "occurred_at": "2026-10-02T12:00:00Z"}
    # The later one counts, in whatever order they come.
    for each in (second, first):
        assert server.signals(each).status == 200
    assert [row["value"] for row in server.rows("FROM signals")] == [0.75]
    assert [row["value"] for row in server.rows("FROM superseded_signals")] == [0.5]
    assert balanced(server.totals())


def test_signals_may_come_before_their_trace_and_long_after(server: LiveServer) -> None:
    early = {"signal_id": "early", "trace_id": TRACE, "kind": "thumb", "value": 0}
    late = {**early, "signal_id": "late", "occurred_at": "2030-01-01T00:00:00Z"}
    assert server.signals(early).status == 200
    assert server.traces(request_of(1).SerializeToString()).status == 200
    assert server.signals(late).status == 200
    joined = server.rows("SELECT signal_id, span_count FROM signals JOIN traces USING (trace_id) ORDER BY signal_id")
    assert joined == [{"signal_id": "early", "span_count": 1}, {"signal_id": "late", "span_count": 1}]


# Traces


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
@pytest.mark.parametrize("packed", [False, True])
def test_spans_are_stored_whatever_the_encoding(server: LiveServer, encoding: str, packed: bool) -> None:
    sent = request_of(1, 2, 3)
    body, headers = (sent.SerializeToString(), PROTOBUF) if encoding == "protobuf" else (as_json(sent), JSON)
    answer = server.traces(body, headers, packed=packed)
    assert answer.status == 200
    assert answer.headers["content-type"] == headers["Content-Type"]
    assert answer.body == (b"" if encoding == "protobuf" else b"{}")
    rows = server.rows("SELECT span_id, parent_span_id, name, input, agent, source FROM spans ORDER BY span_id")
    assert [row["span_id"] for row in rows] == [f"{number:016x}" for number in (1, 2, 3)]
    assert [row["parent_span_id"] for row in rows] == [None, f"{1:016x}", f"{1:016x}"]
    assert {(row["input"], row["agent"], row["source"]) for row in rows} == {("hello", "shop", "local")}
    assert server.rows("SELECT trace_id, span_count, agent FROM traces") == [
        {"trace_id": TRACE, "span_count": 3, "agent": "shop"}
    ]


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_partial_success_names_what_was_rejected(server: LiveServer, encoding: str) -> None:
    sent = request_of(1, 2, 3)
    spans = sent.resource_spans[0].scope_spans[0].spans
    spans[1].start_time_unix_nano = 1
    if encoding == "protobuf":
        spans[2].trace_id = b"short"
        answer = server.traces(sent.SerializeToString())
        partial = ExportTraceServiceResponse.FromString(answer.body).partial_success
        rejected, message = partial.rejected_spans, partial.error_message
    else:
        answer = server.traces(as_json(sent).replace(b'"spanId": "0000000000000003"', b'"spanId": "xyz"'), JSON)
        partial = answer.json()["partialSuccess"]
        rejected, message = int(partial["rejectedSpans"]), partial["errorMessage"]
    assert answer.status == 200
    assert rejected == 2
    assert "resourceSpans[0].scopeSpans[0].spans[1]: startTimeUnixNano is 1" in message
    assert "resourceSpans[0].scopeSpans[0].spans[2]: " in message
    totals = server.totals()
    assert balanced(totals)
    assert (totals["received"], totals["accepted"], totals["rejected"], totals["spans"]) == (3, 1, 2, 1)


def test_many_rejected_spans_give_a_short_answer(server: LiveServer) -> None:
    sent = request_of(*range(1, 101))
    for span in sent.resource_spans[0].scope_spans[0].spans:
        span.span_id = b"\0" * 8
    partial = ExportTraceServiceResponse.FromString(server.traces(sent.SerializeToString()).body).partial_success
    assert partial.rejected_spans == 100
    assert partial.error_message.endswith("and 80 more")
    assert server.rows("SELECT count(*) AS n FROM ingest_rejects") == [{"n": 100}]


def test_a_retry_changes_nothing_and_counts_as_duplicate(server: LiveServer) -> None:
    body = request_of(1, 2, 3).SerializeToString()
    assert server.traces(body).status == 200
    before = [server.rows(f"FROM {table} ORDER BY ALL") for table in ("spans", "traces", "superseded_spans")]
    for packed in (False, True, False):
        assert server.traces(body, packed=packed).status == 200
    assert server.traces(as_json(request_of(1, 2, 3)), JSON).status == 200
    after = [server.rows(f"FROM {table} ORDER BY ALL") for table in ("spans", "traces", "superseded_spans")]
    assert after == before
    totals = server.totals()
    assert (totals["received"], totals["accepted"], totals["duplicate"], totals["rejected"]) == (15, 3, 12, 0)


def test_counts_add_up_under_requests_at_the_same_time(server: LiveServer) -> None:
    """Many clients at once, a third of them retrying what another sends, some with wrong parts."""
    requests = []
    for number in range(24):
        sent = request_of(1, 2, 3, 4, trace=f"{number % 16 + 1:032x}")
        if number % 8 == 0:
            sent.resource_spans[0].scope_spans[0].spans[3].span_id = b"x"
        requests.append(sent.SerializeToString())
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(server.traces, requests))
    assert {answer.status for answer in answers} == {200}
    totals = server.totals()
    assert balanced(totals)
    # traces 1 and 9 were sent with a wrong span each time; trace 1 twice
    assert (totals["received"], totals["rejected"]) == (96, 3)
    assert server.rows("SELECT count(*) AS n FROM spans") == [{"n": 62}]
    assert server.rows("SELECT count(*) AS n, sum(span_count)::BIGINT AS spans FROM traces") == [{"n": 16, "spans": 62}]
    assert totals["accepted"] == 62


def test_spans_of_one_trace_in_any_order_give_the_same_trace(server: LiveServer) -> None:
    for number in (3, 1, 2):
        assert server.traces(request_of(number, text=f"text {number}").SerializeToString()).status == 200
    columns = "trace_id, span_count, input, started_at, ended_at, agent, status"
    scattered = server.rows(f"SELECT {columns} FROM traces")
    for number in (1, 2, 3):
        other = request_of(number, trace="f" * 32, text=f"text {number}")
        assert server.traces(other.SerializeToString()).status == 200
    ordered = server.rows(f"SELECT {columns} FROM traces WHERE trace_id = '{'f' * 32}'")
    assert [{**row, "trace_id": TRACE} for row in ordered] == scattered
    assert scattered[0]["input"] == "text 1"


# Who and what is refused


@pytest.mark.parametrize("given", ["text/plain", "application/xml", "", "application/jsonl", "application/grpc"])
def test_an_unknown_content_type_is_refused(server: LiveServer, given: str) -> None:
    for path in ("/v1/traces", "/v1/signals"):
        answer = server.send("POST", path, b"{}", {"Content-Type": given})
        assert answer.status == 415
        assert b"application/json" in answer.body
    assert server.totals()["received"] == 0


@pytest.mark.parametrize("encoding", ["deflate", "br", "zstd", "gzip, gzip"])
def test_an_unknown_encoding_is_refused(server: LiveServer, encoding: str) -> None:
    answer = server.traces(b"", {**PROTOBUF, "Content-Encoding": encoding})
    assert answer.status == 415
    assert encoding in Status.FromString(answer.body).message


def test_content_types_may_carry_parameters(server: LiveServer) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    answer = server.traces(as_json(request_of(1)), headers)
    assert (answer.status, answer.body) == (200, b"{}")
    assert server.rows("SELECT count(*) AS n FROM spans") == [{"n": 1}]


def test_keys_and_scopes(tmp_path: Path) -> None:
    body = request_of(1).SerializeToString()
    with serving(tmp_path, keyless=False) as server:
        ingest, steer = server.key("ingest", name="shop"), server.key("steer")
        missing, unknown = server.traces(body), server.traces(body, {**PROTOBUF, "x-api-key": "tt_no_such"})
        wrong = server.traces(body, {**PROTOBUF, **steer})
        assert [missing.status, unknown.status, wrong.status] == [401, 401, 403]
        assert missing.headers["www-authenticate"] == "Bearer"
        assert Status.FromString(missing.body).code == 16
        assert Status.FromString(wrong.body).code == 7
        assert "ingest" in Status.FromString(wrong.body).message
        signal = {"signal_id": "1", "trace_id": TRACE, "kind": "copy"}
        assert [server.signals(signal).status, server.signals(signal, steer).status] == [401, 403]
        assert server.send("POST", "/v1/upload", b"").status == 401
        assert server.get("/v1/upload/x").status == 401
        assert server.totals()["received"] == 0
        assert server.traces(body, {**PROTOBUF, **ingest}).status == 200
        assert server.signals(signal, ingest).status == 200
        assert server.rows("SELECT DISTINCT source FROM spans") == [{"source": "shop"}]
        assert server.rows("SELECT DISTINCT source FROM signals") == [{"source": "shop"}]
        # Whoever watches the server needs no key for whether it lives.
        assert server.get("/healthz").status == server.get("/readyz").status == 200


def test_a_key_beyond_its_rate_is_told_when_to_come_back(tmp_path: Path) -> None:
    with serving(tmp_path, keyless=False) as server:
        key = server.key("ingest", rate_per_second=0.01, burst=2)
        signal = {"signal_id": "1", "trace_id": TRACE, "kind": "copy"}
        answers = [server.signals(signal, key) for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert 1 <= int(answers[2].headers["retry-after"]) <= 100


def test_a_full_queue_answers_429_and_loses_nothing(tmp_path: Path) -> None:
    first, second = request_of(1).SerializeToString(), request_of(2).SerializeToString()
    with serving(tmp_path, pending_bytes=len(first) + 1) as server, ThreadPoolExecutor(1) as pool:
        with server.writer_held():
            waiting = pool.submit(server.traces, first)
            until(lambda: server.gateway.intake.counts().pending_requests == 1)
            busy = server.traces(second)
            chunked = server.send("POST", "/v1/traces", iter([second]), PROTOBUF)
            signal = server.signals({"signal_id": "1", "trace_id": TRACE, "kind": "copy", "text": "x" * 200})
            assert not waiting.done()
        assert [busy.status, chunked.status, signal.status] == [429, 429, 429]
        assert int(busy.headers["retry-after"]) >= 1
        assert Status.FromString(busy.body).code == 8
        assert waiting.result().status == 200
        counts = server.gateway.intake.counts()
        assert (counts.refused_requests, counts.pending_requests, counts.pending_bytes) == (3, 0, 0)
        # What was refused is taken when it comes again.
        assert server.traces(second).status == 200
        assert server.rows("SELECT count(*) AS n FROM spans") == [{"n": 2}]


def test_rows_that_wait_fill_the_queue_as_well_as_bodies(tmp_path: Path) -> None:
    """A body of a few kilobytes that unpacks to a megabyte of text."""
    large = request_of(1, text="x" * (1 << 20)).SerializeToString()
    with serving(tmp_path, pending_bytes=1 << 19) as server, ThreadPoolExecutor(1) as pool:
        with server.writer_held():
            waiting = pool.submit(lambda: server.traces(large, packed=True))
            until(lambda: server.gateway.intake.counts().pending_bytes > 1 << 20)
            assert server.traces(request_of(2).SerializeToString()).status == 429
        assert waiting.result().status == 200
        assert server.gateway.intake.counts().pending_bytes == 0


def until(true: Any) -> None:
    """Wait for something that another thread brings about."""
    tick = threading.Event()
    for _ in range(6_000):
        if true():
            return
        tick.wait(0.005)
    raise AssertionError("it did not come about in 30 s")


def test_a_store_that_is_closed_is_answered_503(server: LiveServer) -> None:
    server.gateway.intake.close()
    answer = server.traces(request_of(1).SerializeToString())
    assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    assert server.signals({"trace_id": TRACE, "kind": "copy"}).status == 503


def test_memory_that_is_used_up_is_answered_503(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def commit(*_: object) -> None:
        raise MemoryExhausted("1.8 GiB", "all of it is used")

    with monkeypatch.context() as patched:
        patched.setattr("pipelines.live.intake.live.commit", commit)
        patched.setattr(server.gateway.intake, "_pause", lambda seconds: None)
        answer = server.traces(request_of(1).SerializeToString())
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert b"TRIMTAB_MEMORY_LIMIT" in answer.body
    assert server.traces(request_of(1).SerializeToString()).status == 200


@pytest.mark.parametrize("path", ["/v1/traces", "/v1/signals", "/v1/upload"])
def test_only_posts_are_taken(server: LiveServer, path: str) -> None:
    assert server.get(path).status == 405


# Files


def test_an_uploaded_file_is_loaded_and_its_status_says_so(server: LiveServer) -> None:
    content = b"trace_id,span_id,kind,input\nt-1,a,llm,hello\nt-1,b,tool,again\nt-2,,llm,no id\n"
    answer = server.send("POST", "/v1/upload?name=spans.csv&source=exports", content)
    assert answer.status == 202
    url = answer.json()["status_url"]
    assert answer.headers["location"] == url == f"/v1/upload/{answer.json()['load_id']}"
    until(lambda: server.get(url).json()["state"] not in ("queued", "running"))
    status = server.get(url).json()
    assert (status["state"], status["file"], status["error"]) == ("done", "spans.csv", None)
    report = status["report"]
    assert (report["received"], report["accepted"], report["rejected"], report["source"]) == (3, 2, 1, "exports")
    assert server.rows("SELECT DISTINCT source FROM spans") == [{"source": "exports"}]
    assert server.rows("SELECT count(*) AS n FROM spans") == [{"n": 2}]


def test_a_file_leaves_a_row_in_the_audit_log_and_what_agents_send_does_not(tmp_path: Path) -> None:
    body = request_of(1).SerializeToString()
    with serving(tmp_path, keyless=False) as server:
        key = server.key("ingest", name="shop")
        sent = server.send("POST", "/v1/upload?name=spans.csv", b"trace_id,span_id,kind\nt-1,a,llm\n", key)
        until(lambda: server.get(sent.json()["status_url"], key).json()["state"] == "done")
        assert server.traces(body, {**PROTOBUF, **key}).status == 200
        assert server.signals({"signal_id": "1", "trace_id": TRACE, "kind": "copy"}, key).status == 200
        rows = server.rows("SELECT actor, action, subject, detail FROM audit_log WHERE action NOT LIKE 'key %'")
    ((row, detail),) = ((row, json.loads(row.pop("detail"))) for row in rows)
    assert row == {"actor": "key shop", "action": "file load", "subject": "batch 1"}
    assert (detail["file"], detail["accepted"], detail["rejected"]) == ("spans.csv", 1, 0)


def test_a_file_that_is_none_fails_with_a_reason(server: LiveServer) -> None:
    url = server.send("POST", "/v1/upload?name=..%2F..%2Fetc%2Fpasswd", b"\x00\x01\x02").json()["status_url"]
    until(lambda: server.get(url).json()["state"] not in ("queued", "running"))
    status = server.get(url).json()
    assert status["state"] == "failed"
    assert status["error"]
    assert server.get("/v1/upload/unknown").status == 404


def test_a_file_beyond_the_limit_is_refused(server: LiveServer, tmp_path: Path) -> None:
    too_much = (1 << 20) + 1
    stated = server.send("POST", "/v1/upload?name=a.csv", b"x" * too_much)
    chunked = server.send("POST", "/v1/upload?name=a.csv", (b"x" * 65_536 for _ in range(17)))
    assert [stated.status, chunked.status] == [413, 413]
    assert "1,048,576" in stated.json()["error"]
    folder = tmp_path / "uploads"
    assert not folder.exists() or not list(folder.iterdir())


# How the server is


def test_health_and_readiness(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert server.get("/healthz").json()["status"] == "ok"
    assert server.get("/readyz").json()["status"] == "ready"
    monkeypatch.setattr("gateway.health._READY_SECONDS", 0.05)
    with server.writer_held():
        answer = server.get("/readyz")
        assert answer.status == 503
        assert "writer" in answer.json()["error"]
        assert server.get("/healthz").status == 200
    monkeypatch.undo()
    assert server.get("/readyz").status == 200


def figures(server: LiveServer, headers: dict[str, str] | None = None) -> dict[tuple[str, ...], float]:
    """The samples of /metrics by name and label values."""
    answer = server.get("/metrics", headers)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


def test_metrics_count_what_happened(server: LiveServer) -> None:
    before = figures(server)
    assert before["trimtab_ingest_records_total", "taken"] == 0
    sent = request_of(1, 2, 3)
    sent.resource_spans[0].scope_spans[0].spans[2].span_id = b""
    server.traces(sent.SerializeToString())
    server.signals({"trace_id": TRACE, "kind": "copy"})
    server.send("POST", "/v1/signals", b"{}", {**JSON, "x-api-key": "nonsense"})
    after = figures(server)
    assert after["trimtab_ingest_records_total", "taken"] == 3
    assert after["trimtab_ingest_records_total", "rejected"] == 1
    assert after["trimtab_ingest_requests_total", "committed"] == 2
    assert after["trimtab_ingest_requests_total", "busy"] == after["trimtab_ingest_requests_total", "failed"] == 0
    assert after["trimtab_access_refused_total", "key_unknown"] == 1
    assert after["trimtab_ingest_pending_requests",] == after["trimtab_ingest_pending_bytes",] == 0
    assert after["trimtab_store_queue",] >= 0
    assert after["trimtab_commit_seconds_count",] == 2
    assert after["trimtab_commit_seconds_bucket", "+Inf"] == 2


def test_metrics_are_for_this_machine_and_for_admins(tmp_path: Path) -> None:
    with serving(tmp_path, keyless=False) as server:
        assert figures(server)
        assert server.get("/metrics", {"X-Forwarded-For": "203.0.113.9"}).status == 401
        away = {"X-Forwarded-For": "203.0.113.9"}
        assert server.get("/metrics", {**away, **server.key("ingest")}).status == 403
        assert figures(server, {**away, **server.key("admin")})


def test_a_request_that_cannot_be_stored_does_not_take_others_with_it(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two requests in one group, of which the store refuses one whatever it is told."""
    from store import live

    commit = live.commit

    def refusing(store: Any, groups: Any) -> None:
        for group in groups:
            table = group.tables["spans"]
            if "poison" in table.column("input").to_pylist():
                raise StoreError("this cannot be stored")
        commit(store, groups)

    monkeypatch.setattr(live, "commit", refusing)
    good, bad = request_of(1).SerializeToString(), request_of(2, text="poison").SerializeToString()
    with ThreadPoolExecutor(3) as pool:
        with server.writer_held():
            first = pool.submit(server.traces, request_of(5).SerializeToString())
            until(lambda: server.store.queue_depth >= 1)
            others = [pool.submit(server.traces, body) for body in (good, bad)]
            until(lambda: server.gateway.intake.counts().pending_requests == 3)
        assert first.result().status == 200
        assert [future.result().status for future in others] == [200, 500]
    names = [row["name"] for row in server.rows("FROM spans ORDER BY name")]
    assert names == ["step 1", "step 5"]
    assert figures(server)["trimtab_ingest_requests_total", "failed"] == 1
