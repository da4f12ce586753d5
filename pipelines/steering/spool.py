"""Decisions on their way to the store, as files beside the database: Arrow, each written once and whole.

Taking a decision only appends to a list in memory. Every `interval` one thread puts what has gathered into a file; who
has the store takes the files from there (see `backlog`). What a kill -9 may lose is what was answered since the last
spooling: one `interval` and the time a file takes. A machine that loses power may also lose what the store has not
committed, since spool files are not forced to disk.
"""

import logging
import secrets
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl
import pyarrow as pa

from pipelines.steering.decide import Decision
from store import decisions
from store.errors import StoreClosed

__all__ = [
    "BATCH_ROWS", "INTERVAL_SECONDS", "MEMORY_ROWS", "SUFFIX", "Files", "Fresh", "Spool", "SpoolCounts",
    "discard_parts", "frame_of", "framed",
]  # fmt: skip

INTERVAL_SECONDS: Final = 0.1

BATCH_ROWS: Final = 2_000
"""So many decisions are spooled and stored at once, before the intervals end."""

MEMORY_ROWS: Final = 200_000
"""So many may wait in memory; beyond that only in their files."""

SUFFIX: Final = ".arrow"

_PART = ".part"
_LOG = logging.getLogger(__name__)


class Fresh:
    """Decisions that were taken and are in no file yet. Any thread may take."""

    def __init__(self) -> None:
        self.taken = 0
        self._wake = threading.Event()
        self._rows: deque[Decision] = deque()
        self._closed = False
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, decision: Decision) -> None:
        """Take a decision, without waiting. Raises: `StoreClosed`."""
        with self._lock:
            if self._closed:
                raise StoreClosed
            self._rows.append(decision)
            self.taken += 1
        if len(self._rows) == BATCH_ROWS:
            self._wake.set()

    def gathered(self) -> list[Decision]:
        """What was taken since the last call."""
        return [self._rows.popleft() for _ in range(len(self._rows))]

    def attend(self, interval: float, turn: Callable[[], None], failed: Callable[[str], None]) -> None:
        """Call `turn` every `interval` seconds, or sooner where many were taken; after the close once more, and return.

        `failed` is told what `turn` raises: whatever it is, the decisions that come next are not lost with it.
        """
        ended = False
        while not ended:
            self._wake.wait(interval)
            self._wake.clear()
            with self._lock:
                ended = self._closed
            try:
                turn()
            except Exception as error:
                failed(repr(error))

    def close(self) -> None:
        """Take no more."""
        with self._lock:
            self._closed = True
        self._wake.set()


