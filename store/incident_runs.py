"""What a run of the job `incidents` made of the findings of a run of `drift`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import uuid4

import duckdb
import polars as pl

from store import audit, drift, incidents, meta, notices, result_rows
from store.connection import Store
from store.frames import UTC_TIME, declare

__all__ = ["HELD", "RUNS", "Seen", "Summary", "changed_since", "held", "latest_run", "record", "responded"]

RUNS = declare(
    {
        "run_id": pl.Int64, "drift_run_id": pl.Int64, "found_at": UTC_TIME, "data_version": pl.Int64,
        "code_version": pl.String, "parameters": pl.String, "flagged": pl.Int64, "explained": pl.Int64,
        "grouped": pl.Int64, "lone": pl.Int64, "incidents": pl.Int64, "responses": pl.Int64,
    }
)  # fmt: skip
HELD = declare(
    {
        "incident_id": pl.String, "agent": pl.String, "segment": pl.String, "changed_at": UTC_TIME,
        "changed_from": UTC_TIME, "changed_to": UTC_TIME, "users": pl.Int64, "scanned": pl.Int64, "state": pl.String,
        "resolved_at": UTC_TIME, "last_seen_at": UTC_TIME, "metric": pl.List(pl.String),
        "direction": pl.List(pl.String),
    }
)  # fmt: skip
_REMEMBERED: Final = timedelta(days=180)  # after which a resolved incident that nothing sees is not looked for
_GREW: Final = 1.5


@dataclass(frozen=True)
class Seen:
    """One incident as a run saw it.

    `incident_id` None: a new one; `kind` back: a resolved one that is to be opened again; `harm`: users fare worse by a
    metric. Frames: `findings` has the columns `store.incidents.FINDINGS`, `moved` those of `store.incidents.MOVED`.
    """

    incident_id: str | None
    kind: Literal["new", "seen", "back"]
    agent: str | None
    segment: str | None
    title: str
    text: str
    cause: str
    cause_detail: Mapping[str, Any]
    changed_at: datetime
    changed_from: datetime
    changed_to: datetime
    users: int
    scanned: int
    findings: pl.DataFrame
    moved: pl.DataFrame
    harm: bool = True


@dataclass(frozen=True)
class Summary:
    """What a run looked at: `flagged` findings = `explained` + `grouped` + `lone`; `parameters` that JSON can hold."""

    drift_run_id: int
    data_version: int
    code_version: str
    parameters: Mapping[str, Any]
    flagged: int
    explained: int
    grouped: int
    lone: int


def latest_run(store: Store) -> dict[str, Any] | None:
    """The newest run as a dictionary of `RUNS` columns, its parameters read; None before the first."""
    return result_rows.newest(store, "incident_runs", RUNS)


def held(store: Store) -> pl.DataFrame:
    """The incidents that a group of findings may belong to, with the directions of their metrics (columns `HELD`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(f"i.{name}" for name in HELD.names()[:-2])},
                coalesce(list(m.metric ORDER BY m.place) FILTER (m.metric IS NOT NULL), []) AS metric,
                coalesce(list(m.direction ORDER BY m.place) FILTER (m.metric IS NOT NULL), []) AS direction
            FROM incidents AS i LEFT JOIN incident_metrics AS m USING (incident_id, run_id)
            WHERE i.state <> 'resolved' OR i.last_seen_at >= $since GROUP BY ALL ORDER BY i.incident_id""",
            HELD,
            {"since": store.clock.now() - _REMEMBERED},
        )


def record(
    store: Store,
    seen: Sequence[Seen],
    explained: pl.DataFrame,
    ended: Mapping[str, str],
    summary: Summary,
) -> dict[str, str]:
    """Keep what a run saw; returns the incidents that it opened or opened again, with what became of them.

    Args: `explained` (columns `store.drift.EXPLAINED`) has the findings of which this is to be written; `ended` are the
    incidents to be resolved, with the reason. An operator's change meanwhile comes first: what is resolved stays so
    unless it is back.
    """
    named = [one.incident_id or uuid4().hex[:12] for one in seen]
    tables = {
        "incident_findings": _concat([one.findings for one in seen], named, incidents.FINDINGS),
        "incident_metrics": _concat([one.moved for one in seen], named, incidents.MOVED),
    }
    opened: dict[str, str] = {}

    def add(connection: duckdb.DuckDBPyConnection, run: int) -> None:
        now = store.clock.now()
        opened.clear()
        drift.explain(connection, summary.drift_run_id, explained)
        for incident_id, one in zip(named, seen, strict=True):
            if (became := _see(connection, now, run, incident_id, one)) is not None:
                opened[incident_id] = became
        for incident_id, reason in ended.items():
            if incidents.held(connection, incident_id)[0] != "resolved":
                incidents.change(connection, now, incident_id, "resolve", audit.SYSTEM, reason)
        row = {
            **vars(summary), "parameters": json.dumps(dict(summary.parameters), sort_keys=True), "run_id": run,
            "found_at": now, "incidents": len(seen), "responses": 0,
        }  # fmt: skip
        columns = ", ".join(f"${name} AS {name}" for name in row)
        connection.execute(f"INSERT INTO incident_runs BY NAME SELECT {columns}", row)

    result_rows.publish(store, "incident_runs", tables, add)
    for table in tables:
        outdated = f"""NOT EXISTS (FROM incidents AS i
            WHERE i.incident_id = {table}.incident_id AND i.run_id = {table}.run_id)"""
        result_rows.remove(store, table, outdated)
    return opened


def responded(store: Store, responses: int) -> None:
    """Say how many responses the rules applied after the newest run."""

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute(
            """UPDATE incident_runs SET responses = $responses
            WHERE run_id = (SELECT max(run_id) FROM incident_runs)""",
            {"responses": responses},
        )
        meta.bump(connection)

    store.write(work)


def changed_since(store: Store, moment: datetime, drift_run_id: int) -> bool:
    """Whether what a run goes by has changed after `moment`: findings of the same run of `drift`, change points, rules
    or models.
    """
    with store.read() as reader:
        return bool(
            reader.value(
                """SELECT EXISTS (FROM drift_runs WHERE run_id = $run AND refreshed_at > $moment)
                    OR EXISTS (FROM interventions WHERE noted_at > $moment OR withdrawn_at > $moment)
                    OR EXISTS (FROM drift_rules WHERE updated_at > $moment AND state = 'on')
                    OR EXISTS (FROM model_changes WHERE flagged AND found_at > $moment)""",
                {"run": drift_run_id, "moment": moment},
            )
        )


def _concat(frames: Sequence[pl.DataFrame], named: Sequence[str], schema: pl.Schema) -> pl.DataFrame:
    """All frames with the incident that each is of."""
    empty = pl.DataFrame(schema={"incident_id": pl.String, **schema})
    parts = [
        frame.select(list(schema)).with_columns(incident_id=pl.lit(incident_id))
        for frame, incident_id in zip(frames, named, strict=True)
    ]
    return pl.concat([empty, *(part.select(empty.columns) for part in parts)])


def _see(connection: duckdb.DuckDBPyConnection, now: datetime, run: int, incident_id: str, one: Seen) -> str | None:
    """Write one incident as the run saw it; returns opened or reopened, None where it stays what it was."""
    row: dict[str, object] = {
        "run_id": run, "agent": one.agent, "segment": one.segment, "title": one.title, "cause": one.cause,
        "cause_detail": json.dumps(dict(one.cause_detail), sort_keys=True), "metrics": one.moved["metric"].to_list(),
        "changed_at": one.changed_at, "changed_from": one.changed_from, "changed_to": one.changed_to,
        "users": one.users, "scanned": one.scanned, "last_seen_at": now,
    }  # fmt: skip
    if one.incident_id is None:
        fresh = {
            **row, "incident_id": incident_id, "state": "open", "reopened": 0, "opened_at": now, "updated_at": now,
        }  # fmt: skip
        columns = ", ".join(f"${name} AS {name}" for name in fresh)
        connection.execute(f"INSERT INTO incidents BY NAME SELECT {columns}", fresh)
        incidents.add_event(connection, now, incident_id, "opened", audit.SYSTEM, one.text)
        detail = {"title": one.title, "users": one.users, "scanned": one.scanned, "cause": one.cause}
        audit.append(connection, now, audit.SYSTEM, "incident open", f"incident {incident_id}", detail)
        severity: notices.Severity = "warning" if one.harm else "info"
        incidents.post(connection, now, incident_id, one.title, one.text, severity=severity)
        return "opened"
    state, _ = incidents.held(connection, incident_id)
    if state == "resolved" and one.kind != "back":
        # What it was when it was resolved stays: by that is judged whether it is back.
        connection.execute(
            "UPDATE incidents SET run_id = $run, last_seen_at = $now WHERE incident_id = $incident",
            {"run": run, "now": now, "incident": incident_id},
        )
        return None
    became = None
    if state == "resolved":
        incidents.change(connection, now, incident_id, "reopen", audit.SYSTEM, one.text)
        became = "reopened"
    _tell_changes(connection, now, incident_id, one)
    changes = ", ".join(f"{name} = ${name}" for name in row)
    connection.execute(
        f"UPDATE incidents SET {changes} WHERE incident_id = $incident_id", {**row, "incident_id": incident_id}
    )
    return became


def _tell_changes(connection: duckdb.DuckDBPyConnection, now: datetime, incident_id: str, one: Seen) -> None:
    """Events for what is new about an incident: another suspected cause, half as many users again."""
    rows = connection.execute(
        "SELECT cause, users FROM incidents WHERE incident_id = $incident", {"incident": incident_id}
    ).fetchall()
    cause, users = str(rows[0][0]), int(rows[0][1])
    if cause != one.cause:
        text = f"The suspected cause is now {one.cause}; it was {cause}."
        incidents.add_event(connection, now, incident_id, "cause", audit.SYSTEM, text)
    if one.users > _GREW * max(users, 1):
        text = f"{one.users:,} users are affected now, {users:,} were before."
        incidents.add_event(connection, now, incident_id, "grew", audit.SYSTEM, text)
