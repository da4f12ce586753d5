"""Opening the store: one process holds the DuckDB file, one thread writes, any number of threads read.

Each read gets a cursor and a snapshot of its own, so a slow reader never blocks the writer nor the reverse (DuckDB's
MVCC). A DuckDB connection must never be shared between threads: results come back silently wrong.

When the disk fills up during a checkpoint, DuckDB puts the whole engine out of use; what was committed is safe in its
log. The writer then lets the engine go and the next use opens a new one, so that the process need not be restarted.
"""

import errno
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import duckdb

from store import migrate
from store.clock import Clock, SystemClock
from store.errors import DiskFull, StoreClosed, StoreError, StoreLocked
from store.frames import Reader, exhausted
from store.writer import Work, Writer, out_of_use

T = TypeVar("T")

# How DuckDB names the process that holds a file.
HOLDER = re.compile(r"held in (?P<command>.+?) \(PID (?P<pid>\d+)\)")
_DISK_FULL = re.compile(r"No space left on device|disk full|not enough disk space|Could not write", re.IGNORECASE)

# The name under which the file is attached; each cursor begins in the engine's own memory and has to be told.
_CATALOG = "trimtab"

# A bar for long statements is on by default, printed to our standard output, and a setting of each cursor.
_QUIET = "SET enable_progress_bar = false"

# A checkpoint writes the last row group anew. With a kilobyte of text a row the usual 122,880 rows are 120 MB, and
# acknowledgements stall for a second; only ATTACH can ask for smaller ones.
_ROW_GROUP_SIZE = 16_384
_STORAGE_VERSION = "v1.5.0"

# A checkpoint joins row groups that are not full, in so many places of each table; commits wait for it.
_MERGES = 2

