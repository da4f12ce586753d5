"""E-mail against a real mail server: plain, STARTTLS and TLS, with and without a password, and refusals."""

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from pipelines.notices import mail
from pipelines.notices.wire import NotSent
from store.notice_route import Email
from tests.pipelines.notices.local_servers import certificate
from tests.pipelines.notices.written import message, row

PASSWORD = "correct horse"
ENVIRON = {"NOTICE_PASSWORD": PASSWORD}


class Mailbox:
    """Keeps what arrives; refuses recipients called nobody."""

    def __init__(self) -> None:
        self.got: list[tuple[list[str], bool, EmailMessage]] = []

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address.startswith("nobody"):
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        parsed = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(parsed, EmailMessage)
        self.got.append((envelope.rcpt_tos, session.ssl is not None, parsed))
        return "250 accepted"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS of the server, and the trust of a client that knows it."""
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def mailbox() -> Mailbox:
    """What arrived."""
    return Mailbox()


def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    """One user with one password."""
    good = isinstance(data, LoginPassword) and data.login == b"trimtab" and data.password == PASSWORD.encode()
    return AuthResult(success=good, handled=False)


@pytest.fixture
def start(mailbox: Mailbox) -> Iterator[Any]:
    """Starts a mail server, with TLS from the first byte where `wrapped` says so; returns its port."""
    loop = asyncio.new_event_loop()
    # Clients that break off are part of the tests.
    loop.set_exception_handler(lambda loop, about: None)
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    running: list[asyncio.Server] = []

    def begin(wrapped: ssl.SSLContext | None = None, **how: Any) -> int:
        opened = asyncio.run_coroutine_threadsafe(
            loop.create_server(lambda: SMTP(mailbox, loop=loop, **how), "127.0.0.1", 0, ssl=wrapped), loop
        ).result(10)
        running.append(opened)
        port: int = opened.sockets[0].getsockname()[1]
        return port

    async def end() -> None:
        for server in running:
            server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    yield begin
    asyncio.run_coroutine_threadsafe(end(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def target(port: int, **more: Any) -> Email:
    given: dict[str, Any] = {
        "host": "localhost", "port": port, "security": "plain", "sender": "trimtab@example.com",
        "recipients": ("ada@example.com", "bo@example.com"), **more,
    }  # fmt: skip
    return Email(**given)


def test_arrives_as_plain_text_for_all_recipients(start: Any, mailbox: Mailbox) -> None:
    hostile = row(title="Fell\r\nBcc: evil@example.com\r\n\r\n<b>", text="x\u202ey ☃\n.\nQUIT", severity="critical")
    assert mail.send(message(hostile, row(notice_id=8)), target(start()), {}) == "Accepted for 2 recipients."
    ((recipients, secure, got),) = mailbox.got
    assert recipients == ["ada@example.com", "bo@example.com"]
    assert not secure
    assert got["Subject"] == "Trimtab critical: Fell Bcc: evil@example.com <b> and 1 more"
    assert got["Bcc"] is None
    assert got["Message-ID"] == "<d1@example.com>"
    assert got["Auto-Submitted"] == "auto-generated"
    assert got.get_content_type() == "text/plain"
    text = got.get_content()
    assert "x y ☃\n.\nQUIT" in text.replace("\r\n", "\n")
    assert "http://127.0.0.1:8501/drift?incident=1+a" in text


def test_over_starttls_with_a_password(
    start: Any, mailbox: Mailbox, tls: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    server, trust = tls
    port = start(tls_context=server, require_starttls=True, authenticator=authenticate, auth_required=True)
    to = target(port, security="starttls", user="trimtab", password_variable="NOTICE_PASSWORD")
    assert mail.send(message(), to, ENVIRON, trust=trust) == "Accepted for 2 recipients."
    assert mailbox.got[0][1]
    with pytest.raises(NotSent, match="535") as refused:
        mail.send(message(), to, {"NOTICE_PASSWORD": "wrong one"}, trust=trust)
    assert "wrong one" not in refused.value.why
    with pytest.raises(NotSent, match="NOTICE_PASSWORD is not set"):
        mail.send(message(), to, {}, trust=trust)


def test_over_tls_from_the_start(start: Any, mailbox: Mailbox, tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    server, trust = tls
    to = target(start(wrapped=server), security="tls", recipients=("ada@example.com",))
    assert mail.send(message(), to, {}, trust=trust) == "Accepted."
    assert mailbox.got[0][0] == ["ada@example.com"]


def test_no_readable_password_when_starttls_is_not_offered(start: Any, mailbox: Mailbox) -> None:
    to = target(start(), security="starttls", user="trimtab", password_variable="NOTICE_PASSWORD")
    with pytest.raises(NotSent, match="STARTTLS"):
        mail.send(message(), to, ENVIRON)
    assert mailbox.got == []


def test_a_certificate_that_is_not_trusted(
    start: Any, mailbox: Mailbox, tls: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    port = start(tls_context=tls[0])
    with pytest.raises(NotSent, match="CERTIFICATE_VERIFY_FAILED"):
        mail.send(message(), target(port, security="starttls"), {})
    assert mailbox.got == []


def test_some_and_all_recipients_refused(start: Any, mailbox: Mailbox) -> None:
    port = start()
    some = target(port, recipients=("ada@example.com", "nobody@example.com"))
    assert mail.send(message(), some, {}) == "Accepted, but not for nobody@example.com."
    with pytest.raises(NotSent, match="refused every recipient"):
        mail.send(message(), target(port, recipients=("nobody@example.com",)), {})
    assert [recipients for recipients, _, _ in mailbox.got] == [["ada@example.com"]]


def test_a_mail_server_that_hangs_is_cut_off() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    began = time.monotonic()
    with pytest.raises(NotSent, match=r"within 0\.3 seconds"):
        mail.send(message(), target(listening.getsockname()[1]), {}, seconds=0.3)
    assert time.monotonic() - began < 30
    listening.close()


def test_a_mail_server_that_drips_is_cut_off() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def drip() -> None:
        connection, _ = listening.accept()
        with connection, contextlib.suppress(OSError):
            while not stop.wait(0.05):
                connection.sendall(b"220-not yet\r\n")

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    with pytest.raises(NotSent):
        mail.send(message(), target(listening.getsockname()[1]), {}, seconds=0.4)
    stop.set()
    thread.join(10)
    listening.close()


def test_a_mail_server_that_says_nonsense_or_nothing() -> None:
    for greeting in (b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"554 go away\r\n"):
        listening = socket.create_server(("127.0.0.1", 0))

        def answer(listening: socket.socket = listening, greeting: bytes = greeting) -> None:
            connection, _ = listening.accept()
            connection.sendall(greeting)
            connection.close()

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with pytest.raises(NotSent):
            mail.send(message(), target(listening.getsockname()[1]), {}, seconds=5)
        thread.join(10)
        listening.close()


def test_certificates_of_others_do_not_matter_to_plain(start: Any, mailbox: Mailbox, tmp_path: Path) -> None:
    assert mail.send(message(), target(start(), recipients=("ada@example.com",)), {}) == "Accepted."
    assert len(mailbox.got) == 1
