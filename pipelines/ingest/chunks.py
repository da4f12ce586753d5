"""What the readers hand on: chunks of clean records with their rejects, and the state to go on from."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pyarrow as pa

CHUNK_BYTES = 16 << 20
MAX_RECORD_BYTES = 16 << 20
CHUNK_RECORDS = 1 << 17
FIRST_BYTES = 1 << 20
LEAST_BYTES = 4096


@dataclass(frozen=True)
class Reject:
    """One record that was not taken, with what is needed to find, understand and repair it.

    `record_no` counts the file's records from 1 (a header and blank lines are none), `line` is the physical line where
    it starts (0: the format has no lines), `column` the name of the column at fault. `raw` is its text, at most 64 KiB;
    NUL and bytes that are not UTF-8 are shown as \\x00.
    """

    record_no: int
    line: int
    column: str | None
    reason: str
    raw: str
    raw_truncated: bool


@dataclass(frozen=True)
class ReaderState:
    """Where to go on: the position behind a chunk. The default is the start of the file; all fields are plain values.

    `offset` is in decoded bytes (rows for Parquet), `record_no` and `line` are those of the next record.
    `prefix_sha256` proves that the file is still the same; `place` is the reader's own note.
    """

    offset: int = 0
    record_no: int = 1
    line: int = 1
    prefix_sha256: str = ""
    place: str = ""

    @property
    def at_start(self) -> bool:
        return self.offset == 0 and self.record_no == 1


@dataclass(frozen=True)
class Chunk:
    """Consecutive records of a file: `received == table.num_rows + len(rejects)`.

    `record_no` and `line` are int64 arrays beside `table`; `raw(i)` gives the original text of table row i as a reject
    would hold it: (text, truncated). `state` resumes behind this chunk.
    """

    table: pa.Table
    record_no: pa.Array
    line: pa.Array
    rejects: list[Reject]
    received: int
    raw: Callable[[int], tuple[str, bool]]
    state: ReaderState

    def __post_init__(self) -> None:
        rows, rejected = self.table.num_rows, len(self.rejects)
        if self.received != rows + rejected:
            raise AssertionError(f"{self.received} records were read and became {rows} rows and {rejected} rejects")

    @property
    def end_offset(self) -> int:
        """Decoded bytes of the file consumed through this chunk (rows for Parquet)."""
        return self.state.offset

    @property
    def next_record_no(self) -> int:
        return self.state.record_no

    @property
    def next_line(self) -> int:
        return self.state.line

    @property
    def prefix_sha256(self) -> str:
        return self.state.prefix_sha256

    def reject(self, row: int, reason: str, column: str | None = None) -> Reject:
        """Table row `row` as a reject, for faults that only its meaning shows."""
        text, truncated = self.raw(row)
        return Reject(self.record_no[row].as_py(), self.line[row].as_py(), column, reason, text, truncated)


def next_size(chunk_bytes: int, before: ReaderState, after: ReaderState) -> int:
    """How many bytes to take for the next chunk so that short records do not make it too many for the memory.

    `before` and `after` are the states around the chunk just read.
    """
    count = max(after.record_no - before.record_no, after.line - before.line, 1)
    return min(chunk_bytes, max(LEAST_BYTES, (after.offset - before.offset) * CHUNK_RECORDS // count))


def advance(state: ReaderState, *, offset: int, records: int, lines: int, sha256: str, place: str = "") -> ReaderState:
    """The state behind a chunk that ends at `offset` after `records` more records and `lines` more lines."""
    return replace(
        state,
        offset=offset,
        record_no=state.record_no + records,
        line=state.line + lines,
        prefix_sha256=sha256,
        place=place,
    )
