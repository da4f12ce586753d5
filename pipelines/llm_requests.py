"""A question to the model as it is sent: its messages, the body of the request in either API, and its hash."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from pipelines.llm_schema import Schema
from pipelines.llm_setup import Api, ModelSetup

__all__ = ["ENDPOINTS", "Message", "body", "content_hash", "stated"]

ENDPOINTS: Final[Mapping[Api, Literal["/v1/responses", "/v1/chat/completions"]]] = {
    "responses": "/v1/responses",
    "chat": "/v1/chat/completions",
}


@dataclass(frozen=True)
class Message:
    """One message: the operator's instructions are of the system, everything to be judged is of the user."""

    role: Literal["system", "user"]
    text: str


def stated(messages: Sequence[Message], schema: Schema) -> str:
    """All that a question says, as one text: by its length what it may cost is told."""
    return json.dumps([asdict(each) for each in messages], ensure_ascii=False) + json.dumps(schema, ensure_ascii=False)


def content_hash(
    setup: ModelSetup, purpose: str, prompt_version: str, messages: Sequence[Message], schema: Schema
) -> str:
    """A hash of everything that decides the answer."""
    decides = {
        "address": setup.base_url, "api": setup.api, "model": setup.model, "purpose": purpose,
        "prompt": prompt_version, "messages": [asdict(each) for each in messages], "schema": schema,
        "output_tokens": setup.output_tokens,
    }  # fmt: skip
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def body(setup: ModelSetup, purpose: str, messages: Sequence[Message], schema: Schema) -> dict[str, Any]:
    """The body of the request, in the terms of the setup's API."""
    form = {"name": purpose.replace("-", "_"), "schema": dict(schema), "strict": True}
    turns = [{"role": each.role, "content": each.text} for each in messages]
    if setup.api == "responses":
        return {
            "model": setup.model, "input": turns, "text": {"format": {"type": "json_schema", **form}},
            "max_output_tokens": setup.output_tokens, "store": False,
        }  # fmt: skip
    return {
        "model": setup.model, "messages": turns, "max_completion_tokens": setup.output_tokens,
        "response_format": {"type": "json_schema", "json_schema": form},
    }  # fmt: skip
