"""Migrations: applied once, in order, and an altered or unknown one refuses to open."""

import duckdb
import pytest

from store import migrate
from store.connection import Store
from store.errors import MigrationError
from store.migrate import Migration


def _schema(connection):
    return connection.execute(
        "SELECT table_name, column_name, data_type FROM information_schema.columns ORDER BY ALL"
    ).fetchall()


def _names(connection):
    return [name for (name,) in connection.execute("SELECT name FROM schema_migrations ORDER BY name").fetchall()]


@pytest.mark.parametrize("has_rows", [False, True])
def test_upgrade_from_the_first_migration_gives_the_same_schema_as_a_new_file(clock, has_rows):
    old, new = duckdb.connect(), duckdb.connect()
    migrations = migrate.known()
    migrate.migrate(old, clock, migrations[:1])
    if has_rows:
        old.execute(
            "INSERT INTO spans (trace_id, span_id, kind, source, content_hash, batch_id) "
            "VALUES ('t', 's', 'llm', 'x', 1, 1)"
        )
        old.execute("INSERT INTO lessons VALUES ('l', 'a', NULL, 'active', 1, 'contrast', now(), now())")
    assert migrate.migrate(old, clock, migrations) == [m.name for m in migrations[1:]]
    assert migrate.migrate(new, clock) == [m.name for m in migrations]
    assert _schema(old) == _schema(new)
    assert _names(old) == [m.name for m in migrations]
    if has_rows:
        assert old.execute("SELECT trace_id, kind FROM spans").fetchall() == [("t", "llm")]
        assert old.execute("SELECT lesson_id, state FROM lessons").fetchall() == [("l", "active")]


def test_a_second_run_applies_nothing(clock):
    connection = duckdb.connect()
    assert migrate.migrate(connection, clock)
    assert migrate.migrate(connection, clock) == []


def test_a_changed_migration_is_refused(clock):
    connection = duckdb.connect()
    migrate.migrate(connection, clock, [Migration("0001_a", "CREATE TABLE a (x INTEGER)")])
    with pytest.raises(MigrationError, match="0001_a has changed since"):
        migrate.migrate(connection, clock, [Migration("0001_a", "CREATE TABLE a (x BIGINT)")])


def test_an_unknown_migration_is_refused(clock):
    connection = duckdb.connect()
    first = Migration("0001_a", "CREATE TABLE a (x INTEGER)")
    migrate.migrate(connection, clock, [first, Migration("0002_b", "CREATE TABLE b (x INTEGER)")])
    with pytest.raises(MigrationError, match="newer version"):
        migrate.migrate(connection, clock, [first])


def test_a_failing_migration_leaves_nothing_behind(clock):
    connection = duckdb.connect()
    broken = Migration("0001_a", "CREATE TABLE a (x INTEGER); INSERT INTO missing VALUES (1)")
    with pytest.raises(MigrationError, match="could not be applied"):
        migrate.migrate(connection, clock, [broken])
    assert [table for (table,) in connection.execute("SHOW TABLES").fetchall()] == ["schema_migrations"]
    assert _names(connection) == []


def test_the_store_refuses_a_file_of_a_newer_version_and_leaves_it_alone(tmp_path, clock):
    path = tmp_path / "t.duckdb"
    Store.open(path, clock=clock).close()
    with duckdb.connect(str(path)) as connection:
        connection.execute("INSERT INTO schema_migrations VALUES ('9999_future', 'x', now())")
    with pytest.raises(MigrationError, match="9999_future"):
        Store.open(path, clock=clock)
    with duckdb.connect(str(path)) as connection:
        assert "9999_future" in _names(connection)


def test_names_are_numbered_without_gaps():
    numbers = [int(migration.name[:4]) for migration in migrate.known()]
    assert numbers == list(range(1, len(numbers) + 1))
