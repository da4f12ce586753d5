"""Responses to drift: what was done about a finding or an incident, for whom, until when, and whether it still holds.

    explore               a user's or segment's exploration rate of an agent is at least `rate` (`store.unit_rates`)
    ask                   feedback is asked for in a share `rate` of the decisions of a user, a segment or the agent
    restart preferences   what a user chose and said before does not count any more (`store.preferences`): what is held
                          of them begins anew with their segment's
    pause lesson          a lesson is not served to a segment (`store.lesson_serving`)

A response ends by itself, when its time is over, or when somebody takes it back; then everything is as before. Those
applied by a rule name the rule and the operator who set it (`store.drift_rules`).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import duckdb
import polars as pl

from store import audit, incidents, lesson_serving, meta
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.frames import UTC_TIME, declare
from store.lesson_serving import Render

__all__ = [
    "ACTIONS", "ANSWERED", "MAX_DAYS", "RAISED", "RESPONSES", "Action", "Response", "answered", "apply",
    "changed_since", "due", "end_due", "listed", "raised", "undo",
]  # fmt: skip

Action = Literal["explore", "restart preferences", "pause lesson", "ask"]
ACTIONS: Final[tuple[Action, ...]] = ("explore", "restart preferences", "pause lesson", "ask")
MAX_DAYS: Final = 90

RESPONSES = declare(
    {
        "response_id": pl.Int64, "action": pl.String, "agent": pl.String, "user_id": pl.String, "segment": pl.String,
        "parameters": pl.String, "incident_id": pl.String, "metric": pl.String, "reason": pl.String,
        "preview": pl.String, "applied_by": pl.String, "ordered_by": pl.String, "rule_id": pl.String,
        "applied_at": UTC_TIME, "expires_at": UTC_TIME, "ended_at": UTC_TIME, "ended_by": pl.String,
    }
)  # fmt: skip

_COLUMNS: Final = ", ".join(RESPONSES.names())
# The first word is what `pipelines.steering.republish` goes by.
_AUDITED: Final[dict[str, str]] = {
    "explore": "exploration raise", "ask": "exploration ask", "restart preferences": "preferences restart",
    "pause lesson": "lesson pause segment",
}  # fmt: skip
RAISED = declare({"action": pl.String, "scope": pl.String, "unit": pl.String, "rate": pl.Float64})
ANSWERED = declare(
    {
        "rule_id": pl.String, "user_id": pl.String, "incident_id": pl.String, "metric": pl.String,
        "applied_at": UTC_TIME,
    }
)  # fmt: skip
HOLDS: Final = "ended_at IS NULL AND (expires_at IS NULL OR expires_at > $now)"


@dataclass(frozen=True)
class Response:
    """What may be done. `rate` (explore, ask) is a share of decisions; `days` None: until it is taken back; `since`
    (restart preferences) is from when on what a user did still counts.
    """

    action: Action
    reason: str
    agent: str | None = None
    user_id: str | None = None
    segment: str | None = None
    lesson_id: str | None = None
    rate: float | None = None
    days: int | None = None
    since: datetime | None = None
    incident_id: str | None = None
    metric: str | None = None


def apply(
    store: Store,
    response: Response,
    preview: Mapping[str, object],
    *,
    operator: str,
    render: Render,
    rule_id: str | None = None,
) -> int:
    """Do it and return the response's number. With `rule_id` Trimtab does it by order of `operator`, who set the rule.

    Args: `preview` that JSON can hold: what was said that it would change.
    Raises: `ActionRefused` naming the field that cannot be used, or where the same holds already; `NotFound`.
    """
    audit.person("Respond", operator)
    _check(response)

    def work(connection: duckdb.DuckDBPyConnection) -> int:
        now = store.clock.now()
        _refuse_repeat(connection, now, response)
        if response.incident_id is not None:
            incidents.held(connection, response.incident_id)
        if response.action == "pause lesson":
            _served_lesson(connection, str(response.lesson_id))
        number = int(
            connection.execute("SELECT coalesce(max(response_id), 0) + 1 FROM drift_responses").fetchall()[0][0]
        )
        actor = operator if rule_id is None else audit.SYSTEM
        row: dict[str, object] = {
            "response_id": number, "action": response.action, "agent": response.agent, "user_id": response.user_id,
            "segment": response.segment,
            "parameters": json.dumps(_parameters(response)),
            "incident_id": response.incident_id, "metric": response.metric, "reason": response.reason.strip(),
            "preview": json.dumps(dict(preview), sort_keys=True), "applied_by": actor, "ordered_by": operator,
            "rule_id": rule_id, "applied_at": now,
            "expires_at": None if response.days is None else now + timedelta(days=response.days),
        }  # fmt: skip
        named = ", ".join(f"${name} AS {name}" for name in row)
        connection.execute(f"INSERT INTO drift_responses BY NAME SELECT {named}", row)
        made = _refresh(connection, now, response.action, response.lesson_id, render)
        detail = {
            **asdict(response), **_parameters(response), "ordered_by": operator, "rule": rule_id, "playbooks": made,
        }  # fmt: skip
        audit.append(connection, now, actor, _AUDITED[response.action], f"response {number}", detail)
        if response.incident_id is not None:
            said = f"{response.action.capitalize()}: {response.reason.strip()}"
            incidents.add_event(connection, now, response.incident_id, "response", actor, said)
        meta.bump(connection)
        return number

    return store.write(work)


def undo(store: Store, response_id: int, *, operator: str, reason: str, render: Render) -> None:
    """Take a response back. Raises: `NotFound`; `ActionRefused` without a reason, or when it has ended."""
    audit.person("Undo", operator)
    if not reason.strip():
        raise ActionRefused("Undo", "no reason was given.", "Write why, so that nobody has to ask again.")

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        rows = connection.execute(
            "SELECT ended_at FROM drift_responses WHERE response_id = $number", {"number": response_id}
        ).fetchall()
        if not rows:
            raise NotFound("response", str(response_id))
        if rows[0][0] is not None:
            raise ActionRefused("Undo", "the response has ended already.", "Nothing is left to do.")
        _end(connection, store.clock.now(), response_id, operator, reason.strip(), render)
        meta.bump(connection)

    store.write(work)


def due(store: Store, now: datetime) -> list[int]:
    """The responses whose time is over by `now` and that nobody ended."""
    with store.read() as reader:
        frame = reader.frame(
            """SELECT response_id FROM drift_responses WHERE ended_at IS NULL AND expires_at <= $now
            ORDER BY response_id""",
            pl.Schema({"response_id": pl.Int64()}),
            {"now": now},
        )
    return frame["response_id"].to_list()


def end_due(store: Store, *, render: Render) -> int:
    """End the responses whose time is over; returns how many."""
    late = due(store, store.clock.now())

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        for number in late:
            _end(connection, store.clock.now(), number, audit.SYSTEM, "its time is over", render)
        meta.bump(connection)

    if late:
        store.write(work)
    return len(late)


def listed(
    store: Store,
    *,
    user_id: str | None = None,
    incident_id: str | None = None,
    holding: bool = False,
    limit: int = 200,
) -> pl.DataFrame:
    """Responses, the newest first (columns `RESPONSES`); of a user or an incident; with `holding` those in force."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {_COLUMNS} FROM drift_responses
            WHERE ($user IS NULL OR user_id = $user) AND ($incident IS NULL OR incident_id = $incident)
                AND (NOT $holding OR ({HOLDS}))
            ORDER BY response_id DESC LIMIT $limit""",
            RESPONSES,
            {
                "user": user_id, "incident": incident_id, "holding": holding, "now": store.clock.now(),
                "limit": limit,
            },
        )  # fmt: skip


def raised(store: Store, agent: str) -> pl.DataFrame:
    """The rates of an agent that responses raise, as long as they hold (columns `RAISED`).

    `action` is explore or ask; of scope agent `unit` is ''.
    """
    with store.read() as reader:
        return reader.frame(
            f"""SELECT action, CASE WHEN user_id IS NOT NULL THEN 'user' WHEN segment IS NOT NULL THEN 'segment'
                ELSE 'agent' END AS scope, coalesce(user_id, segment, '') AS unit,
                max((parameters ->> '$.rate')::DOUBLE) AS rate
            FROM drift_responses WHERE agent = $agent AND action IN ('explore', 'ask') AND {HOLDS}
            GROUP BY ALL ORDER BY ALL""",
            RAISED,
            {"agent": agent, "now": store.clock.now()},
        )


def changed_since(store: Store, action: Action, moment: datetime) -> bool:
    """Whether a response of this kind was applied or ended after `moment`."""
    with store.read() as reader:
        return bool(
            reader.value(
                """SELECT EXISTS (FROM drift_responses
                WHERE action = $action AND (applied_at > $moment OR ended_at > $moment))""",
                {"action": action, "moment": moment},
            )
        )


def answered(store: Store) -> pl.DataFrame:
    """What rules answered, ended or not (columns `ANSWERED`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(ANSWERED)} FROM drift_responses WHERE rule_id IS NOT NULL
            ORDER BY applied_at, response_id""",
            ANSWERED,
        )


def _end(
    connection: duckdb.DuckDBPyConnection, now: datetime, response_id: int, actor: str, reason: str, render: Render
) -> None:
    rows = connection.execute(
        "SELECT action, parameters, incident_id FROM drift_responses WHERE response_id = $number",
        {"number": response_id},
    ).fetchall()
    action, text, incident_id = rows[0]
    connection.execute(
        "UPDATE drift_responses SET ended_at = $now, ended_by = $actor WHERE response_id = $number",
        {"now": now, "actor": actor, "number": response_id},
    )
    parameters: dict[str, Any] = json.loads(text)
    made = _refresh(connection, now, action, parameters.get("lesson_id"), render)
    detail = {"reason": reason, "playbooks": made}
    audit.append(connection, now, actor, f"{_AUDITED[action]} end", f"response {response_id}", detail)
    if incident_id is not None:
        incidents.add_event(connection, now, incident_id, "response", actor, f"Ended: {action}; {reason}")


def _parameters(response: Response) -> dict[str, object]:
    since = response.since.isoformat() if response.since is not None else None
    return {"rate": response.rate, "lesson_id": response.lesson_id, "days": response.days, "since": since}


def _refresh(
    connection: duckdb.DuckDBPyConnection, now: datetime, action: str, lesson_id: str | None, render: Render
) -> dict[str, int]:
    """New playbooks where the response changes what is served; their versions by agent."""
    if action != "pause lesson" or lesson_id is None:
        return {}
    agent = _served_lesson(connection, lesson_id, whatever=True)
    return lesson_serving.refresh(connection, now, [agent], render, "drift response")


def _served_lesson(connection: duckdb.DuckDBPyConnection, lesson_id: str, *, whatever: bool = False) -> str:
    """The agent of a lesson that is served, or with `whatever` of any. Raises: `NotFound`; `ActionRefused`."""
    rows = connection.execute(
        "SELECT agent, state FROM lessons WHERE lesson_id = $lesson", {"lesson": lesson_id}
    ).fetchall()
    if not rows:
        raise NotFound("lesson", lesson_id)
    agent, state = rows[0]
    if state not in lesson_serving.SERVED_STATES and not whatever:
        raise ActionRefused("Pause a lesson", f"the lesson is {state}, so nobody is served it.", "Nothing is to do.")
    return str(agent)


def _refuse_repeat(connection: duckdb.DuckDBPyConnection, now: datetime, response: Response) -> None:
    held = connection.execute(
        f"""SELECT response_id FROM drift_responses WHERE {HOLDS} AND action = $action
            AND agent IS NOT DISTINCT FROM $agent AND user_id IS NOT DISTINCT FROM $user
            AND segment IS NOT DISTINCT FROM $segment
            AND (parameters ->> '$.lesson_id') IS NOT DISTINCT FROM $lesson""",
        {
            "now": now, "action": response.action, "agent": response.agent, "user": response.user_id,
            "segment": response.segment, "lesson": response.lesson_id,
        },
    ).fetchall()  # fmt: skip
    if held:
        raise ActionRefused(
            "Respond", f"response {held[0][0]} does the same and is in force.", "Take that one back first."
        )


def _check(response: Response) -> None:
    action = f"Respond ({response.action})"
    if response.action not in ACTIONS:
        raise ActionRefused("Respond", f"there is no action {response.action!r:.50}.", f"Use {', '.join(ACTIONS)}.")
    if not response.reason.strip():
        raise ActionRefused(action, "the field reason is empty.", "Write why, so that others know when it may end.")
    if response.days is not None and not 1 <= response.days <= MAX_DAYS:
        raise ActionRefused(action, f"days is {response.days!r}.", f"Give whole days from 1 to {MAX_DAYS}.")
    needed, unused = _FIELDS[response.action]
    for name in needed:
        if not getattr(response, name):
            raise ActionRefused(action, f"the field {name} is empty.", f"This response needs {' and '.join(needed)}.")
    for name in unused:
        if getattr(response, name):
            raise ActionRefused(action, f"the field {name} is given.", "Leave it empty: it means nothing here.")
    if response.user_id and response.segment:
        raise ActionRefused(action, "both a user and a segment are given.", "Name one of them.")
    if response.action == "explore" and not (response.user_id or response.segment):
        raise ActionRefused(action, "neither a user nor a segment is given.", "Name one of them.")
    if response.rate is not None and not 0.0 < response.rate <= 1.0:
        raise ActionRefused(action, f"rate is {response.rate!r}.", "Give a share above 0 and up to 1.")
    if response.since is not None and response.since.tzinfo is None:
        raise ActionRefused(action, "the time has no time zone.", "Give the time with its zone, such as UTC.")
    if response.action in ("explore", "ask") and response.days is None:
        raise ActionRefused(action, "the field days is empty.", "A changed rate ends by itself: say after how long.")


# What each action needs, and what means nothing to it.
_FIELDS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "explore": (("agent", "rate"), ("lesson_id", "since")),
    "ask": (("agent", "rate"), ("lesson_id", "since")),
    "restart preferences": (("user_id", "since"), ("agent", "segment", "lesson_id", "rate", "days")),
    "pause lesson": (("lesson_id", "segment"), ("agent", "user_id", "rate", "since")),
}
