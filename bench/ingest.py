"""Files into the store, beside DuckDB loading the same file into a plain typed table."""

from pathlib import Path
from typing import Any

import duckdb

from bench.data import spans_file
from bench.measure import Measured, alone
from pipelines.ingest.load import load
from store.connection import Store

_TYPES = {
    "trace_id": "VARCHAR", "span_id": "VARCHAR", "parent_span_id": "VARCHAR", "kind": "VARCHAR", "name": "VARCHAR",
    "started_at": "TIMESTAMPTZ", "ended_at": "TIMESTAMPTZ", "status": "VARCHAR", "input": "VARCHAR",
    "output": "VARCHAR", "model": "VARCHAR", "input_tokens": "BIGINT", "output_tokens": "BIGINT", "cost_usd": "DOUBLE",
    "agent": "VARCHAR", "user_id": "VARCHAR", "task": "VARCHAR",
}  # fmt: skip


def bare(file: str, form: str, target: str) -> int:
    """DuckDB's own read of a file into a table on disk: typed, without deduplication, rejects or rollup."""
    Path(target).unlink(missing_ok=True)
    columns = "{" + ", ".join(f"'{name}': '{kind}'" for name, kind in _TYPES.items()) + "}"
    dialect = "auto_detect = false, header = true, delim = ',', quote = '\"'"
    readers = {
        "csv": f"read_csv('{file}', columns = {columns}, {dialect})",
        "jsonl": f"read_json('{file}', columns = {columns}, format = 'newline_delimited')",
        "parquet": f"read_parquet('{file}')",
    }
    with duckdb.connect(target) as connection:
        connection.execute("SET memory_limit = '2GB'")
        cast = ", ".join(f'CAST("{name}" AS {kind}) AS "{name}"' for name, kind in _TYPES.items())
        connection.execute(f"CREATE TABLE spans AS SELECT {cast} FROM {readers[form]}")
        connection.execute("CHECKPOINT")
        return int(connection.execute("SELECT count(*) FROM spans").fetchall()[0][0])


def trimtab(file: str, target: str) -> dict[str, Any]:
    """The same file through recognition, mapping, staging, deduplication and rollup."""
    store = Store.open(Path(target))
    try:
        report = load(store, Path(file))
        return {"accepted": report.accepted, "rejected": report.rejected, "duplicate": report.duplicate}
    finally:
        store.close()


def fresh(target: Path) -> Path:
    """Remove a store of an earlier run."""
    for left in target.parent.glob(target.name + "*"):
        if left.is_file():
            left.unlink()
    return target


def compare(work: Path, form: str, spans: int) -> tuple[Measured, Measured]:
    """(bare DuckDB, Trimtab) loading one file of `spans` spans."""
    file = spans_file(work, form, spans)
    plain = alone(bare, str(file), form, str(work / "bare.duckdb"))
    ours = alone(trimtab, str(file), str(fresh(work / f"load-{form}-{spans}.duckdb")))
    if ours.value["accepted"] != spans:
        raise RuntimeError(f"{form}: {ours.value} of {spans} spans")
    (work / "bare.duckdb").unlink()
    return plain, ours
