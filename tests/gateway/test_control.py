"""The control routes: who may use them, what they answer, and what happens when the client goes away."""

import http.client
import json
import socket
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.testclient import TestClient

from gateway.control import routes
from pipelines.ingest.mapping import Mapping
from pipelines.operations import Event
from store.errors import ActionRefused, NotFound, QueryTimeout, StoreError, UnknownJob

TOKEN = "a-random-token"
LIMIT = 30.0  # seconds


class Fake:
    """Operations that answer what a test wants and remember what they were asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.error: Exception | None = None
        self.closed = threading.Event()

    def _ask(self, *what: object) -> None:
        self.asked.append(what)
        if self.error is not None:
            raise self.error

    def ingest(self, paths: list[Path], source: str | None, mapping: Mapping | None, operator: str) -> Generator[Event]:
        try:
            yield {"event": "progress", "file": "a.csv"}
            self._ask("ingest", paths, source, mapping, operator)
            yield {"event": "report", "file": "a.csv"}
        finally:
            self.closed.set()

    def run(self, job: str) -> Generator[Event]:
        self._ask("run", job)
        return (event for event in [{"event": "ended", "status": "succeeded"}])

    def jobs(self) -> list[dict[str, Any]]:
        self._ask("jobs")
        return [{"job": "inbox"}]

    def sql(self, text: str, timeout: float | None) -> pl.DataFrame:
        self._ask("sql", text, timeout)
        return pl.DataFrame({"n": [1, 2]})

    def backup(self, path: Path, operator: str) -> dict[str, Any]:
        self._ask("backup", path, operator)
        return {"path": str(path)}

    def create_key(
        self, scopes: list[str], name: str | None, rate: float | None, burst: int | None, operator: str
    ) -> dict[str, Any]:
        self._ask("create_key", scopes, name, rate, burst, operator)
        return {"key": "tt_x_y", "key_id": "x"}

    def keys(self) -> list[dict[str, Any]]:
        self._ask("keys")
        return [{"key_id": "x"}]

    def revoke_key(self, key_id: str, operator: str) -> dict[str, Any]:
        self._ask("revoke_key", key_id, operator)
        return {"key_id": key_id}

    def draft_preview(self, agent: str | None, task: str | None) -> dict[str, Any]:
        self._ask("draft_preview", agent, task)
        return {"task": task}


@pytest.fixture
def fake() -> Fake:
    return Fake()


def client_of(
    fake: Fake, *, token: str = TOKEN, host: str = "127.0.0.1", base: str = "http://127.0.0.1:8501"
) -> TestClient:
    app = Starlette(routes=list(routes(fake, TOKEN)))
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return TestClient(app, base_url=base, client=(host, 50000), headers=headers)


ROUTES = [
    ("GET", "/control/hello", None),
    ("POST", "/control/ingest", {"paths": ["/a.csv"], "operator": "Ada"}),
    ("POST", "/control/run", {"job": "inbox"}),
    ("GET", "/control/jobs", None),
    ("POST", "/control/sql", {"sql": "SELECT 1"}),
    ("POST", "/control/backup", {"path": "/b.duckdb", "operator": "Ada"}),
    ("GET", "/control/keys", None),
    ("POST", "/control/keys", {"scopes": ["ingest"], "operator": "Ada"}),
    ("POST", "/control/keys/revoke", {"key_id": "x", "operator": "Ada"}),
    ("POST", "/control/draft-preview", {"agent": None, "task": "t"}),
]


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
def test_every_route_works_with_the_token_from_this_machine(
    fake: Fake, method: str, path: str, body: dict[str, Any] | None
) -> None:
    assert client_of(fake).request(method, path, json=body).status_code == 200


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"token": ""}, 401),
        ({"token": "another-token"}, 401),
        ({"token": TOKEN + "x"}, 401),
        ({"host": "10.0.0.7"}, 403),
        ({"base": "http://rebound.example.com:8501"}, 403),
        ({"base": "http://10.0.0.1:8501"}, 403),
    ],
)
def test_nobody_else_gets_anything(
    fake: Fake, method: str, path: str, body: dict[str, Any] | None, changed: dict[str, str], status: int
) -> None:
    answer = client_of(fake, **changed).request(method, path, json=body)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert fake.asked == []


@pytest.mark.parametrize("base", ["http://localhost:8501", "http://[::1]:8501"])
def test_other_names_of_this_machine_are_fine(fake: Fake, base: str) -> None:
    assert client_of(fake, base=base).get("/control/hello").status_code == 200


def test_another_scheme_of_authorization_is_refused(fake: Fake) -> None:
    answer = client_of(fake, token="").get("/control/jobs", headers={"Authorization": f"Basic {TOKEN}"})
    assert answer.status_code == 401


def test_a_stream_is_one_object_a_line_and_says_when_it_ends(fake: Fake) -> None:
    mapping = Mapping("signals", (), "shop")
    body = {"paths": ["/x/a.csv"], "source": "shop", "mapping": mapping.to_json(), "operator": "Ada"}
    answer = client_of(fake).post("/control/ingest", json=body)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["event"] for line in lines] == ["progress", "report", "end"]
    assert fake.asked == [("ingest", [Path("/x/a.csv")], "shop", mapping, "Ada")]
    assert fake.closed.is_set()


def test_an_error_in_a_stream_is_its_last_line_but_one(fake: Fake) -> None:
    fake.error = StoreError("The disk is on the moon.")
    answer = client_of(fake).post("/control/ingest", json={"paths": ["/a.csv"], "operator": "Ada"})
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines[1] == {"event": "error", "error": "The disk is on the moon."}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnknownJob("x", ["inbox"]), 404),
        (ActionRefused("Backing up", "the file exists.", "Choose another."), 409),
        (QueryTimeout(1), 408),
        (NotFound("API key", "x"), 404),
        (StoreError("Binder Error: x"), 400),
    ],
)
@pytest.mark.parametrize(("method", "path", "body"), ROUTES[2:])
def test_errors_for_people_come_with_a_status(
    fake: Fake, error: Exception, status: int, method: str, path: str, body: dict[str, Any] | None
) -> None:
    fake.error = error
    answer = client_of(fake).request(method, path, json=body)
    assert (answer.status_code, answer.json()) == (status, {"error": str(error)})


def test_rows_come_as_arrow(fake: Fake) -> None:
    answer = client_of(fake).post("/control/sql", json={"sql": "SELECT 1", "timeout": 5})
    assert pl.read_ipc_stream(answer.content).equals(pl.DataFrame({"n": [1, 2]}))
    assert fake.asked == [("sql", "SELECT 1", 5.0)]


def test_a_key_is_made_and_no_cache_keeps_it(fake: Fake) -> None:
    body = {"scopes": ["ingest", "steer"], "name": "shop", "rate": 5, "burst": 9, "operator": "Ada"}
    answer = client_of(fake).post("/control/keys", json=body)
    assert answer.json() == {"key": "tt_x_y", "key_id": "x"}
    assert answer.headers["cache-control"] == "no-store"
    assert fake.asked == [("create_key", ["ingest", "steer"], "shop", 5.0, 9, "Ada")]


def test_a_key_is_revoked(fake: Fake) -> None:
    answer = client_of(fake).post("/control/keys/revoke", json={"key_id": "x", "operator": "Ada"})
    assert answer.json() == {"key_id": "x"}
    assert fake.asked == [("revoke_key", "x", "Ada")]


def test_when_the_client_goes_away_the_work_is_closed(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(*_: object) -> Generator[Event]:
        try:
            while not fake.closed.wait(0.01):
                yield {"event": "waiting"}
        finally:
            fake.closed.set()

    monkeypatch.setattr(fake, "ingest", endless)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        server = uvicorn.Server(uvicorn.Config(Starlette(routes=list(routes(fake, TOKEN))), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            client = http.client.HTTPConnection("127.0.0.1", listening.getsockname()[1], timeout=LIMIT)
            client.request(
                "POST", "/control/ingest", b'{"paths": ["/a"], "operator": "Ada"}', {"Authorization": f"Bearer {TOKEN}"}
            )
            answer = client.getresponse()
            assert json.loads(answer.readline()) == {"event": "waiting"}
            answer.close()
            client.close()
            assert fake.closed.wait(LIMIT)
        finally:
            fake.closed.set()
            server.should_exit = True
            thread.join(LIMIT)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("path", "content", "problem"),
    [
        ("/control/run", b"", "not JSON"),
        ("/control/run", b"\xff", "not JSON"),
        ("/control/run", b"[" * 100_000, "not JSON"),
        ("/control/run", b"[]", "must be a JSON object"),
        ("/control/run", b"{}", "job must be of type str"),
        ("/control/run", b'{"job": 1}', "job must be of type str"),
        ("/control/run", b'{"job": "' + b"x" * 1_000_001 + b'"}', "larger than"),
        ("/control/sql", b'{"sql": "SELECT 1", "timeout": "1"}', "timeout must be of type float"),
        ("/control/sql", b'{"sql": "SELECT 1", "timeout": true}', "timeout must be of type float"),
        ("/control/ingest", b'{"paths": []}', "absolute paths"),
        ("/control/ingest", b'{"paths": ["a.csv"]}', "absolute paths"),
        ("/control/ingest", b'{"paths": [1]}', "absolute paths"),
        ("/control/ingest", b'{"paths": ["/a"], "mapping": "{"}', "JSON"),
        ("/control/ingest", b'{"paths": ["/a"]}', "operator must be of type str"),
        ("/control/backup", b'{"path": "b.duckdb"}', "must be absolute"),
        ("/control/backup", b'{"path": "/b.duckdb"}', "operator must be of type str"),
        ("/control/keys", b'{"operator": "Ada"}', "scopes must be of type list"),
        ("/control/keys", b'{"scopes": [1], "operator": "Ada"}', "list of texts"),
        ("/control/keys", b'{"scopes": ["ingest"]}', "operator must be of type str"),
        ("/control/keys", b'{"scopes": ["ingest"], "operator": "Ada", "rate": "1"}', "rate must be of type float"),
        ("/control/keys", b'{"scopes": ["ingest"], "operator": "Ada", "burst": true}', "burst must be of type int"),
        ("/control/keys/revoke", b'{"key_id": 1, "operator": "Ada"}', "key_id must be of type str"),
    ],
)
def test_a_body_that_is_not_what_the_route_takes(fake: Fake, path: str, content: bytes, problem: str) -> None:
    answer = client_of(fake).post(path, content=content)
    assert answer.status_code == 400
    assert problem in answer.json()["error"]
    assert fake.asked == []
