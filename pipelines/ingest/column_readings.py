"""What the sampled values of a column say about a target: how they can be read, or that they speak against it."""

import re
from dataclasses import dataclass
from functools import partial
from typing import Final

from pipelines.ingest.layout_columns import (
    ANNOTATOR_KIND_WORDS,
    BOOLEAN_WORDS,
    SIGNAL_KIND_WORDS,
    SPAN_KIND_WORDS,
    STATUS_WORDS,
    THUMB_WORDS,
    ColumnType,
    Kind,
    LayoutColumn,
)
from pipelines.ingest.sampled_column import MOST, SampledColumn, plain_name
from pipelines.ingest.transforms import RATING_SCALES, TICKS_PER_SECOND, TRANSFORMS_FOR, Transform

__all__ = ["MONEY_NAMES", "NO_VALUES", "OUTCOME_NAMES", "PLAIN_THUMBS", "TRACE_ID", "Reading", "read", "read_time"]

T = Transform
_NEARLY_ALL: Final = 0.95
NO_VALUES: Final = 0.8


@dataclass(frozen=True)
class Reading:
    """What the values say about a target: how to read them, in words, and how much that confirms the name."""

    transform: Transform
    words: str
    factor: float = 1.0


def read(target: LayoutColumn, column: SampledColumn, kind: Kind, *, own: bool) -> Reading | None:
    """How the values can be read for a target; None when they speak against it."""
    default = TRANSFORMS_FOR[target.type][0]
    if not column.values:
        return Reading(default, "the sample has no values", NO_VALUES)
    read = _typed(target, column, kind)
    if read is None and own and _some_readable(target, column):
        return Reading(default, "few of the values fit", 0.5)
    return read


def _some_readable(target: LayoutColumn, column: SampledColumn) -> bool:
    """Whether a column with a target's own name may still be that target, its bad cells being rejects."""
    words = _WORDS_OF.get(target.type)
    return bool(words & set(column.words)) if words is not None else True


def _typed(target: LayoutColumn, column: SampledColumn, kind: Kind) -> Reading | None:
    """Confirm, or veto, that the values are of a target's type."""
    match target.type:
        case ColumnType.ID:
            return _read_id(target, column, kind)
        case ColumnType.TEXT:
            odd = target.name in ("input", "output") and column.numeric
            return Reading(T.TEXT, "the values are numbers", 0.5) if odd else Reading(T.TEXT, "the values are texts")
        case ColumnType.INTEGER | ColumnType.TOKENS:
            fits = column.numbers_are(_is_count)
            return Reading(T.INTEGER, "the values are whole numbers") if fits else None
        case ColumnType.POSITION:
            if not column.numbers_are(_is_count):
                return None
            # among positions from 0 the first is about as frequent as the second; a stray 0 is a bad cell
            if 0.0 in column.numbers and column.numbers.count(1.0) <= 2 * column.numbers.count(0.0):
                return Reading(T.POSITION_FROM_ZERO, "the values count from 0")
            return Reading(T.INTEGER, "the values are whole numbers from 1")
        case ColumnType.PROPENSITY:
            fits = column.numbers_are(lambda number: 0 < number <= 1)
            return Reading(T.NUMBER, "the values are probabilities") if fits else None
        case ColumnType.BOOLEAN:
            fits = column.mostly_in(*BOOLEAN_WORDS.values())
            return Reading(T.BOOLEAN, f"the values are such as {column.values[0]}") if fits else None
        case ColumnType.TIME:
            return read_time(column)
        case ColumnType.DURATION:
            return _read_duration(column)
        case ColumnType.MONEY:
            return _read_money(column)
        case ColumnType.NUMBER:
            return _read_value(column)
        case ColumnType.JSON_OBJECT | ColumnType.JSON_ARRAY:
            opening = "{" if target.type is ColumnType.JSON_OBJECT else "["
            fits = column.mostly(lambda value: value.startswith(opening))
            return Reading(T.JSON, "the values are JSON") if fits else None
        case _:
            transform = TRANSFORMS_FOR[target.type][0]
            known = sum(word in _WORDS_OF[target.type] for word in column.words) / len(column.words)
            return Reading(transform, f"the values are such as {column.values[0]}") if known >= 0.5 else None


_WORDS_OF: Final[dict[ColumnType, frozenset[str]]] = {
    ColumnType.STATUS: frozenset().union(*STATUS_WORDS.values()),
    ColumnType.SPAN_KIND: frozenset().union(*SPAN_KIND_WORDS.values(), {"span", "event", "prompt", "parser"}),
    ColumnType.SIGNAL_KIND: frozenset().union(*SIGNAL_KIND_WORDS.values()),
    ColumnType.ANNOTATOR_KIND: frozenset().union(*ANNOTATOR_KIND_WORDS.values()),
}


def _read_id(target: LayoutColumn, column: SampledColumn, kind: Kind) -> Reading | None:
    """Ids are short; the id of the record itself does not repeat."""
    if max(map(len, column.values)) > _LONGEST_ID:
        return None
    identity = {"traces": "trace_id", "spans": "span_id"}.get(kind, "signal_id")
    if target.name == identity and not column.distinct:
        return Reading(T.TEXT, "the values repeat", 0.6) if column.plain == plain_name(identity) else None
    hexadecimal = column.mostly(_HEX_ID.fullmatch)
    return Reading(T.TEXT, "the values are hexadecimal ids" if hexadecimal else "the values are short enough for ids")


