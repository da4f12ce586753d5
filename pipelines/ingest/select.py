"""Compile a column mapping to one SELECT: rows of a file in, typed rows of a fact table and reasons of rejects out.

No name of a column and no text of a cell becomes part of the statement's structure: columns of the file are addressed
by position through aliases of ours (header names differ in case only, are empty, or hold quotes), and texts of the
mapping appear as string literals only. The statement is a chain of projections, which DuckDB runs vector by vector:

    file       the columns as f0, f1, ... and record_no
    texts      where ids are derived: t0, t1, ... the columns as texts
    digests    and the digest of all of them
    cells      k0, k1, ... the cell each rule reads, NULL where there is nothing
    readings   v0, v1, ... what its transform makes of it, NULL where that fails
    judged     fault: the number of the first check that the row fails, NULL when it is good
    kept       entries and object: what goes into the metadata
    signals    of impressions: signal_kind, one row for the impression and one for its click
"""

import json
from collections.abc import Mapping as Columns
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from pipelines.ingest import json_extras
from pipelines.ingest.layout_columns import TABLES, TARGETS, ColumnType, LayoutColumn, fact_columns
from pipelines.ingest.mapping import Mapping, Rule, validate
from pipelines.ingest.transforms import (
    RATING_SCALES,
    TICKS_PER_SECOND,
    Cell,
    Shape,
    Transform,
    can_reject,
    expected,
    is_strict_json,
    keeps_unread,
    literal,
    read_cell,
    shape_of,
    text_of,
    value_of,
)
from store.columns import RECORD_NO

REJECT_COLUMN: Final = "reject_column"
REJECT_REASON: Final = "reject_reason"
_SHOWN: Final = 80
_FIRST_SECOND: Final = 631_152_000  # 1990-01-01
_LAST_SECOND: Final = 4_102_444_800  # 2100-01-01
_INT32_MAX: Final = 2**31 - 1


@dataclass(frozen=True)
class Compiled:
    """A statement ready to run where the file's chunk is registered.

    `sql` returns `record_no`, then `columns` (name to DuckDB type) of the fact table `table`, then `reject_column` and
    `reject_reason`, which are null for a good row. A row of impressions that was clicked comes back twice.
    """

    sql: str
    table: str
    columns: dict[str, str]


def positional(chunk: pa.Table) -> pa.Table:
    """The chunk with its columns named by position, without copying: what to register for `compile_select`.

    DuckDB cannot scan an Arrow table with two equal names, names cut short by a NUL, or some names of its own.
    """
    return chunk.rename_columns([str(place) for place in range(chunk.num_columns)])


def compile_select(
    mapping: Mapping,
    columns: Columns[str, pa.DataType],
    relation: str,
    *,
    extras: Sequence[str] = (),
    packed: bool = False,
) -> Compiled:
    """Compile a mapping for chunks of a file.

    Args: `columns` of the chunk, names and types in its order; `relation` is the name under which the chunk is
    registered: those columns, with `packed` those of `json_extras`, and last the number of the record (BIGINT);
    `extras` are the columns kept in the metadata (attributes of spans).
    A column that this chunk does not have counts as empty: records of JSON Lines differ in their keys. To check a
    mapping against the columns of the whole file, use `mapping.validate`.
    Raises: `MappingError` when the mapping cannot be used.
    """
    validate(mapping)
    return _Compiler(mapping, columns, sorted(extras), packed).compile(relation)


def derives_ids(mapping: Mapping) -> bool:
    """Whether some id of the mapping's rows is made of their contents, which takes a digest of all their cells."""
    if any(rule.transform is Transform.ROW_ID for rule in mapping.rules):
        return True
    identity = {"traces": "trace_id", "spans": "span_id"}.get(mapping.kind, "signal_id")
    # a signal without an id gets one even where others in the file have theirs
    return identity == "signal_id" or mapping.rule(identity) is None


@dataclass(frozen=True)
class _Reading:
    """One rule with the aliases of its cell and value."""

    rule: Rule
    target: LayoutColumn
    cell: Cell
    k: str
    v: str

    @property
    def origin(self) -> str:
        """How a reason names where the cell came from."""
        column = self.rule.column
        return f'Column "{column}"' if column is not None else f'The constant for "{self.target.name}"'

    @property
    def unread(self) -> str:
        return f"{self.k} IS NOT NULL AND {self.v} IS NULL"


