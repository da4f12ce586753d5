"""Guess a column mapping from the names of a file's columns and a sample of its values.

A name proposes targets, the values confirm, choose the transform, or veto: `created` holding 1767225600123 is a time in
milliseconds, `position` holding "left" is no position. All four kinds are tried and the one with the best evidence
wins; the others are offered as alternatives. Every rule carries a confidence and the reason in words.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Mapping as Cells
from dataclasses import dataclass
from functools import partial
from typing import Final

from pipelines.ingest.layout_columns import (
    ANNOTATOR_KIND_WORDS,
    BOOLEAN_WORDS,
    KINDS,
    SIGNAL_KIND_WORDS,
    SPAN_KIND_WORDS,
    STATUS_WORDS,
    TARGETS,
    THUMB_WORDS,
    USUAL_NAMES,
    ColumnType,
    Kind,
    LayoutColumn,
)
from pipelines.ingest.mapping import Mapping, Rule, problems
from pipelines.ingest.transforms import RATING_SCALES, TICKS_PER_SECOND, TRANSFORMS_FOR, WRITTEN_TIMES, Transform

T = Transform
_MOST: Final = 0.8  # of the sampled values must be readable: some rows of a file may be bad
_NEARLY_ALL: Final = 0.95
_OWN, _STRONG, _WEAK, _BY_VALUES = 1.0, 0.9, 0.6, 0.5
_NO_VALUES: Final = 0.8


@dataclass(frozen=True)
class Note:
    """Why a rule is there: `confidence` from 0 to 1 and the `reason` in words."""

    rule: Rule
    confidence: float
    reason: str

    @property
    def target(self) -> str:
        """What the rule fills."""
        return self.rule.target

    @property
    def column(self) -> str | None:
        """The column it reads; None for a constant."""
        return self.rule.column


@dataclass(frozen=True)
class Alternative:
    """Another kind the file's rows may be; `guess(..., kind=kind)` gives its mapping."""

    kind: Kind
    confidence: float
    reason: str


@dataclass(frozen=True)
class Guess:
    """A mapping with the reason of every rule (`notes`, in the order of its rules).

    `confidence` and `reason` are of the kind chosen. `unmapped` columns are kept in the metadata. `companion` is a
    second mapping for the same file when its rows state a trace and feedback on it: compile it over the same columns,
    without extras, and the signals name the traces that `mapping` makes.
    """

    mapping: Mapping
    confidence: float
    reason: str
    notes: tuple[Note, ...]
    unmapped: tuple[str, ...]
    alternatives: tuple[Alternative, ...]
    companion: Mapping | None = None

    @property
    def usable(self) -> bool:
        """Whether files can be loaded with the mapping as it is; else an operator has to add rules."""
        return not problems(self.mapping)


@dataclass(frozen=True)
class _Read:
    """What the values say about a target: how to read them, in words, and how much that confirms the name."""

    transform: Transform
    words: str
    factor: float = 1.0


class _Column:
    """One column of the file: its name in the forms that are compared, and the sampled values that are not empty."""

    def __init__(self, name: str, sample: Sequence[Cells[str, object]]) -> None:
        self.name = name
        self.plain = _plain(name)
        cells = (_text(row.get(name)) for row in sample)
        self.values = [cell for cell in cells if cell]
        self.words = [value.lower() for value in self.values]
        self.numbers = [number for value in self.values if (number := _number(value)) is not None]

    def share(self, test: Callable[[str], object]) -> float:
        return sum(1 for value in self.values if test(value)) / len(self.values) if self.values else 0.0

    def mostly(self, test: Callable[[str], object]) -> bool:
        return self.share(test) >= _MOST

    @property
    def numeric(self) -> bool:
        return self.numbers_are(lambda number: True)

    def numbers_are(self, test: Callable[[float], bool], most: float = _MOST) -> bool:
        return bool(self.values) and sum(map(test, self.numbers)) >= most * len(self.values)

    @property
    def distinct(self) -> bool:
        return len(set(self.values)) == len(self.values)

    def mostly_in(self, *vocabularies: Iterable[str]) -> bool:
        known = {word for words in vocabularies for word in words}
        return bool(self.words) and sum(word in known for word in self.words) >= _MOST * len(self.words)


