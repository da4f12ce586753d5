"""The one-file client against servers that are honest, dead, slow, lying and redirecting, on real sockets."""

import ast
import json
import os
import select
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from docs.client import trimtab_steer
from docs.client.trimtab_steer import Decision, Limits, Trimtab
from tests.client.steer_servers import (
    Listening,
    Request,
    answer,
    dripping,
    endless,
    honest,
    listening,
    read_request,
    replying,
    response,
)

CLIENT = Path(trimtab_steer.__file__)
PATIENT = 30.0  # seconds: for tests of what is answered, on a machine that may be busy
PROMISE = 1.0  # seconds: far over the 50 ms of a call, far under what a server that is waited for takes


class Time:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def client_of(url: str, **changed: Any) -> Trimtab:
    return Trimtab(url, **{"agent": "support", "timeout": PATIENT, "fallback_arm": "v1", **changed})


@pytest.fixture
def server() -> Iterator[Listening]:
    with listening(honest()) as honest_server:
        yield honest_server


# What an honest server answers


def test_an_answer_is_a_decision(server: Listening) -> None:
    with client_of(server.url, api_key="tt_secret") as client:
        decision = client.steer(user_id="u7", session_id="s3", task="refund", input="Where is it?", arms=["v1", "v2"])
    assert decision == Decision(
        arm="v2", source="server", decision_id="d1", explore=True, propensity=0.25,
        propensities={"v1": 0.75, "v2": 0.25}, policy_version=7, definition={"model": "small"},
        lessons=("l1", "l2"), instructions="Be brief.",
        limits=Limits(off_limits_tools=("refund",), min_delay_seconds=2.0, max_spend_usd=0.5),
        solicit=True, solicit_propensity=0.02, task="refund", ttl_s=60.0,
    )  # fmt: skip
    (request,) = server.requests
    assert request.line == "POST /v1/steer HTTP/1.1"
    assert request.headers["Authorization"] == "Bearer tt_secret"
    assert request.headers["Host"] == f"127.0.0.1:{server.port}"
    assert "tt_secret" not in json.dumps([request.line, request.body])
    assert request.body == {
        "agent": "support", "user_id": "u7", "session_id": "s3", "task": "refund", "input": "Where is it?",
        "arms": ["v1", "v2"],
    }  # fmt: skip


def test_the_path_of_the_address_is_kept_and_no_key_means_no_header(server: Listening) -> None:
    with client_of(f"{server.url}/trimtab/") as client:
        assert client.steer().source == "server"
    (request,) = server.requests
    assert request.line == "POST /trimtab/v1/steer HTTP/1.1"
    assert "Authorization" not in request.headers
    assert request.body == {"agent": "support"}


def test_text_of_any_kind_and_length_travels(server: Listening) -> None:
    with client_of(server.url) as client:
        assert client.steer(input="Grüße 📦\ud800\r\n\0" + "x" * 1_000_000).source == "server"
    assert server.requests[0].body["input"].startswith("Grüße 📦\ud800\r\n\0x")
    assert len(server.requests[0].body["input"]) == 20_000


def test_what_an_older_server_leaves_out_is_empty() -> None:
    needed = ("decision_id", "policy_version", "arm", "propensity", "propensities")
    bare = {name: answer()[name] for name in needed}
    with listening(replying(lambda _: response(bare))) as server, client_of(server.url) as client:
        decision = client.steer(session_id="s")
        assert (decision.limits, decision.lessons, decision.instructions) == (Limits(), (), "")
        assert (decision.explore, decision.solicit, decision.definition, decision.ttl_s) == (False, False, {}, 0.0)
        client.steer(session_id="s")
    assert len(server.requests) == 2, "an answer without ttl_s is not kept"


def test_one_connection_serves_many_calls(server: Listening) -> None:
    with client_of(server.url) as client:
        assert all(client.steer().source == "server" for _ in range(50))
    assert (server.connections, len(server.requests)) == (1, 50)


def test_a_connection_that_the_server_closed_meanwhile_costs_nothing() -> None:
    """Both ways: the end has come before the next request, and it comes only while that request is on its way."""
    late = threading.Event()

    def handle(server: Listening, connection: socket.socket) -> None:
        with connection.makefile("rb") as incoming:
            server.requests.append(read_request(incoming))
            connection.sendall(response(answer()))
            if late.is_set():
                read_request(incoming)  # and no answer to it

    with listening(handle) as server, client_of(server.url) as client:
        for at in range(6):
            if at == 3:
                late.set()
            assert client.steer().source == "server"
    assert len(server.requests) == 6


