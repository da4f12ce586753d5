"""Batches of questions to the language model: what was sent in each, how far it is, and which questions are open.

Every step towards the server is written down before it is taken, so that after a process has ended anywhere it is known
what may have been sent: that is looked for on the server, and not sent a second time.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import duckdb
import polars as pl

from store import llm_calls
from store.connection import Store
from store.frames import UTC_TIME, declare
from store.llm_calls import Budget, BudgetExceeded, Charge, Question

__all__ = [
    "BATCHES", "OPEN", "QUESTIONS", "Line", "Prepared", "State", "listed", "open_batches", "prepare", "questions",
    "step",
]  # fmt: skip

State = Literal[
    "prepared", "uploading", "uploaded", "creating", "running", "completed", "failed", "expired", "cancelled"
]
OPEN: Final = ("prepared", "uploading", "uploaded", "creating", "running")

BATCHES = declare(
    {
        "batch_no": pl.Int64, "purpose": pl.String, "batch_key": pl.String, "api": pl.String, "model": pl.String,
        "address": pl.String, "state": pl.String, "server_state": pl.String, "questions": pl.Int32,
        "content": pl.String, "input_file_id": pl.String, "server_id": pl.String, "input_usd": pl.Float64,
        "output_usd": pl.Float64, "created_at": UTC_TIME, "stepped_at": UTC_TIME, "looked_at": UTC_TIME,
        "ended_at": UTC_TIME, "message": pl.String,
    }
)  # fmt: skip
QUESTIONS = pl.Schema(
    {
        "custom_id": pl.String(),
        "call_id": pl.Int64(),
        "schema": pl.String(),
        "outcome": pl.String(),  # of the call: running until it has an end
        "charged_tokens": pl.Int64(),
        "cost_usd": pl.Float64(),
    }
)


@dataclass(frozen=True)
class Line:
    """One question of a batch: its line of the file is `text`, `most` is the most that it can cost."""

    question: Question
    custom_id: str
    text: str
    schema: Mapping[str, Any]
    most: Charge


@dataclass(frozen=True)
class Prepared:
    """A batch ready to be sent: the calls of the lines that the budget allows, and why not of all."""

    batch_no: int | None
    call_ids: tuple[int, ...]
    refused: BudgetExceeded | None


def prepare(
    store: Store,
    lines: Sequence[Line],
    budget: Budget,
    *,
    purpose: str,
    batch_key: str,
    api: str,
    model: str,
    address: str,
    prices: tuple[float, float],
) -> Prepared:
    """Reserve what the lines may cost, in their order as far as `budget` goes, and keep them as one batch."""

    def work(connection: duckdb.DuckDBPyConnection) -> Prepared:
        now = store.clock.now()
        calls: list[int] = []
        refused: BudgetExceeded | None = None
        for line in lines:
            answer = llm_calls.reserve(connection, now, line.question, line.most, budget)
            if isinstance(answer, BudgetExceeded):
                refused = answer
                break
            calls.append(answer)
        if not calls:
            return Prepared(None, (), refused)
        rows = connection.execute(
            """INSERT INTO llm_batches BY NAME
            SELECT (SELECT coalesce(max(batch_no), 0) + 1 FROM llm_batches) AS batch_no, $purpose AS purpose,
                $key AS batch_key, $api AS api, $model AS model, $address AS address, 'prepared' AS state,
                $questions AS questions, $content AS content, $input_usd AS input_usd, $output_usd AS output_usd,
                $now AS created_at, $now AS stepped_at
            RETURNING batch_no""",
            {
                "purpose": purpose, "key": batch_key, "api": api, "model": model, "address": address,
                "questions": len(calls), "content": "".join(line.text + "\n" for line in lines[: len(calls)]),
                "input_usd": prices[0], "output_usd": prices[1], "now": now,
            },
        ).fetchall()  # fmt: skip
        batch_no = int(rows[0][0])
        for line, call_id in zip(lines, calls, strict=False):
            connection.execute(
                "INSERT INTO llm_batch_questions VALUES ($batch, $custom, $call, $schema)",
                {
                    "batch": batch_no, "custom": line.custom_id, "call": call_id,
                    "schema": json.dumps(dict(line.schema)),
                },
            )  # fmt: skip
        return Prepared(batch_no, tuple(calls), refused)

    return store.write(work)


def step(
    store: Store,
    batch_no: int,
    state: State,
    *,
    server_state: str | None = None,
    input_file_id: str | None = None,
    server_id: str | None = None,
    message: str | None = None,
    looked: bool = False,
) -> None:
    """Record how far a batch is; ids that are None stay as they were, `message` does not."""

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute(
            """UPDATE llm_batches SET stepped_at = if(state = $state, stepped_at, $now), state = $state,
                server_state = coalesce($server_state, server_state),
                input_file_id = coalesce($file, input_file_id), server_id = coalesce($server, server_id),
                message = $message, looked_at = if($looked, $now, looked_at),
                ended_at = if($ended, $now, NULL), content = if($sent, NULL, content)
            WHERE batch_no = $batch""",
            {
                "state": state, "server_state": server_state, "file": input_file_id, "server": server_id,
                "message": message, "looked": looked, "ended": state not in OPEN,
                "sent": state not in OPEN or state == "running", "batch": batch_no, "now": store.clock.now(),
            },
        )  # fmt: skip

    store.write(work)


def open_batches(store: Store, purpose: str) -> pl.DataFrame:
    """The batches of a purpose that have no end yet, the oldest first (columns `BATCHES`)."""
    return _batches(store, f"purpose = $purpose AND state IN {OPEN}", {"purpose": purpose}, "batch_no")


def listed(store: Store, purpose: str, limit: int = 20) -> pl.DataFrame:
    """The latest batches of a purpose, newest first (columns `BATCHES`)."""
    return _batches(store, "purpose = $purpose", {"purpose": purpose, "limit": limit}, "batch_no DESC LIMIT $limit")


def questions(store: Store, batch_no: int) -> pl.DataFrame:
    """The questions of a batch with how their calls are (columns `QUESTIONS`)."""
    with store.read() as reader:
        return reader.frame(
            """SELECT q.custom_id, q.call_id, q.schema, c.outcome, c.charged_tokens, c.cost_usd
            FROM llm_batch_questions AS q JOIN llm_calls AS c USING (call_id)
            WHERE q.batch_no = $batch ORDER BY q.call_id""",
            QUESTIONS,
            {"batch": batch_no},
        )


def _batches(store: Store, where: str, params: Mapping[str, object], order: str) -> pl.DataFrame:
    with store.read() as reader:
        return reader.frame(
            f"SELECT {', '.join(BATCHES.names())} FROM llm_batches WHERE {where} ORDER BY {order}",
            BATCHES,
            dict(params),
        )
