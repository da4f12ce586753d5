"""Incidents: many findings of drift with one cause, and what became of them.

    open          somebody has to look
    acknowledged  somebody does
    resolved      done with; the same change seen again stays resolved, a new change after it opens the incident again

Operators acknowledge, resolve, open again and note; each is an audit row and an event of the incident. What a run finds
is written by `store.incident_runs`. A notice is open as long as the incident is (`store.notices`).
"""

import json
from datetime import datetime
from typing import Any, Final, Literal

import duckdb
import polars as pl

from store import audit, meta, notices
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.frames import UTC_TIME, declare

__all__ = [
    "EVENTS", "FINDINGS", "INCIDENTS", "MOVED", "STATES", "State", "acknowledge", "change", "comment", "count",
    "events", "findings", "listed", "moved", "one", "reopen", "resolve",
]  # fmt: skip

State = Literal["open", "acknowledged", "resolved"]
STATES: Final = ("open", "acknowledged", "resolved")

INCIDENTS = declare(
    {
        "incident_id": pl.String, "run_id": pl.Int64, "agent": pl.String, "segment": pl.String, "title": pl.String,
        "cause": pl.String, "cause_detail": pl.String, "metrics": pl.List(pl.String), "changed_at": UTC_TIME,
        "changed_from": UTC_TIME, "changed_to": UTC_TIME, "users": pl.Int64, "scanned": pl.Int64, "state": pl.String,
        "reopened": pl.Int32, "opened_at": UTC_TIME, "updated_at": UTC_TIME, "last_seen_at": UTC_TIME,
        "resolved_at": UTC_TIME,
    }
)  # fmt: skip
FINDINGS = declare(
    {
        "level": pl.String, "user_id": pl.String, "segment": pl.String, "agent": pl.String, "metric": pl.String,
        "changed_at": UTC_TIME, "before_mean": pl.Float64, "before_n": pl.Int64, "after_mean": pl.Float64,
        "after_n": pl.Int64, "effect": pl.Float64, "effect_sd": pl.Float64, "q_value": pl.Float64,
    }
)  # fmt: skip
MOVED = declare(
    {
        "place": pl.Int32, "metric": pl.String, "direction": pl.String, "moved_at": UTC_TIME, "moved_from": UTC_TIME,
        "moved_to": UTC_TIME, "users": pl.Int64, "before_mean": pl.Float64, "before_n": pl.Int64,
        "after_mean": pl.Float64, "after_n": pl.Int64, "effect": pl.Float64, "effect_sd": pl.Float64,
    }
)  # fmt: skip
EVENTS = declare(
    {"sequence": pl.Int64, "occurred_at": UTC_TIME, "kind": pl.String, "actor": pl.String, "text": pl.String}
)

_COLUMNS: Final = ", ".join(INCIDENTS.names())
# What may be done in which state, where it leads and what that is called.
_FROM: Final[dict[str, tuple[tuple[str, ...], State, str]]] = {
    "acknowledge": (("open",), "acknowledged", "acknowledged"),
    "resolve": (("open", "acknowledged"), "resolved", "resolved"),
    "reopen": (("resolved",), "open", "reopened"),
}


def listed(store: Store, *, state: State | None = None, limit: int = 200) -> pl.DataFrame:
    """Incidents, those that are not resolved first, then the latest change first (columns `INCIDENTS`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {_COLUMNS} FROM incidents WHERE $state IS NULL OR state = $state
            ORDER BY state = 'resolved', changed_at DESC, incident_id LIMIT $limit""",
            INCIDENTS,
            {"state": state, "limit": limit},
        )


def count(store: Store) -> dict[State, int]:
    """How many incidents are in each state."""
    with store.read() as reader:
        frame = reader.frame(
            "SELECT state, count(*) AS incidents FROM incidents GROUP BY state",
            pl.Schema({"state": pl.String(), "incidents": pl.Int64()}),
        )
    held = dict(frame.iter_rows())
    return {name: int(held.get(name, 0)) for name in STATES}


def one(store: Store, incident_id: str) -> dict[str, Any]:
    """One incident (`INCIDENTS`), `cause_detail` decoded. Raises: `NotFound`."""
    with store.read() as reader:
        frame = reader.frame(
            f"SELECT {_COLUMNS} FROM incidents WHERE incident_id = $incident", INCIDENTS, {"incident": incident_id}
        )
    if frame.is_empty():
        raise NotFound("incident", incident_id)
    row = frame.row(0, named=True)
    return {**row, "cause_detail": json.loads(row["cause_detail"])}


def findings(store: Store, incident_id: str, *, limit: int = 1_000, offset: int = 0) -> pl.DataFrame:
    """What the incident consists of as of the newest run that saw it, the largest effects first (`FINDINGS`).

    Findings on everybody come first, then on segments, then on users.
    """
    return _of_run(
        store, "incident_findings", FINDINGS, incident_id,
        """CASE level WHEN 'population' THEN 0 WHEN 'segment' THEN 1 ELSE 2 END,
        abs(effect) / nullif(effect_sd, 0) DESC NULLS LAST, user_id, metric LIMIT $limit OFFSET $offset""",
        {"limit": limit, "offset": offset},
    )  # fmt: skip


def moved(store: Store, incident_id: str) -> pl.DataFrame:
    """What moved, the first metric first (columns `MOVED`)."""
    return _of_run(store, "incident_metrics", MOVED, incident_id, "place", {})