class _Compiler:
    def __init__(self, mapping: Mapping, columns: Columns[str, pa.DataType], extras: list[str], packed: bool) -> None:
        self.mapping = mapping
        self.columns = dict(columns)
        self.aliases = {name: f"f{place}" for place, name in enumerate(columns)}
        for absent in (name for name in mapping.columns() if name not in columns):
            self.columns[absent], self.aliases[absent] = pa.string(), "CAST(NULL AS VARCHAR)"
        self.present = sorted(columns)
        self.extras = [name for name in extras if name in columns]
        self.packed = packed
        self.readings = {rule.target: self._reading(place, rule) for place, rule in enumerate(mapping.rules)}

    def compile(self, relation: str) -> Compiled:
        aliases = [f"f{place}" for place in range(len(self.present))]
        aliases += [*(json_extras.COLUMNS if self.packed else ()), RECORD_NO]
        stages = [f"file AS (SELECT * FROM {relation} AS t({', '.join(aliases)}))"]

        def stage(name: str, expressions: list[str]) -> None:
            before = stages[-1].split(" AS ", 1)[0]
            stages.append(f"{name} AS (SELECT {', '.join(['*', *expressions])} FROM {before})")

        readings = self.readings.values()
        checks = [check for reading in readings for check in self._checks(reading)]
        if derives_ids(self.mapping):
            if not self.packed:
                stage("texts", [f"{self._plain(name)} AS t{place}" for place, name in enumerate(self.present)])
            stage("digests", [f"{self._digest()} AS digest"])
        stage("cells", [f"{r.cell.sql} AS {r.k}" for r in readings])
        stage("readings", [f"{value_of(r.rule.transform, r.k, r.cell.shape)} AS {r.v}" for r in readings])
        faults = " ".join(f"WHEN {check.condition} THEN {number}" for number, check in enumerate(checks))
        stage("judged", [f"CASE {faults} END AS fault" if checks else "CAST(NULL AS INTEGER) AS fault"])
        stage("kept", self._kept())
        if self.mapping.kind == "impressions":
            stage("signals", [f"{self._expansion()} AS signal_kind"])
        columns = fact_columns(self.mapping.kind)
        outputs = [f'TRY_CAST({self._output(name)} AS {type_}) AS "{name}"' for name, type_ in columns.items()]
        outputs += self._verdict(checks)
        last = stages[-1].split(" AS ", 1)[0]
        sql = "WITH " + ",\n".join(stages) + f"\nSELECT {RECORD_NO}, {', '.join(outputs)}\nFROM {last}"
        return Compiled(sql, TABLES[self.mapping.kind], columns)

    # Cells and ids

    def _reading(self, place: int, rule: Rule) -> _Reading:
        target = TARGETS[self.mapping.kind][rule.target]
        is_id = target.type is ColumnType.ID
        if rule.transform is Transform.ROW_ID:
            cell = Cell("'row-' || digest", Shape.TEXT)
        elif rule.column is None:
            cell = read_cell(rule.transform, literal(rule.constant or ""), pa.string(), is_id=is_id)
        elif rule.constant is None:
            cell = read_cell(rule.transform, self.aliases[rule.column], self.columns[rule.column], is_id=is_id)
        else:
            either = f"coalesce({self._plain(rule.column)}, {literal(rule.constant)})"
            cell = read_cell(rule.transform, either, pa.string(), is_id=is_id)
        return _Reading(rule, target, cell, f"k{place}", f"v{place}")

    def _plain(self, column: str) -> str:
        return text_of(self.aliases[column], self.columns[column])

    def _digest(self) -> str:
        """MD5 over the names and texts of all cells that are not empty: the same for any order and set of columns."""
        parts = []
        for place, name in enumerate(self.present):
            head = f"concat({literal(json.dumps(name))}, strlen(t{place}), ':')"
            parts += [f"CASE WHEN t{place} IS NOT NULL THEN {head} END", f"t{place}"]  # concat skips NULL
        parts.append("''")
        digest = json_extras.DIGEST if self.packed else f"md5(concat({', '.join(parts)}))"
        own = self.readings.get("signal_id")
        only_ids = own is not None and not any(r.rule.transform is Transform.ROW_ID for r in self.readings.values())
        return f"CASE WHEN {own.cell.sql} IS NULL THEN {digest} END" if own is not None and only_ids else digest

    # Rejects

    def _checks(self, r: _Reading) -> list["_Check"]:
        checks = []
        if r.target.required and r.target.type is not ColumnType.BOOLEAN:
            empty = f"{r.origin} is empty; expected a value, because {r.target.name} is required."
            checks.append(_Check(r, f"{r.k} IS NULL", literal(empty)))
        if can_reject(r.rule.transform):
            note = self._unit_note(r) if r.target.type is ColumnType.TIME else "''"
            checks.append(_Check(r, r.unread, self._reason(r, expected(r.rule.transform), note)))
        limits = _LIMITS.get(r.target.type)
        if limits is not None:
            condition, words = limits
            checks.append(_Check(r, condition.format(v=r.v), self._reason(r, words)))
        if r.target.type is ColumnType.TIME:
            outside = f"epoch_us({r.v}) NOT BETWEEN {_FIRST_SECOND}000000 AND {_LAST_SECOND}000000"
            words = "a time from 1990-01-01 to 2100-01-01"
            checks.append(_Check(r, outside, self._reason(r, words, self._time_note(r))))
        kind = self.readings.get("kind")
        if r.target.name == "value" and kind is not None and r.rule.transform in _UNSCALED:
            words = "a value from 0 to 1; other scales need a transform such as thumb or rating_1_5"
            outside = f"{kind.v} IN ('thumb', 'rating') AND {r.v} NOT BETWEEN 0 AND 1"
            checks.append(_Check(r, outside, self._reason(r, words)))
        return checks

    def _reason(self, r: _Reading, words: str, note: str = "''") -> str:
        """SQL for the sentence: the column, what came (cut at 80 characters) and what was expected."""
        shown = self._plain(r.rule.column) if r.rule.column is not None else literal(r.rule.constant or "")
        if r.rule.column is not None and r.rule.constant is not None:
            shown = f"coalesce({shown}, {literal(r.rule.constant)})"
        cut = f"CASE WHEN length({shown}) > {_SHOWN} THEN left({shown}, {_SHOWN}) || '…' ELSE {shown} END"
        start = literal(f'{r.origin} has "')
        return f"""concat({start}, {cut}, '"', {note}, {literal(f"; expected {words}.")})"""

    def _unit(self, r: _Reading) -> str:
        """SQL for the transform whose unit makes the cell a time from 1990 to 2100, NULL when none does."""
        if r.cell.shape is Shape.TIME:
            return "CAST(NULL AS VARCHAR)"
        count = f"try_cast({r.k} AS DOUBLE)"
        units = (
            f"WHEN {count} BETWEEN {_FIRST_SECOND * ticks} AND {_LAST_SECOND * ticks} THEN '{transform}'"
            for transform, ticks in TICKS_PER_SECOND.items()
        )
        return f"CASE {' '.join(units)} END"

    def _unit_note(self, r: _Reading) -> str:
        return f"coalesce(' (looks like a time in another unit: ' || {self._unit(r)} || ' fits)', '')"

    def _time_note(self, r: _Reading) -> str:
        """SQL for the time that was read, and whether a wrong unit explains why it is out of range."""
        stamp = f"strftime(make_timestamp(epoch_us({r.v})), '%Y-%m-%dT%H:%M:%SZ')"
        counted = "true" if r.rule.transform in TICKS_PER_SECOND else "false"
        # seconds since 1970 that were taken for milliseconds or less all fall into the first weeks of 1970
        near_zero = f"epoch_us({r.v}) BETWEEN 0 AND 50 * 86400000000"
        unit = f"coalesce(' (' || {self._unit(r)} || ' fits)', '')"
        hint = f"CASE WHEN {counted} OR {near_zero} THEN ': looks like a time in another unit' || {unit} ELSE '' END"
        return f"concat(', which is ', {stamp}, {hint})"

    def _verdict(self, checks: list["_Check"]) -> list[str]:
        if not checks:
            return [f"CAST(NULL AS VARCHAR) AS {name}" for name in (REJECT_COLUMN, REJECT_REASON)]
        columns = (f"WHEN {number} THEN {_name(check.reading)}" for number, check in enumerate(checks))
        reasons = (f"WHEN {number} THEN {check.reason}" for number, check in enumerate(checks))
        return [
            f"CASE fault {' '.join(columns)} END AS {REJECT_COLUMN}",
            f"CASE fault {' '.join(reasons)} END AS {REJECT_REASON}",
        ]

    # What has no column of its own

    def _kept(self) -> list[str]:
        """SQL for `entries`, the members to keep as JSON text joined by commas, and `object`, a mapped JSON object."""
        members = {name: self._extra(name) for name in self.extras}
        for r in self.readings.values():
            condition = self._keep_when(r)
            if condition is not None and r.rule.column is not None and r.rule.column not in members:
                members[r.rule.column] = f"CASE WHEN {condition} THEN to_json({self._plain(r.rule.column)}) END"
        value = self.readings.get("value")
        if value is not None and value.rule.transform in RATING_SCALES:
            low, high = RATING_SCALES[value.rule.transform]
            members.setdefault("scale", f"CASE WHEN {value.v} IS NOT NULL THEN '\"{low} to {high}\"' END")
        taken = f"[{', '.join(literal(name) for name in members)}]"
        if self.packed:
            taken = f"list_concat({taken}, {json_extras.KEYS})"
        mapped = self.readings.get(_OBJECT_OF.get(self.mapping.kind, "metadata"))
        objects = "CAST(NULL AS VARCHAR)"
        if mapped is not None:
            name = mapped.rule.column or mapped.target.name
            apart = f"NOT list_has_any(json_keys({mapped.k}), {taken})" if members or self.packed else "true"
            strict = is_strict_json(mapped.k)
            is_object = f"CASE WHEN starts_with({mapped.k}, '{{') AND {strict} THEN {apart} ELSE false END"
            objects = f"CASE WHEN {is_object} THEN {mapped.k} END"
            whole = f"CASE WHEN {strict} THEN {mapped.k} ELSE CAST(to_json({mapped.k}) AS VARCHAR) END"
            members[name] = f"CASE WHEN {mapped.k} IS NOT NULL AND NOT {is_object} THEN {whole} END"
        keys = {name: literal(json.dumps(name, ensure_ascii=False) + ":") for name in members}
        entries = [f"{keys[name]} || CAST({member} AS VARCHAR)" for name, member in members.items()]
        entries += [json_extras.ENTRIES] if self.packed else []
        return [f"concat_ws(',', {', '.join(entries) or 'NULL'}) AS entries", f"{objects} AS object"]

    def _extra(self, name: str) -> str:
        """SQL for an unmapped cell as JSON, NULL where there is nothing."""
        alias, type_ = self.aliases[name], self.columns[name]
        shape = shape_of(type_)
        text = self._plain(name)
        if shape is Shape.FLOAT:
            return f"CASE WHEN isfinite(CAST({alias} AS DOUBLE)) THEN to_json({alias}) ELSE to_json({text}) END"
        if shape is Shape.NESTED:
            return f"CASE WHEN {is_strict_json(text)} THEN {text} ELSE CAST(to_json({text}) AS VARCHAR) END"
        return f"to_json({alias})" if shape in (Shape.INTEGER, Shape.BOOLEAN) else f"to_json({text})"

    def _keep_when(self, r: _Reading) -> str | None:
        """SQL for when a mapped cell says more than its target can hold, None when never."""
        if keeps_unread(r.rule.transform):
            return r.unread if r.rule.transform is not Transform.PRESENT else r.v
        if r.target.type is ColumnType.JSON_ARRAY:
            return f"{r.k} IS NOT NULL AND NOT {self._is_array(r)}"
        if r.target.type is ColumnType.DURATION:
            start, end = self.readings["started_at"].v, self.readings.get("ended_at")
            unused = f"({start} IS NULL OR {end.v} IS NOT NULL)" if end is not None else f"{start} IS NULL"
            return f"{r.k} IS NOT NULL AND {unused}"
        return None

    def _is_array(self, r: _Reading) -> str:
        return f"(starts_with({r.k}, '[') AND {is_strict_json(r.k)})"

    # Columns of the fact table

    def _output(self, name: str) -> str:
        """SQL for one column of the fact table."""
        r = self.readings.get(name)
        value = r.v if r is not None else "NULL"
        match name, self.mapping.kind:
            case "source", _:
                given = literal(self.mapping.source)
                return f"coalesce({value}, {given})" if r is not None else given
            case ("trace_id", "traces") | ("span_id", "spans") if r is None:
                return "'row-' || digest"
            case "signal_id", "impressions":
                return f"concat(coalesce({value}, md5('impressions' || digest)), ':', signal_kind)"
            case "signal_id", _:
                kind, label = self.readings["kind"], self.readings.get("name")
                described = f"concat_ws(chr(31), {kind.v}, {label.v if label else 'NULL'}, digest)"
                return f"coalesce({value}, md5({described}))"
            case "kind", "spans":
                return f"coalesce({value}, 'other')"
            case "kind", "impressions":
                return "signal_kind"
            case "value", "signals":
                return self._signal_value(r)
            case "value", "impressions":
                return "CASE WHEN signal_kind = 'click' THEN 1.0 END"
            case "ended_at", _:
                return self._ended_at(value)
            case (("metadata" | "attributes"), _):
                return _MERGED
            case "links", _ if r is not None:
                return f"CASE WHEN {self._is_array(r)} THEN {r.k} END"
            case _:
                return value

    def _signal_value(self, r: _Reading | None) -> str:
        """The value stated, else what the kind says by itself: a click is 1, and "thumbs_down" a thumb of 0."""
        kind = self.readings["kind"]
        thumb = value_of(Transform.THUMB, kind.k, kind.cell.shape)
        implied = f"CASE {kind.v} WHEN 'click' THEN 1.0 WHEN 'thumb' THEN {thumb} END"
        return f"coalesce(CAST({r.v} AS DOUBLE), {implied})" if r is not None else implied

    def _ended_at(self, stated: str) -> str:
        duration = self.readings.get("duration_seconds")
        if duration is None:
            return stated
        computed = f"make_timestamptz(epoch_us({self.readings['started_at'].v}) + {duration.v})"
        return f"coalesce({stated}, {computed})"

    def _expansion(self) -> str:
        clicked = self.readings["clicked"].v
        return f"unnest(CASE WHEN fault IS NULL AND {clicked} THEN ['impression', 'click'] ELSE ['impression'] END)"


