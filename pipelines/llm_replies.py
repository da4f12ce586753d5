"""What a model's server answered, read from either API without trusting its shape."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from pipelines.llm_schema import Schema, mismatch
from pipelines.llm_setup import Api

_EXCERPT: Final = 200


@dataclass(frozen=True)
class Reply:
    """The text of an answer, or why there is none; token counts where the server gave them."""

    text: str | None
    refusal: str | None
    cut: bool
    failure: str | None
    model: str | None
    input_tokens: int | None
    output_tokens: int | None


class NotAsAsked(Exception):
    """An answer that is not the JSON object that was asked for; the text says how."""


def read(api: Api, document: Mapping[str, Any]) -> Reply:
    """The reply in the JSON document of a successful request."""
    return _READERS[api](document)


def json_object(text: str, schema: Schema) -> dict[str, Any]:
    """The object in the text of an answer. Raises: `NotAsAsked`."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
        # Half a surrogate pair is JSON and no text: nothing could keep it.
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise NotAsAsked(f"it is no JSON: {' '.join(text.split())[:_EXCERPT]!r}") from error
    problem = mismatch(value, schema)
    if problem is not None or not isinstance(value, dict):
        raise NotAsAsked(problem or "it is no JSON object")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _of_responses(document: Mapping[str, Any]) -> Reply:
    texts: list[str] = []
    refusals: list[str] = []
    for item in _list(document.get("output")):
        if isinstance(item, dict) and item.get("type") == "message":
            for part in _list(item.get("content")):
                if isinstance(part, dict):
                    _collect(part.get("text"), part.get("type") == "output_text", texts)
                    _collect(part.get("refusal"), part.get("type") == "refusal", refusals)
    reason = _dict(document.get("incomplete_details")).get("reason")
    if reason == "content_filter":
        refusals.append("its content filter stopped the answer")
    failure = None
    if document.get("status") in ("failed", "cancelled"):
        failure = str(_dict(document.get("error")).get("message") or "it gave no reason")
    usage = _dict(document.get("usage"))
    return Reply(
        text="".join(texts) if texts else None,
        refusal=" ".join(refusals) or None,
        cut=document.get("status") == "incomplete",
        failure=failure,
        model=_text(document.get("model")),
        input_tokens=_count(usage.get("input_tokens")),
        output_tokens=_count(usage.get("output_tokens")),
    )


def _of_chat(document: Mapping[str, Any]) -> Reply:
    choices = _list(document.get("choices"))
    choice = _dict(choices[0] if choices else None)
    message = _dict(choice.get("message"))
    reason = choice.get("finish_reason")
    refusal = _text(message.get("refusal"))
    if reason == "content_filter" and refusal is None:
        refusal = "its content filter stopped the answer"
    usage = _dict(document.get("usage"))
    return Reply(
        text=_text(message.get("content")),
        refusal=refusal,
        cut=reason == "length",
        failure=None,
        model=_text(document.get("model")),
        input_tokens=_count(usage.get("prompt_tokens")),
        output_tokens=_count(usage.get("completion_tokens")),
    )


_READERS: Final[dict[Api, Callable[[Mapping[str, Any]], Reply]]] = {"responses": _of_responses, "chat": _of_chat}


def _collect(value: Any, wanted: bool, into: list[str]) -> None:
    if wanted and isinstance(value, str):
        into.append(value)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None
