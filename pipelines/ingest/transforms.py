"""How one cell of a file becomes one typed value, as DuckDB expressions over whole columns.

A transform works in two steps, both SQL over aliases of ours and never over names or texts from a file. `read_cell`
normalises a column to a *cell*: NULL where the file has nothing. `value_of` turns the cell into a typed value: NULL
where it cannot be read, so `cell IS NOT NULL AND value IS NULL` is what makes a row a reject. Typed Parquet columns
take a direct path where there is one and are read as their text otherwise.

Nothing here depends on the session's time zone: casting text without a zone to TIMESTAMPTZ would, and DuckDB 1.5 even
reads such cells in the zone that an earlier cell of the same vector named. Texts are gated by shape before any cast.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final

import pyarrow as pa

from pipelines.ingest.layout_columns import (
    ANNOTATOR_KIND_WORDS,
    BOOLEAN_WORDS,
    SIGNAL_KIND_WORDS,
    SPAN_KIND_WORDS,
    STATUS_WORDS,
    THUMB_WORDS,
    ColumnType,
)


class Transform(StrEnum):
    """How a cell is read. The value is what a saved mapping holds."""

    TEXT = "text"
    ROW_ID = "row_id"
    INTEGER = "integer"
    POSITION_FROM_ZERO = "position_from_zero"
    NUMBER = "number"
    BOOLEAN = "boolean"
    PRESENT = "present"
    THUMB = "thumb"
    RATING_0_1 = "rating_0_1"
    RATING_1_5 = "rating_1_5"
    RATING_0_5 = "rating_0_5"
    RATING_1_10 = "rating_1_10"
    RATING_0_10 = "rating_0_10"
    RATING_0_100 = "rating_0_100"
    RATING_MINUS_1_1 = "rating_minus_1_1"
    TIME_AUTO = "time_auto"
    TIME_MDY = "time_mdy"
    TIME_DMY = "time_dmy"
    TIME_SECONDS = "time_seconds"
    TIME_MILLISECONDS = "time_milliseconds"
    TIME_MICROSECONDS = "time_microseconds"
    TIME_NANOSECONDS = "time_nanoseconds"
    SECONDS = "seconds"
    MILLISECONDS = "milliseconds"
    MICROSECONDS = "microseconds"
    NANOSECONDS = "nanoseconds"
    USD = "usd"
    CENTS = "cents"
    MICRO_USD = "micro_usd"
    JSON = "json"
    STATUS = "status"
    SPAN_KIND = "span_kind"
    SIGNAL_KIND = "signal_kind"
    ANNOTATOR_KIND = "annotator_kind"


T = Transform

RATING_SCALES: Final[dict[Transform, tuple[int, int]]] = {
    T.RATING_0_1: (0, 1),
    T.RATING_1_5: (1, 5),
    T.RATING_0_5: (0, 5),
    T.RATING_1_10: (1, 10),
    T.RATING_0_10: (0, 10),
    T.RATING_0_100: (0, 100),
    T.RATING_MINUS_1_1: (-1, 1),
}
TICKS_PER_SECOND: Final[dict[Transform, int]] = {
    T.TIME_SECONDS: 1,
    T.TIME_MILLISECONDS: 10**3,
    T.TIME_MICROSECONDS: 10**6,
    T.TIME_NANOSECONDS: 10**9,
}
DURATION_MICROSECONDS: Final[dict[Transform, float]] = {
    T.SECONDS: 1e6,
    T.MILLISECONDS: 1e3,
    T.MICROSECONDS: 1.0,
    T.NANOSECONDS: 1e-3,
}
WRITTEN_TIMES: Final = (T.TIME_AUTO, T.TIME_MDY, T.TIME_DMY)
_TEN_YEARS_IN_MICROSECONDS: Final = 10 * 366 * 86_400 * 10**6

TRANSFORMS_FOR: Final[dict[ColumnType, tuple[Transform, ...]]] = {
    ColumnType.ID: (T.TEXT, T.ROW_ID),
    ColumnType.TEXT: (T.TEXT,),
    ColumnType.INTEGER: (T.INTEGER,),
    ColumnType.TOKENS: (T.INTEGER,),
    ColumnType.POSITION: (T.INTEGER, T.POSITION_FROM_ZERO),
    ColumnType.NUMBER: (T.NUMBER, T.THUMB, T.BOOLEAN, *RATING_SCALES, T.USD, T.CENTS, T.MICRO_USD),
    ColumnType.PROPENSITY: (T.NUMBER,),
    ColumnType.MONEY: (T.USD, T.CENTS, T.MICRO_USD),
    ColumnType.BOOLEAN: (T.BOOLEAN, T.PRESENT),
    ColumnType.TIME: (*WRITTEN_TIMES, *TICKS_PER_SECOND),
    ColumnType.DURATION: tuple(DURATION_MICROSECONDS),
    ColumnType.JSON_OBJECT: (T.JSON,),
    ColumnType.JSON_ARRAY: (T.JSON,),
    ColumnType.STATUS: (T.STATUS,),
    ColumnType.SPAN_KIND: (T.SPAN_KIND,),
    ColumnType.SIGNAL_KIND: (T.SIGNAL_KIND,),
    ColumnType.ANNOTATOR_KIND: (T.ANNOTATOR_KIND,),
}
"""The transforms that may fill a target of each type; the first is the default."""

_UNREADABLE_KEPT: Final = {T.STATUS, T.SPAN_KIND, T.ANNOTATOR_KIND}


VOCABULARIES: Final[dict[Transform, dict[str, frozenset[str]]]] = {
    T.BOOLEAN: BOOLEAN_WORDS,
    T.THUMB: THUMB_WORDS,
    T.STATUS: STATUS_WORDS,
    T.SPAN_KIND: SPAN_KIND_WORDS,
    T.SIGNAL_KIND: SIGNAL_KIND_WORDS,
    T.ANNOTATOR_KIND: ANNOTATOR_KIND_WORDS,
}

_EXPECTED: Final[dict[Transform, str]] = {
    T.TEXT: "text, as it is",
    T.ROW_ID: "an id derived from the row's contents",
    T.PRESENT: "yes where there is anything, else no",
    T.JSON: "JSON; any other text is kept as a text",
    T.STATUS: "ok or error; anything else is kept in the metadata",
    T.SPAN_KIND: f"one of {', '.join(SPAN_KIND_WORDS)}; anything else is kept in the attributes",
    T.ANNOTATOR_KIND: f"one of {', '.join(ANNOTATOR_KIND_WORDS)}; anything else is kept in the metadata",
    T.INTEGER: "a whole number",
    T.POSITION_FROM_ZERO: "a position counted from 0, a whole number",
    T.NUMBER: "a finite number such as 0.25",
    T.BOOLEAN: "yes or no, true or false, 1 or 0",
    T.THUMB: "a thumb: up or down, yes or no, like or dislike, +1 or -1, 1 or 0, 👍 or 👎",
    T.TIME_AUTO: "a time such as 2026-01-31T10:00:00Z (where day and month could be either, choose time_mdy or "
    "time_dmy; for a count since 1970, its unit such as time_milliseconds)",
    T.TIME_MDY: "a time such as 01/31/2026 10:00, month first",
    T.TIME_DMY: "a time such as 31/01/2026 10:00, day first",
    **{
        unit: f"{unit.removeprefix('time_')} since 1970, for a time from 1990-01-01 to 2100-01-01"
        for unit in TICKS_PER_SECOND
    },
    **{unit: f"a duration in {unit}, 0 or more and at most ten years" for unit in DURATION_MICROSECONDS},
    T.USD: "an amount in US dollars such as 0.0012, $1.50 or 1,234.50",
    T.CENTS: "an amount in cents, a finite number",
    T.MICRO_USD: "an amount in millionths of a dollar, a finite number",
    T.SIGNAL_KIND: f"one of {', '.join(SIGNAL_KIND_WORDS)}",
    **{rating: f"a rating from {low} to {high}" for rating, (low, high) in RATING_SCALES.items()},
}


class Shape(Enum):
    """What a column holds as far as transforms care; everything else is read as its text."""

    TEXT = "text"
    INTEGER = "integer"
    FLOAT = "float"
    BOOLEAN = "boolean"
    TIME = "time"
    NESTED = "nested"


@dataclass(frozen=True)
class Cell:
    """A normalised cell: SQL that is NULL where the file has nothing, and the shape of what it yields."""

    sql: str
    shape: Shape


def literal(text: str) -> str:
    """A DuckDB string expression for any text; statements cannot hold NUL, nor texts lone surrogates."""
    clean = text.encode("utf-8", "replace").decode()
    return " || chr(0) || ".join("'" + part.replace("'", "''") + "'" for part in clean.split("\0"))


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))


def shape_of(type_: pa.DataType) -> Shape:
    """The shape of an Arrow column; types without a direct path, binary included, count as text."""
    if pa.types.is_dictionary(type_):
        return Shape.TEXT
    if pa.types.is_integer(type_):
        return Shape.INTEGER
    if pa.types.is_floating(type_) or pa.types.is_decimal(type_):
        return Shape.FLOAT
    if pa.types.is_boolean(type_):
        return Shape.BOOLEAN
    if pa.types.is_timestamp(type_) or pa.types.is_date(type_):
        return Shape.TIME
    return Shape.NESTED if pa.types.is_nested(type_) else Shape.TEXT


def text_of(column: str, type_: pa.DataType) -> str:
    """SQL for a column as VARCHAR, NULL where it is null or an empty text."""
    if _is_text(type_):
        return f"CASE WHEN {column} <> '' THEN {column} END"
    if shape_of(type_) is Shape.NESTED:
        return f"CAST(to_json({column}) AS VARCHAR)"
    if pa.types.is_binary(type_) or pa.types.is_large_binary(type_) or pa.types.is_fixed_size_binary(type_):
        return f"nullif(coalesce(TRY(decode({column})), CAST({column} AS VARCHAR)), '')"
    return f"nullif(CAST({column} AS VARCHAR), '')"


_BLANKS: Final = ("' '", "chr(9)", "chr(10)", "chr(13)", "'\"'")


def _trimmed(text: str) -> str:
    """Whitespace and the quotes that some exporters write inside a cell do not count, except in free text."""
    # trim with a set of characters costs more than all else done to a cell; most cells plainly need none
    tail = " OR ".join(f"suffix({text}, {blank})" for blank in _BLANKS)
    trimmed = f"nullif(trim({text}, {' || '.join(_BLANKS)}), '')"
    return f"CASE WHEN {text} >= '#' AND NOT ({tail}) THEN {text} ELSE {trimmed} END"


_NUMERIC: Final = {
    T.INTEGER,
    T.POSITION_FROM_ZERO,
    T.NUMBER,
    T.USD,
    T.CENTS,
    T.MICRO_USD,
    *RATING_SCALES,
    *DURATION_MICROSECONDS,
    *TICKS_PER_SECOND,
}
_TIMES: Final = {*WRITTEN_TIMES, *TICKS_PER_SECOND}


def read_cell(transform: Transform, column: str, type_: pa.DataType, *, is_id: bool = False) -> Cell:
    """Normalise a column for a transform. `column` is an alias of ours, `is_id` trims blanks around an id."""
    shape = shape_of(type_)
    if shape in (Shape.INTEGER, Shape.FLOAT) and transform in _NUMERIC:
        # decimals of any width are exact enough as DOUBLE, and DuckDB's wide decimal arithmetic is slow and overflows
        return Cell(f"CAST({column} AS DOUBLE)" if pa.types.is_decimal(type_) else column, shape)
    if shape is Shape.TIME and transform in _TIMES:
        zoned = pa.types.is_timestamp(type_) and type_.tz is not None
        micros = f"epoch_us({column})" if zoned else f"epoch_us(TRY_CAST({column} AS TIMESTAMP))"
        return Cell(f"make_timestamptz({micros})", shape)
    if shape is Shape.BOOLEAN and transform is T.BOOLEAN:
        return Cell(column, shape)
    text = text_of(column, type_)
    if transform is T.PRESENT or (transform is T.TEXT and not is_id):
        return Cell(text, Shape.TEXT)
    if transform is T.JSON:
        return Cell(f"nullif(trim({text}, {' || '.join(_BLANKS[:4])}), '')", Shape.TEXT)
    return Cell(_trimmed(column if _is_text(type_) else text), Shape.TEXT)


def _number(cell: str, shape: Shape) -> str:
    return f"try_cast({cell} AS DOUBLE)" if shape is Shape.TEXT else f"CAST({cell} AS DOUBLE)"


def _finite(number: str) -> str:
    return f"CASE WHEN isfinite({number}) THEN {number} END"


def _whole(cell: str, shape: Shape) -> str:
    """BIGINT, or NULL unless it is whole: DuckDB's own cast rounds 1.5 to 2 and reads 0x1F."""
    if shape is Shape.INTEGER:
        return f"try_cast({cell} AS BIGINT)"
    exact = f"{_number(cell, shape)} = try_cast({cell} AS BIGINT)"
    return f"CASE WHEN {exact} THEN try_cast({cell} AS BIGINT) END"


