"""Transforms against Python as the oracle, run in a session whose time zone is not UTC."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.ingest.layout_columns import ColumnType
from pipelines.ingest.transforms import (
    DURATION_MICROSECONDS,
    RATING_SCALES,
    TICKS_PER_SECOND,
    TRANSFORMS_FOR,
    Transform,
    expected,
    is_strict_json,
    literal,
    read_cell,
    value_of,
)

T = Transform
TIMES = {*TRANSFORMS_FOR[ColumnType.TIME]}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        opened.execute("SET TimeZone = 'America/New_York'")
        yield opened


def evaluate(
    connection: duckdb.DuckDBPyConnection, transform: Transform, values: Sequence[Any], type_: pa.DataType | None = None
) -> list[Any]:
    """The values a transform makes of a column; times as microseconds since 1970."""
    type_ = type_ or pa.string()
    connection.register("cells", pa.table({"c": pa.array(values, type_)}))
    cell = read_cell(transform, "c", type_)
    value = value_of(transform, "k", cell.shape)
    if transform in TIMES:
        value = f"epoch_us({value})"
    rows = connection.execute(f"WITH k AS (SELECT {cell.sql} AS k FROM cells) SELECT {value} FROM k").fetchall()
    return [row[0] for row in rows]


def micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(datetime(1990, 1, 1), datetime(2099, 12, 31))  # noqa: DTZ001 - zones are drawn apart


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(moments, st.none() | offsets, st.sampled_from("T "), st.booleans()), min_size=1, max_size=30))
def test_iso_times_equal_python(connection: duckdb.DuckDBPyConnection, drawn: list[tuple[Any, ...]]) -> None:
    texts, wanted = [], []
    for moment, zone, joint, quoted in drawn:
        text = moment.replace(tzinfo=zone).isoformat(joint)
        assert datetime.fromisoformat(text) == moment.replace(tzinfo=zone)
        wanted.append(micros(moment.replace(tzinfo=zone or UTC)))
        texts.append(f'"{text}"' if quoted else text)
    assert evaluate(connection, T.TIME_AUTO, texts) == wanted


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-08-01", "2026-08-01T00:00:00+00:00"),
        ("2026-08-01T10:00Z", "2026-08-01T10:00:00+00:00"),
        ("2026-08-01 10:00", "2026-08-01T10:00:00+00:00"),
        ("2026-08-01T10:00:00.000Z", "2026-08-01T10:00:00+00:00"),
        ('"2026-08-01T10:00:00.000Z"', "2026-08-01T10:00:00+00:00"),
        ("2026-08-01t10:00:00z", "2026-08-01T10:00:00+00:00"),
        ("2026-08-01 10:00:00 UTC", "2026-08-01T10:00:00+00:00"),
        ("2026-08-01 10:00:00.5 +0000 UTC", "2026-08-01T10:00:00.500000+00:00"),
        ("2026-08-01T10:00:00,25+0200", "2026-08-01T08:00:00.250000+00:00"),
        ("2026-08-01T10:07-05:30", "2026-08-01T15:37:00+00:00"),
        ("2026-08-01 10:00:00 +02", "2026-08-01T08:00:00+00:00"),
        ("2026/8/1 3:04", "2026-08-01T03:04:00+00:00"),
        ("2026-08-01T10:00:00.123456789Z", "2026-08-01T10:00:00.123456+00:00"),
        ("  2026-08-01\t", "2026-08-01T00:00:00+00:00"),
    ],
)
def test_variants_of_iso_times(connection: duckdb.DuckDBPyConnection, text: str, moment: str) -> None:
    assert evaluate(connection, T.TIME_AUTO, [text]) == [micros(datetime.fromisoformat(moment))]


@pytest.mark.parametrize(
    "text",
    [
        *("01/02/2026", "31.01.2026", "1767225600", "infinity", "-infinity", "epoch", "today", "now", "2026-02-30"),
        *("2026-13-01", "2026-01-01T24:00:00", "2026-01-01T10:60:00", "2026-W01-1", "20260101T100000Z", "T10:00"),
        *("2026-01-01T10:00:00+99:00", "2026", "26-01-01", "2026-01-01 10:00:00 Europe/Berlin", "2026-01-01 x"),
        *("2026-01-01 10:00:00 PM", "yesterday at noon"),
    ],
)
def test_what_is_not_an_unambiguous_time_is_not_read(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    assert evaluate(connection, T.TIME_AUTO, [text]) == [None]


def test_a_named_zone_does_not_shift_the_times_after_it(connection: duckdb.DuckDBPyConnection) -> None:
    """DuckDB 1.5.5 reads naive texts in the zone that an earlier cell of the vector named."""
    texts = ["2026-01-01 10:00:00 Asia/Tokyo", "2026-01-01 10:00:00", "2026-01-01T10:00:00Z"]
    ten = micros(datetime(2026, 1, 1, 10, tzinfo=UTC))
    assert evaluate(connection, T.TIME_AUTO, texts) == [None, ten, ten]


@settings(max_examples=40, deadline=None)
@given(st.lists(moments, min_size=1, max_size=30), st.sampled_from("/.-"), st.sampled_from(["", " %H:%M", " %H:%M:%S"]))
def test_ordered_dates_equal_strptime(
    connection: duckdb.DuckDBPyConnection, drawn: list[datetime], sep: str, clock: str
) -> None:
    for transform, form in ((T.TIME_MDY, f"%m{sep}%d{sep}%Y{clock}"), (T.TIME_DMY, f"%d{sep}%m{sep}%Y{clock}")):
        texts = [moment.strftime(form) for moment in drawn]
        wanted = [micros(datetime.strptime(text, form).replace(tzinfo=UTC)) for text in texts]
        assert evaluate(connection, transform, texts) == wanted


def test_ordered_dates_as_people_write_them(connection: duckdb.DuckDBPyConnection) -> None:
    noon = micros(datetime(2026, 1, 31, 13, 45, tzinfo=UTC))
    assert evaluate(connection, T.TIME_MDY, ["1/31/2026, 1:45:00 PM", "31/1/2026", "2026-01-31"]) == [noon, None, None]
    assert evaluate(connection, T.TIME_DMY, ["31.1.2026 13:45", "1/31/2026"]) == [noon, None]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(TICKS_PER_SECOND)), st.lists(moments, min_size=1, max_size=30))
def test_whole_counts_since_1970_are_exact(
    connection: duckdb.DuckDBPyConnection, transform: Transform, drawn: list[datetime]
) -> None:
    ticks = TICKS_PER_SECOND[transform]
    counts = [int(Fraction(micros(moment.replace(tzinfo=UTC)) * ticks, 10**6)) for moment in drawn]
    wanted = [int(Fraction(count * 10**6, ticks)) for count in counts]
    assert evaluate(connection, transform, [str(count) for count in counts]) == wanted
    assert evaluate(connection, transform, counts, pa.int64()) == wanted


@settings(max_examples=60, deadline=None)
@given(st.lists(st.decimals(0, 4_000_000_000, places=6, allow_nan=False), min_size=1, max_size=30))
def test_decimal_seconds_keep_their_microseconds(connection: duckdb.DuckDBPyConnection, drawn: list[Decimal]) -> None:
    wanted = [int(seconds * 10**6) for seconds in drawn]
    assert evaluate(connection, T.TIME_SECONDS, [str(seconds) for seconds in drawn]) == wanted


def test_counts_that_no_time_can_hold_are_not_read(connection: duckdb.DuckDBPyConnection) -> None:
    texts = ["nan", "inf", "-inf", "1e300", "-1e300", "abc", "0x10", "9" * 40]
    for transform in TICKS_PER_SECOND:
        assert evaluate(connection, transform, texts) == [None] * len(texts)
        assert evaluate(connection, transform, [math.nan, math.inf, -1e300], pa.float64()) == [None] * 3
    extremes = evaluate(connection, T.TIME_NANOSECONDS, [2**63 - 1, -(2**63)], pa.int64())
    assert extremes == [int(Fraction(2**63 - 1, 1000)), int(Fraction(-(2**63), 1000))]


def test_typed_times_need_no_reading(connection: duckdb.DuckDBPyConnection) -> None:
    moment = datetime(2026, 1, 1, 10, 30, tzinfo=UTC)
    for type_ in (pa.timestamp("us", "UTC"), pa.timestamp("ms", "Europe/Berlin"), pa.timestamp("ns", "UTC")):
        for transform in TIMES:
            assert evaluate(connection, transform, [moment, None], type_) == [micros(moment), None]
    naive = evaluate(connection, T.TIME_AUTO, [moment.replace(tzinfo=None)], pa.timestamp("ns"))
    assert naive == [micros(moment)]
    midnight = datetime(2026, 1, 1, tzinfo=UTC)
    assert evaluate(connection, T.TIME_AUTO, [date(2026, 1, 1)], pa.date32()) == [micros(midnight)]


UP = ["up", "+1", "1", "1.0", "yes", "true", "like", "thumbs_up", "👍", "👍🏽", "positive", "good", "UP", "Thumbs-Up"]
DOWN = ["down", "-1", "0", "-1.0", "no", "false", "dislike", "thumbs_down", "👎", "👎🏿", "negative", "bad", "Down"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(UP + DOWN) | st.text(max_size=6), max_size=30))
def test_thumbs(connection: duckdb.DuckDBPyConnection, texts: list[str]) -> None:
    for text, value in zip(texts, evaluate(connection, T.THUMB, texts), strict=True):
        if text in UP:
            assert value == 1
        elif text in DOWN:
            assert value == 0
        else:
            assert value in (None, 0, 1)
            assert value is None or text.strip(' \t\n\r"').lower()[:1] in "up+1ytlghdn-0fbu👍👎"


def test_booleans(connection: duckdb.DuckDBPyConnection) -> None:
    texts = ["yes", "No", "TRUE", "false", "1", "0", "y", "N", "1.0", "maybe", "2", "", None]
    wanted = [True, False, True, False, True, False, True, False, True, None, None, None, None]
    assert evaluate(connection, T.BOOLEAN, texts) == wanted
    assert evaluate(connection, T.BOOLEAN, [True, False, None], pa.bool_()) == [True, False, None]
    assert evaluate(connection, T.BOOLEAN, [1, 0, 7, None], pa.int8()) == [True, False, None, None]
    assert evaluate(connection, T.THUMB, [True, False, None], pa.bool_()) == [1, 0, None]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(RATING_SCALES)),
    st.lists(st.integers(-3, 120) | st.floats(-3, 120, allow_nan=False), min_size=1, max_size=30),
)
def test_ratings_are_put_on_0_to_1(
    connection: duckdb.DuckDBPyConnection, transform: Transform, drawn: list[float]
) -> None:
    low, high = RATING_SCALES[transform]
    wanted = [(number - low) / (high - low) if low <= number <= high else None for number in drawn]
    assert evaluate(connection, transform, [repr(number) for number in drawn]) == pytest.approx(wanted)
    assert evaluate(connection, transform, drawn, pa.float64()) == pytest.approx(wanted)
    assert evaluate(connection, transform, ["nan", "inf", "good"]) == [None] * 3


amounts = st.decimals(0, 10**9, places=4, allow_nan=False, allow_infinity=False)
written = st.sampled_from(["{:f}", "${:f}", "{:,f}", "${:,f}", "USD {:f}", "{:f} USD", "US${:,f}", "-${:f}", " {:f} "])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(amounts, written), min_size=1, max_size=30))
def test_dollars_equal_python(connection: duckdb.DuckDBPyConnection, drawn: list[tuple[Decimal, str]]) -> None:
    texts = [form.format(amount) for amount, form in drawn]
    wanted = [float(re.sub("[^-0-9.]", "", text)) for text in texts]
    assert evaluate(connection, T.USD, texts) == pytest.approx(wanted)


def test_what_is_not_an_amount_is_not_read(connection: duckdb.DuckDBPyConnection) -> None:
    texts = [
        "€5",
        "1,5",
        "0,0012",
        "12,34",
        "$",
        "-",
        "free",
        "5 EUR",
        "1.2.3",
        "nan",
        "inf",
        "$nan",
        "1e999",
        "$1e999",
    ]
    assert evaluate(connection, T.USD, texts) == [None] * len(texts)
    assert evaluate(connection, T.CENTS, ["12", "x"]) == [0.12, None]
    assert evaluate(connection, T.MICRO_USD, ["2500000", "inf"]) == [2.5, None]
    decimals = evaluate(connection, T.USD, [Decimal("1.5"), None], pa.decimal128(38, 2))
    assert decimals == [1.5, None]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=30))
def test_whole_numbers_are_exact(connection: duckdb.DuckDBPyConnection, drawn: list[int]) -> None:
    assert evaluate(connection, T.INTEGER, [str(number) for number in drawn]) == drawn
    assert evaluate(connection, T.INTEGER, drawn, pa.int64()) == drawn


def test_only_whole_numbers_are_whole(connection: duckdb.DuckDBPyConnection) -> None:
    texts = ["12.0", " 7 ", "1e3", "+5", "1.5", "0x1F", "0b1", "nan", "1,234", "1e30", "٣", "12L", "--1", ""]
    wanted = [12, 7, 1000, 5] + [None] * 10
    assert evaluate(connection, T.INTEGER, texts) == wanted
    assert evaluate(connection, T.INTEGER, [2.0, 2.5, math.nan, 1e300], pa.float64()) == [2, None, None, None]
    assert evaluate(connection, T.POSITION_FROM_ZERO, ["0", "4", "-1", str(2**63 - 1)]) == [1, 5, 0, None]
    assert evaluate(connection, T.NUMBER, ["0.25", "1e-3", "NaN", "Infinity", "1e999"]) == [
        0.25,
        1e-3,
        None,
        None,
        None,
    ]


def test_durations_are_microseconds(connection: duckdb.DuckDBPyConnection) -> None:
    for transform, factor in DURATION_MICROSECONDS.items():
        wanted = [round(1500 * factor), 0, None, None, None, None]
        assert evaluate(connection, transform, ["1500", "0", "-1", "nan", "1e300", "fast"]) == wanted


def test_vocabularies(connection: duckdb.DuckDBPyConnection) -> None:
    assert evaluate(
        connection, T.STATUS, ["OK", "Success", "0", "completed", "FAILED", "exception", "500", "timeout"]
    ) == [
        *["ok"] * 4,
        *["error"] * 3,
        None,
    ]
    kinds = evaluate(connection, T.SPAN_KIND, ["LLM", "generation", "Tool", "function", "RETRIEVER", "span"])
    assert kinds == ["llm", "llm", "tool", "tool", "retriever", None]
    kinds = evaluate(connection, T.SIGNAL_KIND, ["Thumbs Up", "view", "clicked", "order", "outcome", "sneeze"])
    assert kinds == ["thumb", "impression", "click", "purchase", "outcome", None]
    kinds = evaluate(connection, T.ANNOTATOR_KIND, ["HUMAN", "operator", "LLM", "CODE", "api", "moon"])
    assert kinds == ["user", "operator", "llm", "code", "code", None]


def test_cells_of_other_types_are_read_as_their_text(connection: duckdb.DuckDBPyConnection) -> None:
    nested = pa.struct({"a": pa.int64()})
    assert json.loads(evaluate(connection, T.JSON, [{"a": 1}], nested)[0]) == {"a": 1}
    assert evaluate(connection, T.TEXT, [b"abc", b"\xff"], pa.binary()) == ["abc", "\\xFF"]
    assert evaluate(connection, T.TEXT, [1, None], pa.int64()) == ["1", None]
    words = pa.dictionary(pa.int32(), pa.string())
    assert evaluate(connection, T.STATUS, ["ok", "failed", None], words) == ["ok", "error", None]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.text(), max_size=20), st.sampled_from([each for each in Transform if each is not T.ROW_ID]))
def test_no_text_makes_a_transform_raise(
    connection: duckdb.DuckDBPyConnection, texts: list[str], transform: Transform
) -> None:
    assert len(evaluate(connection, transform, texts)) == len(texts)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
documents = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@settings(max_examples=100, deadline=None)
@given(documents, st.text(max_size=3))
def test_strict_json_is_what_python_reads(connection: duckdb.DuckDBPyConnection, value: Any, tail: str) -> None:
    text = json.dumps(value)
    strict = connection.execute(f"SELECT {is_strict_json('t')} FROM (SELECT $1::VARCHAR AS t)", [text]).fetchone()
    assert strict is not None
    assert strict[0] == (not holds_non_numbers(value))
    if tail:
        maybe = connection.execute(
            f"SELECT {is_strict_json('t')} FROM (SELECT $1::VARCHAR AS t)", [text + tail]
        ).fetchone()
        assert maybe is not None
        if maybe[0]:
            json.loads(text + tail, parse_constant=fail)


@pytest.mark.parametrize(
    "text", ['{"a":1,}', "[1,2,]", '{"a":nan}', "[-Infinity]", "{'a':1}", '{"a":1} x', "[" * 801 + "]" * 801]
)
def test_lenient_json_is_not_strict(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    assert connection.execute(f"SELECT {is_strict_json('t')} FROM (SELECT $1::VARCHAR AS t)", [text]).fetchone() == (
        False,
    )


def holds_non_numbers(value: Any) -> bool:
    """Whether a JSON document holds NaN or an infinity, or a lone surrogate, which DuckDB refuses."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(holds_non_numbers, value.values()))
    return isinstance(value, list) and any(map(holds_non_numbers, value))


def fail(constant: str) -> None:
    raise AssertionError(constant)


@settings(max_examples=80, deadline=None)
@given(st.text())
def test_literals_are_only_texts(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    assert connection.execute(f"SELECT {literal(text)}").fetchone() == (text,)


def test_every_transform_says_what_it_expects() -> None:
    assert all(expected(transform) for transform in Transform)
    assert {transform for allowed in TRANSFORMS_FOR.values() for transform in allowed} == set(Transform)
    assert set(TRANSFORMS_FOR) == set(ColumnType)
