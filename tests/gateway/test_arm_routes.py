"""Arms over real HTTP: defined, changed, listed; what is refused and how."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from gateway.arms import BODY_LIMIT
from gateway.openapi import openapi
from store import arms, audit
from tests.gateway.live_server import JSON, Answer, LiveServer, serving

DOCUMENT = openapi("http://127.0.0.1:8501")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with serving(tmp_path_factory.mktemp("arms")) as live:
        yield live


@pytest.fixture
def server(running: LiveServer) -> LiveServer:
    running.store.write(lambda connection: connection.execute("DELETE FROM arms"))
    return running


@pytest.fixture
def admin(server: LiveServer) -> dict[str, str]:
    return server.key("admin", name="deploy")


def put(server: LiveServer, headers: dict[str, str], arm: str = "v5", body: Any = None, **fields: Any) -> Answer:
    if body is None:
        body = json.dumps({"kind": "prompt", "definition": {"prompt_version": "v5"}, **fields}).encode()
    return server.send("PUT", f"/v1/arms/shop/{arm}", body, {**JSON, **headers})


def test_an_arm_is_defined_then_changed(server: LiveServer, admin: dict[str, str]) -> None:
    made = put(server, admin, description="Short answers")
    assert made.status == 201
    assert made.json()["state"] == "enabled"
    assert made.json()["origin"] == "api"
    changed = put(server, admin, definition={"prompt_version": "v6"}, state="off", reason="slow")
    assert changed.status == 200
    said = changed.json()
    assert (said["definition"], said["state"], said["state_reason"], said["state_by"]) == (
        {"prompt_version": "v6"}, "off", "slow", "deploy",
    )  # fmt: skip
    listed = server.get("/v1/arms/shop", admin).json()
    assert [each["arm"] for each in listed["arms"]] == ["v5"]
    assert audit.recent(server.store)["actor"][0] == "deploy"


def test_answers_are_as_the_document_says(server: LiveServer, admin: dict[str, str]) -> None:
    operation = DOCUMENT["paths"]["/v1/arms/{agent}/{arm}"]["put"]
    content = operation["requestBody"]["content"]["application/json"]
    jsonschema.validate(content["example"], content["schema"])
    answer = put(server, admin, body=json.dumps(content["example"]).encode())
    assert answer.status == 201
    jsonschema.validate(answer.json(), DOCUMENT["components"]["schemas"]["Arm"])


@pytest.mark.parametrize(
    ("path", "name"), [("v3/aurora-4-mini", "v3/aurora-4-mini"), ("caf%C3%A9", "café"), ("cafe%CC%81%20", "café")]
)
def test_names_with_slashes_and_accents_work(server: LiveServer, admin: dict[str, str], path: str, name: str) -> None:
    assert put(server, admin, path).json()["arm"] == name
    assert put(server, admin, path).status == 200
    assert arms.listed(server.store)["arm"].to_list() == [name]


def test_the_baseline_moves(server: LiveServer, admin: dict[str, str]) -> None:
    put(server, admin, "a")
    put(server, admin, "b")
    assert put(server, admin, "b", baseline=True).json()["baseline"] is True
    listed = server.get("/v1/arms/shop", admin).json()["arms"]
    assert [(each["arm"], each["baseline"]) for each in listed] == [("b", True), ("a", False)]
    put(server, admin, "c", state="shadow")
    refused = put(server, admin, "c", baseline=True)
    assert refused.status == 409
    assert "Enable it first" in refused.json()["error"]


def test_an_agent_without_arms_is_not_found(server: LiveServer, admin: dict[str, str]) -> None:
    assert server.get("/v1/arms/nobody", admin).status == 404


@pytest.mark.parametrize("scope", ["ingest", "steer", "propose"])
def test_it_needs_the_scope_admin(server: LiveServer, scope: str) -> None:
    headers = server.key(scope)
    assert put(server, headers).status == 403
    assert server.get("/v1/arms/shop", headers).status == 403
    assert put(server, {}).status == 401
    assert arms.listed(server.store).is_empty()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "The body"), (b"[]", "a JSON object"), (b"\xff", "UTF-8"), (b'{"kind": "magic"}', "kind must be"),
        (b'{"kind": ["prompt"]}', "kind must be"), (b'{"kind": "model", "definition": 3}', "definition must be"),
        (b'{"kind": "model", "state": "on"}', "state must be"), (b'{"kind": "model", "baseline": 1}', "baseline must"),
        (b'{"kind": "model", "description": 1}', "description must be"), (b'{"kind": "model", "x": 1}', "came 'x'"),
        (b'{"kind": "model", "definition": {"x": NaN}}', "NaN is not JSON"), (b"[" * 60_000, "The body"),
    ],
)  # fmt: skip
def test_what_states_no_arm_is_refused_by_name(
    server: LiveServer, admin: dict[str, str], body: bytes, why: str
) -> None:
    answer = put(server, admin, body=body)
    assert answer.status == 400
    assert why in answer.json()["error"]
    assert arms.listed(server.store).is_empty()


@pytest.mark.parametrize("name", ["%E2%80%AE", "a%00b", "x" * 201, "%20"])
def test_names_that_nobody_can_read_are_refused(server: LiveServer, admin: dict[str, str], name: str) -> None:
    answer = put(server, admin, name)
    assert answer.status == 400
    assert "The arm must be 1 to 200 visible characters" in answer.json()["error"]


def test_large_and_foreign_bodies_are_refused(server: LiveServer, admin: dict[str, str]) -> None:
    assert put(server, admin, body=b" " * (BODY_LIMIT + 1)).status == 413
    assert server.send("PUT", "/v1/arms/shop/a", b"{}", {**admin, "Content-Type": "text/plain"}).status == 415
    assert put(server, {**admin, "Content-Encoding": "gzip"}).status == 415


def test_a_definition_that_is_too_long_is_refused(server: LiveServer, admin: dict[str, str]) -> None:
    answer = put(server, admin, definition={"x": "y" * 20_000})
    assert answer.status == 409
    assert "At most 16,000" in answer.json()["error"]
