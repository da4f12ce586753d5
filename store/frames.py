"""Reading: a cursor with its own snapshot whose answers are Polars frames with declared schemas."""

import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl

from store.errors import MemoryExhausted, QueryTimeout, SchemaMismatch, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

Schema = pl.Schema | Mapping[str, pl.DataType | type[pl.DataType]]

UTC_TIME: pl.DataType = pl.Datetime("us", "UTC")

# How the engine names the memory that it may use.
_LIMIT = re.compile(r"/(?P<limit>[\d.]+ \w+) used\)")

# Of a row group of an exported file: what the engine gathers before it writes.
_EXPORTED_ROWS = 32_768


# The engine makes room for as many rows of every column before it hands over the first: its own default of a million
# would take 8 MB a column for a result of one row, and hold it as long as the frame is held.
_FETCHED_ROWS = 8_192


class Reader:
    """One read transaction: everything asked of it sees the same state of the store."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, timeout: float | None) -> None:
        self._cursor = cursor
        self._timeout = timeout

    def frame(
        self, sql: str, schema: Schema, params: Mapping[str, object] | None = None, *, order: Sequence[str] = ()
    ) -> pl.DataFrame:
        """Run one query and return its rows with exactly the declared columns.

        Args: `sql` with `$name` parameters; `schema` the column names in order and their types; `params` their values;
        `order` sorts the rows by these columns, as ORDER BY does, without the engine holding all of them for it.
        Raises: `SchemaMismatch` when the columns differ; `QueryTimeout`; `StoreError` when the engine refuses.
        """
        with self._guard():
            # `sql` with parameters fetches every value as a Python object first: 30 times slower for large results.
            result = self._cursor.execute(sql, dict(params)) if params else self._cursor.sql(sql)
            frame = fetched(result)
        return ordered(conform(frame, schema), order)

    def any_frame(self, sql: str, params: Mapping[str, object] | None = None) -> pl.DataFrame:
        """Run a query whose columns are not known beforehand (`pipelines sql`)."""
        with self._guard():
            relation = self._cursor.sql(sql, params=dict(params) if params else None)
            return pl.DataFrame() if relation is None else fetched(relation)

    def rows(self, sql: str, params: Mapping[str, object] | None = None) -> list[tuple[Any, ...]]:
        """A few rows as objects of Python."""
        with self._guard():
            return self._cursor.execute(sql, dict(params) if params else None).fetchall()

    def value(self, sql: str, params: Mapping[str, object] | None = None) -> object:
        """The single value of a one-row, one-column query; None when there is no row."""
        rows = self.rows(sql, params)
        return rows[0][0] if rows else None

    def export(self, path: Path, sql: str, params: Mapping[str, object] | None = None) -> None:
        """Run one query and write its rows to a Parquet file at `path`; none of them becomes an object of Python.

        Types are kept but for sums of whole numbers (HUGEINT), which become floating numbers: exact below 2^53.
        Raises: `QueryTimeout`; `StoreError` when the engine refuses, or the disk is full.
        """
        target = str(path).replace("'", "''")
        with self._guard():
            self._cursor.execute(
                f"COPY ({sql}\n) TO '{target}' (FORMAT parquet, COMPRESSION lz4_raw, ROW_GROUP_SIZE {_EXPORTED_ROWS})",
                dict(params) if params else None,
            )

    def interrupt(self) -> None:
        """Cut short the query that runs, which raises `QueryTimeout`. Call from any thread."""
        self._cursor.interrupt()

    @contextmanager
    def _guard(self) -> "Iterator[None]":
        timer = threading.Timer(self._timeout, self._cursor.interrupt) if self._timeout is not None else None
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            yield
        except duckdb.InterruptException as error:
            raise QueryTimeout(self._timeout or 0.0) from error
        except duckdb.OutOfMemoryException as error:
            raise exhausted(error) from error
        except duckdb.Error as error:
            raise StoreError(str(error)) from error
        finally:
            if timer is not None:
                timer.cancel()


def fetched(result: duckdb.DuckDBPyConnection | duckdb.DuckDBPyRelation) -> pl.DataFrame:
    """All rows of a result, in one piece and in no more memory than they need."""
    frame: pl.DataFrame = result.pl(_FETCHED_ROWS)
    # One piece is still the engine's buffer, mostly empty: taking all rows copies them out of it.
    return frame.rechunk() if frame.n_chunks() > 1 else frame[pl.int_range(0, frame.height, eager=True)]


def ordered(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """The rows as the engine's ORDER BY sorts them: texts by their bytes, nothing last."""
    return frame.sort(columns, nulls_last=True) if columns else frame


def exhausted(error: duckdb.OutOfMemoryException) -> MemoryExhausted:
    """The engine's complaint as an error of the store, without its advice to change what operators cannot."""
    text = str(error).splitlines()[0][:300]
    limit = _LIMIT.search(text)
    return MemoryExhausted(limit["limit"] if limit else "a limited amount", text)


def texts_in(parameter: str) -> str:
    """SQL for the texts, one a row, that are in a parameter as `packed` puts them."""
    return f"""unnest(from_json(${parameter}, '["VARCHAR"]'))"""


def packed(listed: Iterable[str]) -> str:
    """Many texts as one parameter, for `texts_in`.

    A list of 40,000 takes the engine two seconds, in which it holds the interpreter's lock: it makes a value of each.
    """
    return json.dumps(list(listed))


def each(column: pl.Series, function: Callable[[Any], Any], dtype: pl.DataType | type[pl.DataType]) -> pl.Series:
    """What a function of Python makes of each value; nothing of nothing. The name stays.

    Never `map_elements` inside an expression: the threads of Polars then wait for the interpreter, which another
    thread may hold while it waits for those threads, and the whole process stands still.
    """
    made = [None if value is None else function(value) for value in column.to_list()]
    return pl.Series(column.name, made, dtype=dtype)


def declare(types: Mapping[str, pl.DataType | type[pl.DataType]]) -> pl.Schema:
    """A schema whose columns may mix plain types and types with parameters, such as `UTC_TIME`."""
    return pl.Schema(dict(types))


def conform(frame: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """The frame with exactly the declared types; refuses other names, and values that the type cannot hold."""
    declared = pl.Schema(schema)
    if frame.columns != declared.names():
        raise SchemaMismatch(str(declared.names()), str(frame.columns))
    if frame.schema == declared:
        return frame
    try:
        return frame.cast(declared, strict=True)
    except pl.exceptions.PolarsError as error:
        raise SchemaMismatch(str(declared), str(frame.schema)) from error
