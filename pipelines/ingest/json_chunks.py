"""Chunks of JSON objects from text in which their bounds are known: shared by JSON Lines and JSON documents."""

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.ingest.chunks import Chunk, ReaderState, Reject
from pipelines.ingest.json_values import object_faults
from pipelines.ingest.record_bytes import RAW_BYTES, byte_faults, raw_text, size_fault
from pipelines.ingest.window import Positions

SCHEMA = pa.schema([("json", pa.string())])


class RawTexts:
    """The original text of a chunk's rows, which is the JSON text itself."""

    def __init__(self, texts: pa.Array) -> None:
        self._texts = texts

    def __call__(self, row: int) -> tuple[str, bool]:
        return raw_text(self._texts[row].as_py().encode())


def object_chunk(
    data: bytes,
    bounds: Positions,
    stop: Positions,
    line: Positions,
    *,
    trim: str,
    state: ReaderState,
    after: ReaderState,
    max_record_bytes: int,
    connection: duckdb.DuckDBPyConnection,
) -> Chunk:
    """The chunk of the records data[bounds[i]:stop[i]], `bounds` being those of adjacent texts with separators.

    `trim` holds the characters that are no part of a record at its ends; `line` is absolute. `state` is the one before,
    `after` the one behind the chunk; its record number is set here.
    """
    start, count = bounds[:-1], len(stop)
    layout = [None, pa.py_buffer(bounds.astype(np.int32)), pa.py_buffer(data)]
    texts = pc.ascii_trim(pa.Array.from_buffers(pa.string(), count, layout), characters=trim)
    faults = {
        index: size_fault("record", int(stop[index] - start[index]), max_record_bytes)
        for index in np.flatnonzero(stop - start > max_record_bytes).tolist()
    }
    others = [index for index in range(count) if index not in faults] if faults else None
    faults |= byte_faults(data, start, stop, others)
    good = np.ones(count, np.bool_)
    good[list(faults)] = False
    kept = np.flatnonzero(good)
    if faults:
        texts = texts.filter(pa.array(good))
    invalid = object_faults(texts, connection)
    if invalid:
        faults |= {int(kept[index]): reason for index, reason in invalid.items()}
        valid = np.ones(len(kept), np.bool_)
        valid[list(invalid)] = False
        texts, kept = texts.filter(pa.array(valid)), kept[valid]
    rejects = []
    for index, reason in sorted(faults.items()):
        text, truncated = _raw(data[start[index] : min(stop[index], start[index] + RAW_BYTES + 1)], trim)
        rejects.append(Reject(state.record_no + index, int(line[index]), None, reason, text, truncated))
    return Chunk(
        table=pa.Table.from_arrays([texts], schema=SCHEMA),
        record_no=pa.array(kept + state.record_no, pa.int64()),
        line=pa.array(line[kept], pa.int64()),
        rejects=rejects,
        received=count,
        raw=RawTexts(texts),
        state=after,
    )


def long_chunk(
    head: bytes, size: int, state: ReaderState, after: ReaderState, *, line: int, trim: str, max_record_bytes: int
) -> Chunk:
    """A chunk of one reject: a record of `size` bytes that begins with `head` and was passed over."""
    text, truncated = _raw(head[: min(size, RAW_BYTES + 1)], trim)
    return Chunk(
        table=SCHEMA.empty_table(),
        record_no=pa.array([], pa.int64()),
        line=pa.array([], pa.int64()),
        rejects=[Reject(state.record_no, line, None, size_fault("record", size, max_record_bytes), text, truncated)],
        received=1,
        raw=RawTexts(pa.array([], pa.string())),
        state=after,
    )


def _raw(head: bytes, trim: str) -> tuple[str, bool]:
    """The text of a record of which at most RAW_BYTES + 1 bytes are given."""
    return raw_text(head.strip(trim.encode()), None if len(head) <= RAW_BYTES else len(head))