@dataclass(frozen=True)
class _Check:
    """A condition that makes a row a reject, and the sentence that says so, both SQL."""

    reading: _Reading
    condition: str
    reason: str


_LIMITS: Final[dict[ColumnType, tuple[str, str]]] = {
    ColumnType.TOKENS: ("{v} < 0", "a number of tokens, 0 or more"),
    ColumnType.PROPENSITY: ("NOT ({v} > 0 AND {v} <= 1)", "a probability above 0 and at most 1"),
    ColumnType.INTEGER: (f"{{v}} NOT BETWEEN -{_INT32_MAX} AND {_INT32_MAX}", "a whole number of at most 9 digits"),
    ColumnType.POSITION: (
        f"{{v}} NOT BETWEEN 1 AND {_INT32_MAX}",
        "a position counted from 1 (positions counted from 0 need the transform position_from_zero)",
    ),
}
_UNSCALED: Final = (Transform.NUMBER, Transform.USD, Transform.CENTS, Transform.MICRO_USD)
_OBJECT_OF: Final = {"spans": "attributes"}
_MERGED: Final = r"""CASE
    WHEN object IS NULL OR regexp_full_match(object, '\{\s*\}') AND entries <> ''
    THEN CASE WHEN entries <> '' THEN concat('{', entries, '}') END
    WHEN entries = '' THEN object
    ELSE concat('{', entries, ',', substr(object, 2)) END"""


def _name(r: _Reading) -> str:
    """SQL for the column a reject is about; NULL when the fault is the mapping's constant."""
    return "CAST(NULL AS VARCHAR)" if r.rule.column is None else literal(r.rule.column)
