"""Which text encoding a file has, and what it is when it is no text at all."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass

from store.errors import FileRejected


@dataclass(frozen=True)
class Encoding:
    """`codec` None is UTF-8 as it stands; `mark_bytes` is the length of the byte order mark in front."""

    name: str
    codec: str | None
    mark_bytes: int


UTF8 = Encoding("UTF-8", None, 0)
# The UTF-32 mark begins with the UTF-16 one, so it is tried first.
_MARKS = (
    (codecs.BOM_UTF8, Encoding("UTF-8", None, 3)),
    (codecs.BOM_UTF32_LE, Encoding("UTF-32", "utf-32-le", 4)),
    (codecs.BOM_UTF32_BE, Encoding("UTF-32", "utf-32-be", 4)),
    (codecs.BOM_UTF16_LE, Encoding("UTF-16", "utf-16-le", 2)),
    (codecs.BOM_UTF16_BE, Encoding("UTF-16", "utf-16-be", 2)),
)

_SIGNATURES = (
    (0, b"PAR1", "a Parquet file"),
    (0, b"%PDF", "a PDF document"),
    (0, b"SQLite format 3\x00", "an SQLite database"),
    (8, b"DUCK", "a DuckDB database"),
    (0, b"\xfd7zXZ\x00", "an xz archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (4, b"1AY&SY", "a bzip2 archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x1f\x8b", "gzip data"),
    (0, b"\x28\xb5\x2f\xfd", "zstd data"),
    (0, b"ARROW1", "an Arrow (Feather) file"),
    (0, b"Obj\x01", "an Avro file"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel or Word file"),
    (0, b"\x89PNG", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"\x93NUMPY", "a NumPy file"),
    (0, b"\x7fELF", "a program"),
)

_CONTROL = bytes(range(9)) + bytes(range(14, 32))


def detect_encoding(head: bytes) -> Encoding:
    """The encoding that the byte order mark names; UTF-8 without a mark."""
    return next((encoding for mark, encoding in _MARKS if head.startswith(mark)), UTF8)


def refuse_foreign(head: bytes, encoding: Encoding, name: str, *, compressed: bool) -> None:
    """Raise FileRejected when the first bytes show something other than text, naming what it looks like."""
    kind = _foreign_kind(head)
    if kind is not None:
        inside = "Inside its compression it is" if compressed else "It is"
        remedy = "Export the data as CSV, JSON, JSON Lines or Parquet."
        if compressed and kind in ("a Parquet file", "a tar archive", "gzip data", "zstd data"):
            remedy = "Unpack it first and load what is inside."
        raise FileRejected(name, f"{inside} {kind}, not text.", remedy)
    if encoding.codec is not None or not head:
        return
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if even + odd <= len(head) * 0.1:
        return  # a few NUL bytes are the fault of single records
    if max(even, odd) > 0.2 * (len(head) / 2) and min(even, odd) <= 0.02 * len(head):
        raise FileRejected(
            name,
            "It looks like UTF-16 without a byte order mark.",
            "Save it as UTF-8 and load it again.",
        )
    raise FileRejected(
        name,
        f"It is not text: {even + odd:,} of its first {len(head):,} bytes are NUL.",
        "Export the data as CSV, JSON, JSON Lines or Parquet.",
    )


def _foreign_kind(head: bytes) -> str | None:
    if head.startswith(b"PK\x03\x04"):
        if b"xl/" in head or b"[Content_Types].xml" in head:
            return "an Excel workbook (.xlsx)"
        return "a zip archive"
    for at, mark, kind in _SIGNATURES:
        # A printable signature may open a text too; the formats themselves have control bytes close behind it.
        if head[at : at + len(mark)] == mark and not (
            mark.isascii() and head[:1024].translate(None, _CONTROL) == head[:1024]
        ):
            return kind
    return None


def transcode(pieces: Iterator[bytes], encoding: Encoding, name: str) -> Iterator[bytes]:
    """UTF-16 or UTF-32 pieces as UTF-8, without the byte order mark.

    Lone surrogates become invalid UTF-8, so that they cost their own record. Raises FileRejected with the position when
    the data cannot be decoded at all.
    """
    if encoding.codec is None:
        raise ValueError("UTF-8 needs no transcoding")
    decoder = codecs.getincrementaldecoder(encoding.codec)(errors="surrogatepass")
    mark, position = encoding.mark_bytes, 0
    try:
        for piece in pieces:
            text = decoder.decode(piece[max(0, mark - position) :])
            position += len(piece)
            if text:
                yield text.encode("utf-8", errors="surrogatepass")
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise FileRejected(
            name,
            f"Its {encoding.name} text cannot be decoded near byte {position:,}: {error.reason}.",
            "Save it as UTF-8 and load it again.",
        ) from error
