"""Steering: questions at a steady pace to the real server, while a visitor goes round the pages and jobs run.

Questions fall due evenly and their time counts from then, so a server that stalls cannot hide it. Where this machine
lets it, the process that asks goes before all others, as agents do that run on machines of their own: its own waiting
for the processor is not the server's. Everything that was answered has to be in the store afterwards.
"""

import asyncio
import json
import multiprocessing
import os
import time
import urllib.request
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from bench import nightly
from bench.beside import Beside
from bench.live import Target, trimtab, until_counted
from bench.measure import alone
from bench.soak import Visits
from gateway.access import Access
from gateway.steering_apart import Apart
from pipelines.commands.remote import RemoteOperations, ServerError
from pipelines.steering.policy import Arm, Limits, Policy, Users
from store import policies
from store.connection import Store

AGENT = "agent-0"
_CONNECTIONS = 16
_PATIENCE_SECONDS = 120.0
# Work of a night that goes on beside the questions, again and again until they end.
_JOBS = ("tasks", "rewards", "transitions", "credit", "failures", "signal-yield", "preferences", "exploration")


@dataclass(frozen=True)
class SteerFigures:
    """One run. `seconds` of every answer since it was due; `jobs` that ended meanwhile with their seconds.

    `apart_cpu_seconds` and `apart_mb` are those of the steering process; `load` is the machine's average of the minute.
    """

    questions: int
    statuses: dict[str, int]
    seconds: list[float]
    logged: int
    distinct: int
    pages: dict[str, list[float]]
    jobs: list[tuple[str, float]]
    cpu_seconds: float
    begun_seconds: float
    apart_cpu_seconds: float
    apart_mb: float
    load: float


@dataclass
class _Asked:
    seconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)


def policy(users: int, arms: int = 4) -> Policy:
    """A policy of four arms and five segments; every user has a rate, a fifth of them a posterior of their own."""
    random = np.random.default_rng(1)
    mean = np.full((users, arms), np.nan, dtype=np.float32)
    sd = mean.copy()
    own = random.random(users) < 0.2
    mean[own] = random.uniform(0.4, 0.7, (int(own.sum()), arms))
    sd[own] = random.uniform(0.03, 0.15, (int(own.sum()), arms))
    segments = tuple(f"segment-{number}" for number in range(5))
    return Policy(
        agent=AGENT, version=0, built_at=datetime.now(UTC), reward_model_id=1, salt="bench",
        arms=tuple(
            Arm(f"arm-{number}", "prompt", "enabled", number == 0, {"prompt_version": str(number)})
            for number in range(arms)
        ),
        mean=np.array([0.6, 0.59, 0.57, 0.5]), sd=np.array([0.02, 0.03, 0.03, 0.05]),
        n=np.full(arms, 1000, dtype=np.int64), rate=0.1, propensity_floor=0.01, segments=segments,
        segment_mean=random.uniform(0.5, 0.6, (5, arms)), segment_sd=np.full((5, arms), 0.04),
        segment_rate=np.full(5, np.nan),
        users=Users(
            index={f"u{number}": number for number in range(users)},
            segment=random.integers(0, 5, users).astype(np.int32), mean=mean, sd=sd,
            rate=random.uniform(0.01, 0.3, users).astype(np.float32), opted_out=random.random(users) < 0.01,
        ),
        never_segments=frozenset(), never_tasks=frozenset(), daily_regret_budget=1_000.0, solicit_rate=0.02,
        limits=Limits(), instructions="Ask for the order number before anything else.\n" * 40, lesson_ids=("l-1",),
    )  # fmt: skip


def cold_start(path: str) -> dict[str, float]:
    """Seconds from an open store to the first answer of a new steering process, and how many users it knows; run this
    in a process of its own."""
    store = Store.open(Path(path))
    began = time.perf_counter()
    access = Access(store, keyless_loopback=True)
    apart = Apart(store, access, Path(f"{path}.cold"), keyless_loopback=True, grace_seconds=5.0)
    try:
        if not apart.wait(60.0):
            raise RuntimeError("the steering process did not start")
        response = asyncio.run(_answered(apart))
        seconds = time.perf_counter() - began
        if response.status_code != 200:
            raise RuntimeError(bytes(response.body).decode())
        held = apart.policies.policy_for(AGENT)
        return {"seconds": seconds, "users": float(len(held.users.index)) if held is not None else 0.0}
    finally:
        apart.close()
        access.close()
        store.close()


async def _answered(apart: Apart) -> Response:
    """The answer to one question that came to the server."""

    async def receive() -> Message:
        return {"type": "http.request", "body": json.dumps({"agent": AGENT, "user_id": "u7"}).encode()}

    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/steer", "headers": headers, "client": ("127.0.0.1", 1)}
    return await apart.respond(Request(scope, receive))


