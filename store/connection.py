"""Opening the store: one process holds the DuckDB file, one thread writes, any number of threads read.

Each read gets a cursor and a snapshot of its own, so a slow reader never blocks the writer nor the reverse (DuckDB's
MVCC). A DuckDB connection must never be shared between threads: results come back silently wrong.
"""

import errno
import re
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import duckdb

from store import migrate
from store.clock import Clock, SystemClock
from store.errors import DiskFull, StoreClosed, StoreError, StoreLocked
from store.frames import Reader
from store.writer import Work, Writer

T = TypeVar("T")

_HOLDER = re.compile(r"held in (?P<command>.+?) \(PID (?P<pid>\d+)\)")
_DISK_FULL = re.compile(r"No space left on device|disk full|not enough disk space|Could not write", re.IGNORECASE)


class Store:
    """One open DuckDB file. Use `Store.open`."""

    def __init__(
        self, path: Path | None, clock: Clock, config: dict[str, str | bool | int | float | list[str]]
    ) -> None:
        self.path = path
        self.clock = clock
        self._config = config
        self._lock = threading.RLock()
        # Held by whoever loads a file: loads run one after the other, live ingest goes on beside them.
        self.ingest_lock = threading.Lock()
        self._closed = False
        self._connection = self._connect()
        try:
            migrate.migrate(self._connection, clock)
        except BaseException:
            self._connection.close()
            raise
        self._writer = Writer(self._cursor, self._translate)

    @classmethod
    def open(
        cls,
        path: Path | None,
        *,
        clock: Clock | None = None,
        memory_limit: str = "2GB",
        threads: int | None = None,
    ) -> "Store":
        """Open the file, making it if need be, and bring its schema up to date.

        Args: `path` of the file, None for a store in memory; `clock`; `memory_limit` of the engine, such as "2GB";
        `threads` of the engine, None for one a core.
        Raises: `StoreLocked` naming the process that holds the file; `MigrationError`; `StoreError`.
        """
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": memory_limit,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
            # zstd text columns need the newer storage; a larger log keeps checkpoints from stalling acknowledgements.
            "storage_compatibility_version": "v1.5.0",
            "checkpoint_threshold": "256MB",
        }
        if threads is not None:
            config["threads"] = threads
        if path is not None:
            path = path.resolve()
            path.parent.mkdir(parents=True, exist_ok=True)
            config["temp_directory"] = str(path.with_name(path.name + ".tmp"))
        return cls(path, clock or SystemClock(), config)

    @contextmanager
    def read(self, *, timeout: float | None = None) -> Iterator[Reader]:
        """A read transaction on a cursor of its own: one consistent snapshot, never waiting for the writer.

        Args: `timeout` in seconds for each statement; None for no limit.
        """
        cursor = self._cursor()
        try:
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            yield Reader(cursor, timeout)
        finally:
            cursor.close()

    def write(self, work: Work[T]) -> T:
        """Run `work(connection)` in the writer, in one transaction; returns once it is on disk.

        Raises: whatever `work` raises, after a rollback; `DiskFull`; `StoreClosed`; `StoreError`.
        """
        return self._writer.write(work)

    def submit(self, work: Work[T]) -> "Future[T]":
        """As `write`, without waiting."""
        return self._writer.submit(work)

    @property
    def queue_depth(self) -> int:
        """How many changes wait for the writer."""
        return self._writer.depth

    def close(self) -> None:
        """Finish the queued changes, fold the log into the file and let it go. Safe to call twice."""
        self._writer.close()
        with self._lock:
            if not self._closed:
                self._closed = True
                self._connection.close()

    def _connect(self) -> duckdb.DuckDBPyConnection:
        try:
            connection = duckdb.connect(str(self.path) if self.path else ":memory:", config=self._config)
            connection.execute("SET GLOBAL TimeZone = 'UTC'")
            return connection
        except duckdb.Error as error:
            raise self._translate(error) from error

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            if self._closed:
                raise StoreClosed
            try:
                return self._connection.cursor()
            except duckdb.Error as error:
                raise self._translate(error) from error

    def _translate(self, error: duckdb.Error) -> Exception:
        text = str(error)
        path = self.path or Path(":memory:")
        if "Could not set lock" in text or "Conflicting lock" in text:
            holder = _HOLDER.search(text)
            return StoreLocked(path, int(holder["pid"]) if holder else None, holder["command"] if holder else None)
        if _DISK_FULL.search(text) or f"errno {errno.ENOSPC}" in text:
            return DiskFull(path, text.splitlines()[0][:300])
        return StoreError(text)
