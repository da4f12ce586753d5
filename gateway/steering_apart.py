"""Steering in a process of its own: started, told what it has to know, asked, watched, and started again.

It accepts the connections of the server's port and gives those that are not for it to the server (see `passing`). While
it is not there the server accepts them itself, and questions wait a moment for its successor, which goes on with the
sessions and budgets that the decisions in the store tell.
"""

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from gateway import bodies
from gateway.access import Access
from gateway.deciding import Figures, refused
from gateway.passing import PassingServer
from gateway.steer_question import BODY_LIMIT
from gateway.steering_briefing import Briefing
from gateway.steering_life import Life
from gateway.steering_wire import Answered, Asked, Begin, Drain, KeysUsed, Listening, Told, Wanted
from pipelines.steering.decision_log import FolderLog, LogCounts
from pipelines.steering.sessions import LIFETIME_SECONDS
from pipelines.steering.spool import SpoolCounts
from store import decisions
from store.connection import Store
from store.errors import StoreClosed, TrimtabError

__all__ = ["Apart", "SteeringAway"]

# How long a question waits for a process that is being started again, and how many may.
_WAIT_SECONDS: Final = 3.0
_MOST_WAITING: Final = 1_000
_LOOK_SECONDS: Final = 0.02
_ANSWER_SECONDS: Final = 5.0
_FIGURES_SECONDS: Final = 0.5
_CATCH_UP_SECONDS: Final = 5.0
# It tells its figures every second: silent for so long, it hangs.
_SILENT_SECONDS: Final = 15.0
_BACKOFF_SECONDS: Final = (0.2, 5.0)
# After so long a life its end is no sign that the next one will end at once too.
_LONG_LIFE_SECONDS: Final = 30.0
_NO_COUNTS: Final = SpoolCounts(0, 0, 0, 0, None)

_LOG = logging.getLogger(__name__)


class SteeringAway(StoreClosed):
    """The steering process is not there at this moment."""

    def __init__(self) -> None:
        TrimtabError.__init__(self, "The steering process is being started again. Run the safe arm, and ask again.")


@dataclass(frozen=True)
class _Front:
    """Where connections are served."""

    server: PassingServer
    loop: asyncio.AbstractEventLoop
    listening: socket.socket


