"""A request's body as rows: decompressed, decoded, mapped and laid out in Arrow, without touching the store.

Pure functions of bytes, so that they can run in a process of their own (`preparer`).
"""

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import pyarrow as pa
from isal import isal_zlib

from pipelines.ingest.layouts.fields import plain_record
from pipelines.ingest.rows import RecordRejected, Row, Rows
from pipelines.ingest.tables import table_of, text_of
from pipelines.live.signal_records import signal_row
from pipelines.otel import json_format, protobuf
from pipelines.otel.rows import rows_of
from pipelines.otel.wire import MalformedRequest, Refused
from store.errors import IngestError
from store.redaction import NOTHING, Rules

Body = Literal["otlp-protobuf", "otlp-json", "signals"]
Encoding = Literal["identity", "gzip"]

BODY_LIMIT: Final = 64 << 20
"""The largest body, in bytes after decompression."""

SIGNALS_LIMIT: Final = 10_000
"""The most signals in one request."""

_NotGzip: Final[Any] = isal_zlib.error  # its stub declares an instance
_GZIP: Final = 31  # window bits by which zlib reads the gzip format


class BodyTooLarge(IngestError):
    """A body that is larger than what is taken, as it came or decompressed."""

    def __init__(self, limit: int, what: str = "The body") -> None:
        self.limit, self.what = limit, what
        super().__init__(f"{what} is larger than {limit:,} bytes. Send smaller batches.")

    def __reduce__(self) -> tuple[type["BodyTooLarge"], tuple[int, str]]:
        """How it comes back from the process that decodes; by default an error is made anew from its text."""
        return BodyTooLarge, (self.limit, self.what)


@dataclass(frozen=True)
class Prepared:
    """What a request holds: rows by fact table with `record_no` from 0, `received` records, and those refused."""

    tables: dict[str, pa.Table] = field(default_factory=dict)
    received: int = 0
    refused: list[Refused] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes that the rows take in memory."""
        return sum(table.nbytes for table in self.tables.values())


def prepare(body: bytes, kind: Body, encoding: Encoding, source: str, rules: Rules = NOTHING) -> Prepared:
    """Rows of a request of this kind, without what `rules` take out.

    Raises: `BodyTooLarge`, `MalformedRequest` when the body as a whole cannot be read.
    """
    plain = decompressed(body) if encoding == "gzip" else body
    if len(plain) > BODY_LIMIT:
        raise BodyTooLarge(BODY_LIMIT)
    with _no_collection():
        prepared = _signals(plain, source) if kind == "signals" else _otlp(plain, kind, source)
    return _redacted(prepared, rules) if rules else prepared


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without looking for cycles: a request becomes many small objects and none of them, which takes a tenth of the
    time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _redacted(prepared: Prepared, rules: Rules) -> Prepared:
    # Imported here: most requests are redacted of nothing.
    from pipelines.privacy.redaction import Redactor

    redactor = Redactor(rules)
    tables = {kind: redactor.table(kind, table) for kind, table in prepared.tables.items()}
    refused = [Refused(redactor.text(each.where), redactor.text(each.reason)) for each in prepared.refused]
    return Prepared(tables, prepared.received, refused)


def decompressed(body: bytes, limit: int = BODY_LIMIT) -> bytes:
    """The content of a gzip body, never more than `limit` bytes of it in memory.

    Raises: `BodyTooLarge`, `MalformedRequest`.
    """
    parts: list[bytes] = []
    room = limit
    rest = body
    try:
        while rest:
            reader = isal_zlib.decompressobj(wbits=_GZIP)
            part = reader.decompress(rest, room + 1)
            room -= len(part)
            if room < 0:
                raise BodyTooLarge(limit, "The decompressed body")
            parts.append(part)
            if not reader.eof:
                raise MalformedRequest("The gzip body ends early. Send the whole of it.")
            rest = reader.unused_data.lstrip(b"\0")  # further members, or padding
    except _NotGzip as error:
        raise MalformedRequest(f"The body is no gzip, which Content-Encoding says it is ({error}).") from error
    if not parts:
        raise MalformedRequest("The body is empty, which is no gzip. Leave Content-Encoding out or compress it.")
    return b"".join(parts)


def _otlp(body: bytes, kind: Body, source: str) -> Prepared:
    decoded = protobuf.decode(body) if kind == "otlp-protobuf" else json_format.decode(body)
    refused = list(decoded.refused)
    made: list[Rows] = []
    for number, span in enumerate(decoded.spans):
        try:
            made.append(rows_of(span, source))
        except RecordRejected as error:
            refused.append(Refused(f"span {span.span_id} of trace {span.trace_id}, number {number}", error.reason))
    return _laid_out(made, len(decoded.spans) + len(decoded.refused), refused)


def _signals(body: bytes, source: str) -> Prepared:
    try:
        document = json.loads(body)
    except RecursionError as error:
        raise MalformedRequest("The JSON is nested too deeply; expected at most 64 levels.") from error
    except (ValueError, UnicodeDecodeError) as error:
        raise MalformedRequest(f"The body is not valid JSON: {str(error)[:200]}.") from error
    records: list[Any] = document if isinstance(document, list) else [document]
    if len(records) > SIGNALS_LIMIT:
        raise MalformedRequest(f"The body holds {len(records):,} signals; expected at most {SIGNALS_LIMIT:,}.")
    refused: list[Refused] = []
    made: list[Rows] = []
    for number, record in enumerate(records):
        try:
            made.append(Rows(signals=[signal_row(plain_record(record), source)]))
        except RecordRejected as error:
            refused.append(Refused(f"[{number}]" if isinstance(document, list) else "the signal", error.reason))
    return _laid_out(made, len(records), refused)


def _laid_out(made: list[Rows], received: int, refused: list[Refused]) -> Prepared:
    numbered: dict[str, list[tuple[int, Row]]] = {"trace_records": [], "spans": [], "signals": []}
    for number, rows in enumerate(made):
        for kind, listed in (("trace_records", rows.traces), ("spans", rows.spans), ("signals", rows.signals)):
            numbered[kind].extend([(number, row) for row in listed])
    tables = {kind: table_of(kind, rows) for kind, rows in numbered.items() if rows}
    # Reasons quote what came, which may be texts that no answer can carry.
    named = [Refused(text_of(each.where), text_of(each.reason)) for each in refused]
    return Prepared(tables, received, named)
