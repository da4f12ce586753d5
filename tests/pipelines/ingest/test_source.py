"""Sources: what is refused when opened, what is decoded, and lies told while reading."""

import gzip
import hashlib
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.ingest import inflate
from pipelines.ingest.chunks import ReaderState
from pipelines.ingest.encodings import UTF8, Encoding, transcode
from pipelines.ingest.source import Source
from pipelines.ingest.window import Window, count_lines, line_ends
from store.errors import FileRejected

TEXT = "".join(f"{number},héllo wörld 日本 😀\r\n" for number in range(20_000))

Pack = Callable[[bytes], bytes]


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def members(data: bytes) -> bytes:
    half = len(data) // 2
    return gzip.compress(data[:half]) + gzip.compress(b"") + gzip.compress(data[half:]) + bytes(512)


def frames(data: bytes) -> bytes:
    half = len(data) // 2
    skippable = b"\x50\x2a\x4d\x18" + (3).to_bytes(4, "little") + b"abc"
    return skippable + zstd(data[:half]) + skippable + zstd(data[half:])


def write(folder: Path, data: bytes) -> Path:
    path = folder / "file"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("pack", [bytes, gzip.compress, members, zstd, frames])
@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "utf-32-be"])
def test_the_same_text_comes_out_of_every_packing(tmp_path: Path, pack: Pack, codec: str) -> None:
    mark = "\ufeff" if codec.endswith("-be") else ""
    path = write(tmp_path, pack((mark + TEXT).encode(codec)))
    expected = TEXT.encode()
    with Source(path) as source:
        assert b"".join(source.blocks(10_007)) == expected
        assert source.bytes_read == source.bytes_total == path.stat().st_size
        assert b"".join(source.blocks(4096, start=123_457)) == expected[123_457:]
        assert source.head(100) == expected[:100]
        assert source.head(100_000) == expected[:100_000]
        assert list(source.blocks(start=len(expected) + 5)) == []


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40), st.sampled_from(["utf-16-le", "utf-16-be", "utf-32-le"]), st.integers(1, 5))
def test_transcoding_does_not_depend_on_the_pieces(text: str, codec: str, size: int) -> None:
    data = ("\ufeff" + text).encode(codec)
    pieces = iter([data[at : at + size] for at in range(0, len(data), size)])
    encoding = Encoding("x", codec, len("\ufeff".encode(codec)))
    assert b"".join(transcode(pieces, encoding, "file")) == text.encode()


def test_a_lone_surrogate_becomes_invalid_utf8_and_half_a_character_is_refused() -> None:
    encoding = Encoding("UTF-16", "utf-16-le", 2)
    data = "\ufeffab".encode("utf-16-le") + b"\x00\xd8" + "c".encode("utf-16-le")
    with pytest.raises(UnicodeDecodeError):
        b"".join(transcode(iter([data]), encoding, "file")).decode()
    with pytest.raises(FileRejected, match="cannot be decoded near byte 5"):
        list(transcode(iter([data[:5]]), encoding, "file"))
    with pytest.raises(ValueError, match="no transcoding"):
        list(transcode(iter([b""]), UTF8, "file"))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "It is empty"),
        (b" \n\t\r\n", "only blank lines"),
        (b"\xef\xbb\xbf", "It is empty"),
        (b"\xef\xbb\xbf\n\n", "only blank lines"),
        (b" " * 200_000 + b"\n", "only blank lines"),
        (gzip.compress(b""), "It is empty"),
        (zstd(b"\n" * 10), "only blank lines"),
        (b"PK\x03\x04" + bytes(30) + b"xl/workbook.xml", "Excel workbook"),
        (b"PK\x03\x04" + bytes(30) + b"a.csv", "a zip archive"),
        (b"%PDF-1.7\n%\xe2\xe3\x00", "a PDF document"),
        (b"SQLite format 3\x00" + bytes(100), "SQLite database"),
        (b"\x01" * 8 + b"DUCK" + bytes(100), "a DuckDB database"),
        (b"PAR1\x15\x04\x15", "a Parquet file"),
        (gzip.compress(b"PAR1\x15\x04\x15"), "Inside its compression it is a Parquet file"),
        (gzip.compress(gzip.compress(b"a,b\n1,2\n")), "Inside its compression it is gzip data"),
        (gzip.compress(b"name" + bytes(253) + b"ustar\x0000" + bytes(200)), "a tar archive"),
        ("a,b\n1,2\n".encode("utf-16-le"), "UTF-16 without a byte order mark"),
        ("a,b\n1,2\n".encode("utf-16-be"), "UTF-16 without a byte order mark"),
        (bytes(range(1, 200)) + bytes(200), "It is not text: 200 of its first 399 bytes are NUL"),
    ],
    # Compressed bytes hold the time: as names of tests they would differ between the processes that run them.
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_text_is_refused_by_name(tmp_path: Path, data: bytes, problem: str) -> None:
    with pytest.raises(FileRejected, match=problem):
        Source(write(tmp_path, data))


def test_texts_that_begin_like_other_formats_are_texts(tmp_path: Path) -> None:
    for data in (
        b"PAR1,PAR2\n1,2\n",
        b"%PDF,x\n1,2\n",
        b"id,bird\nDUCK,1\n",
        b"BZh,1AY&SY\n",
        b"a,b\n1,\x00\n" + b"2,3\n" * 9,
    ):
        with Source(write(tmp_path, data)) as source:
            assert b"".join(source.blocks()) == data


