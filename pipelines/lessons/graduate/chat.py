"""A trace as one conversation in the chat format that models are trained in.

Sources log the input of a model call in two ways: what is new since the last call, or the whole history again; what was
read before is not said twice. Where tools have spans of their own, calls and results are read there. What comes out
keeps the rules of the API: texts are strings, each call is answered by one message of role tool at once (a call that
nobody answered may come last), and the last message is the assistant's.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Chat", "Message", "conversation", "tools_of"]

Message = dict[str, Any]

_ROLES: Final = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "assistant": "assistant",
    "model": "assistant", "ai": "assistant", "tool": "tool", "function": "tool",
}  # fmt: skip
_NAME: Final = re.compile(r"[^A-Za-z0-9_-]")
_TOOLS: Final = ("tool", "retriever")


@dataclass(frozen=True)
class Chat:
    """The messages of a trace and the tools that it called."""

    messages: tuple[Message, ...]
    tools: tuple[Message, ...]


def conversation(steps: Iterable[Mapping[str, Any]], *, input: str | None, output: str | None) -> Chat | None:
    """The conversation of a trace; None when it has no words of a user with an answer.

    Args: `steps` in event order with kind, name, status, status_message, input, output; `input` and `output` of the
    whole trace, which count where no model call is logged.
    """
    rows = [row for row in steps if row["kind"] in ("llm", *_TOOLS, "agent")]
    reader = _Reader(has_tools=any(row["kind"] in _TOOLS for row in rows))
    told = any(row["kind"] == "llm" for row in rows)
    if not told:
        whole = next((row for row in rows if row["kind"] == "agent"), None)
        asked = input or (whole["input"] if whole else None)
        answered = output or (whole["output"] if whole else None)
        reader.hear(asked)
    for row in rows:
        if row["kind"] == "llm":
            reader.hear(row["input"])
            reader.answer(row["output"])
        elif row["kind"] in _TOOLS:
            failed = row["status_message"] if row["status"] == "error" else None
            reader.call(row["name"] or "tool", row["input"], row["output"] or failed or "")
            if not told:
                reader.turn = None
    if not told:
        reader.answer(answered)
    return _closed(reader.messages)


def tools_of(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Declarations of the tools that these messages call, by name, with the arguments that were seen.

    What the agent was really told of its tools is not in a trace; types are left open.
    """
    seen: dict[str, set[str]] = {}
    for message in messages:
        for call in message.get("tool_calls", ()):
            arguments = _parsed(call["function"]["arguments"])
            names = arguments.keys() if isinstance(arguments, dict) else ()
            seen.setdefault(call["function"]["name"], set()).update(names)
    return tuple(
        {
            "type": "function",
            "function": {
                "name": name,
                "parameters": {"type": "object", "properties": {each: {} for each in sorted(arguments)}},
            },
        }
        for name, arguments in sorted(seen.items())
    )


class _Reader:
    """Reads spans one after the other; `turn` is the assistant's message that calls belong to, None for a new one."""

    def __init__(self, *, has_tools: bool) -> None:
        self.messages: list[Message] = []
        self.turn: Message | None = None
        self._has_tools = has_tools
        self._history: list[tuple[str, str]] = []
        self._calls = 0

    def hear(self, text: str | None) -> None:
        """What a model call read."""
        for message in self._unheard(_messages(text, "user")):
            self._say(message)
        self.turn = None

    def answer(self, text: str | None) -> None:
        """What a model call wrote."""
        self.turn = None
        for message in _messages(text, "assistant"):
            self._say(message)

    def call(self, name: str, arguments: str | None, result: str) -> None:
        """A call of a tool with its result."""
        if self.turn is None:
            self.turn = {"role": "assistant", "content": None}
            self.messages.append(self.turn)
        given = self._number(self.turn, name, arguments)
        self.messages.append({"role": "tool", "tool_call_id": given, "content": result})

    def _number(self, turn: Message, name: str, arguments: str | None) -> str:
        self._calls += 1
        given = f"call_{self._calls}"
        held = arguments if isinstance(_parsed(arguments or ""), dict) else json.dumps({"input": arguments or ""})
        function = {"name": _NAME.sub("_", name)[:64] or "tool", "arguments": held}
        turn.setdefault("tool_calls", []).append({"id": given, "type": "function", "function": function})
        return given

    def _say(self, message: Message) -> None:
        role, text = message["role"], message["text"]
        self._history.append((role, text))
        if role == "tool":
            if not self._has_tools:
                self._result(text)
            return
        calls = () if self._has_tools else message["calls"]
        if not text and not calls:
            return
        said: Message = {"role": role, "content": text or None}
        self.messages.append(said)
        if role == "assistant":
            self.turn = said
            for name, arguments in calls:
                self._number(said, name, arguments)

    def _result(self, text: str) -> None:
        """A result that a message tells: of the first call that has none."""
        answered = {message["tool_call_id"] for message in self.messages if message["role"] == "tool"}
        for message in self.messages:
            for call in message.get("tool_calls", ()):
                if call["id"] not in answered:
                    self.messages.append({"role": "tool", "tool_call_id": call["id"], "content": text})
                    return

    def _unheard(self, asked: list[Message]) -> list[Message]:
        """What is new in a list that repeats the history; all of one that does not begin as the history does."""
        first = (asked[0]["role"], asked[0]["text"]) if asked else None
        if len(asked) < 2 or not self._history or first != self._history[0]:
            return asked
        fresh, place = [], 0
        for message in asked:
            try:
                place = self._history.index((message["role"], message["text"]), place) + 1
            except ValueError:
                fresh.append(message)
        return fresh


