"""Steering in a process of its own behind a real server: who answers what, on which connection, and what ends when."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from server_process import ServerProcess, wait_for_end
from steering_policies import policy_of

from pipelines.steering.replay import replay
from store import decisions, policies
from store.connection import Store

JSON = {"Content-Type": "application/json"}
_SECONDS = 30.0


def question(**fields: Any) -> bytes:
    return json.dumps({"agent": "support-bot", **fields}).encode()


def request(path: str, body: bytes | None = None, **headers: str) -> bytes:
    """A request as it travels."""
    lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", "Host: 127.0.0.1"]
    if body is not None:
        headers = {"Content-Length": str(len(body)), "Content-Type": "application/json", **headers}
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


class Line:
    """A connection on which bytes are sent as they are."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def send(self, content: bytes) -> None:
        self._socket.sendall(content)

    def answer(self) -> tuple[int, Any]:
        """The status and the JSON of the next answer."""
        status = int(self._file.readline().split()[1])
        length = 0
        while (line := self._file.readline().strip()) != b"":
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        body = self._file.read(length)
        return status, json.loads(body) if body.startswith((b"{", b"[")) else body

    def ask(self, content: bytes) -> tuple[int, Any]:
        self.send(content)
        return self.answer()


def alone(server: ServerProcess, content: bytes) -> tuple[int, Any]:
    """The answer on a connection of its own."""
    with closing(Line(server.port)) as line:
        return line.ask(content)


def process(server: ServerProcess) -> dict[str, Any]:
    """What the server says of its steering process."""
    told: dict[str, Any] = json.loads(server.get("/readyz")[2])["steering"]["process"]
    return told


def until(condition: Callable[[], bool], seconds: float = _SECONDS) -> None:
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        threading.Event().wait(0.02)
    raise AssertionError("it did not come about")