def in_words(text: str, words: Iterable[str]) -> str:
    """SQL testing whether lower-case `text` is one of the words."""
    return f"{text} IN ({', '.join(literal(word) for word in sorted(words))})"


def _from_words(cell: str, vocabulary: Mapping[str, frozenset[str]], results: Mapping[str, str]) -> str:
    branches = (f"WHEN {in_words(f'lower({cell})', words)} THEN {results[key]}" for key, words in vocabulary.items())
    return f"CASE {' '.join(branches)} END"


_DATE = r"\d{4}-\d\d-\d\d"
_LOOSE_DATE = r"\d{4}[-/]\d\d?[-/]\d\d?"
_CLOCK = r"[T ](?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d+)?"
_LOOSE_CLOCK = r"[T ](?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d+)?)?"
_IN_UTC = r"(?:Z|\+00(?::?00)?)?"
_OFFSET = r"[+-](?:0\d|1[0-8])(?::?[0-5]\d)?"


def _utc(text: str) -> str:
    """TIMESTAMPTZ of a text without a zone or in UTC: a cast to TIMESTAMP ignores whatever zone the text states."""
    return f"make_timestamptz(epoch_us(try_cast({text} AS TIMESTAMP)))"


def _with_offset(text: str) -> str:
    """TIMESTAMPTZ of a text that ends in an offset; DuckDB's own cast wants seconds before it."""
    offset = f"regexp_extract({text}, '{_OFFSET}$')"
    minutes = f"try_cast(substr({offset}, 2, 2) AS BIGINT) * 60"
    minutes += f" + CASE WHEN strlen({offset}) > 3 THEN try_cast(right({offset}, 2) AS BIGINT) ELSE 0 END"
    sign = f"CASE WHEN starts_with({offset}, '-') THEN -60000000 ELSE 60000000 END"
    local = f"epoch_us(try_cast(left({text}, -strlen({offset})) AS TIMESTAMP))"
    return f"make_timestamptz({local} - {sign} * ({minutes}))"