def guess(
    columns: Sequence[str], sample: Sequence[Cells[str, object]], *, source: str = "upload", kind: Kind | None = None
) -> Guess:
    """Guess how the columns of a file map to targets.

    Args: `columns` in the file's order; `sample` some of its first rows, by column: texts, or the values of typed
    columns and of JSON; `source` to note in the mapping; `kind` when the operator has decided it (default: the kind
    with the best evidence).
    """
    described = [_Column(name, sample) for name in columns]
    found = {each: _assign(each, described) for each in KINDS}
    scores = {each: _evidence(each, found, described) for each in KINDS}
    chosen: Kind = kind if kind is not None else max(KINDS, key=lambda each: scores[each][0])
    notes = tuple(found[chosen].values())
    mapping = Mapping(chosen, tuple(note.rule for note in notes), source)
    others = sorted((each for each in KINDS if each != chosen), key=lambda each: -scores[each][0])
    used = set(mapping.columns())
    return Guess(
        mapping=mapping,
        confidence=scores[chosen][0],
        reason=scores[chosen][1],
        notes=notes,
        unmapped=tuple(name for name in columns if name not in used),
        alternatives=tuple(Alternative(each, *scores[each]) for each in others if scores[each][0] >= _PLAUSIBLE),
        companion=_companion(mapping, found["signals"], source) if chosen == "traces" else None,
    )


_PLAUSIBLE: Final = 0.3


def _assign(kind: Kind, columns: list[_Column]) -> dict[str, Note]:
    """The best one-to-one assignment of columns to the targets of a kind, best matches first."""
    proposals = []
    for target in TARGETS[kind].values():
        strong, weak = _names_of(kind, target.name)
        for place, column in enumerate(columns):
            own = column.name == target.name
            if own:
                strength, why = _OWN, "is the layout's own name"
            elif column.plain in strong:
                strength, why = _STRONG, f"is a usual name for {target.name}"
            elif column.plain in weak:
                strength, why = _WEAK, f"often means {target.name}"
            else:
                continue
            read = _read(target, column, kind, own=own)
            if read is not None:
                rule = Rule(target.name, column.name, read.transform)
                reason = f'The name "{column.name}" {why}; {read.words}.'
                proposals.append((-strength * read.factor, place, Note(rule, strength * read.factor, reason)))
    taken: dict[str, Note] = {}
    used: set[str | None] = set()
    for _, _, note in sorted(proposals, key=lambda each: each[:2]):
        if note.target not in taken and note.column not in used:
            taken[note.target] = note
            used.add(note.column)
    for note in _by_values(kind, taken, [column for column in columns if column.name not in used]):
        taken.setdefault(note.target, note)
    if "started_at" not in taken:
        taken.pop("duration_seconds", None)
    if kind == "signals" and "kind" not in taken:
        constant = _constant_kind(taken)
        if constant is not None:
            taken["kind"] = constant
    order = {name: place for place, name in enumerate(TARGETS[kind])}
    return dict(sorted(taken.items(), key=lambda item: order[item[0]]))


def _by_values(kind: Kind, taken: dict[str, Note], free: list[_Column]) -> Iterable[Note]:
    """What values alone suggest, for the targets without which little can be learned."""
    when = "occurred_at" if "occurred_at" in TARGETS[kind] else "started_at"
    for column in free:
        read = _read_time(column)
        if when not in taken and read is not None and read.transform in WRITTEN_TIMES:
            yield Note(Rule(when, column.name, read.transform), _BY_VALUES, f"Nothing else is a time; {read.words}.")
        if kind == "impressions":  # features of users are hashed: what looks like an id is none
            continue
        names_id = column.plain.endswith(("id", "key", "ref", "uuid", "guid")) or "trace" in column.plain
        unique = column.distinct or kind != "traces"
        if "trace_id" not in taken and names_id and unique and column.mostly(_TRACE_ID.fullmatch):
            rule = Rule("trace_id", column.name, T.TEXT)
            yield Note(rule, _BY_VALUES, f'The values of "{column.name}" are ids of 32 hexadecimal digits.')
        if kind == "signals" and "value" not in taken and column.mostly_in(*_PLAIN_THUMBS):
            rule = Rule("value", column.name, T.THUMB)
            yield Note(rule, _BY_VALUES, f'The values of "{column.name}" are thumbs, such as {column.values[0]}.')


def _constant_kind(taken: dict[str, Note]) -> Note | None:
    """The kind of all signals of a file, from the column that holds their value or text."""
    stated = taken.get("value") or taken.get("text")
    if stated is None:
        return None
    name, transform = _plain(stated.column or ""), stated.rule.transform
    judged = any("judge" in _plain(_column(taken, target)) for target in ("annotator_kind", "annotator_id"))
    if stated.target == "text":
        kind = "correction" if "correct" in name else "comment"
    elif name in _MONEY_NAMES:
        kind = "purchase"
    elif name in _OUTCOME_NAMES:
        kind = "outcome"
    elif judged:
        kind = "judge"
    elif transform in RATING_SCALES:
        kind = "rating"
    else:
        kind = "annotation" if transform is T.NUMBER else "thumb"
    reason = f'No column names the kind; "{stated.column}" says that every row is of kind {kind}.'
    return Note(Rule("kind", None, T.SIGNAL_KIND, kind), stated.confidence, reason)


