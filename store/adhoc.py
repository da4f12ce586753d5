"""Read-only SQL from an operator: one SELECT over the tables of the store, and nothing else.

Three fences. The statement must parse as one SELECT (WITH, FROM, VALUES, DESCRIBE, SHOW and SUMMARIZE are forms of it)
or the EXPLAIN of one. Its syntax tree may name only tables of the store and harmless table functions, so no file is
read: publishing needs the engine's file access, which can therefore not be switched off. And it runs in a read-only
transaction with a time limit.
"""

import difflib
import json
import re
from collections.abc import Iterator
from typing import Any

import duckdb
import polars as pl

from store.connection import Store
from store.errors import StoreError
from store.frames import Reader

_TABLE_FUNCTIONS = {
    "duckdb_columns", "duckdb_constraints", "duckdb_databases", "duckdb_functions", "duckdb_indexes", "duckdb_memory",
    "duckdb_schemas", "duckdb_settings", "duckdb_tables", "duckdb_types", "duckdb_views", "generate_series",
    "json_each", "json_tree", "pragma_database_size", "pragma_storage_info", "pragma_table_info", "range", "repeat",
    "repeat_row", "summary", "unnest",
}  # fmt: skip

# A name that the engine could take for a file carries a dot, a slash or the like; a plain identifier cannot be one.
_IDENTIFIER = re.compile(r"\w+")
_EXPLAIN = re.compile(r"\s*EXPLAIN\b(\s+ANALYZE\b)?(\s*\([^)]*\))?", re.IGNORECASE)
_SYSTEM_SCHEMAS = {"information_schema", "pg_catalog"}

_ALLOWED = (
    "Allowed is one SELECT, WITH, FROM, VALUES, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN over the tables of the store."
)


class SqlRefused(StoreError):
    """A statement that is not a read of the store's own tables. Nothing was run."""

    def __init__(self, problem: str, remedy: str = _ALLOWED) -> None:
        self.problem, self.remedy = problem, remedy
        super().__init__(f"{problem} {remedy}")


def query(store: Store, sql: str, *, timeout: float | None = None) -> pl.DataFrame:
    """Run one reading statement.

    Args: `sql`; `timeout` in seconds.
    Raises: `SqlRefused` for anything but one read of the store's tables; `QueryTimeout`; `StoreError` with the engine's
    words for an error in the statement.
    """
    with store.read(timeout=timeout) as reader:
        _check(reader, sql)
        try:
            return reader.any_frame(sql)
        except pl.exceptions.PolarsError as error:
            remedy = "Cast it to text, such as x::VARCHAR"
            raise StoreError(f"A column has a type that cannot be shown. {remedy}. ({error})") from error


def _check(reader: Reader, sql: str) -> None:
    statement = _single_statement(sql)
    if statement.type == duckdb.StatementType.EXPLAIN:
        explained = _EXPLAIN.match(statement.query)
        inner = _single_statement(statement.query[explained.end() :]) if explained else None
        if inner is None or inner.type != duckdb.StatementType.SELECT:
            raise SqlRefused("Only a SELECT can be explained.")
        statement = inner
    if statement.type != duckdb.StatementType.SELECT:
        raise SqlRefused(f"This is a statement of type {statement.type.name}.")
    text = reader.value("SELECT json_serialize_sql($sql::VARCHAR)::VARCHAR", {"sql": statement.query})
    tree = json.loads(str(text))
    if tree["error"]:
        raise SqlRefused("This statement is not a plain SELECT.")
    _check_tables(reader, tree)


def _single_statement(sql: str) -> duckdb.Statement:
    """The only statement of a text; parsing runs nothing."""
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise StoreError(str(error)) from error
    if len(statements) != 1:
        raise SqlRefused(f"This holds {len(statements)} statements.")
    return statements[0]


def _check_tables(reader: Reader, tree: dict[str, Any]) -> None:
    """Refuse table functions that reach outside the store, and names that are not tables of it."""
    nodes = list(_nodes(tree))
    bound_here = {
        entry["key"] for node in nodes if isinstance(node.get("cte_map"), dict) for entry in node["cte_map"]["map"]
    }
    own = reader.any_frame("SELECT table_name FROM duckdb_tables() UNION ALL SELECT view_name FROM duckdb_views()")
    tables = {str(name).lower() for name in own.to_series().to_list()}
    schemas = {"", "main", str(reader.value("SELECT current_database()")).lower(), *_SYSTEM_SCHEMAS}
    for node in nodes:
        if node.get("type") == "TABLE_FUNCTION":
            function = str(node["function"].get("function_name", "")).lower()
            if function not in _TABLE_FUNCTIONS:
                raise SqlRefused(f"The table function {function}() may not be used here.")
        elif node.get("type") == "BASE_TABLE":
            _check_table(node, tables, schemas, bound_here)


def _check_table(node: dict[str, Any], tables: set[str], schemas: set[str], bound_here: set[str]) -> None:
    """Refuse a name that is neither a table nor bound by WITH: the engine would look for a file of that name.

    An unquoted `FROM secret.csv` parses as table `csv` of schema `secret` and is a file too, so schemas count.
    """
    name, schema = str(node["table_name"]), str(node.get("schema_name") or "").lower()
    if name.lower() in tables and schema in schemas:
        return
    if name in bound_here and _IDENTIFIER.fullmatch(name) and schema in ("", "recurring"):
        return
    full = f"{schema}.{name}" if schema else name
    close = difflib.get_close_matches(name.lower(), sorted(tables), n=1)
    hint = f"Did you mean {close[0]}?" if close else "SHOW TABLES lists its tables."
    raise SqlRefused(f"There is no table {full} in the store.", hint)


def _nodes(value: object) -> Iterator[dict[str, Any]]:
    """Every object of a JSON tree."""
    if isinstance(value, dict):
        yield value
        for child in value.values():
            yield from _nodes(child)
    elif isinstance(value, list):
        for child in value:
            yield from _nodes(child)
