"""Questions to the language model: what each cost, what may still be spent, and the answers that are kept.

A budget is checked and taken in one transaction before anything is sent: a question reserves the most that it can cost,
and gives back what it did not use when it has ended. So what is spent never exceeds a budget, whoever asks at once and
whenever the process ends. What a question reserved and nobody can say any more (the process ended, the server never
answered) stays charged.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import duckdb
import polars as pl

from store.connection import Store
from store.errors import TrimtabError
from store.frames import UTC_TIME, declare

Outcome = Literal[
    "running", "answered", "cached", "over budget", "refused", "malformed", "truncated", "rejected", "unavailable",
    "interrupted",
]  # fmt: skip

CALLS = declare(
    {
        "call_id": pl.Int64, "run": pl.String, "purpose": pl.String, "prompt_version": pl.String,
        "subject": pl.String, "api": pl.String, "model": pl.String, "answered_by": pl.String,
        "content_hash": pl.String, "asked_at": UTC_TIME, "seconds": pl.Float64, "outcome": pl.String,
        "attempts": pl.Int32, "input_tokens": pl.Int64, "output_tokens": pl.Int64, "charged_tokens": pl.Int64,
        "cost_usd": pl.Float64, "estimated": pl.Boolean, "error": pl.String,
    }
)  # fmt: skip
USE = declare(
    {
        "purpose": pl.String, "model": pl.String, "calls": pl.Int64, "answered": pl.Int64, "cached": pl.Int64,
        "failed": pl.Int64, "tokens": pl.Int64, "cost_usd": pl.Float64, "seconds": pl.Float64, "latest": UTC_TIME,
    }
)  # fmt: skip
TYPICAL = pl.Schema({"calls": pl.Int64(), "input_tokens": pl.Float64(), "output_tokens": pl.Float64()})

# Sums of money are exact to far less than this; a charge that just fits must not fail on the last bit.
_ROUNDING: Final = 1e-9


@dataclass(frozen=True)
class Charge:
    """Tokens, read and written, and US dollars."""

    tokens: int
    usd: float

    def __add__(self, other: "Charge") -> "Charge":
        return Charge(self.tokens + other.tokens, self.usd + other.usd)

    def exceeds(self, limit: "Charge") -> bool:
        """Whether this is more than `limit` in tokens or in money."""
        return self.tokens > limit.tokens or self.usd > limit.usd + _ROUNDING


@dataclass(frozen=True)
class Budget:
    """What may be spent in one UTC day, and in one run."""

    day: Charge
    run: Charge


@dataclass(frozen=True)
class Question:
    """What is asked; see the columns of `llm_calls`."""

    run: str
    purpose: str
    prompt_version: str
    subject: str | None
    api: str
    model: str
    content_hash: str


@dataclass(frozen=True)
class Ended:
    """How a question ended. `answer` is kept for the next time the same is asked."""

    outcome: Outcome
    attempts: int
    seconds: float
    charge: Charge
    estimated: bool
    input_tokens: int | None = None
    output_tokens: int | None = None
    answered_by: str | None = None
    answer: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class Kept:
    """An answer of the cache: JSON text, who gave it and when."""

    answer: str
    model: str
    answered_at: datetime


class BudgetExceeded(TrimtabError):
    """A question that could cost more than is left; nothing was sent.

    Args: `span` is day or run; `spent` so far, `asked` the most that the question may cost, `limit`.
    """

    def __init__(self, span: Literal["day", "run"], spent: Charge, asked: Charge, limit: Charge) -> None:
        self.span, self.spent, self.asked, self.limit = span, spent, asked, limit
        what = "today" if span == "day" else "in this run"
        names = "TRIMTAB_MODEL_DAILY_TOKENS and TRIMTAB_MODEL_DAILY_USD"
        if span == "run":
            names = "TRIMTAB_MODEL_RUN_TOKENS and TRIMTAB_MODEL_RUN_USD"
        super().__init__(
            f"The model was not asked: {spent.tokens:,} tokens and ${spent.usd:.4f} are spent {what}, the question may "
            f"take {asked.tokens:,} tokens and ${asked.usd:.4f}, and the limits are {limit.tokens:,} tokens and "
            f"${limit.usd:.4f}. Wait, or raise {names}."
        )


def begin(store: Store, question: Question, reserved: Charge, budget: Budget) -> int:
    """Reserve what a question may cost and record it as running; returns its id.

    Raises: `BudgetExceeded`, which is recorded too.
    """

    answer = store.write(lambda connection: reserve(connection, store.clock.now(), question, reserved, budget))
    if isinstance(answer, BudgetExceeded):
        raise answer
    return answer


def reserve(
    connection: duckdb.DuckDBPyConnection, now: datetime, question: Question, reserved: Charge, budget: Budget
) -> int | BudgetExceeded:
    """As `begin`, inside a transaction: the refusal is returned, so that its record stays."""
    refused = _refusal(connection, now, question.run, reserved, budget)
    if refused is not None:
        _insert(connection, question, now, "over budget", Charge(0, 0.0), error=str(refused))
        return refused
    return _insert(connection, question, now, "running", reserved)


def extend(store: Store, call_id: int, more: Charge, budget: Budget) -> None:
    """Reserve as much again for another attempt of a running question. Raises: `BudgetExceeded`."""

    def work(connection: duckdb.DuckDBPyConnection) -> BudgetExceeded | None:
        rows = connection.execute("SELECT run FROM llm_calls WHERE call_id = $call", {"call": call_id}).fetchall()
        refused = _refusal(connection, store.clock.now(), str(rows[0][0]), more, budget)
        if refused is None:
            connection.execute(
                """UPDATE llm_calls SET charged_tokens = charged_tokens + $tokens, cost_usd = cost_usd + $usd
                WHERE call_id = $call""",
                {"tokens": more.tokens, "usd": more.usd, "call": call_id},
            )
        return refused

    refused = store.write(work)
    if refused is not None:
        raise refused


def finish(store: Store, call_id: int, ended: Ended) -> datetime:
    """Record how a question ended and what it cost in the end, and keep its answer; returns when that was."""

    def work(connection: duckdb.DuckDBPyConnection) -> datetime:
        now = store.clock.now()
        rows = connection.execute(
            """UPDATE llm_calls SET outcome = $outcome, attempts = $attempts, seconds = $seconds,
                input_tokens = $input_tokens, output_tokens = $output_tokens, charged_tokens = $tokens,
                cost_usd = $usd, estimated = $estimated, answered_by = $answered_by, error = $error
            WHERE call_id = $call RETURNING content_hash, model""",
            {
                "outcome": ended.outcome, "attempts": ended.attempts, "seconds": ended.seconds,
                "input_tokens": ended.input_tokens, "output_tokens": ended.output_tokens,
                "tokens": ended.charge.tokens, "usd": ended.charge.usd, "estimated": ended.estimated,
                "answered_by": ended.answered_by, "error": ended.error, "call": call_id,
            },
        ).fetchall()  # fmt: skip
        if ended.answer is not None:
            content_hash, model = rows[0]
            connection.execute("DELETE FROM llm_answers WHERE content_hash = $hash", {"hash": content_hash})
            connection.execute(
                "INSERT INTO llm_answers VALUES ($hash, $answer, $model, $now, $call)",
                {
                    "hash": content_hash, "answer": ended.answer, "model": ended.answered_by or model, "now": now,
                    "call": call_id,
                },
            )  # fmt: skip
        return now

    return store.write(work)


def kept(store: Store, content_hash: str) -> Kept | None:
    """The answer to the same question, if it was ever given."""
    with store.read() as reader:
        frame = reader.frame(
            "SELECT answer, model, answered_at FROM llm_answers WHERE content_hash = $hash LIMIT 1",
            declare({"answer": pl.String, "model": pl.String, "answered_at": UTC_TIME}),
            {"hash": content_hash},
        )
    return Kept(*frame.row(0)) if len(frame) else None


@dataclass(frozen=True)
class Record:
    """What the calls of one question came to: the last one's id and how it ended, and what all of them cost."""

    call_id: int
    outcome: Outcome
    error: str | None
    tokens: int
    usd: float


