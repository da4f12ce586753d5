"""OpenAI chat JSONL: one record is one conversation or one request and its response.

The messages may lie at the top, in a wrapper (`request`, `body` of the batch interface, `input`), and the answer in
`choices` or in a wrapper of its own (`response`, `output`, `completion`). Everything else a record says about the run
is read by the names that loggers give it, at the top first, then in the response, the request and the metadata.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from pipelines.ingest.layout_columns import STATUS_WORDS
from pipelines.ingest.layouts.feedback import take_feedback
from pipelines.ingest.layouts.fields import (
    Fields,
    as_number,
    content_hash,
    decode_cell,
    end_of,
    is_empty,
    merged,
    plain_record,
    present,
)
from pipelines.ingest.layouts.messages import INPUT_TOKENS, OUTPUT_TOKENS, ROOT, Conversation, read_conversation
from pipelines.ingest.rows import Row, Rows

_T = TypeVar("_T")

REQUESTS: Final = ("request", "body", "input")
_RESPONSES: Final = ("response", "output", "completion")
_STARTS: Final = ("started_at", "startedAt", "start_time", "created_at", "createdAt", "timestamp", "created")
_ENDS: Final = ("ended_at", "endedAt", "end_time", "completed_at", "finished_at")
# columns of the trace and the names they go by
_ABOUT: Final = {
    "agent": ("agent", "agent_name", "agentName", "assistant"),
    "agent_version": ("agent_version", "agentVersion", "prompt_version"),
    "session_id": ("session_id", "sessionId", "conversation_id", "conversationId", "thread_id", "threadId"),
    "task": ("task", "task_id"),
    "arm": ("arm", "variant"),
    "decision_id": ("decision_id",),
}


@dataclass
class _Exchange:
    """A record taken apart: its fields at each level, and the messages including the answer."""

    top: Fields
    response: Fields
    request: Fields
    metadata: Fields
    messages: list[dict[str, Any]]
    path: str
    answers: int  # messages that lay in the response

    def text(self, *names: str) -> str | None:
        """A text by any of its names; only the first, our own, must be one where it is present."""
        for level in (self.top, self.response, self.request):
            if (own := level.text(names[0])) is not None:
                return own
            if (value := level.scalar(*names[1:])) is not None:
                return str(value)
        found = [self.metadata.scalar(name) for name in names]
        return next((str(value) for value in found if value is not None), None)

    def time(self, *names: str) -> datetime | None:
        levels = (self.top, self.response, self.request)
        return next((value for level in levels if (value := level.time(*names)) is not None), None)


def import_chat(record: dict[str, Any], source: str) -> Rows:
    """Rows of one chat record: a trace, a root span with its turns and tool calls, and its feedback as signals.

    Args: `record` as parsed from the file; `source` of the data.
    Raises: `RecordRejected` naming the field that has the wrong type or is missing.
    """
    plain = plain_record(record)
    exchange = _take_apart(plain)
    top, response = exchange.top, exchange.response
    trace_id = _trace_id(exchange) or f"chat-{content_hash(plain)}"
    model = exchange.text("model", "model_name")
    conversation = read_conversation(
        exchange.messages, trace_id=trace_id, source=source, model=model, path=exchange.path
    )
    usage = Fields(top.mapping("usage", keep=True) or response.mapping("usage", keep=True), "usage.")
    tokens = present(
        input_tokens=_first(top.count(*INPUT_TOKENS), usage.count(*INPUT_TOKENS)),
        output_tokens=_first(top.count(*OUTPUT_TOKENS), usage.count(*OUTPUT_TOKENS)),
    )  # fmt: skip
    turns = [span for span in conversation.spans if span["kind"] == "llm"]
    if exchange.answers and turns:  # the usage is that of the call which answered
        turns[-1].update(tokens | turns[-1])
    started_at = exchange.time(*_STARTS) or conversation.started_at()
    status, status_message = _status(exchange)
    trace = present(
        trace_id=trace_id, source=source, user_id=_user(exchange), model=model,
        **{column: exchange.text(*names) for column, names in _ABOUT.items()},
        model_fingerprint=exchange.text("model_fingerprint", "system_fingerprint"),
        started_at=started_at, ended_at=_ended_at(exchange, started_at, conversation), status=status,
        input=conversation.input, output=conversation.output,
        cost_usd=_first(top.number("cost_usd", "cost", "total_cost"), usage.number("cost")),
        **tokens,
    )  # fmt: skip
    signals = take_feedback(top, trace_id=trace_id, source=source, user_id=trace.get("user_id"))
    trace |= present(metadata=_rest(exchange))
    shared = ("trace_id", "source", "input", "output", "started_at", "ended_at", "status")
    root: Row = {name: trace[name] for name in shared if name in trace}
    root |= {"span_id": ROOT, "kind": "agent", "name": trace.get("agent", "chat"), "ordinal": 0}
    root |= present(status_message=status_message)
    return Rows([trace], [root, *conversation.spans], signals)


def _take_apart(plain: dict[str, Any]) -> _Exchange:
    top = Fields(plain)
    request, path = Fields({}), ""
    messages: list[dict[str, Any]] = []
    if not is_empty(plain.get("messages")):
        messages, path = top.objects("messages"), "messages"
    else:
        for name in REQUESTS:
            inner = decode_cell(plain.get(name))
            if isinstance(inner, dict) and not is_empty(inner.get("messages")):
                top.take(name)
                request, path = Fields(inner, f"{name}."), f"{name}.messages"
                messages = request.objects("messages")
                break
    if not messages:
        raise top.reject("messages", plain.get("messages"), "a list of at least one chat message")
    response, answers = _answer(top, plain, messages[-1])
    metadata = Fields(metadata) if isinstance(metadata := decode_cell(plain.get("metadata")), dict) else Fields({})
    return _Exchange(top, response, request, metadata, _joined(messages, answers), path, len(answers))


def _answer(top: Fields, plain: dict[str, Any], last: dict[str, Any]) -> tuple[Fields, list[dict[str, Any]]]:
    """The fields of the response and the messages it adds.

    A bare text after an answer, the `last` of the messages, is another one (expected, or cut) and stays metadata.
    """
    if not is_empty(plain.get("choices")):
        answers, others = _choice(top.items("choices"), "choices")
        return Fields({"choices": others}), answers
    for name in _RESPONSES:
        value = decode_cell(plain.get(name))
        if isinstance(value, str) and value:
            if last.get("role") == "assistant" and last.get("content") != value:
                continue
            top.take(name)
            return Fields({}), [{"role": "assistant", "content": value}]
        if isinstance(value, list) and value and all(isinstance(each, dict) and "role" in each for each in value):
            top.take(name)
            return Fields({}), value
        if isinstance(value, dict) and value:
            body = value.get("body")
            inner = {**{k: v for k, v in value.items() if k != "body"}, **body} if isinstance(body, dict) else value
            fields = Fields(inner, f"{name}.")
            found = _message_in(fields, inner, name)
            if found is not None:
                top.take(name)
                return fields, found
    return Fields({}), []


def _message_in(fields: Fields, inner: dict[str, Any], name: str) -> list[dict[str, Any]] | None:
    """The answer in a response object, null when it holds none; what is used is taken from `fields`."""
    if "choices" in inner:
        answers, others = _choice(fields.items("choices"), f"{name}.choices")
        if others:
            fields.put("choices", others)
        return answers
    if isinstance(inner.get("message"), dict):
        return [{"role": "assistant", **fields.take("message")}] if inner["message"] else []
    if "role" in inner or "content" in inner or "tool_calls" in inner:
        kept = ("role", "content", "tool_calls", "function_call", "refusal")
        taken = {key: fields.take(key) for key in kept}
        return [{"role": "assistant", **{key: value for key, value in taken.items() if value is not None}}]
    return [] if "error" in inner or "usage" in inner else None


def _choice(choices: list[Any], path: str) -> tuple[list[dict[str, Any]], list[Any]]:
    """The message of the first choice, with what the choice says about it, and the choices that were not taken."""
    if not choices:
        return [], []
    holder = Fields({path: choices[0]})
    choice = choices[0]
    if not isinstance(choice, dict):
        raise holder.reject(path, choice, "a list of objects")
    message, used = choice.get("message"), ("message", "index")
    if message is None:
        message, used = {"content": choice.get("text")}, ("text", "index")
    about = {key: value for key, value in choice.items() if key not in used}
    if not isinstance(message, dict):
        raise holder.reject(f"{path}[0].message", message, "an object")
    return [{"role": "assistant", **merged(message, about, "choice")}], choices[1:]


def _joined(messages: list[dict[str, Any]], answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages and answers; some loggers repeat the answer as the last message."""
    if not answers:
        return messages
    last, first = messages[-1], answers[0]
    same = all((last.get(key) or None) == (first.get(key) or None) for key in ("role", "content", "tool_calls"))
    return [*messages[:-1], {**last, **first}, *answers[1:]] if same else [*messages, *answers]