def test_a_restart_of_the_server_costs_nothing() -> None:
    with listening(honest()) as first:
        client = client_of(first.url)
        with ThreadPoolExecutor(8) as pool:
            assert {each.source for each in pool.map(lambda _: client.steer(), range(64))} == {"server"}
        port = first.port
    accepting = socket.create_server(("127.0.0.1", port))
    thread = threading.Thread(target=_serve_once, args=(accepting,), daemon=True)
    thread.start()
    with client:
        assert client.steer().decision_id == "after"
    thread.join(PATIENT)
    accepting.close()


def _serve_once(accepting: socket.socket) -> None:
    connection, _ = accepting.accept()
    with connection, connection.makefile("rb") as incoming:
        read_request(incoming)
        connection.sendall(response(answer(decision_id="after"), headers="Connection: close\r\n"))


def test_names_of_arms_are_compared_as_the_server_compares_them() -> None:
    composed, apart = "caf\u00e9", "cafe\u0301"
    named = answer(arm=composed, propensities={"v1": 0.75, composed: 0.25})
    with listening(replying(lambda _: response(named))) as server, client_of(server.url) as client:
        decision = client.steer(session_id="s", arms=["v1", f" {apart} "])
        assert (decision.arm, decision.source) == (composed, "server")
    assert server.requests[0].body["arms"] == ["v1", composed]


def test_of_arms_that_may_not_run_the_answer_is_the_fallback_arm() -> None:
    """The server answers with the baseline where all arms that were asked for are switched off."""
    baseline = answer(arm="v1", propensity=1.0, propensities={"v1": 1.0}, note="none of the arms may be drawn")
    with listening(replying(lambda _: response(baseline))) as server:
        with client_of(server.url, fallback_arm="v1") as client:
            decision = client.steer(arms=["v2"])
            assert (decision.arm, decision.source, decision.decision_id) == ("v1", "server", "d1")
            assert decision.note == "none of the arms may be drawn"
        with client_of(server.url, fallback_arm="v0") as client:
            for _ in range(5):  # no failure of the server, which is asked again
                decision = client.steer(session_id="s", arms=["v2"])
                assert (decision.arm, decision.source, decision.decision_id) == ("v0", "fallback", None)
                assert "'v1', which was not offered: none of the arms" in (decision.note or "")
    assert len(server.requests) == 6


# The cache


def test_a_session_keeps_its_answer_for_as_long_as_the_server_says() -> None:
    count = iter(range(100))
    clock = Time()
    with (
        listening(replying(lambda _: response(answer(decision_id=f"d{next(count)}", ttl_s=30)))) as server,
        client_of(server.url, clock=clock) as client,
    ):
        first = client.steer(session_id="s", user_id="u")
        clock.now += 29.9
        again = client.steer(session_id="s", user_id="u", input="another turn")
        assert (first.decision_id, again.decision_id) == ("d0", "d0")
        assert (first.source, again.source) == ("server", "cache")
        assert (first.solicit, again.solicit) == (True, False), "feedback is asked for once"
        assert again.solicit_propensity == first.solicit_propensity
        clock.now += 0.1
        assert client.steer(session_id="s", user_id="u").decision_id == "d1"
        # Anything else that the answer depends on is another question.
        asked = [{"session_id": "t"}, {"user_id": "v"}, {"task": "refund"}, {"arms": ["v2"]}]
        others = [client.steer(**{"session_id": "s", "user_id": "u", **other}) for other in asked]
        assert [each.decision_id for each in others] == ["d2", "d3", "d4", "d5"]
        # Without a session every call is a decision of its own.
        assert [client.steer(user_id="u").decision_id for _ in range(3)] == ["d6", "d7", "d8"]


@pytest.mark.parametrize("blank", ["", "  "])
def test_a_blank_session_is_none(server: Listening, blank: str) -> None:
    """Else everybody without a session would share one."""
    with client_of(server.url) as client:
        assert [client.steer(session_id=blank, user_id=blank, task=blank).source for _ in range(2)] == ["server"] * 2
    assert [request.body for request in server.requests] == [{"agent": "support"}] * 2


