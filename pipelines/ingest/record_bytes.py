"""What a record's bytes show whatever its format: faults of size, NUL and encoding, and its text for rejects."""

import codecs
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from pipelines.ingest.window import Positions, positions

RAW_BYTES = 64 << 10


def raw_text(data: bytes, size: int | None = None) -> tuple[str, bool]:
    """(displayable text of at most 64 KiB of `data`, was it cut?); `size` is the true size where `data` is a part."""
    cut = data[:RAW_BYTES]
    truncated = (len(data) if size is None else size) > len(cut)
    # The incremental decoder holds back a last character that the cut has split.
    decoder = codecs.getincrementaldecoder("utf-8")(errors="backslashreplace")
    return decoder.decode(cut, final=not truncated).replace("\0", "\\x00"), truncated


def utf8_fault(data: bytes) -> str | None:
    """The reason to reject a record whose bytes are not UTF-8; the byte is counted within the record's line."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line_start = max(data.rfind(b"\n", 0, error.start), data.rfind(b"\r", 0, error.start)) + 1
        where = f"byte {error.start - line_start + 1}"
        if line_start:
            where += " of a later line of it"
        return (
            f"the text is not UTF-8: {where} is 0x{data[error.start]:02X} ({error.reason}); "
            "save the file as UTF-8 (it may be Windows-1252 or Latin-1)"
        )
    return None


def nul_fault(data: bytes) -> str:
    """The reason to reject a record with a NUL byte."""
    return f"it contains a NUL byte (byte {data.index(0) + 1} of the record); remove it"


def size_fault(noun: str, size: int, limit: int) -> str:
    """The reason to reject a `noun` of `size` bytes."""
    return f"the {noun} has {size:,} bytes, more than the {limit:,} that one record may have"


def byte_faults(data: bytes, start: Positions, stop: Positions, indices: Iterable[int] | None = None) -> dict[int, str]:
    """Index -> reason for the records data[start:stop] (ascending) that hold NUL bytes or are not UTF-8.

    Looks at single records only when the bytes as a whole have a fault. `indices` limits it to some of them.
    """
    faults: dict[int, str] = {}
    if not len(start):
        return faults
    end = int(stop[-1])
    chosen = range(len(start)) if indices is None else indices
    if data.find(0, 0, end) >= 0:
        found = positions(np.frombuffer(data, np.uint8, count=end), 0)
        holders = set(np.unique(np.searchsorted(start, found, side="right") - 1).tolist())
        for index in holders.intersection(chosen):
            text = data[start[index] : stop[index]]
            if 0 in text:
                faults[index] = nul_fault(text)
    if not is_utf8(data, end):
        for index in chosen:
            if index not in faults:
                reason = utf8_fault(data[start[index] : stop[index]])
                if reason is not None:
                    faults[index] = reason
    return faults


def is_utf8(data: bytes, end: int) -> bool:
    """Whether the first `end` bytes are UTF-8, by Arrow's vectorised check."""
    offsets = pa.py_buffer(np.array([0, end], np.int32))
    try:
        pa.StringArray.from_buffers(1, offsets, pa.py_buffer(data)).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


class RawRecords:
    """The original text of a chunk's rows, cut from the bytes they were read from."""

    def __init__(self, data: bytes, start: Positions, stop: Positions) -> None:
        self._data, self._start, self._stop = data, start, stop

    def __call__(self, row: int) -> tuple[str, bool]:
        start, stop = int(self._start[row]), int(self._stop[row])
        return raw_text(self._data[start : min(stop, start + RAW_BYTES + 1)], stop - start)
