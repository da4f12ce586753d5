"""Notices by e-mail: plain text, over TLS from the start, STARTTLS, or neither.

A repeat bears the same Message-ID, by which mail servers and programs know it as the same message.
"""

import smtplib
import socket
import ssl
from collections.abc import Mapping
from email.message import EmailMessage
from email.utils import format_datetime

from pipelines.notices.message import Message, subject, text
from pipelines.notices.wire import Deadline, NotSent, connect, deadline
from store.notice_route import Email

__all__ = ["composed", "send"]


class _Client(smtplib.SMTP):
    """A client whose connection goes to a checked address, within a deadline."""

    def __init__(self, target: Email, limit: Deadline, trust: ssl.SSLContext) -> None:
        self._target, self._limit, self._trust = target, limit, trust
        super().__init__(target.host, target.port, local_hostname=socket.gethostname(), timeout=limit.left)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        connection = connect(host, port, self._limit)
        if self._target.security != "tls":
            return connection
        try:
            wrapped = self._trust.wrap_socket(connection, server_hostname=host)
        except BaseException:
            connection.close()
            raise
        self._limit.watch(wrapped)
        return wrapped


def send(
    message: Message,
    target: Email,
    environ: Mapping[str, str],
    *,
    seconds: float = 20.0,
    trust: ssl.SSLContext | None = None,
) -> str:
    """Send a message; returns what became of it, in words. `trust` in place of the system's certificates.

    Raises: `NotSent` when no recipient was accepted, the server offers no STARTTLS, or the time is over.
    """
    password = _password(target, environ)
    with deadline(seconds) as limit:
        try:
            refused = _submit(message, target, password, limit, trust or ssl.create_default_context())
        except smtplib.SMTPException as error:
            late = f"There was no answer within {seconds:g} seconds." if limit.passed else _said(error, password)
            raise NotSent(late) from error
    if refused:
        return f"Accepted, but not for {', '.join(sorted(refused))[:300]}."
    return f"Accepted for {len(target.recipients)} recipients." if len(target.recipients) > 1 else "Accepted."


def composed(message: Message, target: Email) -> EmailMessage:
    """The e-mail."""
    mail = EmailMessage()
    mail["Subject"] = subject(message)
    mail["From"] = target.sender
    mail["To"] = ", ".join(target.recipients)
    mail["Date"] = format_datetime(message.sent_at)
    mail["Message-ID"] = f"<{message.delivery_id}@{target.sender.rpartition('@')[2]}>"
    # Nobody's holiday note is to answer.
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(text(message) + "\n")
    return mail


def _submit(
    message: Message, target: Email, password: str | None, limit: Deadline, trust: ssl.SSLContext
) -> Mapping[str, tuple[int, bytes]]:
    """Hand the mail over; returns who was refused. Raises: `smtplib.SMTPException`, `OSError`, `NotSent`."""
    client = _Client(target, limit, trust)
    try:
        if target.security == "starttls":
            client.starttls(context=trust)
            if client.sock is not None:
                limit.watch(client.sock)
        if target.user is not None and password is not None:
            client.login(target.user, password)
        refused = client.send_message(composed(message, target), target.sender, target.recipients)
        try:
            client.quit()
        except (smtplib.SMTPException, OSError):
            # It was accepted before; how the server says goodbye changes nothing.
            return refused
        return refused
    finally:
        client.close()


def _password(target: Email, environ: Mapping[str, str]) -> str | None:
    if target.password_variable is None:
        return None
    password = environ.get(target.password_variable, "").strip()
    if not password:
        raise NotSent(f"The variable {target.password_variable} is not set; set it and restart Trimtab.")
    return password


def _said(error: smtplib.SMTPException, password: str | None) -> str:
    """What the server said, without the password should it repeat it."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = sorted({str(code) for code, _ in error.recipients.values()})
        return f"The mail server refused every recipient ({', '.join(codes)})."
    if isinstance(error, smtplib.SMTPResponseException):
        said = error.smtp_error.decode("utf-8", "replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        said = str(said).replace(password, "[secret]") if password else str(said)
        return f"The mail server answered {error.smtp_code}: {said[:200]}"
    return f"The mail server: {type(error).__name__}: {str(error)[:200]}"
