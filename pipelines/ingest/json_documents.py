"""One JSON document as records: an array, an envelope around arrays, or one object; large arrays in flat memory.

The records of an array are cut out of the text by its skeleton and then checked one by one as in JSON Lines, so that
one bad record costs only itself. What breaks the document as a whole (it ends early, something follows it, it is no
array or object, or it is one object that is not valid) raises FileRejected with the position.
"""

import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from pipelines.ingest.chunks import CHUNK_BYTES, FIRST_BYTES, MAX_RECORD_BYTES, Chunk, ReaderState, advance, next_size
from pipelines.ingest.json_chunks import SCHEMA, RawTexts, long_chunk, object_chunk
from pipelines.ingest.json_envelope import KEY_BYTES, LIST_KEYS, PART_KEYS, is_envelope, member_name
from pipelines.ingest.json_structure import Siblings, member_key, siblings, skip_sibling
from pipelines.ingest.json_values import engine, object_faults
from pipelines.ingest.record_bytes import RAW_BYTES, byte_faults
from pipelines.ingest.source import PIECE_BYTES, Source
from pipelines.ingest.window import Window, count_lines, line_ends
from store.errors import FileRejected

__all__ = ["is_envelope", "read_document"]

WHOLE_BYTES = 16 << 20
MAX_DOCUMENT_BYTES = 64 << 20

_SPACE = b" \t\r\n"
_TRIM = " \t\r\n,"
_TEXT = re.compile(rb"[^ \t\r\n]")
_OPEN_LIST = re.compile(rb"\[[ \t\r\n]*[{\]]")


def read_document(
    source: Source,
    *,
    state: ReaderState | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    max_record_bytes: int = MAX_RECORD_BYTES,
    whole_bytes: int = WHOLE_BYTES,
    max_document_bytes: int = MAX_DOCUMENT_BYTES,
) -> Iterator[Chunk]:
    """Chunks with one column `json`, from `state` on, of a document with many records or one.

    Of an envelope (see `is_envelope`, which gets the first `whole_bytes`) the items of all lists under known keys are
    records, the other members are passed over. Any other object is one record of at most `max_document_bytes`.
    Raises FileRejected as described above, and when there is no record or `state` belongs to another file.
    """
    state = state or ReaderState()
    window = Window(source, state)
    reader = _DocumentReader(source.name, window, state, chunk_bytes, max_record_bytes)
    try:
        if state.at_start and not reader.enter(whole_bytes):
            yield reader.single(max_document_bytes)
        else:
            yield from reader.chunks()
    finally:
        reader.connection.close()
        window.close()


