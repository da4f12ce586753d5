"""Notices to an address: one signed JSON document a message.

    Trimtab-Signature: v1=HMAC-SHA256(secret, Trimtab-Timestamp + "." + body), in hexadecimal

The receiver computes the same, compares in constant time, refuses timestamps (seconds since 1970) that are minutes old,
and drops what bears a Trimtab-Delivery that it has had.
"""

import hashlib
import hmac
import http.client
import json
import ssl
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from pipelines.notices.message import Message, document
from pipelines.notices.wire import Deadline, NotSent, connect, deadline
from pipelines.retry_after import retry_after
from store.errors import ActionRefused
from store.notice_route import Webhook, checked_address

__all__ = ["send", "signature"]

_PORTS: Final = {"http": 80, "https": 443}


def signature(secret: str, timestamp: int, body: bytes) -> str:
    """What the header Trimtab-Signature says of a body sent at `timestamp`."""
    return "v1=" + hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


def send(message: Message, target: Webhook, environ: Mapping[str, str], *, seconds: float = 10.0) -> str:
    """Send a message; returns what the server answered, in words.

    Raises: `NotSent` after any other answer than 2xx, a redirect included, and when there is none in time.
    """
    url = _address(target, environ)
    headers, body = request(message, target, environ)
    with deadline(seconds) as limit:
        try:
            status, again = _exchange(url, headers, body, message, limit)
        except http.client.HTTPException as error:
            why = f"no answer within {seconds:g} seconds" if limit.passed else f"no HTTP ({type(error).__name__})"
            raise NotSent(f"The server gave {why}.") from error
    if 200 <= status < 300:
        return f"Answered {status}."
    if 300 <= status < 400:
        raise NotSent(f"Answered {status}, a redirect. They are not followed: give the final address.")
    raise NotSent(f"Answered {status}.", again)


def request(message: Message, target: Webhook, environ: Mapping[str, str]) -> tuple[dict[str, str], bytes]:
    """The headers and the body of a message. Raises: `NotSent` when the secret is missing."""
    body = json.dumps(document(message), ensure_ascii=True, sort_keys=True).encode()
    timestamp = int(message.sent_at.timestamp())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "trimtab-notices",
        "Trimtab-Delivery": message.delivery_id,
        "Trimtab-Attempt": str(message.attempt),
        "Trimtab-Timestamp": str(timestamp),
    }
    if target.secret_variable is not None:
        secret = environ.get(target.secret_variable, "").strip()
        if not secret:
            raise NotSent(f"The variable {target.secret_variable} is not set; set it and restart Trimtab.")
        headers["Trimtab-Signature"] = signature(secret, timestamp, body)
    return headers, body


def _exchange(
    url: str, headers: Mapping[str, str], body: bytes, message: Message, limit: Deadline
) -> tuple[int, float | None]:
    """The status of the answer, and how long it asks to be left alone; the rest of it is not read."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    raw = connect(host, port, limit)
    try:
        secure = parts.scheme == "https"
        wire = ssl.create_default_context().wrap_socket(raw, server_hostname=host) if secure else raw
        raw = wire
        limit.watch(wire)
        wire.settimeout(limit.left)
        asking = http.client.HTTPConnection(host, port) if not secure else http.client.HTTPSConnection(host, port)
        # A connection that has its socket opens none, so this goes to the address that was checked.
        asking.sock = wire
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        asking.request("POST", path, body, {**headers, "Connection": "close"})
        answer = asking.getresponse()
        return answer.status, retry_after(answer.headers.get("Retry-After"), message.sent_at)
    finally:
        raw.close()


def _address(target: Webhook, environ: Mapping[str, str]) -> str:
    if target.url is not None:
        return target.url
    url = environ.get(target.url_variable or "", "").strip()
    if not url:
        raise NotSent(f"The variable {target.url_variable} is not set; set it and restart Trimtab.")
    try:
        return checked_address(url)
    except ActionRefused as refused:
        raise NotSent(f"The variable {target.url_variable} cannot be used: {refused.why}") from refused
