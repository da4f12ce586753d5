"""The log of decisions: taken without waiting, written in batches, each decision stored exactly once.

An answer only appends to a list in memory. Every `interval` one thread puts what has gathered into a spool file beside
the database; twice a second it has the store's writer add what is in them, and they go when that is committed. So the
writer may be busy or broken for as long as it likes: what waits is in files, and files that a dead process left are
stored at the next start, without the decisions that had got into the store already.

What a kill -9 may lose is what was answered since the last spooling: one `interval` and the time a file takes. A
machine that loses power may also lose what the store has not committed, since spool files are not forced to disk.
"""

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from pipelines.steering.decide import Decision
from store import decisions
from store.connection import Store
from store.errors import StoreClosed

__all__ = ["BATCH_ROWS", "INTERVAL_SECONDS", "MEMORY_ROWS", "STORE_SECONDS", "DecisionLog", "LogCounts", "frame_of"]

INTERVAL_SECONDS = 0.1
STORE_SECONDS = 0.5
"""A transaction costs several milliseconds of processor time whatever it holds, a spool file one."""

BATCH_ROWS = 2_000
"""So many decisions are spooled and stored at once, before the intervals end."""

MEMORY_ROWS = 200_000
"""So many may wait in memory; beyond that only in their files."""

# So many go into one transaction at most: what bounds how long it takes.
_TRANSACTION_ROWS = 20_000
_BACKOFF_SECONDS = (0.1, 5.0)
_SUFFIX = ".arrow"

_LOG = logging.getLogger(__name__)


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


@dataclass(eq=False)
class _Segment:
    """Decisions that are stored together."""

    count: int
    frame: pl.DataFrame | None  # None: in the file only
    path: Path | None  # None: in memory only
    tried: bool = False  # may be stored already