def of_question(store: Store, content_hash: str, since: datetime) -> Record | None:
    """What asking a question came to since a moment; None when it was not asked."""
    with store.read() as reader:
        frame = reader.frame(
            """SELECT max(call_id) AS call_id, arg_max(outcome, call_id) AS outcome,
                arg_max(coalesce(error, ''), call_id) AS error, sum(charged_tokens)::BIGINT AS tokens,
                sum(cost_usd) AS usd
            FROM llm_calls WHERE content_hash = $hash AND asked_at >= $since HAVING count(*) > 0""",
            pl.Schema(
                {
                    "call_id": pl.Int64(), "outcome": pl.String(), "error": pl.String(), "tokens": pl.Int64(),
                    "usd": pl.Float64(),
                }
            ),
            {"hash": content_hash, "since": since},
        )  # fmt: skip
    if frame.is_empty():
        return None
    call_id, outcome, error, tokens, usd = frame.row(0)
    return Record(call_id, outcome, error or None, tokens, usd)


def record_hit(store: Store, question: Question, found: Kept) -> int:
    """Record that a question was answered from the cache, at no cost; returns its id."""
    return store.write(
        lambda connection: _insert(
            connection, question, store.clock.now(), "cached", Charge(0, 0.0), answered_by=found.model
        )
    )