def test_whoever_changes_a_decision_changes_nobody_elses(server: Listening) -> None:
    with client_of(server.url) as client:
        for _ in range(3):
            definition = client.steer(session_id="s").definition
            assert definition == {"model": "small"}
            definition["model"] = "ruined"  # type: ignore[index]


def test_what_is_kept_is_bounded(server: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trimtab_steer, "_MOST_SESSIONS", 10)
    with client_of(server.url) as client:
        for number in range(25):
            client.steer(session_id=f"s{number}")
        assert client.steer(session_id="s24").source == "cache"
        assert client.steer(session_id="s14").source == "server"
        assert len(client._sessions) == 10


# A server that is dead


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_dead_server_gives_the_fallback_arm() -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    limits = Limits(off_limits_tools=("refund",))
    with client_of(url, fallback_limits=limits) as client:
        decision = client.steer(session_id="s", task="t")
    assert (decision.arm, decision.source, decision.limits, decision.task) == ("v1", "fallback", limits, "t")
    assert (decision.decision_id, decision.propensity, decision.policy_version) == (None, None, None)
    assert decision.propensities == {}
    assert "refused" in (decision.note or "")
    with client_of(url) as client:
        assert client.steer(arms=["v3", "v4"]).arm == "v1"
        with pytest.raises(ValueError, match="arms is empty"):
            client.steer(arms=[])
    with client_of(url, fallback_arm=None) as client:
        assert client.steer().arm is None
        assert client.steer(arms=["v3", "v4"]).arm == "v3"


def test_a_session_goes_on_with_its_last_answer_and_others_under_its_limits() -> None:
    clock, port = Time(), 0
    with listening(honest(ttl_s=10)) as server:
        client = client_of(server.url, clock=clock)
        client.steer(session_id="s")
        port = server.port
    assert port
    with client:
        clock.now += 100.0
        kept = client.steer(session_id="s")
        assert (kept.arm, kept.decision_id, kept.propensity, kept.source) == ("v2", "d1", 0.25, "cache")
        assert "100 s ago" in (kept.note or "")
        other = client.steer(session_id="t")
        assert (other.arm, other.source, other.decision_id) == ("v1", "fallback", None)
        assert other.limits.off_limits_tools == ("refund",), "an unreachable server lifts no limit"
        assert client.steer(session_id="s", arms=["v1"]).source == "fallback", "the kept answer's arm is not offered"
        assert client.steer(session_id="s", task="risky").source == "fallback", "another task may not be explored"
        clock.now += 3_600.0
        assert client.steer(session_id="s").source == "fallback"


def test_the_fallback_arm_comes_with_the_definition_last_heard() -> None:
    with listening(honest(arm="v1", propensity=0.75)) as server:
        client = client_of(server.url)
        assert client.steer().arm == "v1"
    with client:
        assert client.steer().source == "fallback"
        assert client.steer().definition == {"model": "small"}


def test_after_failures_in_a_row_nothing_is_asked_for_a_while() -> None:
    clock, healthy = Time(), threading.Event()

    def reply(_: Request) -> bytes:
        return response(answer()) if healthy.is_set() else response({"error": "out of order"}, "500 Oh")

    with listening(replying(reply)) as server, client_of(server.url, clock=clock) as client:

        def asked(calls: int = 5) -> int:
            before = len(server.requests)
            for _ in range(calls):
                decision = client.steer()
                assert (decision.source == "server") == healthy.is_set()
            return len(server.requests) - before

        assert asked() == 3
        pauses = []
        for _ in range(7):  # one call tries after each pause, which doubles
            pause = 0.0
            while asked() == 0:
                clock.now += 0.5
                pause += 0.5
            pauses.append(pause)
        assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
        clock.now += 30.0
        healthy.set()
        assert asked() == 5
        healthy.clear()
        assert asked() == 3, "after an answer the count starts again"


def test_one_call_tries_after_a_pause_and_calls_that_began_before_it_do_not_prolong_it() -> None:
    clock = Time()
    breaker = trimtab_steer._Breaker(clock)
    for _ in range(50):
        breaker.failed("no answer", clock.now)
    clock.now += 0.99
    assert not breaker.allows()
    clock.now += 0.01
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    clock.now += 1.0
    assert breaker.allows(), "the one that tried never said what it found"
    breaker.succeeded()
    assert [breaker.allows() for _ in range(3)] == [True, True, True]


