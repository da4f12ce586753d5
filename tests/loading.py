"""Loading files in tests: written from rows in any container, loaded whole, and what the store then holds."""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from pipelines.ingest import load as loader
from pipelines.ingest.load import BatchReport
from store.columns import FACT_COLUMNS
from store.connection import Store

CONTAINERS = ("csv", "jsonl", "json", "parquet", "csv.gz", "jsonl.gz", "jsonl.zst", "csv.zst")


def loaded(store: Store, path: Path, **options: Any) -> BatchReport:
    """Load a file and hold its report to the conservation law and to what the batch has kept."""
    report = loader.load(store, path, **options)
    conserved(store, report)
    return report


def conserved(store: Store, report: BatchReport) -> None:
    """Every record of the file is accepted, a duplicate, or one row of the rejects."""
    assert report.received == report.accepted + report.duplicate + report.rejected
    assert min(report.accepted, report.duplicate, report.rejected) >= 0
    (rejects, numbers) = table(
        store,
        f"SELECT count(*), count(DISTINCT record_no) FROM ingest_rejects WHERE batch_id = {report.batch_id}",
    ).rows()[0]
    assert (rejects, numbers) == (report.rejected, report.rejected)
    assert staged(store) == []


def staged(store: Store) -> list[str]:
    """What lies in the staging folder of a store on disk."""
    folder = store.path.with_name(store.path.name + ".staging") if store.path else None
    return sorted(path.name for path in folder.iterdir()) if folder is not None and folder.is_dir() else []


def table(store: Store, sql: str) -> pl.DataFrame:
    """The answer of a query."""
    with store.read() as reader:
        return reader.any_frame(sql)


def rows_of(store: Store, kind: str) -> list[dict[str, Any]]:
    """All rows of a fact table without the batch they came with, in an order of their own."""
    found = table(store, f"SELECT {', '.join(FACT_COLUMNS[kind])} FROM {kind}").to_dicts()
    return sorted(found, key=repr)


def rejects_of(store: Store, report: BatchReport) -> list[tuple[int, int, str | None, str, str]]:
    """(record, line, column, reason, raw) of a batch's rejects in file order."""
    return table(
        store,
        f"""SELECT record_no, line, column_name, reason, raw FROM ingest_rejects
        WHERE batch_id = {report.batch_id} ORDER BY record_no""",
    ).rows()


def write_rows(folder: Path, name: str, rows: list[dict[str, Any]], columns: list[str] | None = None) -> Path:
    """Rows as a file; the container is that of the name's suffixes. Cells are texts, numbers, booleans or objects."""
    suffixes = name.split(".")[1:]
    columns = columns or list(dict.fromkeys(key for row in rows for key in row))
    match suffixes[-2 if suffixes[-1] in ("gz", "zst") else -1]:
        case "csv":
            content = _csv(rows, columns)
        case "jsonl":
            content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        case "json":
            content = json.dumps(rows, ensure_ascii=False, indent=1).encode()
        case "parquet":
            buffer = io.BytesIO()
            pq.write_table(_arrow(rows, columns), buffer)
            content = buffer.getvalue()
        case other:
            raise ValueError(other)
    if suffixes[-1] == "gz":
        content = gzip.compress(content, mtime=0)
    if suffixes[-1] == "zst":
        content = zstandard.compress(content)
    path = folder / name
    path.write_bytes(content)
    return path


def _csv(rows: list[dict[str, Any]], columns: list[str]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(column)) for column in columns])
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _arrow(rows: list[dict[str, Any]], columns: list[str]) -> pa.Table:
    """Numbers and booleans keep their type, objects become JSON text."""
    arrays = []
    for column in columns:
        cells = [row.get(column) for row in rows]
        plain = all(cell is None or isinstance(cell, (str, bool, int, float)) for cell in cells)
        arrays.append(pa.array(cells if plain else [None if cell is None else _cell(cell) for cell in cells]))
    return pa.table(arrays, names=columns)
