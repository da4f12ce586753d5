"""The real server process: start, hand-over from the command line, stop, kill, and who may not start beside it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect

from pipelines.commands.remote import RemoteOperations, ServerError, find_server
from store import adhoc, api_keys, job_runs, presence
from store.connection import Store

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 120.0  # seconds after which a process that should have done something has failed

pytestmark = pytest.mark.process


class Server:
    """A server process on a store of its own."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.db = folder / "trimtab.duckdb"
        self.port = free_port()
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("TRIMTAB_")} | {
            "TRIMTAB_DB": str(self.db),
            "TRIMTAB_INBOX": str(folder / "inbox"),
            "TRIMTAB_PORT": str(self.port),
            "TRIMTAB_MEMORY_LIMIT": "1GB",
            **settings,
        }
        self.log = folder / f"server-{self.port}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dashboard.server"],
                cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def wait_until_up(self) -> "Server":
        """Wait until commands can find it and it answers."""

        def up() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return find_server(self.db) is not None and self.get("/healthz") == 200

        until(up, self.log)
        return self

    def get(self, path: str) -> int:
        """The status of a page."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except OSError:
            return 0

    def command(self, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        """Run a command of the command line beside the server."""
        return subprocess.run(
            [sys.executable, "-m", "pipelines", *map(str, arguments)],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=LIMIT, check=False,
        )  # fmt: skip

    def remote(self) -> RemoteOperations:
        """The control routes of the server."""
        found = find_server(self.db)
        assert found is not None
        return found

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(LIMIT)


def until(condition: Callable[[], bool], log: Path | None = None) -> None:
    """Wait for a condition of another process, up to the limit."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, log.read_text() if log else "it did not happen in time"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers on one store and ends those that a test left running."""
    started: list[Server] = []

    def start(**settings: str) -> Server:
        server = Server(tmp_path, **settings)
        started.append(server)
        return server

    yield start
    for server in started:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait(LIMIT)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file that takes seconds to load."""
    path = tmp_path / "large.csv"
    text = "the same answer again and again " * 10
    with path.open("w") as file:
        file.write("trace_id,agent,input\n")
        file.writelines(f"t{number},bot,{text}\n" for number in range(200_000))
    return path


def test_commands_hand_their_work_to_the_server(serve: Callable[..., Server], tmp_path: Path) -> None:
    traces = tmp_path / "traces.csv"
    traces.write_text("trace_id,agent\na,bot\nb,bot\n")
    inbox = tmp_path / "inbox" / "shop"
    inbox.mkdir(parents=True)
    (inbox / "more.csv").write_text("trace_id,agent\nc,bot\n")
    server = serve().wait_until_up()
    assert server.get("/") == 200
    assert server.get("/control/jobs") == 401

    ingested = server.command("ingest", traces, "--json")
    assert (ingested.returncode, ingested.stderr) == (0, "")
    assert json.loads(ingested.stdout)["accepted"] == 2
    failed = server.command("ingest", tmp_path / "missing.csv")
    assert failed.returncode == 1
    assert "missing.csv" in failed.stderr

    ran = server.command("run", "link-signals", "--json")
    assert (ran.returncode, json.loads(ran.stdout)["status"]) == (0, "succeeded")
    listed = server.command("jobs", "--json")
    assert listed.returncode == 0
    assert {job["job"]: job["status"] for job in json.loads(listed.stdout)}["link-signals"] == "succeeded"

    answered = server.command("sql", "SELECT trace_id FROM traces WHERE trace_id <> 'c' ORDER BY 1", "--format", "csv")
    assert (answered.returncode, answered.stdout) == (0, "trace_id\na\nb\n")
    refused = server.command("sql", "DROP TABLE traces")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "type DROP" in refused.stderr

    saved = server.command("backup", tmp_path / "copy.duckdb")
    assert (saved.returncode, saved.stderr) == (0, "")
    log = [json.loads(line) for line in server.command("audit", "export").stdout.splitlines()]
    (loaded,) = (row for row in log if row["action"] == "file load" and row["detail"]["file"] == traces.name)
    assert loaded["actor"].startswith("command line")
    assert loaded["detail"]["accepted"] == 2
    (backed_up,) = (row for row in log if row["action"] == "backup make")
    assert backed_up["actor"].startswith("command line")
    assert backed_up["detail"]["file"] == str(tmp_path / "copy.duckdb")
    assert (tmp_path / "copy.duckdb").stat().st_size > 0

    for arguments in (["restore", tmp_path / "copy.duckdb", "--force"], ["demo"]):
        held = server.command(*arguments)
        assert held.returncode == 1
        assert f"process {server.process.pid}" in held.stderr

    until(lambda: (tmp_path / "inbox" / "done" / "shop" / "more.csv.report.json").exists(), server.log)
    assert server.stop() == 0
    assert not presence.presence_file(server.db).exists()
    assert "Traceback" not in server.log.read_text()
    store = Store.open(server.db, threads=1)
    try:
        frame = adhoc.query(store, "SELECT trace_id, source FROM traces ORDER BY 1")
        assert frame["trace_id"].to_list() == ["a", "b", "c"]
        assert frame["source"].to_list()[2] == "shop"
    finally:
        store.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_at_once_though_a_browser_is_connected(serve: Callable[..., Server], number: int) -> None:
    server = serve().wait_until_up()
    with connect(f"ws://127.0.0.1:{server.port}/_stcore/stream", subprotocols=None, origin=None):
        began = time.monotonic()
        assert server.stop(number) == 0
        assert time.monotonic() - began < LIMIT / 2
    assert not presence.presence_file(server.db).exists()


def test_only_one_server_has_the_file_and_the_port(serve: Callable[..., Server], tmp_path: Path) -> None:
    first = serve().wait_until_up()
    second = serve()
    assert second.process.wait(LIMIT) == 1
    told = second.log.read_text()
    assert told.startswith("error: ")
    assert f"process {first.process.pid}" in told
    assert len(told.splitlines()) == 1
    third = serve(TRIMTAB_PORT=str(first.port), TRIMTAB_DB=str(tmp_path / "other.duckdb"))
    assert third.process.wait(LIMIT) == 1
    told = third.log.read_text()
    assert f"Port {first.port} on 127.0.0.1" in told
    assert len(told.splitlines()) == 1
    assert first.get("/healthz") == 200
    assert first.command("jobs").returncode == 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"TRIMTAB_PORT": "http"}, "TRIMTAB_PORT"),
        ({"TRIMTAB_PROT": "1"}, "TRIMTAB_PROT"),
        ({"TRIMTAB_HOST": "0.0.0.0"}, "TRIMTAB_HOST"),
    ],
)
def test_a_wrong_setting_is_told_in_one_line(serve: Callable[..., Server], settings: dict[str, str], said: str) -> None:
    server = serve(**settings)
    assert server.process.wait(LIMIT) == 2
    told = server.log.read_text()
    assert said in told
    assert len(told.splitlines()) == 1
    assert not server.db.exists()


def test_keys_are_made_and_revoked_while_it_serves(serve: Callable[..., Server]) -> None:
    server = serve().wait_until_up()
    made = server.command("key", "create", "--scope", "ingest", "--name", "shop", "--json")
    assert (made.returncode, made.stderr) == (0, "")
    key = json.loads(made.stdout)
    listed = json.loads(server.command("key", "list", "--json").stdout)
    assert [(row["key_id"], row["name"], row["revoked_at"]) for row in listed] == [(key["key_id"], "shop", None)]
    revoked = server.command("key", "revoke", key["key_id"])
    assert (revoked.returncode, revoked.stderr) == (0, "")
    unknown = server.command("key", "revoke", "0" * 12)
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "no API key" in unknown.stderr
    assert json.loads(server.command("key", "list", "--json").stdout)[0]["revoked_at"] is not None
    assert server.stop() == 0
    assert key["key"][16:] not in server.log.read_text()


def test_other_addresses_are_refused_also_with_a_key(serve: Callable[..., Server], tmp_path: Path) -> None:
    store = Store.open(tmp_path / "trimtab.duckdb", threads=1)
    api_keys.create(store, scopes=["ingest"], operator="Ada")
    store.close()
    server = serve(TRIMTAB_HOST="0.0.0.0")
    assert server.process.wait(LIMIT) == 2
    assert "sign-in" in server.log.read_text()


def test_after_a_kill_the_next_start_catches_up_and_works(serve: Callable[..., Server], tmp_path: Path) -> None:
    store = Store.open(tmp_path / "trimtab.duckdb", threads=1)
    run_id = job_runs.begin(store, job="link-signals", cause="schedule", attempt=1, watermark=0, code_version="x")
    store.close()
    traces = tmp_path / "traces.csv"
    traces.write_text("trace_id,agent\na,bot\n")
    first = serve().wait_until_up()
    assert first.command("ingest", traces).returncode == 0
    first.process.kill()
    first.process.wait(LIMIT)
    assert presence.presence_file(first.db).exists()
    second = serve().wait_until_up()
    assert second.command("ingest", traces, "--json").stdout.count('"duplicate": 1') == 1

    def caught_up() -> bool:
        rows = (
            second.remote().sql("SELECT run_id, status, cause FROM job_runs WHERE job = 'link-signals'", 10).to_dicts()
        )
        assert next(row for row in rows if row["run_id"] == run_id)["status"] == "interrupted"
        return any(row["cause"] == "catch-up" and row["status"] == "succeeded" for row in rows)

    until(caught_up, second.log)
    assert second.stop() == 0


def test_a_load_cut_off_by_a_kill_is_told_and_continues(serve: Callable[..., Server], large: Path) -> None:
    first = serve().wait_until_up()
    events = first.remote().ingest([large], None, None, "Ada")
    assert any(event["event"] == "progress" for event in events)
    first.process.kill()
    first.process.wait(LIMIT)
    with pytest.raises(ServerError, match=str(first.process.pid)):
        list(events)
    second = serve().wait_until_up()
    done = second.command("ingest", large, "--json")
    assert done.returncode == 0, done.stderr + second.log.read_text()
    report = json.loads(done.stdout)
    assert report["received"] == report["accepted"] + report["duplicate"] == 200_000
    count = "SELECT count(*) AS rows, count(DISTINCT trace_id) AS ids FROM trace_records"
    assert second.remote().sql(count, 10).rows() == [(200_000, 200_000)]
    assert second.stop() == 0


def test_stopping_ends_a_load_that_a_command_waits_for(serve: Callable[..., Server], large: Path) -> None:
    server = serve().wait_until_up()
    events = server.remote().ingest([large], None, None, "Ada")
    assert any(event["event"] == "progress" for event in events)
    assert server.stop() == 0
    last = list(events)[-1]
    assert (last["event"], "stopping" in last["error"]) == ("failed", True)
    assert not presence.presence_file(server.db).exists()
