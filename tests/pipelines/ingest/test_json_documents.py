"""JSON documents against Python's own parser: arrays, envelopes, single objects, and documents that are broken."""

import json
import tempfile
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.ingest.chunks import Chunk, Reject
from pipelines.ingest.json_documents import is_envelope, read_document
from pipelines.ingest.json_structure import Nesting, siblings
from pipelines.ingest.record_bytes import RAW_BYTES
from pipelines.ingest.source import Source
from store.errors import FileRejected


@contextmanager
def source_of(data: bytes) -> Iterator[Source]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        path.write_bytes(data)
        with Source(path) as source:
            yield source


def read(data: bytes, **options: int) -> list[Chunk]:
    with source_of(data) as source:
        return list(read_document(source, **options))  # type: ignore[arg-type]


def rows_of(chunks: list[Chunk]) -> list[tuple[int, int, str]]:
    out: list[tuple[int, int, str]] = []
    for chunk in chunks:
        assert chunk.received == chunk.table.num_rows + len(chunk.rejects)
        columns = (chunk.record_no.to_pylist(), chunk.line.to_pylist(), chunk.table["json"].to_pylist())
        out += zip(*columns, strict=True)
    return out


def rejects_of(chunks: list[Chunk]) -> list[Reject]:
    return [reject for chunk in chunks for reject in chunk.rejects]


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text('ab\\"[]{},:é😀\n', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a\\"],{', max_size=4), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text('a\\"],{', max_size=4), values, max_size=4)
indents = st.sampled_from([None, 0, 2])


@settings(max_examples=60, deadline=None)
@given(st.lists(objects, min_size=1, max_size=8), indents, st.booleans(), st.sampled_from([9, 40, 1 << 20]))
def test_items_of_an_array_are_its_records(items: list[Any], indent: int, ascii_only: bool, chunk_bytes: int) -> None:
    text = json.dumps(items, indent=indent, ensure_ascii=ascii_only)
    rows = rows_of(read(text.encode(), chunk_bytes=chunk_bytes))
    assert [json.loads(row[2]) for row in rows] == items
    assert [row[0] for row in rows] == list(range(1, len(items) + 1))
    lines = text.split("\n")
    for _, line, record in rows:
        assert record.split("\n")[0] in lines[line - 1]


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.text('a\\"],{', max_size=4), values, max_size=3),
    st.lists(objects, min_size=1, max_size=4),
    st.lists(objects, max_size=4),
    indents,
    st.sampled_from([9, 40, 1 << 20]),
)
def test_items_of_all_lists_of_an_envelope_are_records(
    others: dict[str, Any], traces: list[Any], scores: list[Any], indent: int, chunk_bytes: int
) -> None:
    document = {**others, "traces": traces, "meta": {"data": [1]}, "scores": scores, "page": "x"}
    rows = rows_of(read(json.dumps(document, indent=indent).encode(), chunk_bytes=chunk_bytes))
    assert [json.loads(row[2]) for row in rows] == traces + scores


@settings(max_examples=20, deadline=None)
@given(st.lists(objects | st.just("junk"), min_size=2, max_size=6), indents, st.integers(5, 60))
def test_reading_goes_on_from_every_chunk(items: list[Any], indent: int, chunk_bytes: int) -> None:
    for document in (items, {"next": 1, "data": [{}, *items], "x": [], "runs": [*items, {}]}):
        data = json.dumps(document, indent=indent).encode()
        chunks = read(data, chunk_bytes=chunk_bytes)
        for index, chunk in enumerate(chunks):
            with source_of(data) as source:
                rest = list(read_document(source, state=chunk.state, chunk_bytes=chunk_bytes))
            assert rows_of(rest) == rows_of(chunks[index + 1 :])
            assert rejects_of(rest) == rejects_of(chunks[index + 1 :])