def test_one_hiccup_is_one_failure_however_many_calls_were_on_their_way() -> None:
    clock = Time()
    breaker = trimtab_steer._Breaker(clock)
    for _ in range(2):
        began = clock.now
        for _ in range(50):
            clock.now += 0.001
            breaker.failed("no answer", began)
        assert breaker.allows()
    breaker.failed("no answer", clock.now)
    assert not breaker.allows()


def test_a_closed_client_falls_back(server: Listening) -> None:
    client = client_of(server.url)
    assert client.steer().source == "server"
    client.close()
    assert client.steer().note == "ConnectionError: the client was closed"
    assert len(server.requests) == 1


def test_one_refused_request_is_no_failure_of_the_server() -> None:
    def reply(request: Request) -> bytes:
        wrong = request.body.get("task") == "wrong"
        return response({"error": "task is wrong"}, "400 Bad") if wrong else response(answer())

    with listening(replying(reply)) as server, client_of(server.url) as client:
        for _ in range(5):
            refused = client.steer(task="wrong")
            assert (refused.source, refused.note) == ("fallback", "the server answered with status 400: task is wrong")
        assert client.steer().source == "server"
        assert (len(server.requests), server.connections) == (6, 1)


def test_a_server_that_asks_for_time_gets_it() -> None:
    clock = Time()
    busy = response({"error": "busy"}, "429 Busy", "Retry-After: 7\r\n")
    with listening(replying(lambda _: busy)) as server, client_of(server.url, clock=clock) as client:
        client.steer()
        clock.now += 6.9
        client.steer()
        assert len(server.requests) == 1
        clock.now += 0.2
        client.steer()
        assert len(server.requests) == 2


# A server that is slow: the promise is 50 ms, the tests would fail at a second


def falls_open_in_time(url: str, **changed: Any) -> Decision:
    with Trimtab(url, agent="support", fallback_arm="v1", **changed) as client:
        began = time.monotonic()
        decision = client.steer(session_id="s", input="📦" * 20_000)  # 240 kB as it travels
        assert time.monotonic() - began < PROMISE
    assert (decision.arm, decision.source, decision.decision_id) == ("v1", "fallback", None)
    return decision


GOOD = response(answer())


@pytest.mark.parametrize(
    "handle",
    [
        pytest.param(lambda server, connection: threading.Event().wait(PATIENT), id="never answers"),
        pytest.param(dripping(GOOD), id="drips from the first byte"),
        pytest.param(
            dripping(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 99), id="chunks"
        ),
        pytest.param(endless(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 10), id="headers without end"),
        pytest.param(endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), id="continue without end"),
        pytest.param(endless(b"HTTP/1.1 200 OK\r\n\r\n", b" " * 4_096), id="a body without end"),
        pytest.param(endless(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 65_536), id="a line without end"),
        pytest.param(
            endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 99), id="chunk size"
        ),
    ],
)
def test_a_slow_server_does_not_hold_the_agent(handle: Any) -> None:
    with listening(handle) as server:
        falls_open_in_time(server.url)


def test_a_body_that_drips_does_not_hold_the_agent() -> None:
    """Each byte comes well within the timeout, the whole long after it."""
    head, _, body = GOOD.partition(b"\r\n\r\n")

    def handle(server: Listening, connection: socket.socket) -> None:
        connection.sendall(head + b"\r\n\r\n")
        dripping(body)(server, connection)

    with listening(handle) as server:
        assert "TimeoutError" in (falls_open_in_time(server.url).note or "")


