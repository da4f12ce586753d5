"""CSV reading against two independent oracles: Python's csv writer, and a plain character-by-character parser."""

import csv
import gzip
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines.ingest import csv_split
from pipelines.ingest.chunks import CHUNK_RECORDS, Chunk, ReaderState, Reject
from pipelines.ingest.csv_measure import measure
from pipelines.ingest.csv_records import Dialect, read_csv, read_header, sniff
from pipelines.ingest.csv_split import Grammar, split, split_clean, split_exact
from pipelines.ingest.record_bytes import RAW_BYTES
from pipelines.ingest.source import Source
from store.errors import FileRejected


@contextmanager
def source_of(data: bytes) -> Iterator[Source]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        path.write_bytes(data)
        with Source(path) as source:
            yield source


def read(data: bytes, dialect: Dialect | None = None, **options: int) -> list[Chunk]:
    with source_of(data) as source:
        return list(read_csv(source, dialect or Dialect(",", True, 0), **options))  # type: ignore[arg-type]


Row = tuple[int, int, tuple[str | None, ...]]


def rows_of(chunks: list[Chunk]) -> list[Row]:
    """(record_no, line, values) of every row."""
    out: list[Row] = []
    for chunk in chunks:
        assert chunk.received == chunk.table.num_rows + len(chunk.rejects)
        columns = [column.to_pylist() for column in chunk.table.columns]
        out += zip(chunk.record_no.to_pylist(), chunk.line.to_pylist(), zip(*columns, strict=True), strict=True)
    return out


def rejects_of(chunks: list[Chunk]) -> list[Reject]:
    return [reject for chunk in chunks for reject in chunk.rejects]


def values_of(chunks: list[Chunk]) -> list[tuple[str | None, ...]]:
    return [values for _, _, values in rows_of(chunks)]


# --- the oracle: the grammar of csv_split's docstring, one character at a time, over the whole file


def reference_record(data: bytes, at: int, delimiter: int) -> tuple[list[bytes], int, int, bool] | None:
    """(fields, end of text, start of the next line, stray quote?) or None where the grammar is broken."""
    fields: list[bytes] = []
    stray = False
    while True:
        value = bytearray()
        if at < len(data) and data[at] == 34:
            at += 1
            while True:
                if at >= len(data):
                    return None
                if data[at] == 34:
                    if data[at + 1 : at + 2] == b'"':
                        value.append(34)
                        at += 2
                        continue
                    at += 1
                    break
                value.append(data[at])
                at += 1
            if at < len(data) and data[at] not in (delimiter, 10, 13):
                return None
        else:
            while at < len(data) and data[at] not in (delimiter, 10, 13):
                stray |= data[at] == 34
                value.append(data[at])
                at += 1
        fields.append(bytes(value))
        if at >= len(data):
            return fields, at, at, stray
        if data[at] == delimiter:
            at += 1
            continue
        return fields, at, at + (2 if data[at : at + 2] == b"\r\n" else 1), stray


