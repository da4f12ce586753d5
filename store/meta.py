"""The data version: a number that every publish and every job moves, by which pages and jobs know what is new."""

from dataclasses import dataclass

import duckdb

from store.connection import Store


@dataclass(frozen=True)
class Version:
    """Where the store is: the data version, and what people did, by the last row of the audit log and the last run of
    a job that somebody asked for and that ended."""

    data: int
    acted: int
    ran: int = 0

    def of_people(self) -> tuple[int, int]:
        """What people did, apart from data that came in and jobs that ran by themselves."""
        return self.acted, self.ran


def bump(connection: duckdb.DuckDBPyConnection) -> None:
    """Say that what pages show may have changed. Call inside the transaction that changed it."""
    connection.execute("UPDATE store_meta SET value = value + 1 WHERE key = 'data_version'")


def data_version(store: Store) -> int:
    """The present data version."""
    with store.read() as reader:
        value = reader.value("SELECT value FROM store_meta WHERE key = 'data_version'")
    return int(value) if isinstance(value, int) else 0


def version(store: Store) -> Version:
    """Where the store is at present."""
    with store.read() as reader:
        rows = reader.rows(
            """SELECT value, (SELECT coalesce(max(sequence), 0) FROM audit_log),
                (SELECT coalesce(max(run_id), 0) FROM job_runs WHERE cause = 'manual' AND finished_at IS NOT NULL)
            FROM store_meta WHERE key = 'data_version'"""
        )
    ((data, acted, ran),) = rows or [(0, 0, 0)]
    return Version(int(data), int(acted), int(ran))
