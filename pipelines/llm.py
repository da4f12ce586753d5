"""The one way to the language model: asked in either of OpenAI's APIs, held to a schema, within a budget.

Nothing else imports `openai`. What is asked is text and a schema, whatever it is for; a question that was answered once
is answered from the store, and every question is recorded with what it cost (`store.llm_calls`). The key comes from the
environment and appears in no record, message or log.

Not every failure is free: a question that timed out may have been answered and billed, so it stays charged with the
most it can have cost. A server that answered with an error status did not answer the question, and is not paid for it.
"""

import json
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NoReturn, Self

import httpx2
import numpy as np
import openai

from pipelines import llm_replies, llm_requests
from pipelines.llm_failures import (
    AttemptFailed,
    ModelError,
    ModelMalformed,
    ModelRefused,
    ModelRejected,
    ModelTruncated,
    ModelUnavailable,
    retry_after,
)
from pipelines.llm_replies import NotAsAsked, Reply
from pipelines.llm_requests import Message
from pipelines.llm_schema import Schema
from pipelines.llm_setup import ModelSetup, key, setup
from store import llm_calls
from store.connection import Store
from store.errors import TrimtabError
from store.llm_calls import BudgetExceeded, Charge, Ended, Outcome, Question
from store.settings import Settings

__all__ = [
    "Answer", "BudgetExceeded", "Message", "ModelError", "ModelMalformed", "ModelPort", "ModelRefused",
    "ModelRejected", "ModelTruncated", "ModelUnavailable", "connect",
]  # fmt: skip

_FIRST_WAIT: Final = 1.0
_LONGEST_WAIT: Final = 120.0
_RETRIED: Final = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 524))
# Somewhere on the way nobody waited any longer: the model may have answered all the same.
_PERHAPS_ANSWERED: Final = frozenset((408, 504, 524))
_NEVER_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
_MALFORMED_ATTEMPTS: Final = 2
_EXCERPT: Final = 300
_HIDDEN: Final = "[secret]"


@dataclass(frozen=True)
class Answer:
    """An object that fits the schema; `cost_usd` is 0 when it came from the cache. `answered_at` is when it was new."""

    value: dict[str, Any]
    model: str
    cached: bool
    call_id: int
    answered_at: datetime
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float


@dataclass
class _Account:
    """What a question has reserved, and what its ended attempts cost."""

    reserved: Charge
    ended: Charge = field(default_factory=lambda: Charge(0, 0.0))
    estimated: bool = False
    attempts: int = 0
    malformed: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None


def connect(
    store: Store,
    settings: Settings,
    *,
    environ: Mapping[str, str] | None = None,
    wait: Callable[[float], None] = time.sleep,
    random: np.random.Generator | None = None,
) -> "ModelPort | None":
    """The configured model as one run uses it; None when there is none. Close it after use, or use it as a context.

    Args: `environ` holds the key; `wait` sleeps between attempts (and may raise to end them); `random` spreads them.
    Raises: `SettingsError` for a model without price or key.
    """
    chosen = setup(settings)
    if chosen is None:
        return None
    secret = key(chosen, os.environ if environ is None else environ)
    return ModelPort(store, chosen, secret, wait=wait, random=random or np.random.default_rng(0))


