"""Reading from another process: the store's own process runs the query and leaves the rows in a file.

One process holds the database, so a job's process cannot open it. It has a `StoreView` in its place, which asks: every
query is run by `Readings` in the server, in the snapshot of its transaction, and its rows go from the engine straight
to a Parquet file beside the database. None of them passes through the server's Python: that neither grows nor waits.

A file is removed as soon as it is read. Those of a process that was killed go with its folder, and those of a server
that was killed when the store is next opened (`Store.exchange`).
"""

import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NoReturn

import polars as pl

from store.clock import Clock
from store.connection import Store
from store.errors import StoreClosed, StoreError
from store.frames import Reader, Schema, conform, ordered

__all__ = ["Question", "Readings", "StoreView"]


@dataclass(frozen=True)
class Question:
    """What a view asks of the store: to begin or end transaction `reading`, for rows or one value in it, the time."""

    about: Literal["begin", "rows", "value", "end", "now"]
    reading: int = 0
    sql: str = ""
    params: Mapping[str, object] | None = None
    timeout: float | None = None


class Readings:
    """Answers the questions of one view, one after the other; close it at the end, also in the middle of a query."""

    def __init__(self, store: Store, folder: Path) -> None:
        """`folder` is where the files are left."""
        self.store = store
        self.folder = folder
        self._open: dict[int, tuple[Reader, ExitStack]] = {}
        self._begun = 0
        self._lock = threading.Lock()
        self._closed = False

    def answer(self, question: Question) -> object:
        """The number of a transaction, the path of a Parquet file, the value or the time.

        Raises: `StoreClosed` after `close`; `QueryTimeout`; `StoreError` when the engine refuses.
        """
        if question.about == "now":
            return self.store.clock.now()
        if question.about == "begin":
            return self._begin(question.timeout)
        if question.about == "end":
            self._end(question.reading)
            return None
        with self._lock:
            if self._closed:
                raise StoreClosed
            reader, _ = self._open[question.reading]
        if question.about == "value":
            return reader.value(question.sql, question.params)
        with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".parquet", delete=False) as file:
            path = Path(file.name)
        try:
            reader.export(path, question.sql, question.params)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path

    def close(self) -> None:
        """Cut short what runs and answer nothing more. Call from any thread; transactions end with `end`."""
        with self._lock:
            self._closed = True
            for reader, _ in self._open.values():
                reader.interrupt()

    def end(self) -> None:
        """End every transaction. Call when nobody is in `answer` any more."""
        for number in list(self._open):
            self._end(number)

    def _begin(self, timeout: float | None) -> int:
        with self._lock:
            if self._closed:
                raise StoreClosed
        stack = ExitStack()
        reader = stack.enter_context(self.store.read(timeout=timeout))
        with self._lock:
            self._begun += 1
            self._open[self._begun] = reader, stack
            return self._begun

    def _end(self, number: int) -> None:
        with self._lock:
            ended = self._open.pop(number, None)
        if ended is not None:
            ended[1].close()


class StoreView(Store):
    """The store as another process sees it: it reads as ever, and cannot be written to."""

    def __init__(self, ask: Callable[[Question], Any]) -> None:
        """`ask` has a question answered by `Readings.answer` in the process that holds the database."""
        self.path = None
        self.clock = _AskedClock(ask)
        self._ask = ask

    @contextmanager
    def read(self, *, timeout: float | None = None) -> Iterator[Reader]:
        """As `Store.read`: everything asked of the reader sees the same state of the store."""
        number: int = self._ask(Question("begin", timeout=timeout))
        try:
            yield _AskingReader(self._ask, number)
        finally:
            self._ask(Question("end", number))

    def write(self, work: object) -> NoReturn:
        """Raises: `StoreError`."""
        raise StoreError("A job's own process cannot change the store: it answers with what is to be written.")

    submit = write

    def borrowed_cursor(self) -> NoReturn:
        """Raises: `StoreError`."""
        raise StoreError("A job's own process has no cursor: it reads with Store.read.")

    def release_cache(self, keep: int, *, above: int | None = None) -> None:
        """Nothing is held here."""

    def close(self) -> None:
        """Nothing is open here."""


class _AskingReader(Reader):
    def __init__(self, ask: Callable[[Question], Any], number: int) -> None:
        self._ask = ask
        self._number = number

    def frame(
        self, sql: str, schema: Schema, params: Mapping[str, object] | None = None, *, order: Sequence[str] = ()
    ) -> pl.DataFrame:
        return ordered(conform(self.any_frame(sql, params), schema), order)

    def any_frame(self, sql: str, params: Mapping[str, object] | None = None) -> pl.DataFrame:
        path: Path = self._ask(Question("rows", self._number, sql, params))
        try:
            # The engine says of its JSON that it is binary; the store holds nothing that is.
            return pl.read_parquet(path).cast({pl.Binary: pl.String})
        finally:
            path.unlink(missing_ok=True)

    def value(self, sql: str, params: Mapping[str, object] | None = None) -> object:
        answer: object = self._ask(Question("value", self._number, sql, params))
        return answer

    def export(self, path: Path, sql: str, params: Mapping[str, object] | None = None) -> None:
        made: Path = self._ask(Question("rows", self._number, sql, params))
        made.replace(path)


class _AskedClock(Clock):
    def __init__(self, ask: Callable[[Question], Any]) -> None:
        self._ask = ask

    def now(self) -> datetime:
        moment: datetime = self._ask(Question("now"))
        return moment
