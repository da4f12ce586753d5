"""Samples of what a model answers to a prompt, as free text, with the log-probabilities of its first token.

Asked through the model port: within its budget and recorded like its questions. Each sample has a key of its own and is
kept under it, so that a process that ends in between asks for none twice; asked for under another key, the same prompt
is sent again, since that is what sampling is. A call that fails is not repeated here: the next run goes on.
"""

import hashlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import openai

from pipelines import llm_replies
from pipelines.llm import ModelPort
from pipelines.llm_failures import ModelError, ModelMalformed, ModelRejected, ModelUnavailable
from pipelines.llm_setup import Api, ModelSetup
from store import llm_calls
from store.connection import Store
from store.llm_calls import Charge, Ended, Question

__all__ = ["TOP_TOKENS", "Sample", "draw", "likely", "most"]

TOP_TOKENS: Final = 5  # that every server which lists any lists
_OVERHEAD_TOKENS: Final = 64
_LEAST_RESPONSES_TOKENS: Final = 16  # the API refuses less
_ANSWER_CHARACTERS: Final = 8_000
_LATER: Final = frozenset((401, 403, 408, 409, 425, 429))
# Somewhere on the way nobody waited any longer: the model may have answered all the same.
_PERHAPS_ANSWERED: Final = frozenset((408, 504, 524))


@dataclass(frozen=True)
class Sample:
    """One answer: its text ('' for none), log-probabilities (nats) of the likeliest first tokens where the server
    gives them, its fingerprint and the model as the server names them; `cost_usd` is 0 when it was kept from before.
    """

    text: str
    log_probabilities: dict[str, float] | None
    fingerprint: str | None
    served_by: str | None
    call_id: int
    answered_at: datetime
    cost_usd: float


def most(setup: ModelSetup, prompt: str, output_tokens: int) -> Charge:
    """The most that one sample may cost: no text has more tokens than UTF-8 bytes."""
    return setup.price.charge(len(prompt.encode()) + _OVERHEAD_TOKENS, _limit(setup.api, output_tokens))