class _DocumentReader:
    """Walks through one document; `place` says where it stands, from chunk to chunk.

    array:first, array:next, list:first, list:next: before an item of the array or of a list in the envelope;
    members: before a member of the envelope; behind: behind a list in it; end: behind everything.
    """

    def __init__(self, name: str, window: Window, state: ReaderState, chunk_bytes: int, max_record_bytes: int) -> None:
        self.name, self.window, self.state = name, window, state
        self.chunk_bytes, self.max_record_bytes = chunk_bytes, max_record_bytes
        self.place, self.line, self._last = state.place, state.line, -1
        self.connection = engine()

    def enter(self, whole_bytes: int) -> bool:
        """Go into the array or envelope; False for a single object, which is left as it is."""
        first = self._next()
        if first == b"[":
            self._consume(1)
            self.place = "array:first"
            return True
        if first != b"{":
            raise self._broken("a JSON document begins with [ or {, which this does not")
        self.window.fill(whole_bytes)
        if not is_envelope(self.window.data[1:whole_bytes]):
            return False
        self._consume(1)
        self.place = "members"
        return True

    def single(self, max_document_bytes: int) -> Chunk:
        """The chunk of a document that is one record."""
        window, line = self.window, self.line
        window.fill(max_document_bytes + 1)
        if len(window.data) > max_document_bytes:
            raise FileRejected(
                self.name,
                f"It is one JSON object of more than {max_document_bytes:,} bytes, without a list of records under one "
                f"of the keys {', '.join(sorted(LIST_KEYS | PART_KEYS))}.",
                "Write the records as JSON Lines, one object per line.",
            )
        data = window.data
        faults = byte_faults(data, np.zeros(1, np.int64), np.array([len(data)]))
        if not faults:
            texts = pa.array([data.strip(_SPACE).decode("utf-8")], pa.string())
            faults = object_faults(texts, self.connection)
        if faults:
            lead = f" (the document begins on line {line})" if line > 1 else ""
            raise FileRejected(
                self.name,
                f"It is one JSON document{lead}, and {faults[0]}.",
                "Repair it, or write the records as JSON Lines, one object per line.",
            )
        self._consume(len(data))
        self.place = "end"
        return Chunk(
            table=pa.Table.from_arrays([texts], schema=SCHEMA),
            record_no=pa.array([1], pa.int64()),
            line=pa.array([line], pa.int64()),
            rejects=[],
            received=1,
            raw=RawTexts(texts),
            state=self._behind(1),
        )

    def chunks(self) -> Iterator[Chunk]:
        """All chunks from the present place to the end of the document."""
        while self.place != "end":
            if self.place == "members":
                self._members()
            elif self.place == "behind":
                self._leave(b"}", "members", "end")
            else:
                yield from self._items()
        if self._next():
            raise self._broken("something follows the end of the JSON document")
        if self.state.record_no == 1:
            raise FileRejected(self.name, "Its list of records is empty.", "Check the export that wrote it.")

    def _items(self) -> Iterator[Chunk]:
        """Chunks of the rest of the list that the place is in, up to behind its closing bracket."""
        kind, size = self.place.split(":")[0], min(self.chunk_bytes, FIRST_BYTES)
        while self.place.startswith(kind):
            self.window.fill(size)
            data = self.window.data[:size]
            found = siblings(data)
            if len(found.ends) or found.close >= 0:
                before = self.state
                chunk = self._chunk(data, found, kind)
                if chunk is not None:
                    yield chunk
                size = next_size(self.chunk_bytes, before, self.state)
            elif self.window.eof and len(data) == len(self.window.data):
                raise self._ended()
            elif len(data) <= self.max_record_bytes:
                size = 2 * len(data)
            else:
                yield self._long_item(kind)
                size = self.chunk_bytes

    def _chunk(self, data: bytes, found: Siblings, kind: str) -> Chunk | None:
        """The chunk of the complete items in `data`; consumes them and, if it is there, the bracket behind the last."""
        stop = found.ends
        bounds = np.concatenate([np.zeros(1, np.int64), stop + 1])
        end, place = int(bounds[-1]), kind + ":next"
        if found.close >= 0:
            if data[found.close] != 93:
                self._consume(found.close)
                raise self._broken("a list of records is closed by }, expected ]")
            # Nothing at all in front of the bracket is an item only after a comma.
            if len(stop) or self.place != kind + ":first" or data[: found.close].strip(_SPACE):
                stop, bounds = np.append(stop, found.close), np.append(bounds, found.close)
            end, place = found.close + 1, "end" if kind == "array" else "behind"
        pairs = zip(bounds[:-1].tolist(), stop.tolist(), strict=True)
        texts = [_TEXT.search(data, start, until) for start, until in pairs]
        begins = [int(start) if text is None else text.start() for start, text in zip(bounds, texts, strict=False)]
        ends = line_ends(data[:end], final=True)
        line = np.searchsorted(ends.next, np.array(begins, np.int64), side="right") + self.line
        self.window.consume(end)
        self.line, self._last, self.place = self.line + len(ends.next), -1, place
        before, self.state = self.state, self._behind(len(stop))
        if not len(stop):
            return None
        return object_chunk(
            data,
            bounds,
            stop,
            line,
            trim=_TRIM,
            state=before,
            after=self.state,
            max_record_bytes=self.max_record_bytes,
            connection=self.connection,
        )

    def _long_item(self, kind: str) -> Chunk:
        """The chunk of one reject for an item that is too large; consumes it and the comma or bracket behind it."""
        self.window.fill(RAW_BYTES + 1)
        head = self.window.data[: RAW_BYTES + 1]
        text = _TEXT.search(head)
        line = self.line + (0 if text is None else count_lines(head[: text.start()]))
        start, offset = self.line, self.window.offset
        extent = skip_sibling(self.window)
        if extent is None:
            self.line, self.window.offset = start, offset
            raise self._ended()
        self.line += extent.lines
        self._leave(b"]", kind + ":next", "end" if kind == "array" else "behind")
        before, self.state = self.state, self._behind(1)
        return long_chunk(
            head, extent.text, before, self.state, line=line, trim=_TRIM, max_record_bytes=self.max_record_bytes
        )

    def _members(self) -> None:
        """Pass over members of the envelope up to the next list of records, or to the end of what is buffered."""
        if self._next() in (b"}", b""):
            raise self._broken("a member of the object is missing") if self.window.data else self._ended()
        self.window.fill(PIECE_BYTES)
        data = self.window.data[:PIECE_BYTES]
        found = siblings(data)
        for start in [0, *(found.ends + 1).tolist()]:
            member = member_key(data[start : start + KEY_BYTES])
            if member is None:
                if start == 0:
                    raise self._broken('expected "key": value') if len(data) > 1 else self._ended()
                break
            opening = _OPEN_LIST.match(data, start + member[1])
            if opening is not None and member_name(member[0]) in LIST_KEYS | PART_KEYS:
                self._consume(start + member[1] + 1)
                self.place = "list:first"
                return
        if len(found.ends):
            self._consume(int(found.ends[-1]) + 1)
        else:
            extent = skip_sibling(self.window)
            if extent is None:
                raise self._ended()
            self.line += extent.lines
            self._leave(b"}", "members", "end")

    def _leave(self, bracket: bytes, go_on: str, closed: str) -> None:
        """Consume the comma (to `go_on`) or the closing `bracket` (to `closed`) that must come next."""
        byte = self._next()
        if not byte:
            raise self._ended()
        if byte not in (b",", bracket):
            raise self._broken(f"found {byte.decode('latin-1')}, expected a comma or {bracket.decode()}")
        self._consume(1)
        self.place = go_on if byte == b"," else closed

    def _next(self) -> bytes:
        """The next character that is not white space, consuming what is in front of it; empty at the end."""
        while True:
            text = _TEXT.search(self.window.data)
            if text is not None:
                self._consume(text.start())
                return text.group()
            self._consume(len(self.window.data))
            self.window.fill(KEY_BYTES)
            if not self.window.data:
                return b""

    def _consume(self, size: int) -> None:
        if size:
            passed = self.window.data[:size]
            self.line += count_lines(passed, self._last)
            self._last = passed[-1]
            self.window.consume(size)

    def _behind(self, records: int) -> ReaderState:
        return advance(
            self.state,
            offset=self.window.offset,
            records=records,
            lines=self.line - self.state.line,
            sha256=self.window.sha256,
            place=self.place,
        )

    def _broken(self, problem: str) -> FileRejected:
        return FileRejected(
            self.name,
            f"Line {self.line:,}, byte {self.window.offset + 1:,}: {problem}.",
            "Keep one JSON document per file, or write one object per line.",
        )

    def _ended(self) -> FileRejected:
        return FileRejected(
            self.name,
            f"The JSON document is cut off: record {self.state.record_no:,} or what follows it, from line "
            f"{self.line:,}, byte {self.window.offset + 1:,} on, does not end.",
            "Copy or export it again.",
        )
