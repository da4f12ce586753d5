"""Fine-tuning jobs: proposed by one person, approved by another's word, sent once, followed until they end.

    proposed -> approved -> uploading -> uploaded -> creating -> running -> succeeded, failed or cancelled
    proposed -> declined

Every step towards the server is written down before it is taken (as in `store.llm_batches`), so that after a process
has ended anywhere it is known what may have been sent. What a job is estimated to cost is taken from the model's daily
budget of money with the approval, and becomes what the server says was trained when it has ended.
"""

import secrets
from collections.abc import Mapping
from typing import Any, Final, Literal

import duckdb
import polars as pl

from store import audit, lesson_rules, llm_calls, meta
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.frames import UTC_TIME, declare
from store.llm_calls import Budget, BudgetExceeded, Charge, Ended, Outcome, Question

__all__ = [
    "OPEN", "ROWS", "Method", "State", "approve", "decline", "end", "listed", "on_their_way", "one", "propose", "step",
]  # fmt: skip

Method = Literal["supervised", "dpo"]
State = Literal[
    "proposed", "declined", "approved", "uploading", "uploaded", "creating", "running", "succeeded", "failed",
    "cancelled",
]  # fmt: skip
OPEN: Final = ("approved", "uploading", "uploaded", "creating", "running")
PURPOSE: Final = "fine-tuning"
_OUTCOMES: Final[Mapping[str, Outcome]] = {"succeeded": "answered", "cancelled": "interrupted"}

ROWS = declare(
    {
        "tuning_id": pl.Int64, "export_id": pl.Int64, "agent": pl.String, "method": pl.String, "model": pl.String,
        "epochs": pl.Int32, "tuning_key": pl.String, "tokens": pl.Int64, "usd_per_million": pl.Float64,
        "usd": pl.Float64, "state": pl.String, "server_state": pl.String, "address": pl.String, "call_id": pl.Int64,
        "training_file_id": pl.String, "validation_file_id": pl.String, "server_id": pl.String,
        "tuned_model": pl.String, "trained_tokens": pl.Int64, "message": pl.String, "proposed_by": pl.String,
        "proposed_at": UTC_TIME, "decided_by": pl.String, "decided_at": UTC_TIME, "stepped_at": UTC_TIME,
        "looked_at": UTC_TIME, "ended_at": UTC_TIME,
    }
)  # fmt: skip


def propose(
    store: Store,
    export_id: int,
    agent: str,
    *,
    method: Method,
    model: str,
    epochs: int,
    tokens: int,
    usd_per_million: float,
    by: str,
) -> int:
    """Propose to train `model` on an export; returns the proposal's number. Nothing is sent.

    Raises: `ActionRefused` without a person's name, and while the same is proposed or on its way.
    """
    audit.person("Propose", by)

    def work(connection: duckdb.DuckDBPyConnection) -> int:
        now = store.clock.now()
        same = {"export": export_id, "method": method, "model": model}
        if connection.execute(
            f"""SELECT 1 FROM fine_tunings WHERE export_id = $export AND method = $method AND model = $model
            AND state IN {("proposed", *OPEN, "succeeded")}""",
            same,
        ).fetchall():
            raise ActionRefused(
                "Propose", f"{model} on export {export_id} is proposed, on its way or done already.",
                "Follow that one, or make another export.",
            )  # fmt: skip
        rows = connection.execute(
            """INSERT INTO fine_tunings BY NAME
            SELECT (SELECT coalesce(max(tuning_id), 0) + 1 FROM fine_tunings) AS tuning_id, $export AS export_id,
                $agent AS agent, $method AS method, $model AS model, $epochs AS epochs, $key AS tuning_key,
                $tokens AS tokens, $price AS usd_per_million, $tokens * $price / 1e6 AS usd, 'proposed' AS state,
                $by AS proposed_by, $now AS proposed_at, $now AS stepped_at
            RETURNING tuning_id""",
            {
                **same, "agent": agent, "epochs": epochs, "key": secrets.token_hex(12), "tokens": tokens,
                "price": usd_per_million, "by": by, "now": now,
            },
        ).fetchall()  # fmt: skip
        tuning_id = int(rows[0][0])
        detail = {**same, "epochs": epochs, "tokens": tokens, "usd": tokens * usd_per_million / 1e6}
        audit.append(connection, now, by, "fine-tuning propose", f"fine-tuning {tuning_id}", detail)
        meta.bump(connection)
        return tuning_id

    return store.write(work)