def breaks_in(data: bytes) -> int:
    return len(data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")) - 1


def reference(
    data: bytes, width: int, limit: int, lookahead: int
) -> tuple[list[Row], list[tuple[int, int, str, bytes]]]:
    """All rows and (record_no, line, kind, raw) of all rejects of a file without header."""
    rows: list[Row] = []
    rejects: list[tuple[int, int, str, bytes]] = []
    at, line, number = 0, 1, 0
    while at < len(data):
        if data[at] in (10, 13):
            at += 2 if data[at : at + 2] == b"\r\n" else 1
            line += 1
            continue
        number += 1
        found = reference_record(data, at, 44)
        if found is not None and (found[1] - at > lookahead or (found[3] and breaks_in(data[at : found[1]]))):
            found = None
        if found is None:
            stop = at
            while stop < len(data) and data[stop] not in (10, 13):
                stop += 1
            end = stop + (2 if data[stop : stop + 2] == b"\r\n" else 1)
            kind = "the line has" if stop - at > limit else "the quote opened"
            rejects.append((number, line, kind, data[at:stop]))
            at, line = end, line + 1
            continue
        fields, stop, end, _ = found
        raw = data[at:stop]
        kind = ""
        if len(raw) > limit:
            kind = "the record has"
        elif 0 in raw:
            kind = "it contains a NUL byte"
        else:
            try:
                raw.decode()
            except UnicodeDecodeError:
                kind = "the text is not UTF-8"
            else:
                if len(fields) != width:
                    kind = f"the row has {len(fields)} field"
        if kind:
            rejects.append((number, line, kind, raw))
        else:
            rows.append((number, line, tuple(value.decode() or None for value in fields)))
        at, line = end, line + breaks_in(raw) + 1
    return rows, rejects


def check_against_reference(data: bytes, chunk_bytes: int, limit: int = 60, lookahead: int = 200) -> None:
    if not data.strip() or data.count(0) > len(data) / 10:  # refused as a whole, see test_source
        return
    rows, rejects = reference(data, 3, limit, lookahead)
    chunks = read(
        data,
        Dialect(",", False, 3),
        chunk_bytes=chunk_bytes,
        max_record_bytes=limit,
        lookahead_bytes=lookahead,
    )
    assert rows_of(chunks) == rows
    found = rejects_of(chunks)
    assert [(reject.record_no, reject.line) for reject in found] == [reject[:2] for reject in rejects]
    for reject, (_, _, kind, raw) in zip(found, rejects, strict=True):
        assert reject.reason.startswith(kind), (reject, kind)
        assert reject.raw == raw.decode(errors="backslashreplace").replace("\0", "\\x00")
    numbers = sorted([row[0] for row in rows] + [reject.record_no for reject in found])
    assert numbers == list(range(1, len(numbers) + 1))


pieces = st.sampled_from(
    [
        *(
            b'"',
            b'""',
            b",",
            b"\n",
            b"\r\n",
            b"\r",
            b"a",
            b"bc",
            b'"x"',
            b'"x,\ny"',
            b'1,"q""q",3\n',
            b"1,2,3\n",
            b"\xff",
        ),
        *(
            "é".encode(),
            "日本".encode(),
            b"\0",
            b" ",
            b'",',
            b',"',
            b'"\n',
            b"longer text without anything special in it",
        ),
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(pieces, max_size=40).map(b"".join), st.sampled_from([1, 7, 64, 1 << 20]))
@example(b'1,"open,2\n3,"fine",4\n5,6,7\n', 64)
@example(b'1,"open,2\n3,x,4\n5,6,7\n', 7)
@example(b'1,"open\n3,",x",c\n5,6,7\n', 64)
@example(b'a,b,"c"\r', 1)
@example(b'"\r\n"\r\n\r', 1)
@example(b'1,"' + b"x\n" * 40 + b'",3\n1,2,3\n', 64)
@example(b'1,"' + b"x\n" * 200 + b'",3\n1,2,3\n', 64)
def test_any_bytes_read_as_the_grammar_says(data: bytes, chunk_bytes: int) -> None:
    check_against_reference(data, chunk_bytes)


texts = st.text(st.sampled_from("ab\"',;\t|\n\r é日😀\\{}0"), max_size=12)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(texts, min_size=3, max_size=3), min_size=1, max_size=12),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([3, 64, 1 << 20]),
    st.sampled_from(",;\t|"),
)
def test_what_python_writes_is_read_back(
    table: list[list[str]], quoting: int, end: str, chunk_bytes: int, delimiter: str
) -> None:
    if quoting == csv.QUOTE_MINIMAL:  # Python before 3.13 leaves a lone \\r unquoted, which is a line end
        table = [[value.replace("\r", "") for value in row] for row in table]
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, quoting=quoting, lineterminator=end, delimiter=delimiter)  # type: ignore[arg-type]
    writer.writerow(["a", "b", "c"])
    writer.writerows(table)
    chunks = read(buffer.getvalue().encode(), Dialect(delimiter, True, 3), chunk_bytes=chunk_bytes)
    assert not rejects_of(chunks)
    assert values_of(chunks) == [tuple(value or None for value in row) for row in table]


def long_table() -> bytes:
    lines = ["id,text,score"]
    for number in range(200):
        text = {0: '"two\nlines"', 1: '"a ""quote"""', 2: "plain", 3: '"open', 4: 'in"ch'}[number % 5]
        lines.append(f"{number},{text},0.{number}")
    lines.insert(90, "too,few")
    lines.insert(140, "")
    return "\n".join(lines).encode()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=6), st.sampled_from([64, 500]))