class Apart:
    """One for each process; close it before the store."""

    def __init__(
        self, store: Store, access: Access, folder: Path, *, keyless_loopback: bool, grace_seconds: float
    ) -> None:
        """Begin to start the process. Decisions go through files in `folder`; when it is told to end, what is under
        way has `grace_seconds`."""
        self._store, self._access, self._folder = store, access, folder
        self._keyless_loopback, self._grace = keyless_loopback, grace_seconds
        self._lock = threading.Condition()
        self._life: Life | None = None  # told everything, and ready
        self._next: Life | None = None  # being told; then the same
        self._accepting: Life | None = None  # connections, in place of the server
        self._front: _Front | None = None
        self._closing = threading.Event()
        self._starts = self._waiting = 0
        self._problem: str | None = None
        self._last, self._before = Figures(), Figures()
        self._spool, self._spooled = _NO_COUNTS, _NO_COUNTS
        self.log = FolderLog(store, folder)
        try:
            self._briefing = Briefing(store)
        except BaseException:
            self.log.close()
            raise
        self.policies = self._briefing.policies
        access.count(self._elsewhere)
        self._thread = threading.Thread(target=self._run, name="steering", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait until the process is there; whether it is."""
        with self._lock:
            return self._lock.wait_for(lambda: self._life is not None, seconds)

    def attach(self, server: PassingServer, listening: socket.socket) -> None:
        """Let the process accept connections on `listening`, whenever it is there, in place of `server`, which does so
        now. To be called in the server's loop."""
        with self._lock:
            self._front = _Front(server, asyncio.get_running_loop(), listening)
            if self._life is not None:
                self._share(self._front, self._life)

    def drain(self) -> None:
        """Have the process end, once it has answered what it was asked, and start no other. Safe to call twice."""
        with self._lock:
            if self._closing.is_set():
                return
            self._closing.set()
            for life in (self._life, self._next):
                if life is not None:
                    life.send(Drain())

    async def respond(self, request: Request) -> Response:
        """The answer to a question that came to the server."""
        try:
            body = await bodies.read(request, lambda _: None, BODY_LIMIT)
            life = await self._alive()
            client = (request.client.host, request.client.port) if request.client else None
            asked = life.ask(lambda number: Asked(number, list(request.headers.raw), client, body))
            answered = await asyncio.wait_for(asyncio.wrap_future(asked), _ANSWER_SECONDS)
        except (TimeoutError, EOFError):
            return refused(SteeringAway())
        except TrimtabError as error:
            return refused(error)
        assert isinstance(answered, Answered)
        response = Response(answered.body, answered.status)
        response.raw_headers = answered.headers
        return response

    def figures(self) -> Figures:
        """The present figures, of earlier processes too; those of a second ago where it does not tell at once."""
        life = self._life
        if life is not None:
            with suppress(TimeoutError, EOFError):
                self._take_told(life.ask(Wanted).result(_FIGURES_SECONDS))
        with self._lock:
            return self._last.after(self._before)

    def counts(self) -> LogCounts:
        """What became of decisions, by the figures that came last."""
        with self._lock:
            spool = self._spool.after(self._spooled)
        return self.log.counts().behind(spool)

    def condition(self) -> dict[str, Any]:
        """How the process is: running once it accepts connections, starting while the server still does, or away."""
        life = self._life
        if life is not None:
            state = "running" if life is self._accepting else "starting"
            return {"state": state, "pid": life.pid, "niceness": life.niceness, "starts": self._starts, "problem": None}
        return {"state": "away", "pid": None, "niceness": None, "starts": self._starts, "problem": self._problem}

    def close(self) -> None:
        """End the process, then store its decisions. Safe to call twice."""
        self.drain()
        self._thread.join()
        self._briefing.close()
        self.log.close()

    async def _alive(self) -> Life:
        """The process, after a moment where it is being started. Raises: `SteeringAway`."""
        life = self._life
        if life is not None:
            return life
        if self._waiting >= _MOST_WAITING or self._closing.is_set():
            raise SteeringAway
        self._waiting += 1
        try:
            until = time.monotonic() + _WAIT_SECONDS
            while (life := self._life) is None:
                if time.monotonic() > until or self._closing.is_set():
                    raise SteeringAway
                await asyncio.sleep(_LOOK_SECONDS)
            return life
        finally:
            self._waiting -= 1

    def _run(self) -> None:
        delay = 0.0
        while not self._closing.wait(delay):
            began = time.monotonic()
            try:
                self._live()
                self._problem = "it ended"
            except Exception as error:
                self._problem = str(error) or repr(error)
                _LOG.exception("the steering process could not be started")
            if self._closing.is_set():
                return
            _LOG.error("the steering process is gone (%s); another one is started", self._problem)
            lived_long = time.monotonic() - began > _LONG_LIFE_SECONDS
            delay = 0.0 if lived_long else min(_BACKOFF_SECONDS[1], max(_BACKOFF_SECONDS[0], 2 * delay))

    def _live(self) -> None:
        """One life of the process, from its start to its end."""
        life = Life(self._heard)
        self._starts += 1
        try:
            self._begin(life)
            ready = life.ready(_SILENT_SECONDS * 2)
            with self._lock:
                if ready and not self._closing.is_set():
                    self._life = life
                    self._lock.notify_all()
                    if self._front is not None:
                        self._later(self._share, self._front, life)
                elif not ready:
                    self._problem = "it did not start in time"
            self._watch(life, wanted=ready)
        finally:
            with self._lock:
                self._life = self._next = self._accepting = None
                self._briefing.end()
                self._before, self._last = self._last.after(self._before), Figures()
                self._spooled, self._spool = self._spool.after(self._spooled), _NO_COUNTS
                if self._front is not None:
                    self._later(self._back, self._front)
            life.end()

    def _begin(self, life: Life) -> None:
        """Tell a new process everything."""
        catching_up = threading.Thread(target=self.log.catch_up, name="catch-up", daemon=True)
        catching_up.start()
        catching_up.join(_CATCH_UP_SECONDS)
        now = self._store.clock.now()
        sessions = decisions.sessions_since(self._store, now - timedelta(seconds=LIFETIME_SECONDS))
        spent = decisions.spent_today(self._store, now)
        life.send(
            Begin(self._folder, self._store.clock, self._keyless_loopback, self._grace, now, sessions, spent)
        )  # fmt: skip
        with self._lock:
            self._next = life
            self._briefing.begin(life)
            life.told_all()
            if self._closing.is_set():
                life.send(Drain())

    def _watch(self, life: Life, *, wanted: bool) -> None:
        """Wait until it ends; end it when it hangs, or takes too long to end."""
        told = time.monotonic()
        while not life.ended(0.25):
            if not self._closing.is_set():
                told = max(told, life.heard_at)
                patience = _SILENT_SECONDS
            else:
                patience = self._grace + _CATCH_UP_SECONDS
            if not wanted or time.monotonic() - told > patience:
                _LOG.error("the steering process does not answer and is killed")
                life.kill()

    def _share(self, front: _Front, life: Life) -> None:
        """Have the process accept connections. In the server's loop."""
        end = life.take_handover()
        if end is not None and life is self._life:
            front.server.share(end).give("listening", os.dup(front.listening.fileno()), b"")

    def _back(self, front: _Front) -> None:
        """Have the server accept connections. In its loop."""
        front.server.alone()
        if self._closing.is_set():
            return
        task = front.loop.create_task(front.server.listen(front.listening))
        task.add_done_callback(lambda done: None if done.cancelled() else done.exception())

    def _later(self, function: Callable[..., None], *arguments: object) -> None:
        if self._front is not None:
            with suppress(RuntimeError):  # its loop has ended
                self._front.loop.call_soon_threadsafe(function, *arguments)

    def _heard(self, life: Life, message: object) -> None:
        """What the process says by itself. In the thread that receives it."""
        match message:
            case Listening():
                self._later(self._leave, life)
            case Told():
                self._take_told(message)
            case KeysUsed(used):
                self._access.write(used)

    def _leave(self, life: Life) -> None:
        if self._front is not None and life is self._life:
            self._front.server.unlisten()
            self._accepting = life

    def _take_told(self, told: object) -> None:
        assert isinstance(told, Told)
        with self._lock:
            self._last, self._spool = told.figures, told.spool

    def _elsewhere(self) -> tuple[Mapping[str, int], Mapping[str, Any]]:
        with self._lock:
            figures = self._last.after(self._before)
        return figures.access_refused, figures.keys
