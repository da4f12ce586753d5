"""Proposing lessons: by jobs, by agents and by people. A proposal waits; nothing here moves one towards agents."""

import json
from typing import Any, Final

import duckdb
import polars as pl

from store import audit, lesson_versions, meta
from store.connection import Store
from store.errors import ActionRefused
from store.lesson_versions import TRUSTS, least

__all__ = ["EVIDENCE", "ORIGINS", "PROPOSALS", "TooManyWaiting", "propose"]

ORIGINS: Final = ("contrast", "model", "operator", "agent")

PROPOSALS = pl.Schema(
    {
        "lesson_id": pl.String(),
        "agent": pl.String(),  # '*': every agent
        "task": pl.String(),  # null: for all tasks of the agent
        "tested": pl.Boolean(),
        "value": pl.Float64(),
        "title": pl.String(),
        "when_text": pl.String(),
        "when_not": pl.String(),
        "do_text": pl.String(),
        "why": pl.String(),
        "segment": pl.String(),  # null: for everybody
        "user_id": pl.String(),
        "holdout": pl.Float64(),  # null: by its state
        "expires_at": pl.Datetime("us", "UTC"),
        "trust": pl.String(),  # null: as `propose` is told
        "taint": pl.String(),  # JSON array; a text with taint is untrusted
        "parents": pl.String(),  # JSON array of "lesson_id:version"
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
        "step": pl.Int64(),
        "field": pl.String(),  # where the quote stands in its span
        "verified": pl.Boolean(),  # it was found there; null: made by ourselves
    }
)


class TooManyWaiting(ActionRefused):
    """An agent has more proposals waiting for an operator than it may have."""

    def __init__(self, agent: str, waiting: int, most: int) -> None:
        self.agent, self.waiting, self.most = agent, waiting, most
        super().__init__(
            "Propose",
            f"{waiting:,} lessons that agents proposed for {agent} wait for an operator, and {most:,} may.",
            "Wait until some of them have been reviewed.",
        )


def propose(
    store: Store,
    proposals: pl.DataFrame,
    evidence: pl.DataFrame,
    *,
    author: str = "trimtab",
    origin: str = "contrast",
    trust: str = "system",
    most_waiting: int | None = None,
) -> list[str]:
    """Add lessons in state 'proposed' with their first version and evidence; returns the ids of the added ones.

    `proposals` has the columns `PROPOSALS`, `evidence` the columns `EVIDENCE`; columns that are missing, from `segment`
    and `step` on, are null. One whose id exists, in any state, is left out: what was rejected or retired is not
    proposed again. The trust of a text is the least of `trust`, its own, and its parents'; with taint it is untrusted.
    Raises: `ActionRefused` for an unknown origin or trust; `TooManyWaiting` when more than `most_waiting` lessons of
    this origin would wait for one agent.
    """
    if origin not in ORIGINS or trust not in TRUSTS:
        raise ActionRefused(
            "Propose", f"{origin!r} or {trust!r} is unknown.", f"Origins: {', '.join(ORIGINS)}; {', '.join(TRUSTS)}."
        )
    drafts = _whole(proposals, PROPOSALS)
    rows = {row["lesson_id"]: row for row in drafts.iter_rows(named=True)}
    support = _whole(evidence, EVIDENCE)

    def work(connection: duckdb.DuckDBPyConnection) -> list[str]:
        now = store.clock.now()
        held = connection.execute(
            "SELECT lesson_id FROM lessons WHERE list_contains($ids::VARCHAR[], lesson_id)", {"ids": list(rows)}
        ).fetchall()
        added = [name for name in rows if (name,) not in held]
        if not added:
            return []
        if most_waiting is not None:
            _room(connection, origin, [rows[name]["agent"] for name in added], most_waiting)
        trusts = [_trust(connection, rows[name], trust) for name in added]
        fresh = pl.DataFrame({"lesson_id": added, "trust": trusts}).join(
            drafts.drop("trust"), on="lesson_id", maintain_order="left"
        )
        params = {"now": now, "author": author, "origin": origin}
        _insert(connection, fresh, support, params)
        if origin in ("agent", "operator"):
            for name, low in zip(added, trusts, strict=True):
                detail = {key: value for key, value in rows[name].items() if value is not None and key != "expires_at"}
                detail |= {"trust": low, "origin": origin}
                audit.append(connection, now, author, "lesson propose", f"lesson {name}", detail)
        meta.bump(connection)
        return added

    return store.write(work)


def _insert(
    connection: duckdb.DuckDBPyConnection, fresh: pl.DataFrame, support: pl.DataFrame, params: dict[str, object]
) -> None:
    connection.register("fresh_drafts", fresh)
    connection.register("draft_evidence", support)
    try:
        now = params["now"]
        connection.execute(
            """INSERT INTO lessons BY NAME
            SELECT lesson_id, agent, task, segment, user_id, 'proposed' AS state, 1 AS version, $origin AS origin,
                tested, value, holdout, expires_at, $now AS created_at, $now AS updated_at, $author AS state_by
            FROM fresh_drafts""",
            params,
        )
        connection.execute(
            """INSERT INTO lesson_versions BY NAME
            SELECT lesson_id, 1 AS version, title, when_text, when_not, do_text, why, $author AS author,
                $now AS created_at, trust, coalesce(taint, '[]') AS taint, coalesce(parents, '[]') AS parents
            FROM fresh_drafts""",
            {"now": now, "author": params["author"]},
        )
        connection.execute(
            "INSERT INTO lesson_evidence BY NAME FROM draft_evidence SEMI JOIN fresh_drafts USING (lesson_id)"
        )
    finally:
        connection.unregister("fresh_drafts")
        connection.unregister("draft_evidence")


def _room(connection: duckdb.DuckDBPyConnection, origin: str, agents: list[str], most: int) -> None:
    for agent in sorted(set(agents)):
        found = connection.execute(
            """SELECT count(*) FROM lessons
            WHERE agent = $agent AND origin = $origin AND state IN ('proposed', 'approved')""",
            {"agent": agent, "origin": origin},
        ).fetchall()
        if found[0][0] + agents.count(agent) > most:
            raise TooManyWaiting(agent, int(found[0][0]), most)


def _trust(connection: duckdb.DuckDBPyConnection, row: dict[str, Any], trust: str) -> str:
    if json.loads(row["taint"] or "[]"):
        return "untrusted"
    parents = json.loads(row["parents"] or "[]")
    own = [trust] if row["trust"] is None else [trust, row["trust"]]
    return least([*own, *lesson_versions.lineage(connection, parents)])


def _whole(frame: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """The frame with all columns of the schema, null where it lacks one that may be missing."""
    missing = [name for name in schema if name not in frame.columns]
    return frame.with_columns(pl.lit(None, dtype=schema[name]).alias(name) for name in missing).select(list(schema))
