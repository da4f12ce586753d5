"""An HTTP server that shares its port with another process: each answers some requests, whoever accepts.

Which of the two a request is for is told by its first line. Whoever reads the beginning of a request that is the
other's gives the connection away, with what was read of it, before anything of the request is looked at further.
That happens between requests only: a request that is sent before the answer to the one ahead of it has left (HTTP
pipelining) is answered where it arrives.
"""

import asyncio
import os
import socket
from asyncio.events import TimerHandle
from collections.abc import Callable
from typing import Any

import uvicorn

from gateway.bounded_head import BoundedHead
from gateway.handover import Handover, Kind

__all__ = ["Passing", "PassingServer", "steers"]

_STEER = b"POST /v1/steer"


def steers(beginning: bytes) -> bool | None:
    """Whether a request that begins so is one for the steering process; None while that cannot be told."""
    if len(beginning) <= len(_STEER):
        return None if _STEER.startswith(beginning) else False
    return beginning.startswith(_STEER) and beginning[len(_STEER)] in b" ?"


class Passing(BoundedHead):
    """One connection."""

    def __init__(self, server: "PassingServer", first: bytes) -> None:
        """`first` was read of the connection by the process that had it before."""
        super().__init__(server.config, server.server_state, server.lifespan.state)
        self._sharing = server
        self._first = first
        self._undecided = b""
        self._within = False  # a request, whether its answer has left or not
        self._patience: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, with what was read before."""
        super().connection_made(transport)
        self._wait()
        first, self._first = self._first, b""
        if first:
            self.data_received(first)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._waited()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Go on with a request, or see whose the next one is."""
        if self._within or not self._between():
            super().data_received(data)
            return
        beginning, self._undecided = self._undecided + data, b""
        mine = self._sharing.mine(beginning)
        if mine is None:
            self._undecided = beginning
            self._unset_keepalive_if_required()
            self._wait()
        elif mine or not self._give(beginning):
            super().data_received(beginning)

    def on_message_begin(self) -> None:
        """The first line of a request."""
        self._within = True
        self._wait()
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """The end of a request."""
        self._within = False
        self._waited()
        super().on_message_complete()

    def _between(self) -> bool:
        """Whether everything that was asked is answered, and the answer has left."""
        answered = self.cycle is None or self.cycle.response_complete
        return answered and not self.pipeline and not self.transport.get_write_buffer_size()

    def _give(self, beginning: bytes) -> bool:
        if self.transport.is_closing():
            return False
        descriptor = os.dup(self.transport.get_extra_info("socket").fileno())
        self.transport.pause_reading()
        if not self._sharing.give(descriptor, beginning):
            os.close(descriptor)
            self.transport.resume_reading()
            return False
        # The connection lives on under the other descriptor.
        self._unset_keepalive_if_required()
        self.transport.close()
        return True

    def _wait(self) -> None:
        if self._sharing.patience is not None and self._patience is None:
            self._patience = self.loop.call_later(self._sharing.patience, self.transport.close)

    def _waited(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


class PassingServer(uvicorn.Server):
    """Serves what is its own. It accepts connections only between `listen` and `unlisten`."""

    def __init__(
        self, config: uvicorn.Config, mine: Callable[[bytes], bool | None], *, patience: float | None = None
    ) -> None:
        """`mine` tells from its beginning whether a request is answered here, None while that is open. A connection
        that has not sent a request, or not all of it, after `patience` seconds is closed."""
        super().__init__(config)
        self.mine, self.patience = mine, patience
        self._accepting: asyncio.Server | None = None
        self._handover: Handover | None = None
        self._beginning: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin without accepting connections."""
        await super().startup(sockets=[])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept and pass on no more, answer what is under way, and end."""
        self.unlisten()
        self.alone()
        await super().shutdown(sockets)

    async def listen(self, listening: socket.socket) -> None:
        """Accept connections, until `unlisten`."""
        if self._accepting is None and not self.should_exit:
            self._accepting = await asyncio.get_running_loop().create_server(
                self._protocol, sock=listening.dup(), backlog=self.config.backlog
            )

    def unlisten(self) -> None:
        """Leave accepting to the other process."""
        if self._accepting is not None:
            self._accepting.close()
            self._accepting = None

    def share(self, end: socket.socket, listening: Callable[[socket.socket], None] | None = None) -> Handover:
        """From now on connections go to and come from the process at the other end of a Unix socket. `listening` gets
        the socket on which to accept, where that comes too."""

        def taken(kind: Kind, given: socket.socket, read: bytes) -> None:
            if kind == "connection":
                self._take(given, read)
            elif listening is not None:
                listening(given)

        self.alone()
        self._handover = Handover(end, asyncio.get_running_loop(), taken)
        return self._handover

    def alone(self) -> None:
        """Answer everything here."""
        if self._handover is not None:
            self._handover.close()
            self._handover = None

    def give(self, descriptor: int, read: bytes) -> bool:
        """Give a connection to the other process; whether it could be."""
        return self._handover is not None and self._handover.give("connection", descriptor, read)

    def _protocol(self, first: bytes = b"") -> Passing:
        return Passing(self, first)

    def _take(self, given: socket.socket, read: bytes) -> None:
        given.setblocking(False)

        async def begin() -> None:
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(lambda: self._protocol(read), given)

        task = asyncio.get_running_loop().create_task(begin())
        self._beginning.add(task)
        task.add_done_callback(self._begun)

    def _begun(self, task: asyncio.Task[None]) -> None:
        self._beginning.discard(task)
        error: Any = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, OSError):
            raise error
