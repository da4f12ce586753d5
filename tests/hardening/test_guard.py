"""The outermost middleware: the headers of every answer, and what is too large to be taken."""

import base64
import hashlib
import re
from pathlib import Path

import pytest
import streamlit
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from dashboard.hardening.guard import MOST_BODY_BYTES, MOST_HEADER_BYTES, MOST_TARGET_BYTES, Guard
from dashboard.hardening.policy import content_policy

NAMES = {
    "content-security-policy", "x-content-type-options", "referrer-policy", "permissions-policy", "x-frame-options",
    "cross-origin-opener-policy", "cross-origin-resource-policy",
}  # fmt: skip


async def _page(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())), headers={"X-Frame-Options": "ALLOWALL"})


async def _streamed(_: Request) -> StreamingResponse:
    return StreamingResponse(iter(["a", "b"]))


async def _fails(_: Request) -> PlainTextResponse:
    raise RuntimeError("a defect")


@pytest.fixture(scope="module")
def client():
    routes = [
        Route("/", _page, methods=["GET", "POST"]), Route("/v1/traces", _page, methods=["POST"]),
        Route("/media/{name}", _streamed), Route("/fails", _fails),
    ]  # fmt: skip
    return TestClient(Starlette(routes=routes, middleware=[Middleware(Guard)]), raise_server_exceptions=False)


def directives() -> dict[str, list[str]]:
    parts = [part.split() for part in content_policy().split(";")]
    return {part[0]: part[1:] for part in parts}


@pytest.mark.parametrize(("path", "status"), [("/", 200), ("/nowhere", 404), ("/fails", 500), ("/media/a.csv", 200)])
def test_every_answer_has_them_once_also_errors(client, path, status):
    answered = client.get(path)
    assert answered.status_code == status
    names = [name for name, _ in answered.headers.multi_items()]
    assert all(names.count(name) == 1 for name in NAMES)
    assert answered.headers["x-frame-options"] == "DENY"
    assert "a defect" not in answered.text


def test_pages_load_and_run_nothing_from_elsewhere():
    held = directives()
    assert held["default-src"] == ["'self'"]
    # No other host anywhere: addresses in traces can load nothing.
    for name, sources in held.items():
        assert all(source in ("'none'", "data:", "blob:") or source.startswith("'") for source in sources), name
    assert not {"'unsafe-inline'", "'unsafe-eval'", "data:"} & set(held["script-src"])
    assert held["img-src"] == ["'self'", "data:", "blob:"]
    assert held["frame-ancestors"] == held["object-src"] == held["frame-src"] == ["'none'"]
    assert held["connect-src"] == ["'self'"]


def test_the_scripts_within_streamlits_page_are_the_only_inline_ones():
    page = (Path(streamlit.__file__).parent / "static" / "index.html").read_text()
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    expected = {
        "'sha256-" + base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() + "'" for each in scripts
    }
    assert expected == {source for source in directives()["script-src"] if source.startswith("'sha256-")}
    assert len(re.findall(r"<script\b", page)) == len(scripts) + len(re.findall(r"<script[^>]* src=", page))
    assert not re.search(r"\son\w+=", page)


def test_what_is_downloaded_is_never_a_page_and_never_kept(client):
    answered = client.get("/media/a.html")
    assert "sandbox" in answered.headers["content-security-policy"]
    assert answered.headers["cache-control"] == "private, no-store"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"url": "/?q=" + "a" * MOST_TARGET_BYTES}, 414),
        ({"url": "/" + "a" * (MOST_TARGET_BYTES + 1)}, 414),
        ({"url": "/", "headers": {"cookie": "a" * MOST_HEADER_BYTES}}, 431),
        ({"url": "/", "headers": {f"x-{i}": "a" * 100 for i in range(600)}}, 431),
        ({"url": "/", "method": "POST", "content": b"a" * (MOST_BODY_BYTES + 1)}, 413),
        ({"url": "/", "method": "POST", "content": iter([b"a" * 60_000] * 20)}, 413),
        ({"url": "/", "method": "POST", "headers": {"content-length": "9" * 5_000}}, 413),
        ({"url": "/", "method": "POST", "content": b"a" * MOST_BODY_BYTES}, 200),
        ({"url": "/?q=" + "a" * 15_000, "headers": {"cookie": "a" * 40_000}}, 200),
        # What agents send and files have limits of their own.
        ({"url": "/v1/traces", "method": "POST", "content": b"a" * (MOST_BODY_BYTES + 1)}, 200),
    ],
)
def test_what_is_too_large_is_refused(client, request_, status):
    answered = client.request(**{"method": "GET", **request_})
    assert answered.status_code == status
    assert set(answered.headers) >= NAMES
