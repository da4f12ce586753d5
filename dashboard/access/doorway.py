"""What of Streamlit's own routes is for operators only, and from where its websocket may be opened.

Streamlit lets any visitor open a session, which has to be so for them to sign in. With a session they could send files
into memory and fetch what others' pages show, and it takes websockets from any page of this machine.
"""

import json
from collections.abc import Callable
from typing import Any, Final

from anyio import to_thread
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.web.server.starlette import starlette_websocket
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME

from dashboard.access import returning
from dashboard.access.actor import Actor, holder
from dashboard.access.configuration import SignIn
from store import operators
from store.operator_memory import Role

__all__ = ["Doorway"]

# Paths by how they begin, and the role they take where operators sign in.
_ROLES: Final[dict[str, Role]] = {
    "/_stcore/upload_file": "reviewer",
    "/_stcore/metrics": "viewer",
    "/media/": "viewer",
}
_POLICY_VIOLATION: Final = 1008


class Doorway:
    """Middleware in front of all routes; it lets through what is not named here."""

    def __init__(self, app: ASGIApp, sign_in: SignIn | None, holds: Callable[[dict[str, Any]], Actor] = holder) -> None:
        """`holds` says who acts by claims."""
        self._app, self._sign_in, self._holds = app, sign_in, holds
        self._plain = sign_in is None or not sign_in.origin.startswith("https:")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer in place of the application, or not."""
        if scope["type"] == "websocket" and not self._same_origin(HTTPConnection(scope)):
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
            return
        if scope["type"] == "http" and self._sign_in is not None:
            needed = next((role for path, role in _ROLES.items() if scope["path"].startswith(path)), None)
            if needed is not None and not await self._may(HTTPConnection(scope), needed):
                await PlainTextResponse("Sign in as an operator first.", 403)(scope, receive, send)
                return
        sent = send if self._plain else _secure(send)
        if scope["type"] == "http" and self._sign_in is not None:
            sent = _returning(scope, self._sign_in, sent)
        await self._app(scope, receive, sent)

    def _same_origin(self, connection: HTTPConnection) -> bool:
        """Whether a page of our own opens the websocket. Programs, which name no origin, may where nobody signs in."""
        origin = connection.headers.get("origin")
        if self._sign_in is not None:
            return origin is not None and origin.lower() == self._sign_in.origin
        return origin is None or origin.lower() == f"http://{connection.headers.get('host', '').lower()}"

    async def _may(self, connection: HTTPConnection, needed: Role) -> bool:
        told = _cookie(connection)
        if not told or self._sign_in is None or told.get("origin") != self._sign_in.origin:
            return False
        acting = await to_thread.run_sync(self._holds, told)
        return operators.allows(acting.role, needed)


def _returning(scope: Scope, sign_in: SignIn, send: Send) -> Send:
    """Keep the page from which somebody leaves for the provider, and have them come back to it; see `returning`."""
    if scope["method"] != "GET" or scope["path"] not in (returning.LEAVING, returning.RETURNING):
        return send
    connection = HTTPConnection(scope)
    leaving = scope["path"] == returning.LEAVING
    kept = returning.keep(connection.headers.get("referer"), sign_in.origin) if leaving else None
    place = None if leaving else returning.place(connection.cookies.get(returning.COOKIE))

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message["headers"])
            begun = any(name.lower() == b"set-cookie" and _identifies(value) for name, value in headers)
            if leaving:
                headers.append((b"set-cookie", (kept or returning.forget()).encode()))
            elif begun and message["status"] == 302:
                headers.append((b"set-cookie", returning.forget().encode()))
                if place is not None:
                    headers = [(name, value) for name, value in headers if name.lower() != b"location"]
                    headers.append((b"location", place.encode()))
            message = {**message, "headers": headers}
        await send(message)

    return sent


def _identifies(cookie: bytes) -> bool:
    """Whether a Set-Cookie makes a session; one without a value ends it."""
    name, _, value = cookie.partition(b";")[0].partition(b"=")
    return name == USER_COOKIE_NAME.encode() and value.strip(b'"') != b""


def _secure(send: Send) -> Send:
    """Have browsers send the cookies that are set here by https only, which Streamlit does not."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                (name, value + b"; Secure") if name.lower() == b"set-cookie" and b"; secure" not in value.lower()
                else (name, value)
                for name, value in message["headers"]
            ]  # fmt: skip
        await send(message)

    return sent


def _cookie(connection: HTTPConnection) -> dict[str, Any]:
    """The claims in the cookie of who signed in; nothing when there is none or its signature is not ours."""
    signed = starlette_websocket._get_signed_cookie_with_chunks(connection.cookies, USER_COOKIE_NAME)
    try:
        told = json.loads(signed) if signed else {}
    except ValueError:
        return {}
    return told if isinstance(told, dict) and told.get("is_logged_in") is True else {}
