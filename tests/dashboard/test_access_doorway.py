"""What is in front of Streamlit's own routes: files are for operators, websockets for our own pages."""

import json

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect
from streamlit.web.server import server_util
from streamlit.web.server.starlette import starlette_websocket
from streamlit.web.server.starlette.starlette_app_utils import create_signed_value
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME

from dashboard.access.actor import Actor
from dashboard.access.configuration import sign_in
from dashboard.access.doorway import Doorway
from store.settings import Settings

ORIGIN, SECRET = "https://trimtab.example.com", "s" * 40
SIGN_IN = sign_in(
    Settings(
        sign_in_metadata_url="https://accounts.example.com/x", sign_in_client_id="trimtab",
        sign_in_redirect=f"{ORIGIN}/oauth2callback",
    ),
    {"OIDC_CLIENT_SECRET": "x"},
)  # fmt: skip
UPLOAD, MEDIA, METRICS = "/_stcore/upload_file/session/file", "/media/abc.csv", "/_stcore/metrics"
ROLES = {"viewer@example.com": "viewer", "reviewer@example.com": "reviewer", "admin@example.com": "admin"}


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    for module in (server_util, starlette_websocket):
        monkeypatch.setattr(module, "get_cookie_secret", lambda: SECRET)


async def _socket(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("open")
    await socket.close()


def client(signing_in=SIGN_IN):
    def answer(_):
        answered = PlainTextResponse("there")
        answered.set_cookie("one", "1", httponly=True, samesite="lax")
        answered.set_cookie("two", "2", secure=True)
        return answered

    def holds(told):
        email = str(told.get("email"))
        return Actor(email, ROLES.get(email), signed_in=True)  # type: ignore[arg-type]

    routes = [Route(path, answer, methods=["GET", "PUT", "DELETE"]) for path in (UPLOAD, MEDIA, METRICS, "/v1/steer")]
    application = Starlette(
        routes=[*routes, WebSocketRoute("/_stcore/stream", _socket)],
        middleware=[Middleware(Doorway, sign_in=signing_in, holds=holds)],
    )
    return TestClient(application, base_url=ORIGIN if signing_in else "http://127.0.0.1:8501")


def cookie(email="admin@example.com", *, secret=SECRET, name=USER_COOKIE_NAME, **changed):
    told = {"email": email, "is_logged_in": True, "origin": ORIGIN, **changed}
    return {USER_COOKIE_NAME: create_signed_value(secret, name, json.dumps(told)).decode()}


@pytest.mark.parametrize(
    ("path", "method", "may"),
    [
        (UPLOAD, "PUT", ("reviewer", "admin")),
        (UPLOAD, "DELETE", ("reviewer", "admin")),
        (MEDIA, "GET", ("viewer", "reviewer", "admin")),
        (METRICS, "GET", ("viewer", "reviewer", "admin")),
        ("/v1/steer", "GET", (None, "viewer", "reviewer", "admin")),
    ],
)
def test_each_role_reaches_what_it_may(path, method, may):
    for role in (None, *ROLES.values()):
        visitor = client()
        visitor.cookies.update(cookie(f"{role}@example.com"))
        assert visitor.request(method, path).status_code == (200 if role in may else 403), role


@pytest.mark.parametrize(
    "forged",
    [
        {},
        {USER_COOKIE_NAME: json.dumps({"email": "admin@example.com", "is_logged_in": True, "origin": ORIGIN})},
        cookie(secret="another secret of forty characters......"),
        cookie(name="_streamlit_session"),
        cookie(origin="https://evil.example"),
        cookie(is_logged_in=False),
        cookie(is_logged_in="true"),
        {USER_COOKIE_NAME: cookie()[USER_COOKIE_NAME][:-2]},
        {USER_COOKIE_NAME: "chunks-9"},
    ],
)
def test_forged_cookies_are_refused(forged):
    visitor = client()
    visitor.cookies.update(forged)
    assert visitor.get(MEDIA).status_code == 403
    visitor.cookies.update(cookie())
    assert visitor.get(MEDIA).status_code == 200


def test_a_cookie_from_years_ago_is_refused(monkeypatch):
    old = cookie()
    monkeypatch.setattr("itsdangerous.timed.TimestampSigner.get_timestamp", lambda _: 4_000_000_000)
    visitor = client()
    visitor.cookies.update(old)
    assert visitor.get(MEDIA).status_code == 403


def opens(visitor, headers):
    try:
        with visitor.websocket_connect("/_stcore/stream", headers=headers) as socket:
            return socket.receive_text() == "open"
    except WebSocketDisconnect:
        return False


@pytest.mark.parametrize(
    ("origin", "opened"),
    [
        (ORIGIN, True), ("https://TRIMTAB.example.com", True), (None, False), ("null", False), ("", False),
        ("https://evil.example", False), ("http://trimtab.example.com", False), (f"{ORIGIN}.evil.example", False),
        (f"{ORIGIN}:8443", False), ("http://localhost:3000", False), ("http://127.0.0.1:8501", False),
    ],
)  # fmt: skip
def test_only_our_own_pages_open_the_websocket(origin, opened):
    assert opens(client(), {} if origin is None else {"origin": origin}) is opened


@pytest.mark.parametrize(
    ("origin", "opened"),
    [
        (None, True), ("http://127.0.0.1:8501", True), ("http://127.0.0.1:3000", False), ("null", False),
        ("http://localhost:8501", False), ("https://127.0.0.1:8501", False), ("https://evil.example", False),
    ],
)  # fmt: skip
def test_without_sign_in_other_pages_of_this_machine_do_not_either(origin, opened):
    assert opens(client(None), {"host": "127.0.0.1:8501"} | ({} if origin is None else {"origin": origin})) is opened


def test_without_sign_in_nothing_else_is_asked():
    assert client(None).put(UPLOAD).status_code == 200


@pytest.mark.parametrize(("signing_in", "marked"), [(SIGN_IN, 2), (None, 1)])
def test_cookies_are_for_https_where_the_pages_are(signing_in, marked):
    answer = client(signing_in).get("/v1/steer")
    cookies = answer.headers.get_list("set-cookie")
    assert len(cookies) == 2
    assert sum(value.lower().count("; secure") for value in cookies) == marked
