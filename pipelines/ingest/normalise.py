"""From chunks of records to staged rows: by set-based SQL where columns are mapped, by Python where formats nest."""

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipelines.ingest import json_extras, json_lines
from pipelines.ingest.chunks import Chunk, Reject
from pipelines.ingest.fidelity import Fidelity
from pipelines.ingest.json_values import MAX_KEYS
from pipelines.ingest.layout_columns import TABLES
from pipelines.ingest.mapping import Mapping
from pipelines.ingest.readers import Opened
from pipelines.ingest.recipe import Recipe
from pipelines.ingest.rows import RecordRejected, Row
from pipelines.ingest.select import compile_select, derives_ids, positional
from pipelines.ingest.staging import SliceWriter
from store.columns import FACT_COLUMNS

_EXTRAS = {"trace_records": "metadata", "spans": "attributes", "signals": "metadata"}
_TIME = {"trace_records": "started_at", "spans": "started_at", "signals": "occurred_at"}


@dataclass(frozen=True)
class _Columns:
    """A chunk as columns: `types` of those that rules may read, names of the `extras`, and whether those are packed."""

    table: pa.Table
    types: dict[str, pa.DataType]
    extras: list[str]
    packed: bool = False


class Normaliser:
    """Stages the chunks of one file."""

    def __init__(self, recipe: Recipe, opened: Opened, writer: SliceWriter, fidelity: Fidelity) -> None:
        self._recipe = recipe
        self._opened = opened
        self._writer = writer
        self._fidelity = fidelity

    def stage(self, number: int, chunk: Chunk) -> tuple[list[str], list[Reject]]:
        """Write the rows of a chunk as slice `number`; returns the kinds that have rows, and all rejects."""
        if self._recipe.mapping is not None:
            return self._map(number, chunk, self._recipe.mapping)
        return self._import(number, chunk)

    def _map(self, number: int, chunk: Chunk, mapping: Mapping) -> tuple[list[str], list[Reject]]:
        """Rows by SQL. A record is taken as a whole or not at all, also where it states a trace and feedback on it."""
        connection = self._writer.connection
        columns = self._columns(chunk, mapping)
        for column in columns.extras:
            self._fidelity.extra(column, _EXTRAS[TABLES[mapping.kind]])
        connection.register("chunk", positional(columns.table.append_column("record_no", chunk.record_no)))
        made = [("rows", TABLES[mapping.kind], mapping)]
        if self._recipe.companion is not None:
            made.append(("feedback", TABLES["signals"], self._recipe.companion))
        for name, _, each in made:
            kept = columns.extras if name == "rows" and not columns.packed else []
            compiled = compile_select(each, columns.types, "chunk", extras=kept, packed=columns.packed)
            connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {compiled.sql}")
        connection.unregister("chunk")
        faults = " UNION ALL ".join(
            f"SELECT record_no, reject_column, reject_reason FROM {name} WHERE reject_reason IS NOT NULL"
            for name, *_ in made
        )
        connection.execute(
            f"""CREATE OR REPLACE TEMP TABLE faulty AS SELECT record_no, first(reject_column) AS reject_column,
            first(reject_reason) AS reject_reason FROM ({faults}) GROUP BY record_no"""
        )
        bad = connection.execute("FROM faulty ORDER BY record_no").fetchall()
        kinds = []
        for name, kind, *_ in made:
            empty = "AND (value IS NOT NULL OR text IS NOT NULL)" if name == "feedback" else ""
            connection.execute(
                f"""CREATE OR REPLACE TEMP VIEW good AS FROM {name}
                WHERE {"record_no NOT IN (SELECT record_no FROM faulty)" if bad else "true"} {empty}"""
            )
            if self._account(kind):
                self._writer.relation(number, kind, "good")
                kinds.append(kind)
        rejects = [*chunk.rejects, *self._semantic_rejects(chunk, bad)]
        return kinds, sorted(rejects, key=lambda reject: reject.record_no)

    def _columns(self, chunk: Chunk, mapping: Mapping) -> "_Columns":
        """The chunk as a table of columns, and what no rule reads."""
        companion = self._recipe.companion
        mapped = {*mapping.columns(), *(companion.columns() if companion else ())}
        if self._opened.tabular:
            table = chunk.table
            extras = [name for name in table.column_names if name not in mapped]
            return _Columns(table, {name: table.schema.field(name).type for name in table.column_names}, extras)
        engine = self._writer.connection
        keys = json_lines.keys_of(chunk.table, engine)
        wanted = [key for key in keys if key in mapped] if len(keys) < MAX_KEYS else sorted(mapped)
        read = json_lines.extract(chunk.table, wanted, [], engine)
        types = dict.fromkeys(read.column_names, pa.string())
        digest = derives_ids(mapping) or (companion is not None and derives_ids(companion))
        if keys and not digest and mapped.issuperset(keys):
            return _Columns(read, types, [])
        texts = chunk.table.column("json").combine_chunks()
        packed = json_extras.pack(engine, texts, mapped, digest=digest)
        names = read.column_names
        arrays = [*read.columns, *packed.table.columns]
        table = pa.Table.from_arrays(arrays, names=[*names, *json_extras.COLUMNS])
        return _Columns(table, types, packed.names, packed=True)

    def _semantic_rejects(self, chunk: Chunk, bad: list[tuple[int, str | None, str]]) -> list[Reject]:
        if not bad:
            return []
        place = {int(record): row for row, record in enumerate(chunk.record_no.to_pylist())}
        return [chunk.reject(place[record], reason, column) for record, column, reason in bad]

    def _account(self, kind: str) -> int:
        """Add the good rows to the fidelity report; returns how many there are."""
        columns = list(FACT_COLUMNS[kind])
        counts = ", ".join(f'count("{column}")' for column in columns)
        time = _TIME[kind]
        answer = self._writer.connection.execute(
            f"SELECT count(*), min({time}), max({time}), {counts} FROM good"
        ).fetchall()[0]
        rows, first, last = int(answer[0]), answer[1], answer[2]
        values = dict(zip(columns, answer[3:], strict=True))
        self._fidelity.count(kind, rows, values)
        self._fidelity.times(first, last, rows - values[time])
        return rows

    def _import(self, number: int, chunk: Chunk) -> tuple[list[str], list[Reject]]:
        importer = self._recipe.importer
        assert importer is not None
        rejects = list(chunk.rejects)
        staged: dict[str, list[tuple[int, Row]]] = {kind: [] for kind in FACT_COLUMNS}
        for place, (record_no, record) in enumerate(self._records(chunk)):
            try:
                rows = importer(record, self._recipe.source)
            except RecordRejected as error:
                rejects.append(chunk.reject(place, error.reason, error.column))
                continue
            for kind, made in (("trace_records", rows.traces), ("spans", rows.spans), ("signals", rows.signals)):
                staged[kind].extend((record_no, {"source": self._recipe.source, **row}) for row in made)
        kinds = [kind for kind, rows in staged.items() if self._writer.rows(number, kind, rows)]
        for kind in kinds:
            self._account_rows(kind, [row for _, row in staged[kind]])
        return kinds, sorted(rejects, key=lambda reject: reject.record_no)

    def _records(self, chunk: Chunk) -> list[tuple[int, dict[str, Any]]]:
        numbers = chunk.record_no.to_pylist()
        if self._opened.tabular:
            return list(zip(numbers, chunk.table.to_pylist(), strict=True))
        return list(zip(numbers, map(json.loads, chunk.table.column("json").to_pylist()), strict=True))

    def _account_rows(self, kind: str, rows: list[Row]) -> None:
        values = {column: sum(row.get(column) is not None for row in rows) for column in FACT_COLUMNS[kind]}
        times = [row[_TIME[kind]] for row in rows if row.get(_TIME[kind]) is not None]
        self._fidelity.count(kind, len(rows), values)
        self._fidelity.times(min(times, default=None), max(times, default=None), len(rows) - len(times))
