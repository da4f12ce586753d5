"""Parquet reading: types made plain, chunks that do not matter, and files that lie."""

import datetime as dt
import decimal
import json
import math
import uuid
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.ingest.chunks import Chunk, ReaderState
from pipelines.ingest.parquet_records import count_rows, is_parquet, read_parquet, same_parquet
from store.errors import FileRejected


def write(folder: Path, table: pa.Table, **options: Any) -> Path:
    path = folder / "rows"
    pq.write_table(table, path, **options)
    return path


def rows_of(chunks: list[Chunk]) -> list[tuple[int, dict[str, Any]]]:
    out: list[tuple[int, dict[str, Any]]] = []
    for chunk in chunks:
        assert chunk.received == chunk.table.num_rows + len(chunk.rejects)
        assert set(chunk.line.to_pylist()) <= {0}
        out += zip(chunk.record_no.to_pylist(), chunk.table.to_pylist(), strict=True)
    return out


def test_every_type_becomes_a_plain_one(tmp_path: Path) -> None:
    moment = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    ident = uuid.UUID("12345678-1234-5678-1234-567812345678")
    table = pa.table(
        {
            "text": pa.array(["é", None]),
            "large": pa.array(["x", None], pa.large_string()),
            "word": pa.array(["a", "a"]).dictionary_encode(),
            "whole": pa.array([1, None], pa.int32()),
            "real": pa.array([math.nan, math.inf]),
            "half": pa.array([1.5, None], pa.float16()),
            "flag": pa.array([True, None]),
            "price": pa.array([decimal.Decimal("1.25"), None]),
            "zoned": pa.array([moment, None], pa.timestamp("us", "UTC")),
            "naive": pa.array([moment.replace(tzinfo=None), None], pa.timestamp("ms")),
            "day": pa.array([dt.date(2026, 1, 2), None]),
            "took": pa.array([dt.timedelta(seconds=1.5), None], pa.duration("us")),
            "bytes": pa.array([b"caf\xc3\xa9", b"\xff\x00"]),
            "hash": pa.array([b"abcd", None], pa.binary(4)),
            "nothing": pa.array([None, None]),
            "list": pa.array([[1.0, math.nan, None], None]),
            "struct": pa.array([{"a": 'q"', "t": moment}, None]),
            "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
            "uuid": pa.array([ident.bytes, None], pa.uuid()),
        }
    )
    chunk = next(read_parquet(write(tmp_path, table)))
    first, second = chunk.table.to_pylist()
    assert math.isnan(first.pop("real"))
    assert second.pop("real") == math.inf
    assert first == {
        "text": "é",
        "large": "x",
        "word": "a",
        "whole": 1,
        "half": 1.5,
        "flag": True,
        "price": 1.25,
        "zoned": moment,
        "naive": moment.replace(tzinfo=None),
        "day": dt.date(2026, 1, 2),
        "took": 1.5,
        "bytes": "café",
        "hash": "61626364",
        "nothing": None,
        "list": "[1.0,null,null]",
        "struct": '{"a":"q\\"","t":"2026-01-02 03:04:05+00"}',
        "map": '{"k":1}',
        "uuid": str(ident),
    }
    assert second == dict.fromkeys(first) | {"word": "a", "bytes": "ff00"}
    assert json.loads(chunk.raw(1)[0])["bytes"] == "ff00"
    for name in ("text", "large", "word", "bytes", "hash", "nothing", "list", "struct", "map", "uuid"):
        assert chunk.table.schema.field(name).type == pa.string()


def test_intervals_of_the_engine_are_seconds(tmp_path: Path) -> None:
    path = tmp_path / "intervals"
    with duckdb.connect() as connection:
        connection.execute(
            f"""COPY (SELECT INTERVAL '1 month 2 days 3.5 seconds' AS took, '{{}}'::JSON AS meta)
            TO '{path}' (FORMAT parquet)"""
        )
    assert rows_of(list(read_parquet(path))) == [(1, {"took": 32 * 86_400 + 3.5, "meta": "{}"})]


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 200), st.integers(1, 50), st.integers(1, 40), st.integers(100, 4_000))
def test_chunks_do_not_matter_and_reading_goes_on(
    tmp_path_factory: pytest.TempPathFactory, count: int, group: int, chunk_rows: int, chunk_bytes: int
) -> None:
    table = pa.table({"n": range(count), "text": [f"row {number}" * (number % 5) for number in range(count)]})
    path = write(tmp_path_factory.mktemp("parquet"), table, row_group_size=group)
    expected = list(enumerate(table.to_pylist(), 1))
    chunks = list(read_parquet(path, chunk_rows=chunk_rows, chunk_bytes=chunk_bytes))
    assert rows_of(chunks) == rows_of(list(read_parquet(path))) == expected
    assert count_rows(path) == count
    for chunk in chunks:
        assert same_parquet(path, chunk.state)
        assert chunk.state.offset == chunk.next_record_no - 1
        rest = list(read_parquet(path, state=chunk.state, chunk_rows=chunk_rows))
        assert rows_of(rest) == expected[chunk.state.offset :]


