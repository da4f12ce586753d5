"""Giving connections to another process: whole, in order, and told apart by how they begin."""

import asyncio
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.handover import Handover, Kind
from gateway.passing import steers

_SECONDS = 20.0


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair()


@pytest.fixture
def lines() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    made = [pair() for _ in range(30)]
    yield made
    for ours, theirs in made:
        ours.close()
        theirs.close()


def test_sockets_arrive_in_order_with_what_was_read(lines: list[tuple[socket.socket, socket.socket]]) -> None:
    """Also when it is more than fits into the stream, and when several arrive at once."""
    read = [bytes([number]) * (number * 20_011 % 300_000) for number in range(len(lines))]
    arrived: list[tuple[Kind, bytes]] = []
    echoed: list[bytes] = []

    async def work() -> None:
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def taken(kind: Kind, given_socket: socket.socket, content: bytes) -> None:
            arrived.append((kind, content))
            # It is the same connection: what is written here arrives at the other end.
            with given_socket:
                given_socket.sendall(f"{len(arrived) - 1}".encode())
            if len(arrived) == len(lines):
                done.set()

        one, other = pair()
        giving = Handover(one, loop, lambda *_: None)
        taking = Handover(other, loop, taken)
        for number, (ours, _) in enumerate(lines):
            kind: Kind = "listening" if number == 3 else "connection"
            assert giving.give(kind, ours.detach(), read[number])
        await asyncio.wait_for(done.wait(), _SECONDS)
        giving.close()
        taking.close()

    asyncio.run(work())
    assert [content for _, content in arrived] == read
    assert [kind for kind, _ in arrived].index("listening") == 3
    for _, theirs in lines:
        theirs.settimeout(_SECONDS)
        echoed.append(theirs.recv(10))
    assert echoed == [f"{number}".encode() for number in range(len(lines))]


def test_nothing_can_be_given_to_a_process_that_is_gone(lines: list[tuple[socket.socket, socket.socket]]) -> None:
    async def work() -> None:
        one, other = pair()
        giving = Handover(one, asyncio.get_running_loop(), lambda *_: None)
        other.close()
        while not giving.closed:
            await asyncio.sleep(0.001)
        ours, _ = lines[0]
        assert not giving.give("connection", ours.fileno(), b"")
        ours.getpeername()  # it is still open, and its owner's
        giving.close()

    asyncio.run(work())


def test_connections_that_never_left_end_with_the_giver() -> None:
    async def work() -> None:
        one, other = pair()
        giving = Handover(one, asyncio.get_running_loop(), lambda *_: None)
        kept, waiting = pair()
        for _ in range(3):
            more, _unused = pair()
            giving.give("connection", more.detach(), bytes(1_000_000))
            _unused.close()
        giving.give("connection", kept.detach(), b"")
        giving.close()
        other.close()
        waiting.settimeout(_SECONDS)
        assert waiting.recv(1) == b""
        waiting.close()

    asyncio.run(work())


_BEGINNINGS = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            b"POST /v1/steer HTTP/1.1\r\n", b"POST /v1/steer?a HTTP/1.1", b"POST /v1/steering HTTP/1.1",
            b"POST /v1/steer/ HTTP/1.1", b"GET /v1/steer HTTP/1.1", b"post /v1/steer HTTP/1.1", b"PRI * HTTP/2.0\r\n",
            b"\r\nPOST /v1/steer HTTP/1.1",
        ]
    ),
)  # fmt: skip


@given(_BEGINNINGS)
def test_whose_a_request_is_never_changes_as_more_of_it_arrives(content: bytes) -> None:
    told = [steers(content[:length]) for length in range(len(content) + 1)]
    decided = [each for each in told if each is not None]
    assert len(set(decided)) <= 1
    assert told == [None] * (len(told) - len(decided)) + decided
    line = content.split(b"\n", 1)[0]
    if len(content) > len(b"POST /v1/steer"):
        assert decided
        assert decided[0] == (content.startswith(b"POST /v1/steer") and line[14:15] in (b" ", b"?"))
