"""The listening socket: small answers must leave at once, and the steering process accepts on it too.

Streamlit binds a socket that does not name TCP as its protocol, and asyncio switches Nagle's algorithm off only where
it is named. The second part of an answer would then wait for the client's delayed acknowledgement: 40 ms on every
connection that is kept alive.
"""

import functools
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from streamlit.web.server.starlette import starlette_server

from gateway.passing import PassingServer, steers
from gateway.steering_apart import Apart

__all__ = ["answer_at_once", "sharing"]


def answer_at_once() -> None:
    """Have Streamlit's server listen without Nagle's algorithm; accepted connections inherit it. Safe to call twice."""
    bind = starlette_server._bind_socket
    if hasattr(bind, "__wrapped__"):
        return

    @functools.wraps(bind)
    def without_delay(*args: Any, **kwargs: Any) -> socket.socket:
        listening = bind(*args, **kwargs)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening

    starlette_server._bind_socket = without_delay


@contextmanager
def sharing(apart: Apart | None) -> Iterator[None]:
    """Servers that are made meanwhile share their socket with the steering process, if there is one."""
    if apart is None:
        yield
        return
    plain = uvicorn.Server
    uvicorn.Server = lambda config: _Shared(config, apart)  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        uvicorn.Server = plain  # type: ignore[misc]


class _Shared(PassingServer):
    """Streamlit's server: pages and every route but the one that the steering process answers."""

    def __init__(self, config: uvicorn.Config, apart: Apart) -> None:
        super().__init__(config, _not_steering)
        self._apart = apart

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections, and have the steering process accept them instead as soon as it is there."""
        await super().startup(sockets)
        for listening in sockets or []:
            await self.listen(listening)
            self._apart.attach(self, listening)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End, and the steering process at the same time."""
        self._apart.drain()
        await super().shutdown(sockets)


def _not_steering(beginning: bytes) -> bool | None:
    asked = steers(beginning)
    return None if asked is None else not asked
