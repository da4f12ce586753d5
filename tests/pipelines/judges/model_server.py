"""A server of OpenAI's two APIs on a port of this machine, strict about what it is asked and told how to behave.

Like the real one it refuses (400) a schema that is not strict. Each request takes the next behaviour of `script`; when
that is empty, `mind` answers. Tokens are counted by a simple rule of its own, so that a test can add up what it was
asked for without asking Trimtab.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.pipelines.judges.model_batches import Desk

KEY = "sk-test-9f8e7d6c5b4a"
WRITTEN = 20
NAMED = "fake-model-2026-08-01"


@dataclass(frozen=True)
class Asked:
    """One request: where, with which headers, and what in both APIs' terms."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]

    @property
    def turns(self) -> list[tuple[str, str]]:
        return [(turn["role"], turn["content"]) for turn in self.body.get("input", self.body.get("messages"))]

    @property
    def system(self) -> str:
        return "\n".join(text for role, text in self.turns if role == "system")

    @property
    def user(self) -> str:
        return "\n".join(text for role, text in self.turns if role == "user")

    @property
    def form(self) -> dict[str, Any]:
        if "input" in self.body:
            return self.body["text"]["format"]
        return self.body["response_format"]["json_schema"]

    @property
    def tokens(self) -> int:
        return len(self.system + self.user) // 5 + 9


@dataclass(frozen=True)
class Status:
    code: int
    headers: Mapping[str, str] = field(default_factory=dict)
    error: Mapping[str, Any] = field(default_factory=lambda: {"message": "try later", "type": "server_error"})


@dataclass(frozen=True)
class Says:
    """Any text as the answer; `cut` when it ran out of tokens, without token counts unless `counted`."""

    text: str
    cut: bool = False
    counted: bool = True


@dataclass(frozen=True)
class Refuses:
    text: str = "I cannot help with that."


@dataclass(frozen=True)
class Body:
    """Whatever it is, with status 200."""

    content: bytes
    kind: str = "application/json"


class Hangs:
    """No answer until the server closes."""


class Drops:
    """The connection ends in the middle of the answer's head."""


def verdict(asked: Asked) -> dict[str, Any]:
    """A middling answer that fits any schema a judge is asked with."""
    schema = asked.form["schema"]["properties"]["score"]
    high = schema.get("maximum", max(schema.get("enum", [1])))
    return {"reason": "It did.", "quote": "", "score": high, "confidence": 80}


class ModelServer:
    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.script: list[object] = []
        self.mind: Callable[[Asked], dict[str, Any]] = verdict
        self.desk = Desk()
        self.closing = threading.Event()
        self.lock = threading.Lock()
        self.url = ""

    def answered_tokens(self) -> int:
        """What it would bill had it answered every question."""
        return sum(asked.tokens + WRITTEN for asked in self.asked)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet."""

    def do_GET(self) -> None:
        self._desk("GET", b"")

    def do_DELETE(self) -> None:
        self._desk("DELETE", b"")

    def do_POST(self) -> None:
        model = self.server.model
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.startswith(("/v1/files", "/v1/batches", "/v1/fine_tuning")):
            self._desk("POST", content)
            return
        body = json.loads(content)
        asked = Asked(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        with model.lock:
            model.asked.append(asked)
            behaviour = model.script.pop(0) if model.script else None
        if behaviour is None:
            problem = _problem(asked)
            behaviour = (
                Status(400, error={"message": problem, "type": "invalid_request_error"})
                if problem
                else Says(json.dumps(model.mind(asked)))
            )
        self._behave(behaviour, asked)

    def _desk(self, method: str, content: bytes) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        with self.server.model.lock:
            answer = self.server.model.desk.serve(method, self.path, headers, content)
        if answer is None:
            self.close_connection = True
            return
        self._send(*answer)

    def _behave(self, behaviour: object, asked: Asked) -> None:
        match behaviour:
            case Status(code, headers, error):
                self._send(code, json.dumps({"error": dict(error)}).encode(), "application/json", headers)
            case Says():
                self._send(200, json.dumps(_document(asked, behaviour)).encode())
            case Refuses(text):
                self._send(200, json.dumps(_refusal(asked, text)).encode())
            case Body(content, kind):
                self._send(200, content, kind)
            case Hangs():
                self.server.model.closing.wait(30)
                self.close_connection = True
            case Drops():
                self.wfile.write(b"HTTP/1.1 200 O")
                self.close_connection = True

    def _send(
        self, code: int, content: bytes, kind: str = "application/json", headers: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(code)
        for name, value in {"Content-Type": kind, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    model: ModelServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that went away are what some tests are about."""