def test_texts_that_are_not_utf8_are_rejected(tmp_path: Path) -> None:
    bad = pa.Array.from_buffers(
        pa.string(),
        3,
        [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\4\0\0\0\5\0\0\0"), pa.py_buffer(b"acafe"[:1] + b"\xe9afb")],
    )
    path = write(tmp_path, pa.table({"id": [1, 2, 3], "text": bad}))
    chunk = next(read_parquet(path))
    assert rows_of([chunk]) == [(1, {"id": 1, "text": "a"}), (3, {"id": 3, "text": "b"})]
    reject = chunk.rejects[0]
    assert (reject.record_no, reject.line, reject.column, reject.raw) == (2, 0, "text", "\\xe9af")
    assert chunk.reject(1, "unknown", "id").record_no == 3


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    table = pa.table({"n": range(5_000), "text": [f"{number * 7919}" for number in range(5_000)]})
    data = write(tmp_path, table, compression="zstd", row_group_size=1_000).read_bytes()
    broken = tmp_path / "broken"
    middle = len(data) // 2
    for content, problem in (
        (b"PAR1", "does not end as one"),
        (data[:-100], "does not end as one"),
        (b"PAR1" + bytes(100) + b"PAR1", "damaged or incomplete"),
        (data[:-40] + b"\xff" * 30 + data[-10:], "damaged or incomplete|does not end"),
        (data[: middle - 2000] + b"\0" * 4000 + data[middle + 2000 :], "damaged or incomplete"),
    ):
        broken.write_bytes(content)
        assert is_parquet(broken)
        with pytest.raises(FileRejected, match=problem):
            list(read_parquet(broken))
    with pytest.raises(FileRejected, match="It has no rows"):
        list(read_parquet(write(tmp_path, table.slice(0, 0))))
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(FileRejected, match="same column more than once: 'a'"):
        list(read_parquet(write(tmp_path, twice)))
    wide = pa.table({f"c{number}": [1] for number in range(2_001)})
    with pytest.raises(FileRejected, match="2,001 columns"):
        list(read_parquet(write(tmp_path, wide)))
    with pytest.raises(FileRejected, match="There is no file"):
        list(read_parquet(tmp_path / "missing"))
    with pytest.raises(FileRejected, match="is a directory"):
        list(read_parquet(tmp_path))


def test_a_changed_file_is_not_read_on(tmp_path: Path) -> None:
    table = pa.table({"n": range(10)})
    state = next(read_parquet(write(tmp_path, table), chunk_rows=4)).state
    path = write(tmp_path, pa.table({"n": range(1, 11)}))
    assert not same_parquet(path, state)
    assert not same_parquet(tmp_path / "missing", state)
    with pytest.raises(FileRejected, match="was changed"):
        list(read_parquet(path, state=state))
    assert same_parquet(write(tmp_path, table), state)


def test_only_the_first_bytes_tell_parquet(tmp_path: Path) -> None:
    assert is_parquet(write(tmp_path, pa.table({"a": [1]})))
    (tmp_path / "text").write_bytes(b"a,b\n")
    assert not is_parquet(tmp_path / "text")
    assert not is_parquet(tmp_path)
    assert not is_parquet(tmp_path / "missing")
    assert ReaderState().at_start


def test_a_long_text_repeated_by_a_dictionary_is_read_in_small_steps(tmp_path: Path) -> None:
    table = pa.table({"prompt": pa.array(["x" * 20_000] * 20_000).dictionary_encode()})
    path = write(tmp_path, table)
    assert path.stat().st_size < 1_000_000
    sizes = [chunk.table.num_rows for chunk in read_parquet(path, chunk_bytes=10_000_000)]
    assert sum(sizes) == 20_000
    assert max(sizes) == 2_048
