"""Trials whether a trained model still needs a lesson: withheld at random from it, its payoff decides.

    running -> absorbed, not absorbed or harms (what was measured) -> graduated or ended (what an operator did)

A running trial can be ended too.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

import duckdb
import polars as pl

from store import audit, meta
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.frames import UTC_TIME, declare

__all__ = ["MEASURED", "ROWS", "Basis", "State", "begin", "close", "listed", "look", "one", "running"]

Basis = Literal["model", "arm"]
State = Literal["running", "absorbed", "not absorbed", "harms", "graduated", "ended"]
MEASURED: Final = ("running", "absorbed", "not absorbed", "harms")

ROWS = declare(
    {
        "trial_id": pl.Int64, "agent": pl.String, "lesson_id": pl.String, "version": pl.Int32, "basis": pl.String,
        "name": pl.String, "tuning_id": pl.Int64, "holdout": pl.Float64, "holdout_before": pl.Float64,
        "margin": pl.Float64, "state": pl.String, "served": pl.Int64, "withheld": pl.Int64, "effect": pl.Float64,
        "lower": pl.Float64, "upper": pl.Float64, "message": pl.String, "started_by": pl.String,
        "started_at": UTC_TIME, "looked_at": UTC_TIME, "ended_by": pl.String, "ended_at": UTC_TIME,
    }
)  # fmt: skip


def begin(
    store: Store,
    agent: str,
    lesson_id: str,
    *,
    version: int,
    basis: Basis,
    name: str,
    tuning_id: int | None,
    holdout: float,
    holdout_before: float | None,
    margin: float,
    by: str,
) -> int:
    """Record that a trial runs; returns its number. Raises: `ActionRefused` while one of the lesson is open."""

    def work(connection: duckdb.DuckDBPyConnection) -> int:
        now = store.clock.now()
        if connection.execute(
            f"SELECT 1 FROM graduation_trials WHERE lesson_id = $lesson AND state IN {MEASURED}", {"lesson": lesson_id}
        ).fetchall():
            raise ActionRefused("Try without", "a trial of this lesson is open.", "End that one first.")
        rows = connection.execute(
            """INSERT INTO graduation_trials BY NAME
            SELECT (SELECT coalesce(max(trial_id), 0) + 1 FROM graduation_trials) AS trial_id, $agent AS agent,
                $lesson AS lesson_id, $version AS version, $basis AS basis, $name AS name, $tuning AS tuning_id,
                $holdout AS holdout, $before AS holdout_before, $margin AS margin, 'running' AS state,
                'Nothing was measured yet.' AS message, $by AS started_by, $now AS started_at
            RETURNING trial_id""",
            {
                "agent": agent, "lesson": lesson_id, "version": version, "basis": basis, "name": name,
                "tuning": tuning_id, "holdout": holdout, "before": holdout_before, "margin": margin, "by": by,
                "now": now,
            },
        ).fetchall()  # fmt: skip
        trial_id = int(rows[0][0])
        detail = {"agent": agent, basis: name, "holdout": holdout, "version": version, "trial": trial_id}
        audit.append(connection, now, by, "graduate trial", f"lesson {lesson_id}", detail)
        meta.bump(connection)
        return trial_id

    return store.write(work)


def look(
    store: Store,
    trial_id: int,
    state: Literal["running", "absorbed", "not absorbed", "harms"],
    message: str,
    measured: Mapping[str, Any],
) -> None:
    """Record what was measured: served, withheld, effect, lower, upper of `measured`. Ended trials stay as they are."""

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute(
            f"""UPDATE graduation_trials SET state = $state, message = $message, served = $served,
                withheld = $withheld, effect = $effect, lower = $lower, upper = $upper, looked_at = $now
            WHERE trial_id = $trial AND state IN {MEASURED}""",
            {
                "state": state, "message": message, "now": store.clock.now(), "trial": trial_id,
                **{name: measured[name] for name in ("served", "withheld", "effect", "lower", "upper")},
            },
        )  # fmt: skip
        meta.bump(connection)

    store.write(work)


def close(store: Store, trial_id: int, state: Literal["graduated", "ended"], *, by: str) -> None:
    """End a trial. Raises: `NotFound`; `ActionRefused` when it has ended, or for no person."""
    audit.person("End the trial", by)

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now = store.clock.now()
        rows = connection.execute(
            "SELECT state, lesson_id FROM graduation_trials WHERE trial_id = $trial", {"trial": trial_id}
        ).fetchall()
        if not rows:
            raise NotFound("trial", str(trial_id))
        if rows[0][0] not in MEASURED:
            raise ActionRefused("End the trial", f"it has {rows[0][0]} already.", "Nothing is left to do.")
        connection.execute(
            """UPDATE graduation_trials SET state = $state, ended_by = $by, ended_at = $now WHERE trial_id = $trial""",
            {"state": state, "by": by, "now": now, "trial": trial_id},
        )
        audit.append(connection, now, by, f"graduate trial {state}", f"lesson {rows[0][1]}", {"trial": trial_id})
        meta.bump(connection)

    store.write(work)


def one(store: Store, trial_id: int) -> dict[str, Any]:
    """One trial as a dictionary of the columns ROWS. Raises: `NotFound`."""
    frame = _listed(store, "trial_id = $trial", {"trial": trial_id}, "trial_id")
    if frame.is_empty():
        raise NotFound("trial", str(trial_id))
    return frame.row(0, named=True)


def running(store: Store) -> pl.DataFrame:
    """The trials that are measured, oldest first (columns ROWS): until an operator ends them."""
    return _listed(store, f"state IN {MEASURED}", {}, "trial_id")


def listed(store: Store, limit: int = 50) -> pl.DataFrame:
    """The latest trials, newest first (columns ROWS)."""
    return _listed(store, "true", {"limit": limit}, "trial_id DESC LIMIT $limit")


def _listed(store: Store, where: str, params: Mapping[str, object], order: str) -> pl.DataFrame:
    with store.read() as reader:
        return reader.frame(
            f"SELECT {', '.join(ROWS)} FROM graduation_trials WHERE {where} ORDER BY {order}", ROWS, dict(params)
        )
