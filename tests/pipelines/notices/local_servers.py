"""Real servers on this machine: a web server that misbehaves as told, and a certificate for mail over TLS."""

import ipaddress
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Got:
    """A request as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class WebServer:
    """Keeps every request and answers as `behaviour` says: a status, or a function of the handler."""

    behaviour: int | Callable[[BaseHTTPRequestHandler], None] = 204
    got: list[Got] = field(default_factory=list)
    arrived: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                outer.got.append(Got(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                outer.arrived.set()
                if callable(outer.behaviour):
                    outer.behaviour(self)
                else:
                    self.send_response(outer.behaviour)
                    self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Keep quiet."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that went away is part of the test."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *about: object) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/hooks/trimtab?team=a"

    def hang(self, handler: BaseHTTPRequestHandler) -> None:
        """Take the request and say nothing."""
        self.release.wait(30)

    def drip(self, handler: BaseHTTPRequestHandler) -> None:
        """Send the answer a byte at a time, each soon enough that no read of a socket times out."""
        for byte in b"HTTP/1.1 204 No Content\r\n" + b"X: y\r\n" * 1_000:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            if self.release.wait(0.05):
                return

    @staticmethod
    def drop(handler: BaseHTTPRequestHandler) -> None:
        """Close the connection without an answer."""
        handler.connection.close()

    @staticmethod
    def nonsense(handler: BaseHTTPRequestHandler) -> None:
        """Answer something that is no HTTP."""
        handler.wfile.write(b"\x00\xff" * 50 + b"\r\n\r\n")

    @staticmethod
    def redirect(to: str, status: int = 307) -> Callable[[BaseHTTPRequestHandler], None]:
        """Send the client elsewhere."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            handler.send_header("Location", to)
            handler.end_headers()

        return answer

    @staticmethod
    def busy(seconds: str) -> Callable[[BaseHTTPRequestHandler], None]:
        """Ask to be left alone."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(503)
            handler.send_header("Retry-After", seconds)
            handler.end_headers()

        return answer


def certificate(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS for a server called localhost, and the trust of a client that knows its certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, secret = folder / "cert.pem", folder / "key.pem"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(chain, secret)
    return server, ssl.create_default_context(cafile=str(chain))
