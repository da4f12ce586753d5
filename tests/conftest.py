"""Fixtures shared by all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, settings
from schema_at_once import whole_schema

from store import migrate
from store.clock import Clock

# A slow machine is no failure. In CI the examples are the same every time; elsewhere they keep looking for new ones.
settings.register_profile(
    "trimtab", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("trimtab")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the checkout; tests that use it skip where it is absent."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip("../shared/data is not here")
    return path


@pytest.fixture(scope="session", autouse=True)
def _made_at_once() -> Iterator[None]:
    """A new store gets the tables that all migrations together make, instead of going through each of them.

    Thousands of tests begin with a new store. `tests/store/test_schema_at_once.py` holds both ways against each other.
    """
    step_by_step = migrate.migrate
    script: str | None = None

    def at_once(
        connection: duckdb.DuckDBPyConnection, clock: Clock, migrations: list[migrate.Migration] | None = None
    ) -> list[str]:
        nonlocal script
        if migrations is not None or connection.execute("SELECT 1 FROM duckdb_tables() LIMIT 1").fetchall():
            return step_by_step(connection, clock, migrations)
        known = migrate.known()
        if script is None:
            done = step_by_step(connection, clock, known)
            script = whole_schema(connection)
            return done
        connection.execute("BEGIN TRANSACTION")
        connection.execute(script)
        for migration in known:
            connection.execute(
                "INSERT INTO schema_migrations VALUES ($name, $sha256, $now)",
                {"name": migration.name, "sha256": migration.sha256, "now": clock.now()},
            )
        connection.execute("COMMIT")
        connection.execute("CHECKPOINT")
        return [migration.name for migration in known]

    migrate.migrate = at_once
    yield
    migrate.migrate = step_by_step
