"""Fine-tuning at the fake model server, and what a file must be for the real one to take it.

`problems` was written from the API's documentation (supervised fine-tuning, function calling and direct preference
optimization), not from what Trimtab writes: an independent reader of the two formats.
"""

import json
import re
from typing import Any

ROLES = ("system", "user", "assistant", "tool")
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def problems(content: bytes, method: str) -> list[str]:
    """What is wrong with a file of training data; nothing when the API would take it."""
    found = []
    try:
        lines = content.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        return ["not UTF-8"]
    if content and not content.endswith(b"\n"):
        found.append("the last line is not ended")
    for number, line in enumerate(lines, start=1):
        try:
            example = json.loads(line)
            assert isinstance(example, dict), "not an object"
            (_supervised if method == "supervised" else _preference)(example)
        except (AssertionError, ValueError, KeyError, TypeError) as error:
            found.append(f"line {number}: {error!r}")
    return found


def _supervised(example: dict[str, Any]) -> None:
    assert set(example) <= {"messages", "tools", "parallel_tool_calls"}, "unknown keys"
    _conversation(example["messages"], _tools(example))
    assert example["messages"][-1]["role"] == "assistant", "ends without the assistant"


def _preference(example: dict[str, Any]) -> None:
    assert set(example) == {"input", "preferred_output", "non_preferred_output"}, "keys"
    asked = example["input"]
    assert set(asked) <= {"messages", "tools", "parallel_tool_calls"}, "unknown keys of input"
    names = _tools(asked)
    waiting = _conversation(asked["messages"], names)
    assert not waiting, "the prompt ends in the middle of a call"
    for key in ("preferred_output", "non_preferred_output"):
        assert len(example[key]) == 1, f"{key} is not one message"
        (message,) = example[key]
        assert message["role"] == "assistant", key
        _conversation([{"role": "user", "content": "x"}, message], names)
    assert example["preferred_output"] != example["non_preferred_output"], "both answers are the same"


def _tools(holder: dict[str, Any]) -> set[str]:
    names = set()
    for tool in holder.get("tools", []):
        assert tool["type"] == "function", "tool type"
        assert NAME.fullmatch(tool["function"]["name"]), "tool name"
        assert tool["function"]["parameters"]["type"] == "object", "tool parameters"
        names.add(tool["function"]["name"])
    return names


def _conversation(messages: list[dict[str, Any]], tools: set[str]) -> set[str]:
    """Check messages; returns the ids of calls that nobody answered."""
    assert messages, "no messages"
    assert any(message["role"] == "user" for message in messages), "nobody asks"
    waiting: set[str] = set()
    for message in messages:
        role, content = message["role"], message.get("content")
        assert role in ROLES, f"role {role}"
        if role == "tool":
            assert message["tool_call_id"] in waiting, "a result of no call"
            waiting.discard(message["tool_call_id"])
        else:
            assert not waiting, "a call is not answered at once"
        if role == "assistant" and content is None:
            assert message.get("tool_calls"), "an assistant who says nothing"
        else:
            assert isinstance(content, str), "content is no text"
        assert set(message) <= {"role", "content", "tool_calls", "tool_call_id", "name", "weight"}, "keys of a message"
        for call in message.get("tool_calls", []):
            assert role == "assistant", "calls of somebody else"
            assert call["type"] == "function"
            assert isinstance(json.loads(call["function"]["arguments"]), dict), "arguments are no object"
            assert call["function"]["name"] in tools, "a call of a tool that is not declared"
            assert call["id"] not in waiting, "the same id twice"
            waiting.add(call["id"])
    return waiting


class TuningDesk:
    """Fine-tuning jobs of a desk with files."""

    def __init__(self, desk: Any) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.hidden = False  # a job that was just made is not listed yet
        self.created = 0
        self._desk = desk

    def serve(self, method: str, route: str, body: bytes) -> tuple[int, bytes] | None:
        """The answer to a request of fine-tuning, None for any other."""
        match method, route.removeprefix("/v1/").split("/"):
            case "POST", ["fine_tuning", "jobs"]:
                return self._create(json.loads(body))
            case "GET", ["fine_tuning", "jobs"]:
                shown = [] if self.hidden else list(reversed(self.jobs.values()))
                return 200, json.dumps({"object": "list", "data": shown, "has_more": False}).encode()
            case "GET", ["fine_tuning", "jobs", name] if name in self.jobs:
                return 200, json.dumps(self.jobs[name]).encode()
        return None

    def finish(self, name: str, status: str = "succeeded", *, tokens: int | None = 12_000) -> None:
        """End a job."""
        job = self.jobs[name]
        job |= {"status": status, "trained_tokens": tokens, "finished_at": 1_795_700_000}
        if status == "succeeded":
            job["fine_tuned_model"] = f"ft:{job['model']}:shop:{job['suffix']}:{name}"
        elif status == "failed":
            job["error"] = {"code": "invalid_training_file", "message": "It cannot be read.", "param": "training_file"}

    def _create(self, asked: dict[str, Any]) -> tuple[int, bytes]:
        assert set(asked) <= {"model", "training_file", "validation_file", "method", "seed", "suffix", "metadata"}
        kind = asked["method"]["type"]
        assert kind in ("supervised", "dpo")
        assert isinstance(asked["method"][kind]["hyperparameters"]["n_epochs"], int)
        wrong: list[str] = []
        for key in ("training_file", "validation_file"):
            if asked.get(key) is not None:
                content = self._desk.files[asked[key]][1]
                wrong += problems(content, kind)
                if key == "training_file" and len(content.splitlines()) < 10:
                    wrong.append("has fewer than the minimum number of examples required: 10")
        if wrong:
            error = {"message": "; ".join(wrong[:3]), "type": "invalid_request_error", "code": "invalid_file"}
            return 400, json.dumps({"error": error}).encode()
        self.created += 1
        name = f"ftjob-{self.created}"
        self.jobs[name] = {
            "id": name, "object": "fine_tuning.job", "created_at": 1_795_600_000, "model": asked["model"],
            "status": "validating_files", "error": None, "fine_tuned_model": None, "finished_at": None,
            "hyperparameters": {}, "organization_id": "org-1", "result_files": [], "seed": asked.get("seed"),
            "trained_tokens": None, "training_file": asked["training_file"], "method": asked["method"],
            "validation_file": asked.get("validation_file"), "metadata": asked.get("metadata"),
            "suffix": asked.get("suffix"),
        }  # fmt: skip
        return 200, json.dumps(self.jobs[name]).encode()
