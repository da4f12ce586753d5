"""Staging: the rows of a file as Parquet slices beside the store, complete before anything of it is applied.

A slice's files are written first and the manifest that names them last, atomically, so whatever the manifest lists is
whole. After a kill the manifest tells where reading stopped and, by the hash of the bytes before that point, whether
the file at hand is still the same one.
"""

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from pipelines.ingest.chunks import Reject
from pipelines.ingest.rows import Row
from pipelines.ingest.tables import table_of, text_of
from store.columns import FACT_COLUMNS
from store.publish import Slice

if TYPE_CHECKING:
    from pipelines.privacy.redaction import Redactor

KINDS = tuple(FACT_COLUMNS)

_REJECT_SCHEMA = pa.schema(
    {
        "record_no": pa.int64(),
        "line": pa.int64(),
        "column_name": pa.string(),
        "reason": pa.string(),
        "raw": pa.string(),
        "raw_truncated": pa.bool_(),
    }
)


@dataclass(frozen=True)
class StagedSlice:
    """One slice as the manifest records it: which kinds it has, what was counted, where reading stood after it.

    `bytes_done` are of the file, `row_bytes` what the slice's records take in memory.
    """

    kinds: list[str]
    received: int
    rejected: int
    bytes_done: int
    row_bytes: int
    state: dict[str, Any] | None


@dataclass
class Manifest:
    """What is staged of one file. `complete` is set when its last record was read."""

    recipe: dict[str, Any]
    slices: list[StagedSlice] = field(default_factory=list)
    complete: bool = False
    fidelity: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "Manifest | None":
        """The manifest in a staging folder; None when there is none or it cannot be used."""
        try:
            document = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            slices = [StagedSlice(**entry) for entry in document.pop("slices")]
            return cls(slices=slices, **document)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, folder: Path) -> None:
        """Replace the manifest in one step."""
        draft = folder / "manifest.json.part"
        with draft.open("w", encoding="utf-8") as stream:
            json.dump(asdict(self), stream)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(folder / "manifest.json")


class SliceWriter:
    """Writes the slices of one file into its staging folder. Use as a context manager."""

    def __init__(self, folder: Path, *, memory_limit: str = "1GB", redactor: "Redactor | None" = None) -> None:
        """Args: `folder` to write into; `memory_limit` of the engine; `redactor` of what is written, None for none."""
        self.folder = folder
        self._redactor = redactor
        folder.mkdir(parents=True, exist_ok=True)
        self.connection = duckdb.connect(
            config={
                "memory_limit": memory_limit,
                "temp_directory": str(folder / "spill"),
                "python_enable_replacements": False,
                "autoinstall_known_extensions": False,
                "preserve_insertion_order": True,
            }
        )
        self.connection.execute("SET TimeZone = 'UTC'")
        self.connection.execute("SET enable_progress_bar = false")

    def __enter__(self) -> "SliceWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def relation(self, number: int, kind: str, relation: str) -> None:
        """Stage all rows of a relation that has the columns of `kind` and `record_no`."""
        columns = ", ".join(FACT_COLUMNS[kind])
        target = slice_file(self.folder, number, kind)
        quoted = str(target).replace("'", "''")
        if self._redactor is not None:
            whole = self.connection.execute(f"SELECT {columns}, record_no FROM {relation}").to_arrow_table()
            self.connection.register("redacted_rows", self._redactor.table(kind, whole))
            relation = "redacted_rows"
        self.connection.execute(
            f"""COPY (SELECT {columns}, hash({columns}) AS content_hash, record_no FROM {relation})
            TO '{quoted}' (FORMAT parquet, COMPRESSION uncompressed, ROW_GROUP_SIZE 4096)"""
        )
        if self._redactor is not None:
            self.connection.unregister("redacted_rows")
        _sync(target)

    def rows(self, number: int, kind: str, rows: Iterable[tuple[int, Row]]) -> bool:
        """Stage rows given as (record_no, columns); returns whether there were any."""
        listed = list(rows)
        if not listed:
            return False
        self.connection.register("staged_rows", table_of(kind, listed))
        self.relation(number, kind, "staged_rows")
        self.connection.unregister("staged_rows")
        return True

    def rejects(self, number: int, rejects: list[Reject]) -> None:
        """Stage the rejected records of a slice."""
        if self._redactor is not None:
            rejects = [self._redactor.reject(each) for each in rejects]
        entries = [
            {
                "record_no": reject.record_no,
                "line": reject.line,
                "column_name": reject.column,
                "reason": text_of(reject.reason),
                "raw": text_of(reject.raw),
                "raw_truncated": reject.raw_truncated,
            }
            for reject in rejects
        ]
        self.connection.register("staged_rejects", pa.Table.from_pylist(entries, _REJECT_SCHEMA))
        target = slice_file(self.folder, number, "rejects")
        quoted = str(target).replace("'", "''")
        self.connection.execute(f"COPY (FROM staged_rejects) TO '{quoted}' (FORMAT parquet)")
        self.connection.unregister("staged_rejects")
        _sync(target)


def slice_file(folder: Path, number: int, kind: str) -> Path:
    """Where a slice keeps its rows of one kind."""
    return folder / f"{number:06d}.{kind}.parquet"


def staged_files(folder: Path, number: int, entry: StagedSlice) -> Slice:
    """The files of a slice as publishing wants them."""
    paths = {kind: slice_file(folder, number, kind) for kind in KINDS if kind in entry.kinds}
    return Slice(paths.get("trace_records"), paths.get("spans"), paths.get("signals"))


def discard(folder: Path) -> None:
    """Remove a staging folder; one that is gone already is fine."""
    shutil.rmtree(folder, ignore_errors=True)


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
