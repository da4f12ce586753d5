"""The listening socket: small answers must leave at once.

Streamlit binds a socket that does not name TCP as its protocol, and asyncio switches Nagle's algorithm off only where
it is named. The second part of an answer would then wait for the client's delayed acknowledgement: 40 ms on every
connection that is kept alive.
"""

import functools
import socket
from typing import Any

from streamlit.web.server.starlette import starlette_server

__all__ = ["answer_at_once"]


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
