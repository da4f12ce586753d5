"""JSON Lines as chunks with one column `json`: the text of one object per record.

A line is rejected, and only that line, when it is not a JSON object by RFC 8259 (NaN and Infinity are none), nested
deeper than 64 levels, has a NUL byte, bytes that are not UTF-8, or more than `max_record_bytes`. Blank lines are no
records. Lines end at \\n, \\r\\n or \\r.
"""

from collections.abc import Iterator

import numpy as np

from pipelines.ingest.chunks import CHUNK_BYTES, FIRST_BYTES, MAX_RECORD_BYTES, Chunk, ReaderState, advance, next_size
from pipelines.ingest.json_chunks import long_chunk, object_chunk
from pipelines.ingest.json_values import engine, extract, keys_of
from pipelines.ingest.record_bytes import RAW_BYTES
from pipelines.ingest.source import Source
from pipelines.ingest.window import Window, line_ends
from store.errors import FileRejected

__all__ = ["extract", "keys_of", "read_lines"]

SPACE = " \t\r\n"
_OPENING = 123


def read_lines(
    source: Source,
    *,
    state: ReaderState | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    max_record_bytes: int = MAX_RECORD_BYTES,
) -> Iterator[Chunk]:
    """Chunks of about `chunk_bytes` of a JSON Lines file, from `state` on; rows do not depend on the chunk size.

    Raises FileRejected when the file as a whole cannot be read or is not the one `state` belongs to.
    """
    state = state or ReaderState()
    window = Window(source, state)
    connection = engine()
    try:
        size = min(chunk_bytes, FIRST_BYTES)
        while True:
            window.fill(size)
            data = window.data
            if not data:
                break
            ends = line_ends(data, final=window.eof)
            stop, after = ends.stop, ends.next
            if window.eof and (not len(after) or after[-1] < len(data)):
                stop, after = np.append(stop, len(data)), np.append(after, len(data))
            if not len(after) and len(data) <= max_record_bytes:
                size = 2 * len(data)
                continue
            if not len(after):
                window.fill(RAW_BYTES + 1)
                head = window.data[: RAW_BYTES + 1]
                extent = window.skip_line()
                behind = advance(state, offset=window.offset, records=1, lines=1, sha256=window.sha256)
                chunk = long_chunk(
                    head, extent.text, state, behind, line=state.line, trim=SPACE, max_record_bytes=max_record_bytes
                )
                size, state = chunk_bytes, behind
                yield chunk
                continue
            start = np.concatenate([np.zeros(1, np.int64), after[:-1]])
            line = np.arange(len(start)) + state.line
            view = np.frombuffer(data, np.uint8)
            odd = np.flatnonzero(view[start] != _OPENING)
            blank = [int(index) for index in odd if not data[start[index] : stop[index]].strip(SPACE.encode())]
            window.consume(int(after[-1]))
            behind = advance(
                state,
                offset=window.offset,
                records=len(start) - len(blank),
                lines=len(start),
                sha256=window.sha256,
            )
            if blank:
                # A blank line becomes part of the separator behind the record before it, or in front of the first.
                filled = np.ones(len(start), np.bool_)
                filled[blank] = False
                start, stop, line = start[filled], stop[filled], line[filled]
            if len(start):
                yield object_chunk(
                    data,
                    np.append(start, after[-1]),
                    stop,
                    line,
                    trim=SPACE,
                    state=state,
                    after=behind,
                    max_record_bytes=max_record_bytes,
                    connection=connection,
                )
            size, state = next_size(chunk_bytes, state, behind), behind
        if state.record_no == 1:
            raise FileRejected(source.name, "It has no records.", "Check the export that wrote it.")
    finally:
        connection.close()
        window.close()
