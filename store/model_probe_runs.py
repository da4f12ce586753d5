"""Runs of probes: what was planned, every answer that came, and what comparing it with the baseline said.

A run is opened with its plan before anything is sent and each answer is kept as it comes, so a process that ends in
between leaves a run that the next one goes on with, at the sample that is missing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import duckdb
import polars as pl

from store import meta, model_figures, result_rows
from store.connection import Store
from store.frames import UTC_TIME, declare
from store.model_figures import Announce

__all__ = [
    "RUNS", "SAMPLES", "Planned", "Target", "begin", "close", "keep_sample", "latest", "note", "open_run", "plan",
    "runs", "samples", "since", "stop",
]  # fmt: skip

State = Literal["asking", "compared", "stopped"]

RUNS = declare(
    {
        "run_no": pl.Int64, "model": pl.String, "address": pl.String, "api": pl.String, "state": pl.String,
        "baseline": pl.Boolean, "plan": pl.String, "planned": pl.Int32, "likely_usd": pl.Float64,
        "most_usd": pl.Float64, "started_at": UTC_TIME, "ended_at": UTC_TIME, "message": pl.String,
        "results": pl.String, "answered": pl.Int64, "usd": pl.Float64,
    }
)  # fmt: skip
SAMPLES = declare(
    {
        "run_no": pl.Int64, "probe_id": pl.String, "sample_no": pl.Int32, "call_id": pl.Int64, "answer": pl.String,
        "log_probabilities": pl.String, "fingerprint": pl.String, "served_by": pl.String, "answered_at": UTC_TIME,
    }
)  # fmt: skip

_SUMS = """SELECT run_no, count(*) AS answered FROM model_probe_samples GROUP BY run_no"""
# Calls that brought no answer cost too: they name the run in their subject.
_COSTS = """SELECT split_part(subject, '/', 1)::BIGINT AS run_no, sum(cost_usd) AS usd FROM llm_calls
    WHERE purpose = 'model probe' GROUP BY ALL"""


@dataclass(frozen=True)
class Target:
    """Who is asked: the model, where, in which API. Another target has another baseline."""

    model: str
    address: str
    api: str


@dataclass(frozen=True)
class Planned:
    """One prompt of a run, as it is asked."""

    probe_id: str
    kind: str
    prompt: str
    output_tokens: int
    samples: int


def begin(
    store: Store, target: Target, plan: Sequence[Planned], *, baseline: bool, likely_usd: float, most_usd: float
) -> int:
    """Open a run; returns its number."""

    def work(connection: duckdb.DuckDBPyConnection) -> int:
        run = result_rows.next_number(connection, "model_probe_runs", "run_no")
        connection.execute(
            """INSERT INTO model_probe_runs BY NAME SELECT $run AS run_no, $model AS model, $address AS address,
                $api AS api, 'asking' AS state, $baseline AS baseline, $plan AS plan, $planned AS planned,
                $likely AS likely_usd, $most AS most_usd, $now AS started_at, '' AS message, '{}' AS results""",
            {
                "run": run, "model": target.model, "address": target.address, "api": target.api, "baseline": baseline,
                "plan": json.dumps([vars(each) for each in plan]), "planned": sum(each.samples for each in plan),
                "likely": likely_usd, "most": most_usd, "now": store.clock.now(),
            },
        )  # fmt: skip
        meta.bump(connection)
        return run

    return store.write(work)


def plan(run: Mapping[str, Any]) -> list[Planned]:
    """The plan of a run (a row of `RUNS`)."""
    return [Planned(**each) for each in json.loads(run["plan"])]


def open_run(store: Store) -> dict[str, Any] | None:
    """The run that is not finished, as a dictionary of `RUNS` columns."""
    found = _runs(store, "r.state = 'asking'", {}, 1)
    return found.row(0, named=True) if len(found) else None


def latest(store: Store, target: Target) -> dict[str, Any] | None:
    """The newest run of a target, as a dictionary of `RUNS` columns."""
    found = _runs(store, _TARGET, vars(target), 1)
    return found.row(0, named=True) if len(found) else None


def runs(store: Store, *, target: Target | None = None, limit: int = 200) -> pl.DataFrame:
    """Runs, newest first, with what was answered and what it cost so far (columns `RUNS`); `results` is JSON."""
    return _runs(store, _TARGET if target else "true", vars(target) if target else {}, limit)


def since(store: Store, target: Target, moment: datetime | None) -> pl.DataFrame:
    """The compared runs of a target that began after a moment, oldest first (columns `RUNS`)."""
    found = _runs(
        store,
        f"{_TARGET} AND r.state = 'compared' AND ($moment::TIMESTAMPTZ IS NULL OR r.started_at >= $moment)",
        {**vars(target), "moment": moment},
        100_000,
    )
    return found.reverse()


def samples(store: Store, run_nos: Sequence[int]) -> pl.DataFrame:
    """The answers of runs in the order in which they were asked for (columns `SAMPLES`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(SAMPLES)} FROM model_probe_samples WHERE list_contains($runs::BIGINT[], run_no)
            ORDER BY run_no, probe_id, sample_no""",
            SAMPLES,
            {"runs": list(run_nos)},
        )


def keep_sample(store: Store, sample: Mapping[str, Any]) -> None:
    """Keep one answer (columns `SAMPLES`)."""

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        names = ", ".join(f"${name} AS {name}" for name in SAMPLES.names())
        connection.execute(
            f"INSERT INTO model_probe_samples BY NAME SELECT {names}", {name: sample[name] for name in SAMPLES.names()}
        )

    store.write(work)


def note(store: Store, run_no: int, message: str) -> None:
    """Say for people why a run waits."""
    store.write(
        lambda connection: connection.execute(
            "UPDATE model_probe_runs SET message = $message WHERE run_no = $run", {"message": message, "run": run_no}
        )
    )


def stop(store: Store, run_no: int, message: str) -> None:
    """End a run that cannot be finished; its answers are compared with nothing."""

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        _end(connection, store.clock.now(), run_no, "stopped", message, "{}")

    store.write(work)


def close(
    store: Store, run_no: int, message: str, results: Mapping[str, Any], found: pl.DataFrame, *, announce: Announce
) -> None:
    """End a run with what comparing it said: `results` of its tests, `found` of columns `model_figures.FOUND`.

    `announce` as in `model_figures.record`.
    """

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now = store.clock.now()
        _end(connection, now, run_no, "compared", message, json.dumps(dict(results)))
        if len(found):
            announce(connection, model_figures.add_changes(connection, now, "active", run_no, found))

    store.write(work)


_TARGET = "r.model = $model AND r.address = $address AND r.api = $api"


def _runs(store: Store, condition: str, params: Mapping[str, Any], limit: int) -> pl.DataFrame:
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(f"r.{name}" for name in RUNS.names()[:-2])}, coalesce(s.answered, 0) AS answered,
                coalesce(c.usd, 0.0) AS usd
            FROM model_probe_runs AS r LEFT JOIN ({_SUMS}) AS s USING (run_no) LEFT JOIN ({_COSTS}) AS c USING (run_no)
            WHERE {condition} ORDER BY r.run_no DESC LIMIT $limit""",
            RUNS,
            {**params, "limit": limit},
        )


def _end(
    connection: duckdb.DuckDBPyConnection, now: datetime, run_no: int, state: State, message: str, results: str
) -> None:
    connection.execute(
        """UPDATE model_probe_runs SET state = $state, ended_at = $now, message = $message, results = $results
        WHERE run_no = $run""",
        {"state": state, "now": now, "message": message, "results": results, "run": run_no},
    )
    meta.bump(connection)
