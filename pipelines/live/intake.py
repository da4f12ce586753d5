"""The queue between requests and the store: whatever waits is committed together, then all of it is acknowledged.

A request is acknowledged when the transaction that holds it is on disk, not before. What waits is bounded in bytes; at
the bound the caller is told to come back later, so memory stays flat however fast agents send.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.live.engine_threads import EngineThreads
from pipelines.live.prepare import Prepared
from store import live, redaction
from store.connection import Store
from store.errors import DiskFull, MemoryExhausted, StoreClosed, StoreError, TrimtabError
from store.live import LiveReject, LiveRows
from store.redaction import Rules

PENDING_BYTES = 64 << 20
"""How much may wait, in bytes of requests as they came plus rows as they lie in memory."""

# How many records go into one transaction at most: what bounds how long a commit takes.
_GROUP_RECORDS = 8_192

# A transaction has a price of its own, of a tenth of a second of the processor. With fewer records than this it waits a
# moment for requests that are on the way, and a longer one where some came while one was going on lately: more will.
_WORTHWHILE_RECORDS = 1_536
_LINGER_SECONDS = 0.02
_CROWDED_SECONDS = 0.1
_CROWDED_FOR_SECONDS = 2.0

# Groups as large as this on average, for so many seconds: requests wait for each other, all there is is in use.
_SATURATED_RECORDS = 1_536
_SATURATED_SECONDS = 10

# How often it is asked whether live data still keeps the writer busy.
_LOOK_SECONDS = 1.0

# A job can use up what memory the engine may use, for a moment: how long a group waits before it is tried again.
_PAUSES = (0.25, 0.5, 1.0, 2.0)

_LOG = logging.getLogger(__name__)


class Busy(TrimtabError):
    """More waits already than is allowed."""

    def __init__(self, retry_after: int, pending_bytes: int) -> None:
        self.retry_after, self.pending_bytes = retry_after, pending_bytes
        super().__init__(
            f"{pending_bytes:,} bytes of requests wait to be stored already. Send it again in {retry_after} s."
        )


@dataclass(frozen=True)
class Counts:
    """What went through since the start; rates are of the last minute, in records a second."""

    requests: int
    received: int
    rejected: int
    refused_requests: int
    failed_requests: int
    pending_bytes: int
    pending_requests: int
    rate: float


@dataclass
class _Request:
    source: str
    prepared: Prepared
    done: "Future[None]" = field(default_factory=Future)


class LiveIntake:
    """Group commit of live data. One for each store; close it before the store."""

    def __init__(
        self,
        store: Store,
        *,
        pending_bytes: int = PENDING_BYTES,
        clock: Callable[[], float] = time.monotonic,
        observe_commit: Callable[[float], None] = lambda seconds: None,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        """Args: `pending_bytes` that may wait; monotonic `clock`; `observe_commit` is told each commit's seconds;
        `pause` waits for so many seconds."""
        self._store = store
        self._limit = pending_bytes
        self._clock = clock
        self._observe = observe_commit
        self._pause = pause
        self._queue: queue.Queue[_Request | None] = queue.Queue()
        self._lock = threading.Lock()
        self._closed = False
        self._crowded_until = 0.0
        self._crowd = 0  # requests that were there at once at most, since it is crowded
        self._pending_bytes = self._pending_requests = 0
        self._requests = self._received = self._rejected = self._refused = self._failed = 0
        self._recent: list[tuple[int, int, int]] = []  # (second, records, commits), oldest first
        self._engine_threads = EngineThreads(store, clock)
        self._thread = threading.Thread(target=self._run, name="live-intake", daemon=True)
        self._thread.start()

    @contextmanager
    def admitted(self, size: int) -> Iterator[Callable[[int], None]]:
        """Hold room for a request of `size` bytes until it is answered.

        A request is let in when nothing else waits, whatever its size. Yields a function by which it tells that it
        takes a different number of bytes than it began with. Raises: `Busy`, `StoreClosed`; the function `Busy`.
        """
        held = 0

        def resize(bytes_now: int) -> None:
            nonlocal held
            with self._lock:
                grows = bytes_now > held
                if grows and self._pending_requests > 1 and self._pending_bytes - held + bytes_now > self._limit:
                    self._refused += 1
                    raise Busy(self._retry_after(), self._pending_bytes)
                self._pending_bytes += bytes_now - held
                held = bytes_now

        with self._lock:
            if self._closed:
                raise StoreClosed
            self._pending_requests += 1
        try:
            resize(size)
            yield resize
        finally:
            with self._lock:
                self._pending_bytes -= held
                self._pending_requests -= 1

    def redaction(self, source: str) -> Rules:
        """What is taken out of the texts of a source before they are queued."""
        return redaction.of(self._store, source)

    def submit(self, source: str, prepared: Prepared) -> "Future[None]":
        """Queue the rows of a request; the future ends when they are on disk, or with the reason why they are not.

        Raises: `StoreClosed`.
        """
        request = _Request(source, prepared)
        with self._lock:
            if self._closed:
                raise StoreClosed
            self._queue.put(request)
        return request.done

    def counts(self) -> Counts:
        """The present figures."""
        with self._lock:
            now = int(self._clock())
            recent = sum(records for second, records, _ in self._recent if now - 60 <= second < now)
            return Counts(
                self._requests, self._received, self._rejected, self._refused, self._failed,
                self._pending_bytes, self._pending_requests, recent / 60,
            )  # fmt: skip

    def saturated(self) -> bool:
        """Whether agents send about as fast as can be stored: groups fill up because requests have to wait."""
        with self._lock:
            now = int(self._clock())
            recent = [entry for entry in self._recent if now - _SATURATED_SECONDS <= entry[0] <= now]
            commits = sum(entry[2] for entry in recent)
            return commits > 0 and sum(entry[1] for entry in recent) >= commits * _SATURATED_RECORDS

    def busy(self) -> bool:
        """Whether storing what comes in takes much of the writer's time, as `EngineThreads` measures it."""
        return self._engine_threads.alone

    def close(self) -> None:
        """Commit what was queued, then stop. Safe to call twice."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    def _retry_after(self) -> int:
        """Seconds in which about half of what waits will be stored, from 1 to 30."""
        now = int(self._clock())
        records = sum(count for second, count, _ in self._recent if now - 10 <= second < now)
        return 1 if records else min(30, 1 + self._pending_bytes // (8 << 20))

    def _run(self) -> None:
        ended = False
        while not ended:
            request = self._next()
            began = self._clock()
            until = began + _CROWDED_SECONDS if began < self._crowded_until else began
            group: list[_Request] = []
            records = 0
            while True:
                if request is None:
                    ended = True
                    break
                # A caller that has gone cannot be answered: what it sent is left to its retry.
                if request.done.set_running_or_notify_cancel():
                    group.append(request)
                    records += request.prepared.received
                if records >= _GROUP_RECORDS:
                    break
                try:
                    request = self._queue.get(timeout=self._patience(len(group), records, until))
                except queue.Empty:
                    break
            if group:
                self._settle(group)

    def _next(self) -> "_Request | None":
        """What comes next, however long that takes."""
        while self._engine_threads.alone:
            try:
                return self._queue.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                self._engine_threads.look()
        return self._queue.get()

    def _patience(self, requests: int, records: int, until: float) -> float:
        """Seconds to wait for more: none when the group is large already, or when nobody else is on the way and it is
        `until` or as many are together as were there at once lately: they may all wait for their answers."""
        with self._lock:
            others = self._pending_requests > requests
        if records >= _WORTHWHILE_RECORDS or self._closed or (not others and requests >= self._crowd):
            return 0.0
        return max(_LINGER_SECONDS if others else 0.0, until - self._clock())

    def _settle(self, group: Sequence[_Request], pauses: Sequence[float] = _PAUSES) -> None:
        """Commit a group and answer its requests; one that cannot be stored does not take the others with it."""
        started = self._clock()
        try:
            live.commit(self._store, _merged(group))
        except MemoryExhausted as error:
            if not pauses or self._closed:
                self._fail(group, error)
                return
            self._pause(pauses[0])
            self._settle(group, pauses[1:])
            return
        except (DiskFull, StoreClosed) as error:
            self._fail(group, error)
            return
        except Exception as error:
            if len(group) > 1:
                for request in group:
                    self._settle([request])
                return
            _LOG.exception("a request could not be stored")
            self._fail(group, error if isinstance(error, TrimtabError) else StoreError(repr(error)))
            return
        took = self._clock() - started
        self._observe(took)
        self._engine_threads.committed(took)
        # Before anybody is answered: whoever sends again at once does not count.
        waiting, now = self._queue.qsize(), self._clock()
        if waiting:
            self._crowd = max(len(group) + waiting, self._crowd if now < self._crowded_until else 0)
            self._crowded_until = now + _CROWDED_FOR_SECONDS
        self._count(group)
        for request in group:
            request.done.set_result(None)

    def _fail(self, group: Sequence[_Request], error: TrimtabError) -> None:
        with self._lock:
            self._failed += len(group)
        for request in group:
            request.done.set_exception(error)

    def _count(self, group: Sequence[_Request]) -> None:
        records = sum(request.prepared.received for request in group)
        with self._lock:
            self._requests += len(group)
            self._received += records
            self._rejected += sum(len(request.prepared.refused) for request in group)
            second = int(self._clock())
            if self._recent and self._recent[-1][0] == second:
                self._recent[-1] = (second, self._recent[-1][1] + records, self._recent[-1][2] + 1)
            else:
                self._recent = [entry for entry in self._recent if entry[0] >= second - 61] + [(second, records, 1)]


def _merged(group: Sequence[_Request]) -> list[LiveRows]:
    """What each source sent, as one set of tables."""
    by_source: dict[str, list[Prepared]] = {}
    for request in group:
        by_source.setdefault(request.source, []).append(request.prepared)
    return [_joined(source, parts) for source, parts in by_source.items()]


def _joined(source: str, parts: Sequence[Prepared]) -> LiveRows:
    tables: dict[str, list[pa.Table]] = {}
    received = 0
    for part in parts:
        for kind, table in part.tables.items():
            numbered = pc.add(table.column("record_no"), received)
            tables.setdefault(kind, []).append(table.set_column(0, "record_no", numbered))
        received += part.received
    rejects = [LiveReject(refused.where, refused.reason) for part in parts for refused in part.refused]
    return LiveRows(
        source, {kind: _numbered(pa.concat_tables(each)) for kind, each in tables.items()}, received, rejects
    )


def _numbered(table: pa.Table) -> pa.Table:
    # In one piece: the engine goes through a table piece by piece, and those of single requests are small for that.
    return table.combine_chunks().append_column("file_row_number", pa.array(range(table.num_rows), pa.int64()))
