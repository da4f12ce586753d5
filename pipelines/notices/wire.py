"""Connections to servers that an operator named: to checked addresses only, and never longer than a deadline.

What a route may reach (server-side request forgery): only an administrator sets routes, and servers of one's own
network, this machine's included, are what they are for. Refused are addresses that no such server has: link-local ones
and those of the cloud's metadata services, multicast, unspecified. A name is resolved once and the connection goes to
the address that was checked, so a name cannot change its mind in between. Redirects are never followed, and nothing of
an answer but its status is shown.
"""

import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["Deadline", "NotSent", "connect", "deadline"]

_METADATA: Final = frozenset(
    ipaddress.ip_address(text) for text in ("100.100.100.200", "192.0.0.192", "fd00:ec2::254")
)  # fmt: skip


class NotSent(Exception):
    """A message was not delivered, or not surely; `asked_seconds`: the other side asks to be left alone so long."""

    def __init__(self, why: str, asked_seconds: float | None = None) -> None:
        self.why, self.asked_seconds = why, asked_seconds
        super().__init__(why)


class Deadline:
    """So long an exchange may take as a whole; a server that sends a byte now and then does not prolong it."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self.seconds = seconds
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        self._timer.start()

    @property
    def passed(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() >= self._end

    @property
    def left(self) -> float:
        """Seconds that are left, at least a little: 0 would mean no limit to a socket's operations."""
        return max(self._end - time.monotonic(), 0.01)

    def watch(self, connection: socket.socket) -> None:
        """Cut this connection when the time is over."""
        with self._lock:
            self._socket = connection
            if self.passed:
                self._shut()

    def close(self) -> None:
        """The exchange is over."""
        self._timer.cancel()
        with self._lock:
            self._socket = None

    def _cut(self) -> None:
        with self._lock:
            self._shut()

    def _shut(self) -> None:
        if self._socket is not None:
            try:
                # Not the method of an SSL socket, which would also let go of what the other thread reads with.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            except OSError:
                self._socket = None


@contextmanager
def deadline(seconds: float) -> Iterator[Deadline]:
    """A deadline for what happens within. Raises: `NotSent` in place of any network error, saying what went wrong."""
    limit = Deadline(seconds)
    try:
        yield limit
    except NotSent:
        raise
    except (OSError, EOFError, ValueError) as error:
        if limit.passed or isinstance(error, TimeoutError):
            raise NotSent(f"There was no answer within {seconds:g} seconds.") from error
        raise NotSent(f"The connection failed: {type(error).__name__}: {str(error)[:200]}.") from error
    finally:
        limit.close()


def connect(host: str, port: int, limit: Deadline) -> socket.socket:
    """A connection to the first of the host's addresses that takes it. Raises: `NotSent`, `OSError`."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NotSent(f"The name {host[:200]!r} is not known.") from error
    failure: OSError | None = None
    for family, kind, protocol, _, address in found:
        refuse(str(address[0]))
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(limit.left)
            limit.watch(connection)
            connection.connect(address)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise failure or NotSent(f"The name {host[:200]!r} has no address.")


def refuse(address: str) -> None:
    """Refuse addresses that no server of notices has. Raises: `NotSent`."""
    known = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(known, ipaddress.IPv6Address) and known.ipv4_mapped is not None:
        known = known.ipv4_mapped
    if known.is_link_local or known.is_multicast or known.is_unspecified or known in _METADATA:
        raise NotSent(f"The address {address} is not one that notices are sent to (link-local, metadata, multicast).")
