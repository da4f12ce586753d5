"""Known change points: what operators did or said they did, and what the store sees began.

What follows a known intervention is no surprise (`pipelines.incidents`), and expectations are formed anew after it
(`pipelines.drift`). Noted ones are rows of `interventions`; the others are derived from what the store holds anyway:

    lesson      a review that changed what an agent is served: its playbook has a version of the same moment
    playbook    an agent's playbook was pinned, released, switched off or on again
    arm         an arm was enabled, put in the shadow, switched off, or made the baseline
    guardrail   a guardrail was made, switched on or off
    version, model   the first trace of an agent's version or model that has at least `LEAST_TRACES`, but for those of
                the agent's first day
    source      the first trace of a source that has as many, but for those of the store's first day
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

import duckdb
import polars as pl

from store import audit, meta
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.frames import UTC_TIME, declare

__all__ = [
    "INTERVENTIONS", "KINDS", "LEAST_TRACES", "MAX_TITLE", "Note", "known", "note", "noted", "withdraw",
]  # fmt: skip

KINDS: Final = ("campaign", "version", "model", "lesson", "arm", "guardrail", "source", "other")
MAX_TITLE: Final = 200
LEAST_TRACES: Final = 20

INTERVENTIONS = declare(
    {
        "intervention_id": pl.String, "kind": pl.String, "agent": pl.String, "segment": pl.String,
        "happened_at": UTC_TIME, "title": pl.String, "origin": pl.String,
    }
)  # fmt: skip
NOTED = declare({**INTERVENTIONS, "noted_by": pl.String, "noted_at": UTC_TIME, "withdrawn_at": UTC_TIME})

_BEFORE: Final = "INTERVAL 1 DAY"  # what is there from the beginning is no change
_AHEAD: Final = timedelta(days=366)

_LESSONS = """
SELECT 'lesson:' || r.lesson_id || ':' || r.sequence AS intervention_id, 'lesson' AS kind,
    nullif(l.agent, '*') AS agent, l.segment, r.reviewed_at AS happened_at,
    'Lesson "' || coalesce(v.title, r.lesson_id) || '": ' || r.action AS title
FROM lesson_reviews AS r JOIN lessons AS l USING (lesson_id)
LEFT JOIN lesson_versions AS v ON v.lesson_id = r.lesson_id AND v.version = r.version
WHERE r.sequence IS NOT NULL AND EXISTS (
    FROM playbooks AS p WHERE p.created_at = r.reviewed_at AND (l.agent = '*' OR p.agent = l.agent))"""

_PLAYBOOKS = """
SELECT 'playbook:' || agent || ':' || version, 'playbook', agent, NULL, created_at,
    CASE WHEN off IS NOT NULL THEN 'Serving of lessons switched off'
        WHEN pinned IS NOT NULL THEN 'Playbook pinned to version ' || pinned
        WHEN off_before IS NOT NULL THEN 'Serving of lessons switched on'
        ELSE 'Playbook released' END
FROM (SELECT *, lag(pinned) OVER versions AS pinned_before, lag(off) OVER versions AS off_before
    FROM (SELECT agent, version, created_at, settings ->> '$.pinned' AS pinned, settings ->> '$.off' AS off
        FROM playbooks)
    WINDOW versions AS (PARTITION BY agent ORDER BY version))
WHERE pinned IS DISTINCT FROM pinned_before OR (off IS NULL) <> (off_before IS NULL)"""

# The subject of an audit row of an arm is "agent <agent> arm <arm>": the arms that there are say where the names end.
_ARMS = """
SELECT 'arm:' || g.sequence, 'arm', a.agent, NULL, g.occurred_at,
    'Arm ' || a.arm || ': ' || CASE g.action WHEN 'arm baseline' THEN 'made the baseline'
        ELSE coalesce(g.detail ->> '$.state', 'changed') END
FROM audit_log AS g JOIN arms AS a ON g.subject = 'agent ' || a.agent || ' arm ' || a.arm
WHERE g.action IN ('arm define', 'arm change', 'arm state', 'arm baseline')"""

_GUARDRAILS = """
SELECT 'guardrail:' || g.sequence, 'guardrail', d.agent, NULL, g.occurred_at,
    'Guardrail ' || replace(d.kind, '_', ' ') || coalesce(' ' || d.subject, '') || ': '
        || CASE g.action WHEN 'guardrail define' THEN 'made' ELSE 'switched ' || substr(g.action, 11) END
FROM audit_log AS g JOIN guardrails AS d ON g.subject = 'guardrail ' || d.guardrail_id
    AND coalesce(g.detail ->> '$.agent', d.agent) = d.agent
WHERE g.action IN ('guardrail define', 'guardrail on', 'guardrail off')"""


def _began(kind: str, column: str, title: str) -> str:
    """SQL for the first trace of every value of a column of `traces` at an agent, without those of its first day."""
    return f"""
SELECT '{kind}:' || agent || ':' || value, '{kind}', agent, NULL, began, '{title} ' || value || ' first seen'
FROM (SELECT agent, {column} AS value, min(started_at) AS began, count(started_at) AS traces FROM traces
    WHERE agent IS NOT NULL AND {column} IS NOT NULL GROUP BY agent, {column}
    QUALIFY began > min(began) OVER (PARTITION BY agent) + {_BEFORE})