# How long a new engine waits for those who still read with the old one, and they for the new one.
_REOPEN_SECONDS = 10.0


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
        self._open_cursors: set[duckdb.DuckDBPyConnection] = set()
        self._engines = 1
        self._changed = threading.Condition(self._lock)
        connection = self._connect()
        # None: the engine is out of use and a new one could not be opened yet.
        self._connection: duckdb.DuckDBPyConnection | None = connection
        self._retired: duckdb.DuckDBPyConnection | None = None
        self._replacing = False  # a new file is about to take this one's place, once nobody reads
        try:
            migrate.migrate(connection, clock)
        except BaseException:
            connection.close()
            raise
        self._scratch: Path | None = None
        if path is not None:
            # This process holds the file now, so whoever left anything there is gone.
            shutil.rmtree(_beside(path, "exchange"), ignore_errors=True)
        self._writer = Writer(self._writing_cursor, self._translate, self._retire)

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
            # What it frees goes back to the system soon, not when it needs memory next.
            "allocator_background_threads": True,
            # zstd text columns need the newer storage.
            "storage_compatibility_version": _STORAGE_VERSION,
            # The log is folded in often, for commits wait for it: 0.1 s each time with this and 0.4 s with 64 MB, and
            # the sum is the same as long as row groups are not joined. What the log holds is in memory too.
            "checkpoint_threshold": "16MB",
            "max_vacuum_tasks": _MERGES,
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
        cursor = self._reading_cursor()
        try:
            yield Reader(cursor, timeout)
        finally:
            self._give_back(cursor)

    @contextmanager
    def borrowed_cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor outside any transaction, for work on the file as a whole such as a backup.

        Raises: `DiskFull`, `StoreLocked`, `StoreError` in place of the engine's errors.
        """
        cursor, _ = self._counted_cursor()
        try:
            self._prepare(cursor)
            yield cursor
        except duckdb.Error as error:
            raise self._translate(error) from error
        finally:
            self._give_back(cursor)

    def write(self, work: Work[T]) -> T:
        """Run `work(connection)` in the writer, in one transaction; returns once it is on disk.

        Raises: whatever `work` raises, after a rollback; `DiskFull`; `StoreClosed`; `StoreError`.
        """
        return self._writer.write(work)

    def submit(self, work: Work[T]) -> "Future[T]":
        """As `write`, without waiting."""
        return self._writer.submit(work)

    def release_cache(self, keep: int, *, above: int | None = None) -> None:
        """Have the engine forget what it read of the file, but for `keep` bytes, if that is more than `above` bytes.

        What was used last is kept. Without `above` it is done for any more than `keep`.
        It would keep blocks until its memory limit is reached: a server would grow as long as the file grows. The
        system still holds the file's pages, so reading them again costs little. Nothing that is in use is touched.
        """
        with self.borrowed_cursor() as cursor:
            rows = cursor.execute("SELECT tag, memory_usage_bytes FROM duckdb_memory()").fetchall()
            cached = sum(size for tag, size in rows if tag == "BASE_TABLE")
            if cached <= max(keep, above or 0):
                return
            # Blocks are let go when the limit falls below what is used. What others need meanwhile must still fit.
            wanted = sum(size for _, size in rows) - cached + keep
            limit = self._config["memory_limit"]
            try:
                cursor.execute(f"SET GLOBAL memory_limit = '{wanted}B'")
            except duckdb.OutOfMemoryException:
                return
            finally:
                cursor.execute(f"SET GLOBAL memory_limit = '{limit}'")

    def work_alone(self, alone: bool) -> None:
        """Have the engine work on every statement in the thread that runs it only, or in all its threads again.

        A thread whose statement is worked on by another asks without a pause whether that is done, and takes the
        interpreter's lock each time. For many small changes a second this costs more than the other thread helps.
        Row groups that are not full are left as they are meanwhile: joining them doubles what a checkpoint takes.
        Waits for what its threads do now. Raises: `StoreClosed`, `StoreError`.
        """
        with self.borrowed_cursor() as cursor:
            threads = int(cursor.execute("SELECT current_setting('threads')").fetchall()[0][0])
            changed = {"external_threads": threads if alone else 1, "max_vacuum_tasks": 0 if alone else _MERGES}
            for name, value in changed.items():
                # An engine that is opened anew goes on in the same way.
                self._config[name] = value
                cursor.execute(f"SET GLOBAL {name} = {value}")

    def exchange(self) -> Path:
        """A new folder for files that this process and one of its own hand each other; remove it after use.

        It is beside the database, so it has the room that the database has. What is left in it when this process is
        killed is removed when the store is next opened. Raises: `OSError`.
        """
        folder = self.folder("exchange")
        folder.mkdir(exist_ok=True)
        return Path(tempfile.mkdtemp(dir=folder))

    def folder(self, purpose: str) -> Path:
        """Where files of this store lie that are not in its database; the folder need not be there yet.

        It is beside the database. Those of a store in memory are in one that is removed when the store is closed.
        """
        if self.path is not None:
            return _beside(self.path, purpose)
        with self._lock:
            if self._scratch is None:
                self._scratch = Path(tempfile.mkdtemp(prefix="trimtab-"))
            return self._scratch / purpose

    def rewrite(self, *, patience: float = _REOPEN_SECONDS) -> None:
        """Write the file anew, so that nothing that was deleted is left in it, nor in its log.

        Changes wait meanwhile; reads go on until the new file takes the old one's place, and those that begin then wait
        a moment. A store in memory has no file. Args: `patience` in seconds with reads that go on.
        Raises: `StoreError` when a read goes on for longer, `DiskFull`: the file is as it was.
        """
        if self.path is not None:
            path = self.path
            self._writer.alone(lambda: self._rewrite(path, patience))

    @property
    def queue_depth(self) -> int:
        """How many changes wait for the writer."""
        return self._writer.depth

    @property
    def changes(self) -> int:
        """How many transactions have ended since the store was opened; while it stands, so do all rows."""
        return self._writer.done

    def close(self) -> None:
        """Finish the queued changes, fold the log into the file and let it go. Safe to call twice."""
        self._writer.close()
        with self._lock:
            if not self._closed:
                self._closed = True
                for connection in (self._retired, self._connection):
                    if connection is not None:
                        connection.close()
                exchanged = self._scratch if self.path is None else self.folder("exchange")
                if exchanged is not None:
                    shutil.rmtree(exchanged, ignore_errors=True)

    def _rewrite(self, path: Path, patience: float) -> None:
        draft = path.with_name(f".{path.name}.rewrite")
        log = path.with_name(path.name + ".wal")
        discard(draft)
        try:
            with self.borrowed_cursor() as cursor:
                quoted = str(draft).replace("'", "''")
                cursor.execute(
                    f"""ATTACH '{quoted}' AS rewritten
                    (ROW_GROUP_SIZE {_ROW_GROUP_SIZE}, STORAGE_VERSION '{_STORAGE_VERSION}')"""
                )
                try:
                    cursor.execute(f"COPY FROM DATABASE {_CATALOG} TO rewritten")
                finally:
                    cursor.execute("DETACH rewritten")
            with self._changed:
                self._replacing = True
                try:
                    if not self._changed.wait_for(lambda: not self._open_cursors, patience):
                        raise StoreError("The file could not be written anew: a query keeps it in use. Try again.")
                    if self._connection is not None:
                        # Closing folds the log into the old file.
                        self._connection.close()
                        self._connection = None
                    if log.exists() and log.stat().st_size:
                        raise StoreError(f"The file could not be written anew: {log} holds changes. Try again.")
                    flush(draft)
                    draft.replace(path)
                    log.unlink(missing_ok=True)
                    flush(path.parent)
                finally:
                    self._replacing = False
                    self._changed.notify_all()
        except OSError as error:
            raise DiskFull(path, str(error)) if error.errno == errno.ENOSPC else StoreError(str(error)) from error
        finally:
            discard(draft)

    def _connect(self) -> duckdb.DuckDBPyConnection:
        try:
            connection = duckdb.connect(":memory:", config=self._config)
            try:
                connection.execute("SET GLOBAL TimeZone = 'UTC'")
                if self.path is not None:
                    quoted = str(self.path).replace("'", "''")
                    connection.execute(
                        f"""ATTACH '{quoted}' AS {_CATALOG}
                        (ROW_GROUP_SIZE {_ROW_GROUP_SIZE}, STORAGE_VERSION '{_STORAGE_VERSION}')"""
                    )
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            return connection
        except duckdb.Error as error:
            raise self._translate(error) from error

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            if self._closed:
                raise StoreClosed
            try:
                return (self._connection or self._open_anew()).cursor()
            except duckdb.Error as error:
                raise self._translate(error) from error

    def _writing_cursor(self) -> duckdb.DuckDBPyConnection:
        cursor = self._cursor()
        self._prepare(cursor)
        return cursor

    def _prepare(self, cursor: duckdb.DuckDBPyConnection) -> None:
        cursor.execute(_QUIET)
        if self.path is not None:
            cursor.execute(f"USE {_CATALOG}")

    def _reading_cursor(self) -> duckdb.DuckDBPyConnection:
        """A cursor in a read transaction; waits for the new engine when this one has just gone out of use."""
        cursor, engine = self._counted_cursor()
        try:
            self._prepare(cursor)
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            return cursor
        except duckdb.Error as error:
            self._give_back(cursor)
            # Whoever retires an engine interrupts its cursors, also one that asks nothing of it yet.
            if not out_of_use(error) and not isinstance(error, duckdb.InterruptException):
                raise self._translate(error) from error
        with self._changed:
            self._changed.wait_for(lambda: self._engines != engine or self._connection is None, _REOPEN_SECONDS)
        cursor, _ = self._counted_cursor()
        try:
            self._prepare(cursor)
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            return cursor
        except duckdb.Error as error:
            self._give_back(cursor)
            raise self._translate(error) from error

    def _counted_cursor(self) -> tuple[duckdb.DuckDBPyConnection, int]:
        """A cursor to be given back, and the number of the engine it belongs to."""
        with self._changed:
            # Reads that follow on each other would otherwise keep the file in use for ever.
            self._changed.wait_for(lambda: not self._replacing, _REOPEN_SECONDS)
            cursor = self._cursor()
            self._open_cursors.add(cursor)
            return cursor, self._engines

    def _give_back(self, cursor: duckdb.DuckDBPyConnection) -> None:
        # A cursor that is closed within a transaction ends it itself, and the process with it when the engine has just
        # gone out of use: the engine throws where nothing can be caught.
        while True:
            try:
                cursor.rollback()
            except duckdb.InterruptException:
                continue
            except duckdb.Error:
                # There was no transaction, or it ended with the engine.
                pass
            break
        cursor.close()
        with self._changed:
            self._open_cursors.discard(cursor)
            self._changed.notify_all()

    def _retire(self) -> None:
        """Let go of an engine that a fatal error has put out of use. Called by the writer, which has no cursor then."""
        with self._changed:
            # A store in memory ends with its engine.
            if self._connection is not None and self.path is not None:
                # Closing it would close its cursors too, in the middle of their transactions: see `_give_back`.
                self._connection, self._retired = None, self._connection
                for cursor in self._open_cursors:
                    with suppress(duckdb.Error):
                        cursor.interrupt()
                self._changed.notify_all()

    def _open_anew(self) -> duckdb.DuckDBPyConnection:
        """A new engine in place of a retired one.

        Raises: `StoreError` when somebody keeps reading with the old one, or the file cannot be opened: the next use
        of the store tries again.
        """
        with self._changed:
            # Closing the old file lets go of the lock that the new one takes, so that must be done before.
            if not self._changed.wait_for(lambda: self._connection or not self._open_cursors, _REOPEN_SECONDS):
                raise StoreError("The database has to be opened anew, and a query keeps it in use. Try again.")
            if self._connection is None:
                if self._retired is not None:
                    self._retired.close()
                    self._retired = None
                self._connection = self._connect()
                self._engines += 1
                self._changed.notify_all()
            return self._connection

    def _translate(self, error: duckdb.Error) -> Exception:
        text = str(error)
        path = self.path or Path(":memory:")
        if "Could not set lock" in text or "Conflicting lock" in text:
            holder = HOLDER.search(text)
            return StoreLocked(path, int(holder["pid"]) if holder else None, holder["command"] if holder else None)
        if _DISK_FULL.search(text) or f"errno {errno.ENOSPC}" in text:
            return DiskFull(path, text.splitlines()[0][:300])
        if isinstance(error, duckdb.OutOfMemoryException):
            return exhausted(error)
        return StoreError(text)


def flush(path: Path) -> None:
    """Wait until a file or folder is on the disk. Raises: `OSError`."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def discard(draft: Path) -> None:
    """Remove a file of the engine that was not finished, and its log."""
    for path in (draft, draft.with_name(draft.name + ".wal")):
        path.unlink(missing_ok=True)


def _beside(path: Path, purpose: str) -> Path:
    return path.with_name(f"{path.name}.{purpose}")
