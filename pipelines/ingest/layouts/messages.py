"""A list of chat messages as spans: every turn of the assistant a model call, every tool call a child of its turn.

A call and its result, two messages in the source, become one span. What the model read since its last turn (user and
system messages, results, roles we do not know) is the input of its turn as a JSON list of messages, so no message is
lost; messages after the last turn become spans of kind `other`. Span ids are positions in the list: a longer export of
the same conversation repeats them and adds to them.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from pipelines.ingest.layouts.fields import Fields, content_text, json_text, merged, present
from pipelines.ingest.rows import Row

ROOT: Final = "root"

_ASSISTANT: Final = ("assistant", "model", "ai")
_USER: Final = ("user", "human")
_SYSTEM: Final = ("system", "developer")
_RESULT: Final = ("tool", "function")
_TEXT_PARTS: Final = ("text", "input_text", "output_text")
_TIMES: Final = ("timestamp", "created_at", "createdAt", "created")
_ERROR: Final = re.compile(r"\s*Error\b")
_MESSAGE_LENGTH: Final = 500

INPUT_TOKENS: Final = ("prompt_tokens", "input_tokens", "promptTokens", "inputTokens")
OUTPUT_TOKENS: Final = ("completion_tokens", "output_tokens", "completionTokens", "outputTokens")


@dataclass
class Conversation:
    """What a list of messages says: its spans in order, without the root, and the texts of the trace."""

    spans: list[Row] = field(default_factory=list)
    input: str | None = None  # the first message of the user
    output: str | None = None  # the last text of the assistant
    system: str | None = None  # the first instructions

    def started_at(self) -> datetime | None:
        """The earliest time any message states."""
        times = [row[name] for row in self.spans for name in ("started_at", "ended_at") if row.get(name)]
        return min(times, default=None)

    def ended_at(self) -> datetime | None:
        """The latest time any message states."""
        times = [row[name] for row in self.spans for name in ("started_at", "ended_at") if row.get(name)]
        return max(times, default=None)


def read_conversation(
    messages: list[dict[str, Any]], *, trace_id: str, source: str, model: str | None, path: str = "messages"
) -> Conversation:
    """Spans of a conversation under the root span `root`, with ordinals from 1.

    Args: plain `messages`; `model` of turns that do not name one; `path` of the list for reasons of rejects.
    Raises: `RecordRejected` naming the message and field of a wrong type.
    """
    reader = _Reader(trace_id, source, model)
    for index, message in enumerate(messages):
        reader.read(index, message, f"{path}[{index}].")
    return reader.finish()


def part_text(content: Any) -> str | None:
    """The content of a message as text: parts that are all text are joined by line ends, others are kept as JSON."""
    if isinstance(content, list) and content:
        texts = [_text_of_part(part) for part in content]
        joined = [text for text in texts if text is not None]
        return "\n".join(joined) if len(joined) == len(texts) else json_text(content)
    if isinstance(content, str):
        return content or None
    return content_text(content)


def _text_of_part(part: Any) -> str | None:
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and set(part) == {"type", "text"} and part["type"] in _TEXT_PARTS:
        return part["text"] if isinstance(part["text"], str) else None
    return None


class _Reader:
    def __init__(self, trace_id: str, source: str, model: str | None) -> None:
        self._trace_id, self._source, self._model = trace_id, source, model
        self._conversation = Conversation()
        self._unread: list[tuple[int, dict[str, Any], str]] = []  # since the last turn of the assistant
        self._waiting: dict[int, Row] = {}  # calls without a result, by ordinal
        self._waiting_by_id: dict[str, list[int]] = {}
        self._turn_at: datetime | None = None

    def read(self, index: int, message: dict[str, Any], path: str) -> None:
        fields = Fields(message, path)
        role = (fields.text("role") or "unknown").lower()
        if role in _ASSISTANT:
            self._turn(index, fields, path)
            return
        if role in _RESULT:
            self._result(index, fields)
        elif role in _USER and self._conversation.input is None:
            self._conversation.input = part_text(message.get("content"))
        elif role in _SYSTEM and self._conversation.system is None:
            self._conversation.system = part_text(message.get("content"))
        self._unread.append((index, message, path))

    def finish(self) -> Conversation:
        for index, message, path in self._unread:
            fields = Fields(message, path)
            role = fields.text("role") or "unknown"
            if role.lower() not in _RESULT:  # a result has its span already
                text = part_text(fields.take("content"))
                started_at = fields.time(*_TIMES)
                self._add("other", f"message-{index}", ROOT, name=role, input=text, started_at=started_at,
                          attributes=fields.rest())  # fmt: skip
        return self._conversation

    def _add(self, kind: str, span_id: str, parent: str, **columns: Any) -> Row:
        row = present(
            trace_id=self._trace_id, span_id=span_id, parent_span_id=parent, kind=kind, source=self._source,
            ordinal=len(self._conversation.spans) + 1, **columns,
        )  # fmt: skip
        self._conversation.spans.append(row)
        return row

    def _turn(self, index: int, fields: Fields, path: str) -> None:
        """A turn of the assistant and the tool calls it made."""
        read = [message for _, message, _ in self._unread]
        self._unread = []
        usage = Fields(fields.mapping("usage", keep=True), f"{path}usage.")
        output = part_text(fields.take("content"))
        if output is None:
            output = fields.text("refusal", keep=True)
        calls = fields.objects("tool_calls")
        legacy = fields.mapping("function_call")
        model = fields.text("model") or self._model
        self._turn_at = fields.time(*_TIMES)
        self._add(
            "llm", f"message-{index}", ROOT,
            name=fields.text("name") or model or "assistant", model=model, started_at=self._turn_at,
            input=json_text(read) if read else None, output=output,
            input_tokens=usage.count(*INPUT_TOKENS), output_tokens=usage.count(*OUTPUT_TOKENS),
            attributes=fields.rest(),
        )  # fmt: skip
        if output is not None:
            self._conversation.output = output
        for position, call in enumerate(calls):
            self._call(f"message-{index}", position, call, f"{path}tool_calls[{position}].")
        if legacy:
            self._call(f"message-{index}", len(calls), {"function": legacy}, f"{path}function_call.")

    def _call(self, parent: str, position: int, call: dict[str, Any], path: str) -> None:
        fields = Fields({key: value for key, value in call.items() if key != "type" or value != "function"}, path)
        call_id = fields.text("id")
        # a custom tool's call has its text in `custom`; other loggers write the call flat
        inner = Fields(fields.mapping("function", "custom"), path)
        name = inner.text("name") or fields.text("name")
        arguments = inner.take("arguments", "input")
        if arguments is None:
            arguments = fields.take("arguments", "args", "input")
        stated = merged(fields.rest(), inner.rest(), "function")
        text = arguments if isinstance(arguments, str) else content_text(arguments)
        span = self._add(
            "tool", f"{parent}-call-{position}", parent, name=name, input=text, started_at=self._turn_at,
            attributes=merged(present(tool_call_id=call_id), stated, "call"),
        )  # fmt: skip
        self._waiting[span["ordinal"]] = span
        if call_id is not None:
            self._waiting_by_id.setdefault(call_id, []).append(span["ordinal"])

    def _result(self, index: int, fields: Fields) -> None:
        """A tool's result: it completes the call it answers, or is kept as a span of its own where there is none."""
        call_id, name = fields.text("tool_call_id", "call_id"), fields.text("name")
        output = part_text(fields.take("content"))
        ended_at = fields.time(*_TIMES)
        flag = fields.take("is_error")
        failed = flag is True or _ERROR.match(output or "") is not None
        span = self._answered(call_id, name)
        if span is None:
            orphan = present(tool_call_id=call_id, orphan=True)
            span = self._add("tool", f"message-{index}", ROOT, name=name, attributes=orphan)
        if name is not None:
            span.setdefault("name", name)
        columns = present(
            output=output, ended_at=ended_at, status="error" if failed else "ok",
            status_message=(output or "")[:_MESSAGE_LENGTH] if failed else None,
        )  # fmt: skip
        span.update(columns)
        if rest := fields.rest():
            span["attributes"] = {**span.get("attributes", {}), "result": rest}

    def _answered(self, call_id: str | None, name: str | None) -> Row | None:
        """The call a result belongs to: by id the latest; without an id the oldest one of that name."""
        if call_id is not None:
            ordinals = self._waiting_by_id.get(call_id, [])
            while ordinals:
                if (span := self._waiting.pop(ordinals.pop(), None)) is not None:
                    return span
            return None
        for ordinal, span in self._waiting.items():
            if name is None or span.get("name") in (None, name):
                return self._waiting.pop(ordinal)
        return None