def test_only_regular_readable_files_are_opened(tmp_path: Path) -> None:
    with pytest.raises(FileRejected, match="is a directory"):
        Source(tmp_path)
    with pytest.raises(FileRejected, match="There is no file"):
        Source(tmp_path / "missing.csv")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileRejected, match="not a regular file"):
        Source(tmp_path / "pipe")
    with pytest.raises(FileRejected, match="cannot be opened"):
        Source(write(tmp_path, b"a") / "below")
    with pytest.raises(FileRejected, match=r"^upload\.csv: "):
        Source(tmp_path, name="upload.csv")


def test_a_file_that_shrinks_is_refused_and_growth_is_left_for_later(tmp_path: Path) -> None:
    path = write(tmp_path, b"a,b\n" * 50_000)
    with Source(path) as source:
        blocks = source.blocks(1000)
        next(blocks)
        with path.open("ab") as file:
            file.write(b"later\n")
        assert sum(map(len, blocks)) == 199_000
        blocks = source.blocks(1000)
        next(blocks)
        os.truncate(path, 150_500)
        with pytest.raises(FileRejected, match=r"shrank from 200,000 to 150,500 bytes while being read"):
            list(blocks)


def test_an_early_end_is_found_by_position(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(100_000).hex().encode()
    for pack in (gzip.compress, zstd):
        packed = pack(data)
        with pytest.raises(FileRejected, match=f"ends early, at byte {len(packed) - 7:,}"):
            list(Source(write(tmp_path, packed[:-7])).blocks())


def test_damage_is_found_by_position(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(100_000).hex().encode()
    packed = gzip.compress(data)
    for broken in (
        packed[:50_000] + b"\xff" * 50 + packed[50_050:],
        packed[:-8] + b"\0" * 8,
        packed + b"something else",
    ):
        with pytest.raises(FileRejected, match=r"gzip data is damaged near byte [\d,]+"):
            list(Source(write(tmp_path, broken)).blocks())
    packed = zstd(data)
    for broken in (packed[:50_000] + b"\xff" * 50 + packed[50_050:], packed + b"something else"):
        with pytest.raises(FileRejected, match=r"zstd data is damaged near byte [\d,]+"):
            list(Source(write(tmp_path, broken)).blocks())


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_bombs_stop_early(tmp_path: Path, pack: Pack) -> None:
    path = write(tmp_path, pack(b"a" * (80 << 20)))
    sizes: list[int] = []
    with Source(path) as source, pytest.raises(FileRejected, match="more than 200 times, as in a decompression bomb"):
        sizes.extend(map(len, source.blocks()))
    assert inflate.RATIO_FREE_BYTES - (2 << 20) < sum(sizes) <= inflate.RATIO_FREE_BYTES + (32 << 20)
    path = write(tmp_path, pack(b"abc\n" * 50_000))
    with pytest.raises(FileRejected, match="more than 150,000 bytes"):
        Source(path, max_decoded_bytes=150_000)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd])
def test_a_prefix_is_verified_and_reading_goes_on_behind_it(tmp_path: Path, pack: Pack) -> None:
    data = TEXT.encode()
    with Source(write(tmp_path, pack(data))) as source:
        digest = hashlib.sha256(data[:400_000]).hexdigest()
        assert source.verify_prefix(400_000, digest)
        before = source.bytes_read
        assert next(source.blocks(10, start=400_000)) == data[400_000:400_010]
        assert source.bytes_read >= before > 0
        assert not source.verify_prefix(399_999, digest)
        assert not source.verify_prefix(len(data) + 1, hashlib.sha256(data).hexdigest())
        assert source.verify_prefix(0, hashlib.sha256().hexdigest())


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from(["fill", "consume", "ahead"]), max_size=30),
    st.lists(st.integers(0, 400_000), min_size=30, max_size=30),
)
def test_a_window_shows_every_byte_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], sizes: list[int]
) -> None:
    data = TEXT.encode() * 6
    path = write(tmp_path_factory.mktemp("window"), data)
    with Source(path) as source:
        window = Window(source, ReaderState())
        at = 0
        for step, size in zip(steps, sizes, strict=False):
            if step == "fill":
                window.fill(size)
                assert len(window.data) >= min(size, len(data) - at)
            elif step == "consume":
                size = min(size, len(data) - at)
                window.consume(size)
                at += size
            else:
                seen = b""
                for block in window.ahead():
                    seen += block
                    if len(seen) > size:
                        break
                assert data[at : at + len(seen)] == seen
            assert window.offset == at
            assert data[at : at + len(window.data)] == window.data
        window.fill(len(data))
        assert window.data == data[at:]
        window.consume(len(window.data))
        assert window.sha256 == hashlib.sha256(data).hexdigest()
        window.close()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"x", b""]), max_size=20).map(b"".join), st.integers(0, 20))
def test_lines_are_counted_as_python_splits_them(data: bytes, cut: int) -> None:
    ends = line_ends(data, final=True)
    lines = data.splitlines(keepends=True)
    complete = [line for line in lines if line[-1:] in b"\r\n"]
    assert len(ends.stop) == len(complete) == count_lines(data)
    starts = [0, *ends.next.tolist()]
    assert [data[a:b] for a, b in zip(starts, ends.stop.tolist(), strict=False)] == [
        line.rstrip(b"\r\n") for line in complete
    ]
    first, second = data[:cut], data[cut:]
    assert count_lines(first) + count_lines(second, first[-1] if first else None) == count_lines(data)
