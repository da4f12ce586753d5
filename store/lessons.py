"""Lessons: what the system proposes and operators decide. A text is never overwritten: an edit adds a version.

Reviews (approve, reject, edit, retire, undo) are in `store.lesson_reviews`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import duckdb
import polars as pl

from store import meta
from store.connection import Store
from store.errors import NotFound
from store.frames import UTC_TIME, declare
from store.scope import ACTIVE_REWARDS

BLAST_DAYS = 7

ROLLOUTS = pl.Schema(
    {
        "trace_id": pl.String(),
        "agent": pl.String(),
        "task": pl.String(),
        "reward": pl.Float64(),
        "reward_sd": pl.Float64(),
    }
)
STEPS = pl.Schema(
    {
        "trace_id": pl.String(),
        "span_id": pl.String(),
        "step": pl.Int64(),  # position in event time within the trace
        "kind": pl.String(),
        "name": pl.String(),
        "status": pl.String(),
        "input": pl.String(),
        "output": pl.String(),
    }
)
PROPOSALS = pl.Schema(
    {
        "lesson_id": pl.String(),
        "agent": pl.String(),
        "task": pl.String(),  # null: for all tasks of the agent
        "tested": pl.Boolean(),
        "value": pl.Float64(),
        "title": pl.String(),
        "when_text": pl.String(),
        "when_not": pl.String(),
        "do_text": pl.String(),
        "why": pl.String(),
    }
)
EVIDENCE = pl.Schema(
    {
        "lesson_id": pl.String(),
        "trace_id": pl.String(),
        "span_id": pl.String(),
        "role": pl.String(),  # good, bad
        "reward": pl.Float64(),
        "reward_sd": pl.Float64(),
        "quote": pl.String(),
    }
)
LESSONS = declare(
    {
        "lesson_id": pl.String, "agent": pl.String, "task": pl.String, "state": pl.String, "version": pl.Int32,
        "origin": pl.String, "tested": pl.Boolean, "value": pl.Float64, "title": pl.String, "when_text": pl.String,
        "when_not": pl.String, "do_text": pl.String, "why": pl.String, "author": pl.String, "created_at": UTC_TIME,
        "updated_at": UTC_TIME, "good": pl.Int64, "bad": pl.Int64,
    }
)  # fmt: skip
VERSIONS = declare(
    {
        "version": pl.Int32, "title": pl.String, "when_text": pl.String, "when_not": pl.String, "do_text": pl.String,
        "why": pl.String, "author": pl.String, "created_at": UTC_TIME,
    }
)  # fmt: skip
REVIEWS = declare(
    {
        "sequence": pl.Int64, "lesson_id": pl.String, "version": pl.Int32, "action": pl.String, "operator": pl.String,
        "reason": pl.String, "previous_state": pl.String, "reviewed_at": UTC_TIME,
    }
)  # fmt: skip
UNDOABLE = declare(
    {
        "sequence": pl.Int64, "lesson_id": pl.String, "action": pl.String, "operator": pl.String,
        "reviewed_at": UTC_TIME,
    }
)  # fmt: skip

_LESSONS = """
SELECT l.lesson_id, l.agent, l.task, l.state, l.version, l.origin, l.tested, l.value, v.title, v.when_text, v.when_not,
    v.do_text, v.why, v.author, l.created_at, l.updated_at,
    count(e.role) FILTER (e.role = 'good') AS good, count(e.role) FILTER (e.role = 'bad') AS bad