SAMPLE = json.dumps(
    {
        "meta": {"a": [1, "}"]},
        "data": [{"id": n, "text": 'x"\\' * (n % 7), "sub": [{"k": n}]} for n in range(60)],
        "z": 1,
    },
    indent=1,
).encode()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_corruption_costs_records_or_the_file_whatever_the_chunks(damage: list[tuple[int, int]]) -> None:
    data = bytearray(SAMPLE)
    for at, byte in damage:
        data[at] = byte
    outcomes: list[Any] = []
    for chunk_bytes in (1 << 20, 100):
        try:
            chunks = read(bytes(data), chunk_bytes=chunk_bytes)
        except FileRejected as error:
            outcomes.append(str(error))
            continue
        outcomes.append((rows_of(chunks), rejects_of(chunks)))
        numbers = sorted([row[0] for row in rows_of(chunks)] + [reject.record_no for reject in rejects_of(chunks)])
        assert numbers == list(range(1, len(numbers) + 1))
        for _, _, text in rows_of(chunks):
            assert isinstance(json.loads(text), dict)
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(
    ("document", "envelope"),
    [
        ({"data": [{}], "meta": {}}, True),
        ({"resourceSpans": [{}]}, True),
        ({"resource_spans": [{}]}, True),
        ({"id": "page", "traces": [{}]}, True),
        ({"observations": [{}], "scores": [], "cursor": None}, True),
        ({"trace": {"id": 1}, "observations": [{}], "scores": [{}]}, False),
        ({"id": "t", "observations": [{}]}, False),
        ({"trace": {}, "spans": [{}]}, False),
        ({"info": {}, "data": {"spans": [{}]}}, False),
        ({"messages": [{}]}, False),
        ({"data": [1, 2]}, False),
        ({"data": []}, False),
        ({"nested": {"data": [{}]}}, False),
    ],
)
def test_envelopes_are_told_from_records(document: dict[str, Any], envelope: bool) -> None:
    data = json.dumps(document).encode()
    assert is_envelope(data[1:]) is envelope
    if not envelope:
        assert [json.loads(row[2]) for row in rows_of(read(data))] == [document]


def test_one_object_is_one_record() -> None:
    text = '{\n "id": 1,\n "input": "é"\n}'
    chunk = read(f"\n\n{text}\n".encode())[0]
    assert rows_of([chunk]) == [(1, 3, text)]
    assert chunk.raw(0) == (text, False)


def test_bad_items_cost_only_themselves() -> None:
    data = b'[{"a":1},\n {"a":NaN},\n 7, {"a":"caf\xe9"},\n  {"a":1 "b":2}, , {"b":[1}},\n{"ok":true}]\n'
    chunks = read(data)
    assert rows_of(chunks) == [(1, 1, '{"a":1}'), (8, 5, '{"ok":true}')]
    rejects = rejects_of(chunks)
    assert [(reject.record_no, reject.line, reject.raw) for reject in rejects] == [
        (2, 2, '{"a":NaN}'),
        (3, 3, "7"),
        (4, 3, '{"a":"caf\\xe9"}'),
        (5, 4, '{"a":1 "b":2}'),
        (6, 4, ""),
        (7, 4, '{"b":[1}}'),
    ]
    assert rejects[0].reason == "NaN is not valid JSON; write null instead (column 6)"
    assert rejects[1].reason == "expected a JSON object, found a number"
    assert "0xE9" in rejects[2].reason
    deep = rejects_of(read(b'[{"a":%s}, {}]' % (b"[" * 10_000 + b"]" * 10_000)))
    assert [reject.reason for reject in deep] == ["the JSON is nested deeper than 64 levels (column 69)"]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"[]", "Its list of records is empty"),
        (b'{"data":[{}],', "is cut off"),
        (b'[{"a":1},{"a":', "cut off: record 2 or what follows it, from line 1, byte 10 on"),
        (b'[{"a":1}', "is cut off"),
        (b'[{"a":1},\n', "is cut off"),
        (b'[{"a":"x}, {"b":1}]', "is cut off"),
        (b'[{"a":1}]\n\n [2]', "Line 3, byte 13: something follows the end"),
        (b'[{"a":1}}', r"Line 1, byte 9: a list of records is closed by }, expected \]"),
        (b'[{"a":1}]x', "something follows"),
        (b'{"data":[{}]}}', "something follows"),
        (b'{"data":[{}] "x":1}', 'found ", expected a comma or }'),
        (b'{"data":[{}],}', "a member of the object is missing"),
        (b'{"data":[{}],x:1}', 'expected "key": value'),
        (b'{"data":[{}],"x":[1,2', "is cut off"),
        (b'{"a":1} {"b":2}', r"not valid JSON: Extra data \(column 9\)"),
        (b'{"a":1,\n"b":NaN}', r"NaN is not valid JSON; write null instead \(line 2, column 5\)"),
        (b'{"a":1,\n"b":', "not valid JSON: Expecting value"),
        (b'{"a":"caf\xe9"}', "not UTF-8: byte 10 is 0xE9"),
        (b'{"a":%s}' % (b"[" * 10_000 + b"]" * 10_000), r"nested deeper than 64 levels \(column 69\)"),
        (b'{"a":%s' % (b"[" * 10_000), "nested deeper than 64 levels"),
        (b"7", r"begins with \[ or {"),
    ],
)
@pytest.mark.parametrize("chunk_bytes", [3, 1 << 20])
def test_broken_documents_are_refused_with_the_place(data: bytes, problem: str, chunk_bytes: int) -> None:
    with pytest.raises(FileRejected, match=problem):
        read(data, chunk_bytes=chunk_bytes)


