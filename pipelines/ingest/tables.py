"""Rows as Arrow tables with exactly the columns and types of a fact table."""

import json
import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pipelines.ingest.rows import Row
from store.columns import FACT_COLUMNS

_JSON_COLUMNS = {"metadata", "attributes", "links"}

_ARROW = {
    "VARCHAR": pa.string(),
    "BIGINT": pa.int64(),
    "INTEGER": pa.int32(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "TIMESTAMPTZ": pa.timestamp("us", "UTC"),
}


def table_of(kind: str, rows: Sequence[tuple[int, Row]]) -> pa.Table:
    """Rows given as (record_no, columns) as a table: `record_no`, then every column of the fact table `kind`."""
    columns: dict[str, pa.Array] = {"record_no": pa.array([number for number, _ in rows], pa.int64())}
    held = {name for _, row in rows for name in row}
    for column, sql_type in FACT_COLUMNS[kind].items():
        if column not in held:
            columns[column] = pa.nulls(len(rows), _ARROW[sql_type])
            continue
        values = [row.get(column) for _, row in rows]
        if column in _JSON_COLUMNS:
            values = [_packed(value) for value in values]
        columns[column] = _texts(values) if sql_type == "VARCHAR" else pa.array(values, _ARROW[sql_type])
    return pa.table(columns)


def _texts(values: list[str | None]) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        return pa.array([value if value is None else text_of(value) for value in values], pa.string())


def _packed(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else _json(value)


# Made once: `json.dumps` with options makes an encoder for every value.
_ENCODER = json.JSONEncoder(ensure_ascii=False, default=str, allow_nan=False)


def _json(value: Any) -> str:
    """JSON text; numbers that JSON does not know, such as those too large for a float, become texts."""
    try:
        return _ENCODER.encode(value)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False, default=str, allow_nan=False)


def _finite(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else str(value)
        case dict():
            return {key: _finite(each) for key, each in value.items()}
        case list():
            return [_finite(each) for each in value]
        case _:
            return value


def text_of(value: str) -> str:
    """Lone surrogates, which JSON can carry and UTF-8 cannot, become replacement characters."""
    return value if value.isascii() else value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