def _closed(messages: list[Message]) -> Chat | None:
    """The messages up to the last answer whose calls are all answered; None when nobody asks or nobody answers."""
    answered = {message["tool_call_id"] for message in messages if message["role"] == "tool"}
    end = len(messages)
    for place, message in enumerate(messages):
        if any(call["id"] not in answered for call in message.get("tool_calls", ())):
            # A call without a result may only be the very last thing said.
            end = place + (not _results(messages, message))
            break
    kept = messages[:end]
    while kept and kept[-1]["role"] != "assistant":
        kept.pop()
    if not any(message["role"] == "user" and message["content"] for message in kept):
        return None
    texts = tuple({**message, "content": message["content"] or ""} if message["role"] != "assistant" else message
                  for message in kept)  # fmt: skip
    return Chat(texts, tools_of(texts)) if _in_order(texts) else None


def _results(messages: Iterable[Message], message: Message) -> int:
    """How many calls of a message have a result."""
    own = {call["id"] for call in message.get("tool_calls", ())}
    return sum(each["role"] == "tool" and each["tool_call_id"] in own for each in messages)


def _in_order(messages: Iterable[Message]) -> bool:
    """Whether the results of each message's calls follow it at once."""
    waiting: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                return False
            waiting.remove(message["tool_call_id"])
        elif waiting:
            return False
        else:
            waiting = {call["id"] for call in message.get("tool_calls", ())}
    return True


def _messages(text: str | None, role: str) -> list[Message]:
    """{role, text, calls} of a logged input or output; all of it as one message where it has no known form."""
    if not text:
        return []
    found = _read(_parsed(text), role) if text.lstrip()[:1] in ("[", "{") else None
    return found or [{"role": role, "text": text, "calls": []}]


def _read(value: Any, role: str) -> list[Message] | None:
    if isinstance(value, list):
        parts = [_read(each, role) if isinstance(each, dict) else None for each in value]
        if not parts or any(part is None for part in parts):
            return None
        return [message for part in parts if part is not None for message in part]
    if not isinstance(value, dict):
        return None
    for key in ("messages", "choices", "output", "input"):
        if isinstance(value.get(key), list) and (inner := _read(value[key], role)):
            return inner
    if isinstance(value.get("message"), dict):
        return _read(value["message"], role)
    if "role" not in value and "tool_calls" not in value:
        return None
    content = value.get("content", value.get("text", value.get("parts")))
    named = _ROLES.get(str(value.get("role", role)).lower(), role)
    return [{"role": named, "text": _text(content), "calls": _calls(value.get("tool_calls"))}]


def _calls(listed: Any) -> list[tuple[str, str]]:
    found = []
    for call in listed if isinstance(listed, list) else []:
        inner = call.get("function", call) if isinstance(call, dict) else None
        if isinstance(inner, dict):
            arguments = inner.get("arguments", inner.get("args", ""))
            written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
            found.append((str(inner.get("name") or "tool"), written))
    return found


def _text(content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(filter(None, map(_part, content)))
    return json.dumps(content, ensure_ascii=False)


def _part(part: Any) -> str:
    if isinstance(part, dict):
        for key in ("text", "content"):
            if isinstance(part.get(key), str):
                return str(part[key])
    return part if isinstance(part, str) else json.dumps(part, ensure_ascii=False)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