def test_corruption_never_crashes_and_chunks_do_not_matter(damage: list[tuple[int, int]], chunk_bytes: int) -> None:
    data = bytearray(long_table())
    start = data.index(b"\n") + 1
    for at, byte in damage:
        data[start + at % (len(data) - start)] = byte
    whole, cut = read(bytes(data)), read(bytes(data), chunk_bytes=chunk_bytes)
    assert rows_of(whole) == rows_of(cut)
    assert rejects_of(whole) == rejects_of(cut)
    numbers = sorted([row[0] for row in rows_of(cut)] + [reject.record_no for reject in rejects_of(cut)])
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_reading_goes_on_from_every_chunk(pack: type) -> None:
    data = pack(long_table())
    dialect = Dialect(",", True, 3)
    chunks = read(data, dialect, chunk_bytes=300)
    assert len(chunks) > 5
    for index, chunk in enumerate(chunks):
        with source_of(data) as source:
            rest = list(read_csv(source, dialect, state=chunk.state, chunk_bytes=300))
        assert rows_of(rest) == rows_of(chunks[index + 1 :])
        assert rejects_of(rest) == rejects_of(chunks[index + 1 :])
        assert [c.state for c in rest] == [c.state for c in chunks[index + 1 :]]


def test_reading_on_in_a_changed_file_is_refused() -> None:
    data = long_table()
    state = read(data, chunk_bytes=300)[2].state
    with source_of(data.replace(b"plain", b"PLAIN", 1)) as source, pytest.raises(FileRejected, match="was changed"):
        list(read_csv(source, Dialect(",", True, 3), state=state))
    with (
        source_of(data[: state.offset - 5]) as source,
        pytest.raises(FileRejected, match="bytes of it were read before"),
    ):
        list(read_csv(source, Dialect(",", True, 3), state=state))


def test_rejects_say_what_is_wrong_and_where() -> None:
    data = (
        b"id,text,score\n"
        b"1,fine,0.5\n"
        b"2,short\n"
        b'3,"not closed,0.5\n'
        b'4,"closed" badly,0.5\n'
        b"5,nul\x00byte,0.5\n"
        b"6,caf\xe9,0.5\n"
        b"7,too,many,fields\n"
        b'8,"two\nlines",0.5\n'
        b'9,5" pipe,0.5\n'
    )
    chunks = read(data)
    assert [row[:2] for row in rows_of(chunks)] == [(1, 2), (8, 9), (9, 11)]
    assert values_of(chunks)[2] == ("9", '5" pipe', "0.5")
    rejects = rejects_of(chunks)
    assert [(reject.record_no, reject.line, reject.column) for reject in rejects] == [
        (2, 3, None),
        (3, 4, "text"),
        (4, 5, "text"),
        (5, 6, None),
        (6, 7, None),
        (7, 8, None),
    ]
    assert rejects[0].reason == "the row has 2 fields, expected 3 (id, text, score)"
    assert rejects[1].reason.startswith('the quote opened at character 3 (field 2, "text") is not closed properly')
    assert rejects[1].raw == '3,"not closed,0.5'
    assert "NUL byte (byte 6 of the record)" in rejects[3].reason
    assert rejects[3].raw == "5,nul\\x00byte,0.5"
    assert "byte 6 is 0xE9" in rejects[4].reason
    assert rejects[4].raw == "6,caf\\xe9,0.5"


def test_rows_keep_their_raw_text_for_later_rejects() -> None:
    chunk = read(b'a,b\n1,"x ""y"""\nbad\n2,z\n')[0]
    assert [chunk.raw(0), chunk.raw(1)] == [('1,"x ""y"""', False), ("2,z", False)]
    assert chunk.reject(1, "no such agent", "b") == Reject(3, 4, "b", "no such agent", "2,z", False)


def test_an_unterminated_quote_costs_its_line_even_far_from_the_end() -> None:
    body = b"".join(b"%d,text,0\n" % number for number in range(20_000))
    data = b'id,text,score\n-1,"open,0\n' + body
    chunks = read(data, chunk_bytes=4096, max_record_bytes=2000)
    assert [reject.record_no for reject in rejects_of(chunks)] == [1]
    assert [row[0] for row in rows_of(chunks)] == list(range(2, 20_002))


