"""Everything that the store holds of one person, table by table, as they may ask for it."""

from collections.abc import Iterator, Mapping
from datetime import datetime

import duckdb
import polars as pl

from store import audit, personal_data
from store.connection import Store
from store.errors import NotFound
from store.forgetting import collect
from store.frames import fetched

__all__ = ["note", "tables"]

# Ids of rows by a hash, which say nothing to anybody, and answers of the model kept for the next time.
_LEFT_OUT = frozenset({"trace_publications", "signal_publications", "llm_answers"})


def tables(store: Store, user_id: str) -> Iterator[tuple[str, pl.DataFrame]]:
    """The person's rows of each table that has any, by name of the table; all of one snapshot.

    Raises: `NotFound` when the store holds nothing of them.
    """
    with store.borrowed_cursor() as cursor:
        cursor.execute("BEGIN TRANSACTION")
        try:
            collect(cursor, user_id)
            counts = personal_data.expected(cursor)
            if not counts:
                raise NotFound("user", user_id)
            for table in sorted(counts.keys() - _LEFT_OUT):
                rows = cursor.execute(f"SELECT * FROM {table} WHERE {personal_data.ERASED[table]}")
                yield table, fetched(rows)
        finally:
            cursor.execute("ROLLBACK")


def note(store: Store, moment: datetime, user_id: str, operator: str, counts: Mapping[str, int]) -> None:
    """Keep in the audit log that an operator exported so many rows of each table."""

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        audit.append(connection, moment, operator, "export user", f"user {user_id}", {"rows": dict(counts)})

    store.write(work)
