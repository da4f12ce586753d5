"""Figures of each model and day, and the changes that watching its answers and asking probes found."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import duckdb
import polars as pl

from store import meta, result_rows
from store.connection import Store
from store.frames import UTC_TIME, declare

__all__ = [
    "FIGURES", "FOUND", "MODEL_CHANGES", "RUNS", "Announce", "Connection", "Kind", "Summary", "add_changes", "changes",
    "figures", "latest_run", "record",
]  # fmt: skip

Kind = Literal["passive", "active"]
Connection = duckdb.DuckDBPyConnection
Announce = Callable[[Connection, pl.DataFrame], None]

FOUND = declare(
    {
        "model": pl.String, "metric": pl.String, "status": pl.String, "changed_at": UTC_TIME, "before": pl.Float64,
        "after": pl.Float64, "before_n": pl.Int64, "after_n": pl.Int64, "n": pl.Int64, "effect": pl.Float64,
        "effect_lower": pl.Float64, "effect_upper": pl.Float64, "statistic": pl.Float64, "p_value": pl.Float64,
        "q_value": pl.Float64, "e_value": pl.Float64, "flagged": pl.Boolean, "detail": pl.String,
    }
)  # fmt: skip
MODEL_CHANGES = declare(
    {"change_id": pl.Int64, "run_id": pl.Int64, "kind": pl.String, **FOUND, "found_at": UTC_TIME, "current": pl.Boolean}
)
FIGURES = declare(
    {
        "day": pl.Date, "model": pl.String, "agent": pl.String, "metric": pl.String, "n": pl.Int64, "mean": pl.Float64,
        "sd": pl.Float64, "adjusted": pl.Float64, "adjusted_sd": pl.Float64,
    }
)  # fmt: skip
RUNS = declare(
    {
        "run_id": pl.Int64, "found_at": UTC_TIME, "data_version": pl.Int64, "code_version": pl.String,
        "models": pl.Int64, "scanned": pl.Int64, "flagged": pl.Int64, "parameters": pl.String,
    }
)  # fmt: skip

# A finding is current until a newer run of its kind looked at the same model again, or an operator anchored the model.
_NEWEST: Final = """(SELECT kind, model, max(run_id) AS newest FROM model_changes GROUP BY kind, model)"""
_SAME: Final = timedelta(days=3)
_ANCHORED: Final = "(SELECT model, max(noted_at) AS noted_at FROM model_anchors GROUP BY model)"


@dataclass(frozen=True)
class Summary:
    """What a passive run looked at; `parameters` is JSON text."""

    data_version: int
    code_version: str
    models: int
    scanned: int
    flagged: int
    parameters: str


def changes(
    store: Store, *, model: str | None = None, kind: Kind | None = None, flagged_only: bool = False,
    current_only: bool = False, limit: int = 1_000,
) -> pl.DataFrame:  # fmt: skip
    """What was found of models, newest first (columns `MODEL_CHANGES`).

    `before`, `after` and `effect` are in the metric's unit, `n` is answers or samples, `detail` JSON. Rows of the
    newest run of their kind and model are `current`, unless the model was anchored since; of earlier runs
    only what was flagged and is no longer seen is kept. `found_at` is when it was first flagged.
    """
    with store.read() as reader:
        return reader.frame(
            f"""SELECT * FROM (
                SELECT {", ".join(f"c.{name}" for name in MODEL_CHANGES.names()[:-1])},
                    c.run_id = w.newest AND (a.noted_at IS NULL OR c.found_at > a.noted_at) AS current
                FROM model_changes AS c JOIN {_NEWEST} AS w USING (kind, model)
                LEFT JOIN {_ANCHORED} AS a ON a.model = c.model
                WHERE ($model IS NULL OR c.model = $model) AND ($kind IS NULL OR c.kind = $kind)
                    AND (c.flagged OR NOT $flagged)
            ) WHERE current OR NOT $current
            ORDER BY found_at DESC, flagged DESC, p_value, model, metric LIMIT $limit""",
            MODEL_CHANGES,
            {"model": model, "kind": kind, "flagged": flagged_only, "current": current_only, "limit": limit},
        )


def figures(
    store: Store, *, model: str | None = None, metric: str | None = None, by_agent: bool = False, limit: int = 50_000
) -> pl.DataFrame:
    """The daily figures of the newest run in order of time (columns `FIGURES`); `by_agent` the rows of each agent."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(FIGURES)} FROM model_figures
            WHERE run_id = (SELECT max(run_id) FROM model_watch_runs) AND (agent IS NOT NULL) = $by_agent
                AND ($model IS NULL OR model = $model) AND ($metric IS NULL OR metric = $metric)
            ORDER BY day, model, agent, metric LIMIT $limit""",
            FIGURES,
            {"model": model, "metric": metric, "by_agent": by_agent, "limit": limit},
        )


def latest_run(store: Store) -> dict[str, Any] | None:
    """The newest passive run as a dictionary of `RUNS` columns, `parameters` decoded; None before the first."""
    return result_rows.newest(store, "model_watch_runs", RUNS)


def record(store: Store, found: pl.DataFrame, daily: pl.DataFrame, summary: Summary, *, announce: Announce) -> int:
    """Keep what a passive run found (columns `FOUND`) and its figures (columns `FIGURES`); returns the run's number.

    `announce` is called in the transaction that makes the run visible, with the rows that `add_changes` returns.
    """

    def add(connection: duckdb.DuckDBPyConnection, run: int) -> None:
        connection.execute(
            """INSERT INTO model_watch_runs BY NAME SELECT $run AS run_id, $now AS found_at,
                $data_version AS data_version, $code_version AS code_version, $models AS models, $scanned AS scanned,
                $flagged AS flagged, $parameters AS parameters""",
            {**vars(summary), "run": run, "now": store.clock.now()},
        )
        announce(connection, add_changes(connection, store.clock.now(), "passive", run, found))

    run = result_rows.publish(store, "model_watch_runs", {"model_figures": daily.select(list(FIGURES))}, add)
    result_rows.remove(store, "model_figures", "run_id < $run", {"run": run})
    return run


def add_changes(
    connection: duckdb.DuckDBPyConnection, now: datetime, kind: Kind, run: int, found: pl.DataFrame
) -> pl.DataFrame:
    """Put what a run found of models (columns `FOUND`) in the place of what the run before it found of them.

    A change that was flagged before, at nearly the same time, keeps its number and when it was found; flagged changes
    that are no longer seen stay. Returns the rows flagged for the first time. Call in a transaction.
    """
    models = found["model"].unique().to_list()
    rows = connection.execute(
        f"""SELECT c.change_id, c.model, c.metric, c.changed_at, c.found_at
        FROM model_changes AS c LEFT JOIN {_ANCHORED} AS a ON a.model = c.model
        WHERE c.kind = $kind AND c.flagged AND list_contains($models::VARCHAR[], c.model)
            AND (a.noted_at IS NULL OR c.found_at > a.noted_at) ORDER BY c.change_id""",
        {"kind": kind, "models": models},
    ).fetchall()
    earlier: dict[tuple[str, str], list[tuple[int, datetime | None, datetime]]] = {}
    for change_id, model, metric, changed_at, found_at in rows:
        earlier.setdefault((model, metric), []).append((change_id, changed_at, found_at))
    fresh: list[int] = []
    numbers: list[int] = []
    moments: list[datetime] = []
    following = result_rows.next_number(connection, "model_changes", "change_id")
    for place, row in enumerate(found.select("model", "metric", "changed_at", "flagged").to_dicts()):
        known = [
            (change_id, found_at)
            for change_id, changed_at, found_at in earlier.get((row["model"], row["metric"]), [])
            if row["flagged"] and _same(changed_at, row["changed_at"])
        ]
        if not known:
            known = [(following, now)]
            following += 1
            fresh += [place] if row["flagged"] else []
        numbers.append(known[-1][0])
        moments.append(known[-1][1])
    connection.execute(
        """DELETE FROM model_changes WHERE kind = $kind AND list_contains($models::VARCHAR[], model)
            AND (NOT flagged OR list_contains($numbers::BIGINT[], change_id))""",
        {"kind": kind, "models": models, "numbers": numbers},
    )
    result_rows.insert(
        connection,
        "model_changes",
        found.select(
            pl.Series("change_id", numbers, dtype=pl.Int64), *FOUND, pl.Series("found_at", moments, dtype=UTC_TIME)
        ),
        key={"run_id": run, "kind": kind},
    )
    meta.bump(connection)
    return found[fresh]


def _same(earlier: datetime | None, later: datetime | None) -> bool:
    """Whether two estimates are of one change."""
    if earlier is None or later is None:
        return earlier is later
    return abs(earlier - later) <= _SAME
