"""The files and batches of a fake model server: what is uploaded, which batches are made of it, how they end.

A fault of `faults` hits the next request to its method and path: a number is that status before anything happens,
"lost" does what was asked and drops the connection instead of answering, "page" answers a web page.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from tests.pipelines.judges.model_tuning import TuningDesk

Answer = tuple[int, bytes]


class Desk:
    def __init__(self) -> None:
        self.tuning = TuningDesk(self)
        self.files: dict[str, tuple[str, bytes]] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.faults: dict[str, list[object]] = {}
        self.requests: list[str] = []
        self.created = 0
        self.uploads = 0
        self.removed: list[str] = []
        self.hidden = False  # a batch that was just made is not listed yet

    def serve(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer | None:
        """The answer to a request, None to drop the connection."""
        route = path.split("?")[0]
        self.requests.append(f"{method} {route}")
        fault = self.faults.get(f"{method} {route}", [])
        hit = fault.pop(0) if fault else None
        if hit == "page":
            return 200, b"<html>a page</html>"
        if isinstance(hit, int):
            return hit, json.dumps({"error": {"message": "not now", "type": "server_error"}}).encode()
        answer = self._serve(method, route, headers, body)
        return None if hit == "lost" else answer

    def lines(self, batch_id: str) -> list[dict[str, Any]]:
        """The questions of a batch."""
        content = self.files[self.batches[batch_id]["input_file_id"]][1]
        return [json.loads(line) for line in content.decode().splitlines()]

    def finish(
        self,
        batch_id: str,
        answer: Callable[[dict[str, Any]], dict[str, Any] | None],
        status: str = "completed",
    ) -> None:
        """End a batch: `answer` gives the `response` of a line, or {"error"}, or None for no line; the last first."""
        good, bad = [], []
        for line in reversed(self.lines(batch_id)):
            made = answer(line)
            if made is None:
                continue
            entry = {"id": "r", "custom_id": line["custom_id"], "response": None, "error": None, **made}
            (bad if made.get("error") else good).append(json.dumps(entry))
        batch = self.batches[batch_id]
        batch["status"] = status
        for key, entries in (("output_file_id", good), ("error_file_id", bad)):
            if entries:
                batch[key] = self._keep(f"{key}.jsonl", ("\n".join(entries) + "\n").encode())

    def _serve(self, method: str, route: str, headers: dict[str, str], body: bytes) -> Answer:
        match method, route.removeprefix("/v1/").split("/"):
            case "POST", ["files"]:
                return self._upload(headers, body)
            case "GET", ["files"]:
                listed = [_file(name, *kept) for name, kept in reversed(self.files.items())]
                return _ok({"object": "list", "data": listed, "has_more": False})
            case "GET", ["files", name, "content"] if name in self.files:
                return 200, self.files[name][1]
            case "DELETE", ["files", name] if name in self.files:
                self.removed.append(name)
                del self.files[name]
                return _ok({"id": name, "object": "file", "deleted": True})
            case "POST", ["batches"]:
                return self._create(json.loads(body))
            case "GET", ["batches"]:
                shown = [] if self.hidden else list(reversed(self.batches.values()))
                return _ok({"object": "list", "data": shown, "has_more": False})
            case "GET", ["batches", name] if name in self.batches:
                return _ok(self.batches[name])
        answer = self.tuning.serve(method, route, body)
        if answer is not None:
            return answer
        return 404, json.dumps({"error": {"message": f"no route {method} {route}", "type": "not_found"}}).encode()

    def _upload(self, headers: dict[str, str], body: bytes) -> Answer:
        boundary = re.search(r"boundary=(\S+)", headers["content-type"])[1].strip('"').encode()  # type: ignore[index]
        fields: dict[str, tuple[str, bytes]] = {}
        for part in body.split(b"--" + boundary)[1:-1]:
            head, _, content = part.removeprefix(b"\r\n").removesuffix(b"\r\n").partition(b"\r\n\r\n")
            name = re.search(rb'name="([^"]*)"', head)[1].decode()  # type: ignore[index]
            filename = re.search(rb'filename="([^"]*)"', head)
            fields[name] = (filename[1].decode() if filename else "", content)
        assert fields["purpose"][1] in (b"batch", b"fine-tune")
        name, content = fields["file"]
        return _ok(_file(self._keep(name, content), name, content))

    def _create(self, asked: dict[str, Any]) -> Answer:
        assert asked["completion_window"] == "24h"
        assert asked["input_file_id"] in self.files
        self.created += 1
        name = f"batch_{self.created}"
        self.batches[name] = {
            "id": name, "object": "batch", "endpoint": asked["endpoint"], "input_file_id": asked["input_file_id"],
            "completion_window": "24h", "status": "validating", "created_at": 1_795_600_000,
            "metadata": asked.get("metadata"), "output_file_id": None, "error_file_id": None, "errors": None,
        }  # fmt: skip
        return _ok(self.batches[name])

    def _keep(self, name: str, content: bytes) -> str:
        self.uploads += 1
        file_id = f"file-{self.uploads}"
        self.files[file_id] = (name, content)
        return file_id


def _file(file_id: str, name: str, content: bytes) -> dict[str, Any]:
    return {
        "id": file_id, "object": "file", "bytes": len(content), "created_at": 1_795_600_000, "filename": name,
        "purpose": "batch", "status": "processed",
    }  # fmt: skip


def _ok(document: dict[str, Any]) -> Answer:
    return 200, json.dumps(document).encode()
