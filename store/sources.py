"""Saved column mappings, one a source."""

import json

import duckdb
import polars as pl

from store import audit
from store.connection import Store
from store.errors import NotFound
from store.frames import UTC_TIME, declare

SOURCES = declare({"source": pl.String, "mapping": pl.String, "columns": pl.String, "updated_at": UTC_TIME})


def save(store: Store, source: str, mapping: str, columns: list[str], *, operator: str | None = None) -> None:
    """Keep a mapping (JSON text) for files of this source with these columns; replaces an earlier one.

    A change that an `operator` makes is noted in the audit log.
    """

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        held = connection.execute("SELECT mapping FROM sources WHERE source = $source", {"source": source}).fetchall()
        detail = {"before": held[0][0] if held else None, "after": mapping}
        if operator is not None and detail["before"] != mapping:
            audit.append(connection, store.clock.now(), operator, "mapping save", f"source {source}", detail)
        connection.execute("DELETE FROM sources WHERE source = $source", {"source": source})
        connection.execute(
            "INSERT INTO sources VALUES ($source, $mapping, $columns, $now)",
            {"source": source, "mapping": mapping, "columns": json.dumps(columns), "now": store.clock.now()},
        )

    store.write(work)


def delete(store: Store, source: str, *, operator: str) -> None:
    """Forget the mapping of a source: its next file is guessed anew. Raises: `NotFound`."""

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        held = connection.execute("DELETE FROM sources WHERE source = $source RETURNING mapping", {"source": source})
        rows = held.fetchall()
        if not rows:
            raise NotFound("saved mapping", source)
        detail = {"mapping": json.loads(rows[0][0])}
        audit.append(connection, store.clock.now(), operator, "mapping delete", f"source {source}", detail)

    store.write(work)


def all_saved(store: Store) -> pl.DataFrame:
    """Every saved mapping, the latest first (columns `SOURCES`)."""
    with store.read() as reader:
        return reader.frame("FROM sources ORDER BY updated_at DESC, source", SOURCES)


def mapping_texts(store: Store) -> dict[str, tuple[str, list[str]]]:
    """Source -> (mapping as JSON text, the columns it was made for), the latest first."""
    return {row["source"]: (row["mapping"], json.loads(row["columns"])) for row in all_saved(store).to_dicts()}