def _trace_id(exchange: _Exchange) -> str | None:
    own = exchange.top.text("trace_id", "traceId", "id", "request_id", "requestId")
    return own or exchange.response.text("id", "request_id") or exchange.top.text("custom_id")


def _user(exchange: _Exchange) -> str | None:
    for level in (exchange.top, exchange.request):
        user = level.take("user", keep=True)
        if isinstance(user, dict):
            return Fields(user, f"{level.path}user.").text("id", "user_id")
    return exchange.text("user_id", "userId", "user", "end_user")


def _ended_at(exchange: _Exchange, started_at: datetime | None, conversation: Conversation) -> datetime | None:
    stated = exchange.time(*_ENDS)
    if stated is not None:
        return stated
    millis = exchange.top.number("latency_ms", "duration_ms", keep=True)
    ended_at = end_of(started_at, None if millis is None else millis / 1000, "latency_ms")
    return ended_at or conversation.ended_at()


def _status(exchange: _Exchange) -> tuple[str | None, str | None]:
    """The status of the run and the text of its error."""
    for level in (exchange.top, exchange.response):
        error = decode_cell(level.take("error", keep=True))
        if error:
            message = error.get("message") if isinstance(error, dict) else error
            return "error", message if isinstance(message, str) else None
    code = as_number(exchange.response.take("status_code", keep=True))
    if code is not None and code >= 400:
        return "error", None
    stated = exchange.top.take("status", keep=True)
    word = stated.lower() if isinstance(stated, str) else ""
    return next((status for status, words in STATUS_WORDS.items() if word in words), None), None


def _first(*values: _T | None) -> _T | None:
    return next((value for value in values if value is not None), None)


def _rest(exchange: _Exchange) -> dict[str, Any]:
    """What no column took: the user's metadata, the other fields, and those of the wrappers under their names."""
    left = exchange.top.rest()
    rest = merged(left.pop("metadata", None), left, "record")
    wrappers = {"request": exchange.request.rest(), "response": exchange.response.rest()}
    return merged(rest, {name: value for name, value in wrappers.items() if value}, "record")