def approve(store: Store, tuning_id: int, *, operator: str, budget: Budget, address: str) -> None:
    """Allow a proposed job to be sent to the server at `address`, and take its cost from the day's budget.

    Raises: `NotFound`; `ActionRefused` in another state, for no person, and for the proposer where two persons have to
    approve; `BudgetExceeded`.
    """

    def work(connection: duckdb.DuckDBPyConnection) -> BudgetExceeded | None:
        now = store.clock.now()
        row = _proposed(connection, "Approve", tuning_id, operator)
        if row["proposed_by"] == operator and lesson_rules.two_person(connection, row["agent"]):
            raise ActionRefused("Approve", "you proposed it, and two persons have to agree.", "Ask another operator.")
        question = Question(
            run=row["tuning_key"], purpose=PURPOSE, prompt_version=row["method"], subject=f"fine-tuning {tuning_id}",
            api="fine_tuning", model=row["model"], content_hash=row["tuning_key"],
        )  # fmt: skip
        # Trained tokens are no tokens read or written: only their price counts, and no run of a job asks for them.
        held = llm_calls.reserve(connection, now, question, Charge(0, row["usd"]), Budget(budget.day, budget.day))
        if isinstance(held, BudgetExceeded):
            return held
        connection.execute(
            """UPDATE fine_tunings SET state = 'approved', call_id = $call, address = $address, decided_by = $operator,
                decided_at = $now, stepped_at = $now, message = NULL WHERE tuning_id = $tuning""",
            {"call": held, "address": address, "operator": operator, "now": now, "tuning": tuning_id},
        )
        detail = {"model": row["model"], "usd": row["usd"], "tokens": row["tokens"], "address": address}
        audit.append(connection, now, operator, "fine-tuning approve", f"fine-tuning {tuning_id}", detail)
        meta.bump(connection)
        return None

    refused = store.write(work)
    if refused is not None:
        raise refused


def decline(store: Store, tuning_id: int, *, operator: str, reason: str) -> None:
    """Turn a proposed job down. Raises: as `approve`, and `ActionRefused` without a reason."""
    if not reason.strip():
        raise ActionRefused("Decline", "no reason was given.", "Write why, so that nobody has to ask again.")

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now = store.clock.now()
        _proposed(connection, "Decline", tuning_id, operator)
        connection.execute(
            """UPDATE fine_tunings SET state = 'declined', decided_by = $operator, decided_at = $now, stepped_at = $now,
                ended_at = $now, message = $reason WHERE tuning_id = $tuning""",
            {"operator": operator, "now": now, "reason": reason.strip(), "tuning": tuning_id},
        )
        detail = {"reason": reason.strip()}
        audit.append(connection, now, operator, "fine-tuning decline", f"fine-tuning {tuning_id}", detail)
        meta.bump(connection)

    store.write(work)


def step(
    store: Store,
    tuning_id: int,
    state: State,
    *,
    server_state: str | None = None,
    training_file_id: str | None = None,
    validation_file_id: str | None = None,
    server_id: str | None = None,
    message: str | None = None,
    looked: bool = False,
) -> None:
    """Record how far a job is; ids that are None stay as they were, `message` does not."""

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute(
            """UPDATE fine_tunings SET stepped_at = if(state = $state, stepped_at, $now), state = $state,
                server_state = coalesce($server_state, server_state),
                training_file_id = coalesce($training, training_file_id),
                validation_file_id = coalesce($validation, validation_file_id),
                server_id = coalesce($server, server_id), message = $message,
                looked_at = if($looked, $now, looked_at)
            WHERE tuning_id = $tuning""",
            {
                "state": state, "server_state": server_state, "training": training_file_id,
                "validation": validation_file_id, "server": server_id, "message": message, "looked": looked,
                "tuning": tuning_id, "now": store.clock.now(),
            },
        )  # fmt: skip
        meta.bump(connection)

    store.write(work)