def prepared(db: Path) -> None:
    store = Store.open(db, threads=1)
    policies.publish(store, policy_of(), cause="operator")
    policies.publish(store, policy_of(agent="team/bot"), cause="operator")
    store.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that no test ends; what it logged is replayed at the end."""
    folder = tmp_path_factory.mktemp("steering")
    db = folder / "steer.duckdb"
    prepared(db)
    with ServerProcess(db, folder / "server.log") as running:
        running.start()
        until(lambda: process(running)["state"] == "running")
        yield running
        running.terminate()
        assert running.ended() == 0
        wait_for_end(running.children())
    store = Store.open(db, threads=1)
    logged = decisions.recent(store, limit=100_000)
    assert logged.height > 10
    assert logged["decision_id"].n_unique() == logged.height
    assert replay(logged, lambda agent, version: policies.at(store, agent, version)).is_empty()
    store.close()


@pytest.fixture
def line(server: ServerProcess) -> Iterator[Line]:
    opened = Line(server.port)
    yield opened
    opened.close()


@pytest.mark.process
def test_questions_are_answered_while_the_server_stands_still(server: ServerProcess) -> None:
    """The strongest thing to be said of an interpreter that is busy with pages: it does not run at all."""
    with ExitStack() as stack:
        other = stack.enter_context(closing(Line(server.port)))
        os.kill(server.pid, signal.SIGSTOP)
        stack.callback(os.kill, server.pid, signal.SIGCONT)
        for number in range(20):
            with closing(Line(server.port)) as fresh:
                status, told = fresh.ask(request("/v1/steer", question(session_id=f"still-{number}")))
                assert (status, told["policy_version"]) == (200, 1)
        other.send(request("/healthz"))
        os.kill(server.pid, signal.SIGCONT)
        assert other.answer()[1]["status"] == "ok"


@pytest.mark.process
def test_whatever_is_no_question_is_answered_by_the_server_also_when_the_steering_process_stands_still(
    server: ServerProcess, line: Line
) -> None:
    assert line.ask(request("/healthz"))[0] == 200
    pid = process(server)["pid"]
    with ExitStack() as stack:
        stack.callback(os.kill, pid, signal.SIGCONT)
        os.kill(pid, signal.SIGSTOP)
        assert line.ask(request("/v1/policies/support-bot"))[0] == 200


@pytest.mark.process
@pytest.mark.parametrize(
    ("content", "status"),
    [
        (request("/v1/steer", question(session_id="slow")), 200),
        (request("/v1/steer?x=1", question(session_id="slow")), 200),
        (request("/v1/steer", b"{"), 400),
        (request("/v1/steering", question()), 405),
        (request("/v1/signals", b"[]"), 200),
        (request("/healthz"), 200),
        (request("/v1/steer", question(session_id="slow"), x_api_key="tt_nobody"), 401),
    ],
    ids=["steer", "steer with a query", "no question", "steering", "signals", "healthz", "a wrong key"],
)
def test_a_request_may_come_byte_by_byte(server: ServerProcess, line: Line, content: bytes, status: int) -> None:
    for place in range(len(content)):
        line.send(content[place : place + 1])
        if place < 20:
            threading.Event().wait(0.002)  # so that the first ones arrive one by one
    assert line.answer()[0] == status
    # The connection goes on, for either.
    assert line.ask(request("/v1/steer", question(session_id="slow")))[0] == 200
    assert line.ask(request("/healthz"))[0] == 200


@pytest.mark.process
def test_silent_connections_hold_nobody_up(server: ServerProcess) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(closing(Line(server.port))) for _ in range(40)]
        for number, each in enumerate(silent):
            each.send((b"", b"P", b"POST /v1/steer", b"POST /v1/steer HTTP/1.1\r\nHo", b"GET /heal")[number % 5])
        for number in range(20):
            with closing(Line(server.port)) as fresh:
                assert fresh.ask(request("/v1/steer", question(session_id=f"quick-{number}")))[0] == 200
                assert fresh.ask(request("/healthz"))[0] == 200
        # They were only slow.
        silent[1].send(request("/v1/steer", question())[1:])
        assert silent[1].answer()[0] == 200
        silent[4].send(b"thz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert silent[4].answer()[0] == 200


@pytest.mark.process
def test_one_connection_serves_both_in_turn(line: Line) -> None:
    arms = set()
    for turn in range(15):
        status, told = line.ask(request("/v1/steer", question(session_id="both")))
        assert (status, told["sticky"]) == (200, turn > 0)
        arms.add(told["arm"])
        assert line.ask(request("/v1/signals", b"[]"))[0] == 200
        # A path that only the server's router knows to be the same; the answer is the same process's.
        status, told = line.ask(request("/v1/%73teer", question(session_id="both")))
        assert (status, told["sticky"]) == (200, True)
        arms.add(told["arm"])
    assert len(arms) == 1


@pytest.mark.process
def test_requests_that_are_sent_ahead_are_answered_in_order(line: Line) -> None:
    ahead = [request("/v1/steer", question(session_id="ahead")) for _ in range(5)]
    line.send(b"".join(ahead))
    assert [line.answer()[0] for _ in ahead] == [200] * 5
    line.send(request("/healthz") + request("/v1/steer", question(session_id="ahead")) + request("/healthz"))
    answers = [line.answer() for _ in range(3)]
    assert [status for status, _ in answers] == [200, 200, 200]
    assert answers[1][1]["sticky"] is True
    # What the steering process may not answer, and can no longer give away, is refused and nothing of it is done.
    line.send(request("/v1/steer", question(session_id="ahead")) + request("/v1/signals", b"[]"))
    assert line.answer()[0] == 200
    status, told = line.answer()
    assert status == 421
    assert "connection of its own" in told["error"]


@pytest.mark.process
def test_a_large_body_comes_over_with_its_connection(server: ServerProcess, line: Line) -> None:
    assert line.ask(request("/v1/steer", question()))[0] == 200
    status, told = line.ask(request("/v1/signals", b"[" + b" " * 3_000_000 + b"]"))
    assert (status, told) == (200, {"accepted": 0, "rejected": []})
    assert line.ask(request("/v1/steer", question(input="x" * 900_000)))[0] == 200
    status, told = line.ask(request("/v1/steer", question(input="x" * 1_100_000)))
    assert status == 413


@pytest.mark.process
def test_what_a_client_may_do_does_not_depend_on_who_accepted(server: ServerProcess) -> None:
    """Its address is known in both; a request that speaks for another machine is refused in both."""
    for path in ("/v1/steer", "/v1/%73teer"):
        with closing(Line(server.port)) as fresh:
            assert fresh.ask(request(path, question()))[0] == 200
            for speaks in ({"X_Forwarded_For": "10.0.0.7"}, {"Origin": "http://evil.example"}):
                status, told = fresh.ask(request(path, question(), **speaks))
                assert status == 401
                assert "An API key with the scope steer is needed" in told["error"]


@pytest.mark.process
def test_an_agent_may_have_a_slash_in_its_name(server: ServerProcess, line: Line) -> None:
    assert line.ask(request("/v1/steer", question(agent="team/bot")))[0] == 200
    for path in ("/v1/policies/team/bot", "/v1/policies/team%2Fbot"):
        status, told = line.ask(request(path))
        assert (status, told["agent"]) == (200, "team/bot")


@pytest.mark.process
def test_the_figures_of_the_process_are_the_servers(server: ServerProcess, line: Line) -> None:
    def figure(name: str) -> float:
        text = server.get("/metrics")[2].decode()
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    made = figure('trimtab_steer_decisions_total{kind="all"}')
    bad = figure('trimtab_steer_refused_total{status="400"}')
    wrong = figure('trimtab_access_refused_total{reason="key_unknown"}')
    for _ in range(7):
        assert line.ask(request("/v1/steer", question()))[0] == 200
    assert line.ask(request("/v1/steer", b"{"))[0] == 400
    assert line.ask(request("/v1/steer", b"{", x_api_key="tt_nobody"))[0] == 401
    assert figure('trimtab_steer_decisions_total{kind="all"}') == made + 7
    assert figure('trimtab_steer_refused_total{status="400"}') == bad + 1
    until(lambda: figure('trimtab_access_refused_total{reason="key_unknown"}') == wrong + 1)
    until(lambda: figure("trimtab_steer_log_waiting") == 0.0)
    assert figure('trimtab_steer_logged_total{state="lost"}') == 0.0


def run(server: ServerProcess, *arguments: str) -> Any:
    """What a command prints, which hands its work to the server."""
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", *arguments, "--db", str(server.db)],
        cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if "--json" in arguments else done.stdout


@pytest.mark.process
def test_keys_are_in_force_from_the_moment_they_are_made_until_they_are_revoked(
    server: ServerProcess,
) -> None:
    made = run(server, "key", "create", "--scope", "steer", "--name", "bot", "--json")
    asked = request("/v1/steer", question(), x_api_key=made["key"])
    assert alone(server, asked)[0] == 200
    narrow = run(server, "key", "create", "--scope", "ingest", "--name", "other", "--json")
    assert alone(server, request("/v1/steer", question(), x_api_key=narrow["key"]))[0] == 403
    run(server, "key", "revoke", made["key_id"])
    assert alone(server, asked)[0] == 401
    listed = {each["key_id"]: each for each in run(server, "key", "list", "--json")}
    assert listed[made["key_id"]]["last_used_at"] is not None


@pytest.mark.process
def test_a_new_policy_reaches_the_process(server: ServerProcess) -> None:
    key = run(server, "key", "create", "--scope", "admin", "--json")["key"]
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=_SECONDS)
    arm = json.dumps({"kind": "prompt", "definition": {"p": "1"}, "baseline": True})
    connection.request("PUT", "/v1/arms/fresh-bot/only", arm, {**JSON, "x-api-key": key})
    with connection.getresponse() as response:
        assert response.status == 201
        response.read()
    connection.close()
    until(lambda: alone(server, request("/v1/steer", question(agent="fresh-bot")))[0] == 200)
    assert alone(server, request("/v1/steer", question(agent="fresh-bot")))[1]["arm"] == "only"


# Ends


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[ServerProcess]:
    db = tmp_path / "steer.duckdb"
    prepared(db)
    with ServerProcess(db, tmp_path / "server.log", grace_seconds=5.0) as running:
        running.start()
        yield running


@pytest.mark.process
def test_a_steering_process_that_is_killed_has_a_successor_that_carries_on(mortal: ServerProcess) -> None:
    before = {}
    with closing(Line(mortal.port)) as line:
        for number in range(40):
            told = line.ask(request("/v1/steer", question(session_id=f"s-{number}")))[1]
            before[f"s-{number}"] = told["arm"]
    for life in (2, 3):
        until(lambda: b"trimtab_steer_log_fresh 0.0" in mortal.get("/metrics")[2])
        pid = process(mortal)["pid"]
        with closing(Line(mortal.port)) as line:
            assert line.ask(request("/healthz"))[0] == 200
            os.kill(pid, signal.SIGKILL)
            wait_for_end([pid])
            # Nothing else is disturbed, on connections old and new.
            assert line.ask(request("/healthz"))[0] == 200
            assert mortal.get("/healthz")[0] == 200
        # A question waits for the successor, and is told to come again when that takes long.
        with closing(Line(mortal.port)) as line:
            for session, arm in before.items():
                while (answer := line.ask(request("/v1/steer", question(session_id=session))))[0] == 503:
                    assert "is being started again" in answer[1]["error"]
                assert (answer[0], answer[1]["arm"], answer[1]["sticky"]) == (200, arm, True)
        assert process(mortal)["pid"] not in (None, pid)
        assert process(mortal)["starts"] == life
        # Before others where that is granted; each successor as the one before it.
        assert process(mortal)["niceness"] in (-10, os.getpriority(os.PRIO_PROCESS, 0))
    made = re.search(rb'trimtab_steer_decisions_total{kind="all"} (\S+)', mortal.get("/metrics")[2])
    assert made is not None
    assert float(made[1]) == 120.0
    mortal.terminate()
    assert mortal.ended() == 0
    store = Store.open(mortal.db, threads=1)
    logged = decisions.recent(store, limit=1_000)
    store.close()
    assert logged.height == logged["decision_id"].n_unique() == 120


@pytest.mark.process
def test_a_stop_that_is_sent_to_the_steering_process_loses_nothing(mortal: ServerProcess) -> None:
    """As to all processes of a service: it puts into files what it has answered."""
    pid = process(mortal)["pid"]
    answered = set()
    with closing(Line(mortal.port)) as line:
        for _ in range(20):
            answered.add(line.ask(request("/v1/steer", question()))[1]["decision_id"])
        os.kill(pid, signal.SIGTERM)
    wait_for_end([pid])
    mortal.terminate()
    assert mortal.ended() == 0
    store = Store.open(mortal.db, threads=1)
    assert set(decisions.recent(store, limit=1_000)["decision_id"]) == answered
    store.close()


@pytest.mark.process
def test_no_steering_process_outlives_its_server(mortal: ServerProcess) -> None:
    pid = process(mortal)["pid"]
    idle = Line(mortal.port)
    assert idle.ask(request("/v1/steer", question()))[0] == 200
    mortal.kill()
    wait_for_end([pid], 5.0)
    idle.close()
    # The port is free for who comes next.
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", mortal.port))


@pytest.mark.process
def test_a_stop_waits_for_no_idle_or_half_request(mortal: ServerProcess) -> None:
    """And answers the one that is under way."""
    with ExitStack() as stack:
        idle, half, slow = (stack.enter_context(closing(Line(mortal.port))) for _ in range(3))
        assert idle.ask(request("/v1/steer", question()))[0] == 200
        half.send(b"POST /v1/st")
        body = question(session_id="slow")
        content = request("/v1/steer", body)
        slow.send(content[: -len(body)] + body[:5])
        assert idle.ask(request("/v1/steer", question()))[0] == 200
        pid = process(mortal)["pid"]
        mortal.terminate()
        slow.send(body[5:])
        assert slow.answer()[0] == 200
        assert mortal.ended() == 0
        wait_for_end([pid], 5.0)