def test_a_server_that_reads_nothing_does_not_hold_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request does not fit what the network takes on its own."""
    connect = socket.create_connection

    def narrow(*given: Any, **named: Any) -> socket.socket:
        connection = connect(*given, **named)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        return connection

    monkeypatch.setattr(socket, "create_connection", narrow)
    with socket.socket() as accepting:
        accepting.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        accepting.bind(("127.0.0.1", 0))
        accepting.listen()
        falls_open_in_time(f"http://127.0.0.1:{accepting.getsockname()[1]}")


def test_a_network_that_drops_packets_does_not_hold_the_agent() -> None:
    """A listener whose queue is full leaves the first packet of a connection without an answer."""
    with socket.socket() as accepting, socket.socket() as one, socket.socket() as two:
        accepting.bind(("127.0.0.1", 0))
        accepting.listen(0)
        for other in (one, two):
            other.setblocking(False)
            other.connect_ex(accepting.getsockname())
        falls_open_in_time(f"http://127.0.0.1:{accepting.getsockname()[1]}")


def test_a_name_that_does_not_resolve_does_not_hold_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def lookup(*_: object, **__: object) -> Any:
        asked.set()
        go_on.wait(PATIENT)
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    falls_open_in_time("http://trimtab.invalid")
    assert asked.is_set()
    go_on.set()


def test_a_connection_that_comes_too_late_serves_the_next_call(
    server: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A far server takes longer to connect to than to ask."""
    near, may_connect = socket.create_connection, threading.Event()

    def far(*given: Any, **named: Any) -> socket.socket:
        may_connect.wait(PATIENT)
        return near(*given, **named)

    monkeypatch.setattr(socket, "create_connection", far)
    with client_of(server.url, timeout=0.05) as client:
        assert client.steer().source == "fallback"
        may_connect.set()
        with client._pool._changed:
            assert client._pool._changed.wait_for(lambda: client._pool._idle, PATIENT)
        client._timeout = PATIENT
        assert client.steer().source == "server"
    assert server.connections == 1


def test_an_answer_that_came_too_late_is_not_given_to_the_next_call() -> None:
    late = threading.Event()

    def reply(request: Request) -> bytes:
        if request.body["session_id"] == "slow":
            late.wait(PATIENT)
        return response(answer(decision_id=request.body["session_id"]))

    with listening(replying(reply)) as server, client_of(server.url, timeout=0.05) as client:
        assert client.steer(session_id="slow").source == "fallback"
        late.set()
        client._timeout = PATIENT
        assert [client.steer(session_id=f"s{n}").decision_id for n in range(20)] == [f"s{n}" for n in range(20)]


# A server that lies


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in answer().items() if name not in names}


