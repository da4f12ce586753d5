"""Small deployments with something wrong in them, for tests: what people say, where, when, and under which names."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from loop_data import HOSTILE, NOW, run_loop
from publishing import publisher

from store import links
from store.clock import FixedClock
from store.connection import Store

Row = dict[str, Any]
Deployment = tuple[list[Row], list[Row], list[Row]]

JOBS = ("tasks", "rewards", "transitions", "credit", "failures", "signal-yield", "hacking-watch", "preferences")
TRACES = 480
LONG = "x" * 5_000
NAMES = (HOSTILE, LONG, "a\x00b", "🦊" * 30, "\"'; DROP TABLE traces; --", " ", "a\nb\tc\u202e")
PROPENSITIES = (0.0, -0.5, 1.5, float("nan"), float("inf"), 1e-300)


def plain(
    *,
    verdict: str = "mixed",
    user: Callable[[int], str | None] = lambda i: f"user {i % 30}",
    metadata: Callable[[int, bool], dict[str, Any]] | None = None,
    thumb: dict[str, Any] | None = None,
    steps: bool = True,
    timed: bool = True,
    late: timedelta = timedelta(minutes=1),
) -> Deployment:
    """Traces, spans and thumbs of one agent on two arms; looking up first goes well, booking twice goes badly.

    `verdict`: mixed, good, bad, none (no thumbs) or separated (happy exactly where something was looked up).
    """
    random = np.random.default_rng(5)
    traces, spans, signals = [], [], []
    for i in range(TRACES):
        trace_id, at = f"t{i:03}", NOW - timedelta(days=40) + timedelta(hours=i)
        arm, looked, again = "ab"[int(random.integers(2))], random.random() < 0.5, random.random() < 0.4
        chance = {"mixed": 0.5 + 0.3 * looked - 0.3 * again, "good": 1.0, "bad": 0.0, "separated": float(looked)}
        happy = bool(random.random() < chance.get(verdict, 0.5))
        traces.append(
            {"trace_id": trace_id, "agent": "shop", "arm": arm, "user_id": user(i), "task": f"task {i % 8}",
             "started_at": at if timed else None, "input": f"question {i % 8} number {i}",
             **({} if metadata is None else {"metadata": metadata(i, happy)})}
        )  # fmt: skip
        for place, name in enumerate(["look up"] * looked + ["book"] * (1 + again) if steps else []):
            moment = at + timedelta(seconds=place) if timed else None
            spans.append(
                {"trace_id": trace_id, "span_id": f"{i}-{place}", "kind": "tool", "name": name, "ordinal": place,
                 "started_at": moment, "ended_at": moment, "input": f'{{"n": {i}}}', "output": "done"}
            )  # fmt: skip
        if verdict != "none":
            signals.append(
                {"signal_id": f"g{i}", "trace_id": trace_id, "kind": "thumb", "value": float(happy),
                 "occurred_at": at + late, "annotator_kind": "user", **(thumb or {})}
            )  # fmt: skip
    return traces, spans, signals


def outcomes(rows: Deployment, value: Callable[[int], float]) -> Deployment:
    """The same with an outcome checked by code on every trace."""
    traces, spans, signals = rows
    checked = [
        {"signal_id": f"o{i}", "trace_id": trace["trace_id"], "kind": "outcome", "value": value(i),
         "annotator_kind": "code"}
        for i, trace in enumerate(traces)
    ]  # fmt: skip
    return traces, spans, [*signals, *checked]


def lists(
    rows: Deployment,
    *,
    shown: int = 1,
    clicked: bool = True,
    propensity: float | None = 1 / 3,
    scale: float = 1.0,
) -> Deployment:
    """The same with a list of three items on every trace, each impression `shown` times, and clicks on some."""
    random = np.random.default_rng(2)
    traces, spans, signals = rows[0], rows[1], list(rows[2])
    for i, trace in enumerate(traces):
        at = trace["started_at"]
        for place in range(3):
            described = {"cheap": scale * float(random.normal()), "green": scale * float(random.normal())}
            signals += [
                {"signal_id": f"i{i}-{place}-{copy}", "trace_id": trace["trace_id"], "kind": "impression",
                 "item": f"item {(i + place) % 3}", "position": place + 1, "propensity": propensity,
                 "occurred_at": at, "metadata": described}
                for copy in range(shown)
            ]  # fmt: skip
        if clicked and (pick := int(random.integers(4))) < 3:
            signals.append(
                {"signal_id": f"c{i}", "trace_id": trace["trace_id"], "kind": "click", "value": 1.0,
                 "item": f"item {(i + pick) % 3}", "position": pick + 1, "occurred_at": at + timedelta(seconds=30)}
            )  # fmt: skip
    return traces, spans, signals


def bad_propensities(rows: Deployment) -> Deployment:
    """The same thumbs, asked for; a sixth of them with a propensity that is none."""
    traces, spans, thumbs = rows
    asked = [
        {**row, "solicited": True, "propensity": PROPENSITIES[i // 6 % 6] if i % 6 == 0 else 0.5}
        for i, row in enumerate(thumbs)
    ]
    return traces, spans, asked


def unknown_kinds(rows: Deployment) -> Deployment:
    """The same with signals of kinds that nobody knows, with any number as value."""
    traces, spans, signals = rows
    strange = [
        {"signal_id": f"u{i}", "trace_id": trace["trace_id"], "kind": ("telepathy", "mood <b>")[i % 2],
         "value": (1.0, -5.0, 1e308, -1e308, None, float(i))[i % 6]}
        for i, trace in enumerate(traces)
    ]  # fmt: skip
    return traces, spans, [*signals, *strange]


def hostile() -> Deployment:
    """Every id and name is one that could break a page, a query or a file."""
    traces, spans, signals = lists(plain())
    named = [
        {**row, "agent": NAMES[i % 2], "task": NAMES[i % 7], "user_id": NAMES[i % 7] + str(i % 30),
         "arm": NAMES[2 + i // 2 % 2], "metadata": {NAMES[i % 5]: NAMES[(i + 1) % 7], "segment": NAMES[i % 7]}}
        for i, row in enumerate(traces)
    ]  # fmt: skip
    tools = {"look up": NAMES[0], "book": NAMES[1]}
    called = [{**row, "name": tools[row["name"]], "output": HOSTILE} for row in spans]
    said = []
    for i, row in enumerate(signals):
        renamed = {**row, "name": NAMES[i % 7] if row["kind"] == "thumb" else None}
        if row["kind"] == "impression":
            cheap, green = row["metadata"].values()
            renamed |= {"item": NAMES[row["position"]], "metadata": {HOSTILE: cheap, "🦊": green, LONG: 1.0}}
        elif row["kind"] == "click":
            renamed["item"] = NAMES[row["position"]]
        said.append(renamed)
    return named, called, said


def extreme() -> Deployment:
    """Numbers that are finite but whose squares and sums are not."""
    traces, spans, signals = unknown_kinds(
        lists(plain(metadata=lambda i, happy: {"x": (1e308, -1e308, 5e-324)[i % 3]}))
    )
    spent = [{**row, "cost_usd": (1e300, 1e39, -5.0, 0.0)[i % 4]} for i, row in enumerate(spans)]
    return traces, spent, [
        {**row, "metadata": {"cheap": row["metadata"]["cheap"] * 1e200}} if row["kind"] == "impression" else row
        for row in signals
    ]  # fmt: skip


DEPLOYMENTS: dict[str, Callable[[], Deployment]] = {
    "all positive": lambda: plain(verdict="good"),
    "all negative": lambda: plain(verdict="bad"),
    "constant outcomes": lambda: outcomes(plain(verdict="none"), lambda i: 1.0),
    "one user": lambda: lists(plain(user=lambda i: "ada")),
    "no user ids": lambda: lists(plain(user=lambda i: None)),
    "no signals": lambda: plain(verdict="none"),
    "unknown kinds": lambda: unknown_kinds(plain()),
    "only unknown kinds": lambda: unknown_kinds(plain(verdict="none")),
    "propensity unknown": lambda: plain(thumb={"solicited": True}),
    "impossible propensities": lambda: bad_propensities(plain()),
    "no clicks": lambda: lists(plain(), clicked=False),
    "no impressions": lambda: lists(plain(), shown=0),
    "impressions twice": lambda: lists(plain(), shown=2),
    "impossible draws": lambda: lists(plain(), propensity=-1.0),
    "separated": lambda: plain(verdict="separated"),
    "outcome by name": lambda: plain(metadata=lambda i, happy: {"satisfied": happy}),
    "outcome in disguise": lambda: plain(
        metadata=lambda i, happy: {"tone": "warm" if happy else "cold", "x": float(happy)}
    ),
    "no spans": lambda: plain(steps=False),
    "no times": lambda: plain(timed=False),
    "early signals": lambda: plain(late=timedelta(weeks=-3)),
    "hostile names": hostile,
    "extreme numbers": extreme,
}  # fmt: skip


@contextmanager
def after_the_loop(name: str) -> Iterator[Store]:
    """A store of the deployment `name` on which all jobs have run."""
    with TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "trimtab.duckdb", clock=FixedClock(NOW), threads=1)
        try:
            load(store, Path(folder), name)
            yield store
        finally:
            store.close()


def load(store: Store, folder: Path, name: str) -> None:
    """Publish the deployment `name` and run all jobs."""
    traces, spans, signals = DEPLOYMENTS[name]()
    publisher(store, folder)(traces=traces, spans=spans, signals=signals)
    links.refresh(store)
    run_loop(store, *JOBS)