WHERE traces >= {LEAST_TRACES}"""


_SOURCES = f"""
SELECT 'source:' || source, 'source', NULL, NULL, began, 'Source ' || source || ' first seen'
FROM (SELECT source, min(started_at) AS began, count(started_at) AS traces FROM traces GROUP BY source
    QUALIFY began > min(began) OVER () + {_BEFORE})
WHERE traces >= {LEAST_TRACES}"""

_DERIVED = " UNION ALL ".join(
    [
        _LESSONS, _PLAYBOOKS, _ARMS, _GUARDRAILS, _began("version", "agent_version", "Version"),
        _began("model", "model", "Model"), _SOURCES,
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Note:
    """What an operator notes. `agent` None: every agent; `segment` None: everybody."""

    kind: str
    title: str
    happened_at: datetime
    agent: str | None = None
    segment: str | None = None


def known(store: Store, *, since: datetime | None = None) -> pl.DataFrame:
    """Every known change point in order of time (columns `INTERVENTIONS`), from `since` on.

    `origin` is noted or derived. Those whose time is not known are not listed.
    """
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(INTERVENTIONS)} FROM (
                SELECT intervention_id, kind, agent, segment, happened_at, title, 'noted' AS origin
                FROM interventions WHERE withdrawn_at IS NULL
                UNION ALL BY NAME SELECT *, 'derived' AS origin FROM ({_DERIVED}))
            WHERE happened_at IS NOT NULL AND ($since IS NULL OR happened_at >= $since)
            ORDER BY happened_at, intervention_id""",
            INTERVENTIONS,
            {"since": since},
        )


def noted(store: Store, *, limit: int = 200) -> pl.DataFrame:
    """What operators noted, the latest first, withdrawn ones included (columns `NOTED`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(NOTED)} FROM (SELECT *, 'noted' AS origin FROM interventions)
            ORDER BY happened_at DESC, intervention_id LIMIT $limit""",
            NOTED,
            {"limit": limit},
        )


def note(store: Store, what: Note, *, by: str) -> str:
    """Keep a change point and return its id. Raises: `ActionRefused` naming the field that cannot be used."""
    row = _checked(what, store.clock.now())
    audit.person("Note an intervention", by)

    def work(connection: duckdb.DuckDBPyConnection) -> str:
        now = store.clock.now()
        key = f"noted:{uuid4().hex[:16]}"
        connection.execute(
            """INSERT INTO interventions VALUES
            ($id, $kind, $agent, $segment, $happened_at, $title, $by, $now, NULL)""",
            {**row, "id": key, "by": by, "now": now},
        )
        detail = {**row, "happened_at": what.happened_at.isoformat()}
        audit.append(connection, now, by, "intervention note", f"intervention {key}", detail)
        meta.bump(connection)
        return key

    return store.write(work)


def withdraw(store: Store, intervention_id: str, *, by: str, reason: str) -> None:
    """Take a noted change point back; what it explained is looked at anew by the next run.

    Raises: `NotFound` (derived ones cannot be withdrawn); `ActionRefused` without a reason, or when it was withdrawn.
    """
    action = "Withdraw an intervention"
    audit.person(action, by)
    if not reason.strip():
        raise ActionRefused(action, "no reason was given.", "Write why it does not explain anything.")

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        rows = connection.execute(
            "SELECT withdrawn_at FROM interventions WHERE intervention_id = $id", {"id": intervention_id}
        ).fetchall()
        if not rows:
            raise NotFound("noted intervention", intervention_id)
        if rows[0][0] is not None:
            raise ActionRefused(action, "it was withdrawn already.", "Nothing is left to do.")
        now = store.clock.now()
        connection.execute(
            "UPDATE interventions SET withdrawn_at = $now WHERE intervention_id = $id",
            {"id": intervention_id, "now": now},
        )
        detail = {"reason": reason.strip()}
        audit.append(connection, now, by, "intervention withdraw", f"intervention {intervention_id}", detail)
        meta.bump(connection)

    store.write(work)


def _checked(what: Note, now: datetime) -> Mapping[str, object]:
    action = "Note an intervention"
    if what.kind not in KINDS:
        raise ActionRefused(action, f"there is no kind {what.kind!r:.50}.", f"Kinds: {', '.join(KINDS)}.")
    title = what.title.strip()
    if not title or len(title) > MAX_TITLE:
        raise ActionRefused(
            action, f"the title has {len(title)} characters.", f"Say in 1 to {MAX_TITLE} characters what was done."
        )
    if what.happened_at.tzinfo is None:
        raise ActionRefused(action, "the time has no time zone.", "Give the time with its zone, such as UTC.")
    if what.happened_at > now + _AHEAD:
        raise ActionRefused(action, "the time is more than a year ahead.", "Check the year.")
    blank = {name: (value or "").strip() or None for name, value in (("agent", what.agent), ("segment", what.segment))}
    return {**asdict(what), **blank, "title": title}
