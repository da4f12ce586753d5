"""The data version: a number that every publish and every job moves, by which pages and jobs know what is new."""

import duckdb

from store.connection import Store


def bump(connection: duckdb.DuckDBPyConnection) -> None:
    """Say that what pages show may have changed. Call inside the transaction that changed it."""
    connection.execute("UPDATE store_meta SET value = value + 1 WHERE key = 'data_version'")


def data_version(store: Store) -> int:
    """The present data version."""
    with store.read() as reader:
        value = reader.value("SELECT value FROM store_meta WHERE key = 'data_version'")
    return int(value) if isinstance(value, int) else 0
