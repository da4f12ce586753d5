"""Drafting of lessons with a language model: what was asked about which group of rollouts, and what became of it.

A row is written before anything is sent and closed when its answer has been read. So a process that ends in between
leaves a row that says what was under way, and the next run goes on from the answer that the model's port has kept.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

import duckdb
import polars as pl

from store import meta, spans
from store.connection import Store
from store.frames import UTC_TIME, declare
from store.spans import STEPS

__all__ = [
    "FINAL", "OPEN", "ROLLOUTS", "ROWS", "STEPS", "Asked", "Ended", "Status", "asked_before", "begin", "end",
    "open_rows", "proposed_elsewhere", "recent", "rollouts", "send", "steps",
]  # fmt: skip

Status = Literal[
    "asking", "waiting", "proposed", "nothing to learn", "quotes not found", "refused", "truncated", "off-schema",
    "over budget", "unavailable", "interrupted",
]  # fmt: skip

OPEN: Final = ("asking", "waiting")
FINAL: Final = ("proposed", "nothing to learn", "quotes not found", "refused", "off-schema")
"""After these the same group on the same data is not asked again; after "truncated" only with a longer limit."""

ROWS = declare(
    {
        "draft_no": pl.Int64, "agent": pl.String, "task": pl.String, "fingerprint": pl.String,
        "data_version": pl.Int64, "rollouts": pl.Int32, "value": pl.Float64, "chosen": pl.String, "cut": pl.String,
        "prompt_version": pl.String, "stages": pl.Int32, "model": pl.String, "output_limit": pl.Int32,
        "prompt_tokens": pl.Int32, "content_hash": pl.String, "call_id": pl.Int64, "batch_no": pl.Int64,
        "tries": pl.Int32, "status": pl.String, "lesson_ids": pl.String, "dropped": pl.String, "tokens": pl.Int64,
        "cost_usd": pl.Float64, "message": pl.String, "asked_at": UTC_TIME, "ended_at": UTC_TIME,
    }
)  # fmt: skip
ROLLOUTS = pl.Schema(
    {
        "trace_id": pl.String(),
        "outcome": pl.Float64(),  # what the trace's own signals say of its reward; null where the model does not tell
        "reward": pl.Float64(),
        "reward_sd": pl.Float64(),
    }
)
ASKED_BEFORE = pl.Schema(
    {
        "agent": pl.String(),
        "task": pl.String(),
        "fingerprint": pl.String(),
        "rollouts": pl.Int32(),  # of the group when it was last asked about
        "tries": pl.Int32(),
        "status": pl.String(),  # of the last time
        "output_limit": pl.Int32(),
    }
)

_MOST_STEPS: Final = 400
_MOST_CHARACTERS: Final = 20_000


@dataclass(frozen=True)
class Asked:
    """What is about to be asked; see the columns of `lesson_drafting`."""

    agent: str
    task: str
    fingerprint: str
    data_version: int
    rollouts: int
    value: float
    chosen: Sequence[Mapping[str, Any]]
    cut: Sequence[str]
    prompt_version: str
    stages: int
    model: str
    output_limit: int
    prompt_tokens: int
    content_hash: str
    tries: int = 1


@dataclass(frozen=True)
class Ended:
    """What became of it; `tokens` and `cost_usd` are those of all its calls, null fields stay as they were."""

    status: Status
    message: str
    lesson_ids: Sequence[str] = ()
    dropped: Sequence[str] = field(default=())
    call_id: int | None = None
    tokens: int = 0
    cost_usd: float = 0.0


def begin(store: Store, asked: Asked, *, status: Literal["asking", "waiting"] = "asking") -> int:
    """Record that a group is asked about; returns the row's number. It takes the place of one that was over budget."""

    def work(connection: duckdb.DuckDBPyConnection) -> int:
        connection.execute(
            "DELETE FROM lesson_drafting WHERE fingerprint = $fingerprint AND status = 'over budget' AND tokens = 0",
            {"fingerprint": asked.fingerprint},
        )
        rows = connection.execute(
            """INSERT INTO lesson_drafting BY NAME
            SELECT (SELECT coalesce(max(draft_no), 0) + 1 FROM lesson_drafting) AS draft_no, $agent AS agent,
                $task AS task, $fingerprint AS fingerprint, $data_version AS data_version, $rollouts AS rollouts,
                $value AS value, $chosen AS chosen, $cut AS cut, $prompt_version AS prompt_version, $stages AS stages,
                $model AS model, $output_limit AS output_limit, $prompt_tokens AS prompt_tokens,
                $content_hash AS content_hash, $tries AS tries, $status AS status, '[]' AS lesson_ids,
                '[]' AS dropped, 0 AS tokens, 0.0 AS cost_usd, '' AS message, $now AS asked_at
            RETURNING draft_no""",
            {
                "agent": asked.agent, "task": asked.task, "fingerprint": asked.fingerprint,
                "data_version": asked.data_version, "rollouts": asked.rollouts, "value": asked.value,
                "chosen": _json(asked.chosen), "cut": _json(asked.cut), "prompt_version": asked.prompt_version,
                "stages": asked.stages, "model": asked.model, "output_limit": asked.output_limit,
                "prompt_tokens": asked.prompt_tokens, "content_hash": asked.content_hash, "tries": asked.tries,
                "status": status, "now": store.clock.now(),
            },
        ).fetchall()  # fmt: skip
        return int(rows[0][0])

    return store.write(work)


