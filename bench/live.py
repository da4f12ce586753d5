"""Live ingest: requests of 512 spans over OTLP, from several client processes at once.

Every measurement sends bodies that were made before it began, and ends when the last span can be queried.
"""

import gzip
import http.client
import json
import multiprocessing
import os
import queue
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench.beside import Beside
from bench.data import _WORDS
from pipelines.commands.remote import RemoteOperations, find_server

SPANS = 512
_PATIENCE_SECONDS = 120
_KINDS = ("AGENT", "LLM", "TOOL", "LLM", "LLM")
_HEADERS = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
# Room between the ids of the bodies of one run, the probes among them.
PROBES_FROM = 10_000_000
WARM_FROM = 20_000_000
NEWS_FROM = 30_000_000


def body(number: int) -> bytes:
    """Request `number`: 512 spans, five to a trace, with about 1 KB of text each; its ids are in no other number."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    name = resource.resource.attributes.add()
    name.key, name.value.string_value = "service.name", "bench"
    scope = resource.scope_spans.add()
    chance = random.Random(number)
    begun = time.time_ns()
    for place in range(SPANS):
        index = number * SPANS + place
        trace, step = divmod(index, 5)
        span = scope.spans.add()
        span.trace_id = trace_id(trace)
        span.span_id = (index + 1).to_bytes(8, "big")
        if step:
            span.parent_span_id = (index + 1 - step).to_bytes(8, "big")
        span.name = "chat"
        span.start_time_unix_nano = begun + place * 1000
        span.end_time_unix_nano = begun + place * 1000 + 5_000_000
        texts = {
            "openinference.span.kind": _KINDS[step],
            "llm.model_name": "gpt-4o",
            "input.value": " ".join(chance.choices(_WORDS, k=80)),
            "output.value": " ".join(chance.choices(_WORDS, k=80)),
            "user.id": f"user-{trace % 5000}",
            "session.id": f"session-{trace}",
        }
        for key, text in texts.items():
            attribute = span.attributes.add()
            attribute.key, attribute.value.string_value = key, text
        for key, count in (("llm.token_count.prompt", 100), ("llm.token_count.completion", 40)):
            attribute = span.attributes.add()
            attribute.key, attribute.value.int_value = key, count
    return gzip.compress(request.SerializeToString(), 6)


def trace_id(trace: int) -> bytes:
    """The id of a trace of `body`; never zero."""
    return ((77 << 64) + trace + 1).to_bytes(16, "big")


@dataclass(frozen=True)
class Bodies:
    """Requests in one file: (offset, length) of each."""

    path: Path
    places: Sequence[tuple[int, int]]

    @property
    def spans(self) -> int:
        """How many spans they hold."""
        return len(self.places) * SPANS

    def contents(self) -> Iterator[bytes]:
        """The requests one after the other."""
        with self.path.open("rb") as file:
            for _, length in self.places:
                yield file.read(length)


def bodies(path: Path, count: int, *, first: int = 0) -> Bodies:
    """Make requests `first` .. `first + count` in all cores, into a file."""
    places: list[tuple[int, int]] = []
    context = multiprocessing.get_context("spawn")
    with context.Pool() as pool, path.open("wb") as file:
        for made in pool.imap(body, range(first, first + count), chunksize=4):
            places.append((file.tell(), len(made)))
            file.write(made)
    return Bodies(path, places)


@dataclass
class Sent:
    """What the clients saw: seconds of each acknowledgement, answers by status, and the moments of begin and end."""

    acknowledged: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    begun: float = 0.0
    ended: float = 0.0

    @property
    def busy(self) -> int:
        """Requests that were told to come back later."""
        return self.statuses["429"]


@dataclass(frozen=True)
class Target:
    """An OTLP endpoint on this machine."""

    port: int
    path: str = "/v1/traces"
    headers: dict[str, str] = field(default_factory=dict)


def send(
    target: Target,
    made: Bodies,
    *,
    processes: int = 2,
    connections: int = 4,
    rate: float | None = None,
    patience: float = 60.0,
) -> Sent:
    """Send all bodies, each until it is taken, from `processes` x `connections` clients.

    Without `rate` every client sends its next request when the last is acknowledged. With `rate` (spans/s) requests
    fall due evenly; their seconds count from when they were due, so a server that stalls cannot hide it.
    Raises: `RuntimeError` when a request is refused otherwise than by 429 or 503.
    """
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(processes + 1)
    start = context.Value("d", 0.0)
    answers = context.Queue()
    children = []
    for number in range(processes):
        share = [(index, *place) for index, place in enumerate(made.places) if index % processes == number]
        gap = None if rate is None else SPANS / rate
        arguments = (target, str(made.path), share, connections, gap, patience, ready, start, answers)
        children.append(context.Process(target=_client_process, args=arguments, daemon=True))
    for child in children:
        child.start()
    ready.wait(_PATIENCE_SECONDS)
    sent = Sent(begun=time.time())
    start.value = sent.begun
    ready.wait(_PATIENCE_SECONDS)
    parts: list[dict[str, Any]] = []
    while len(parts) < len(children):
        try:
            parts.append(answers.get(timeout=1.0))
        except queue.Empty:
            if any(child.exitcode for child in children):
                raise RuntimeError("a client process was stopped") from None
    for child in children:
        child.join()
    for part in parts:
        if part["error"]:
            raise RuntimeError(part["error"])
        sent.acknowledged += part["acknowledged"]
        sent.statuses.update(part["statuses"])
        sent.ended = max(sent.ended, part["ended"])
    return sent


def _client_process(
    target: Target, path: str, share: list[tuple[int, int, int]], connections: int, gap: float | None,
    patience: float, ready: "threading.Barrier", start: "object", answers: "object",
) -> None:  # fmt: skip
    """Send a share of the bodies over several connections."""
    waiting, lock = iter(share), threading.Lock()
    acknowledged: list[float] = []
    statuses: Counter[str] = Counter()
    errors: list[str] = []
    descriptor = os.open(path, os.O_RDONLY)

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=patience)
        while not errors:
            with lock:
                following = next(waiting, None)
            if following is None:
                return
            index, offset, length = following
            content = os.pread(descriptor, length, offset)
            asked = time.time()
            if gap is not None:
                due = start.value + index * gap  # type: ignore[attr-defined]
                time.sleep(max(0.0, due - asked))
                asked = due
            while not errors:
                begun = time.time() if gap is None else asked
                status, retry_after, text = _post(connection, target, content)
                with lock:
                    statuses[str(status)] += 1
                    if status == 200:
                        acknowledged.append(time.time() - begun)
                if status == 200:
                    break
                if status not in (429, 503):
                    errors.append(f"{status}: {text[:300]!r}")
                    return
                time.sleep(retry_after)

    def guarded() -> None:
        try:
            client()
        except Exception as error:
            errors.append(repr(error))

    ready.wait()
    ready.wait()
    threads = [threading.Thread(target=guarded) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers.put(  # type: ignore[attr-defined]
        {
            "acknowledged": acknowledged, "statuses": dict(statuses), "ended": time.time(),
            "error": errors[0] if errors else None,
        }
    )  # fmt: skip


def send_one(target: Target, content: bytes) -> None:
    """Send one request until it is taken. Raises: `RuntimeError` when it is refused otherwise than by 429 or 503."""
    with closing(http.client.HTTPConnection("127.0.0.1", target.port, timeout=60)) as connection:
        while True:
            status, retry_after, text = _post(connection, target, content)
            if status == 200:
                return
            if status not in (429, 503):
                raise RuntimeError(f"{status}: {text[:300]!r}")
            time.sleep(retry_after)


def _post(connection: http.client.HTTPConnection, target: Target, content: bytes) -> tuple[int, float, bytes]:
    connection.request("POST", target.path, content, {**_HEADERS, **target.headers})
    answer = connection.getresponse()
    text = answer.read()
    return answer.status, float(answer.headers.get("Retry-After", "1")), text


@contextmanager
def started(
    command: Sequence[str], environment: dict[str, str], ready: str, log: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """A server process, given once address `ready` answers; stopped at the end."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=file, stderr=file, start_new_session=True
        )
    try:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} ended with code {process.returncode}: {log.read_text()[-500:]}")
            try:
                with urllib.request.urlopen(ready, timeout=5):
                    break
            except (urllib.error.URLError, OSError) as error:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{ready} does not answer: {log.read_text()[-500:]}") from error
                time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with suppress(ProcessLookupError):
            # What it started and left behind is in its own group.
            os.killpg(process.pid, signal.SIGKILL)


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def trimtab(folder: Path) -> Iterator[tuple["subprocess.Popen[bytes]", Target, RemoteOperations]]:
    """The real server on an empty store in `folder`, with its scheduler: its process, endpoint and control routes."""
    port, db = free_port(), folder / "trimtab.duckdb"
    environment = {
        "TRIMTAB_DB": str(db),
        "TRIMTAB_PORT": str(port),
        "TRIMTAB_INBOX": str(folder / "inbox"),
        "TRIMTAB_ALLOW_KEYLESS_LOOPBACK": "1",
    }
    command = [sys.executable, "-m", "dashboard.server"]
    with started(command, environment, f"http://127.0.0.1:{port}/readyz", folder / "server.log") as process:
        control = find_server(db)
        if control is None:
            raise RuntimeError("the control routes do not answer")
        yield process, Target(port), control


