"""Drift between full scans: one row of sums a user and metric, how far they stand, and calibrations of schedules.

The rows are derived: a full scan writes them anew, so that what was renamed, forgotten or rewritten is counted as it
is then. In between, new values are added to them (`pipelines.drift.state`).
"""

from collections.abc import Mapping
from datetime import datetime

import duckdb
import polars as pl

from store import result_rows
from store.connection import Store
from store.frames import UTC_TIME, Reader, declare

__all__ = ["STATES", "calibrations", "keep", "of_metric", "of_user", "replace", "replace_all", "standing"]

STATES = declare(
    {
        "user_id": pl.String, "metric": pl.String, "n": pl.Int64, "mean": pl.Float64, "m2": pl.Float64,
        "minimum": pl.Float64, "maximum": pl.Float64, "s_plus": pl.Float64, "s_minus": pl.Float64,
        "reference_mean": pl.Float64, "reference_sd": pl.Float64, "first_at": UTC_TIME, "last_at": UTC_TIME,
        "suspected": pl.Boolean,
    }
)  # fmt: skip
_COLUMNS = ", ".join(STATES)


def of_metric(reader: Reader, metric: str) -> pl.DataFrame:
    """The state of every user by one metric (columns `STATES`), in no order."""
    return reader.frame(f"SELECT {_COLUMNS} FROM drift_states WHERE metric = $metric", STATES, {"metric": metric})


def of_user(store: Store, user_id: str) -> pl.DataFrame:
    """What is counted of one user, one row a metric (columns `STATES`); values by metrics that were not scanned too."""
    with store.read() as reader:
        return reader.frame(
            f"SELECT {_COLUMNS} FROM drift_states WHERE user_id = $user ORDER BY metric", STATES, {"user": user_id}
        )


def standing(store: Store) -> tuple[int, datetime] | None:
    """Up to which publication of facts the states stand, and when the newest full scan was; None before the first."""
    schema = declare({"publication": pl.Int64, "full_at": UTC_TIME})
    with store.read() as reader:
        rows = reader.frame("SELECT publication, full_at FROM drift_progress", schema).rows()
    return rows[0] if rows else None


def replace_all(store: Store, states: pl.DataFrame, *, publication: int) -> None:
    """Put the states of a full scan (columns `STATES`) in place of all others; they stand at `publication`."""

    def begin(connection: duckdb.DuckDBPyConnection) -> None:
        # Without progress the next run is a full scan: what is cut short is begun again.
        connection.execute("DELETE FROM drift_progress")

    def end(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute(
            "INSERT INTO drift_progress VALUES ($at, $now)", {"at": publication, "now": store.clock.now()}
        )

    store.write(begin)
    result_rows.remove(store, "drift_states", "true")
    result_rows.insert_slices(store, "drift_states", states.select(list(STATES)), key={})
    store.write(end)


def replace(store: Store, states: pl.DataFrame, *, publication: int) -> None:
    """Put these users' states in place of theirs, user by user and metric by metric; all stand at `publication` then.

    In one transaction: the states and how far they stand never disagree.
    """

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        connection.register("fresh_states", states.select(list(STATES)))
        try:
            connection.execute(
                """DELETE FROM drift_states AS s USING fresh_states AS f
                WHERE s.user_id = f.user_id AND s.metric = f.metric"""
            )
            connection.execute("INSERT INTO drift_states BY NAME FROM fresh_states")
        finally:
            connection.unregister("fresh_states")
        connection.execute("UPDATE drift_progress SET publication = $at", {"at": publication})

    store.write(work)


def calibrations(store: Store) -> dict[str, str]:
    """What was computed for schedules of looks that are not the usual ones: JSON by the name of the schedule."""
    with store.read() as reader:
        rows = reader.frame(
            "SELECT schedule, quantiles FROM drift_calibrations ORDER BY schedule",
            pl.Schema({"schedule": pl.String(), "quantiles": pl.String()}),
        )
    return dict(rows.iter_rows())


def keep(store: Store, computed: Mapping[str, str]) -> None:
    """Keep calibrations (JSON by the name of the schedule) in place of earlier ones of the same schedules."""

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        for schedule, quantiles in computed.items():
            row = {"schedule": schedule, "quantiles": quantiles, "now": store.clock.now()}
            known = connection.execute(
                "SELECT count(*) FROM drift_calibrations WHERE schedule = $schedule", {"schedule": schedule}
            ).fetchall()[0][0]
            if known:
                connection.execute(
                    "UPDATE drift_calibrations SET quantiles = $quantiles, made_at = $now WHERE schedule = $schedule",
                    row,
                )
            else:
                connection.execute("INSERT INTO drift_calibrations VALUES ($schedule, $now, $quantiles)", row)

    store.write(work)
