"""Decisions that wait to be stored, the oldest first, each of them stored exactly once.

They are handed to the store's writer in groups, one transaction each, and their files go when that is committed. So the
writer may be busy or broken for as long as it likes, and what an earlier process left is stored like the rest, without
the decisions that had got into the store already.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from pipelines.steering.spool import BATCH_ROWS, MEMORY_ROWS, SUFFIX, frame_of
from store import decisions
from store.connection import Store

__all__ = ["BACKOFF_SECONDS", "STORE_SECONDS", "Backlog"]

STORE_SECONDS: Final = 0.5
"""A transaction costs several milliseconds of processor time whatever it holds, a spool file one."""

BACKOFF_SECONDS: Final = (0.1, 5.0)

# So many go into one transaction at most: what bounds how long it takes.
_TRANSACTION_ROWS = 20_000

_LOG = logging.getLogger(__name__)


@dataclass(eq=False)
class _Segment:
    """Decisions that are stored together."""

    count: int
    frame: pl.DataFrame | None  # None: in the file only
    path: Path | None  # None: in memory only
    tried: bool = False  # may be stored already


class Backlog:
    """What waits. Used by one thread at a time."""

    def __init__(
        self,
        store: Store,
        *,
        store_interval: float = STORE_SECONDS,
        memory_rows: int = MEMORY_ROWS,
        backoff: tuple[float, float] = BACKOFF_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args: seconds between transactions, `store_interval`, and after a failure, `backoff` (first, longest);
        `memory_rows` that may wait in memory; monotonic `clock`."""
        self._store, self._interval, self._backoff = store, store_interval, backoff
        self._memory_rows, self._clock = memory_rows, clock
        self.stored = self.lost = self.failures = self.waiting = self.spilled = 0
        self.error: str | None = None
        self._in_memory = 0
        self._segments: deque[_Segment] = deque()
        self._paths: set[Path] = set()
        self._unreadable: set[Path] = set()
        self._writing: tuple[Future[int], list[_Segment]] | None = None
        self._delay = self._due = 0.0

    def __bool__(self) -> bool:
        return bool(self._segments)

    def add(self, frame: pl.DataFrame, path: Path | None) -> None:
        """Have decisions stored that are in the file `path`, or in no file."""
        self._segments.append(_Segment(frame.height, frame, path))
        if path is not None:
            self._paths.add(path)
        self.waiting += frame.height
        self._in_memory += frame.height
        self._make_room()

    def find(self, folder: Path, *, tried: bool) -> None:
        """Have the files of a folder stored that another process wrote; `tried`: some may be stored already."""
        if not folder.is_dir():
            return
        found = []
        for path in folder.glob(f"*{SUFFIX}"):
            if path not in self._paths and path not in self._unreadable:
                with suppress(FileNotFoundError):
                    found.append((path.stat().st_mtime_ns, path.name, path))
        for _, _, path in sorted(found):
            try:
                count = pl.read_ipc(path, columns=["decision_id"]).height
            except (OSError, pl.exceptions.PolarsError) as error:
                self.failed(f"{path} cannot be read: {error}")
                self._unreadable.add(path)
                continue
            self._segments.append(_Segment(count, None, path, tried=tried))
            self._paths.add(path)
            self.waiting += count
            self.spilled += count

    def turn(self) -> None:
        """Take the outcome of what was handed over, if it is there, and hand over what is due."""
        if self._writing is not None and self._writing[0].done():
            self.settle()
        enough = self.waiting >= BATCH_ROWS and not self._delay
        if self._writing is None and self._segments and (enough or self._clock() >= self._due):
            self._submit()

    def settle(self) -> None:
        """Take the outcome of what was handed over, waiting for it."""
        if self._writing is None:
            return
        future, group = self._writing
        self._writing = None
        try:
            future.result()
        except Exception as error:
            self._postpone(error)
            return
        self.error, self._delay, self._due = None, 0.0, self._clock() + self._interval
        for segment in group:
            self._segments.popleft()
            self.waiting -= segment.count
            self.stored += segment.count
            if segment.frame is None:
                self.spilled -= segment.count
            else:
                self._in_memory -= segment.count
            if segment.path is not None:
                with suppress(OSError):
                    segment.path.unlink(missing_ok=True)
                    self._paths.discard(segment.path)

    def drain(self) -> None:
        """Store all that waits, until the store refuses."""
        self.settle()
        failures = self.failures
        while self._segments and self.failures == failures:
            self._submit()
            self.settle()

    def end(self) -> None:
        """Store what waits; what cannot be stored now stays in its files, what is in none is lost."""
        self.settle()
        self.drain()
        if self._segments:
            unsaved = sum(segment.count for segment in self._segments if segment.path is None)
            self.lost += unsaved
            _LOG.error("%d decisions wait in files, %d are lost", self.waiting - unsaved, unsaved)

    def failed(self, text: str) -> None:
        """Count a failure."""
        self.failures += 1
        if self.error != text:
            _LOG.error("%s", text)
        self.error = text

    def _make_room(self) -> None:
        """Keep what waits in memory within bounds, the oldest of it."""
        for segment in reversed(self._segments):
            if self._in_memory <= self._memory_rows:
                return
            if segment.frame is None or (self._writing is not None and segment in self._writing[1]):
                continue
            segment.frame = None
            self._in_memory -= segment.count
            if segment.path is not None:
                self.spilled += segment.count
            else:
                self.lost += segment.count
                self.waiting -= segment.count
                segment.count = 0

    def _submit(self) -> None:
        """Hand the oldest of what waits to the store's writer, as one transaction."""
        group: list[_Segment] = []
        count = 0
        for segment in self._segments:
            if group and count + segment.count > _TRANSACTION_ROWS:
                break
            group.append(segment)
            count += segment.count
        again = any(segment.tried for segment in group)
        try:
            frames = [segment.frame if segment.frame is not None else _read(segment.path) for segment in group]
            frame = pl.concat(frames)
            for segment in group:
                segment.tried = True
            future = self._store.submit(lambda connection: decisions.append(connection, frame, again=again))
        except Exception as error:
            self._postpone(error)
            return
        self._writing = (future, group)

    def _postpone(self, error: Exception) -> None:
        self.failed(f"decisions could not be stored: {error}")
        self._delay = min(self._backoff[1], max(self._backoff[0], 2 * self._delay))
        self._due = self._clock() + self._delay


def _read(path: Path | None) -> pl.DataFrame:
    if path is None:
        return frame_of([])
    return decisions.completed(pl.read_ipc(path))