class Memory(Beside):
    """Resident megabytes of a process and all its children, once a second while it is open."""

    def __init__(self, pid: int) -> None:
        super().__init__()
        self._pid = pid
        self.samples: list[tuple[float, float, float]] = []
        """(moment, the process alone, with its children)"""

    @property
    def peak_mb(self) -> tuple[float, float]:
        """The most seen: of the process alone, and with its children."""
        return max(each[1] for each in self.samples), max(each[2] for each in self.samples)

    def work(self) -> None:
        """Look once a second."""
        while True:
            self.samples.append((time.time(), *resident_mb(self._pid)))
            if self.stop.wait(1.0):
                return


def resident_mb(pid: int) -> tuple[float, float]:
    """Resident megabytes of a process alone and with all its children."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,rss="], capture_output=True, text=True, check=True)
    parents: dict[int, list[int]] = {}
    sizes: dict[int, int] = {}
    for line in listed.stdout.splitlines():
        child, parent, size = map(int, line.split())
        parents.setdefault(parent, []).append(child)
        sizes[child] = size
    family, reached = [pid], 0
    while reached < len(family):
        family += parents.get(family[reached], [])
        reached += 1
    return sizes.get(pid, 0) / 1024, sum(sizes.get(each, 0) for each in family) / 1024


class Probes(Beside):
    """While it is open: a request every second whose spans are asked for from the moment it is acknowledged."""

    def __init__(self, target: Target, control: RemoteOperations, *, every: float = 1.0) -> None:
        super().__init__()
        self._target, self._control, self._every, self._number = target, control, every, PROBES_FROM
        self.since_sent: list[float] = []
        self.since_acknowledged: list[float] = []

    @property
    def spans(self) -> int:
        """How many spans the probes sent."""
        return len(self.since_sent) * SPANS

    def work(self) -> None:
        """Probe after probe, with a pause in between."""
        while True:
            self._probe()
            if self.stop.wait(self._every):
                return

    def _probe(self) -> None:
        number, self._number = self._number, self._number + 1
        content = body(number)
        low = trace_id(number * SPANS // 5).hex()
        high = trace_id((number * SPANS + SPANS - 1) // 5).hex()
        first, last = f"{number * SPANS + 1:016x}", f"{number * SPANS + SPANS:016x}"
        question = (
            f"SELECT count(*) AS n FROM spans WHERE trace_id BETWEEN '{low}' AND '{high}' "
            f"AND span_id BETWEEN '{first}' AND '{last}'"
        )
        sent = time.perf_counter()
        send_one(self._target, content)
        acknowledged = time.perf_counter()
        while self._control.sql(question, 30.0).item() < SPANS:
            if time.perf_counter() - acknowledged > 30:
                raise RuntimeError("acknowledged spans cannot be queried")
        seen = time.perf_counter()
        self.since_sent.append(seen - sent)
        self.since_acknowledged.append(seen - acknowledged)


def until_counted(count: Callable[[], int], expected: int, patience: float) -> float:
    """The moment when `count` has come to `expected`. Raises: `RuntimeError` when it stands still below that."""
    seen, moved = -1, time.time()
    while True:
        present = count()
        if present >= expected:
            return time.time()
        if present != seen:
            seen, moved = present, time.time()
        if time.time() - moved > patience:
            raise RuntimeError(f"{present:,} of {expected:,} spans can be queried, and no more come")
        time.sleep(0.05)


@dataclass(frozen=True)
class LoadFigures:
    """One load: spans, seconds until all could be queried, what clients and probes saw, and peak memory."""

    spans: int
    seconds: float
    sent: Sent
    since_sent: list[float]
    since_acknowledged: list[float]
    peak_mb: float
    peak_family_mb: float

    @property
    def rate(self) -> float:
        """Spans a second, from the first byte sent until the last span could be queried."""
        return self.spans / self.seconds


def measure(folder: Path, requests: int, connections: int) -> LoadFigures:
    """Trimtab taking `requests` requests as fast as two processes of `connections` clients send them.

    Raises: `RuntimeError` if one is lost.
    """
    made = bodies(folder / "bodies.bin", requests)
    warm = bodies(folder / "warm.bin", 16, first=WARM_FROM)
    with trimtab(folder) as (process, target, control):
        send(target, warm)

        def count() -> int:
            return int(control.sql("SELECT count(*) AS n FROM spans", 60.0).item())

        before = count()
        if before != warm.spans:
            raise RuntimeError(f"{before:,} of {warm.spans:,} acknowledged spans can be queried")
        with Memory(process.pid) as memory:
            with Probes(target, control) as probes:
                sent = send(target, made, connections=connections)
            expected = before + made.spans + probes.spans
            seen = until_counted(count, expected, 60.0)
        if count() != expected:
            raise RuntimeError(f"{count():,} spans are stored, {expected:,} were sent")
    made.path.unlink()
    return LoadFigures(
        made.spans + probes.spans, seen - sent.begun, sent, probes.since_sent, probes.since_acknowledged,
        *memory.peak_mb,
    )  # fmt: skip


def describe_statuses(sent: Sent) -> str:
    """The answers by status, as text."""
    return json.dumps(dict(sorted(sent.statuses.items())))[1:-1].replace('"', "")
