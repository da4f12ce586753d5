"""Questions to the model in one batch: a file is uploaded, the server answers it within a day, a later run reads it.

What the answers cost is reserved when the batch is prepared. Before each request that could have an effect on the
server the store says that it is about to be made, and a batch bears a random key there (in the name of its file and in
its metadata). A process that finds a step begun and not ended looks on the server for that key instead of asking again.

Answers are kept as those of single questions are (`store.llm_calls.kept`), under the same hash.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any, Final, cast

from pipelines import llm_requests
from pipelines.llm import Message, ModelPort
from pipelines.llm_batch_answers import by_custom_id, settled, without
from pipelines.llm_desk import Desk
from pipelines.llm_failures import ModelRejected, ModelUnavailable
from pipelines.llm_schema import Schema
from pipelines.llm_setup import Api, Price
from store import llm_batches, llm_calls
from store.connection import Store
from store.llm_batches import Line, State
from store.llm_calls import BudgetExceeded, Charge, Question

__all__ = ["BatchQuestion", "Batches", "Followed", "Submitted"]

_KEY: Final = "trimtab_batch"
_WINDOW: Final = "24h"
_UNSETTLED: Final = timedelta(minutes=10)
"""So long after a request of which nothing was heard, the server may still be about to show what it made of it."""
_GIVEN_UP: Final = timedelta(days=3)
_ENDS: Final[Mapping[str, State]] = {
    "completed": "completed", "failed": "failed", "expired": "expired", "cancelled": "cancelled"
}  # fmt: skip


@dataclass(frozen=True)
class BatchQuestion:
    """One question; see `ModelPort.complete`."""

    messages: Sequence[Message]
    schema: Schema
    prompt_version: str = ""
    subject: str | None = None


@dataclass(frozen=True)
class Submitted:
    """A batch on its way: the calls of the first questions, and why the others are not in it."""

    batch_no: int | None
    call_ids: tuple[int, ...]
    refused: BudgetExceeded | None
    message: str | None


@dataclass(frozen=True)
class Followed:
    """How a batch is: `state` of `store.llm_batches`, what is to be said about it, and how many answers came."""

    batch_no: int
    state: State
    message: str | None
    answered: int


class Batches:
    """The batches of one purpose, asked through an open port. `share` of the model's price is what they cost."""

    def __init__(self, store: Store, port: ModelPort, purpose: str, share: float) -> None:
        self._store = store
        self._port = port
        self._purpose = purpose
        self._desk = Desk(port, "a batch", "It may not offer batches: see TRIMTAB_MODEL_BATCHES.")
        price = port.setup.price
        self._setup = replace(port.setup, price=Price(price.input_usd * share, price.output_usd * share))

    def submit(self, questions: Sequence[BatchQuestion]) -> Submitted:
        """Reserve, keep and send the questions as one batch, as many of the first as the budget allows.

        A failure on the way to the server is told in the message; `follow` goes on from there.
        """
        setup, key = self._setup, secrets.token_hex(12)
        lines = []
        for number, each in enumerate(questions):
            custom_id = f"{key}-{number}"
            request = {
                "custom_id": custom_id, "method": "POST", "url": llm_requests.ENDPOINTS[setup.api],
                "body": llm_requests.body(setup, self._purpose, each.messages, each.schema),
            }  # fmt: skip
            question = Question(
                run=self._port.run, purpose=self._purpose, prompt_version=each.prompt_version, subject=each.subject,
                api=setup.api, model=setup.model,
                content_hash=llm_requests.content_hash(
                    setup, self._purpose, each.prompt_version, each.messages, each.schema
                ),
            )  # fmt: skip
            most = setup.most(llm_requests.stated(each.messages, each.schema))
            lines.append(Line(question, custom_id, json.dumps(request), each.schema, most))
        prepared = llm_batches.prepare(
            self._store, lines, setup.budget, purpose=self._purpose, batch_key=key, api=setup.api, model=setup.model,
            address=setup.base_url, prices=(setup.price.input_usd, setup.price.output_usd),
        )  # fmt: skip
        message = None
        if prepared.batch_no is not None:
            (followed,) = [one for one in self.follow() if one.batch_no == prepared.batch_no]
            message = followed.message
        return Submitted(prepared.batch_no, prepared.call_ids, prepared.refused, message)

    def follow(self) -> list[Followed]:
        """Take every open batch as far as it goes now; the answers of those that have ended are kept."""
        return [self._take(row) for row in llm_batches.open_batches(self._store, self._purpose).to_dicts()]

    def _take(self, row: dict[str, Any]) -> Followed:
        """Take one batch further until it ends, waits for the server, or fails."""
        number = int(row["batch_no"])
        if row["address"] != self._setup.base_url:
            message = f"It was sent to {row['address']}, and the model is now asked at {self._setup.base_url}."
            return self._waits(row, row["state"], message)
        try:
            while row["state"] != "running":
                advanced = self._send(row)
                if not advanced:
                    return self._waits(row, row["state"], "Whether the server made a batch of it is not known yet.")
                row = self._row(number)
            return self._look(row)
        except ModelRejected as error:
            # A request that was taken before and cannot be looked for may still be answered and billed.
            uncertain = row["state"] in ("creating", "running")
            return self._fail(row, "failed", str(error), charged=uncertain)
        except ModelUnavailable as error:
            return self._waits(self._row(number), None, str(error))

    def _send(self, row: dict[str, Any]) -> bool:
        """The next step towards the server. False when it must wait. Raises: `ModelRejected`, `ModelUnavailable`."""
        number, name = int(row["batch_no"]), f"trimtab-{row['batch_key']}.jsonl"
        if row["state"] in ("prepared", "uploading"):
            file_id = self._desk.find_file(name, "batch") if row["state"] == "uploading" else None
            if file_id is None:
                llm_batches.step(self._store, number, "uploading")
                file_id = self._desk.upload(name, str(row["content"]), "batch")
            llm_batches.step(self._store, number, "uploaded", input_file_id=file_id)
            return True
        server_id = None
        if row["state"] == "creating":
            server_id = self._find_batch(row)
            if server_id is None and self._store.clock.now() - row["stepped_at"] < _UNSETTLED:
                return False
        if server_id is None:
            # Said anew, so that the time in which the server may still show it counts from this request.
            llm_batches.step(self._store, number, "uploaded")
            llm_batches.step(self._store, number, "creating")
            batch = self._desk.call(
                lambda: self._port.client.batches.create(
                    completion_window=cast(Any, _WINDOW), endpoint=llm_requests.ENDPOINTS[cast(Api, row["api"])],
                    input_file_id=row["input_file_id"], metadata={_KEY: row["batch_key"]},
                )
            )  # fmt: skip
            server_id = self._desk.named(batch, "batch")
        llm_batches.step(self._store, number, "running", server_id=server_id)
        return True

    def _find_batch(self, row: Mapping[str, Any]) -> str | None:
        """The id of the batch that the server made of this one's file."""
        for batch in self._desk.listed(lambda: self._port.client.batches.list(limit=100)):
            marked = (getattr(batch, "metadata", None) or {}).get(_KEY) == row["batch_key"]
            if marked or getattr(batch, "input_file_id", None) == row["input_file_id"]:
                return str(batch.id)
        return None

    def _look(self, row: dict[str, Any]) -> Followed:
        """Ask how a batch is, and read it when it has ended. Raises: `ModelRejected`, `ModelUnavailable`."""
        batch = self._desk.call(lambda: self._port.client.batches.retrieve(row["server_id"]))
        if self._desk.named(batch, "batch") != row["server_id"]:
            raise ModelUnavailable(f"{self._port.server} answered another batch.")
        said = str(batch.status)
        end = _ENDS.get(said)
        if end is None:
            llm_batches.step(self._store, row["batch_no"], "running", server_state=said, looked=True)
            return Followed(row["batch_no"], "running", None, 0)
        if end == "failed":
            faults = getattr(batch.errors, "data", None) or []
            detail = "; ".join(str(getattr(fault, "message", fault)) for fault in faults) or "it gave no reason"
            return self._fail(row, "failed", f"The server could not take the batch: {self._port.clean(detail)}")
        found: dict[str, dict[str, Any]] = {}
        files = [str(file_id) for file_id in (batch.error_file_id, batch.output_file_id) if file_id]
        for file_id in files:
            found |= by_custom_id(self._desk.call(partial(self._port.client.files.content, file_id)).content)
        followed = self._read(row, end, found)
        self._desk.remove(row["input_file_id"], *files)
        return followed

    def _read(self, row: dict[str, Any], end: State, found: Mapping[str, Mapping[str, Any]]) -> Followed:
        """Keep what the lines of the answer files say of every open question."""
        answered, others = 0, 0
        for question in llm_batches.questions(self._store, row["batch_no"]).to_dicts():
            if question["outcome"] == "running":
                ended = settled(self._port, row, end, question, found.get(question["custom_id"]))
                llm_calls.finish(self._store, question["call_id"], ended)
                answered += ended.outcome == "answered"
                others += ended.outcome != "answered"
            else:
                answered += question["outcome"] == "answered"
        message = f"{answered:,} of {answered + others:,} questions answered" if end == "completed" else None
        message = message or f"The batch has {end}; {answered:,} of {answered + others:,} questions were answered"
        llm_batches.step(self._store, row["batch_no"], end, server_state=end, message=f"{message}.", looked=True)
        return Followed(row["batch_no"], end, f"{message}.", answered)

    def _fail(self, row: dict[str, Any], end: State, message: str, *, charged: bool = False) -> Followed:
        """End a batch that brings nothing; what may have been answered all the same stays charged."""
        for question in llm_batches.questions(self._store, row["batch_no"]).to_dicts():
            if question["outcome"] == "running":
                charge = Charge(question["charged_tokens"], question["cost_usd"]) if charged else Charge(0, 0.0)
                ended = without("interrupted" if charged else "rejected", message, charge, estimated=charged)
                llm_calls.finish(self._store, question["call_id"], ended)
        llm_batches.step(self._store, row["batch_no"], end, message=message, looked=True)
        return Followed(row["batch_no"], end, message, 0)

    def _waits(self, row: dict[str, Any], state: State | None, message: str) -> Followed:
        """Leave a batch as it is, and say why; one that has waited for days is given up."""
        now: State = state or row["state"]
        if self._store.clock.now() - row["created_at"] > _GIVEN_UP:
            return self._fail(row, "failed", f"Given up after three days. {message}", charged=now != "prepared")
        llm_batches.step(self._store, row["batch_no"], now, message=message)
        return Followed(row["batch_no"], now, message, 0)

    def _row(self, number: int) -> dict[str, Any]:
        rows = llm_batches.open_batches(self._store, self._purpose).to_dicts()
        return next(row for row in rows if row["batch_no"] == number)