def events(store: Store, incident_id: str) -> pl.DataFrame:
    """What became of an incident, in order of time (columns `EVENTS`)."""
    with store.read() as reader:
        return reader.frame(
            f"SELECT {', '.join(EVENTS)} FROM incident_events WHERE incident_id = $incident ORDER BY sequence",
            EVENTS,
            {"incident": incident_id},
        )


def acknowledge(store: Store, incident_id: str, *, operator: str, reason: str | None = None) -> None:
    """Say that somebody looks into it. Raises: `NotFound`; `ActionRefused` where it is not open."""
    _by_operator(store, incident_id, "acknowledge", operator, (reason or "").strip() or "Somebody looks into it.")


def resolve(store: Store, incident_id: str, *, operator: str, reason: str) -> None:
    """Be done with it. Raises: `NotFound`; `ActionRefused` without a reason, or where it is resolved already."""
    _by_operator(store, incident_id, "resolve", operator, _needed("Resolve", reason))


def reopen(store: Store, incident_id: str, *, operator: str, reason: str) -> None:
    """Open a resolved incident again. Raises: `NotFound`; `ActionRefused` without a reason, or where it is not
    resolved.
    """
    _by_operator(store, incident_id, "reopen", operator, _needed("Reopen", reason))


def comment(store: Store, incident_id: str, *, operator: str, text: str) -> None:
    """Write something down about an incident. Raises: `NotFound`; `ActionRefused` without a text."""
    audit.person("Note", operator)
    said = _needed("Note", text)

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now = store.clock.now()
        held(connection, incident_id)
        add_event(connection, now, incident_id, "note", operator, said)
        audit.append(connection, now, operator, "incident note", f"incident {incident_id}", {"text": said})
        meta.bump(connection)

    store.write(work)


def change(
    connection: duckdb.DuckDBPyConnection, now: datetime, incident_id: str, action: str, actor: str, reason: str
) -> State:
    """Move an incident to another state and return it, with its event, audit row and notice. Call in a transaction.

    Raises: `NotFound`; `ActionRefused` where its state does not allow the `action` (acknowledge, resolve, reopen).
    """
    allowed, after, participle = _FROM[action]
    before, title = held(connection, incident_id)
    if before not in allowed:
        raise ActionRefused(
            action.capitalize(),
            f"the incident is {before}; only {' or '.join(allowed)} ones can be {participle}.",
            "Someone else may have changed it meanwhile: reload the page.",
        )
    connection.execute(
        f"""UPDATE incidents SET state = $state, updated_at = $now,
            reopened = reopened + {int(action == "reopen")},
            resolved_at = {"$now" if after == "resolved" else "NULL"} WHERE incident_id = $incident""",
        {"state": after, "now": now, "incident": incident_id},
    )
    add_event(connection, now, incident_id, participle, actor, reason)
    detail = {"before": before, "after": after, "reason": reason}
    audit.append(connection, now, actor, f"incident {action}", f"incident {incident_id}", detail)
    if after == "resolved":
        notices.close(connection, now, notice_key(incident_id))
    elif action == "reopen":
        post(connection, now, incident_id, f"Reopened: {title}", reason)
    meta.bump(connection)
    return after


def add_event(
    connection: duckdb.DuckDBPyConnection, now: datetime, incident_id: str, kind: str, actor: str, text: str
) -> None:
    """Add an event to an incident's history. Call in the transaction of what it is about."""
    connection.execute(
        """INSERT INTO incident_events SELECT $incident, coalesce(max(sequence), 0) + 1, $now, $kind, $actor, $text
        FROM incident_events WHERE incident_id = $incident""",
        {"incident": incident_id, "now": now, "kind": kind, "actor": actor, "text": text},
    )


def notice_key(incident_id: str) -> str:
    """The key of an incident's notice."""
    return f"incident {incident_id}"


def post(
    connection: duckdb.DuckDBPyConnection,
    now: datetime,
    incident_id: str,
    title: str,
    text: str,
    *,
    severity: notices.Severity = "warning",
) -> None:
    """Tell operators of an incident that opened. Call in the transaction that opens it."""
    notices.post(
        connection, now, kind="incident", key=notice_key(incident_id), title=title, text=text, severity=severity,
        page="drift", query={"incident": incident_id},
    )  # fmt: skip


def held(connection: duckdb.DuckDBPyConnection, incident_id: str) -> tuple[str, str]:
    """State and title of an incident, within a transaction. Raises: `NotFound`."""
    rows = connection.execute(
        "SELECT state, title FROM incidents WHERE incident_id = $incident", {"incident": incident_id}
    ).fetchall()
    if not rows:
        raise NotFound("incident", incident_id)
    return str(rows[0][0]), str(rows[0][1])


def _by_operator(store: Store, incident_id: str, action: str, operator: str, reason: str) -> None:
    audit.person(action.capitalize(), operator)
    store.write(lambda connection: change(connection, store.clock.now(), incident_id, action, operator, reason))


def _needed(action: str, reason: str) -> str:
    if not reason.strip():
        raise ActionRefused(action, "nothing was written.", "Write why, so that nobody has to ask again.")
    return reason.strip()


def _of_run(
    store: Store, table: str, schema: pl.Schema, incident_id: str, order: str, params: dict[str, object]
) -> pl.DataFrame:
    """Rows of an incident that its newest run wrote; those of a run that is under way are not seen."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(schema)} FROM {table}
            WHERE incident_id = $incident
                AND run_id = (SELECT run_id FROM incidents WHERE incident_id = $incident)
            ORDER BY {order}""",
            schema,
            {"incident": incident_id, **params},
        )
