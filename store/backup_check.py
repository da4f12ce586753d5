"""Verifying a backup: it is really restored, into a scratch folder, opened as a store, and everything in it is read.

What has to hold: every table has the rows that were copied; every block can be read (DuckDB keeps a checksum of each);
the audit chain is whole; every batch received what it accepted, had already or rejected; no trace has records, spans or
signals without being there itself. It works on files only, so it can be done in any process.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from store import audit
from store.backup import restore
from store.clock import SystemClock
from store.connection import Store
from store.errors import DiskFull, StoreError
from store.frames import Reader

__all__ = ["Checked", "check", "sweep"]

_SCRATCH: Final = "trimtab-verify-"
_ROOM_FACTOR: Final = 1.1

# What must never be found: the sentence with its number, and how many there are.
_LAWS: Final = {
    "{:,} batches do not add up: received is not accepted + duplicate + rejected": """
        SELECT count(*) FROM ingest_batches WHERE received <> accepted + duplicate + rejected""",
    "{:,} batches hold other numbers of rejects than they count": """
        SELECT count(*) FROM (
            SELECT batch_id FROM ingest_batches AS b LEFT JOIN ingest_rejects AS r USING (batch_id)
            GROUP BY batch_id, b.rejected HAVING count(r.batch_id) <> b.rejected)""",
    "{:,} traces have records or spans and are not listed themselves": """
        SELECT count(*) FROM (SELECT trace_id FROM trace_records UNION SELECT trace_id FROM spans) AS f
        ANTI JOIN traces USING (trace_id)""",
    "{:,} publications are newer than the newest": """
        SELECT count(*) FROM (SELECT publication FROM trace_publications UNION ALL
            SELECT publication FROM signal_publications) AS p
        WHERE publication > (SELECT value FROM store_meta WHERE key = 'publication')""",
}


@dataclass(frozen=True)
class Checked:
    """What restoring found: `rows` over all tables, the audit log's rows and newest hash, how long it took in seconds,
    and `problems` in words, none when the backup is sound.
    """

    rows: int
    audit_rows: int
    newest_hash: str
    seconds: float
    problems: tuple[str, ...]


def check(source: Path, scratch: Path, counts: Mapping[str, int] | None = None, memory_limit: str = "512MB") -> Checked:
    """Restore a backup into a new folder under `scratch`, look at all of it, and remove that again.

    Args: `counts` of rows by table that were copied; None when they are not known.
    Raises: `ActionRefused` when the file is no backup; `MigrationError` when it is of a newer version; `DiskFull` when
    there is no room for restoring; `StoreError`.
    """
    started = time.monotonic()
    size, free = source.stat().st_size if source.is_file() else 0, shutil.disk_usage(scratch).free
    if free < size * _ROOM_FACTOR:
        raise DiskFull(scratch, f"verifying needs {size * _ROOM_FACTOR:,.0f} bytes and {free:,} are free")
    folder = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=scratch))
    try:
        restored = folder / "restored.duckdb"
        restore(source, restored, clock=SystemClock())
        problems: list[str] = []
        with _opened(restored, memory_limit) as store:
            found = _read_all(store, problems)
            if counts is not None:
                problems += _differences(counts, found)
            with store.read() as reader:
                problems += _broken_laws(reader)
            tampered = audit.verify(store)
            if tampered is not None:
                problems.append(f"the audit log does not hold from row {tampered:,} on")
            newest, rows = audit.newest_hash(store), audit.count(store)
        return Checked(sum(found.values()), rows, newest, time.monotonic() - started, tuple(problems))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(scratch: Path) -> None:
    """Remove what verifying left in a folder when its process was killed."""
    for left in scratch.glob(f"{_SCRATCH}*"):
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _opened(path: Path, memory_limit: str) -> Iterator[Store]:
    store = Store.open(path, memory_limit=memory_limit, threads=1)
    try:
        yield store
    finally:
        store.close()


def _read_all(store: Store, problems: list[str]) -> dict[str, int]:
    """Read every value of every table; returns the numbers of rows by table. What cannot be read is a problem."""
    found = {}
    with store.read() as reader:
        tables = reader.any_frame(
            """SELECT table_name FROM duckdb_tables()
            WHERE database_name = current_database() AND schema_name = 'main' ORDER BY ALL"""
        )["table_name"]
        for table in tables:
            try:
                rows = reader.any_frame(f'SELECT count(*) AS n, bit_xor(hash(t)) AS content FROM "{table}" AS t')
                found[table] = int(rows["n"][0])
            except StoreError as error:
                problems.append(f"the table {table} cannot be read ({str(error).splitlines()[0]})")
    return found


def _differences(counts: Mapping[str, int], found: Mapping[str, int]) -> list[str]:
    """Tables with other numbers of rows; those that a newer schema adds are none of them."""
    return [
        f"the table {table} has {found.get(table, 0):,} rows where {count:,} were copied"
        for table, count in sorted(counts.items())
        if found.get(table, 0) != count
    ]


def _broken_laws(reader: Reader) -> list[str]:
    broken = []
    for words, sql in _LAWS.items():
        count = reader.value(sql)
        if isinstance(count, int) and count:
            broken.append(words.format(count))
    return broken