def _iso_time(cell: str) -> str:
    """ISO 8601 and its common variants; the usual shapes never pay for the unusual ones."""
    plain = f"upper(replace({cell}, ',', '.'))"
    for zone in (" +0000 UTC", " UTC", "UTC", " GMT", "GMT", " Z"):
        plain = f"replace({plain}, '{zone}', 'Z')"
    plain = f"replace(replace({plain}, ' +', '+'), ' -', '-')"
    bare = rf"regexp_replace({plain}, 'Z$|\+00(?::?00)?$', '')"  # the cast wants seconds before a zone
    return (
        f"CASE WHEN regexp_full_match({cell}, '{_DATE}(?:{_CLOCK}{_IN_UTC})?') THEN {_utc(cell)} "
        f"WHEN regexp_full_match({cell}, '{_DATE}{_CLOCK}{_OFFSET}') THEN {_with_offset(cell)} "
        f"WHEN regexp_full_match({plain}, '{_LOOSE_DATE}(?:{_LOOSE_CLOCK}{_IN_UTC})?') THEN {_utc(bare)} "
        f"WHEN regexp_full_match({plain}, '{_LOOSE_DATE}{_LOOSE_CLOCK}{_OFFSET}') THEN {_with_offset(plain)} END"
    )


_CLOCK_FORMATS: Final = ("", " %H:%M:%S", " %H:%M", " %H:%M:%S.%f", " %I:%M:%S %p", " %I:%M %p")


