"""The single writer: a queue and one thread, one transaction for each function handed to it.

Every change of the store is a function of a connection. The thread runs it between BEGIN and COMMIT and the caller gets
its result, or its exception after a ROLLBACK. Nothing else writes, so no two changes can ever conflict.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

import duckdb

from store.errors import StoreClosed

T = TypeVar("T")
Work = Callable[[duckdb.DuckDBPyConnection], T]


@dataclass(frozen=True)
class _Task:
    work: Work[Any]
    result: Future[Any]


@dataclass(frozen=True)
class _Alone:
    """Work that is done between two transactions, while the writer has no connection."""

    work: Callable[[], Any]
    result: Future[Any]


class Writer:
    """Runs functions one after the other on the one writing connection."""

    def __init__(
        self,
        connect: Callable[[], duckdb.DuckDBPyConnection],
        translate: Callable[[duckdb.Error], Exception],
        retire: Callable[[], None],
    ):
        """`connect` gives a connection, a new one after `retire` let go of an engine that a fatal error has ended."""
        self._connect = connect
        self._translate = translate
        self._retire = retire
        self._queue: queue.Queue[_Task | _Alone | None] = queue.Queue()
        self._closing = threading.Lock()
        self._closed = False
        self._done = 0
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """How many functions wait for their turn."""
        return self._queue.qsize()

    @property
    def done(self) -> int:
        """How many transactions have ended, whatever became of them: while it stands nothing has changed."""
        return self._done

    def submit(self, work: Work[T]) -> "Future[T]":
        """Hand over a change without waiting for it.

        Raises: `StoreClosed` when the writer no longer accepts work.
        """
        task = _Task(work, Future())
        with self._closing:
            if self._closed:
                raise StoreClosed
            self._queue.put(task)
        return task.result

    def alone(self, work: Callable[[], T]) -> T:
        """Do what must meet no change going on and no connection of the writer, and wait for it.

        Raises: what it raises; `StoreClosed`.
        """
        task: _Alone = _Alone(work, Future())
        with self._closing:
            if self._closed:
                raise StoreClosed
            self._queue.put(task)
        answer: T = task.result.result()
        return answer

    def write(self, work: Work[T]) -> T:
        """Run a change in one transaction and return its result once it is on disk."""
        if threading.current_thread() is self._thread:
            raise RuntimeError("a change was handed to the writer from inside a change; pass the connection on instead")
        return self.submit(work).result()

    def close(self) -> None:
        """Finish what was handed over, then stop. Safe to call twice."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        connection: duckdb.DuckDBPyConnection | None = None
        while (task := self._queue.get()) is not None:
            if not task.result.set_running_or_notify_cancel():
                continue
            if isinstance(task, _Alone):
                if connection is not None:
                    connection.close()
                    connection = None
                try:
                    task.result.set_result(task.work())
                except BaseException as error:
                    task.result.set_exception(error)
                continue
            ended = False
            try:
                if connection is None:
                    connection = self._connect()
                answer = self._transact(connection, task.work)
            except duckdb.Error as error:
                ended = out_of_use(error)
                translated = self._translate(error)
                translated.__cause__ = error
                task.result.set_exception(translated)
            except BaseException as error:
                task.result.set_exception(error)
            else:
                task.result.set_result(answer)
            if ended and connection is not None:
                connection.close()
                connection = None
                self._retire()
        if connection is not None:
            connection.close()

    def _transact(self, connection: duckdb.DuckDBPyConnection, work: Work[T]) -> T:
        """Run a change.

        After some commits the log is folded into the file. When that fails the change may be on disk or not; the
        caller is told that it failed, and all changes can be sent again.
        """
        connection.execute("BEGIN TRANSACTION")
        try:
            answer = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            try:
                connection.execute("ROLLBACK")
            except duckdb.Error:
                # A failed COMMIT has ended the transaction already; the first error is the one to report.
                connection.interrupt()
            raise
        finally:
            self._done += 1
        return answer


def out_of_use(error: duckdb.Error) -> bool:
    """Whether an error says that the engine, or the file in it, takes nothing more until it is opened anew."""
    return isinstance(error, duckdb.FatalException) or "has been invalidated" in str(error)
