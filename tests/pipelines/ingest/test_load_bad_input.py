"""Bad input: each kind with the exact outcome, and a message that says what came, where, and what to do."""

import gzip
import io
import json
import os
import random
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from loading import loaded, rejects_of, staged, table, write_rows
from publishing import state

from pipelines.ingest.load import load
from store import batches
from store.connection import Store
from store.errors import FileRejected

ROOT = Path(__file__).resolve().parents[3]

_HEAD = b"trace_id,input,output\n"
_ROWS = b"t1,q1,a1\nt2,q2,a2\n"
_TABLE = _HEAD + _ROWS
_RECORD = {"trace_id": "t1", "input": "q", "output": "a"}
_LINE = json.dumps(_RECORD).encode() + b"\n"
_DEEP = b'{"trace_id":"d","input":' + b"[" * 10_000 + b"]" * 10_000 + b"}"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One store on disk with a few rows, for the many files that are tried on it."""
    folder = tmp_path_factory.mktemp("shared")
    store = Store.open(folder / "store" / "t.duckdb", threads=1)
    loaded(store, write_rows(folder, "first.jsonl", [{"trace_id": "first", "input": "q", "output": "a"}]))
    yield store
    store.close()


def refused(store: Store, path: Path, message: str, **options) -> str:
    """Assert that a file is rejected as a whole with this in its message, and that nothing of it is left."""
    before = state(store)
    with pytest.raises(FileRejected) as caught:
        load(store, path, **options)
    text = str(caught.value)
    assert message in text
    assert text.startswith(f"{path.name}: ")
    assert text.endswith(" Nothing of it was loaded.")
    batch = batches.recent(store, 1).to_dicts()[0]
    assert (batch["state"], batch["error"], batch["file_name"]) == ("failed", text, path.name)
    assert (batch["received"], batch["slices_done"]) == (0, 0)
    assert state(store) == before
    assert staged(store) == []
    return text


# Files that cannot be loaded at all


def _xlsx() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return buffer.getvalue()


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("traces.csv", _TABLE)
    return buffer.getvalue()


_NOISE = random.Random(1).randbytes(4_000).replace(b"\0", b"\x80")
_HUGE = _HEAD + b"t1," + b"x" * (120 << 20) + b",a\n"
_WIDE = ",".join(["trace_id", "input", *(f"c{i}" for i in range(2_998))]).encode()

_REFUSED = {
    "empty.csv": (b"", "It is empty: it holds no bytes."),
    "blank.jsonl": (b"\n \r\n\t\n", "It holds only blank lines."),
    "header.csv": (_HEAD, "It has a header and no rows."),
    "empty-list.json": (b"[ ]", "Its list of records is empty."),
    "empty-objects.jsonl": (b"{}\n{}\n", "Its records are empty objects."),
    "utf16.csv": ((_TABLE * 9).decode().encode("utf-16-le"), "It looks like UTF-16 without a byte order mark. Save it"),
    "half.csv": (_TABLE.decode().encode("utf-16")[:-1], "Its UTF-16 text cannot be decoded near byte"),
    "latin.csv": ("trace_id,café,input\nt1,x,y\n".encode("latin-1"), "Its header (line 1) is not UTF-8: byte 0xE9."),
    "nul.csv": (b"trace_id,in\0put\nt1,q\n", "Its header (line 1) holds NUL bytes."),
    "quote.csv": (b'trace_id,"in"put\nt1,q\n', "A quote in its header (line 1) is not closed properly."),
    "twice.csv": (
        b"trace_id,input,input\nt1,a,b\n",
        "the same name more than once: 'input' (columns 2, 3). Give every",
    ),
    "wide.csv": (_WIDE + b"\n" + b"," * 2_999 + b"\n", "It has 3,000 columns; at most 2,000 are read. Export fewer"),
    "deep.json": (_DEEP, "the JSON is nested deeper than 64 levels (column 88). Repair it"),
    "deep-list.json": (b"[" * 10_000 + b"]" * 10_000, "The first (line 1): the JSON is nested deeper than 64 levels"),
    "scalar.json": (b"42", "Nothing is recognised in its columns (column_1). Expected CSV with a header, JSON objects"),
    "scalars.json": (
        b"[1, 2, 3]",
        "None of its records can be read. The first (line 1): expected a JSON object, found",
    ),
    "prose.txt": (b"Once upon a time\nthere was a file\n", "Nothing is recognised in its columns (Once upon a time)"),
    "cut.json": (
        b'[{"trace_id":"t1","input":"q"},\n{"trace_id"',
        "is cut off: record 2 or what follows it, from line 1, byte 32 on",
    ),
    "trailing.json": (b'[{"trace_id":"t1","input":"q"}] x', "Line 1, byte 33: something follows the end of the JSON"),
    "bomb.csv.gz": (gzip.compress(_HUGE, 9), "more than 200 times, as in a decompression bomb. Decompress it yourself"),
    "bomb.csv.zst": (zstandard.compress(_HUGE), "more than 200 times, as in a decompression bomb. Decompress it yours"),
    "cut.csv.gz": (gzip.compress(_HEAD + _NOISE.hex().encode())[:-99], "Its gzip data ends early, at byte"),
    "cut.csv.zst": (zstandard.compress(_HEAD + _NOISE.hex().encode())[:-99], "Its zstd data ends early, at byte"),
    "book.csv": (_xlsx(), "It is an Excel workbook (.xlsx), not text. Export the data as CSV"),
    "archive.csv": (_zip(), "It is a zip archive, not text."),
    "paper.csv": (b"%PDF-1.7\n\x00\x01" + _NOISE, "It is a PDF document, not text."),
    "base.csv": (b"SQLite format 3\x00" + b"\x10\x00" * 400, "It is an SQLite database, not text."),
    "image.csv": (b"\x89PNG\r\n\x1a\n" + _NOISE, "It is a PNG image, not text."),
    "noise.csv": (b"\x80" + _NOISE, "is not UTF-8"),
    "page.csv": (b"<!DOCTYPE html><html></html>", "It is a web page or an XML document"),
    "cut.parquet": (b"PAR1" + _NOISE, "It is a damaged or incomplete Parquet file"),
    "broken.parquet": (b"PAR1" + _NOISE + b"\x10\x00\x00\x00PAR1", "It is a damaged or incomplete Parquet file"),
}


@pytest.mark.parametrize("name", _REFUSED)
def test_a_file_that_cannot_be_loaded_leaves_the_store_alone(shared: Store, tmp_path: Path, name: str) -> None:
    content, message = _REFUSED[name]
    path = tmp_path / name
    path.write_bytes(content)
    refused(shared, path, message)


def test_what_is_no_file_is_refused(shared: Store, tmp_path: Path) -> None:
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    refused(shared, folder, "It is a directory. Name the files in it instead.")
    refused(shared, tmp_path / "missing.csv", f"There is no file {tmp_path / 'missing.csv'}. Check the path.")
    loop, other = tmp_path / "loop.csv", tmp_path / "other.csv"
    loop.symlink_to(other)
    other.symlink_to(loop)
    refused(shared, loop, "It cannot be opened: Too many levels of symbolic links.")
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    refused(shared, pipe, "It is not a regular file (a pipe or a device).")
    with pytest.raises(FileRejected, match="Its path holds a NUL byte"):
        load(shared, tmp_path / "nul\0.csv")
    refused(shared, tmp_path / ("x" * 300), "It cannot be opened: File name too long.")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(shared: Store, tmp_path: Path) -> None:
    path = tmp_path / "secret.csv"
    path.write_bytes(_TABLE)
    path.chmod(0)
    refused(shared, path, "It cannot be opened: Permission denied. Check the path and its permissions.")


def test_a_file_whose_name_is_no_text_is_loaded(shared: Store, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.csv"))
    path.write_bytes(_TABLE)
    assert loaded(shared, path).file == "caf\\udce9.csv"
    path.unlink()
    with pytest.raises(FileRejected, match="There is no file"):
        load(shared, path)
    assert "caf\\udce9.csv" in batches.recent(shared, 1).to_dicts()[0]["error"]


def test_parquet_with_wrong_columns_is_refused(shared: Store, tmp_path: Path) -> None:
    path = tmp_path / "twice.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 2, names=["trace_id", "trace_id"]), path)
    refused(shared, path, "It has the same column more than once: 'trace_id'.")
    path = tmp_path / "none.parquet"
    pq.write_table(pa.table({"trace_id": pa.array([], pa.string()), "input": pa.array([], pa.string())}), path)
    refused(shared, path, "It has no rows.")


# Files of which single records cannot be loaded: (bytes, accepted, [(line, column, part of the reason, start of raw)])

_REJECTED = {
    "latin.csv": (
        _HEAD + "t0,café,a\n".encode("latin-1") + _ROWS,
        2,
        [(2, None, "byte 7 is 0xE9 (invalid continuation byte); save the file as UTF-8", "t0,caf\\xe9,a")],
    ),
    "latin.jsonl": (
        _LINE + '{"trace_id":"t2","input":"café"}\n'.encode("latin-1") + _LINE,
        1,
        [(2, None, "byte 30 is 0xE9", '{"trace_id":"t2","input":"caf\\xe9"}')],
    ),
    "nul.csv": (
        _HEAD + b"t0,q\0x,a\n" + _ROWS,
        2,
        [(2, None, "it contains a NUL byte (byte 5 of the record); remove it", "t0,q\\x00x,a")],
    ),
    "nul.jsonl": (_LINE + b'{"trace_id":"t\x002"}\n', 1, [(2, None, "NUL byte (byte 15 of the record)", '{"trace')]),
    "unclosed.csv": (
        _HEAD + b't0,"oops,a\n' + _ROWS,
        2,
        [(2, "input", 'the quote opened at character 4 (field 2, "input") is not closed properly', 't0,"oops,a')],
    ),
    "unclosed-last.csv": (_TABLE + b't3,"oops,a\n', 2, [(4, "input", "is not closed properly", 't3,"oops,a')]),
    "widths.csv": (
        _HEAD + b"t0,q\n" + _ROWS + b"t9,q,a,extra\n",
        2,
        [
            (2, None, "the row has 2 fields, expected 3 (trace_id, input, output)", "t0,q"),
            (5, None, "the row has 4 fields, expected 3 (trace_id, input, output)", "t9,q,a,extra"),
        ],
    ),
    "cell.csv": (
        _HEAD + b"t0," + b"x" * (50 << 20) + b",a\n" + _ROWS,
        2,
        [(2, None, "the record has 52,428,805 bytes, more than the 16,777,216 that one record may have", "t0,xxxx")],
    ),
    "cell.jsonl": (
        b'{"trace_id":"t0","input":"' + b"x" * (50 << 20) + b'"}\n' + _LINE,
        1,
        [(1, None, "the record has 52,428,828 bytes, more than the 16,777,216", '{"trace_id":"t0","input":"xx')],
    ),
    "deep.jsonl": (
        _LINE + _DEEP + b"\n",
        1,
        [(2, None, "the JSON is nested deeper than 64 levels (column 88)", '{"trace_id":"d","input":[[[')],
    ),
    "deep-item.json": (b"[" + _LINE + b",\n" + _DEEP + b"]", 1, [(3, None, "nested deeper than 64 levels", '{"trace')]),
    "items.json": (
        b"[1," + _LINE + b",null]",
        1,
        [(1, None, "expected a JSON object, found a number", "1"), (2, None, "found null", "null")],
    ),
    "numbers.csv": (
        b"trace_id,input,input_tokens\nt1,q, 12 \nt2,q,1e3\nt3,q,twelve\nt4,q,1.5\nt5,q,-1\n",
        2,
        [
            (4, "input_tokens", 'Column "input_tokens" has "twelve"; expected a whole number.', "t3,q,twelve"),
            (5, "input_tokens", 'Column "input_tokens" has "1.5"; expected a whole number.', "t4,q,1.5"),
            (6, "input_tokens", 'has "-1"; expected a number of tokens, 0 or more.', "t5,q,-1"),
        ],
    ),
    "numbers.jsonl": (
        b'{"trace_id":"t1","input":"q","input_tokens":"12"}\n{"trace_id":"t2","input":1,"input_tokens":true}\n',
        1,
        [(2, "input_tokens", 'has "true"; expected a whole number.', '{"trace_id":"t2"')],
    ),
    "nan.csv": (
        b"trace_id,input,cost_usd\nt1,q,NaN\nt2,q,Infinity\nt3,q,-inf\nt4,q,1\n",
        1,
        [
            (2, "cost_usd", 'Column "cost_usd" has "NaN"; expected an amount', "t1,q,NaN"),
            (3, "cost_usd", 'Column "cost_usd" has "Infinity"; expected an amount', "t2,q,Infinity"),
            (4, "cost_usd", 'Column "cost_usd" has "-inf"; expected an amount', "t3,q,-inf"),
        ],
    ),
    "nan.jsonl": (
        _LINE + b'{"trace_id":"t2","cost_usd":NaN}\n{"trace_id":"t3","cost_usd":-Infinity}\n'
        b'{"trace_id":"t4","cost_usd":1e999}\n',
        1,
        [
            (2, None, "NaN is not valid JSON; write null instead (column 29)", '{"trace_id":"t2"'),
            (3, None, "-Infinity is not valid JSON; write null instead (column 30)", '{"trace_id":"t3"'),
            (4, "cost_usd", 'Column "cost_usd" has "1e999"; expected an amount', '{"trace_id":"t4"'),
        ],
    ),
    "dates.csv": (
        b"trace_id,input,started_at\nt1,q,1970-01-01T00:00:00Z\nt2,q,2170-01-01T00:00:00Z\nt3,q,2026-02-30\n"
        b"t4,q,1767225600\nt5,q,2026-03-01T10:00:00Z\n",
        1,
        [
            (2, "started_at", "which is 1970-01-01T00:00:00Z: looks like a time in another unit; expected a", "t1"),
            (3, "started_at", "which is 2170-01-01T00:00:00Z; expected a time from 1990-01-01 to 2100-01-01.", "t2"),
            (4, "started_at", 'has "2026-02-30"; expected a time such as', "t3"),
            (5, "started_at", "(looks like a time in another unit: time_seconds fits); expected a time such", "t4"),
        ],
    ),
    "surrogates.jsonl": (
        b'{"trace_id":"t1","input":"\\ud800 x"}\n{"trace_id":"t2","m\\udc00":1}\n'
        b'{"trace_id":"t3","input":"\\ud83d\\ude00"}\n',
        1,
        [
            (1, None, "\\ud800 is half of a character; it needs its other half (column 27)", '{"trace_id":"t1"'),
            (2, None, "\\udc00 is half of a character; it needs its other half (column 20)", '{"trace_id":"t2"'),
        ],
    ),
    "ids.csv": (_TABLE + b",q,a\n", 2, [(4, "trace_id", 'Column "trace_id" is empty; expected a value', ",q,a")]),
}  # fmt: skip


@pytest.mark.parametrize("name", _REJECTED)
def test_a_bad_record_is_rejected_and_the_others_are_loaded(tmp_path: Path, name: str) -> None:
    content, accepted, wanted = _REJECTED[name]
    path = tmp_path / name
    path.write_bytes(content)
    store = Store.open(None, threads=1)
    report = loaded(store, path)
    assert (report.state, report.accepted, report.traces) == ("done", accepted, accepted)
    found = rejects_of(store, report)
    assert [(line, column) for _, line, column, _, _ in found] == [(line, column) for line, column, _, _ in wanted]
    for (_, _, _, reason, raw), (_, _, part, start) in zip(found, wanted, strict=True):
        assert part in reason
        assert raw.startswith(start)
        assert len(raw) <= 64 << 10
    store.close()


# Files that only look bad


def _values(path: Path, sql: str) -> list[tuple]:
    store = Store.open(None, threads=1)
    report = loaded(store, path)
    assert report.rejected == 0
    rows = table(store, sql).rows()
    store.close()
    return rows


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + _TABLE,
        _TABLE.decode().encode("utf-16"),
        _TABLE.decode().encode("utf-16-be").join([b"\xfe\xff", b""]),
        _TABLE.decode().encode("utf-32"),
        b"trace_id,input,output\r\nt1,q1,a1\nt2,q2,a2\r",
        _HEAD.replace(b",", b";") + _ROWS.replace(b",", b";"),
        _TABLE.replace(b"q1", b'"q1"'),
        b"\n\n" + _TABLE.replace(b"\n", b"\n\n"),
        b"\xef\xbb\xbf" + b"".join(
            json.dumps(dict(zip(("trace_id", "input", "output"), row.split(","), strict=True))).encode() + b"\r\n"
            for row in ("t1,q1,a1", "t2,q2,a2")
        ),
    ],
    ids=["utf-8 mark", "utf-16", "utf-16-be", "utf-32", "line ends", "semicolons", "quotes", "blank lines", "jsonl"],
)  # fmt: skip
def test_marks_encodings_and_line_ends_make_no_difference(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    rows = _values(path, "SELECT trace_id, input, output FROM trace_records ORDER BY trace_id")
    assert rows == [("t1", "q1", "a1"), ("t2", "q2", "a2")]


def test_times_without_a_zone_are_utc(tmp_path: Path) -> None:
    path = tmp_path / "times.csv"
    times = ["2026-03-01 10:00:00", "2026-03-01T10:00:00", "2026-03-01T12:00:00+02:00", "2026-03-01T10:00:00.000000Z"]
    path.write_text("trace_id,input,started_at\n" + "".join(f"t{at},q,{time}\n" for at, time in enumerate(times)))
    assert _values(path, "SELECT count(*), count(DISTINCT started_at) FROM trace_records") == [(4, 1)]
    assert _values(path, "SELECT DISTINCT started_at::VARCHAR FROM trace_records") == [("2026-03-01 10:00:00+00",)]


_ODD_NAMES = ['a"b', "x'; DROP TABLE spans; --", "$1", "a\tb", "SELECT", "{v}", "é👍", "Trace_ID"]


@pytest.mark.parametrize("container", ["csv", "jsonl", "parquet"])
def test_odd_column_names_are_only_names(tmp_path: Path, container: str) -> None:
    names = [*_ODD_NAMES, *(["two\nlines", "", "\0"] if container == "jsonl" else [])]
    row = {**_RECORD, **{name: f"value {at}" for at, name in enumerate(names)}}
    path = write_rows(tmp_path, f"names.{container}", [row, {**row, "trace_id": "t2"}])
    ((metadata,),) = _values(path, "SELECT DISTINCT metadata FROM trace_records")
    assert json.loads(metadata) == {name: f"value {at}" for at, name in enumerate(names)}


@pytest.mark.parametrize("container", ["csv", "jsonl", "parquet"])
def test_ids_may_be_long(tmp_path: Path, container: str) -> None:
    path = write_rows(tmp_path, f"ids.{container}", [{**_RECORD, "trace_id": "t" * (1 << 20)}, _RECORD])
    assert _values(path, "SELECT strlen(trace_id) FROM traces ORDER BY 1") == [(2,), (1 << 20,)]


def test_numbers_beyond_floats_stay_readable_json(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
    path = tmp_path / "chat.jsonl"
    path.write_bytes(b'{"messages":%s,"x":1e999,"y":[-1e999,{"z":1.5}]}\n' % json.dumps(messages).encode())
    ((metadata,),) = _values(path, "SELECT metadata FROM trace_records")
    assert json.loads(metadata, parse_constant=pytest.fail) == {"x": "inf", "y": ["-inf", {"z": 1.5}]}


# Files that change while they are read


def _long(tmp_path: Path, container: str) -> Path:
    """A file of many chunks, 64 bytes of noise in each row."""
    noise = random.Random(2)
    rows = [{"trace_id": f"t{i}", "input": noise.randbytes(32).hex(), "output": "a"} for i in range(20_000)]
    path = write_rows(tmp_path, f"long.{container}", rows)
    if container == "parquet":
        pq.write_table(pq.read_table(path), path, row_group_size=1_000)
    return path


@pytest.mark.parametrize("container", ["csv", "jsonl", "json", "parquet", "csv.gz", "csv.zst"])
def test_a_file_that_shrinks_while_read_is_refused(shared: Store, tmp_path: Path, container: str) -> None:
    path = _long(tmp_path, container)
    size = path.stat().st_size

    def shrink(progress) -> None:
        if path.stat().st_size == size:
            os.truncate(path, progress.bytes_done // 2)

    text = refused(shared, path, "", progress=shrink, chunk_bytes=100_000)
    assert "shrank from" in text or "damaged or incomplete Parquet" in text


def test_what_is_appended_while_reading_belongs_to_the_next_load(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(_TABLE)

    def append(progress) -> None:
        if progress.phase == "reading":
            with path.open("ab") as stream:
                stream.write(b"t3,q3,a3\n")

    assert loaded(store, path, progress=append, chunk_bytes=20).received == 2
    again = loaded(store, path)
    assert (again.duplicate, again.accepted) == (2, 1)


_CHILD = """
import resource, sys
from pathlib import Path
from pipelines.ingest.load import load
from store.connection import Store
peaks = {"reading": [], "publishing": []}
def peak(progress):
    peaks[progress.phase].append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