def send(store: Store, draft_no: int, *, batch_no: int, call_id: int) -> None:
    """Record that an open row's question went into a batch."""

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute(
            """UPDATE lesson_drafting SET status = 'waiting', batch_no = $batch, call_id = $call
            WHERE draft_no = $draft""",
            {"batch": batch_no, "call": call_id, "draft": draft_no},
        )

    store.write(work)


def end(store: Store, draft_no: int, ended: Ended) -> datetime:
    """Close a row; returns when that was."""

    def work(connection: duckdb.DuckDBPyConnection) -> datetime:
        now = store.clock.now()
        connection.execute(
            """UPDATE lesson_drafting SET status = $status, message = $message, lesson_ids = $lessons,
                dropped = $dropped, call_id = coalesce($call, call_id), tokens = $tokens, cost_usd = $usd,
                ended_at = $now
            WHERE draft_no = $draft""",
            {
                "status": ended.status, "message": ended.message, "lessons": _json(ended.lesson_ids),
                "dropped": _json(ended.dropped), "call": ended.call_id, "tokens": ended.tokens,
                "usd": ended.cost_usd, "now": now, "draft": draft_no,
            },
        )  # fmt: skip
        meta.bump(connection)
        return now

    return store.write(work)


def open_rows(store: Store) -> pl.DataFrame:
    """What is asking or waiting, the oldest first (columns `ROWS`). While no run goes on, `asking` was cut short."""
    return _listed(store, f"status IN {OPEN}", {}, "draft_no")


def recent(store: Store, limit: int = 100, *, agent: str | None = None, task: str | None = None) -> pl.DataFrame:
    """The latest rows, newest first (columns `ROWS`); of an agent and a task when they are named."""
    return _listed(
        store,
        "($agent IS NULL OR agent = $agent) AND ($task IS NULL OR task = $task)",
        {"agent": agent, "task": task, "limit": limit},
        "draft_no DESC LIMIT $limit",
    )


def asked_before(store: Store) -> pl.DataFrame:
    """The last time each fingerprint was asked about (columns `ASKED_BEFORE`)."""
    with store.read() as reader:
        return reader.frame(
            """SELECT agent, task, fingerprint, arg_max(rollouts, draft_no) AS rollouts, max(tries) AS tries,
                arg_max(status, draft_no) AS status, arg_max(output_limit, draft_no) AS output_limit
            FROM lesson_drafting GROUP BY agent, task, fingerprint ORDER BY agent, task, max(draft_no)""",
            ASKED_BEFORE,
        )


def proposed_elsewhere(store: Store, draft_no: int) -> set[str]:
    """The lessons that other rows have proposed."""
    with store.read() as reader:
        frame = reader.frame(
            """SELECT unnest(from_json(lesson_ids, '["VARCHAR"]')) AS lesson_id FROM lesson_drafting
            WHERE draft_no <> $draft""",
            pl.Schema({"lesson_id": pl.String()}),
            {"draft": draft_no},
        )
    return set(frame["lesson_id"])


def rollouts(store: Store, agent: str, task: str, *, limit: int = 1_000) -> pl.DataFrame:
    """The newest rollouts of a task that have signals of their own (columns `ROLLOUTS`), at most `limit`, by id."""
    with store.read() as reader:
        return reader.frame(
            """WITH newest AS (
                SELECT t.trace_id, r.outcome, r.mean AS reward, r.sd AS reward_sd
                FROM traces AS t JOIN rewards AS r USING (trace_id)
                WHERE t.agent = $agent AND t.task = $task AND r.signals > 0
                    AND r.reward_model_id = (SELECT max(reward_model_id) FROM reward_models WHERE active)
                ORDER BY t.seen_at DESC, t.trace_id LIMIT $limit
            )
            FROM newest ORDER BY trace_id""",
            ROLLOUTS,
            {"agent": agent, "task": task, "limit": limit},
        )


def steps(store: Store, trace_ids: Sequence[str]) -> pl.DataFrame:
    """The spans of traces in order, each numbered from 1 within its trace (columns `STEPS`).

    At most 400 of a trace, and 20,000 characters of each text: what a prompt can tell, and what a quote is looked for
    in.
    """
    return spans.of_traces(store, trace_ids, most=_MOST_STEPS, characters=_MOST_CHARACTERS)


def _listed(store: Store, where: str, params: Mapping[str, object], order: str) -> pl.DataFrame:
    with store.read() as reader:
        return reader.frame(
            f"SELECT {', '.join(ROWS.names())} FROM lesson_drafting WHERE {where} ORDER BY {order}", ROWS, dict(params)
        )


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=list)