def spent(store: Store, *, run: str | None = None) -> Charge:
    """What is charged to this UTC day, or to one run."""
    with store.read() as reader:
        frame = reader.frame(
            f"SELECT {_SUMS} FROM llm_calls WHERE {'run = $run' if run is not None else _TODAY}",
            pl.Schema({"tokens": pl.Int64(), "usd": pl.Float64()}),
            {"run": run} if run is not None else {"now": store.clock.now()},
        )
    return Charge(*frame.row(0))


def recent(store: Store, limit: int = 50, *, purpose: str | None = None) -> pl.DataFrame:
    """The latest questions, newest first (columns `CALLS`); of one purpose when it is named."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(CALLS.names())} FROM llm_calls WHERE $purpose IS NULL OR purpose = $purpose
            ORDER BY call_id DESC LIMIT $limit""",
            CALLS,
            {"purpose": purpose, "limit": limit},
        )


def use(store: Store, since: datetime) -> pl.DataFrame:
    """What was asked since a moment, by purpose and model (columns `USE`; `seconds` is the mean of what was answered).

    Questions that the budget refused are not counted as asked.
    """
    with store.read() as reader:
        return reader.frame(
            """SELECT purpose, model, count(*) AS calls, count(*) FILTER (outcome = 'answered') AS answered,
                count(*) FILTER (outcome = 'cached') AS cached,
                count(*) FILTER (outcome NOT IN ('answered', 'cached', 'running')) AS failed,
                sum(charged_tokens)::BIGINT AS tokens, sum(cost_usd) AS cost_usd,
                avg(seconds) FILTER (outcome = 'answered') AS seconds, max(asked_at) AS latest
            FROM llm_calls WHERE asked_at >= $since AND outcome <> 'over budget'
            GROUP BY purpose, model ORDER BY cost_usd DESC, calls DESC, purpose, model""",
            USE,
            {"since": since},
        )


def typical(store: Store, purpose: str, model: str, last: int = 200) -> dict[str, Any]:
    """How many tokens the latest answered questions of a purpose read and wrote on average (keys `TYPICAL`)."""
    with store.read() as reader:
        return reader.frame(
            """SELECT count(*) AS calls, avg(input_tokens) AS input_tokens, avg(output_tokens) AS output_tokens FROM (
                SELECT input_tokens, output_tokens FROM llm_calls
                WHERE purpose = $purpose AND model = $model AND outcome = 'answered' AND input_tokens IS NOT NULL
                ORDER BY call_id DESC LIMIT $last)""",
            TYPICAL,
            {"purpose": purpose, "model": model, "last": last},
        ).row(0, named=True)


_SUMS: Final = "coalesce(sum(charged_tokens), 0)::BIGINT AS tokens, coalesce(sum(cost_usd), 0.0) AS usd"
# Days are UTC days whatever time zone the connection shows.
_TODAY: Final = "(asked_at AT TIME ZONE 'UTC')::DATE = ($now::TIMESTAMPTZ AT TIME ZONE 'UTC')::DATE"


def _refusal(
    connection: duckdb.DuckDBPyConnection, now: datetime, run: str, asked: Charge, budget: Budget
) -> BudgetExceeded | None:
    today = _sum(connection, _TODAY, {"now": now})
    if (today + asked).exceeds(budget.day):
        return BudgetExceeded("day", today, asked, budget.day)
    this_run = _sum(connection, "run = $run", {"run": run})
    if (this_run + asked).exceeds(budget.run):
        return BudgetExceeded("run", this_run, asked, budget.run)
    return None


def _sum(connection: duckdb.DuckDBPyConnection, condition: str, params: dict[str, object]) -> Charge:
    tokens, usd = connection.execute(f"SELECT {_SUMS} FROM llm_calls WHERE {condition}", params).fetchall()[0]
    return Charge(int(tokens), float(usd))


def _insert(
    connection: duckdb.DuckDBPyConnection,
    question: Question,
    now: datetime,
    outcome: Outcome,
    charge: Charge,
    *,
    answered_by: str | None = None,
    error: str | None = None,
) -> int:
    rows = connection.execute(
        """INSERT INTO llm_calls BY NAME
        SELECT (SELECT coalesce(max(call_id), 0) + 1 FROM llm_calls) AS call_id, $run AS run, $purpose AS purpose,
            $prompt_version AS prompt_version, $subject AS subject, $api AS api, $model AS model,
            $answered_by AS answered_by, $content_hash AS content_hash, $now AS asked_at, $outcome AS outcome,
            0 AS attempts, $tokens AS charged_tokens, $usd AS cost_usd, false AS estimated, $error AS error
        RETURNING call_id""",
        {
            "run": question.run, "purpose": question.purpose, "prompt_version": question.prompt_version,
            "subject": question.subject, "api": question.api, "model": question.model, "answered_by": answered_by,
            "content_hash": question.content_hash, "now": now, "outcome": outcome, "tokens": charge.tokens,
            "usd": charge.usd, "error": error,
        },
    ).fetchall()  # fmt: skip
    return int(rows[0][0])