def test_a_cell_too_large_is_one_reject_without_being_held() -> None:
    cell = b"word word\n" * 600_000
    data = b'id,text\n1,"' + cell + b'"\n2,ok\n3,' + b"x" * 3_000_000 + b"\n4,ok\n"
    chunks = read(data, chunk_bytes=100_000, max_record_bytes=1_000_000)
    assert values_of(chunks) == [("2", "ok"), ("4", "ok")]
    first, second = rejects_of(chunks)
    assert (first.record_no, first.line, len(first.raw), first.raw_truncated) == (1, 2, RAW_BYTES, True)
    assert first.reason == "the record has 6,000,004 bytes, more than the 1,000,000 that one record may have"
    assert (second.record_no, second.line) == (3, 600_004)
    assert second.reason.startswith("the record has 3,000,002 bytes")


def test_truncated_raw_ends_between_characters() -> None:
    chunk = read(b"a,b\n1," + "é".encode() * RAW_BYTES + b"\n")[0]
    text, truncated = chunk.raw(0)
    assert truncated
    assert text == "1," + "é" * (RAW_BYTES // 2 - 1)


def test_line_ends_may_be_mixed_and_the_last_may_be_missing() -> None:
    chunks = read(b"a,b\r\n1,2\n3,4\r5,6\r\n\r\n7,8")
    assert rows_of(chunks) == [(1, 2, ("1", "2")), (2, 3, ("3", "4")), (3, 4, ("5", "6")), (4, 6, ("7", "8"))]


def test_empty_is_null_quoted_or_not() -> None:
    assert values_of(read(b'a,b\n"",\nNA,null\n')) == [(None, None), ("NA", "null")]


def test_one_column_and_blank_lines() -> None:
    chunks = read(b'a\n\nx\n""\n\ny\n', Dialect(",", True, 1))
    assert rows_of(chunks) == [(1, 3, ("x",)), (2, 4, (None,)), (3, 6, ("y",))]


def test_a_byte_order_mark_is_not_part_of_the_first_name() -> None:
    with source_of("\ufeffid,text\n1,é\n".encode("utf-16-le")) as source:
        assert read_header(source, sniff(source.head())).columns == ["id", "text"]
        assert values_of(list(read_csv(source, Dialect(",", True, 2)))) == [("1", "é")]
    with source_of("\ufeffid,text\n1,é\n".encode()) as source:
        assert read_header(source, sniff(source.head())).columns == ["id", "text"]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"id,text\n", "a header and no rows"),
        (b"id,text\n\n\r\n", "a header and no rows"),
        (b"id,text,id\n1,2,3\n", r"'id' \(columns 1, 3\)"),
        (b'id,"text\n1,2\n', "quote in its header"),
        (b"id,te\xe9t\n1,2\n", "not UTF-8: byte 0xE9"),
        (b",".join(b"c%d" % n for n in range(2001)) + b"\n1\n", "2,001 columns"),
    ],
)
def test_files_that_cannot_be_read_at_all(data: bytes, problem: str) -> None:
    with pytest.raises(FileRejected, match=problem):
        read(data)


def test_empty_names_are_numbered() -> None:
    with source_of(b",x,,column_3\n1,2,3,4\n") as source:
        assert read_header(source, Dialect(",", True, 4)).columns == ["column_1", "x", "column_3_", "column_3"]


@pytest.mark.parametrize(
    ("data", "dialect"),
    [
        (b"id,text\n1,a\n2,b\n", Dialect(",", True, 2)),
        (b"id;text\n1,5;a\n2,5;b\n", Dialect(";", True, 2)),
        (b'id\ttext\n1\t"a,b"\n2\tc,d,e\n', Dialect("\t", True, 2)),
        (b'id|text\n1|"a,|b"\n2|c\n', Dialect("|", True, 2)),
        (b"1,2019-01-01,a\n2,2019-01-02,b\n", Dialect(",", False, 3)),
        (b"up,alice\ndown,bob\nup,carol\nup,dave\n", Dialect(",", False, 2)),
        (b"text\nhello\nworld, again\n", Dialect(",", True, 1)),
        (b"id,2019,2020\nx,a,b\ny,c,d\n", Dialect(",", True, 3)),
        (b'"id","text"\n"1","a\nb;c;d"\n', Dialect(",", True, 2)),
        (b"a,b", Dialect(",", True, 2)),
    ],
)
def test_the_dialect_is_found(data: bytes, dialect: Dialect) -> None:
    assert sniff(data) == dialect


