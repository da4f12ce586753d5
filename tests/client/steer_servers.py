"""Servers for the steering client on real sockets: honest, dead, slow, lying and redirecting."""

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

Handle = Callable[[socket.socket], None]


def answer(**changed: Any) -> dict[str, Any]:
    """An answer as the steering endpoint gives it."""
    return {
        "decision_id": "d1", "policy_version": 7, "arm": "v2", "explore": True, "propensity": 0.25,
        "propensities": {"v1": 0.75, "v2": 0.25}, "lessons": ["l1", "l2"], "instructions": "Be brief.",
        "limits": {"off_limits_tools": ["refund"], "min_delay_seconds": 2, "max_spend_usd": 0.5},
        "solicit": True, "solicit_propensity": 0.02, "definition": {"model": "small"}, "ttl_s": 60.0, **changed,
    }  # fmt: skip


def response(document: Any, status: str = "200 OK", headers: str = "", media: str = "application/json") -> bytes:
    """A whole HTTP response."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return f"HTTP/1.1 {status}\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


@dataclass
class Request:
    """A request as it came."""

    line: str
    headers: dict[str, str]
    body: Any


@dataclass
class Listening:
    """A server on a free port of this machine."""

    port: int
    scheme: str = "http"
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"


def read_request(incoming: Any) -> Request | None:
    """The next request of a connection; None when it has ended."""
    line = incoming.readline()
    if not line:
        return None
    headers = {}
    while (header := incoming.readline().strip()) != b"":
        name, _, value = header.decode().partition(": ")
        headers[name] = value
    body = json.loads(incoming.read(int(headers["Content-Length"])))
    return Request(line.decode().strip(), headers, body)


@contextmanager
def listening(
    handle: Callable[[Listening, socket.socket], None], tls: ssl.SSLContext | None = None
) -> Iterator[Listening]:
    """Every connection is handled by a thread of its own; what is open when the block ends is cut."""
    accepting = socket.create_server(("127.0.0.1", 0), backlog=512)
    server = Listening(accepting.getsockname()[1], "https" if tls else "http")
    open_: set[socket.socket] = set()

    def serve(connection: socket.socket) -> None:
        with suppress(OSError, ValueError):
            if tls is not None:
                connection = tls.wrap_socket(connection, server_side=True)
                open_.add(connection)
            handle(server, connection)
        with suppress(OSError):
            connection.close()
        open_.discard(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = accepting.accept()
                open_.add(connection)
                server.connections += 1
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        with suppress(OSError):
            accepting.shutdown(socket.SHUT_RDWR)
        accepting.close()
        thread.join(30)
        for connection in list(open_):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def replying(reply: Callable[[Request], bytes]) -> Callable[[Listening, socket.socket], None]:
    """Keeps connections open and answers each request with the bytes that `reply` gives; none closes."""

    def handle(server: Listening, connection: socket.socket) -> None:
        with connection.makefile("rb") as incoming:
            while (request := read_request(incoming)) is not None:
                with server.lock:
                    server.requests.append(request)
                sent = reply(request)
                if not sent:
                    return
                connection.sendall(sent)

    return handle


def honest(**changed: Any) -> Callable[[Listening, socket.socket], None]:
    """Answers every request alike."""
    return replying(lambda _: response(answer(**changed)))


def dripping(sent: bytes, seconds: float = 0.02) -> Callable[[Listening, socket.socket], None]:
    """Sends one byte at a time."""
    never = threading.Event()

    def handle(_: Listening, connection: socket.socket) -> None:
        with connection.makefile("rb") as incoming:
            read_request(incoming)
            for at in range(len(sent)):
                connection.sendall(sent[at : at + 1])
                never.wait(seconds)

    return handle


def endless(start: bytes, again: bytes) -> Callable[[Listening, socket.socket], None]:
    """Sends without end, as fast as it is read."""

    def handle(_: Listening, connection: socket.socket) -> None:
        with connection.makefile("rb") as incoming:
            read_request(incoming)
            connection.sendall(start)
            while True:
                connection.sendall(again)

    return handle
