"""Distillation: what it reads of the library, and the merges and retirements that it proposes.

A proposal waits until an operator decides (`store.distil_reviews`); nothing is applied here. Its id is a hash of what
it proposes about which texts, so that the same finding is proposed once, and what was declined stays so.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import duckdb
import polars as pl

from store import meta, result_rows
from store.connection import Store
from store.errors import NotFound
from store.frames import UTC_TIME, Reader, declare

__all__ = [
    "ACTIONS", "EVIDENCE", "EXPOSED", "LESSONS", "LINKS", "MEMBERS", "PAYOFFS", "PROPOSALS", "RUNS", "Library",
    "library", "listed", "members", "newest_run", "one", "publish",
]  # fmt: skip

LESSONS = declare(
    {
        "lesson_id": pl.String, "agent": pl.String, "task": pl.String, "segment": pl.String, "user_id": pl.String,
        "state": pl.String, "version": pl.Int32, "origin": pl.String, "title": pl.String, "when_text": pl.String,
        "when_not": pl.String, "do_text": pl.String, "created_at": UTC_TIME, "since": UTC_TIME, "paused": pl.Boolean,
    }
)  # fmt: skip
"""`since`: when it came to its state."""
EVIDENCE = pl.Schema({"lesson_id": pl.String(), "trace_id": pl.String(), "role": pl.String(), "reward": pl.Float64()})
ACTIONS = pl.Schema({"trace_id": pl.String(), "position": pl.Int64(), "name": pl.String()})
PAYOFFS = pl.Schema(
    {
        "lesson_id": pl.String(),
        "version": pl.Int32(),
        "agent": pl.String(),
        "measure": pl.String(),
        "decisions": pl.Int64(),
        "effect": pl.Float64(),
        "lower": pl.Float64(),
        "upper": pl.Float64(),
        "verdict": pl.String(),
    }
)
EXPOSED = declare(
    {"agent": pl.String, "lesson_id": pl.String, "decisions": pl.Int64, "served": pl.Int64, "first": UTC_TIME}
)
"""Of the window asked for; lesson_id null: all decisions of the agent about lessons."""
LINKS = pl.Schema({"lesson_id": pl.String(), "other_id": pl.String(), "kind": pl.String()})
PROPOSALS = declare(
    {
        "proposal_id": pl.String, "kind": pl.String, "cause": pl.String, "agent": pl.String, "keep_id": pl.String,
        "keep_version": pl.Int32, "similarity": pl.Float64, "method": pl.String, "checked": pl.String,
        "reason": pl.String, "supporting": pl.String, "opposing": pl.String,
    }
)  # fmt: skip
MEMBERS = pl.Schema(
    {
        "proposal_id": pl.String(),
        "lesson_id": pl.String(),
        "version": pl.Int32(),
        "role": pl.String(),
        "cosine": pl.Float64(),
    }
)
STORED = declare(
    {
        **PROPOSALS, "run_id": pl.Int64, "state": pl.String, "found_at": UTC_TIME, "decided_by": pl.String,
        "decided_at": UTC_TIME, "decision_reason": pl.String,
    }
)  # fmt: skip
RUNS = declare(
    {
        "run_id": pl.Int64, "found_at": UTC_TIME, "data_version": pl.Int64, "code_version": pl.String,
        "parameters": pl.String, "lessons": pl.Int64, "message": pl.String,
    }
)  # fmt: skip

CONSIDERED: Final = ("proposed", "approved", "canary", "active", "retired")
_ACTION_KINDS: Final = ("tool", "retriever", "guardrail")


@dataclass(frozen=True)
class Library:
    """What a run reads, of one snapshot: frames LESSONS, EVIDENCE, ACTIONS, PAYOFFS, EXPOSED and LINKS."""

    lessons: pl.DataFrame
    evidence: pl.DataFrame
    actions: pl.DataFrame
    payoffs: pl.DataFrame
    exposed: pl.DataFrame
    links: pl.DataFrame
    now: datetime
    data_version: int


def library(store: Store, since: datetime) -> Library:
    """All lessons that wait, are served or were retired, with what is known of them; exposures since `since`."""
    with store.read() as reader:
        version = reader.value("SELECT value FROM store_meta WHERE key = 'data_version'")
        return Library(
            lessons=_lessons(reader),
            evidence=reader.frame(
                "SELECT lesson_id, trace_id, role, reward FROM lesson_evidence ORDER BY ALL", EVIDENCE
            ),
            actions=_actions(reader),
            payoffs=reader.frame(_PAYOFFS, PAYOFFS),
            exposed=_exposed(reader, since),
            links=reader.frame(
                "SELECT lesson_id, other_id, kind FROM lesson_links WHERE removed_at IS NULL ORDER BY ALL", LINKS
            ),
            now=store.clock.now(),
            data_version=int(version) if isinstance(version, int) else 0,
        )


def _lessons(reader: Reader) -> pl.DataFrame:
    return reader.frame(
        """SELECT l.lesson_id, l.agent, l.task, l.segment, l.user_id, l.state, l.version, l.origin, v.title,
            v.when_text, v.when_not, v.do_text, l.created_at, coalesce(r.since, l.created_at) AS since,
            l.paused IS NOT NULL AS paused
        FROM lessons AS l JOIN lesson_versions AS v USING (lesson_id, version)
        LEFT JOIN (
            SELECT lesson_id, max(reviewed_at) AS since FROM lesson_reviews
            WHERE action IN ('approve', 'promote', 'resume', 'edit', 'undo') GROUP BY lesson_id) AS r
            ON r.lesson_id = l.lesson_id
        WHERE list_contains($states, l.state) ORDER BY l.lesson_id""",
        LESSONS,
        {"states": list(CONSIDERED)},
    )


def _actions(reader: Reader) -> pl.DataFrame:
    """What the traces of all evidence did, in the order of events."""
    return reader.frame(
        """SELECT trace_id, row_number() OVER (
                PARTITION BY trace_id ORDER BY started_at NULLS LAST, ordinal NULLS LAST, span_id) AS position,
            coalesce(name, kind) AS name
        FROM spans WHERE trace_id IN (SELECT trace_id FROM lesson_evidence) AND list_contains($kinds, kind)
        ORDER BY trace_id, position""",
        ACTIONS,
        {"kinds": list(_ACTION_KINDS)},
    )


def _exposed(reader: Reader, since: datetime) -> pl.DataFrame:
    return reader.frame(
        """SELECT agent, lesson_id, count(DISTINCT decision_id) AS decisions,
            count(DISTINCT decision_id) FILTER (status = 'served') AS served, min(decided_at) AS first
        FROM exposures WHERE decided_at >= $since GROUP BY GROUPING SETS ((agent, lesson_id), (agent))
        ORDER BY agent, lesson_id NULLS FIRST""",
        EXPOSED,
        {"since": since},
    )


# The doubly robust estimate where there is one, of everybody.
_PAYOFFS: Final = """
    SELECT lesson_id, version, agent, measure, served + withheld AS decisions, effect, lower, upper, verdict
    FROM lesson_payoffs WHERE kind = 'lesson' AND lesson_id IS NOT NULL AND segment IS NULL
        AND measure IN ('reward', 'outcome') AND run_id = (SELECT max(run_id) FROM payoff_runs)
    QUALIFY row_number() OVER (PARTITION BY lesson_id, version, agent, measure
        ORDER BY list_position(['doubly robust', 'difference', 'paired'], estimator)) = 1
    ORDER BY ALL"""


def publish(
    store: Store,
    proposals: pl.DataFrame,
    members: pl.DataFrame,
    *,
    parameters: dict[str, Any],
    lessons: int,
    data_version: int,
    code_version: str,
    message: str,
) -> int:
    """Keep a run and its new proposals (columns PROPOSALS, MEMBERS); returns how many are new.

    Open proposals that this run did not find again are outdated; what was found before, in any state, is not repeated.
    """

    def work(connection: duckdb.DuckDBPyConnection) -> int:
        now = store.clock.now()
        run = result_rows.next_number(connection, "distil_runs")
        connection.execute(
            "INSERT INTO distil_runs VALUES ($run, $now, $data, $code, $parameters, $lessons, $message)",
            {
                "run": run, "now": now, "data": data_version, "code": code_version, "lessons": lessons,
                "parameters": json.dumps(parameters, sort_keys=True), "message": message,
            },
        )  # fmt: skip
        found = proposals["proposal_id"].to_list()
        connection.execute(
            """UPDATE distil_proposals SET state = 'outdated', decided_at = $now, decided_by = 'trimtab'
            WHERE state = 'open' AND NOT list_contains($found::VARCHAR[], proposal_id)""",
            {"now": now, "found": found},
        )
        # Found again, an outdated one is open again: nobody has decided about it.
        connection.execute(
            """UPDATE distil_proposals SET state = 'open', decided_at = NULL, decided_by = NULL
            WHERE state = 'outdated' AND list_contains($found::VARCHAR[], proposal_id)""",
            {"found": found},
        )
        known = {row[0] for row in connection.execute("SELECT proposal_id FROM distil_proposals").fetchall()}
        fresh = proposals.filter(~pl.col("proposal_id").is_in(list(known)))
        key = {"run_id": run, "state": "open", "found_at": now}
        result_rows.insert(connection, "distil_proposals", fresh.select(list(PROPOSALS)), key=key)
        own = members.filter(pl.col("proposal_id").is_in(fresh["proposal_id"].to_list()))
        result_rows.insert(connection, "distil_members", own.select(list(MEMBERS)), key={})
        meta.bump(connection)
        return fresh.height

    return store.write(work)


def listed(store: Store, states: Sequence[str] = ("open",), *, agent: str | None = None) -> pl.DataFrame:
    """Proposals in these states, newest run first, merges before retirements (columns `STORED`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(STORED)} FROM distil_proposals
            WHERE list_contains($states::VARCHAR[], state) AND ($agent IS NULL OR agent = $agent)
            ORDER BY run_id DESC, list_position(['escalate', 'retire', 'merge'], kind), cause, proposal_id""",
            STORED,
            {"states": list(states), "agent": agent},
        )


def one(store: Store, proposal_id: str) -> dict[str, Any]:
    """One proposal as a dictionary of `STORED`, `supporting` and `opposing` decoded. Raises: `NotFound`."""
    with store.read() as reader:
        frame = reader.frame(
            f"SELECT {', '.join(STORED)} FROM distil_proposals WHERE proposal_id = $id", STORED, {"id": proposal_id}
        )
    if frame.is_empty():
        raise NotFound("distil proposal", proposal_id)
    row = frame.row(0, named=True)
    return {**row, "supporting": json.loads(row["supporting"]), "opposing": json.loads(row["opposing"])}


def members(store: Store, proposal_id: str) -> pl.DataFrame:
    """The lessons of a proposal, the one that is kept first (columns MEMBERS)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(MEMBERS)} FROM distil_members WHERE proposal_id = $id
            ORDER BY role <> 'keep', lesson_id""",
            MEMBERS,
            {"id": proposal_id},
        )


def newest_run(store: Store) -> dict[str, Any] | None:
    """The newest run as a dictionary of RUNS, `parameters` decoded; None before the first."""
    return result_rows.newest(store, "distil_runs", RUNS)
