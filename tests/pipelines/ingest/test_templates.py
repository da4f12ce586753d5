"""The templates that people download load as they are, without a single reject."""

import csv
import io
import json
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from pipelines.ingest.guess import guess
from pipelines.ingest.layout_columns import LAYOUTS, LayoutKind
from pipelines.ingest.mapping import identity
from pipelines.ingest.select import compile_select, positional
from pipelines.ingest.templates import TEMPLATE_FORMATS, template, template_name


def rows_of(kind: LayoutKind, form: str) -> tuple[list[str], list[dict[str, str | None]]]:
    """Columns and rows of a template as texts, JSON objects as their JSON."""
    text = template(kind, "csv" if form == "csv" else "jsonl").decode()
    if form == "csv":
        reader = csv.DictReader(io.StringIO(text), strict=True)
        rows = [{name: cell or None for name, cell in row.items()} for row in reader]
        return list(reader.fieldnames or []), rows
    documents: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    columns = list(dict.fromkeys(key for document in documents for key in document))
    return columns, [
        {key: value if isinstance(value, str) else json.dumps(value) for key, value in document.items()}
        for document in documents
    ]


def load(kind: LayoutKind, form: str) -> list[dict[str, Any]]:
    columns, rows = rows_of(kind, form)
    table = pa.table({name: pa.array([row.get(name) for row in rows], pa.string()) for name in columns})
    compiled = compile_select(
        identity(kind, columns, "test"),
        dict(zip(table.column_names, table.schema.types, strict=True)),
        "chunk",
    )
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        numbers = pa.array(range(len(rows)), pa.int64())
        connection.register("chunk", positional(table.append_column("record_no", numbers)))
        return connection.execute(compiled.sql).to_arrow_table().to_pylist()


@pytest.mark.parametrize("kind", LAYOUTS)
def test_templates_load_cleanly_and_alike_in_every_format(kind: LayoutKind) -> None:
    loaded = {form: load(kind, form) for form in TEMPLATE_FORMATS}
    assert 2 <= len(loaded["csv"]) <= 3
    assert [row["reject_reason"] for row in loaded["csv"]] == [None] * len(loaded["csv"])
    assert loaded["csv"] == loaded["jsonl"]


@pytest.mark.parametrize("kind", LAYOUTS)
def test_templates_show_every_column_and_are_recognised(kind: LayoutKind) -> None:
    columns, rows = rows_of(kind, "csv")
    assert columns == [column.name for column in LAYOUTS[kind]]
    for form in TEMPLATE_FORMATS:
        columns, rows = rows_of(kind, form)
        guessed = guess(columns, rows, source="test")
        assert guessed.mapping.kind == kind
        assert {(rule.target, rule.column, rule.transform) for rule in guessed.mapping.rules} == {
            (rule.target, rule.column, rule.transform) for rule in identity(kind, columns, "test").rules
        }
        assert template_name(kind, form) == f"trimtab-{kind}.{form}"


def test_templates_tell_one_story() -> None:
    traces = {row["trace_id"] for row in rows_of("traces", "csv")[1]}
    spans = rows_of("spans", "csv")[1]
    assert {row["trace_id"] for row in spans} <= traces
    assert {row["parent_span_id"] for row in spans} - {None} <= {row["span_id"] for row in spans}
    assert {row["trace_id"] for row in rows_of("signals", "csv")[1]} - {None} <= traces