def _column(taken: dict[str, Note], target: str) -> str:
    note = taken.get(target)
    return (note.column or "") if note is not None else ""


def _companion(traces: Mapping, signals: dict[str, Note], source: str) -> Mapping | None:
    """The mapping of the feedback that rows of traces hold: it reads the same ids, so that the signals find them."""
    busy = {rule.column for rule in traces.rules if rule.target in ("input", "output", "status", "task")}
    stated = [signals[name] for name in ("value", "text") if name in signals]
    if not any(each.confidence >= _STRONG * _NO_VALUES and each.column not in busy for each in stated):
        return None
    shared = ("session_id", "user_id", "kind", "value", "text", "occurred_at")
    rules = [signals[name].rule for name in shared if name in signals and signals[name].column not in busy]
    trace_id = traces.rule("trace_id") or Rule("trace_id", None, T.ROW_ID)
    return Mapping("signals", (trace_id, *rules), source)


def _evidence(kind: Kind, found: dict[Kind, dict[str, Note]], columns: list[_Column]) -> tuple[float, str]:
    """How likely the rows are of this kind, from 0 to 1, and why."""
    taken = found[kind]
    texts = {"input", "output"} & set(found["traces"])
    score, why = _typical(kind, taken, texts, columns)
    share = sum(column.name in TARGETS[kind] for column in columns) / max(1, len(columns))
    complete = all(target.required <= (name in taken) for name, target in TARGETS[kind].items())
    if complete and share >= _MOST and set(taken) & _CONTENT[kind]:
        score, why = max(score, 0.6 + 0.38 * share), f"{share:.0%} of the columns have the names of the {kind} layout"
    return round(score, 2), why[:1].upper() + why[1:] + "."


_CONTENT: Final[dict[Kind, set[str]]] = {
    "traces": {"input", "output", "started_at", "status", "input_tokens", "cost_usd", "task"},
    "spans": {"span_id"},
    "signals": {"kind"},
    "impressions": {"clicked"},
}


def _typical(kind: Kind, taken: dict[str, Note], texts: set[str], columns: list[_Column]) -> tuple[float, str]:
    """The score of the columns that are typical of a kind, and which they are."""
    has = set(taken)
    if kind == "impressions":
        shown = sorted(has & {"item", "position", "propensity"})
        if "clicked" not in has:
            return 0.0, "no column says what was clicked"
        score = (0.95 if len(shown) > 1 else 0.85 if shown else 0.5) * (0.5 if len(texts) > 1 else 1.0)
        words = " beside what was shown" if shown else ""
        return score * min(1.0, taken["clicked"].confidence + 0.1), f"a column says what was clicked{words}"
    if kind == "spans":
        if "trace_id" not in has or not has & {"span_id", "parent_span_id"}:
            repeated = "trace_id" in has and not _described(columns, taken["trace_id"]).distinct
            steps = repeated and bool(has & {"name", "kind", "ordinal"})
            return (0.75, "trace ids repeat and a column names the steps") if steps else (0.0, "no ids of spans")
        described = has & {"parent_span_id", "kind", "name"}
        return (0.9 if described else 0.6), "there are ids of spans within traces"
    if kind == "signals":
        if "kind" not in has:
            return 0.0, "no column holds feedback or events"
        if taken["kind"].rule.column is not None:
            return 0.88, "a column names kinds of signals"
        score = 0.3 + 0.5 * taken["kind"].confidence + (0.1 if "item" in has else 0.0)
        return (min(score, 0.5) if texts else score), "a column holds feedback"
    if texts:
        return (0.85 if len(texts) > 1 else 0.7), f"columns hold {' and '.join(sorted(texts))}"
    if has & {"model", "input_tokens", "output_tokens", "cost_usd", "duration_seconds", "agent"}:
        return 0.65, "columns describe runs: their model, tokens, cost or duration"
    return (0.35 if has & {"trace_id", "session_id", "started_at"} else 0.1), "nothing says otherwise"


def _described(columns: list[_Column], note: Note) -> _Column:
    return next(column for column in columns if column.name == note.column)


