"""The steering process: answers `POST /v1/steer` from memory, on connections that it accepts for the server.

It has no store. The server that starts it tells it the policies, the keys, and what an earlier process left; decisions
go into spool files, which the server stores. Requests for anything else are given to the server with their connection.
It ends when it is told to, and at once when the server is gone.
"""

import asyncio
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

import numpy as np
import uvicorn
import uvloop
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from gateway.deciding import Deciding
from gateway.key_ring import KeyRing
from gateway.passing import PassingServer, steers
from gateway.security_headers import OF_DATA
from gateway.steering_wire import (
    Answered,
    Asked,
    Begin,
    Drain,
    InForce,
    KeyChanged,
    KeysUsed,
    Listening,
    Noted,
    NotInForce,
    Ready,
    Stream,
    Told,
    Unread,
    Wanted,
)
from pipelines.priority import session_before_others
from pipelines.stats.quadrature import probability_best
from pipelines.steering.budget import Budgets
from pipelines.steering.decide import Decider
from pipelines.steering.policy import Policy
from pipelines.steering.process_turns import take_short_turns
from pipelines.steering.sessions import Sessions
from pipelines.steering.snapshot import Policies
from pipelines.steering.spool import Spool
from store.errors import StoreError

__all__ = ["PATIENCE_SECONDS", "serve"]

PATIENCE_SECONDS: Final = 30.0
"""A connection that has not sent a whole question by then is closed."""

_TELL_SECONDS = 1.0
_FINISH_SECONDS = 5.0
# How long another thread may keep the interpreter while an answer waits for it.
_SWITCH_SECONDS = 0.0005
# Searching everything for garbage would stop every answer: what is there at the start is never searched.
_GARBAGE_THRESHOLDS = (5_000, 10, 100)
_MISDIRECTED = "Send this on a connection of its own, or after the answer to the request before it."


class _Held:
    """The policies that the server sent."""

    def __init__(self) -> None:
        self.policies: dict[str, Policy] = {}
        self.unread: str | None = None

    def load(self, agent: str | None) -> Sequence[Policy]:
        if self.unread is not None and (agent is None or agent not in self.policies):
            raise StoreError(self.unread)
        return [policy for name, policy in self.policies.items() if agent is None or name == agent]