def read_time(column: SampledColumn) -> Reading | None:
    """How the values can be read as times; None when they are none."""
    if column.numeric:
        for transform, ticks in TICKS_PER_SECOND.items():
            first, last = _EPOCH_1990 * ticks, _EPOCH_2100 * ticks
            if column.numbers_are(partial(_between, first, last)):
                return Reading(transform, f"the values are {transform.removeprefix('time_')} since 1970")
        return None
    if column.mostly(_ISO_TIME.match):
        return Reading(T.TIME_AUTO, f"the values are times such as {column.values[0]}")
    dates = [match for value in column.values if (match := _ORDERED_DATE.match(value))]
    if len(dates) < MOST * len(column.values):
        return None
    if any(int(date[1]) > 12 for date in dates):
        return Reading(T.TIME_DMY, "the values are dates with the day first")
    if any(int(date[2]) > 12 for date in dates):
        return Reading(T.TIME_MDY, "the values are dates with the month first")
    return Reading(T.TIME_AUTO, "day and month cannot be told apart: choose time_mdy or time_dmy", 0.3)


def _read_duration(column: SampledColumn) -> Reading | None:
    if not column.numbers_are(lambda number: number >= 0):
        return None
    if column.plain.endswith(("ms", "millis", "milliseconds", "msec")):
        return Reading(T.MILLISECONDS, "its name says milliseconds")
    if column.plain.endswith(("seconds", "secs", "sec")) or column.name.lower().endswith(("_s", "(s)")):
        return Reading(T.SECONDS, "its name says seconds")
    if column.numbers_are(_is_count) and sorted(column.numbers)[len(column.numbers) // 2] >= _LIKELY_MILLISECONDS:
        return Reading(T.MILLISECONDS, "whole numbers this large are milliseconds", 0.7)
    return Reading(T.SECONDS, "numbers this small are seconds", 0.7)


def _read_money(column: SampledColumn) -> Reading | None:
    if not column.mostly(_MONEY.fullmatch):
        return None
    if "micro" in column.plain:
        return Reading(T.MICRO_USD, "its name says millionths of a dollar")
    if "cent" in column.plain:
        return Reading(T.CENTS, "its name says cents")
    return Reading(T.USD, f"the values are amounts such as {column.values[0]}")


def _read_value(column: SampledColumn) -> Reading | None:
    """The value of a signal: a thumb, a rating on the smallest scale that holds the values, an amount, or a number."""
    name = column.plain
    if not column.numeric:
        if column.mostly_in(*THUMB_WORDS.values()):
            return Reading(T.THUMB, f"the values are thumbs such as {column.values[0]}")
        return Reading(T.USD, "the values are amounts") if column.mostly(_MONEY.fullmatch) else None
    if name in MONEY_NAMES or name in OUTCOME_NAMES or name == "value":
        return Reading(T.NUMBER, "the values are numbers")
    numbers, rated = set(column.numbers), name in _RATING_NAMES
    if numbers <= {0.0, 1.0} and not (numbers == {1.0} and rated and "score" not in name):
        return Reading(T.RATING_0_1 if rated else T.THUMB, "the values are 1 and 0")
    if numbers <= {-1.0, 1.0}:
        return Reading(T.THUMB, "the values are +1 and -1")
    for transform in ((T.RATING_0_10,) if "nps" in name else ()) + _SCALES:
        low, high = RATING_SCALES[transform]
        if column.numbers_are(partial(_between, low, high), _NEARLY_ALL):
            return Reading(transform, f"the values lie between {low} and {high}", 1.0 if rated else 0.9)
    return Reading(T.NUMBER, "the values are numbers", 0.7)


_SCALES: Final = (
    T.RATING_0_1,
    T.RATING_MINUS_1_1,
    T.RATING_1_5,
    T.RATING_0_5,
    T.RATING_1_10,
    T.RATING_0_10,
    T.RATING_0_100,
)
_RATING_NAMES: Final = {
    *("rating", "ratings", "userrating", "stars", "star", "starrating", "score", "resultscore", "feedbackscore"),
    *("csat", "csatscore", "nps", "npsscore", "grade", "satisfaction", "quality"),
}
MONEY_NAMES: Final = {"amount", "revenue", "total", "price"}
OUTCOME_NAMES: Final = {"reward", "success", "outcome", "correct", "iscorrect", "passed"}
PLAIN_THUMBS: Final = [{w for w in words if w[:1] not in "+-01yntf"} for words in THUMB_WORDS.values()]
_EPOCH_1990: Final = 631_152_000
_EPOCH_2100: Final = 4_102_444_800
_LIKELY_MILLISECONDS: Final = 60
_LONGEST_ID: Final = 200
_HEX_ID: Final = re.compile(r"[0-9a-fA-F]{16}|[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
TRACE_ID: Final = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_ISO_TIME: Final = re.compile(r"\d{4}[-/]\d\d?[-/]\d\d?(?:[T ]\d\d?:\d\d|$)", re.ASCII | re.IGNORECASE)
_ORDERED_DATE: Final = re.compile(r"(\d\d?)[/.-](\d\d?)[/.-]\d{4}(?:\D|$)", re.ASCII)
_MONEY: Final = re.compile(
    r"[+-]? ?(?:US\$|USD|\$)? ?[+-]?(?:\d{1,3}(?:,\d{3})+|\d+|(?=\.\d))(?:\.\d*)?(?:[eE][+-]?\d+)? ?(?:USD|\$)?",
    re.ASCII,
)


def _is_count(number: float) -> bool:
    return number >= 0 and number == int(number)


def _between(low: float, high: float, number: float) -> bool:
    return low <= number <= high