def measure(folder: Path, *, rate: float, seconds: float, traces: int, users: int) -> tuple[SteerFigures, float]:
    """One run, and the seconds of a cold start on the same store."""
    db = folder / "trimtab.duckdb"
    nightly.build(db, traces, max(10, traces // 10))
    store = Store.open(db)
    policies.publish(store, policy(users), cause="operator")
    store.close()
    cold = alone(cold_start, str(db)).value
    if cold["users"] != users:
        raise RuntimeError(f"the policy came back with {cold['users']} users")
    began = time.perf_counter()
    with trimtab(folder) as (process, target, control):
        begun_seconds = time.perf_counter() - began
        # What was asked to measure the cold start and to warm up is logged too.
        warm = _logged(control) + ask(target, rate=rate, seconds=2.0, users=users).statuses["200"]
        until_counted(lambda: _logged(control), warm, _PATIENCE_SECONDS)
        apart = steering_pid(target)
        cpu, apart_cpu = _cpu_seconds(process.pid), _cpu_seconds(apart)
        with ExitStack() as stack:
            visits = stack.enter_context(Visits(target.port))
            jobs = stack.enter_context(Jobs(control))
            asked = ask(target, rate=rate, seconds=seconds, users=users)
            cpu, apart_cpu = _cpu_seconds(process.pid) - cpu, _cpu_seconds(apart) - apart_cpu
        answered = asked.statuses["200"]
        until_counted(lambda: _logged(control) - warm, answered, _PATIENCE_SECONDS)
        distinct = control.sql("SELECT count(DISTINCT decision_id) AS n FROM decisions", 60)["n"][0]
        figures = SteerFigures(
            questions=sum(asked.statuses.values()), statuses=dict(asked.statuses), seconds=asked.seconds,
            logged=_logged(control) - warm, distinct=distinct - warm, pages=visits.seconds, jobs=jobs.ended,
            cpu_seconds=cpu, begun_seconds=begun_seconds, apart_cpu_seconds=apart_cpu, apart_mb=_resident_mb(apart),
            load=os.getloadavg()[0],
        )  # fmt: skip
    return figures, cold["seconds"]


def ask(target: Target, *, rate: float, seconds: float, users: int) -> _Asked:
    """Questions from a process of its own, `rate` a second, over sixteen connections."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        answers, statuses = pool.apply(_client, (target.port, rate, seconds, users))
    return _Asked(answers, Counter(statuses))


class Jobs(Beside):
    """While it is open: the jobs of a night, one after the other, round and round."""

    def __init__(self, control: RemoteOperations) -> None:
        super().__init__()
        self._control = control
        self.ended: list[tuple[str, float]] = []

    def work(self) -> None:
        """Run jobs."""
        while True:
            for name in _JOBS:
                began = time.perf_counter()
                try:
                    for _ in self._control.run(name):
                        pass
                    self.ended.append((name, time.perf_counter() - began))
                except ServerError:
                    # The scheduler runs it at this moment.
                    self.stop.wait(0.2)
                if self.stop.is_set():
                    return


def _client(port: int, rate: float, seconds: float, users: int) -> tuple[list[float], dict[str, int]]:
    with suppress(PermissionError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    return asyncio.run(_questions(port, rate, int(rate * seconds), users))


async def _questions(port: int, rate: float, count: int, users: int) -> tuple[list[float], dict[str, int]]:
    """Ask `count` questions evenly; whichever connection is free takes the next."""
    random = np.random.default_rng(2)
    people = random.integers(0, users * 11 // 10, count)
    sessions = random.integers(0, max(1, count // 3), count)
    tasks = random.integers(0, 50, count)
    answers: list[float] = []
    statuses: Counter[str] = Counter()
    following = iter(range(count))
    start = time.perf_counter() + 0.2

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in following:
            due = start + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            writer.write(_question(port, people[number], sessions[number], tasks[number]))
            status = await _status(reader)
            answers.append(time.perf_counter() - due)
            statuses[status] += 1
        writer.close()

    await asyncio.gather(*(client() for _ in range(_CONNECTIONS)))
    return answers, dict(statuses)


def _question(port: int, person: int, session: int, task: int) -> bytes:
    body = json.dumps(
        {
            "agent": AGENT, "user_id": f"u{person}", "session_id": f"session-{session}", "task": f"task-{task}",
            "input": "Where is my order, and can I still change the address it goes to?",
        }
    ).encode()  # fmt: skip
    head = (
        f"POST /v1/steer HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _status(reader: asyncio.StreamReader) -> str:
    """The status of an answer, which is read to its end."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(head.split("content-length:", 1)[1].split("\r\n", 1)[0])
    await reader.readexactly(length)
    return head.split(" ", 2)[1]


def steering_pid(target: Target) -> int:
    """The id of the server's steering process."""
    with urllib.request.urlopen(f"http://127.0.0.1:{target.port}/readyz", timeout=10) as answer:
        return int(json.load(answer)["steering"]["process"]["pid"])


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1024


def _logged(control: RemoteOperations) -> int:
    return int(control.sql("SELECT count(*) AS n FROM decisions", 60)["n"][0])


def _cpu_seconds(pid: int) -> float:
    """What a process has used of the processor, its threads together, its children apart."""
    fields: list[Any] = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100.0