def _ordered_time(cell: str, first: str, second: str) -> str:
    """Day and month in a stated order; separators / . and -, a 24-hour or an AM/PM clock, read as UTC."""
    formats = [f"%{first}{sep}%{second}{sep}%Y{clock}" for sep in "/.-" for clock in _CLOCK_FORMATS]
    listed = ", ".join(f"'{each}'" for each in formats)
    # browsers print a comma before the clock
    return f"make_timestamptz(epoch_us(try_strptime(replace({cell}, ', ', ' '), [{listed}])))"


def _counted_time(cell: str, shape: Shape, ticks: int) -> str:
    """A count since 1970; NULL outside the years 1 to 9999, where microseconds still fit a BIGINT."""
    number, whole = _number(cell, shape), _whole(cell, shape)
    micros = f"CAST(round({number} * {10**6 / ticks!r}) AS BIGINT)"
    if ticks > 10**6:  # a DOUBLE holds nanoseconds since 1970 only to 256 ns
        micros = f"coalesce({whole} // {ticks // 10**6}, {micros})"
    inside = f"{number} BETWEEN {-62_135_596_800 * ticks}.0 AND {253_402_300_799 * ticks}.0"
    return f"CASE WHEN {inside} THEN make_timestamptz({micros}) END"


_USD_SHAPE: Final = r"[+-]? ?(?:US\$|USD|\$)? ?[+-]?(?:\d{1,3}(?:,\d{3})+|\d*)(?:\.\d*)?(?:[eE][+-]?\d+)? ?(?:USD|\$)?"


