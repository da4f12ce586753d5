"""A moving view on a source's decoded bytes: what is buffered, what lies ahead, and where its lines end."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
import numpy.typing as npt

from pipelines.ingest.chunks import ReaderState
from pipelines.ingest.source import PIECE_BYTES, Source
from store.errors import FileRejected

Positions = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

_SCAN_BYTES = 1 << 20  # a comparison mask of this size stays in the cache


@dataclass(frozen=True)
class Extent:
    """Bytes of some text, of it with its line end, and the physical lines that it uses up."""

    text: int
    total: int
    lines: int


class Window:
    """Unconsumed bytes from `offset` on, with a running SHA-256 of all that was consumed.

    Raises FileRejected when `state` belongs to other content than the source now has.
    """

    def __init__(self, source: Source, state: ReaderState) -> None:
        self.data, self.eof, self.offset = b"", False, state.offset
        self._digest = source.prefix_digest(state.offset)
        if state.prefix_sha256 and self._digest.hexdigest() != state.prefix_sha256:
            raise FileRejected(
                source.name,
                f"Its first {state.offset:,} bytes are not those that were loaded before: it was changed.",
                "Load it as a new file.",
            )
        self._stream = source.stream(state.offset)
        self._spill: IO[bytes] | None = None
        self._spill_start = self._spill_end = 0

    @property
    def sha256(self) -> str:
        """SHA-256 of all bytes consumed since the start of the file, in hex."""
        return self._digest.copy().hexdigest()

    def fill(self, size: int) -> None:
        """Buffer at least `size` bytes, or all there are (then `eof` is set)."""
        parts, have = [self.data] if self.data else [], len(self.data)
        while have < size and not self.eof:
            block = self._next(size - have)
            self.eof = not block
            parts.append(block)
            have += len(block)
        self.data = b"".join(parts)

    def consume(self, size: int) -> None:
        """Pass over `size` bytes, buffered or not."""
        while size > 0:
            if not self.data:
                self.fill(min(size, PIECE_BYTES))
                if not self.data:
                    raise ValueError("consumed beyond the end")
            step = min(size, len(self.data))
            self._digest.update(memoryview(self.data)[:step])
            self.data = self.data[step:]
            self.offset += step
            size -= step

    def ahead(self) -> Iterator[bytes]:
        """The buffered bytes and then the blocks behind them, consuming none: a temporary file keeps them."""
        yield self.data
        position = self._spill_start
        while position < self._spill_end:
            block = self._read_spill(position, PIECE_BYTES)
            position += len(block)
            yield block
        while not self.eof and (block := self._stream.read(PIECE_BYTES)):
            if self._spill is None:
                self._spill = tempfile.TemporaryFile(prefix="trimtab-")  # noqa: SIM115 - lives as long as the window
            self._spill.seek(self._spill_end)
            self._spill.write(block)
            self._spill_end += len(block)
            yield block

    def skip_line(self) -> Extent:
        """Consume one physical line of any length."""
        size = 0
        while True:
            stop = min((at for at in (self.data.find(b"\n"), self.data.find(b"\r")) if at >= 0), default=-1)
            if stop >= 0:
                if self.data[stop] == 13 and stop + 1 == len(self.data):
                    self.fill(len(self.data) + 1)
                end = stop + 1 + (self.data[stop : stop + 2] == b"\r\n")
                self.consume(end)
                return Extent(size + stop, size + end, 1)
            size += len(self.data)
            self.consume(len(self.data))
            self.fill(PIECE_BYTES)
            if not self.data:
                return Extent(size, size, 1)

    def close(self) -> None:
        """Drop the temporary file."""
        if self._spill is not None:
            self._spill.close()
            self._spill = None

    def _next(self, size: int) -> bytes:
        if self._spill_start < self._spill_end:
            block = self._read_spill(self._spill_start, size)
            self._spill_start += len(block)
            if self._spill_start == self._spill_end and self._spill is not None:
                self._spill.truncate(0)
                self._spill_start = self._spill_end = 0
            return block
        return self._stream.read(size)

    def _read_spill(self, position: int, size: int) -> bytes:
        if self._spill is None:
            return b""
        self._spill.seek(position)
        return self._spill.read(min(size, self._spill_end - position))


def positions(data: Bytes, byte: int) -> Positions:
    """Indices where `data` equals `byte`."""
    if len(data) <= _SCAN_BYTES:
        return np.flatnonzero(data == byte)
    return np.concatenate(
        [np.flatnonzero(data[at : at + _SCAN_BYTES] == byte) + at for at in range(0, len(data), _SCAN_BYTES)]
    )


@dataclass(frozen=True)
class LineEnds:
    """Physical lines that end within some bytes: `stop` is where the text ends, `next` where the next line starts."""

    stop: Positions
    next: Positions


def line_ends(data: bytes, *, final: bool) -> LineEnds:
    """Where lines end in `data`: at \\n, \\r\\n or a lone \\r.

    A \\r in the last place ends a line only if `final`: a \\n may follow. Text without a line end is no line here.
    """
    view = np.frombuffer(data, np.uint8)
    feeds = positions(view, 10)
    if b"\r" not in data:
        return LineEnds(feeds, feeds + 1)
    returns = positions(view, 13)
    if not final and len(returns) and returns[-1] == len(data) - 1:
        returns = returns[:-1]
    followed = np.zeros(len(returns), np.bool_)
    inner = returns < len(data) - 1
    followed[inner] = view[returns[inner] + 1] == 10
    before = np.zeros(len(feeds), np.bool_)
    later = feeds > 0
    before[later] = view[feeds[later] - 1] == 13
    stop = np.concatenate([feeds - before, returns[~followed]])
    order = np.argsort(stop, kind="stable")
    after = np.concatenate([feeds + 1, returns[~followed] + 1])
    return LineEnds(stop[order], after[order])


def count_lines(data: bytes, last: int | None = None) -> int:
    """How many line ends `data` holds; `last` is the byte before it, so that \\r\\n across the border counts once."""
    ends = data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")
    return ends - (last == 13 and data.startswith(b"\n"))
