"""A small deployment with planted findings, and the jobs of the learning loop run on a store, for tests."""

from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from publishing import publisher

from pipelines.jobs import REGISTRY, JobContext, JobResult
from store import links
from store.clock import FixedClock
from store.connection import Store
from store.settings import Settings

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
LOOP = (
    "tasks", "rewards", "transitions", "credit", "failures", "signal-yield", "hacking-watch", "lessons", "preferences",
    "drift", "guardrails", "policies", "exploration",
)  # fmt: skip
CHANGE, CANCEL = "Please change the seat on my flight", "I want to cancel the hotel booking"
SHOP_TRACES = 120

# What an attacker may write into any text: it must be shown as it is.
HOSTILE = "<img src=x onerror=alert(1)> **bold** [link](http://evil) ![i](http://evil/i.png) :red[x] $x^2$ `a`"

Row = dict[str, Any]


def shop(*, tool: str = "look_up", agent: str = "shop", user: str = "ada") -> tuple[list[Row], list[Row], list[Row]]:
    """120 traces of one agent on two arms; two kinds of input; arm b serves a little better.

    Calling `tool` first goes well, booking twice in the same words goes badly. One user, `user`, turns from happy to
    unhappy half-way. Returns traces, spans and signals.
    """
    random = np.random.default_rng(3)
    traces, spans, signals = [], [], []
    for i in range(SHOP_TRACES):
        arm = "ab"[i % 2]
        name = user if i % 6 == 0 else f"user {i % 7}"
        begin = NOW - timedelta(days=30) + timedelta(hours=6 * i)
        traces.append(
            {"trace_id": f"t{i:03}", "agent": agent, "arm": arm, "user_id": name, "session_id": f"s{i}",
             "started_at": begin, "input": f"{CHANGE if i % 4 < 2 else CANCEL} number {i}"}
        )  # fmt: skip
        looked = random.random() < 0.5
        again = random.random() < 0.4
        names = [tool] * looked + ["book"] * (2 if again else 1)
        spans += [
            {"trace_id": f"t{i:03}", "span_id": f"{step}", "kind": "tool", "name": step_name, "ordinal": step,
             "started_at": begin, "input": f'{{"note": "{i}"}}', "output": HOSTILE}
            for step, step_name in enumerate(names)
        ]  # fmt: skip
        chance = 0.5 + 0.48 * (int(looked) - int(again)) + 0.1 * (arm == "b")
        happy = i < 60 if name == user else random.random() < chance
        signals.append(
            {"signal_id": f"g{i}", "session_id": f"s{i}", "kind": "thumb", "value": float(happy),
             "occurred_at": begin + timedelta(minutes=1)}
        )  # fmt: skip
    return traces, spans, signals


@cache
def shop_file() -> bytes:
    """A database file with the shop in it and the loop run on it, made once, for tests to write where they want."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "trimtab.duckdb"
        store = Store.open(path, clock=FixedClock(NOW), threads=1)
        load_shop(store, Path(folder))
        store.close()
        return path.read_bytes()


def load_shop(store: Store, folder: Path, traces: int = SHOP_TRACES, **names: str) -> None:
    """Publish the first `traces` traces of the shop, link their signals and run the loop."""
    rows, spans, signals = shop(**names)
    publisher(store, folder)(traces=rows[:traces], spans=spans, signals=signals[:traces])
    links.refresh(store)
    run_loop(store)


def run_loop(store: Store, *names: str) -> dict[str, JobResult]:
    """Run these jobs, or the whole loop in its order, without a scheduler."""
    reports: list[tuple[float, str]] = []
    context = JobContext(
        store=store,
        clock=store.clock,
        settings=Settings(),
        random=np.random.default_rng(7),
        progress=lambda fraction, message: reports.append((fraction, message)),
        loads=None,
    )
    results = {name: REGISTRY[name].run(context) for name in names or LOOP}
    assert all(0 <= fraction <= 1 and message for fraction, message in reports)
    assert all(result.message for result in results.values())
    return results