class Files:
    """Writes decisions into a folder, each time into a file of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._life, self._number = secrets.token_hex(8), 0

    def write(self, frame: pl.DataFrame) -> Path:
        """The file, which is there whole or not at all. Raises: `OSError`, `polars.exceptions.PolarsError`."""
        self._number += 1
        path = self._folder / f"{self._life}-{self._number:09d}{SUFFIX}"
        part = path.with_suffix(_PART)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            frame.write_ipc(part)
            part.replace(path)
        except (OSError, pl.exceptions.PolarsError):
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        return path


def discard_parts(folder: Path) -> None:
    """Remove the halves of files that a killed process left: of what they were to hold nothing can be known."""
    for part in folder.glob(f"*{_PART}") if folder.is_dir() else ():
        with suppress(OSError):
            part.unlink(missing_ok=True)


@dataclass(frozen=True)
class SpoolCounts:
    """Decisions since the start: `taken`, of these in no file yet (`fresh`) or `lost`; `failures` of writing, the last
    of them as `error` until one succeeds."""

    taken: int
    fresh: int
    lost: int
    failures: int
    error: str | None

    def after(self, earlier: "SpoolCounts") -> "SpoolCounts":
        """With what an earlier process had counted: what was in no file of it is no more, nor is its error."""
        return SpoolCounts(
            self.taken + earlier.taken, self.fresh, self.lost + earlier.lost, self.failures + earlier.failures,
            self.error,
        )  # fmt: skip


class Spool:
    """Puts decisions into files for another process to store. Close it at the end."""

    def __init__(self, folder: Path, *, interval: float = INTERVAL_SECONDS, memory_rows: int = MEMORY_ROWS) -> None:
        """Args: seconds between files, `interval`; `memory_rows` that may wait in memory while none can be written."""
        self._files, self._folder = Files(folder), folder
        self._interval, self._memory_rows = interval, memory_rows
        self._fresh = Fresh()
        self._frames: deque[pl.DataFrame] = deque()  # could not be written yet
        self._filed = self._lost = self._failures = 0
        self._error: str | None = None
        self._turning = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)
        self._thread.start()

    def take(self, decision: Decision) -> None:
        """Have a decision put into a file, without waiting for it. Raises: `StoreClosed`."""
        self._fresh.take(decision)

    def counts(self) -> SpoolCounts:
        """The present figures."""
        fresh = self._fresh.taken - self._filed - self._lost
        return SpoolCounts(self._fresh.taken, max(0, fresh), self._lost, self._failures, self._error)

    def flush(self) -> None:
        """Put what was taken before this call into files now, as far as they can be written."""
        with self._turning:
            self._turn()

    def close(self) -> None:
        """Put what waits into files, and stop; what cannot be written is lost. Safe to call twice."""
        self._fresh.close()
        self._thread.join()

    def _run(self) -> None:
        self._fresh.attend(self._interval, self.flush, lambda error: self._failed(f"the spool stumbled: {error}"))
        if self._frames:
            unsaved = sum(frame.height for frame in self._frames)
            self._frames.clear()
            self._lost += unsaved
            _LOG.error("%d decisions are lost", unsaved)

    def _turn(self) -> None:
        rows = self._fresh.gathered()
        if rows:
            frame, unfit = framed(rows)
            self._lost += unfit
            self._frames.append(frame)
        while self._frames:
            frame = self._frames[0]
            try:
                self._files.write(frame)
            except (OSError, pl.exceptions.PolarsError) as error:
                self._failed(f"decisions cannot be spooled to {self._folder}: {error}")
                break
            self._frames.popleft()
            self._filed += frame.height
            self._error = None
        while sum(frame.height for frame in self._frames) > self._memory_rows:
            self._lost += self._frames.pop().height

    def _failed(self, text: str) -> None:
        self._failures += 1
        if self._error != text:
            _LOG.error("%s", text)
        self._error = text


def framed(rows: Sequence[Decision]) -> tuple[pl.DataFrame, int]:
    """The rows as a frame without those that the columns cannot hold, and how many those are."""
    try:
        return frame_of(rows), 0
    except Exception:
        if len(rows) == 1:
            _LOG.exception("a decision cannot be stored: %r", rows[0])
            return frame_of([]), 1
        middle = len(rows) // 2
        first, second = framed(rows[:middle]), framed(rows[middle:])
        return pl.concat([first[0], second[0]]), first[1] + second[1]


def frame_of(rows: Sequence[Decision]) -> pl.DataFrame:
    """Decisions as a frame (columns `store.decisions.DECISIONS`)."""
    columns: Any = zip(*rows, strict=True) if rows else ([] for _ in decisions.DECISIONS)
    return pl.DataFrame(
        [_series(*each, values) for each, values in zip(decisions.DECISIONS.items(), columns, strict=True)]
    )


def _series(name: str, dtype: pl.DataType, values: Sequence[Any]) -> pl.Series:
    inner = _PLAIN.get(type(dtype.inner)) if isinstance(dtype, pl.List) else None
    if inner is not None:
        # Polars would make a series of every list first.
        made = pl.from_arrow(pa.array(values, pa.large_list(inner)))
        assert isinstance(made, pl.Series)
        return made.alias(name)
    return pl.Series(name, values, dtype=dtype, strict=True)


_PLAIN: Final[dict[Any, Any]] = {
    pl.String: pa.large_string(),
    pl.Float64: pa.float64(),
    pl.Struct: pl.Series(dtype=decisions.EXPOSED).to_arrow().type,
}