def test_large_items_and_documents_are_not_held() -> None:
    data = b'[{"a":1},\n{"big":"' + b"x" * 3_000_000 + b'"} , {"b":2}]'
    whole = read(data, max_record_bytes=1_000_000)
    cut = read(data, chunk_bytes=10_000, max_record_bytes=1_000_000)
    assert rows_of(whole) == rows_of(cut) == [(1, 1, '{"a":1}'), (3, 2, '{"b":2}')]
    assert rejects_of(whole) == rejects_of(cut)
    reject = rejects_of(cut)[0]
    assert (reject.record_no, reject.line, reject.raw_truncated) == (2, 2, True)
    assert RAW_BYTES - 2 <= len(reject.raw) <= RAW_BYTES
    with pytest.raises(FileRejected, match="one JSON object of more than 1,000 bytes"):
        read(b'{"a":"' + b"x" * 2_000 + b'"}', max_document_bytes=1_000)
    late = b'{"meta":"' + b"x" * 100_000 + b'","data":[{"a":1}]}'
    assert [row[2] for row in rows_of(read(late))] == ['{"a":1}']
    with source_of(late) as source, pytest.raises(FileRejected, match="one JSON object of more than 50,000 bytes"):
        list(read_document(source, whole_bytes=1_000, max_document_bytes=50_000))


def test_memory_stays_flat_for_a_long_array() -> None:
    data = b"[" + b",".join(b'{"id":%d,"text":"%s"}' % (n, b"y" * 900) for n in range(20_000)) + b"]"
    with source_of(data) as source:
        del data
        tracemalloc.start()
        count = sum(chunk.table.num_rows for chunk in read_document(source, chunk_bytes=200_000, whole_bytes=100_000))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert count == 20_000
    assert peak < 10_000_000


@settings(max_examples=200, deadline=None)
@given(st.lists(objects, max_size=5), st.integers(1, 40))
def test_the_skeleton_does_not_depend_on_the_pieces(items: list[Any], size: int) -> None:
    data = json.dumps(items).encode()[1:] + b', "rest"'
    whole = siblings(data)
    ends, before, close = [], Nesting(), -1
    for at in range(0, len(data), size):
        found = siblings(data[at : at + size], before)
        ends += [int(end) + at for end in found.ends]
        before = found.after
        if found.close >= 0:
            close = found.close + at
            break
    assert (ends, close) == (whole.ends.tolist(), whole.close)
    assert len(ends) == max(len(items) - 1, 0)


def test_langfuse_samples_are_single_records(shared_data: Path) -> None:
    paths = sorted((shared_data / "langfuse_traces").glob("*.json"))
    assert len(paths) == 10
    for path in paths:
        with Source(path) as source:
            rows = rows_of(list(read_document(source)))
        assert [json.loads(row[2]) for row in rows] == [json.loads(path.read_text())]
