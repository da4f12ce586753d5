"""A connection whose requests must begin within limits: the head of one may be neither endless nor endlessly slow.

The parser keeps what it has read of a head in memory until the head ends, and no middleware sees it before.
"""

import asyncio
from asyncio.events import TimerHandle
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["HEAD_SECONDS", "MOST_HEAD_BYTES", "BoundedHead"]

MOST_HEAD_BYTES: Final = 131_072
"""Of the address and headers together; what is taken is less, see `dashboard.hardening.guard`."""

HEAD_SECONDS: Final = 30.0
"""How long a head that has begun may take."""


class BoundedHead(HttpToolsProtocol):
    """Answers 431 to a head that is too large, and closes the connection; closes it where one takes too long."""

    _in_head = False
    _read_of_head = 0
    _too_slow: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin: nothing was read yet."""
        super().connection_made(transport)
        self._within_time()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._in_time()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Go on, unless the head does not end."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if not self._in_head:
            return
        self._read_of_head += len(data)
        if self._read_of_head > MOST_HEAD_BYTES and not self.transport.is_closing():
            self._in_time()
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            )
            self.transport.close()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._in_head, self._read_of_head = True, 0
        self._within_time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The end of the head."""
        self._in_head = False
        self._in_time()
        super().on_headers_complete()

    def _within_time(self) -> None:
        if self._too_slow is None:
            self._too_slow = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _in_time(self) -> None:
        if self._too_slow is not None:
            self._too_slow.cancel()
            self._too_slow = None
