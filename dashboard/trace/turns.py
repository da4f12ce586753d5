"""A trace as a conversation: the messages and tool calls that its spans hold, in order, each shown once.

Sources log a model call's input in two ways: only what is new since the last call, or the whole history again. In the
second case the messages that were shown already are left out. A tool call is a span of its own with its arguments and
result, so results that the next model call reads and calls that an answer carries are left out too.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Message", "Turn", "conversation", "messages"]

_SPEAKERS: Final = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "assistant": "assistant",
    "model": "assistant", "ai": "assistant", "tool": "tool", "function": "tool",
}  # fmt: skip
_STEPS_SHOWN: Final = frozenset({"llm", "tool", "retriever", "guardrail", "evaluator", "other"})
_CONTENT: Final = ("content", "text", "parts", "refusal")


@dataclass(frozen=True)
class Turn:
    """One message, or one tool call with its result.

    `role` is system, user, assistant, tool or another role of the source; `text` is the message, or a tool's
    result; `arguments` are a tool's, None for messages. `step` and `span_id` say where it is from, None for the
    trace's own texts; `characters` is the full length of a result or of an unread text that the store cut.
    """

    role: str
    text: str | None
    name: str | None = None
    arguments: str | None = None
    status: str | None = None
    step: int | None = None
    span_id: str | None = None
    characters: int | None = None


@dataclass(frozen=True)
class Message:
    """One message of a logged input or output; `calls` are the (name, arguments) of the tools it asks for."""

    role: str
    text: str
    name: str | None = None
    calls: tuple[tuple[str, str], ...] = ()


def conversation(
    steps: Iterable[Mapping[str, Any]], *, input: str | None = None, output: str | None = None
) -> list[Turn]:
    """The turns of a trace.

    Args: `steps` with the keys of `store.spans.SPAN_TEXTS` in step order; `input` and `output` as stated for the whole
    trace, used when no step is a message or a call.
    """
    rows = list(steps)
    told = [row for row in rows if row["kind"] in _STEPS_SHOWN]
    if not any(row["kind"] in ("llm", "tool") for row in told):
        if input is not None or output is not None:
            whole = {"step": None, "span_id": None, "status": None, "status_message": None, "kind": "llm", "name": None}
            told = [{**whole, "input": input, "output": output}]
        else:
            told = [row for row in rows if row["input"] or row["output"]]
    reader = _Reader(has_tools=any(row["kind"] == "tool" for row in told))
    for row in told:
        reader.read(row)
    return reader.turns


def messages(text: str | None, role: str) -> list[Message]:
    """The messages of a logged input or output; all of it as one message of `role` where it has no known form."""
    if not text:
        return []
    if text.lstrip()[:1] in ("[", "{"):
        try:
            found = _messages_in(json.loads(text), role)
        except (ValueError, RecursionError):
            found = None
        if found:
            return found
    return [Message(role, text)]


class _Reader:
    def __init__(self, *, has_tools: bool) -> None:
        self.turns: list[Turn] = []
        self._has_tools = has_tools
        self._history: list[tuple[str, str]] = []

    def read(self, row: Mapping[str, Any]) -> None:
        if row["kind"] in ("tool", "retriever"):
            failed = row["status_message"] if row["status"] == "error" else None
            self._add(row, "tool", row["output"] or failed, row["name"], row["input"] or "", row["output_characters"])
        elif row["kind"] == "other":
            self._say(row, messages(row["input"], _role(row["name"]) or "user"))
            self._say(row, messages(row["output"], "assistant"))
        else:
            self._say(row, self._unheard(messages(row["input"], "user")))
            answered = messages(row["output"], "assistant")
            self._say(row, answered)
            if row["status"] == "error" and not answered:
                self._add(row, "assistant", row["status_message"] or "The call failed without a message.")

    def _say(self, row: Mapping[str, Any], said: list[Message]) -> None:
        for message in said:
            self._history.append((message.role, message.text))
            if message.text and not (message.role == "tool" and self._has_tools):
                self._add(row, message.role, message.text, message.name)
            if not self._has_tools:
                for name, arguments in message.calls:
                    self._add(row, "tool", None, name, arguments)

    def _unheard(self, asked: list[Message]) -> list[Message]:
        """What is new in a list that repeats the history; all of a list that does not begin as the history does."""
        if len(asked) < 2 or not self._history or (asked[0].role, asked[0].text) != self._history[0]:
            return asked
        fresh, place = [], 0
        for message in asked:
            try:
                place = self._history.index((message.role, message.text), place) + 1
            except ValueError:
                fresh.append(message)
        return fresh

    def _add(
        self,
        row: Mapping[str, Any],
        role: str,
        text: str | None,
        name: str | None = None,
        arguments: str | None = None,
        characters: int | None = None,
    ) -> None:
        self.turns.append(Turn(role, text, name, arguments, row["status"], row["step"], row["span_id"], characters))


def _role(name: Any) -> str | None:
    return _SPEAKERS.get(name.lower(), name) if isinstance(name, str) and name else None


def _messages_in(value: Any, role: str) -> list[Message] | None:
    """The messages that a parsed value holds; None when it is not one of the known forms."""
    if isinstance(value, list):
        found = [_messages_in(each, role) if isinstance(each, dict) else None for each in value]
        if not found or any(each is None for each in found):
            return None
        return [message for each in found if each is not None for message in each]
    if not isinstance(value, dict):
        return None
    for key in ("messages", "choices", "output", "input"):
        if isinstance(value.get(key), list) and (inner := _messages_in(value[key], role)):
            return inner
    if isinstance(value.get("message"), dict):
        return _messages_in(value["message"], role)
    if "role" in value or "tool_calls" in value or isinstance(value.get("content"), str):
        name = value.get("name")
        text = next((_text(value[key]) for key in _CONTENT if value.get(key)), "")
        return [Message(_role(value.get("role")) or role, text, name if isinstance(name, str) else None, _calls(value))]
    return None


def _calls(message: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    listed = message.get("tool_calls")
    calls = []
    for call in listed if isinstance(listed, list) else []:
        inner = call.get("function", call) if isinstance(call, dict) else None
        if isinstance(inner, dict):
            arguments = inner.get("arguments", inner.get("args", ""))
            calls.append(
                (str(inner.get("name") or "tool"), arguments if isinstance(arguments, str) else _text(arguments))
            )
    return tuple(calls)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(part for part in map(_part, content) if part)
    return json.dumps(content, ensure_ascii=False)


def _part(part: Any) -> str:
    if isinstance(part, dict):
        for key in ("text", "content"):
            if isinstance(part.get(key), str):
                text: str = part[key]
                return text
    return part if isinstance(part, str) else json.dumps(part, ensure_ascii=False)
