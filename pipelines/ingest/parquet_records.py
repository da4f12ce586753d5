"""Parquet files as chunks of typed columns that a table can hold.

Numbers, booleans, strings, dates and times keep their type (times without zone are UTC). Lists, structs and maps become
JSON text, decimals doubles, durations and intervals seconds, binary values their text or, if they are none, hexadecimal
digits; dictionaries are decoded. NaN and infinity stay, except inside JSON text, where they are null.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.ingest.chunks import CHUNK_BYTES, Chunk, ReaderState, Reject
from pipelines.ingest.json_values import engine
from pipelines.ingest.parquet_columns import PlainColumns, is_text
from pipelines.ingest.record_bytes import raw_text
from pipelines.ingest.source import open_regular
from store.errors import FileRejected

MAGIC = b"PAR1"
MAX_COLUMNS = 2_000
CHUNK_ROWS = 65_536
# Few rows at a time: a dictionary can repeat one long text in every row, which the file's size does not show.
STEP_ROWS = 2_048


def is_parquet(path: Path) -> bool:
    """Whether the file begins as Parquet does; False also if it cannot be read."""
    try:
        # Opening a pipe would wait for somebody to write into it.
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(4) == MAGIC
    except OSError:
        return False


def same_parquet(path: Path, state: ReaderState) -> bool:
    """Whether `state` was taken from a file with this footer, which lists size and place of everything in it."""
    try:
        return _footer_sha256(path, path.name) == state.prefix_sha256
    except (FileRejected, OSError):
        return False


def count_rows(path: Path) -> int:
    """Rows of a Parquet file by its footer. Raises FileRejected."""
    with _opened(path, path.name) as file:
        return int(file.metadata.num_rows)


def read_parquet(
    path: Path,
    *,
    name: str | None = None,
    state: ReaderState | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    chunk_rows: int = CHUNK_ROWS,
) -> Iterator[Chunk]:
    """Chunks of about `chunk_bytes` or `chunk_rows`, from `state` on, whose offset counts rows; lines are 0.

    A row is rejected when a text in it is not UTF-8. Raises FileRejected for a file that is damaged, has no rows, has
    the same column twice or more than 2,000, or is not the one `state` belongs to.
    """
    file_name = name or path.name
    descriptor, _ = open_regular(path, file_name)
    os.close(descriptor)
    sha256 = _footer_sha256(path, file_name)
    if state is not None and state.prefix_sha256 and state.prefix_sha256 != sha256:
        raise FileRejected(
            file_name, "It is not the file that was loaded before: it was changed.", "Load it as a new file."
        )
    done = state.offset if state is not None else 0
    connection = engine()
    try:
        with _opened(path, file_name) as file:
            _check_columns(file, file_name)
            total = int(file.metadata.num_rows)
            plain = PlainColumns(file, file_name, connection)
            for table in _tables(file, done, chunk_bytes, chunk_rows, file_name):
                after = done + table.num_rows
                behind = ReaderState(after, after + 1, 0, sha256)
                yield _chunk(plain(table), done, behind)
                done = after
            if done != total or not total:
                problem = f"It has {done:,} rows where its footer says {total:,}." if total else "It has no rows."
                raise FileRejected(file_name, problem, "Check the export that wrote it.")
    finally:
        connection.close()


def _tables(file: pq.ParquetFile, skip: int, chunk_bytes: int, chunk_rows: int, name: str) -> Iterator[pa.Table]:
    """Tables of about the asked size behind the first `skip` rows."""
    groups: list[int] = []
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if not groups and skip >= rows:
            skip -= rows
        else:
            groups.append(group)
    held: list[pa.RecordBatch] = []
    size = rows = 0
    batches = file.iter_batches(batch_size=min(STEP_ROWS, chunk_rows), row_groups=groups, use_threads=False)
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(name, error) from error
        if batch is None:
            break
        cut = min(skip, batch.num_rows)
        batch, skip = _decoded(batch.slice(cut)), skip - cut
        if batch.num_rows:
            held.append(batch)
            size, rows = size + batch.nbytes, rows + batch.num_rows
        if size >= chunk_bytes or rows >= chunk_rows:
            yield pa.Table.from_batches(held)
            held, size, rows = [], 0, 0
    if held:
        yield pa.Table.from_batches(held)


def _decoded(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch without dictionaries, so that its size tells what it will take."""
    columns = [
        column.dictionary_decode() if pa.types.is_dictionary(column.type) else column for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _chunk(table: pa.Table, done: int, behind: ReaderState) -> Chunk:
    faults: dict[int, tuple[str, str]] = {}
    for name in table.column_names:
        column = table.column(name)
        if column.type == pa.string():
            try:
                column.validate(full=True)
            except pa.ArrowInvalid:
                for row, value in enumerate(column.cast(pa.binary()).to_pylist()):
                    if value is not None and not is_text(value):
                        faults.setdefault(row, (name, "a text is not UTF-8"))
    rows = np.arange(table.num_rows)
    rejects = []
    for row, (name, reason) in sorted(faults.items()):
        text, truncated = raw_text(bytes(table.column(name).cast(pa.binary())[row].as_py()))
        rejects.append(Reject(done + row + 1, 0, name, reason, text, truncated))
    received = table.num_rows
    if faults:
        rows = np.delete(rows, list(faults))
        table = table.take(pa.array(rows))
    return Chunk(
        table=table,
        record_no=pa.array(rows + done + 1, pa.int64()),
        line=pa.array(np.zeros(len(rows), np.int64)),
        rejects=rejects,
        received=received,
        raw=_RawRows(table),
        state=behind,
    )


class _RawRows:
    """A row as JSON, since the file has no text to show."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __call__(self, row: int) -> tuple[str, bool]:
        values: dict[str, Any] = self._table.slice(row, 1).to_pylist()[0]
        return raw_text(json.dumps(values, ensure_ascii=False, default=str).encode("utf-8", errors="backslashreplace"))


def _opened(path: Path, name: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(name, error) from error


def _damaged(name: str, error: Exception) -> FileRejected:
    detail = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    return FileRejected(name, f"It is a damaged or incomplete Parquet file ({detail}).", "Copy or export it again.")


def _check_columns(file: pq.ParquetFile, name: str) -> None:
    names = file.schema_arrow.names
    if len(names) > MAX_COLUMNS:
        raise FileRejected(
            name, f"It has {len(names):,} columns; at most {MAX_COLUMNS:,} are read.", "Export fewer columns."
        )
    twice = sorted({column for column in names if names.count(column) > 1})
    if twice:
        listed = ", ".join(map(repr, twice))
        raise FileRejected(name, f"It has the same column more than once: {listed}.", "Give every column its own name.")


def _footer_sha256(path: Path, name: str) -> str:
    """SHA-256 of the footer with the file's size. Raises FileRejected when there is no footer."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 8))
        tail = file.read(8)
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != MAGIC or length + 12 > size:
            raise FileRejected(name, "It begins as a Parquet file and does not end as one.", "Copy or export it again.")
        file.seek(size - 8 - length)
        return hashlib.sha256(file.read(length) + size.to_bytes(8, "little")).hexdigest()
