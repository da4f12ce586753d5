"""The schema that tests begin with is the one that the migrations make, one after the other."""

import importlib

from schema_at_once import whole_schema

from store import migrate
from store.connection import Store

LOOKS = (
    "SELECT table_name, column_name, data_type, column_default, is_nullable FROM duckdb_columns()"
    " WHERE database_name = current_database() ORDER BY ALL",
    "SELECT table_name, constraint_type, constraint_text FROM duckdb_constraints()"
    " WHERE database_name = current_database() ORDER BY ALL",
    "SELECT name, sha256 FROM schema_migrations ORDER BY ALL",
    "SELECT key, value FROM store_meta ORDER BY ALL",
    "SELECT count(*) FROM duckdb_indexes() WHERE database_name = current_database()",
    "SELECT count(*) FROM duckdb_views() WHERE NOT internal AND database_name = current_database()",
    "SELECT count(*) FROM duckdb_sequences() WHERE database_name = current_database()",
)


def test_a_store_made_at_once_is_the_one_made_step_by_step(monkeypatch):
    def looks() -> list[object]:
        store = Store.open(None, threads=1)
        try:
            with store.borrowed_cursor() as cursor:
                return [*(cursor.execute(look).fetchall() for look in LOOKS), sorted(whole_schema(cursor).split(";\n"))]
        finally:
            store.close()

    looks()
    at_once = looks()
    original = importlib.util.module_from_spec(spec := importlib.util.find_spec("store.migrate"))
    spec.loader.exec_module(original)
    monkeypatch.setattr(migrate, "migrate", original.migrate)
    called = []
    monkeypatch.setattr(original, "known", lambda *_: called.append(1) or migrate.known())
    assert looks() == at_once
    assert called