def _problem(asked: Asked) -> str | None:
    """Why the real server would not take a request."""
    known = {"/v1/responses": "input", "/v1/chat/completions": "messages"}
    if known.get(asked.path) not in asked.body:
        return f"unknown route or missing parameter: {asked.path}"
    if "input" in asked.body and asked.body["text"]["format"]["type"] != "json_schema":
        return "text.format.type"
    if "messages" in asked.body and asked.body["response_format"]["type"] != "json_schema":
        return "response_format.type"
    form = asked.form
    schema = form["schema"]
    strict = form["strict"] is True and schema.get("additionalProperties") is False
    if not strict or set(schema["required"]) != set(schema["properties"]):
        return "Invalid schema: additionalProperties is required to be false and all properties required"
    limit = asked.body.get("max_output_tokens", asked.body.get("max_completion_tokens"))
    return None if isinstance(limit, int) and limit >= 16 else "max tokens"


def _document(asked: Asked, says: Says) -> dict[str, Any]:
    if "input" in asked.body:
        part = {"type": "output_text", "text": says.text, "annotations": []}
        document = _response(asked, [part])
        if says.cut:
            document |= {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    else:
        message = {"role": "assistant", "content": says.text, "refusal": None}
        document = _completion(asked, message, "length" if says.cut else "stop")
    if not says.counted:
        document.pop("usage")
    return document


def _refusal(asked: Asked, text: str) -> dict[str, Any]:
    if "input" in asked.body:
        return _response(asked, [{"type": "refusal", "refusal": text}])
    return _completion(asked, {"role": "assistant", "content": None, "refusal": text}, "stop")


def _response(asked: Asked, content: list[dict[str, Any]]) -> dict[str, Any]:
    reasoning = {"id": "rs_1", "type": "reasoning", "summary": []}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content}
    return {
        "id": "resp_1", "object": "response", "created_at": 1_795_600_000, "status": "completed", "model": NAMED,
        "error": None, "incomplete_details": None, "output": [reasoning, message], "parallel_tool_calls": True,
        "tool_choice": "auto", "tools": [],
        "usage": {
            "input_tokens": asked.tokens, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": WRITTEN,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": asked.tokens + WRITTEN,
        },
    }  # fmt: skip


def _completion(asked: Asked, message: dict[str, Any], reason: str) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_795_600_000, "model": NAMED,
        "choices": [{"index": 0, "message": message, "finish_reason": reason, "logprobs": None}],
        "usage": {
            "prompt_tokens": asked.tokens, "completion_tokens": WRITTEN, "total_tokens": asked.tokens + WRITTEN,
        },
    }  # fmt: skip


def batch_response(line: Mapping[str, Any], behaviour: "Says | Refuses") -> dict[str, Any]:
    """The `response` of a line of a batch, as the server would have answered it alone."""
    asked = Asked(line["url"], {}, line["body"])
    problem = _problem(asked)
    if problem:
        return {"response": {"status_code": 400, "request_id": "q", "body": {"error": {"message": problem}}}}
    made = _document(asked, behaviour) if isinstance(behaviour, Says) else _refusal(asked, behaviour.text)
    return {"response": {"status_code": 200, "request_id": "q", "body": made}}


@contextmanager
def model_server() -> Iterator[ModelServer]:
    """A running server; `url` is its base address."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.model = ModelServer()
    server.model.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.model
    finally:
        server.model.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