def _dollars(cell: str, shape: Shape) -> str:
    if shape is not Shape.TEXT:
        return _finite(_number(cell, shape))
    digits = f"replace(replace(replace(replace(replace({cell}, ',', ''), ' ', ''), 'US', ''), 'D', ''), '$', '')"
    return (
        f"CASE WHEN isfinite(try_cast({cell} AS DOUBLE)) THEN try_cast({cell} AS DOUBLE) "
        f"WHEN regexp_full_match({cell}, '{_USD_SHAPE}') AND isfinite(try_cast({digits} AS DOUBLE)) "
        f"THEN try_cast({digits} AS DOUBLE) END"
    )


_MAX_BRACKETS: Final = 800


def is_strict_json(text: str) -> str:
    """SQL testing that `text` is JSON every reader takes.

    DuckDB's parser also takes NaN, Infinity and trailing commas; those outside of strings are looked for only in texts
    that hold such letters at all. Texts with more brackets than Python's recursion limit allows to nest are refused.
    """
    lenient = r"(?i)nan|inf|,\s*[\]}]"
    without_strings = f"""regexp_replace({text}, '"(?:[^"\\\\]|\\\\.)*"', '""', 'g')"""
    brackets = f"strlen({text}) - strlen(replace(replace({text}, '[', ''), '{{', ''))"
    return (
        f"(json_valid({text}) AND {brackets} <= {_MAX_BRACKETS} AND CASE WHEN regexp_matches({text}, '{lenient}') "
        f"THEN NOT regexp_matches({without_strings}, '{lenient}') ELSE true END)"
    )


