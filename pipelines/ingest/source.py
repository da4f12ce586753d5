"""A file as a stream of UTF-8 bytes, whatever its compression and encoding, with every lie it may tell checked.

Compression and encoding are found in the bytes, never in the name. All offsets are positions in the *decoded* stream:
after decompression, without byte order mark, UTF-16 and UTF-32 transcoded to UTF-8. The size at opening is the size
that is read: what is appended later belongs to the next load, and a file that shrinks is refused.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from pipelines.ingest.encodings import Encoding, detect_encoding, refuse_foreign, transcode
from pipelines.ingest.inflate import Compression, detect_compression, inflate
from store.errors import FileRejected

HEAD_BYTES = 65_536
MAX_DECODED_BYTES = 100 * 10**9
PIECE_BYTES = 1 << 20


class Digest(Protocol):
    """The part of a hashlib object that is used here."""

    def update(self, data: bytes | memoryview, /) -> None: ...
    def copy(self) -> "Digest": ...
    def hexdigest(self) -> str: ...


class RawFile:
    """The stored bytes of one open file from `position` to the size it had when opened."""

    def __init__(self, descriptor: int, size: int, name: str, position: int = 0) -> None:
        self._descriptor, self._size, self._name, self.position = descriptor, size, name, position

    def read(self, size: int) -> bytes:
        """At most `size` stored bytes, empty at the end; raises FileRejected when the file ends early."""
        wanted = min(size, self._size - self.position)
        if wanted <= 0:
            return b""
        try:
            data = os.pread(self._descriptor, wanted, self.position)
        except OSError as error:
            raise FileRejected(
                self._name,
                f"Reading failed at byte {self.position:,}: {error.strerror}.",
                "Copy the file and try again.",
            ) from error
        if not data:
            raise FileRejected(
                self._name,
                f"It shrank from {self._size:,} to {self.position:,} bytes while being read.",
                "Wait until nothing writes to it, then load it again.",
            )
        self.position += len(data)
        return data


class Stream:
    """Decoded bytes in order; `offset` is the decoded position of the next byte."""

    def __init__(self, raw: RawFile, pieces: Iterator[bytes] | None, skip: int, offset: int) -> None:
        """`pieces` None reads stored bytes as they are; `skip` drops the byte order mark in front of them."""
        self._raw, self._pieces, self._rest, self.offset = raw, pieces, b"", offset
        if skip:
            self._take(skip)

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes, fewer only at the end of the stream."""
        data = self._take(size)
        self.offset += len(data)
        return data

    def _take(self, size: int) -> bytes:
        if self._pieces is None:
            first = self._raw.read(size)
            if len(first) == size or not first:
                return first
            parts, have = [first], len(first)
            while have < size and (more := self._raw.read(size - have)):
                parts.append(more)
                have += len(more)
            return b"".join(parts)
        parts, have = [self._rest], len(self._rest)
        while have < size:
            piece = next(self._pieces, None)
            if piece is None:
                break
            parts.append(piece)
            have += len(piece)
        data = b"".join(parts)
        self._rest = data[size:]
        return data[:size]