class DecisionLog:
    """Writes decisions. One for each store; close it before the store."""

    def __init__(
        self,
        store: Store,
        folder: Path | None,
        *,
        interval: float = INTERVAL_SECONDS,
        store_interval: float = STORE_SECONDS,
        memory_rows: int = MEMORY_ROWS,
        backoff: tuple[float, float] = _BACKOFF_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Store what an earlier process left in `folder`, then begin. Without `folder` nothing is spooled.

        Args: seconds between spoolings, `interval`, between transactions, `store_interval`, and after a failure,
        `backoff` (first, longest); `memory_rows` that may wait in memory; monotonic `clock`.
        """
        self._store, self._folder = store, folder
        self._interval, self._store_interval, self._backoff = interval, store_interval, backoff
        self._memory_rows, self._clock = memory_rows, clock
        self._fresh: deque[Decision] = deque()
        self._taken = self._stored = self._lost = self._failures = self._waiting = self._spilled = self._in_memory = 0
        self._error: str | None = None
        self._life, self._number = secrets.token_hex(8), 0
        self._handled = 0  # of those taken: in a file by now, or known to have none
        self._segments: deque[_Segment] = deque()  # the oldest first
        self._writing: tuple[Future[int], list[_Segment]] | None = None
        self._delay = self._due = 0.0
        self._wake = threading.Event()
        self._closed = False
        self._taking = threading.Lock()
        self._find()
        self._drain()
        self._thread = threading.Thread(target=self._run, name="decision-log", daemon=True)
        self._thread.start()

    def take(self, decision: Decision) -> None:
        """Have a decision stored, without waiting for it. Raises: `StoreClosed`."""
        with self._taking:
            if self._closed:
                raise StoreClosed
            self._fresh.append(decision)
            self._taken += 1
        if len(self._fresh) == BATCH_ROWS:
            self._wake.set()

    def counts(self) -> LogCounts:
        """The present figures."""
        fresh = self._taken - self._handled
        return LogCounts(
            self._taken, self._stored, self._lost, self._waiting + len(self._fresh), fresh, self._spilled,
            self._failures, self._error,
        )  # fmt: skip

    def close(self) -> None:
        """Store what waits, then stop; what cannot be stored now stays in its files. Safe to call twice."""
        with self._taking:
            self._closed = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        ended = False
        while not ended:
            self._wake.wait(self._interval)
            self._wake.clear()
            with self._taking:
                ended = self._closed
            try:
                self._turn()
            except Exception as error:
                # Whatever it is, the decisions that come next are not lost with it.
                self._failed(f"the decision log stumbled: {error!r}")
        if self._writing is not None:
            self._settle()
        self._drain()
        if self._segments:
            unsaved = sum(segment.count for segment in self._segments if segment.path is None)
            self._lost += unsaved
            _LOG.error("%d decisions wait in files, %d are lost", self._waiting - unsaved, unsaved)

    def _turn(self) -> None:
        self._spool()
        if self._writing is not None and self._writing[0].done():
            self._settle()
        enough = self._in_memory >= BATCH_ROWS and not self._delay
        if self._writing is None and self._segments and (enough or self._clock() >= self._due):
            self._submit()

    def _spool(self) -> None:
        """Put what has gathered into a file."""
        rows = [self._fresh.popleft() for _ in range(len(self._fresh))]
        if not rows:
            return
        frame = self._framed(rows)
        segment = _Segment(frame.height, frame, None)
        self._waiting += segment.count
        self._in_memory += segment.count
        self._segments.append(segment)
        if self._folder is not None:
            self._number += 1
            path = self._folder / f"{self._life}-{self._number:09d}{_SUFFIX}"
            part = path.with_suffix(".part")
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                frame.write_ipc(part)
                part.replace(path)
                segment.path = path
            except (OSError, pl.exceptions.PolarsError) as error:
                self._failed(f"decisions cannot be spooled to {self._folder}: {error}")
                with suppress(OSError):
                    part.unlink(missing_ok=True)
        self._make_room()
        self._handled += len(rows)

    def _framed(self, rows: Sequence[Decision]) -> pl.DataFrame:
        """The rows as a frame, without those that the columns cannot hold, which are counted as lost."""
        try:
            return frame_of(rows)
        except Exception:
            if len(rows) == 1:
                _LOG.exception("a decision cannot be stored: %r", rows[0])
                self._lost += 1
                return frame_of([])
            middle = len(rows) // 2
            return pl.concat([self._framed(rows[:middle]), self._framed(rows[middle:])])

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
                self._spilled += segment.count
            else:
                self._lost += segment.count
                self._waiting -= segment.count
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

    def _settle(self) -> None:
        """Take the outcome of what was handed over, waiting for it."""
        assert self._writing is not None
        future, group = self._writing
        self._writing = None
        try:
            future.result()
        except Exception as error:
            self._postpone(error)
            return
        self._error, self._delay, self._due = None, 0.0, self._clock() + self._store_interval
        for segment in group:
            self._segments.popleft()
            self._waiting -= segment.count
            self._stored += segment.count
            if segment.frame is None:
                self._spilled -= segment.count
            else:
                self._in_memory -= segment.count
            if segment.path is not None:
                with suppress(OSError):
                    segment.path.unlink(missing_ok=True)

    def _drain(self) -> None:
        """Store all that waits, as far as the store takes it."""
        failures = self._failures
        while self._segments and self._failures == failures:
            self._submit()
            if self._writing is not None:
                self._settle()

    def _postpone(self, error: Exception) -> None:
        self._failed(f"decisions could not be stored: {error}")
        self._delay = min(self._backoff[1], max(self._backoff[0], 2 * self._delay))
        self._due = self._clock() + self._delay

    def _find(self) -> None:
        """Queue the files that an earlier process left."""
        if self._folder is None or not self._folder.is_dir():
            return
        for path in sorted(self._folder.glob(f"*{_SUFFIX}"), key=lambda each: (each.stat().st_mtime_ns, each.name)):
            try:
                count = _read(path).height
            except (OSError, pl.exceptions.PolarsError) as error:
                self._failed(f"{path} cannot be read: {error}")
                continue
            self._segments.append(_Segment(count, None, path, tried=True))
            self._waiting += count
            self._spilled += count

    def _failed(self, text: str) -> None:
        self._failures += 1
        if self._error != text:
            _LOG.error("%s", text)
        self._error = text


def frame_of(rows: Sequence[Decision]) -> pl.DataFrame:
    """Decisions as a frame (columns `store.decisions.DECISIONS`)."""
    columns: Any = zip(*rows, strict=True) if rows else ([] for _ in decisions.DECISIONS)
    return pl.DataFrame(
        [_series(*each, values) for each, values in zip(decisions.DECISIONS.items(), columns, strict=True)]
    )


def _series(name: str, dtype: pl.DataType, values: Sequence[Any]) -> pl.Series:
    if isinstance(dtype, pl.List):
        # Polars would make a series of every list first.
        inner = pa.large_string() if dtype.inner == pl.String else pa.float64()
        made = pl.from_arrow(pa.array(values, pa.large_list(inner)))
        assert isinstance(made, pl.Series)
        return made.alias(name)
    return pl.Series(name, values, dtype=dtype, strict=True)


def _read(path: Path | None) -> pl.DataFrame:
    if path is None:
        return frame_of([])
    return pl.read_ipc(path)
