"""Staged rows: what a slice brings of one fact table, as a file of staging or in memory.

Both have the columns of the fact table and `record_no`; rows are known by their place in it, counted from 0
(`file_row_number`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from store.columns import FACT_COLUMNS
from store.frames import conform, fetched
from store.rollup import PREVIEW_CHARACTERS, PREVIEWS
from store.trace_totals import SPANS

__all__ = ["Staged", "previews", "readable", "spans"]

Staged: TypeAlias = Path | pa.Table

_TEXTS = ("input", "output")
_SPAN_COLUMNS = [column for column in SPANS.names() if column not in ("row", "has_input", "has_output")]


@contextmanager
def readable(connection: duckdb.DuckDBPyConnection, kind: str, rows: Staged) -> Iterator[int]:
    """Let statements read the rows of fact table `kind`, and the hash of their content, as `staged`; gives how many."""
    if isinstance(rows, Path):
        connection.execute(f"CREATE OR REPLACE TEMP VIEW staged AS FROM {_file(rows)}")
        count = int(connection.execute("SELECT count(*) FROM staged").fetchall()[0][0])
    else:
        connection.register("offered", rows)
        columns = ", ".join(FACT_COLUMNS[kind])
        connection.execute(
            f"""CREATE OR REPLACE TEMP VIEW staged AS
            SELECT {columns}, hash({columns}) AS content_hash, record_no, file_row_number FROM offered"""
        )
        count = rows.num_rows
    yield count
    # Not after an error: a complaint about these statements would hide it. The next slice replaces what is left.
    connection.execute("DROP VIEW staged")
    if not isinstance(rows, Path):
        connection.unregister("offered")


def spans(connection: duckdb.DuckDBPyConnection, rows: Staged, chosen: pl.Series | None) -> pl.DataFrame:
    """What a rollup needs of staged spans (columns `SPANS`, numbered from -1 downwards); of those at `chosen`, if any
    are named."""
    if isinstance(rows, Path):
        columns = ", ".join((*_SPAN_COLUMNS, *(f"{text} IS NOT NULL AS has_{text}" for text in _TEXTS)))
        frame = fetched(connection.execute(f"SELECT -1 - file_row_number AS row, {columns} FROM {_file(rows)}"))
    else:
        texts = [pc.is_valid(rows.column(text)) for text in _TEXTS]
        table = rows.select(_SPAN_COLUMNS)
        for text, valid in zip(_TEXTS, texts, strict=True):
            table = table.append_column(f"has_{text}", valid)
        frame = _polars(table).select((-1 - pl.int_range(pl.len(), dtype=pl.Int64)).alias("row"), pl.all())
    if chosen is not None:
        frame = frame.filter(pl.col("row").is_in((-1 - chosen).implode()))
    return conform(frame, SPANS)


def previews(connection: duckdb.DuckDBPyConnection, rows: Staged, numbers: pl.Series) -> pl.DataFrame:
    """The first characters of the texts of staged spans (columns `PREVIEWS`), by the numbers that `spans` gave them."""
    if isinstance(rows, Path):
        listed = "SELECT unnest($numbers::BIGINT[])"
        cut = ", ".join(f"left({text}, {PREVIEW_CHARACTERS}) AS {text}" for text in _TEXTS)
        found = connection.execute(
            f"SELECT -1 - file_row_number AS row, {cut} FROM {_file(rows)} WHERE file_row_number IN ({listed})",
            {"numbers": (-1 - numbers).to_list()},
        )
        return conform(fetched(found), PREVIEWS)
    texts = _polars(rows.select(_TEXTS).take((-1 - numbers).to_arrow()))
    cut_texts = texts.select(pl.col(_TEXTS).str.head(PREVIEW_CHARACTERS))
    return conform(cut_texts.insert_column(0, numbers.alias("row")), PREVIEWS)


def _file(path: Path) -> str:
    quoted = str(path).replace("'", "''")
    return f"read_parquet('{quoted}', file_row_number = true)"


def _polars(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame
