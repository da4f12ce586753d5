"""The log of decisions: what becomes of them from the answer to the store, each of them stored exactly once.

`DecisionLog` does it all in the process that decides. Where another process decides, that one has a `Spool`, and the
process that has the store follows its folder with a `FolderLog`.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import polars as pl

from pipelines.steering.backlog import BACKOFF_SECONDS, STORE_SECONDS, Backlog
from pipelines.steering.decide import Decision
from pipelines.steering.spool import (
    BATCH_ROWS,
    INTERVAL_SECONDS,
    MEMORY_ROWS,
    Files,
    Fresh,
    SpoolCounts,
    discard_parts,
    frame_of,
    framed,
)
from store.connection import Store

__all__ = ["BATCH_ROWS", "INTERVAL_SECONDS", "MEMORY_ROWS", "STORE_SECONDS", "DecisionLog", "FolderLog", "LogCounts",
           "frame_of"]  # fmt: skip

# How often the folder of another process is looked at.
_LOOK_SECONDS: Final = 0.25


@dataclass(frozen=True)
class LogCounts:
    """What became of decisions since the start.

    `taken`; `stored` (those of an earlier process too); `lost`, which had neither a file nor room in memory. Now
    `waiting`, of which `fresh` in no file yet and `spilled` in files only. `failures` of writing, the last of them as
    `error` until one succeeds.
    """

    taken: int
    stored: int
    lost: int
    waiting: int
    fresh: int
    spilled: int
    failures: int
    error: str | None

    def behind(self, spool: SpoolCounts) -> "LogCounts":
        """With what the process says that spools them."""
        return replace(
            self, taken=spool.taken, lost=self.lost + spool.lost, waiting=self.waiting + spool.fresh,
            fresh=spool.fresh, failures=self.failures + spool.failures, error=self.error or spool.error,
        )  # fmt: skip


class DecisionLog:
    """Writes decisions that this process makes. One for each store; close it before the store."""

    def __init__(
        self,
        store: Store,
        folder: Path | None,
        *,
        interval: float = INTERVAL_SECONDS,
        store_interval: float = STORE_SECONDS,
        memory_rows: int = MEMORY_ROWS,
        backoff: tuple[float, float] = BACKOFF_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Store what an earlier process left in `folder`, then begin. Without `folder` nothing is spooled.

        Args: seconds between spoolings, `interval`; the others as for `Backlog`.
        """
        self._folder, self._interval = folder, interval
        self._files = Files(folder) if folder is not None else None
        self._fresh = Fresh()
        self._handled = 0  # of those taken: in a file by now, or known to have none
        self._unfit = 0
        self._backlog = Backlog(
            store, store_interval=store_interval, memory_rows=memory_rows, backoff=backoff, clock=clock
        )
        if folder is not None:
            self._backlog.find(folder, tried=True)
        self._backlog.drain()
        self._thread = threading.Thread(target=self._run, name="decision-log", daemon=True)
        self._thread.start()

    def take(self, decision: Decision) -> None:
        """Have a decision stored, without waiting for it. Raises: `StoreClosed`."""
        self._fresh.take(decision)

    def counts(self) -> LogCounts:
        """The present figures."""
        log, taken = self._backlog, self._fresh.taken
        return LogCounts(
            taken, log.stored, log.lost + self._unfit, log.waiting + taken - self._handled, taken - self._handled,
            log.spilled, log.failures, log.error,
        )  # fmt: skip

    def close(self) -> None:
        """Store what waits, then stop; what cannot be stored now stays in its files. Safe to call twice."""
        self._fresh.close()
        self._thread.join()

    def _run(self) -> None:
        self._fresh.attend(
            self._interval, self._turn, lambda error: self._backlog.failed(f"the decision log stumbled: {error}")
        )
        self._backlog.end()

    def _turn(self) -> None:
        self._spool()
        self._backlog.turn()

    def _spool(self) -> None:
        """Put what has gathered into a file."""
        rows = self._fresh.gathered()
        if not rows:
            return
        frame, unfit = framed(rows)
        self._unfit += unfit
        path = None
        if self._files is not None:
            try:
                path = self._files.write(frame)
            except (OSError, pl.exceptions.PolarsError) as error:
                self._backlog.failed(f"decisions cannot be spooled to {self._folder}: {error}")
        self._backlog.add(frame, path)
        self._handled += len(rows)


class FolderLog:
    """Stores what another process spools. One for each store; close it before the store."""

    def __init__(self, store: Store, folder: Path, *, look_seconds: float = _LOOK_SECONDS) -> None:
        """Store what an earlier process left in `folder`, then begin."""
        self._folder, self._look = folder, look_seconds
        self._backlog = Backlog(store)
        self._turning = threading.Lock()
        self._stop = threading.Event()
        discard_parts(folder)
        self._backlog.find(folder, tried=True)
        self._backlog.drain()
        self._thread = threading.Thread(target=self._run, name="decision-log", daemon=True)
        self._thread.start()

    def counts(self) -> LogCounts:
        """The present figures: of the files, and nothing of what is in none yet."""
        log = self._backlog
        return LogCounts(log.stored, log.stored, log.lost, log.waiting, 0, log.spilled, log.failures, log.error)

    def catch_up(self) -> None:
        """Store all that is in files now, until the store refuses."""
        with self._turning:
            self._backlog.find(self._folder, tried=False)
            self._backlog.drain()

    def close(self) -> None:
        """Store what waits, then stop; what cannot be stored now stays in its files. Safe to call twice."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._look):
            self._turn()
        self._turn()
        with self._turning:
            self._backlog.end()

    def _turn(self) -> None:
        try:
            with self._turning:
                self._backlog.find(self._folder, tried=False)
                self._backlog.turn()
        except Exception as error:
            self._backlog.failed(f"the decision log stumbled: {error!r}")