LIES: dict[str, bytes] = {
    "nothing": b"",
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "HTML": response(b"<html>Sign in</html>", media="text/html"),
    "an empty body": response(b""),
    "a list": response([answer()]),
    "half a document": response(b'{"arm": "v2"'),
    "less than it stated": GOOD[:-5],
    "bytes that are no text": response(b'{"arm": "\xff\xfe"}'),
    "a huge body": response(b'{"arm": "' + b"x" * 2_000_000 + b'"}'),
    "a deep body": response(b"[" * 100_000),
    "a number of many digits": response(json.dumps(answer()).replace("60.0", "9" * 100_000).encode()),
    "an arm not offered": response(answer(arm="v3", propensities={"v1": 0.75, "v3": 0.25})),
    "no arm": response(without("arm")),
    "an arm that is no text": response(answer(arm=2)),
    "an endless decision": response(answer(decision_id="d" * 1_001)),
    "a padded body": response(json.dumps(answer()).encode() + b" " * (256 << 10)),
    "a version of many digits": response(answer(policy_version=10**30)),
    "no decision": response(without("decision_id")),
    "a decision of null": response(answer(decision_id=None)),
    "a propensity of NaN": response(answer(propensity=float("nan"))),
    "propensities of NaN": response(answer(propensities={"v1": float("nan"), "v2": 0.25})),
    "an infinite propensity": response(json.dumps(answer()).replace("0.25", "1e999").encode()),
    "a propensity of 0": response(answer(propensity=0.0, propensities={"v1": 1.0, "v2": 0.0})),
    "a propensity over 1": response(answer(propensity=1.25, propensities={"v1": -0.25, "v2": 1.25})),
    "a propensity of true": response(answer(propensity=True, propensities={"v1": 0.0, "v2": True})),
    "a propensity as text": response(answer(propensity="0.25")),
    "propensities that sum to less": response(answer(propensities={"v1": 0.5, "v2": 0.25})),
    "propensities without the arm": response(answer(propensities={"v1": 0.75, "v3": 0.25})),
    "another propensity than the arm's": response(answer(propensity=0.5)),
    "propensities in a list": response(answer(propensities=[0.75, 0.25])),
    "a version as text": response(answer(policy_version="7")),
    "explore as a number": response(answer(explore=1)),
    "lessons as a text": response(answer(lessons="l1")),
    "lessons of numbers": response(answer(lessons=[1])),
    "instructions as a list": response(answer(instructions=["Be brief."])),
    "limits as a list": response(answer(limits=["refund"])),
    "a limit of tools as a text": response(answer(limits={"off_limits_tools": "refund"})),
    "a negative delay": response(answer(limits={"min_delay_seconds": -1})),
    "an infinite spend": response(json.dumps(answer()).replace("0.5}", "1e999}").encode()),
    "a definition as a text": response(answer(definition="small")),
    "a negative ttl": response(answer(ttl_s=-1)),
    "a ttl as text": response(answer(ttl_s="60")),
    "solicit as text": response(answer(solicit="false")),
    "a status of none": response(answer(), "999 What"),
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "a compressed body": response(b"\x1f\x8b\x08\x00", headers="Content-Encoding: gzip\r\n"),
    "an upgrade": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
    "a hundred headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n{}",
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_lie_is_not_believed(lie: bytes) -> None:
    def handle(server: Listening, connection: socket.socket) -> None:
        with connection.makefile("rb") as incoming:
            server.requests.append(read_request(incoming))
            connection.sendall(lie)

    with listening(handle) as server, client_of(server.url) as client:
        decision = client.steer(session_id="s", arms=["v1", "v2"])
        assert (decision.arm, decision.source, decision.decision_id) == ("v1", "fallback", None)
        assert decision.propensity is None
        assert decision.note
        assert not client._sessions
        assert len(server.requests) == 1


def test_the_lies_differ_from_an_answer_that_is_believed() -> None:
    """So that what the lies are refused for is the lie."""
    with listening(replying(lambda _: GOOD)) as server, client_of(server.url) as client:
        assert client.steer(session_id="s", arms=["v1", "v2"]).source == "server"


def test_an_answer_that_comes_unasked_answers_nothing() -> None:
    may_inject, injected = threading.Event(), threading.Event()

    def handle(server: Listening, connection: socket.socket) -> None:
        with connection.makefile("rb") as incoming:
            asked = read_request(incoming)
            while asked is not None:
                connection.sendall(response(answer(decision_id=asked.body["session_id"])))
                if asked.body["session_id"] == "first":
                    may_inject.wait(PATIENT)
                    connection.sendall(response(answer(decision_id="injected")))
                    injected.set()
                asked = read_request(incoming)

    with listening(handle) as server, client_of(server.url) as client:
        assert client.steer(session_id="first").decision_id == "first"
        may_inject.set()
        assert injected.wait(PATIENT)
        assert client.steer(session_id="second").decision_id == "second"


def test_two_answers_to_one_request_do_not_answer_the_next() -> None:
    def reply(request: Request) -> bytes:
        right = response(answer(decision_id=request.body["session_id"]))
        return right + response(answer(decision_id="injected"))

    with listening(replying(reply)) as server, client_of(server.url) as client:
        assert [client.steer(session_id=f"s{n}").decision_id for n in range(20)] == [f"s{n}" for n in range(20)]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(answer())), JSON_VALUES, max_size=4), st.binary(max_size=30))
def test_any_answer_is_a_whole_decision_or_refused_by_one_error(changed: dict[str, Any], noise: bytes) -> None:
    whole = json.dumps(answer(**changed)).encode()
    for body in (whole, noise, whole[: len(noise)] + noise + whole[len(noise) :]):
        try:
            decision = trimtab_steer._read(body)
        except (ValueError, RecursionError):
            continue
        assert decision.arm
        assert decision.decision_id
        assert abs(sum(decision.propensities.values()) - 1.0) < 1e-6
        assert decision.propensity == decision.propensities[decision.arm] > 0.0
        assert 0.0 <= decision.ttl_s < float("inf")


# A server that sends elsewhere


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See", "307 Temporary", "308 Permanent"])
def test_a_redirect_is_not_followed(server: Listening, status: str) -> None:
    away = response(b"", status, f"Location: {server.url}/v1/steer\r\n")
    with listening(replying(lambda _: away)) as first, client_of(first.url, api_key="tt_secret") as client:
        decision = client.steer()
        assert (decision.source, decision.arm) == ("fallback", "v1")
        assert status[:3] in (decision.note or "")
    assert (server.connections, server.requests) == (0, [])


