"""The head of a request on a real connection: neither endless nor endlessly slow, and nothing else changes."""

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from gateway import bounded_head
from gateway.bounded_head import MOST_HEAD_BYTES, BoundedHead

GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n"


async def _answer(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    """A server of one route."""
    listening = socket.create_server(("127.0.0.1", 0))
    application = Starlette(routes=[Route("/", _answer, methods=["GET", "POST"])])
    config = uvicorn.Config(application, http=BoundedHead, ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])), daemon=True)
    thread.start()
    yield listening.getsockname()
    server.should_exit = True
    thread.join(30)
    listening.close()


def said(connection: socket.socket) -> bytes:
    """Everything until the server closes the connection."""
    connection.settimeout(30)
    answered = b""
    try:
        while part := connection.recv(65_536):
            answered += part
    except ConnectionResetError:
        pass
    return answered


def test_a_head_that_does_not_end_is_refused_before_it_fills_the_memory(address):
    with socket.create_connection(address) as connection:
        connection.sendall(GET + b"x: ")
        sent = 0
        try:
            while sent < 40 * MOST_HEAD_BYTES:
                connection.sendall(b"a" * 16_384)
                sent += 16_384
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert sent < 40 * MOST_HEAD_BYTES
    with socket.create_connection(address) as connection:
        connection.sendall(GET + b"x: " + b"a" * (MOST_HEAD_BYTES + 1))
        assert b" 431 " in said(connection)


def test_a_head_that_trickles_ends(address, monkeypatch):
    monkeypatch.setattr(bounded_head, "HEAD_SECONDS", 0.2)
    for beginning in (b"", GET):
        with socket.create_connection(address) as connection:
            connection.sendall(beginning)
            assert said(connection) == b""


def test_bodies_keep_alive_and_large_heads_go_on_as_before(address):
    with socket.create_connection(address) as connection:
        body = b"b" * (3 * MOST_HEAD_BYTES)
        for _ in range(2):
            connection.sendall(
                b"POST / HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * 40_000
                + b"\r\ncontent-length: %d\r\n\r\n" % len(body) + body
            )  # fmt: skip
            answered = b""
            while not answered.endswith(str(len(body)).encode()):
                answered += connection.recv(65_536)
            assert b" 200 " in answered
        connection.sendall(GET + b"connection: close\r\n\r\n")
        assert said(connection).endswith(b"0")