def value_of(transform: Transform, cell: str, shape: Shape) -> str:
    """SQL for the typed value of a normalised cell (an alias); NULL where the cell is null or cannot be read.

    TIMESTAMPTZ for times, BIGINT for whole numbers, BIGINT microseconds for durations, DOUBLE for other numbers.
    """
    number = _number(cell, shape)
    match transform:
        case T.TEXT | T.ROW_ID | T.JSON:
            return cell
        case T.PRESENT:
            return f"({cell} IS NOT NULL)"
        case T.INTEGER:
            return _whole(cell, shape)
        case T.POSITION_FROM_ZERO:
            whole = _whole(cell, shape)
            return f"CASE WHEN {whole} < 2147483647 THEN {whole} + 1 END"
        case T.NUMBER:
            return _finite(number)
        case T.BOOLEAN:
            words = {"true": "true", "false": "false"}
            return cell if shape is Shape.BOOLEAN else _from_words(cell, BOOLEAN_WORDS, words)
        case T.THUMB:
            toned = f"WHEN starts_with({cell}, '👍') THEN 1.0 WHEN starts_with({cell}, '👎') THEN 0.0"
            return _from_words(cell, THUMB_WORDS, {"1": "1.0", "0": "0.0"}).removesuffix("END") + f"{toned} END"
        case T.TIME_AUTO:
            return cell if shape is Shape.TIME else _iso_time(cell)
        case T.TIME_MDY:
            return cell if shape is Shape.TIME else _ordered_time(cell, "m", "d")
        case T.TIME_DMY:
            return cell if shape is Shape.TIME else _ordered_time(cell, "d", "m")
        case T.USD:
            return _dollars(cell, shape)
        case T.CENTS:
            return _finite(f"{number} / 100")
        case T.MICRO_USD:
            return _finite(f"{number} / 1e6")
        case _ if transform in RATING_SCALES:
            low, high = RATING_SCALES[transform]
            return f"CASE WHEN {number} BETWEEN {low} AND {high} THEN ({number} - {low}) / {high - low}.0 END"
        case _ if transform in TICKS_PER_SECOND:
            return cell if shape is Shape.TIME else _counted_time(cell, shape, TICKS_PER_SECOND[transform])
        case _ if transform in DURATION_MICROSECONDS:
            micros = f"{number} * {DURATION_MICROSECONDS[transform]!r}"
            inside = f"{micros} BETWEEN 0 AND {_TEN_YEARS_IN_MICROSECONDS}"
            return f"CASE WHEN {inside} THEN CAST(round({micros}) AS BIGINT) END"
        case _:
            vocabulary = VOCABULARIES[transform]
            return _from_words(cell, vocabulary, {word: literal(word) for word in vocabulary})


def can_reject(transform: Transform) -> bool:
    """Whether a cell that the transform cannot read makes its row a reject."""
    return transform not in _UNREADABLE_KEPT and transform not in (T.TEXT, T.ROW_ID, T.JSON, T.PRESENT)


def keeps_unread(transform: Transform) -> bool:
    """Whether a cell that the transform cannot read is kept in the row's metadata instead."""
    return transform in _UNREADABLE_KEPT or transform is T.PRESENT


def expected(transform: Transform) -> str:
    """What a cell must hold for the transform to read it, in words that finish "expected …"."""
    return _EXPECTED[transform]