def likely(setup: ModelSetup, prompt: str, output_tokens: int) -> Charge:
    """What one sample is likely to cost: short prompts come with few extra tokens, answers use what they may."""
    return setup.price.charge(len(prompt.encode()) // 4 + 16, output_tokens)


def draw(
    store: Store, port: ModelPort, purpose: str, prompt: str, *, key: str, subject: str, output_tokens: int,
    log_probabilities: bool = False,
) -> Sample:  # fmt: skip
    """One sample, of at most `output_tokens` tokens; `key` names it among all samples, `subject` is for the record.

    Raises: `BudgetExceeded` before anything is sent that could cost more than is left; `ModelRejected` when the server
    does not take the question, `ModelError` otherwise; `StoreError`.
    """
    setup = port.setup
    question = Question(
        run=port.run, purpose=purpose, prompt_version="", subject=subject, api=setup.api, model=setup.model,
        content_hash=_hash(setup, purpose, prompt, key, output_tokens, log_probabilities),
    )  # fmt: skip
    found = llm_calls.kept(store, question.content_hash)
    if found is not None:
        call_id = llm_calls.record_hit(store, question, found)
        return Sample(**json.loads(found.answer), call_id=call_id, answered_at=found.answered_at, cost_usd=0.0)
    reserved = most(setup, prompt, output_tokens)
    call_id = llm_calls.begin(store, question, reserved, setup.budget)
    began = time.monotonic()
    # Until it is known otherwise, what was sent may be billed.
    ended = Ended("interrupted", 1, 0.0, reserved, estimated=True)
    try:
        document = _sent(port, _body(setup, prompt, output_tokens, log_probabilities))
        reply = llm_replies.read(setup.api, document)
        if reply.failure is not None:
            raise ModelUnavailable(f"{port.server} failed: {port.clean(reply.failure)}.")
        said = {
            "text": _storable(port.hidden(reply.text or reply.refusal or ""))[:_ANSWER_CHARACTERS],
            "log_probabilities": _first_token(setup.api, document) if log_probabilities else None,
            "fingerprint": _text(document.get("system_fingerprint")), "served_by": reply.model,
        }  # fmt: skip
        read, written = reply.input_tokens, reply.output_tokens
        known = read is not None and written is not None
        charge = setup.price.charge(read or 0, written or 0) if known else reserved
        ended = Ended(
            "answered", 1, time.monotonic() - began, charge, estimated=not known, input_tokens=read,
            output_tokens=written, answered_by=reply.model, answer=json.dumps(said),
        )  # fmt: skip
    except _Failed as failed:
        charge = reserved if failed.charged else Charge(0, 0.0)
        ended = Ended(
            failed.error.outcome, 1, time.monotonic() - began, charge, estimated=failed.charged, error=str(failed.error)
        )
        raise failed.error from None
    except ModelError as error:
        ended = Ended(error.outcome, 1, time.monotonic() - began, reserved, estimated=True, error=str(error))
        raise
    finally:
        moment = llm_calls.finish(store, call_id, ended)
    return Sample(**said, call_id=call_id, answered_at=moment, cost_usd=ended.charge.usd)  # type: ignore[arg-type]


class _Failed(Exception):
    """A call without an answer; `charged` says that it may be billed all the same."""

    def __init__(self, error: ModelError, *, charged: bool) -> None:
        self.error, self.charged = error, charged
        super().__init__(str(error))


def _limit(api: Api, output_tokens: int) -> int:
    return max(output_tokens, _LEAST_RESPONSES_TOKENS) if api == "responses" else output_tokens


def _body(setup: ModelSetup, prompt: str, output_tokens: int, log_probabilities: bool) -> dict[str, Any]:
    """The request. Neither temperature nor seed is set: what is sampled is what the server does by itself."""
    turns = [{"role": "user", "content": prompt}]
    if setup.api == "responses":
        listed = {"include": ["message.output_text.logprobs"], "top_logprobs": TOP_TOKENS}
        return {
            "model": setup.model, "input": turns, "max_output_tokens": _limit(setup.api, output_tokens),
            "store": False, **(listed if log_probabilities else {}),
        }  # fmt: skip
    listed = {"logprobs": True, "top_logprobs": TOP_TOKENS}
    return {
        "model": setup.model, "messages": turns, "max_completion_tokens": output_tokens,
        **(listed if log_probabilities else {}),
    }  # fmt: skip


def _sent(port: ModelPort, body: Any) -> dict[str, Any]:
    """The document of a successful answer. Raises: `_Failed`."""
    try:
        if port.setup.api == "responses":
            content = port.client.responses.with_raw_response.create(**body).http_response.content
        else:
            content = port.client.chat.completions.with_raw_response.create(**body).http_response.content
        document = json.loads(content)
    except openai.APIStatusError as error:
        status = error.status_code
        said = f"{port.server} answered {status}: {port.clean(error.message)}"
        later = status in _LATER or status >= 500
        failed = ModelUnavailable(said) if later else ModelRejected(said)
        raise _Failed(failed, charged=status in _PERHAPS_ANSWERED) from None
    except (openai.OpenAIError, ValueError, RecursionError) as error:
        said = f"{port.server} could not be asked ({port.clean(str(error))})."
        raise _Failed(ModelUnavailable(said), charged=True) from None
    if not isinstance(document, dict):
        raise _Failed(ModelMalformed(f"{port.server} answered no JSON object."), charged=True)
    return document


def _first_token(api: Api, document: Mapping[str, Any]) -> dict[str, float] | None:
    """The likeliest first tokens with their log-probabilities, read without trusting the shape; None for none."""
    if api == "chat":
        choice = _first(document.get("choices"))
        listed = _first(_dict(choice.get("logprobs")).get("content"))
    else:
        messages = document.get("output")
        spoken = (
            [each for each in messages if _dict(each).get("type") == "message"] if isinstance(messages, list) else []
        )
        listed = _first(_first(_first(spoken).get("content")).get("logprobs"))
    entries = listed.get("top_logprobs")
    found: dict[str, float] = {}
    for entry in entries if isinstance(entries, list) and entries else [listed]:
        token, value = _dict(entry).get("token"), _dict(entry).get("logprob")
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if isinstance(token, str) and number and len(found) < 2 * TOP_TOKENS:
            found.setdefault(_storable(token)[:100], float(str(value)))
    return found or None


def _first(value: Any) -> dict[str, Any]:
    return _dict(value[0]) if isinstance(value, list) and value else {}


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _storable(text: str) -> str:
    """Half a surrogate pair is JSON and no text: nothing could keep it."""
    return text.encode("utf-8", "replace").decode()


def _text(value: Any) -> str | None:
    return _storable(value)[:200] if isinstance(value, str) and value else None


def _hash(setup: ModelSetup, purpose: str, prompt: str, key: str, output_tokens: int, log_probabilities: bool) -> str:
    decides = [purpose, setup.base_url, setup.api, setup.model, prompt, key, output_tokens, log_probabilities]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()