FROM lessons AS l JOIN lesson_versions AS v USING (lesson_id, version)
LEFT JOIN lesson_evidence AS e USING (lesson_id)"""


@dataclass(frozen=True)
class BlastRadius:
    """Whom a lesson reaches once approved: traces of its agent and task since `since`, and the users behind them."""

    since: datetime
    traces: int
    users: int
    traces_per_day: float
    latest: datetime | None


def rollouts(store: Store, *, limit: int = 20_000) -> pl.DataFrame:
    """The newest traces with signals of tasks that have two or more of them (columns `ROLLOUTS`), by trace.

    Rewards are the active model's; without one there are no rows.
    """
    with store.read() as reader:
        return reader.frame(
            f"""SELECT t.trace_id, t.agent, t.task, r.mean AS reward, r.sd AS reward_sd
            FROM {ACTIVE_REWARDS} AS r JOIN traces AS t USING (trace_id)
            WHERE r.signals > 0 AND t.agent IS NOT NULL AND t.task IS NOT NULL
            QUALIFY count(*) OVER (PARTITION BY t.agent, t.task) > 1
            ORDER BY t.seen_at DESC, t.trace_id LIMIT $limit""",
            ROLLOUTS,
            {"limit": limit},
        ).sort("trace_id")


def steps(store: Store, trace_ids: list[str], kinds: tuple[str, ...], *, characters: int = 4_000) -> pl.DataFrame:
    """Spans of these kinds of these traces in event order (columns `STEPS`), texts cut at `characters`."""
    with store.read() as reader:
        return reader.frame(
            """WITH numbered AS (
                SELECT rowid AS row_no, row_number() OVER (
                    PARTITION BY trace_id ORDER BY started_at NULLS LAST, ordinal NULLS LAST, span_id) AS step
                FROM spans
                WHERE trace_id IN (SELECT unnest($trace_ids::VARCHAR[])) AND list_contains($kinds, kind)
            )
            SELECT s.trace_id, s.span_id, n.step, s.kind, s.name, s.status,
                left(s.input, $characters) AS input, left(s.output, $characters) AS output
            FROM spans AS s JOIN numbered AS n ON s.rowid = n.row_no ORDER BY s.trace_id, n.step""",
            STEPS,
            {"trace_ids": trace_ids, "kinds": list(kinds), "characters": characters},
        )


def known(store: Store) -> set[str]:
    """The ids of all lessons, whatever their state."""
    with store.read() as reader:
        return set(reader.frame("SELECT lesson_id FROM lessons", pl.Schema({"lesson_id": pl.String()}))["lesson_id"])


def propose(store: Store, proposals: pl.DataFrame, evidence: pl.DataFrame, *, author: str = "trimtab") -> int:
    """Add lessons in state 'proposed' with their first version and evidence; returns how many.

    `proposals` has the columns `PROPOSALS`, `evidence` the columns `EVIDENCE`. One whose id exists, in any state, is
    left out: what was rejected or retired is not proposed again.
    """

    def work(connection: duckdb.DuckDBPyConnection) -> int:
        now = store.clock.now()
        connection.register("drafts", proposals.select(list(PROPOSALS)))
        connection.register("draft_evidence", evidence.select(list(EVIDENCE)))
        try:
            connection.execute(
                "CREATE OR REPLACE TEMP TABLE fresh_drafts AS FROM drafts ANTI JOIN lessons USING (lesson_id)"
            )
            connection.execute(
                """INSERT INTO lessons BY NAME
                SELECT lesson_id, agent, task, 'proposed' AS state, 1 AS version, 'contrast' AS origin, tested, value,
                    $now AS created_at, $now AS updated_at FROM fresh_drafts""",
                {"now": now},
            )
            connection.execute(
                """INSERT INTO lesson_versions BY NAME
                SELECT lesson_id, 1 AS version, title, when_text, when_not, do_text, why, $author AS author,
                    $now AS created_at FROM fresh_drafts""",
                {"now": now, "author": author},
            )
            connection.execute(
                "INSERT INTO lesson_evidence BY NAME FROM draft_evidence SEMI JOIN fresh_drafts USING (lesson_id)"
            )
        finally:
            connection.unregister("drafts")
            connection.unregister("draft_evidence")
        added = int(connection.execute("SELECT count(*) FROM fresh_drafts").fetchall()[0][0])
        if added:
            meta.bump(connection)
        return added

    return store.write(work)


def queue(store: Store, *, agent: str | None = None) -> pl.DataFrame:
    """What waits for review, tested effects first, then the most valuable (columns `LESSONS`)."""
    return _listed(
        store,
        "l.state IN ('proposed', 'approved') AND ($agent IS NULL OR l.agent = $agent)",
        "coalesce(tested, false) DESC, value DESC NULLS LAST, lesson_id",
        {"agent": agent},
    )


def library(store: Store, *, agent: str | None = None, states: tuple[str, ...] | None = None) -> pl.DataFrame:
    """All lessons, the latest change first (columns `LESSONS`); of one agent or some states when they are named."""
    return _listed(
        store,
        "($agent IS NULL OR l.agent = $agent) AND ($states IS NULL OR list_contains($states::VARCHAR[], l.state))",
        "updated_at DESC, lesson_id",
        {"agent": agent, "states": list(states) if states is not None else None},
    )


def one(store: Store, lesson_id: str) -> dict[str, Any]:
    """One lesson as a dictionary of `LESSONS` columns. Raises: `NotFound`."""
    frame = _listed(store, "l.lesson_id = $lesson", "lesson_id", {"lesson": lesson_id})
    if frame.is_empty():
        raise NotFound("lesson", lesson_id)
    return frame.row(0, named=True)


def versions(store: Store, lesson_id: str) -> pl.DataFrame:
    """Every text a lesson has had, newest first (columns `VERSIONS`)."""
    with store.read() as reader:
        return reader.frame(
            f"SELECT {', '.join(VERSIONS)} FROM lesson_versions WHERE lesson_id = $lesson ORDER BY version DESC",
            VERSIONS,
            {"lesson": lesson_id},
        )


def evidence(store: Store, lesson_id: str) -> pl.DataFrame:
    """The traces behind a lesson, good ones first, the clearest of each first (columns `EVIDENCE`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(EVIDENCE)} FROM lesson_evidence WHERE lesson_id = $lesson
            ORDER BY role DESC, if(role = 'good', -reward, reward), trace_id""",
            EVIDENCE,
            {"lesson": lesson_id},
        )


def reviews(store: Store, *, lesson_id: str | None = None, limit: int = 100) -> pl.DataFrame:
    """The latest reviews, newest first (columns `REVIEWS`); of one lesson when it is named."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(REVIEWS)} FROM lesson_reviews WHERE $lesson IS NULL OR lesson_id = $lesson
            ORDER BY sequence DESC LIMIT $limit""",
            REVIEWS,
            {"lesson": lesson_id, "limit": limit},
        )


def undoable(store: Store, *, lesson_id: str | None = None) -> pl.DataFrame:
    """The last review of each lesson that was not undone, newest first (columns `UNDOABLE`).

    Reviews are a stack: an undo takes the top one off. The top is the last review that reached the present height.
    """
    with store.read() as reader:
        return reader.frame(
            """WITH stack AS (
                SELECT *, sum(if(action = 'undo', -1, 1)) OVER (PARTITION BY lesson_id ORDER BY sequence) AS height
                FROM lesson_reviews WHERE sequence IS NOT NULL AND ($lesson IS NULL OR lesson_id = $lesson)
            ), present AS (
                SELECT lesson_id, arg_max(height, sequence) AS height FROM stack GROUP BY lesson_id
            )
            SELECT max(sequence) AS sequence, lesson_id, arg_max(action, sequence) AS action,
                arg_max(operator, sequence) AS operator, arg_max(reviewed_at, sequence) AS reviewed_at
            FROM stack SEMI JOIN present USING (lesson_id, height)
            WHERE action <> 'undo' AND height > 0
            GROUP BY lesson_id ORDER BY sequence DESC""",
            UNDOABLE,
            {"lesson": lesson_id},
        )


def blast_radius(store: Store, agent: str, task: str | None, now: datetime) -> BlastRadius:
    """How many traces and users of the last `BLAST_DAYS` days a lesson for this agent and task would have reached."""
    since = now - timedelta(days=BLAST_DAYS)
    with store.read() as reader:
        row = reader.frame(
            """SELECT count(*) FILTER (seen_at >= $since AND seen_at < $now) AS traces,
                count(DISTINCT user_id) FILTER (seen_at >= $since AND seen_at < $now) AS users,
                max(seen_at) AS latest
            FROM traces WHERE agent = $agent AND ($task IS NULL OR task = $task)""",
            declare({"traces": pl.Int64, "users": pl.Int64, "latest": UTC_TIME}),
            {"since": since, "now": now, "agent": agent, "task": task},
        ).row(0, named=True)
    return BlastRadius(since, row["traces"], row["users"], row["traces"] / BLAST_DAYS, row["latest"])


def _listed(store: Store, where: str, order: str, params: dict[str, object]) -> pl.DataFrame:
    with store.read() as reader:
        return reader.frame(f"FROM ({_LESSONS} WHERE {where} GROUP BY ALL) ORDER BY {order}", LESSONS, params)