@pytest.mark.parametrize(
    ("url", "changed"),
    [
        ("trimtab.example", {}),
        ("ftp://trimtab.example", {}),
        ("file:///etc/passwd", {}),
        ("http://", {}),
        ("http://user:password@trimtab.example", {}),
        ("http://trimtab.example?x=1", {}),
        ("http://trimtab.example/a b", {}),
        ("http://trimtab.example/\r\nX-Injected: 1", {}),
        ("http://trimtab.example:99999", {}),
        ("http://trimtab.example", {"api_key": "secret\r\nX-Injected: 1"}),
        ("http://trimtab.example", {"api_key": ""}),
        ("http://trimtab.example", {"agent": " "}),
        ("http://trimtab.example", {"timeout": 0.0}),
        ("http://trimtab.example", {"timeout": float("nan")}),
    ],
)
def test_a_client_that_could_not_work_is_refused_when_it_is_made(url: str, changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|out of range") as refused:
        Trimtab(url, **{"agent": "support", **changed})
    assert "secret" not in str(refused.value)


# Many at once, and processes that fork


def test_thousands_of_calls_at_once_get_their_own_answers() -> None:
    """The server cuts, closes and lies now and then; no answer ever reaches another session."""

    def reply(request: Request) -> bytes:
        session = request.body["session_id"]
        right = response(answer(decision_id=session, ttl_s=0))
        match int(session[1:]) % 50:
            case 17:
                return b""
            case 23:
                return response(answer(decision_id=session, ttl_s=0), headers="Connection: close\r\n")
            case 31:
                return response({"error": "no"}, "400 Bad")
            case 43:
                return right + b"\0"
            case _:
                return right

    with (
        listening(replying(reply)) as server,
        client_of(server.url, clock=lambda: 0.0) as client,
        ThreadPoolExecutor(32) as pool,
    ):
        client._breaker.failed = lambda *_: None  # type: ignore[method-assign]
        sessions = [f"s{number}" for number in range(4_000)]
        decisions = list(pool.map(lambda session: client.steer(session_id=session), sessions))
    wrong = [(s, d) for s, d in zip(sessions, decisions, strict=True) if d.decision_id not in (s, None)]
    assert wrong == []
    fell = {int(s[1:]) % 50 for s, d in zip(sessions, decisions, strict=True) if d.source == "fallback"}
    assert fell == {17, 31}
    assert server.connections < 1_000


def test_a_process_that_forks_shares_no_connection_and_no_lock(server: Listening) -> None:
    with client_of(server.url) as client:
        client.steer()
        with client._lock, client._breaker._lock, client._pool._changed:  # as another thread may at that moment
            child = os.fork()
            if child == 0:
                try:
                    fine = client.steer(session_id="child").source == "server" == client.steer().source
                    os._exit(0 if fine else 3)
                finally:
                    os._exit(4)
        handle = os.pidfd_open(child)
        ended = select.select([handle], [], [], PATIENT)[0]
        os.close(handle)
        if not ended:
            os.kill(child, 9)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.steer().source == "server"
    assert (server.connections, len(server.requests)) == (2, 4)


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate of 127.0.0.1, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "36500", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1",
            "-keyout", str(folder / "key"), "-out", str(folder / "cert")]  # fmt: skip
    subprocess.run(made, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_bytes((folder / "key").read_bytes() + (folder / "cert").read_bytes())
    return both


def test_over_tls_with_a_trusted_certificate_only(certificate: Path) -> None:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))
    with listening(honest(), serving) as server:
        with client_of(server.url, api_key="k", ssl_context=trusting) as client:
            assert [client.steer().source for _ in range(20)] == ["server"] * 20
        assert (server.connections, len(server.requests)) == (1, 20)
        with client_of(server.url, api_key="k") as client:
            decision = client.steer()
            assert decision.source == "fallback"
            assert "CERTIFICATE_VERIFY_FAILED" in (decision.note or "")
        assert len(server.requests) == 20, "the key stayed here"


def test_a_tls_handshake_that_never_ends_does_not_hold_the_agent() -> None:
    with listening(lambda server, connection: threading.Event().wait(PATIENT)) as server:
        falls_open_in_time(server.url.replace("http:", "https:"))


# OpenTelemetry


@pytest.fixture
def traced() -> Iterator[tuple[TracerProvider, InMemorySpanExporter]]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider, exporter
    provider.shutdown()


def attributes(exporter: InMemorySpanExporter) -> dict[str, Any]:
    (span,) = exporter.get_finished_spans()
    assert span.attributes is not None
    return dict(span.attributes)


DRAWN = {
    "steer.source": "server", "steer.decision_id": "d1", "steer.arm": "v2", "steer.propensity": 0.25,
    "steer.propensities": '{"v1": 0.75, "v2": 0.25}', "steer.explore": True, "steer.policy.version": 7,
    "steer.lesson.ids": ("l1", "l2"), "steer.task": "refund",
}  # fmt: skip


