"""Gzip and zstd streams to plain bytes, in bounded memory, with the position of what is broken and a stop for bombs."""

import zlib
from collections.abc import Iterator
from enum import StrEnum
from typing import Protocol

import zstandard

from store.errors import FileRejected

PIECE_BYTES = 1 << 20
GZIP_INPUT_BYTES = 65_536
# A 4-byte zstd block can stand for 128 KiB, and the decompressor has no output limit: 1 KiB bounds it to 32 MiB.
ZSTD_INPUT_BYTES = 1024
RATIO_FREE_BYTES = 64 << 20
MAX_RATIO = 200

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class Compression(StrEnum):
    GZIP = "gzip"
    ZSTD = "zstd"


class Readable(Protocol):
    position: int

    def read(self, size: int) -> bytes: ...


def detect_compression(head: bytes) -> Compression | None:
    """The compression whose magic bytes open `head` (at least 4 bytes), if any."""
    if head.startswith(GZIP_MAGIC):
        return Compression.GZIP
    if head.startswith(ZSTD_MAGIC) or is_skippable_frame(head):
        return Compression.ZSTD
    return None


def is_skippable_frame(head: bytes) -> bool:
    """Whether a zstd skippable frame (magic 0x184D2A50 to 5F) opens `head`; parallel compressors write them first."""
    return len(head) >= 4 and 0x50 <= head[0] <= 0x5F and head[1:4] == b"\x2a\x4d\x18"


def inflate(raw: Readable, compression: Compression, name: str, max_decoded_bytes: int) -> Iterator[bytes]:
    """Decompressed pieces of `raw`, all members or frames.

    Raises FileRejected (file `name`) with the byte position when the data is damaged or ends early, and when it
    expands beyond `max_decoded_bytes` or, after 64 MiB, to more than 200 times its stored size.
    """
    pieces = _gunzip(raw, name) if compression is Compression.GZIP else _unzstd(raw, name)
    decoded = 0
    for piece, consumed in pieces:
        decoded += len(piece)
        if decoded > max_decoded_bytes:
            raise FileRejected(
                name,
                f"It expands to more than {max_decoded_bytes:,} bytes ({compression} data of {consumed:,} bytes).",
                "Split it into smaller files.",
            )
        if decoded > RATIO_FREE_BYTES and decoded > MAX_RATIO * consumed:
            raise FileRejected(
                name,
                f"Its first {consumed:,} bytes of {compression} data expand to {decoded:,}: more than {MAX_RATIO} "
                "times, as in a decompression bomb.",
                "Decompress it yourself if you trust it, and load the plain file.",
            )
        yield piece


def _damaged(name: str, compression: Compression, position: int, detail: str) -> FileRejected:
    return FileRejected(
        name, f"Its {compression} data is damaged near byte {position:,}: {detail}.", "Copy or export it again."
    )


def _truncated(name: str, compression: Compression, position: int) -> FileRejected:
    return FileRejected(
        name,
        f"Its {compression} data ends early, at byte {position:,}: the last part is missing.",
        "Copy or export it again.",
    )


def _gunzip(raw: Readable, name: str) -> Iterator[tuple[bytes, int]]:
    """(piece, stored bytes consumed so far)."""
    start, pending = raw.position, b""
    while True:
        pending = pending or raw.read(GZIP_INPUT_BYTES)
        if pending and raw.position - len(pending) > start:
            # Between members: archives may be padded with zeros up to a block, nothing else may follow.
            pending = pending.lstrip(b"\0")
            while not pending and (more := raw.read(GZIP_INPUT_BYTES)):
                pending = more.lstrip(b"\0")
        if not pending:
            return
        member = raw.position - len(pending)
        while len(pending) < 2 and (more := raw.read(1)):
            pending += more
        if not pending.startswith(GZIP_MAGIC):
            raise _damaged(name, Compression.GZIP, member, "something else follows the compressed data")
        unpacker = zlib.decompressobj(wbits=31)
        while not unpacker.eof:
            pending = pending or raw.read(GZIP_INPUT_BYTES)
            if not pending:
                raise _truncated(name, Compression.GZIP, raw.position)
            try:
                piece = unpacker.decompress(pending, PIECE_BYTES)
            except zlib.error as error:
                raise _damaged(name, Compression.GZIP, raw.position - len(pending), str(error)) from error
            pending = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
            if piece:
                yield piece, raw.position - len(pending) - start


def _unzstd(raw: Readable, name: str) -> Iterator[tuple[bytes, int]]:
    """(piece, stored bytes consumed so far)."""
    start, buffer = raw.position, b""
    while True:
        buffer = buffer or raw.read(GZIP_INPUT_BYTES)
        if not buffer:
            return
        unpacker, ended = zstandard.ZstdDecompressor().decompressobj(), False
        while not ended:
            buffer = buffer or raw.read(GZIP_INPUT_BYTES)
            if not buffer:
                raise _truncated(name, Compression.ZSTD, raw.position)
            pending, buffer = buffer[:ZSTD_INPUT_BYTES], buffer[ZSTD_INPUT_BYTES:]
            try:
                piece = unpacker.decompress(pending)
            except zstandard.ZstdError as error:
                position = raw.position - len(buffer) - len(pending)
                raise _damaged(name, Compression.ZSTD, position, str(error)) from error
            ended = unpacker.eof
            if ended:
                buffer = unpacker.unused_data + buffer
            if piece:
                yield piece, raw.position - len(buffer) - start
