"""Guess a column mapping from the names of a file's columns and a sample of its values.

A name proposes targets, the values confirm, choose the transform, or veto: `created` holding 1767225600123 is a time in
milliseconds, `position` holding "left" is no position. All four kinds are tried and the one with the best evidence
wins; the others are offered as alternatives. Every rule carries a confidence and the reason in words.
"""

from collections.abc import Iterable, Sequence
from collections.abc import Mapping as Cells
from dataclasses import dataclass
from typing import Final

from pipelines.ingest.column_readings import (
    MONEY_NAMES,
    NO_VALUES,
    OUTCOME_NAMES,
    PLAIN_THUMBS,
    TRACE_ID,
    read,
    read_time,
)
from pipelines.ingest.layout_columns import KINDS, TARGETS, USUAL_NAMES, Kind
from pipelines.ingest.mapping import Mapping, Rule, problems
from pipelines.ingest.sampled_column import MOST, SampledColumn, plain_name
from pipelines.ingest.transforms import RATING_SCALES, WRITTEN_TIMES, Transform

T = Transform
_OWN, _STRONG, _WEAK, _BY_VALUES = 1.0, 0.9, 0.6, 0.5


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


def guess(
    columns: Sequence[str], sample: Sequence[Cells[str, object]], *, source: str = "upload", kind: Kind | None = None
) -> Guess:
    """Guess how the columns of a file map to targets.

    Args: `columns` in the file's order; `sample` some of its first rows, by column: texts, or the values of typed
    columns and of JSON; `source` to note in the mapping; `kind` when the operator has decided it (default: the kind
    with the best evidence).
    """
    described = [SampledColumn(name, sample) for name in columns]
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


def _assign(kind: Kind, columns: list[SampledColumn]) -> dict[str, Note]:
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
            reading = read(target, column, kind, own=own)
            if reading is not None:
                rule = Rule(target.name, column.name, reading.transform)
                reason = f'The name "{column.name}" {why}; {reading.words}.'
                proposals.append((-strength * reading.factor, place, Note(rule, strength * reading.factor, reason)))
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


def _by_values(kind: Kind, taken: dict[str, Note], free: list[SampledColumn]) -> Iterable[Note]:
    """What values alone suggest, for the targets without which little can be learned."""
    when = "occurred_at" if "occurred_at" in TARGETS[kind] else "started_at"
    for column in free:
        read = read_time(column)
        if when not in taken and read is not None and read.transform in WRITTEN_TIMES:
            yield Note(Rule(when, column.name, read.transform), _BY_VALUES, f"Nothing else is a time; {read.words}.")
        if kind == "impressions":  # features of users are hashed: what looks like an id is none
            continue
        names_id = column.plain.endswith(("id", "key", "ref", "uuid", "guid")) or "trace" in column.plain
        unique = column.distinct or kind != "traces"
        if "trace_id" not in taken and names_id and unique and column.mostly(TRACE_ID.fullmatch):
            rule = Rule("trace_id", column.name, T.TEXT)
            yield Note(rule, _BY_VALUES, f'The values of "{column.name}" are ids of 32 hexadecimal digits.')
        if kind == "signals" and "value" not in taken and column.mostly_in(*PLAIN_THUMBS):
            rule = Rule("value", column.name, T.THUMB)
            yield Note(rule, _BY_VALUES, f'The values of "{column.name}" are thumbs, such as {column.values[0]}.')


def _constant_kind(taken: dict[str, Note]) -> Note | None:
    """The kind of all signals of a file, from the column that holds their value or text."""
    stated = taken.get("value") or taken.get("text")
    if stated is None:
        return None
    name, transform = plain_name(stated.column or ""), stated.rule.transform
    judged = any("judge" in plain_name(_column(taken, target)) for target in ("annotator_kind", "annotator_id"))
    if stated.target == "text":
        kind = "correction" if "correct" in name else "comment"
    elif name in MONEY_NAMES:
        kind = "purchase"
    elif name in OUTCOME_NAMES:
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
    if not any(each.confidence >= _STRONG * NO_VALUES and each.column not in busy for each in stated):
        return None
    shared = ("session_id", "user_id", "kind", "value", "text", "occurred_at")
    rules = [signals[name].rule for name in shared if name in signals and signals[name].column not in busy]
    trace_id = traces.rule("trace_id") or Rule("trace_id", None, T.ROW_ID)
    return Mapping("signals", (trace_id, *rules), source)


def _evidence(kind: Kind, found: dict[Kind, dict[str, Note]], columns: list[SampledColumn]) -> tuple[float, str]:
    """How likely the rows are of this kind, from 0 to 1, and why."""
    taken = found[kind]
    texts = {"input", "output"} & set(found["traces"])
    score, why = _typical(kind, taken, texts, columns)
    share = sum(column.name in TARGETS[kind] for column in columns) / max(1, len(columns))
    complete = all(target.required <= (name in taken) for name, target in TARGETS[kind].items())
    if complete and share >= MOST and set(taken) & _CONTENT[kind]:
        score, why = max(score, 0.6 + 0.38 * share), f"{share:.0%} of the columns have the names of the {kind} layout"
    return round(score, 2), why[:1].upper() + why[1:] + "."


_CONTENT: Final[dict[Kind, set[str]]] = {
    "traces": {"input", "output", "started_at", "status", "input_tokens", "cost_usd", "task"},
    "spans": {"span_id"},
    "signals": {"kind"},
    "impressions": {"clicked"},
}


def _typical(kind: Kind, taken: dict[str, Note], texts: set[str], columns: list[SampledColumn]) -> tuple[float, str]:
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


def _described(columns: list[SampledColumn], note: Note) -> SampledColumn:
    return next(column for column in columns if column.name == note.column)


def _names_of(kind: Kind, target: str) -> tuple[frozenset[str], frozenset[str]]:
    """The strong and the weak names of a target."""
    family = "signals" if kind == "impressions" else kind
    strong, _, weak = (USUAL_NAMES.get(f"{family}.{target}") or USUAL_NAMES.get(target, "")).partition("|")
    return frozenset(strong.split()), frozenset(weak.split())
