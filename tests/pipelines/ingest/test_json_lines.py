"""JSON Lines reading against Python's own parser with its extensions off, and values out of the lines."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines.ingest.chunks import Chunk, Reject
from pipelines.ingest.json_lines import extract, keys_of, read_lines
from pipelines.ingest.json_suspects import MAX_DEPTH
from pipelines.ingest.json_values import engine, object_faults
from pipelines.ingest.record_bytes import RAW_BYTES
from pipelines.ingest.source import Source
from store.errors import FileRejected


@contextmanager
def source_of(data: bytes) -> Iterator[Source]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_bytes(data)
        with Source(path) as source:
            yield source


def read(data: bytes, **options: int) -> list[Chunk]:
    with source_of(data) as source:
        return list(read_lines(source, **options))  # type: ignore[arg-type]


def rows_of(chunks: list[Chunk]) -> list[tuple[int, int, str]]:
    out: list[tuple[int, int, str]] = []
    for chunk in chunks:
        assert chunk.received == chunk.table.num_rows + len(chunk.rejects)
        columns = (chunk.record_no.to_pylist(), chunk.line.to_pylist(), chunk.table["json"].to_pylist())
        out += zip(*columns, strict=True)
    return out


def rejects_of(chunks: list[Chunk]) -> list[Reject]:
    return [reject for chunk in chunks for reject in chunk.rejects]


class NotJson(ValueError):
    pass


def refuse(value: str) -> None:
    raise NotJson(value)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max((depth_of(item) for item in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((depth_of(item) for item in value), default=0)
    return 0


def is_good(raw: bytes) -> bool:
    """Whether RFC 8259 calls it an object of at most 64 levels (lone surrogates in escapes count as text errors)."""
    try:
        value = json.loads(raw.decode("utf-8"), parse_constant=refuse)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and depth_of(value) <= MAX_DEPTH


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=5), values, max_size=4)
lines = st.one_of(
    objects.map(lambda value: json.dumps(value).encode()),
    objects.map(lambda value: json.dumps(value, ensure_ascii=False, indent=1).replace("\n", " ").encode()),
    st.sampled_from(
        [
            *(
                b"",
                b"   ",
                b'{"a":NaN}',
                b'{"a": [1,  -Infinity]}',
                b'{"a":inf}',
                b'{"a":1,}',
                b'{"a":[1 ,\t ]}',
                b"[1]",
            ),
            *(b"7", b'"x"', b'{"a":"b', b'{"a":1} {"b":2}', b'{"a":\xff}', b'{"a":"\xff"}', b'{"a":"\0"}', b"\xff"),
            *(b'{"a":"\\ud800"}', b'{"t":"look: NaN, [nan], inf, }"}', b'{"t":", ]"}', b'{"t":"\\\\"}', b'{"a":1e999}'),
            *(b'{"t":"\\\\\\""}', b"{'a':1}", b'"\\', b'{"a":"%s"}' % (b"[" * 100)),
            *(b'{"a":%s1%s}' % (b"[" * (depth - 1), b"]" * (depth - 1)) for depth in (63, 64, 65, 66)),
            b'{"a":[%s]}' % b",".join([b"[]"] * 70),
        ]
    ),
)


@settings(max_examples=120, deadline=None)
@given(st.lists(lines, max_size=12), st.sampled_from([b"\n", b"\r\n", b"\r"]), st.sampled_from([1, 50, 1 << 20]))
@example([b'{"a":%s}' % (b"[" * 10_000 + b"]" * 10_000)], b"\n", 1 << 20)
@example([b'{"a":%s}' % (b'{"a":' * 10_000), b"{}"], b"\n", 100)
def test_lines_are_taken_exactly_if_they_are_json_objects(parts: list[bytes], end: bytes, chunk_bytes: int) -> None:
    data = end.join(parts)
    if not data.strip() or data.count(0) > len(data) / 10:  # refused as a whole, see test_source
        return
    numbered = [(line, part) for line, part in enumerate(parts, 1) if part.strip()]
    good = [(number, line, part.strip().decode()) for number, (line, part) in enumerate(numbered, 1) if is_good(part)]
    bad = [(number, line) for number, (line, part) in enumerate(numbered, 1) if not is_good(part)]
    chunks = read(data, chunk_bytes=chunk_bytes)
    assert rows_of(chunks) == good
    assert [(reject.record_no, reject.line) for reject in rejects_of(chunks)] == bad


SAMPLE = b"\n".join(
    [b'{"id":%d,"text":"%s"}' % (number, b"x" * (number % 30)) for number in range(150)]
    + [b"", b"{", b'{"a":NaN}', b'{"big":"' + b"y" * 900 + b'"}', b"  ", b'{"last":true}']
)


@pytest.mark.parametrize("chunk_bytes", [64, 333, 1 << 20])
def test_chunks_do_not_matter(chunk_bytes: int) -> None:
    whole, cut = read(SAMPLE, max_record_bytes=500), read(SAMPLE, chunk_bytes=chunk_bytes, max_record_bytes=500)
    assert rows_of(whole) == rows_of(cut)
    assert rejects_of(whole) == rejects_of(cut)
    assert [reject.line for reject in rejects_of(cut)] == [152, 153, 154]
    assert rejects_of(cut)[2].reason == "the record has 910 bytes, more than the 500 that one record may have"


def test_reading_goes_on_from_every_chunk() -> None:
    chunks = read(SAMPLE, chunk_bytes=400)
    assert len(chunks) > 5
    for index, chunk in enumerate(chunks):
        with source_of(SAMPLE) as source:
            rest = list(read_lines(source, state=chunk.state, chunk_bytes=400))
        assert rows_of(rest) == rows_of(chunks[index + 1 :])
        assert rejects_of(rest) == rejects_of(chunks[index + 1 :])
    with source_of(SAMPLE.replace(b"0", b"1", 1)) as source, pytest.raises(FileRejected, match="was changed"):
        list(read_lines(source, state=chunks[1].state))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255)), max_size=8))
def test_corruption_never_crashes(damage: list[tuple[int, int]]) -> None:
    data = bytearray(SAMPLE)
    for at, byte in damage:
        data[at] = byte
    whole, cut = read(bytes(data)), read(bytes(data), chunk_bytes=300)
    assert rows_of(whole) == rows_of(cut)
    assert rejects_of(whole) == rejects_of(cut)
    numbers = sorted([row[0] for row in rows_of(cut)] + [reject.record_no for reject in rejects_of(cut)])
    assert numbers == list(range(1, len(numbers) + 1))
    for _, _, text in rows_of(whole):
        assert is_good(text.encode())


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"a": NaN}', "NaN is not valid JSON; write null instead (column 7)"),
        ('{"NaN": -Infinity}', "-Infinity is not valid JSON; write null instead (column 10)"),
        ('{"a": nan}', "it is not valid JSON: Expecting value (column 7)"),
        ('{"a": 1,}', "it is not valid JSON: "),
        ("[1, 2]", "expected a JSON object, found an array"),
        ('"text"', "expected a JSON object, found a string"),
        ("-12", "expected a JSON object, found a number"),
        ("null", "expected a JSON object, found null"),
        ('{"é": "x" "y"}', "it is not valid JSON: Expecting ',' delimiter (column 11)"),
        ('{"a": "\\\\\\ud83d!"}', "\\ud83d is half of a character; it needs its other half (column 10)"),
        ('{"a": "\\ud83d\\ude00\\ude00"}', "\\ude00 is half of a character; it needs its other half (column 20)"),
        ('{"a": ' + "[" * 70, "the JSON is nested deeper than 64 levels (column 70)"),
    ],
)
def test_reasons_say_what_and_where(line: str, reason: str) -> None:
    reject = rejects_of(read(b"{}\n" + line.encode()))[0]
    assert reject.reason.startswith(reason)
    assert (reject.record_no, reject.line, reject.column, reject.raw) == (2, 2, None, line)


def test_bytes_that_are_no_text_are_rejected_by_position() -> None:
    chunks = read(b'{"a":"caf\xe9"}\n{"a":"\x00"}\n{"a":1}\n' + b'{"b":2}\n' * 9)
    reasons = [reject.reason for reject in rejects_of(chunks)]
    assert "byte 10 is 0xE9" in reasons[0]
    assert "NUL byte (byte 7 of the record)" in reasons[1]
    assert len(rows_of(chunks)) == 10


def test_a_line_too_large_is_one_reject_without_being_held() -> None:
    data = b'{"a":"' + b"x" * 3_000_000 + b'"}\r\n{"b":2}'
    chunks = read(data, chunk_bytes=10_000, max_record_bytes=1_000_000)
    reject = rejects_of(chunks)[0]
    assert (reject.record_no, reject.line, len(reject.raw), reject.raw_truncated) == (1, 1, RAW_BYTES, True)
    assert rows_of(chunks) == [(2, 2, '{"b":2}')]


def table(*objects: Any) -> pa.Table:
    return pa.table({"json": [value if isinstance(value, str) else json.dumps(value) for value in objects]})


def test_keys_come_in_order_of_first_appearance() -> None:
    lines = table({"b": 1, "a": 2}, {"c": {"inner": 1}, "a": 1}, {}, {"": 0, "b": 1})
    assert keys_of(lines) == ["b", "a", "c", ""]
    assert keys_of(table(*({f"k{number}": 1} for number in range(2_100)))) == [f"k{number}" for number in range(2_000)]


def test_values_are_taken_as_text_or_as_json() -> None:
    lines = table(
        {"s": "x", "n": 1.5, "z": None, "o": {"a": [1, "é"]}, "b": True},
        {"s": "null", "n": 12345678901234567890, "o": None, "j": "text"},
        {"s": ""},
    )
    result = extract(lines, ["s", "n", "z", "o", "b"], ["j", "absent"])
    assert result.column_names == ["s", "n", "z", "o", "b", "j", "absent"]
    assert all(field.type == pa.string() for field in result.schema)
    assert result["s"].to_pylist() == ["x", "null", ""]
    assert result["n"].to_pylist() == ["1.5", "12345678901234567890", None]
    assert result["z"].to_pylist() == [None, None, None]
    assert result["o"].to_pylist() == ['{"a":[1,"é"]}', None, None]
    assert result["b"].to_pylist() == ["true", None, None]
    assert result["j"].to_pylist() == [None, '"text"', None]
    assert result["absent"].to_pylist() == [None, None, None]
    assert extract(lines, [], ["o"])["o"].to_pylist() == ['{"a":[1,"é"]}', None, None]
    assert extract(lines, [], []).num_columns == 0
    with pytest.raises(ValueError, match="asked for twice"):
        extract(lines, ["s"], ["s"])


keys = st.text(max_size=6) | st.sampled_from(
    ["a.b", 'a"b', "a'b", "[0]", "$", "*", "/", "~", "a/b", "ID", "id", "Id", "", "é"]
)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(keys, st.text(max_size=6), min_size=1, max_size=6), st.data())
def test_any_key_can_be_asked_for(record: dict[str, str], data: st.DataObject) -> None:
    try:
        text = json.dumps(record, ensure_ascii=False)
        text.encode()
    except UnicodeEncodeError:
        return
    assert keys_of(table(text)) == list(record)
    asked = data.draw(st.permutations(list(record)))
    result = extract(table(text, "{}"), asked[:2], asked[2:])
    for at, key in enumerate(asked):
        value, absent = result.column(at).to_pylist()
        assert (value if at < 2 else json.loads(value)) == record[key]
        assert absent is None


def test_one_connection_serves_many_calls() -> None:
    connection = engine()
    for _ in range(2):
        assert keys_of(table({"a": 1}), connection) == ["a"]
        assert extract(table({"a": 1}), ["a"], [], connection)["a"].to_pylist() == ["1"]
        assert object_faults(pa.array(["{}", "", "x"]), connection).keys() == {1, 2}
        assert object_faults(pa.array([], pa.string()), connection) == {}
        assert object_faults(pa.array([""]), connection).keys() == {0}
    connection.close()


def test_a_file_without_records_is_refused() -> None:
    with source_of(b"x\n") as source:
        assert len(rejects_of(list(read_lines(source)))) == 1
    with pytest.raises(FileRejected, match="only blank lines"), source_of(b"\n \n") as source:
        list(read_lines(source))
