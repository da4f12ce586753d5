"""The control routes: by them the command line hands work to the server that holds the database file.

They are for commands on this machine only. Every request must come from a loopback address, carry a loopback Host
header (so no web page can reach them by rebinding a name), and the random token of the presence file, which only the
owner of the database file can read.

    GET  /control/hello    {"pid", "version"}
    POST /control/ingest   {"paths", "source", "mapping", "operator"}   a stream of events, one JSON object a line
    POST /control/run      {"job"}                          a stream of events
    GET  /control/jobs     the jobs with their latest runs
    POST /control/sql      {"sql", "timeout"}               an Arrow IPC stream
    POST /control/backup   {"path", "operator"}             {"path", "bytes", "rows"}
    GET  /control/keys     the API keys without their secrets
    POST /control/keys     {"scopes", "name", "rate", "burst", "operator"}   the new key, with its text as "key"
    POST /control/keys/revoke  {"key_id", "operator"}       the key as it is now
    POST /control/draft-preview  {"agent", "task"}          what asking for lessons would say and cost
    POST /control/privacy  {"action", "told"}               what came of it (pipelines.privacy.acts)
    POST /control/graduate  {"action", "told"}              what came of it (pipelines.lessons.graduate.acts)

A stream ends with {"event": "end"}, or {"event": "error", "error"}; other refusals are {"error"} with a 4xx status.
"""

import json
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from io import BytesIO
from pathlib import Path
from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from pipelines.ingest.mapping import Mapping
from pipelines.operations import Event, Operations
from store.errors import ActionRefused, JobAlreadyRunning, NotFound, QueryTimeout, TrimtabError, UnknownJob
from store.settings import is_loopback
from store.version import code_version

_BODY_LIMIT = 1_000_000
_STATUS: dict[type[TrimtabError], int] = {
    UnknownJob: 404,
    JobAlreadyRunning: 409,
    ActionRefused: 409,
    QueryTimeout: 408,
    NotFound: 404,
}

Handler = Callable[[Request], Awaitable[Response]]


class BadRequest(TrimtabError):
    """A request whose body is not what the route takes."""


def routes(operations: Operations, token: str) -> list[Route]:
    """The control routes over an open store.

    Args: `operations` on the store; `token` that every request must carry.
    """
    control = _Control(operations)
    return [
        Route("/control/hello", _guarded(control.hello, token), methods=["GET"]),
        Route("/control/ingest", _guarded(control.ingest, token), methods=["POST"]),
        Route("/control/run", _guarded(control.run, token), methods=["POST"]),
        Route("/control/jobs", _guarded(control.jobs, token), methods=["GET"]),
        Route("/control/sql", _guarded(control.sql, token), methods=["POST"]),
        Route("/control/backup", _guarded(control.backup, token), methods=["POST"]),
        Route("/control/keys", _guarded(control.keys, token), methods=["GET"]),
        Route("/control/keys", _guarded(control.create_key, token), methods=["POST"]),
        Route("/control/keys/revoke", _guarded(control.revoke_key, token), methods=["POST"]),
        Route("/control/draft-preview", _guarded(control.draft_preview, token), methods=["POST"]),
        Route("/control/privacy", _guarded(control.privacy, token), methods=["POST"]),
        Route("/control/graduate", _guarded(control.graduate, token), methods=["POST"]),
    ]


