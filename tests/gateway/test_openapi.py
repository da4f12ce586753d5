"""The OpenAPI document: it is well-formed, says what the routes do, and its examples work as they stand."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from steering_policies import policy_of

from gateway.openapi import EXAMPLES, openapi
from store import policies
from tests.gateway.live_server import JSON, LiveServer, serving

DOCUMENT = openapi("http://127.0.0.1:8501")
_NAMED = [(path, name, example) for path, examples in EXAMPLES.items() for name, example in examples.items()]
_METHODS = {"get", "put", "post", "delete", "patch"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with serving(tmp_path_factory.mktemp("openapi")) as live:
        policies.publish(live.store, policy_of(), cause="operator")
        live.gateway.steering.policies.refresh("support-bot")
        yield live


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, each) for path, item in DOCUMENT["paths"].items() for method, each in item.items()]


def parts(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in the document."""
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from parts(each)
    elif isinstance(value, list):
        for each in value:
            yield from parts(each)


def resolved(reference: str) -> Any:
    root, *path = reference.split("/")
    assert root == "#"
    found: Any = DOCUMENT
    for name in path:
        found = found[name]
    return found


def test_the_document_is_served_with_the_address_it_was_asked_at(server: LiveServer) -> None:
    answer = server.get("/v1/openapi.json")
    assert answer.status == 200
    assert answer.json() == {**json.loads(json.dumps(DOCUMENT)), "servers": [{"url": server.url}]}


def test_the_document_has_what_openapi_3_1_requires() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert DOCUMENT["info"].keys() >= {"title", "version"}
    assert all(server["url"] for server in DOCUMENT["servers"])
    for path, method, operation in operations():
        assert path.startswith("/")
        assert method in _METHODS
        assert operation["summary"]
        assert operation["responses"]
        for status, response in operation["responses"].items():
            assert status.isdigit()
            assert len(status) == 3
            assert "$ref" in response or response["description"]
        named = {part.strip("{}") for part in path.split("/") if part.startswith("{")}
        stated = {each["name"] for each in operation.get("parameters", []) if each["in"] == "path" and each["required"]}
        assert named == stated
        assert all(each.keys() >= {"name", "in", "schema"} for each in operation.get("parameters", []))
        for media in operation.get("requestBody", {}).get("content", {}).values():
            assert "schema" in media
    for name, scheme in DOCUMENT["components"]["securitySchemes"].items():
        assert scheme["type"] in ("http", "apiKey"), name
    for requirement in DOCUMENT["security"]:
        assert requirement.keys() <= DOCUMENT["components"]["securitySchemes"].keys()


def test_every_reference_resolves_and_every_schema_is_one() -> None:
    references = [part["$ref"] for part in parts(DOCUMENT) if "$ref" in part]
    assert references
    for reference in references:
        assert isinstance(resolved(reference), dict)
    schemas = [part["schema"] for part in parts(DOCUMENT) if isinstance(part.get("schema"), dict)]
    schemas += DOCUMENT["components"]["schemas"].values()
    for schema in schemas:
        jsonschema.Draft202012Validator.check_schema(schema)


def test_the_document_tells_every_route_and_no_other(server: LiveServer) -> None:
    routes = {
        (route.path.replace(":path}", "}"), method.lower())
        for route in server.gateway.routes()
        for method in route.methods or ()
        if method != "HEAD"
    }
    assert {(path, method) for path, method, _ in operations()} == routes - {("/v1/openapi.json", "get")}


@pytest.mark.parametrize(("path", "name", "example"), _NAMED, ids=[name for _, name, _ in _NAMED])
def test_every_example_is_accepted(server: LiveServer, path: str, name: str, example: Any) -> None:
    media = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    assert media["examples"][name]["value"] == example
    schema = {**media["schema"], "components": DOCUMENT["components"]}
    jsonschema.validate(example, schema, cls=jsonschema.Draft202012Validator)
    answer = server.send("POST", path, json.dumps(example).encode(), JSON)
    assert answer.status == 200
    response = DOCUMENT["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    told = {**response, "components": DOCUMENT["components"]}
    jsonschema.validate(answer.json(), told, cls=jsonschema.Draft202012Validator)
    if path == "/v1/traces":
        assert answer.json() == {}
    elif path == "/v1/steer":
        assert answer.json()["propensities"].keys() <= {"baseline", "short answers", "with tools"}
        assert answer.json()["note"] is None
    else:
        assert answer.json() == {"accepted": len(example) if isinstance(example, list) else 1, "rejected": []}


def test_the_policy_is_what_the_document_tells(server: LiveServer) -> None:
    answer = server.get("/v1/policies/support-bot")
    response = DOCUMENT["paths"]["/v1/policies/{agent}"]["get"]["responses"]["200"]
    told = {**response["content"]["application/json"]["schema"], "components": DOCUMENT["components"]}
    jsonschema.validate(answer.json(), told, cls=jsonschema.Draft202012Validator)


def test_the_examples_leave_what_they_say(server: LiveServer) -> None:
    """The signals of the examples belong to the trace of the examples."""
    for path, examples in EXAMPLES.items():
        for example in examples.values():
            assert server.send("POST", path, json.dumps(example).encode(), JSON).status == 200
    spans = server.rows("SELECT kind, model, input, output, agent, user_id, status FROM spans")
    assert spans == [
        {
            "kind": "llm", "model": "gpt-5", "input": "Where is my order?", "output": "It ships today.",
            "agent": "support-bot", "user_id": "user-7", "status": "ok",
        }
    ]  # fmt: skip
    signals = server.rows("SELECT count(*) AS n FROM signals JOIN traces USING (trace_id)")
    assert signals == [{"n": 2}]


@pytest.mark.parametrize(
    ("status", "path", "body", "headers"),
    [
        (400, "/v1/signals", b"{", JSON),
        (401, "/v1/signals", b"{}", {**JSON, "x-api-key": "unknown"}),
        (413, "/v1/signals", bytes(33 << 20), JSON),
        (415, "/v1/signals", b"{}", {"Content-Type": "text/plain"}),
    ],
)
def test_refusals_have_the_form_that_the_document_tells(
    server: LiveServer, status: int, path: str, body: bytes, headers: dict[str, str]
) -> None:
    response = resolved(DOCUMENT["paths"][path]["post"]["responses"][str(status)]["$ref"])
    answer = server.send("POST", path, body, headers)
    assert answer.status == status
    jsonschema.validate(answer.json(), resolved(response["content"]["application/json"]["schema"]["$ref"]))