def _read(target: LayoutColumn, column: _Column, kind: Kind, *, own: bool) -> _Read | None:
    """How the values can be read for a target; None when they speak against it."""
    default = TRANSFORMS_FOR[target.type][0]
    if not column.values:
        return _Read(default, "the sample has no values", _NO_VALUES)
    read = _typed(target, column, kind)
    if read is None and own and _some_readable(target, column):
        return _Read(default, "few of the values fit", 0.5)
    return read


def _some_readable(target: LayoutColumn, column: _Column) -> bool:
    """Whether a column with a target's own name may still be that target, its bad cells being rejects."""
    words = _WORDS_OF.get(target.type)
    return bool(words & set(column.words)) if words is not None else True


def _typed(target: LayoutColumn, column: _Column, kind: Kind) -> _Read | None:
    """Confirm, or veto, that the values are of a target's type."""
    match target.type:
        case ColumnType.ID:
            return _read_id(target, column, kind)
        case ColumnType.TEXT:
            odd = target.name in ("input", "output") and column.numeric
            return _Read(T.TEXT, "the values are numbers", 0.5) if odd else _Read(T.TEXT, "the values are texts")
        case ColumnType.INTEGER | ColumnType.TOKENS:
            fits = column.numbers_are(_is_count)
            return _Read(T.INTEGER, "the values are whole numbers") if fits else None
        case ColumnType.POSITION:
            if not column.numbers_are(_is_count):
                return None
            # among positions from 0 the first is about as frequent as the second; a stray 0 is a bad cell
            if 0.0 in column.numbers and column.numbers.count(1.0) <= 2 * column.numbers.count(0.0):
                return _Read(T.POSITION_FROM_ZERO, "the values count from 0")
            return _Read(T.INTEGER, "the values are whole numbers from 1")
        case ColumnType.PROPENSITY:
            fits = column.numbers_are(lambda number: 0 < number <= 1)
            return _Read(T.NUMBER, "the values are probabilities") if fits else None
        case ColumnType.BOOLEAN:
            fits = column.mostly_in(*BOOLEAN_WORDS.values())
            return _Read(T.BOOLEAN, f"the values are such as {column.values[0]}") if fits else None
        case ColumnType.TIME:
            return _read_time(column)
        case ColumnType.DURATION:
            return _read_duration(column)
        case ColumnType.MONEY:
            return _read_money(column)
        case ColumnType.NUMBER:
            return _read_value(column)
        case ColumnType.JSON_OBJECT | ColumnType.JSON_ARRAY:
            opening = "{" if target.type is ColumnType.JSON_OBJECT else "["
            fits = column.mostly(lambda value: value.startswith(opening))
            return _Read(T.JSON, "the values are JSON") if fits else None
        case _:
            transform = TRANSFORMS_FOR[target.type][0]
            known = sum(word in _WORDS_OF[target.type] for word in column.words) / len(column.words)
            return _Read(transform, f"the values are such as {column.values[0]}") if known >= 0.5 else None


_WORDS_OF: Final[dict[ColumnType, frozenset[str]]] = {
    ColumnType.STATUS: frozenset().union(*STATUS_WORDS.values()),
    ColumnType.SPAN_KIND: frozenset().union(*SPAN_KIND_WORDS.values(), {"span", "event", "prompt", "parser"}),
    ColumnType.SIGNAL_KIND: frozenset().union(*SIGNAL_KIND_WORDS.values()),
    ColumnType.ANNOTATOR_KIND: frozenset().union(*ANNOTATOR_KIND_WORDS.values()),
}


def _read_id(target: LayoutColumn, column: _Column, kind: Kind) -> _Read | None:
    """Ids are short; the id of the record itself does not repeat."""
    if max(map(len, column.values)) > _LONGEST_ID:
        return None
    identity = {"traces": "trace_id", "spans": "span_id"}.get(kind, "signal_id")
    if target.name == identity and not column.distinct:
        return _Read(T.TEXT, "the values repeat", 0.6) if column.plain == _plain(identity) else None
    hexadecimal = column.mostly(_HEX_ID.fullmatch)
    return _Read(T.TEXT, "the values are hexadecimal ids" if hexadecimal else "the values are short enough for ids")


