"""Connections that the server accepts send small answers at once."""

import socket

from streamlit.web.server.starlette import starlette_server

from dashboard.sockets import answer_at_once


def test_accepted_connections_do_not_wait_for_acknowledgements(monkeypatch):
    monkeypatch.setattr(starlette_server, "_bind_socket", starlette_server._bind_socket)
    answer_at_once()
    once = starlette_server._bind_socket
    answer_at_once()
    assert starlette_server._bind_socket is once
    with starlette_server._bind_socket("127.0.0.1", 0, 1) as listening:
        listening.setblocking(True)
        with socket.create_connection(listening.getsockname()), listening.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
