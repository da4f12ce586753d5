"""Operations: the events of ingest and run, whatever ends them."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from pipelines.ingest.load import Progress
from pipelines.ingest.loads import Loads, LoadStatus
from pipelines.jobs import Job, JobContext, JobResult
from pipelines.operations import LocalOperations
from pipelines.runner import Runner
from store.connection import Store
from store.errors import JobAlreadyRunning, UnknownJob
from store.settings import Settings

LIMIT = 30.0


class SlowLoads:
    """Loads that end when a test lets them."""

    def __init__(self) -> None:
        self.load = LoadStatus("1", "a.csv", "running", Progress("reading", 1, 2, 3, 0, 1))
        self.after: Callable[[LoadStatus], None] | None = None
        self.cancelled: list[str] = []

    def submit(self, path: Path, *, after: Callable[[LoadStatus], None], **_: object) -> str:
        self.after = after
        return "1"

    def status(self, load_id: str) -> LoadStatus:
        return self.load

    def cancel(self, load_id: str) -> None:
        self.cancelled.append(load_id)

    def end(self, **changes: Any) -> None:
        for name, value in changes.items():
            setattr(self.load, name, value)
        assert self.after is not None
        self.after(self.load)


@pytest.fixture
def store() -> Iterator[Store]:
    opened = Store.open(None, threads=1)
    yield opened
    opened.close()


@pytest.fixture
def loads() -> SlowLoads:
    return SlowLoads()


@pytest.fixture
def stopping() -> threading.Event:
    return threading.Event()


def operations(
    store: Store, loads: SlowLoads, stopping: threading.Event, work: Callable[[JobContext], JobResult] | None = None
) -> LocalOperations:
    registry = {"rewards": Job("rewards", "R", "Works.", timedelta(minutes=1), work, False)} if work else {}
    return LocalOperations(store, cast(Loads, loads), Runner(store, Settings(), registry=registry), stopping)


def test_progress_is_told_once_and_waiting_keeps_the_line_open(
    store: Store, loads: SlowLoads, stopping: threading.Event
) -> None:
    events = operations(store, loads, stopping).ingest([Path("a.csv")], None, None, "Ada")
    first = next(events)
    assert (first["event"], first["phase"], first["received"]) == ("progress", "reading", 3)
    assert next(events) == {"event": "waiting"}
    loads.end(state="failed", error="a.csv: it is empty.")
    assert list(events) == [{"event": "failed", "file": "a.csv", "error": "a.csv: it is empty."}]
    assert loads.cancelled == []


def test_closing_the_events_cancels_the_load(store: Store, loads: SlowLoads, stopping: threading.Event) -> None:
    events = operations(store, loads, stopping).ingest([Path("a.csv")], None, None, "Ada")
    next(events)
    events.close()
    assert loads.cancelled == ["1"]


def test_when_the_process_stops_the_load_is_told_to_continue_later(
    store: Store, loads: SlowLoads, stopping: threading.Event
) -> None:
    events = operations(store, loads, stopping).ingest([Path("a.csv")], None, None, "Ada")
    next(events)
    stopping.set()
    (last,) = list(events)
    assert last["event"] == "failed"
    assert "Trimtab is stopping" in last["error"]
    assert loads.cancelled == []


def test_a_run_tells_its_progress_and_outcome(store: Store, loads: SlowLoads, stopping: threading.Event) -> None:
    release = threading.Event()

    def work(context: JobContext) -> JobResult:
        context.progress(0.5, "half")
        assert release.wait(LIMIT)
        return JobResult(3, "done")

    doing = operations(store, loads, stopping, work)
    events = doing.run("rewards")
    assert next(events) == {"event": "progress", "job": "rewards", "progress": 0.5, "message": "half"}
    with pytest.raises(JobAlreadyRunning):
        doing.run("rewards")
    release.set()
    last = list(events)[-1]
    assert (last["event"], last["status"], last["rows"], last["message"]) == ("ended", "succeeded", 3, "done")


def test_when_the_process_stops_a_run_is_told_as_interrupted(
    store: Store, loads: SlowLoads, stopping: threading.Event
) -> None:
    started, release = threading.Event(), threading.Event()

    def work(_: JobContext) -> JobResult:
        started.set()
        release.wait(LIMIT)
        return JobResult(0, "")

    events = operations(store, loads, stopping, work).run("rewards")
    assert started.wait(LIMIT)
    stopping.set()
    last = list(events)[-1]
    release.set()
    assert (last["event"], last["status"]) == ("ended", "interrupted")


def test_an_unknown_job_is_refused_before_anything_runs(
    store: Store, loads: SlowLoads, stopping: threading.Event
) -> None:
    with pytest.raises(UnknownJob):
        operations(store, loads, stopping).run("nonsense")