class _Process:
    """What the process consists of."""

    def __init__(self, stream: Stream, begin: Begin) -> None:
        self._stream = stream
        self._held = _Held()
        self.policies = Policies(self._held.load, begin.clock)
        self.keys = KeyRing(begin.clock.now, keyless_loopback=begin.keyless_loopback, used=self._used)
        sessions = Sessions()
        sessions.restore(begin.sessions, begin.now)
        self.spool = Spool(begin.spool)
        decider = Decider(
            self.policies, begin.clock, sessions=sessions, budgets=Budgets(begin.now, begin.spent)
        )  # fmt: skip
        self.deciding = Deciding(self.keys, decider, self.spool.take)
        config = uvicorn.Config(
            self._app, http="httptools", ws="none", lifespan="off", interface="asgi3",
            proxy_headers=False, access_log=False, log_config=None,
            timeout_graceful_shutdown=max(1, int(begin.grace_seconds)),
        )  # fmt: skip
        self.server = PassingServer(config, steers, patience=PATIENCE_SECONDS)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.begun = threading.Event()

    async def run(self, handover: socket.socket) -> None:
        """Serve until told to stop."""
        self.loop = asyncio.get_running_loop()

        def listen(given: socket.socket) -> None:
            assert self.loop is not None
            listening.append(given)
            tasks.append(self.loop.create_task(self._listen(given)))

        listening: list[socket.socket] = []
        tasks: list[asyncio.Task[None]] = []
        self.server.share(handover, listen)
        self.begun.set()
        await self.server.serve()
        for each in listening:
            each.close()

    def receive(self) -> None:
        """Take in what the server tells, until it is gone."""
        with suppress(EOFError, OSError):
            while True:
                self._take_in(self._stream.receive())
        # Nobody is left to answer for: the port has to be free for who comes next.
        with suppress(Exception):
            self.spool.flush()
        os._exit(0)

    def tell(self) -> None:
        """Tell the figures now and then."""
        while True:
            threading.Event().wait(_TELL_SECONDS)
            self._stream.send(self._told(0))

    def end(self) -> None:
        """Put what waits into files and tell the last figures."""
        self.spool.close()
        self._stream.send(KeysUsed(self.keys.untold()))
        self._stream.send(self._told(0))
        self._stream.finish(_FINISH_SECONDS)

    def _take_in(self, message: object) -> None:
        match message:
            case InForce(policy):
                held = self._held.policies
                held[policy.agent] = message.whole(held.get(policy.agent))
                self.policies.refresh(policy.agent)
            case NotInForce(agent):
                self._held.policies.pop(agent, None)
                self.policies.refresh(agent)
            case Unread(why):
                self._held.unread = why
                self.policies.refresh(None)
            case KeyChanged(number, key):
                self.keys.changed(key)
                self._stream.send(Noted(number))
            case Asked():
                self.begun.wait()
                assert self.loop is not None
                asyncio.run_coroutine_threadsafe(self._answer(message), self.loop)
            case Wanted(number):
                self._stream.send(self._told(number))
            case Ready():
                self._settle()
                self.begun.wait()
                self._stream.send(Ready())
            case Drain():
                self.server.should_exit = True

    def _settle(self) -> None:
        probability_best(np.array([0.5, 0.6, 0.7]), np.full(3, 0.1))  # what the first decision would wait for
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GARBAGE_THRESHOLDS)

    def _told(self, number: int) -> Told:
        return Told(number, self.deciding.figures(list(self._held.policies)), self.spool.counts())

    def _used(self, used: dict[str, datetime]) -> None:
        self._stream.send(KeysUsed(used))

    async def _listen(self, listening: socket.socket) -> None:
        await self.server.listen(listening)
        self._stream.send(Listening())

    async def _answer(self, asked: Asked) -> None:
        body: list[Message] = [{"type": "http.request", "body": asked.body, "more_body": False}]

        async def receive() -> Message:
            return body.pop() if body else {"type": "http.disconnect"}

        scope: dict[str, Any] = {
            "type": "http", "method": "POST", "path": "/v1/steer", "query_string": b"", "headers": asked.headers,
            "client": asked.client,
        }  # fmt: skip
        response = await self.deciding.respond(Request(scope, receive))
        self._stream.send(Answered(asked.number, response.status_code, response.raw_headers, bytes(response.body)))

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST" and scope["path"] == "/v1/steer":
            response = await self.deciding.respond(Request(scope, receive))
        else:
            response = JSONResponse({"error": _MISDIRECTED}, status_code=421, headers={"Connection": "close"})
        response.raw_headers.extend(OF_DATA)
        await response(scope, receive, send)


def serve() -> None:
    """The process: its arguments are the descriptors of the stream and of the handover."""
    stream = Stream(socket.socket(fileno=int(sys.argv[1])))
    handover = socket.socket(fileno=int(sys.argv[2]))
    try:
        begin = stream.receive()
    except (EOFError, OSError):
        os._exit(0)
    assert isinstance(begin, Begin)
    # A signal to all processes of a service ends this one as `Drain` does: what it has answered gets into files.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    sys.setswitchinterval(_SWITCH_SECONDS)
    session_before_others()
    take_short_turns()
    process = _Process(stream, begin)
    threading.Thread(target=process.receive, name="server", daemon=True).start()
    threading.Thread(target=process.tell, name="figures", daemon=True).start()
    with suppress(KeyboardInterrupt):
        uvloop.run(process.run(handover))
    process.end()
    os._exit(0)