def test_files_without_header_get_numbered_columns() -> None:
    with source_of(b"1,2019-01-01\n2,2019-01-02\n") as source:
        chunks = list(read_csv(source, sniff(source.head())))
    assert chunks[0].table.column_names == ["column_1", "column_2"]
    assert [row[:2] for row in rows_of(chunks)] == [(1, 1), (2, 2)]


def test_counting_quotes_and_the_grammar_agree_on_clean_text() -> None:
    grammar = Grammar(44)
    data = b'a,"b""c",d\r\n"","x\ny",""\n\n1,2,3\n'
    fast, exact = split_clean(data, grammar, final=True), split_exact(data, grammar, final=True)
    assert fast is not None
    assert fast.start.tolist() == exact.start.tolist() == [0, 12, 25]
    assert (fast.stop.tolist(), fast.line.tolist()) == (exact.stop.tolist(), exact.line.tolist())
    assert (fast.end, fast.lines, exact.unclosed) == (exact.end, exact.lines, [])
    for broken in (b'a,b"c,d\n1,2"\n', b'"a" ,b\n', b'"a"b"\n', b'a,""b\n'):
        assert split_clean(broken, grammar, final=True) is None


@settings(max_examples=200, deadline=None)
@given(st.lists(pieces, max_size=40).map(b"".join), st.booleans())
def test_pieces_give_what_the_whole_gives(data: bytes, final: bool) -> None:
    grammar = Grammar(44)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_split, "PIECE_BYTES", 8)
        found = split(data, grammar, final=final)
    exact = split_exact(data, grammar, final=final)
    for name in ("start", "stop", "line"):
        assert getattr(found, name).tolist() == getattr(exact, name).tolist()
    assert (found.unclosed, found.end, found.lines) == (exact.unclosed, exact.end, exact.lines)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_measuring_ahead_agrees_with_the_grammar(size: int) -> None:
    grammar = Grammar(44)
    for data in (b'a,"b\r\nc",d\r\nnext', b'a,"b""",d\rx', b"a,b", b'"', b'"a"b\n', b'a,"b\nc",d"d\n', b'a,"b"\r'):
        blocks = [data[at : at + size] for at in range(0, len(data), size)]
        records = split_exact(data, grammar, final=True)
        extent = measure(blocks, grammar)
        if 0 in records.unclosed:
            assert extent is None
        else:
            assert extent is not None
            first_next = split_exact(data[: extent.total], grammar, final=True)
            assert (len(first_next), first_next.end, first_next.lines) == (1, extent.total, extent.lines)
            assert extent.text == records.stop[0]


def test_open_bandit_sample(shared_data: Path) -> None:
    with Source(shared_data / "obd_small" / "bts_men.csv.gz") as source:
        dialect = sniff(source.head())
        chunks = list(read_csv(source, dialect, chunk_bytes=200_000))
    assert dialect.delimiter == ","
    assert chunks[0].table.column_names[:5] == ["column_1", "timestamp", "item_id", "position", "click"]
    assert sum(chunk.table.num_rows for chunk in chunks) == 10_000
    assert not rejects_of(chunks)
    clicks = sum(value == "1" for chunk in chunks for value in chunk.table["click"].to_pylist())
    assert clicks == 69  # the published on-policy click rate of .0069


def test_chunks_of_short_records_stay_few() -> None:
    data = b"a\n" + b"1\n" * 3_000_000 + b"\n" * 3_000_000 + b"2\n"
    chunks = read(data, Dialect(",", True, 1))
    assert sum(chunk.received for chunk in chunks) == 3_000_001
    assert max(chunk.received for chunk in chunks[1:]) <= CHUNK_RECORDS
    assert (chunks[-1].record_no[-1].as_py(), chunks[-1].line[-1].as_py()) == (3_000_001, 6_000_002)


def test_the_state_is_plain_values() -> None:
    state = read(b"a,b\n1,2\n")[0].state
    assert (state.offset, state.record_no, state.line) == (8, 2, 3)
    assert ReaderState().at_start
    assert not state.at_start