def test_the_current_span_states_the_decision(server: Listening, traced: Any) -> None:
    provider, exporter = traced
    with client_of(server.url) as client, provider.get_tracer("t").start_as_current_span("answer"):
        client.steer(session_id="s", task="refund")
    assert attributes(exporter) == DRAWN


def test_a_span_may_be_given(server: Listening, traced: Any, caplog: pytest.LogCaptureFixture) -> None:
    provider, exporter = traced
    with client_of(server.url) as client:
        decision = client.steer(task="refund")
        span = provider.get_tracer("t").start_span("answer")
        decision.set_attributes(span)
        span.end()
        decision.set_attributes(span)  # ended
    assert caplog.records == []
    assert attributes(exporter) == DRAWN


def test_the_arm_that_ran_is_stated_instead_of_the_decided_one(server: Listening, traced: Any) -> None:
    """It was certain, not drawn: its propensity is 1, and the decision's id tells that another arm had been drawn."""
    provider, exporter = traced
    with client_of(server.url) as client, provider.get_tracer("t").start_as_current_span("answer"):
        decision = client.steer(task="refund")
        assert decision.executed("v2") is decision
        ran = decision.executed("v1")
    assert (ran.arm, ran.decision_id, ran.propensity, ran.definition) == ("v1", "d1", None, {})
    assert ran.note == "ran v1 instead of v2"
    changed = {"steer.arm": "v1", "steer.propensity": 1.0, "steer.propensities": '{"v1": 1.0}', "steer.explore": False}
    assert attributes(exporter) == {**DRAWN, **changed}


def test_a_fallback_states_no_decision(traced: Any) -> None:
    provider, exporter = traced
    with (
        client_of(f"http://127.0.0.1:{closed_port()}") as client,
        provider.get_tracer("t").start_as_current_span("answer"),
    ):
        client.steer()
    assert attributes(exporter) == {
        "steer.source": "fallback", "steer.arm": "v1", "steer.propensity": 1.0, "steer.propensities": '{"v1": 1.0}',
        "steer.explore": False,
    }  # fmt: skip


def test_a_span_that_fails_does_not_stop_the_agent() -> None:
    class Broken:
        def is_recording(self) -> bool:
            raise RuntimeError("the exporter is broken")

    Decision(arm="v1", source="fallback").set_attributes(Broken())


# One file, for any Python from 3.9


def test_the_file_is_python_3_9_and_needs_the_standard_library_only() -> None:
    tree = ast.parse(CLIENT.read_text(encoding="utf-8"), feature_version=(3, 9))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names


def interpreters() -> list[str]:
    """Other Pythons of this machine that are not older than 3.9."""
    found = [shutil.which(f"python3.{minor}") for minor in range(9, 20)]
    managed = Path.home().glob(".pyenv/versions/3.*/bin/python")
    return sorted({str(Path(each).resolve()) for each in [*found, *managed] if each and "shims" not in str(each)})


def test_the_file_runs_under_every_python_of_this_machine(server: Listening) -> None:
    script = (
        "import sys\nif sys.version_info < (3, 9): print('server old'); raise SystemExit\n"
        f"sys.path.insert(0, {str(CLIENT.parent)!r})\nfrom trimtab_steer import Trimtab\n"
        f"with Trimtab({server.url!r}, agent='a', timeout=30.0) as client:\n"
        "    print(client.steer(session_id='s').source, client.steer(session_id='s').source)\n"
    )
    for python in interpreters():
        ran = subprocess.run([python, "-I", "-W", "error", "-c", script], capture_output=True, text=True)
        assert ran.stdout.split()[:1] == ["server"], f"{python}: {ran.stderr}"


@pytest.mark.parametrize(
    ("text", "cited"),
    [
        ("I followed [l1].", ("l1",)),
        ("Lessons used: l2, l1", ("l1", "l2")),
        ("See l10, xl1, l1-b and l_2.", ()),
        ("", ()),
    ],
)
def test_the_lessons_that_a_text_cites(text: str, cited: tuple[str, ...]) -> None:
    decision = Decision(arm="v1", source="server", lessons=("l1", "l2"))
    assert decision.cited(text) == cited
    assert Decision(arm="v1", source="server", lessons=("a.b", "(")).cited("a.b or a+b (") == ("a.b", "(")
