"""What the answer files of a batch say of its questions, read without trusting their shape."""

import json
from collections.abc import Mapping
from typing import Any, cast

from pipelines import llm_replies
from pipelines.llm import ModelPort
from pipelines.llm_failures import ModelError
from pipelines.llm_schema import Schema
from pipelines.llm_setup import Api, Price
from store.llm_batches import State
from store.llm_calls import Charge, Ended, Outcome

__all__ = ["by_custom_id", "settled", "without"]


def settled(
    port: ModelPort,
    batch: Mapping[str, Any],
    end: State,
    question: Mapping[str, Any],
    line: Mapping[str, Any] | None,
) -> Ended:
    """How one question ended.

    Args: `batch` of columns `store.llm_batches.BATCHES`, which has ended as `end`; `question` of columns QUESTIONS;
    `line` of an answer file that bears its id, None when there is none.
    """
    reserved = Charge(question["charged_tokens"], question["cost_usd"])
    if line is None:
        lost = end == "completed"
        said = "holds no line of it" if lost else f"{end} before it was answered"
        return without("unavailable", f"The batch {said}.", reserved if lost else Charge(0, 0.0), estimated=lost)
    response = line.get("response")
    status = response.get("status_code") if isinstance(response, dict) else None
    document = response.get("body") if isinstance(response, dict) else None
    if status != 200 or not isinstance(document, dict):
        fault = line.get("error") or document
        fault = fault.get("error", fault) if isinstance(fault, dict) else fault
        detail = fault.get("message", fault.get("code")) if isinstance(fault, dict) else fault
        said = f"In the batch, {port.server} answered {status or 'nothing'}: {port.clean(str(detail))}"
        return without("unavailable", said, Charge(0, 0.0))
    reply = llm_replies.read(cast(Api, batch["api"]), document)
    read, written = reply.input_tokens, reply.output_tokens
    counted = read is not None and written is not None
    price = Price(batch["input_usd"], batch["output_usd"])
    charge = price.charge(read or 0, written or 0) if counted else reserved
    schema: Schema = json.loads(question["schema"])
    try:
        value = port.settled(reply, schema)
    except ModelError as error:
        return without(error.outcome, str(error), charge, estimated=not counted, tokens=(read, written))
    return Ended(
        outcome="answered", attempts=1, seconds=0.0, charge=charge, estimated=not counted, input_tokens=read,
        output_tokens=written, answered_by=reply.model or str(batch["model"]),
        answer=json.dumps(value, ensure_ascii=False),
    )  # fmt: skip


def without(
    outcome: Outcome,
    error: str,
    charge: Charge,
    *,
    estimated: bool = False,
    tokens: tuple[int | None, int | None] = (None, None),
) -> Ended:
    """The end of a question that brought no answer."""
    return Ended(
        outcome=outcome, attempts=1, seconds=0.0, charge=charge, estimated=estimated, input_tokens=tokens[0],
        output_tokens=tokens[1], error=error,
    )  # fmt: skip


def by_custom_id(content: bytes) -> dict[str, dict[str, Any]]:
    """The lines of a file of answers by the id of their question; what is no such line is left out."""
    found: dict[str, dict[str, Any]] = {}
    for text in content.decode("utf-8", "replace").split("\n"):
        try:
            line = json.loads(text) if text.strip() else None
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict) and isinstance(line.get("custom_id"), str):
            found[line["custom_id"]] = line
    return found
