"""What the server and its steering process tell each other: pickles, each after eight bytes of its length.

Both run the same code and neither listens to anybody else: the stream is a pair of sockets made by the server.
"""

import pickle
import queue
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import polars as pl

from gateway.deciding import Figures
from pipelines.steering.spool import SpoolCounts
from store.api_keys import ApiKey
from store.clock import Clock
from store.policy import Policy

__all__ = [
    "Answered",
    "Asked",
    "Begin",
    "Drain",
    "InForce",
    "KeyChanged",
    "KeysUsed",
    "Listening",
    "NotInForce",
    "Noted",
    "Ready",
    "Stream",
    "Told",
    "Unread",
    "Wanted",
]  # fmt: skip

_LENGTH_BYTES = 8


@dataclass(frozen=True)
class Begin:
    """The first message: what an earlier process left. `sessions` has the columns of `store.decisions.SESSIONS`,
    `spent` is the worst-case regret of the day of `now` by agent."""

    spool: Path
    clock: Clock
    keyless_loopback: bool
    grace_seconds: float
    now: datetime
    sessions: pl.DataFrame
    spent: dict[str, float]


@dataclass(frozen=True)
class InForce:
    """A policy that is in force from now on. `same_users`: the positions of its users are those of the policy of its
    agent that was told before, and are not told again: with very many users they take longest to read."""

    policy: Policy
    same_users: bool

    @staticmethod
    def following(policy: Policy, before: Policy | None) -> "InForce":
        """As it is told where `before` was told of the same agent."""
        if before is None or before.users.index != policy.users.index:
            return InForce(policy, False)
        return InForce(replace(policy, users=replace(policy.users, index={})), True)

    def whole(self, before: Policy | None) -> Policy:
        """The policy, where `before` was told of the same agent."""
        if not self.same_users or before is None:
            return self.policy
        return replace(self.policy, users=replace(self.policy.users, index=before.users.index))


@dataclass(frozen=True)
class NotInForce:
    """An agent has no policy any more."""

    agent: str


@dataclass(frozen=True)
class Unread:
    """Why policies could not be read; None: they can."""

    why: str | None


@dataclass(frozen=True)
class KeyChanged:
    """A key that was made or revoked. It is told (`Noted`) when that is in force."""

    number: int
    key: ApiKey


@dataclass(frozen=True)
class Asked:
    """A question that came to the server, to be answered by `Answered`."""

    number: int
    headers: list[tuple[bytes, bytes]]
    client: tuple[str, int] | None
    body: bytes


@dataclass(frozen=True)
class Wanted:
    """The figures are wanted (`Told`)."""

    number: int


@dataclass(frozen=True)
class Drain:
    """Answer what is under way, put the decisions into files, and end."""


@dataclass(frozen=True)
class Ready:
    """What was told up to now is in force."""


@dataclass(frozen=True)
class Listening:
    """Connections are accepted."""


@dataclass(frozen=True)
class Answered:
    """The answer to `Asked`."""

    number: int
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


@dataclass(frozen=True)
class Told:
    """The present figures; number 0 when nobody asked."""

    number: int
    figures: Figures
    spool: SpoolCounts


@dataclass(frozen=True)
class Noted:
    """The answer to `KeyChanged`."""

    number: int


@dataclass(frozen=True)
class KeysUsed:
    """When keys were used last, by id."""

    used: dict[str, datetime]


class Stream:
    """One end. Any thread may send, which waits for nobody; one receives."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._file = end.makefile("rb")
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._gone = False
        self._thread = threading.Thread(target=self._write, name="wire", daemon=True)
        self._thread.start()

    def send(self, message: object) -> None:
        """Send a message, after those that were sent before; to nobody when the other side is gone."""
        if not self._gone:
            self._outbox.put(pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL))

    def receive(self) -> object:
        """The next message. Raises: `EOFError`, `OSError` when the other side is gone."""
        length = int.from_bytes(self._exactly(_LENGTH_BYTES), "big")
        return pickle.loads(self._exactly(length))

    def finish(self, seconds: float) -> None:
        """Wait until what was sent has left, at most so long."""
        self._outbox.put(None)
        self._thread.join(seconds)

    def close(self) -> None:
        """End it, also for a thread that waits for a message, which then lets go of it. Safe to call twice."""
        self._gone = True
        self._outbox.put(None)
        with suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._end.close()

    def _write(self) -> None:
        while (content := self._outbox.get()) is not None:
            try:
                self._end.sendall(len(content).to_bytes(_LENGTH_BYTES, "big"))
                self._end.sendall(content)
            except OSError:
                self._gone = True
                return

    def _exactly(self, size: int) -> bytes:
        content = self._file.read(size)
        if len(content) < size:
            self._file.close()
            raise EOFError
        return content
