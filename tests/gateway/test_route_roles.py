"""Every route of the gateway by every key that does not fit, and every control route by everybody but the commands.

The tables are compared with the routes themselves: a new one without a line here fails.
"""

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from gateway import control
from store import api_keys
from store.api_keys import SCOPES
from tests.gateway.live_server import JSON, LiveServer, serving

# Method and path of each route, the scopes that open it, a path to try.
AGENTS = [
    ("POST", "/v1/traces", {"ingest"}, "/v1/traces"),
    ("POST", "/v1/signals", {"ingest"}, "/v1/signals"),
    ("POST", "/v1/upload", {"ingest"}, "/v1/upload?name=a.csv"),
    ("GET", "/v1/upload/{load_id}", {"ingest"}, "/v1/upload/none"),
    ("POST", "/v1/steer", {"steer"}, "/v1/steer"),
    ("GET", "/v1/policies/{agent:path}", {"steer"}, "/v1/policies/shop"),
    ("GET", "/v1/playbooks/{agent:path}", {"steer"}, "/v1/playbooks/shop"),
    ("GET", "/v1/arms/{agent}", {"admin"}, "/v1/arms/shop"),
    ("PUT", "/v1/arms/{agent}/{arm:path}", {"admin"}, "/v1/arms/shop/a"),
    ("POST", "/v1/lessons", {"propose"}, "/v1/lessons"),
    ("GET", "/v1/lessons/{lesson_id}", {"propose"}, "/v1/lessons/none"),
    ("GET", "/metrics", {"admin"}, "/metrics"),
]
EVERYBODYS = {("GET", "/v1/openapi.json"), ("GET", "/healthz"), ("GET", "/readyz")}
# Bodies that would change something if the key fitted.
BODIES: dict[str, Any] = {
    "/v1/signals": b'{"signals": [{"kind": "thumb", "trace_id": "t", "value": 1, "user_id": "u"}]}',
    "/v1/arms/shop/a": b'{"kind": "prompt", "definition": {"prompt": "x"}}',
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with serving(tmp_path_factory.mktemp("roles"), keyless=False) as started:
        yield started


def counted(server: LiveServer) -> list[dict[str, Any]]:
    """How many rows each table holds."""
    names = [row["name"] for row in server.rows("SELECT table_name AS name FROM duckdb_tables() WHERE NOT temporary")]
    return [server.rows(f'SELECT $1 AS name, count(*) AS rows FROM "{name}"', name)[0] for name in sorted(names)]


def methods(routes: list[Any]) -> set[tuple[str, str]]:
    return {(method, route.path) for route in routes for method in route.methods - {"HEAD"}}


def test_every_route_for_agents_is_in_the_table(server: LiveServer) -> None:
    listed = {(method, path) for method, path, _, _ in AGENTS}
    assert methods(server.gateway.routes()) == listed | EVERYBODYS


@pytest.mark.parametrize(("method", "path", "scopes", "tried"), AGENTS, ids=[row[1] for row in AGENTS])
def test_keys_of_other_scopes_no_key_and_revoked_keys_are_refused(
    server: LiveServer, method: str, path: str, scopes: set[str], tried: str
) -> None:
    revoked = server.key(*SCOPES)
    api_keys.revoke(server.store, revoked["x-api-key"], operator="Ada")
    others = {scope: server.key(scope) for scope in SCOPES if scope not in scopes}
    fitting = server.key(*scopes)
    before = counted(server)
    body = BODIES.get(tried, b"{}") if method != "GET" else None
    refused = {scope: server.send(method, tried, body, {**JSON, **key}).status for scope, key in others.items()}
    assert refused == dict.fromkeys(others, 403)
    # Through a proxy, as programs on this machine may read the figures without a key.
    for key in (
        {"x-forwarded-for": "203.0.113.7"},
        revoked,
        {"x-api-key": "tt_000000000000_" + "A" * 43},
        {"x-api-key": "admin"},
    ):
        assert server.send(method, tried, body, {**JSON, **key}).status == 401
    assert counted(server) == before
    assert server.send(method, tried, body, {**JSON, **fitting}).status not in (401, 403)


class _Nothing:
    """Operations that must not be reached."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was reached")


@pytest.mark.parametrize(
    ("headers", "client", "base", "status"),
    [
        ({}, "127.0.0.1", "http://127.0.0.1:8501", 401),
        ({"Authorization": "Bearer guessed"}, "127.0.0.1", "http://127.0.0.1:8501", 401),
        ({"Authorization": "Basic token"}, "127.0.0.1", "http://127.0.0.1:8501", 401),
        ({"Cookie": "_streamlit_user=admin"}, "127.0.0.1", "http://127.0.0.1:8501", 401),
        ({"Authorization": "Bearer token"}, "10.0.0.7", "http://127.0.0.1:8501", 403),
        ({"Authorization": "Bearer token"}, "127.0.0.1", "https://trimtab.example.com", 403),
        ({"Authorization": "Bearer token", "X-Forwarded-For": "127.0.0.1"}, "10.0.0.7", "http://127.0.0.1", 403),
    ],
)
def test_control_routes_answer_commands_of_this_machine_only(
    headers: dict[str, str], client: str, base: str, status: int
) -> None:
    routes = control.routes(_Nothing(), "token")  # type: ignore[arg-type]
    visitor = TestClient(Starlette(routes=list(routes)), base_url=base, client=(client, 50000), headers=headers)
    for method, path in sorted(methods(list(routes))):
        assert path.startswith("/control/")
        assert visitor.request(method, path, json={}).status_code == status, path