class Source:
    """One file to read: checks what it is when opened and gives its decoded bytes as often as asked.

    Args: `path` of a regular file; `name` as the user knows it (default: the file's name); `max_decoded_bytes` is how
    far a compressed file may expand. Raises FileRejected when the file is missing, no regular file, unreadable, empty,
    blank, or holds something that is not text.
    """

    def __init__(self, path: Path, *, name: str | None = None, max_decoded_bytes: int = MAX_DECODED_BYTES) -> None:
        self.path = path
        self.name = name if name is not None else path.name
        self._max_decoded_bytes = max_decoded_bytes
        self._descriptor, self.bytes_total = open_regular(path, self.name)
        self._parked: tuple[Stream, Digest] | None = None
        try:
            first = RawFile(self._descriptor, self.bytes_total, self.name).read(16)
            self._raw = RawFile(self._descriptor, self.bytes_total, self.name)
            self.compression: Compression | None = detect_compression(first)
            stored = self._stored_head()
            self.encoding: Encoding = detect_encoding(stored)
            refuse_foreign(stored, self.encoding, self.name, compressed=self.compression is not None)
            self._head = self.stream().read(HEAD_BYTES)
            self._refuse_blank()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file; reading afterwards fails."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def bytes_read(self) -> int:
        """Stored bytes read in the latest pass, for progress against `bytes_total`."""
        return self._raw.position

    def head(self, size: int = HEAD_BYTES) -> bytes:
        """The first `size` decoded bytes; does not move any other reader."""
        return self._head[:size] if size <= len(self._head) else self.stream().read(size)

    def stream(self, start: int = 0) -> Stream:
        """Decoded bytes from decoded offset `start`; continues without rereading where `verify_prefix` stopped."""
        if self._parked is not None and self._parked[0].offset == start:
            stream, self._parked = self._parked[0], None
            return stream
        mark = self.encoding.mark_bytes
        if self.compression is None and self.encoding.codec is None:
            self._raw = RawFile(
                self._descriptor, self.bytes_total, self.name, position=min(start + mark, self.bytes_total)
            )
            return Stream(self._raw, None, skip=0, offset=start)
        self._raw = RawFile(self._descriptor, self.bytes_total, self.name)
        pieces = self._stored_pieces(self._raw)
        if self.encoding.codec is None:
            stream = Stream(self._raw, pieces, skip=mark, offset=0)
        else:
            stream = Stream(self._raw, transcode(pieces, self.encoding, self.name), skip=0, offset=0)
        while stream.offset < start and stream.read(min(PIECE_BYTES, start - stream.offset)):
            pass
        return stream

    def blocks(self, block_size: int = PIECE_BYTES, start: int = 0) -> Iterator[bytes]:
        """Decoded blocks of `block_size` bytes (the last may be shorter) from decoded offset `start`."""
        stream = self.stream(start)
        while block := stream.read(block_size):
            yield block

    def prefix_digest(self, offset: int) -> Digest:
        """SHA-256 over the first `offset` decoded bytes; the next `stream(offset)` goes on from there.

        Raises FileRejected when the file holds fewer bytes.
        """
        if self._parked is not None and self._parked[0].offset == offset:
            return self._parked[1].copy()
        digest: Digest = hashlib.sha256()
        self._parked = None
        stream = self.stream()
        while stream.offset < offset and (block := stream.read(min(PIECE_BYTES, offset - stream.offset))):
            digest.update(block)
        if stream.offset < offset:
            raise FileRejected(
                self.name,
                f"{offset:,} bytes of it were read before, and now it holds {stream.offset:,}.",
                "Load the original file again, or load this one as a new file.",
            )
        self._parked = (stream, digest)
        return digest.copy()

    def verify_prefix(self, offset: int, hexdigest: str) -> bool:
        """Whether the first `offset` decoded bytes still have this SHA-256; leaves `stream(offset)` ready to go on."""
        try:
            return self.prefix_digest(offset).hexdigest() == hexdigest
        except FileRejected:
            return False

    def _stored_pieces(self, raw: RawFile) -> Iterator[bytes]:
        if self.compression is not None:
            return inflate(raw, self.compression, self.name, self._max_decoded_bytes)
        return iter(lambda: raw.read(PIECE_BYTES), b"")

    def _stored_head(self) -> bytes:
        """The first bytes after decompression and before any change of encoding."""
        parts, have = [], 0
        for piece in self._stored_pieces(RawFile(self._descriptor, self.bytes_total, self.name)):
            parts.append(piece[: HEAD_BYTES - have])
            have += len(parts[-1])
            if have >= HEAD_BYTES:
                break
        return b"".join(parts)

    def _refuse_blank(self) -> None:
        if not self._head:
            raise FileRejected(self.name, "It is empty: it holds no bytes.", "Check the export that wrote it.")
        if self._head.isspace() and all(block.isspace() for block in self.blocks()):
            raise FileRejected(self.name, "It holds only blank lines.", "Check the export that wrote it.")


def open_regular(path: Path, name: str) -> tuple[int, int]:
    """Open a regular, non-empty file for reading: (descriptor, size in bytes); raises FileRejected otherwise."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise FileRejected(name, "It is a directory.", "Name the files in it instead.")
        if not stat.S_ISREG(mode):
            raise FileRejected(name, "It is not a regular file (a pipe or a device).", "Write it to a file first.")
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError as error:
        raise FileRejected(name, f"There is no file {path}.", "Check the path.") from error
    except OSError as error:
        raise FileRejected(
            name, f"It cannot be opened: {error.strerror}.", "Check the path and its permissions."
        ) from error
    size = os.fstat(descriptor).st_size
    if size == 0:
        os.close(descriptor)
        raise FileRejected(name, "It is empty: it holds no bytes.", "Check the export that wrote it.")
    return descriptor, size
