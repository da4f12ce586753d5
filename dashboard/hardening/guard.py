"""The outermost middleware: headers on every answer, limits on every request."""

from typing import Final

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.hardening.policy import FILES, headers
from gateway.security_headers import OF_DATA

__all__ = ["MOST_BODY_BYTES", "MOST_HEADER_BYTES", "MOST_TARGET_BYTES", "Guard"]

MOST_TARGET_BYTES: Final = 16_384
MOST_HEADER_BYTES: Final = 49_152
MOST_BODY_BYTES: Final = 1_000_000
"""Of requests to the pages: they come by websocket. Files and what agents send have limits of their own."""

_TO_PROGRAMS: Final = "/v1/"
_OWN_LIMITS: Final = ("/v1/", "/control/", "/_stcore/upload_file/")


class _TooLarge(Exception):
    """More came than is taken."""


class Guard:
    """Middleware around everything."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer in place of the application when a request is too large; else pass it on."""
        if scope["type"] != "http":
            # A websocket's handshake has no target or body to speak of; its messages are limited by Streamlit.
            await self._app(scope, receive, send)
            return
        started = False
        path = str(scope["path"])
        # The same as the steering process gives, which does not pass here.
        added = OF_DATA if path.startswith(_TO_PROGRAMS) else headers(file=path.startswith(FILES))

        async def sent(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                ours = {name for name, _ in added}
                kept = [(name, value) for name, value in message.get("headers", []) if name.lower() not in ours]
                message = {**message, "headers": [*kept, *added]}
            await send(message)

        refused = _refused(scope)
        if refused is not None:
            await refused(scope, receive, sent)
            return
        try:
            await self._app(scope, _bounded(scope, receive), sent)
        except _TooLarge:
            if started:
                raise
            await _too_large()(scope, receive, sent)
        except Exception:
            if not started:
                # Starlette's own answer to an error would go out past this, without headers.
                await PlainTextResponse("Internal Server Error", 500)(scope, receive, sent)
            raise


def _refused(scope: Scope) -> PlainTextResponse | None:
    """The answer to a request of which the head is too large, or announces too much; None for any other."""
    target = len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"")
    if target > MOST_TARGET_BYTES:
        return PlainTextResponse(f"The address is longer than {MOST_TARGET_BYTES:,} bytes.", 414)
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MOST_HEADER_BYTES:
        return PlainTextResponse(f"The headers are larger than {MOST_HEADER_BYTES:,} bytes.", 431)
    if _limited(scope):
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value[:20]) > MOST_BODY_BYTES:
                return _too_large()
    return None


def _limited(scope: Scope) -> bool:
    return not str(scope["path"]).startswith(_OWN_LIMITS)


def _bounded(scope: Scope, receive: Receive) -> Receive:
    """What comes, counted where no other limit holds; a body need not announce its length."""
    if not _limited(scope):
        return receive
    came = 0

    async def received() -> Message:
        nonlocal came
        message = await receive()
        came += len(message.get("body", b""))
        if came > MOST_BODY_BYTES:
            raise _TooLarge
        return message

    return received


def _too_large() -> PlainTextResponse:
    return PlainTextResponse(f"The body is larger than {MOST_BODY_BYTES:,} bytes.", 413)
