"""Whether the engine works with one thread for each statement: it does while live data keeps the writer busy."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from store.errors import TrimtabError

# Of so many seconds: the share that goes into commits from which on every statement is worked on alone, and the share
# at which that ends. Between them it stays as it is.
_SPAN_SECONDS = 4.0
_BUSY, _QUIET = 0.25, 0.1

_LOG = logging.getLogger(__name__)


class _Engine(Protocol):
    def work_alone(self, alone: bool) -> None:
        """See `store.connection.Store.work_alone`."""


def _in_a_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="engine-threads", daemon=True).start()


class EngineThreads:
    """Tells the engine when to change. For one thread; the engine changes in another, which may take a while."""

    def __init__(
        self,
        engine: _Engine,
        clock: Callable[[], float],
        start: Callable[[Callable[[], None]], None] = _in_a_thread,
    ) -> None:
        """Args: monotonic `clock`; `start` does work without being waited for."""
        self._engine = engine
        self._clock = clock
        self._start = start
        self._commits: deque[tuple[float, float]] = deque()  # (moment of the end, seconds), oldest first
        self._turn = threading.Lock()
        self.alone = False
        """What was asked of the engine last."""

    def committed(self, seconds: float) -> None:
        """A commit has ended that took so long."""
        self._commits.append((self._clock(), seconds))
        self.look()

    def look(self) -> None:
        """Decide anew; to be called now and then while nothing is committed and `alone` is set."""
        now = self._clock()
        while self._commits and self._commits[0][0] < now - _SPAN_SECONDS:
            self._commits.popleft()
        share = sum(seconds for _, seconds in self._commits) / _SPAN_SECONDS
        wanted = share >= (_QUIET if self.alone else _BUSY)
        if wanted != self.alone:
            self.alone = wanted
            self._start(self._change)

    def _change(self) -> None:
        with self._turn:
            try:
                self._engine.work_alone(self.alone)
            except TrimtabError as error:
                # A store that is being closed, or opened anew: it goes on as it was.
                _LOG.info("the engine keeps its threads: %s", error)
