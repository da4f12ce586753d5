"""Telling containers by content, peeking without consuming, and going on from a saved state."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from pipelines.ingest.readers import Container, open_records
from store.errors import FileRejected

BIG = {"text": "x" * 200_000}


def lines(*objects: object) -> bytes:
    return "\n".join(json.dumps(value) for value in objects).encode()


@pytest.mark.parametrize(
    ("data", "container"),
    [
        (b"id,text\n1,a\n", Container.CSV),
        (b"id\ttext\n1\ta\n", Container.CSV),
        (b'"{",b\n1,2\n', Container.CSV),
        (b"[]", Container.JSON),
        (b'\n [{"a":1}]', Container.JSON),
        (b'{"a":1}', Container.JSON),
        (b'{"a":1}\n\n', Container.JSON),
        (b'{\n "a": 1\n}\n', Container.JSON),
        (b'{"data":[\n{"a":1},\n{"a":2}\n]}', Container.JSON),
        (b'{"data":[\n{"a":1}\n]}', Container.JSON),
        (json.dumps({"data": [BIG, BIG]}).encode(), Container.JSON),
        (json.dumps({"data": [BIG, BIG]}, indent=2).encode(), Container.JSON),
        (b'{"a":1}\n{"a":2}', Container.JSONL),
        (b'{"a":1}\r{"a":2}', Container.JSONL),
        (b'{"a":1}\n{"a":', Container.JSONL),
        (b'{"a":\n{"a":2}\n{"a":3}\n', Container.JSONL),
        (b'\n{"a":NaN}\n\n{"a":2}\n', Container.JSONL),
        (lines(BIG, BIG), Container.JSONL),
        (lines({"a": 1}, BIG), Container.JSONL),
    ],
)
def test_the_container_is_told_by_content(tmp_path: Path, data: bytes, container: Container) -> None:
    for number, pack in enumerate((bytes, gzip.compress, zstandard.compress)):
        path = tmp_path / f"misleading{number}.parquet"
        path.write_bytes(pack(data))
        opened = open_records(path)
        assert opened.container is container
        opened.close()


def test_peeking_consumes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    records = [{"id": str(number), "text": f"row {number}"} for number in range(20_000)]
    table = pa.Table.from_pylist(records)
    pq.write_table(table, tmp_path / "parquet")
    files = {
        Container.CSV: "id,text\n" + "".join(f"{row['id']},{row['text']}\n" for row in records),
        Container.JSONL: "\n".join(map(json.dumps, records)),
        Container.JSON: json.dumps(records),
    }
    for container in Container:
        path.write_bytes((tmp_path / "parquet").read_bytes() if container not in files else files[container].encode())
        opened = open_records(path, file="given name")
        assert opened.container is container
        assert opened.columns == ["id", "text"]
        assert opened.sample == records[:200]
        chunks = list(opened.chunks(chunk_bytes=100_000))
        assert sum(chunk.table.num_rows for chunk in chunks) == 20_000
        assert opened.bytes_read == opened.bytes_total == path.stat().st_size
        state = opened.state_after(chunks[1])
        assert json.loads(json.dumps(state)) == state
        assert opened.continues(state)
        assert opened.continues(None)
        rest = opened.chunks(state, chunk_bytes=100_000)
        assert next(rest).record_no[0].as_py() == chunks[2].record_no[0].as_py()
        opened.close()
        path.write_bytes(path.read_bytes().replace(b"row 7", b"ROW 7"))
        if container is not Container.PARQUET:
            opened = open_records(path)
            assert not opened.continues(state)
            opened.close()


@pytest.mark.parametrize("data", [b"<!DOCTYPE html>\n<p>Sign in</p>", b'<?xml version="1.0"?><a/>', b"<html></html>"])
def test_web_pages_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "export.csv"
    path.write_bytes(data)
    with pytest.raises(FileRejected, match="a web page or an XML document"):
        open_records(path)


def test_a_file_without_a_readable_record_is_refused_when_peeked(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b"[1, 2]")
    opened = open_records(path)
    with pytest.raises(FileRejected, match="None of its records can be read"):
        _ = opened.sample
    opened.close()