def _read_time(column: _Column) -> _Read | None:
    if column.numeric:
        for transform, ticks in TICKS_PER_SECOND.items():
            first, last = _EPOCH_1990 * ticks, _EPOCH_2100 * ticks
            if column.numbers_are(partial(_between, first, last)):
                return _Read(transform, f"the values are {transform.removeprefix('time_')} since 1970")
        return None
    if column.mostly(_ISO_TIME.match):
        return _Read(T.TIME_AUTO, f"the values are times such as {column.values[0]}")
    dates = [match for value in column.values if (match := _ORDERED_DATE.match(value))]
    if len(dates) < _MOST * len(column.values):
        return None
    if any(int(date[1]) > 12 for date in dates):
        return _Read(T.TIME_DMY, "the values are dates with the day first")
    if any(int(date[2]) > 12 for date in dates):
        return _Read(T.TIME_MDY, "the values are dates with the month first")
    return _Read(T.TIME_AUTO, "day and month cannot be told apart: choose time_mdy or time_dmy", 0.3)


def _read_duration(column: _Column) -> _Read | None:
    if not column.numbers_are(lambda number: number >= 0):
        return None
    if column.plain.endswith(("ms", "millis", "milliseconds", "msec")):
        return _Read(T.MILLISECONDS, "its name says milliseconds")
    if column.plain.endswith(("seconds", "secs", "sec")) or column.name.lower().endswith(("_s", "(s)")):
        return _Read(T.SECONDS, "its name says seconds")
    if column.numbers_are(_is_count) and sorted(column.numbers)[len(column.numbers) // 2] >= _LIKELY_MILLISECONDS:
        return _Read(T.MILLISECONDS, "whole numbers this large are milliseconds", 0.7)
    return _Read(T.SECONDS, "numbers this small are seconds", 0.7)


def _read_money(column: _Column) -> _Read | None:
    if not column.mostly(_MONEY.fullmatch):
        return None
    if "micro" in column.plain:
        return _Read(T.MICRO_USD, "its name says millionths of a dollar")
    if "cent" in column.plain:
        return _Read(T.CENTS, "its name says cents")
    return _Read(T.USD, f"the values are amounts such as {column.values[0]}")


def _read_value(column: _Column) -> _Read | None:
    """The value of a signal: a thumb, a rating on the smallest scale that holds the values, an amount, or a number."""
    name = column.plain
    if not column.numeric:
        if column.mostly_in(*THUMB_WORDS.values()):
            return _Read(T.THUMB, f"the values are thumbs such as {column.values[0]}")
        return _Read(T.USD, "the values are amounts") if column.mostly(_MONEY.fullmatch) else None
    if name in _MONEY_NAMES or name in _OUTCOME_NAMES or name == "value":
        return _Read(T.NUMBER, "the values are numbers")
    numbers, rated = set(column.numbers), name in _RATING_NAMES
    if numbers <= {0.0, 1.0} and not (numbers == {1.0} and rated and "score" not in name):
        return _Read(T.RATING_0_1 if rated else T.THUMB, "the values are 1 and 0")
    if numbers <= {-1.0, 1.0}:
        return _Read(T.THUMB, "the values are +1 and -1")
    for transform in ((T.RATING_0_10,) if "nps" in name else ()) + _SCALES:
        low, high = RATING_SCALES[transform]
        if column.numbers_are(partial(_between, low, high), _NEARLY_ALL):
            return _Read(transform, f"the values lie between {low} and {high}", 1.0 if rated else 0.9)
    return _Read(T.NUMBER, "the values are numbers", 0.7)


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
_MONEY_NAMES: Final = {"amount", "revenue", "total", "price"}
_OUTCOME_NAMES: Final = {"reward", "success", "outcome", "correct", "iscorrect", "passed"}
_PLAIN_THUMBS: Final = [{w for w in words if w[:1] not in "+-01yntf"} for words in THUMB_WORDS.values()]
_EPOCH_1990: Final = 631_152_000
_EPOCH_2100: Final = 4_102_444_800
_LIKELY_MILLISECONDS: Final = 60
_LONGEST_ID: Final = 200
_HEX_ID: Final = re.compile(r"[0-9a-fA-F]{16}|[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_TRACE_ID: Final = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
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


def _plain(name: str) -> str:
    """A name without case and punctuation, the form in which names are compared."""
    return "".join(character for character in name.lower() if character.isalnum())


def _text(cell: object) -> str:
    """A sampled value as the text that a cell of CSV would hold, without blanks and quotes around it."""
    if cell is None:
        return ""
    return (json.dumps(cell, default=str) if isinstance(cell, (dict, list)) else str(cell)).strip().strip('"')


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None


def _names_of(kind: Kind, target: str) -> tuple[frozenset[str], frozenset[str]]:
    """The strong and the weak names of a target."""
    family = "signals" if kind == "impressions" else kind
    strong, _, weak = (USUAL_NAMES.get(f"{family}.{target}") or USUAL_NAMES.get(target, "")).partition("|")
    return frozenset(strong.split()), frozenset(weak.split())
