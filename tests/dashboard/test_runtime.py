"""The runtime of pages: installed by the server, else opened from the settings."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from dashboard import runtime
from pipelines.jobs import Job, JobContext, JobResult
from pipelines.runner import Runner
from store import job_runs
from store.errors import StoreClosed
from store.settings import Settings

LIMIT = 30.0


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    runtime.install(None)
    yield
    runtime.install(None)


def test_without_a_server_it_is_opened_from_the_settings_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMTAB_DB", str(tmp_path / "t.duckdb"))
    opened = runtime.current()
    try:
        assert opened.store.path == tmp_path / "t.duckdb"
        assert opened.scheduler is None
        assert runtime.current() is opened
    finally:
        assert opened.close() == []


def test_what_is_installed_is_current(tmp_path: Path) -> None:
    made = runtime.open_runtime(Settings(db=tmp_path / "t.duckdb"), with_scheduler=True)
    runtime.install(made)
    assert runtime.current() is made
    assert made.scheduler is not None
    assert made.close() == []
    assert made.stopping.is_set()
    with pytest.raises(StoreClosed), made.store.read():
        pass


def test_opening_marks_the_runs_of_a_dead_process(tmp_path: Path) -> None:
    settings = Settings(db=tmp_path / "t.duckdb")
    first = runtime.open_runtime(settings, with_scheduler=False)
    job_runs.begin(first.store, job="drift", cause="schedule", attempt=1, watermark=0, code_version="x")
    first.close()
    second = runtime.open_runtime(settings, with_scheduler=False)
    try:
        assert job_runs.latest(second.store)["status"].to_list() == ["interrupted"]
    finally:
        second.close()


def test_closing_names_what_still_runs(tmp_path: Path) -> None:
    started, release = threading.Event(), threading.Event()

    def deaf(_: JobContext) -> JobResult:
        started.set()
        release.wait(LIMIT)
        return JobResult(0, "")

    settings = Settings(db=tmp_path / "t.duckdb", shutdown_grace_seconds=0.5)
    plain = runtime.open_runtime(settings, with_scheduler=False)
    job = Job("deaf", "Deaf", "Does not listen.", timedelta(minutes=1), deaf, False)
    runner = Runner(plain.store, settings, registry={"deaf": job})
    made = runtime.Runtime(plain.store, settings, plain.clock, plain.loads, runner)
    runner.start("deaf")
    assert started.wait(LIMIT)
    assert made.close() == ["deaf"]
    release.set()