def end(
    store: Store,
    tuning_id: int,
    state: Literal["succeeded", "failed", "cancelled"],
    message: str,
    *,
    usd: float,
    estimated: bool,
    tuned_model: str | None = None,
    trained_tokens: int | None = None,
) -> None:
    """Close a job with what it cost in the end; `estimated` when the server did not say."""
    row = one(store, tuning_id)
    if row["call_id"] is not None:
        ended = Ended(
            outcome=_OUTCOMES.get(state, "rejected"), attempts=1, seconds=0.0, charge=Charge(0, usd),
            estimated=estimated, answered_by=tuned_model, error=None if state == "succeeded" else message,
        )  # fmt: skip
        llm_calls.finish(store, row["call_id"], ended)

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now = store.clock.now()
        connection.execute(
            """UPDATE fine_tunings SET state = $state, stepped_at = $now, ended_at = $now, looked_at = $now,
                message = $message, usd = $usd, tuned_model = $model, trained_tokens = $tokens
            WHERE tuning_id = $tuning""",
            {
                "state": state, "now": now, "message": message, "usd": usd, "model": tuned_model,
                "tokens": trained_tokens, "tuning": tuning_id,
            },
        )  # fmt: skip
        detail = {"state": state, "message": message, "usd": usd, "model": tuned_model}
        audit.append(connection, now, audit.SYSTEM, "fine-tuning end", f"fine-tuning {tuning_id}", detail)
        meta.bump(connection)

    store.write(work)


def one(store: Store, tuning_id: int) -> dict[str, Any]:
    """One job as a dictionary of the columns ROWS. Raises: `NotFound`."""
    frame = _listed(store, "tuning_id = $tuning", {"tuning": tuning_id}, "tuning_id")
    if frame.is_empty():
        raise NotFound("fine-tuning", str(tuning_id))
    return frame.row(0, named=True)


def on_their_way(store: Store) -> pl.DataFrame:
    """Approved jobs that have not ended, oldest first (columns ROWS)."""
    return _listed(store, f"state IN {OPEN}", {}, "tuning_id")


def listed(store: Store, limit: int = 50) -> pl.DataFrame:
    """The latest jobs, newest first (columns ROWS)."""
    return _listed(store, "true", {"limit": limit}, "tuning_id DESC LIMIT $limit")


def _listed(store: Store, where: str, params: Mapping[str, object], order: str) -> pl.DataFrame:
    with store.read() as reader:
        return reader.frame(
            f"SELECT {', '.join(ROWS)} FROM fine_tunings WHERE {where} ORDER BY {order}", ROWS, dict(params)
        )


def _proposed(connection: duckdb.DuckDBPyConnection, action: str, tuning_id: int, operator: str) -> dict[str, Any]:
    """The proposal that `operator` may decide on. Raises: `NotFound`, `ActionRefused`."""
    audit.person(action, operator)
    names = ("state", "agent", "method", "model", "tuning_key", "tokens", "usd", "proposed_by")
    rows = connection.execute(
        f"SELECT {', '.join(names)} FROM fine_tunings WHERE tuning_id = $tuning", {"tuning": tuning_id}
    ).fetchall()
    if not rows:
        raise NotFound("fine-tuning", str(tuning_id))
    row = dict(zip(names, rows[0], strict=True))
    if row["state"] != "proposed":
        raise ActionRefused(action, f"fine-tuning {tuning_id} is {row['state']} already.", "Reload to see how it is.")
    return row