class ModelPort:
    """Asks the model. One port is one run: the budget of a run is that of a port. Safe to use from several threads."""

    def __init__(
        self,
        store: Store,
        setup: ModelSetup,
        secret: str | None,
        *,
        wait: Callable[[float], None],
        random: np.random.Generator,
    ) -> None:
        self.setup = setup
        self.run = secrets.token_hex(8)
        self._store = store
        self._secret = secret
        self._wait = wait
        self._random = random
        # A redirect would take the question, and perhaps the key, to a place that nobody chose.
        self._http = httpx2.Client(timeout=httpx2.Timeout(setup.timeout_seconds), follow_redirects=False)
        self.client = openai.OpenAI(
            base_url=setup.base_url,
            api_key=secret or "none",
            timeout=httpx2.Timeout(setup.timeout_seconds),
            max_retries=0,
            http_client=self._http,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the connections go."""
        self.client.close()

    def complete(
        self,
        purpose: str,
        messages: Sequence[Message],
        schema: Schema,
        *,
        prompt_version: str = "",
        subject: str | None = None,
    ) -> Answer:
        """The model's answer: a JSON object that fits `schema` (a strict one, see `llm_schema`).

        Args: `purpose` a short word for the record, `prompt_version` the prompt's file and version, `subject` what it
        is about, such as a trace id.
        Raises: `BudgetExceeded` before anything is sent that could cost more than is left; `ModelRefused`,
        `ModelMalformed`, `ModelTruncated`: the next question may fare better; `ModelRejected`, `ModelUnavailable`: it
        will not; `StoreError`.
        """
        question = Question(
            run=self.run, purpose=purpose, prompt_version=prompt_version, subject=subject, api=self.setup.api,
            model=self.setup.model,
            content_hash=self.content_hash(purpose, messages, schema, prompt_version=prompt_version),
        )  # fmt: skip
        found = llm_calls.kept(self._store, question.content_hash)
        if found is not None:
            call_id = llm_calls.record_hit(self._store, question, found)
            return Answer(json.loads(found.answer), found.model, True, call_id, found.answered_at, None, None, 0.0)
        most = self.setup.most(llm_requests.stated(messages, schema))
        call_id = llm_calls.begin(self._store, question, most, self.setup.budget)
        account = _Account(reserved=most)
        began = time.monotonic()
        try:
            value, reply = self._ask(call_id, purpose, messages, schema, account, most)
        except TrimtabError as error:
            outcome = error.outcome if isinstance(error, ModelError) else "unavailable"
            self._end(call_id, account, began, outcome, error=str(error))
            raise
        except BaseException:
            account.ended, account.estimated = account.reserved, True
            self._end(call_id, account, began, "interrupted")
            raise
        model = reply.model or self.setup.model
        answer = json.dumps(value, ensure_ascii=False)
        moment = self._end(call_id, account, began, "answered", answer=answer, answered_by=model)
        return Answer(
            value, model, False, call_id, moment, account.input_tokens, account.output_tokens, account.ended.usd
        )

    def content_hash(
        self, purpose: str, messages: Sequence[Message], schema: Schema, *, prompt_version: str = ""
    ) -> str:
        """By what the answer to this question is kept (`store.llm_calls.kept`); arguments as `complete`."""
        return llm_requests.content_hash(self.setup, purpose, prompt_version, messages, schema)

    def _end(
        self,
        call_id: int,
        account: _Account,
        began: float,
        outcome: Outcome,
        *,
        answer: str | None = None,
        answered_by: str | None = None,
        error: str | None = None,
    ) -> datetime:
        ended = Ended(
            outcome=outcome, attempts=account.attempts, seconds=time.monotonic() - began, charge=account.ended,
            estimated=account.estimated, input_tokens=account.input_tokens, output_tokens=account.output_tokens,
            answered_by=answered_by, answer=answer, error=error,
        )  # fmt: skip
        return llm_calls.finish(self._store, call_id, ended)

    def _ask(
        self,
        call_id: int,
        purpose: str,
        messages: Sequence[Message],
        schema: Schema,
        account: _Account,
        most: Charge,
    ) -> tuple[dict[str, Any], Reply]:
        """The answer after as many attempts as it takes and is allowed. Raises: `ModelError`, `BudgetExceeded`."""
        while True:
            short = Charge(
                account.ended.tokens + most.tokens - account.reserved.tokens,
                account.ended.usd + most.usd - account.reserved.usd,
            )
            if short.tokens > 0 or short.usd > 0:
                llm_calls.extend(self._store, call_id, short, self.setup.budget)
                account.reserved += short
            account.attempts += 1
            try:
                return self._attempt(purpose, messages, schema, account, most)
            except AttemptFailed as failed:
                if failed.charged:
                    account.ended += most
                    account.estimated = True
                if not failed.again or account.attempts >= self.setup.attempts:
                    raise failed.error from None
                self._rest(failed, account.attempts)

    def _rest(self, failed: AttemptFailed, attempt: int) -> None:
        """Wait as long as the server asks, else 1, 2, 4 … seconds times 0.5 to 1.5. Raises: the failure's error."""
        jitter = 0.5 + float(self._random.random())
        seconds = failed.after if failed.after is not None else _FIRST_WAIT * 2 ** (attempt - 1) * jitter
        if seconds > _LONGEST_WAIT:
            raise ModelUnavailable(f"{failed.error} It asks to wait {seconds:,.0f} s.") from None
        if seconds > 0:
            self._wait(seconds)

    def _attempt(
        self, purpose: str, messages: Sequence[Message], schema: Schema, account: _Account, most: Charge
    ) -> tuple[dict[str, Any], Reply]:
        reply = self._reply(purpose, messages, schema)
        self._charge(reply, account, most)
        try:
            return self.settled(reply, schema), reply
        except ModelUnavailable as error:
            raise AttemptFailed(error, charged=False, again=True) from None
        except ModelMalformed as error:
            account.malformed += 1
            again = account.malformed < _MALFORMED_ATTEMPTS
            raise AttemptFailed(error, charged=False, again=again, after=0.0) from None
        except ModelError as error:
            raise AttemptFailed(error, charged=False, again=False) from None

    def settled(self, reply: Reply, schema: Schema) -> dict[str, Any]:
        """The object in a reply, fitting `schema`.

        Raises: `ModelUnavailable`, `ModelRefused`, `ModelTruncated`, `ModelMalformed`.
        """
        if reply.failure is not None:
            raise ModelUnavailable(f"{self.server} failed: {self.clean(reply.failure)}.")
        if reply.refusal is not None:
            raise ModelRefused(f"{self.server} refused: {self.clean(reply.refusal)}")
        if reply.cut:
            text = f"The answer of {self.server} is longer than {self.setup.output_tokens:,} tokens, the limit of "
            raise ModelTruncated(f"{text}TRIMTAB_MODEL_OUTPUT_TOKENS.")
        try:
            return llm_replies.json_object(self.hidden(reply.text or ""), schema)
        except NotAsAsked as error:
            raise ModelMalformed(f"The answer of {self.server} is not what was asked for: {error}.") from None

    def _charge(self, reply: Reply, account: _Account, most: Charge) -> None:
        """Add what an answered attempt cost: what the server counted, else the most it can have been."""
        read, written = reply.input_tokens, reply.output_tokens
        if read is None or written is None:
            account.ended += most
            account.estimated = True
            return
        account.ended += self.setup.price.charge(read, written)
        account.input_tokens = (account.input_tokens or 0) + read
        account.output_tokens = (account.output_tokens or 0) + written

    def _reply(self, purpose: str, messages: Sequence[Message], schema: Schema) -> Reply:
        """One request. Raises: `AttemptFailed`."""
        try:
            content = self._send(purpose, messages, schema)
        except openai.APITimeoutError as error:
            sent = not isinstance(error.__cause__, _NEVER_SENT)
            what = ModelUnavailable(f"{self.server} did not answer within {self.setup.timeout_seconds:g} s.")
            raise AttemptFailed(what, charged=sent, again=True) from None
        except openai.APIConnectionError as error:
            cause = error.__cause__
            detail = self.clean(f"{type(cause).__name__}: {cause}" if cause is not None else str(error))
            what = ModelUnavailable(f"{self.server} could not be asked ({detail}).")
            raise AttemptFailed(what, charged=not isinstance(cause, _NEVER_SENT), again=True) from None
        except openai.APIStatusError as error:
            self._refused_by_status(error)
        except openai.OpenAIError as error:
            raise AttemptFailed(
                ModelRejected(f"{self.server} cannot be asked: {self.clean(str(error))}"), charged=False, again=False
            ) from None
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            excerpt = self.clean(content.decode("utf-8", "replace"))
            what = ModelUnavailable(f"{self.server} answered no JSON object: {excerpt!r}.")
            raise AttemptFailed(what, charged=True, again=True)
        return llm_replies.read(self.setup.api, document)

    def _send(self, purpose: str, messages: Sequence[Message], schema: Schema) -> bytes:
        """The body of a successful answer. Raises: `openai.OpenAIError`."""
        content: Any = llm_requests.body(self.setup, purpose, messages, schema)
        if self.setup.api == "responses":
            return self.client.responses.with_raw_response.create(**content).http_response.content
        return self.client.chat.completions.with_raw_response.create(**content).http_response.content

    def _refused_by_status(self, error: openai.APIStatusError) -> NoReturn:
        """Raises: `AttemptFailed`."""
        status = error.status_code
        said = f"{self.server} answered {status}: {self.clean(error.message)}"
        # An empty account answers 429 like a busy server does, but does not fill by waiting.
        again = status in _RETRIED and error.code != "insufficient_quota"
        if not again:
            raise AttemptFailed(ModelRejected(said), charged=False, again=False) from None
        after = retry_after(error.response.headers.get("retry-after"), self._store.clock.now())
        raise AttemptFailed(
            ModelUnavailable(said), charged=status in _PERHAPS_ANSWERED, again=True, after=after
        ) from None

    @property
    def server(self) -> str:
        """The model and where it is asked, in words."""
        return f"The model {self.setup.model} at {self.setup.base_url}"

    def clean(self, text: str) -> str:
        """The beginning of a text on one line, without the key that a server may repeat."""
        # Hidden before it is cut, or half a key could stay.
        return " ".join(self.hidden(text).split())[:_EXCERPT]

    def hidden(self, text: str) -> str:
        """A text without the key that a server may repeat."""
        return text.replace(self._secret, _HIDDEN) if self._secret else text
