"""Columns of every Arrow type as columns that a table can hold; see parquet_records for what becomes of what."""

import json
import struct
from collections.abc import Callable
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from store.errors import FileRejected

_INTERVAL = struct.Struct("<III")
_NOT_A_NUMBER = r"[:\[,](?:NaN|-?Infinity)[,\]}]"


class PlainColumns:
    """Makes the columns of a file's tables plain."""

    def __init__(self, file: pq.ParquetFile, name: str, connection: duckdb.DuckDBPyConnection) -> None:
        self._name, self._connection = name, connection
        leaves = [file.schema.column(at) for at in range(len(file.schema))]
        # Arrow reads intervals as 12 bytes without saying what they are.
        self._intervals = {leaf.path for leaf in leaves if leaf.converted_type == "INTERVAL"}

    def __call__(self, table: pa.Table) -> pa.Table:
        columns = [self._plain(name, table.column(name).combine_chunks()) for name in table.column_names]
        return pa.Table.from_arrays(columns, names=table.column_names)

    def _plain(self, name: str, values: pa.Array) -> pa.Array:
        try:
            return self._convert(name, values)
        except (pa.ArrowException, duckdb.Error) as error:
            detail = str(error).splitlines()[0]
            raise FileRejected(
                self._name,
                f"Its column {name!r} of type {values.type} cannot be read ({detail}).",
                "Write it as text, number or time.",
            ) from error

    def _convert(self, name: str, values: pa.Array) -> pa.Array:
        kind = values.type
        if isinstance(values, pa.ExtensionArray):
            uuid = kind.extension_name == "arrow.uuid"
            return _each(values, str) if uuid else self._convert(name, values.storage)
        if name in self._intervals:
            return pa.array([None if value is None else _seconds(value) for value in values.to_pylist()], pa.float64())
        if pa.types.is_nested(kind):
            return self._json(values)
        if pa.types.is_fixed_size_binary(kind):
            return _each(values, bytes.hex)
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or kind == pa.binary_view():
            return _each(values, _text)
        if pa.types.is_large_string(kind) or kind == pa.string_view() or pa.types.is_null(kind):
            return values.cast(pa.string())
        if pa.types.is_decimal(kind):
            return values.cast(pa.float64())
        if pa.types.is_float16(kind):
            return values.cast(pa.float32())
        if pa.types.is_duration(kind):
            per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
            return pc.divide(values.cast(pa.int64()).cast(pa.float64(), safe=False), float(per_second))
        return values

    def _json(self, values: pa.Array) -> pa.Array:
        self._connection.register("nested", pa.table({"value": values}))
        try:
            texts = self._connection.execute(
                "SELECT CASE WHEN value IS NOT NULL THEN to_json(value)::VARCHAR END AS json FROM nested"
            ).to_arrow_table()
        finally:
            self._connection.unregister("nested")
        column = texts["json"].combine_chunks()
        odd = pc.fill_null(pc.match_substring_regex(column, _NOT_A_NUMBER), False)
        if pc.any(odd).as_py():
            column = pc.replace_with_mask(column, odd, pa.array(map(_without_nan, column.filter(odd).to_pylist())))
        return column


def _each(values: pa.Array, change: Callable[[Any], str]) -> pa.Array:
    return pa.array([None if value is None else change(value) for value in values.to_pylist()], pa.string())


def _text(value: bytes) -> str:
    return value.decode("utf-8") if is_text(value) else value.hex()


def is_text(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _seconds(value: bytes) -> float:
    """A Parquet interval (months, days, milliseconds) in seconds, a month being 30 days."""
    months, days, milliseconds = _INTERVAL.unpack(value)
    return float((months * 30 + days) * 86_400 + milliseconds / 1_000)


def _without_nan(text: str) -> str:
    """JSON text with null for NaN and infinities."""
    return json.dumps(json.loads(text, parse_constant=lambda _: None), ensure_ascii=False, separators=(",", ":"))