class _Control:
    """One method a route; the work is done in threads, never on the event loop."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def hello(self, _: Request) -> Response:
        return JSONResponse({"pid": os.getpid(), "version": code_version()})

    async def ingest(self, request: Request) -> Response:
        body = await _body(request)
        paths = _field(body, "paths", list)
        if not paths or not all(isinstance(path, str) and Path(path).is_absolute() for path in paths):
            raise BadRequest("paths must be a list of absolute paths.")
        source = _field(body, "source", str, optional=True)
        text = _field(body, "mapping", str, optional=True)
        mapping = Mapping.from_json(text) if text is not None else None
        operator = _field(body, "operator", str)
        return _stream(self._operations.ingest([Path(path) for path in paths], source, mapping, operator))

    async def run(self, request: Request) -> Response:
        job = _field(await _body(request), "job", str)
        return _stream(await to_thread.run_sync(self._operations.run, job))

    async def jobs(self, _: Request) -> Response:
        return JSONResponse(await to_thread.run_sync(self._operations.jobs))

    async def sql(self, request: Request) -> Response:
        body = await _body(request)
        text = _field(body, "sql", str)
        timeout = _field(body, "timeout", float, optional=True)
        frame = await to_thread.run_sync(self._operations.sql, text, timeout)
        buffer = BytesIO()
        frame.write_ipc_stream(buffer)
        return Response(buffer.getvalue(), media_type="application/vnd.apache.arrow.stream")

    async def backup(self, request: Request) -> Response:
        body = await _body(request)
        path = Path(_field(body, "path", str))
        if not path.is_absolute():
            raise BadRequest("path must be absolute.")
        return JSONResponse(await to_thread.run_sync(self._operations.backup, path, _field(body, "operator", str)))

    async def keys(self, _: Request) -> Response:
        return JSONResponse(await to_thread.run_sync(self._operations.keys))

    async def create_key(self, request: Request) -> Response:
        body = await _body(request)
        scopes = _field(body, "scopes", list)
        if not all(isinstance(scope, str) for scope in scopes):
            raise BadRequest("scopes must be a list of texts.")
        name = _field(body, "name", str, optional=True)
        rate = _field(body, "rate", float, optional=True)
        burst = _field(body, "burst", int, optional=True)
        operator = _field(body, "operator", str)
        made = await to_thread.run_sync(self._operations.create_key, scopes, name, rate, burst, operator)
        return JSONResponse(made, headers={"Cache-Control": "no-store"})

    async def revoke_key(self, request: Request) -> Response:
        body = await _body(request)
        key_id, operator = _field(body, "key_id", str), _field(body, "operator", str)
        return JSONResponse(await to_thread.run_sync(self._operations.revoke_key, key_id, operator))

    async def draft_preview(self, request: Request) -> Response:
        body = await _body(request)
        agent, task = (_field(body, name, str, optional=True) for name in ("agent", "task"))
        return JSONResponse(await to_thread.run_sync(self._operations.draft_preview, agent, task))

    async def graduate(self, request: Request) -> Response:
        body = await _body(request)
        action, told = _field(body, "action", str), _field(body, "told", dict)
        return JSONResponse(await to_thread.run_sync(self._operations.graduate, action, told))

    async def privacy(self, request: Request) -> Response:
        body = await _body(request)
        action, told = _field(body, "action", str), _field(body, "told", dict)
        done = await to_thread.run_sync(self._operations.privacy, action, told)
        return JSONResponse(done, headers={"Cache-Control": "no-store"})


def _guarded(handler: Handler, token: str) -> Handler:
    """The handler for those who may, with errors as answers."""

    async def guarded(request: Request) -> Response:
        if (
            request.client is None
            or not is_loopback(request.client.host)
            or not is_loopback(request.url.hostname or "")
        ):
            return _refusal(403, "The control routes answer this machine only.")
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not secrets.compare_digest(given.encode(), token.encode()):
            return _refusal(401, "The token of the presence file is needed.")
        try:
            return await handler(request)
        except TrimtabError as error:
            status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 400)
            return _refusal(status, str(error))

    return guarded


def _refusal(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status_code=status)


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object of a request. Raises: `BadRequest`."""
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > _BODY_LIMIT:
            raise BadRequest(f"The request is larger than {_BODY_LIMIT:,} bytes.")
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The request is not JSON ({error}).") from error
    if not isinstance(body, dict):
        raise BadRequest("The request must be a JSON object.")
    return body


def _field(body: dict[str, Any], name: str, kind: type, *, optional: bool = False) -> Any:
    """A field of the body, checked. Raises: `BadRequest`."""
    value = body.get(name)
    if value is None and optional:
        return None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise BadRequest(f"{name} must be of type {kind.__name__}.")
    return value


def _stream(events: Generator[Event]) -> Response:
    """Events as one JSON object a line. When the client goes away the iterator is closed, which cancels its work."""

    def next_line() -> bytes | None:
        try:
            event = next(events, None)
        except TrimtabError as error:
            event = {"event": "error", "error": str(error)}
        return None if event is None else json.dumps(event, default=str).encode() + b"\n"

    async def lines() -> AsyncIterator[bytes]:
        try:
            while (line := await to_thread.run_sync(next_line)) is not None:
                yield line
            yield b'{"event": "end"}\n'
        finally:
            events.close()

    return StreamingResponse(lines(), media_type="application/x-ndjson")