store = Store.open(Path(sys.argv[1]), threads=1, memory_limit="150MB")
store.write(lambda connection: connection.execute("SET GLOBAL checkpoint_threshold = '8MB'"))
report = load(store, Path(sys.argv[2]), chunk_bytes=1_000_000, progress=peak)
store.close()
for phase in peaks.values():
    print(report.accepted, len(phase), phase[len(phase) // 3], phase[-1])
"""


@pytest.mark.process
def test_memory_stays_flat_as_a_file_grows(tmp_path: Path) -> None:
    """The peak after 60 MB is about that after 20 MB, which is past the first use of everything."""
    noise = random.Random(3)
    path = tmp_path / "spans.jsonl"
    rows = 0
    with path.open("w") as stream:
        while stream.tell() < 60 << 20:
            texts = noise.randbytes(2_000).hex()
            stream.write(
                f'{{"trace_id":"t{rows // 5}","span_id":"s{rows}","kind":"llm","input":"{texts}","extra":{rows}}}\n'
            )
            rows += 1
    command = [sys.executable, "-c", _CHILD, str(tmp_path / "t.duckdb"), str(path)]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    for line in answer.stdout.splitlines():
        accepted, chunks, early, late = map(int, line.split())
        assert accepted == rows
        assert chunks >= 60
        assert late - early < 40, answer.stdout
