"""The inbox: which files are taken, where they go, and that none is lost."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from pipelines.ingest import inbox
from pipelines.ingest.load import BatchReport, load
from pipelines.jobs import JobContext, JobInterrupted, JobResult
from store import adhoc, audit
from store.clock import FixedClock
from store.connection import Store
from store.errors import DiskFull
from store.settings import Settings

TRACES = "trace_id,agent\n{0}1,bot\n{0}2,bot\n"


@pytest.fixture
def clock() -> FixedClock:
    """An hour after the files of a test are written, so they have settled."""
    return FixedClock(datetime.now(UTC) + timedelta(hours=1))


@pytest.fixture
def store(tmp_path: Path, clock: FixedClock) -> Iterator[Store]:
    opened = Store.open(tmp_path / "trimtab.duckdb", clock=clock, threads=1)
    yield opened
    opened.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "inbox"
    made.mkdir()
    return made


@pytest.fixture
def context(store: Store, folder: Path) -> JobContext:
    return JobContext(
        store=store,
        clock=store.clock,
        settings=replace(Settings(), inbox=folder),
        random=np.random.default_rng(0),
        progress=lambda _, __: None,
        loads=None,
    )


def put(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def run(context: JobContext) -> JobResult:
    return inbox.run(context)


def stored(store: Store) -> list[tuple[str, str]]:
    frame = adhoc.query(store, "SELECT trace_id, source FROM traces ORDER BY trace_id")
    return list(zip(frame["trace_id"].to_list(), frame["source"].to_list(), strict=True))


def test_a_file_is_loaded_and_moved_beside_its_report(context: JobContext, folder: Path) -> None:
    put(folder / "a.csv", TRACES.format("a"))
    assert inbox.has_work(context.store, context.settings)
    result = run(context)
    assert result.rows == 2
    assert "loaded: 1, failed: 0" in result.message
    assert tree(folder) == ["done/a.csv", "done/a.csv.report.json"]
    assert (folder / "done/a.csv").read_text() == TRACES.format("a")
    report = json.loads((folder / "done/a.csv.report.json").read_text())
    assert (report["received"], report["accepted"], report["duplicate"], report["rejected"]) == (2, 2, 0, 0)
    assert [trace for trace, _ in stored(context.store)] == ["a1", "a2"]
    assert not inbox.has_work(context.store, context.settings)
    assert audit.recent(context.store).select("actor", "action", "subject").rows() == [
        ("scheduler", "file load", "batch 1")
    ]


def test_the_folder_of_a_file_is_its_source(context: JobContext, folder: Path) -> None:
    put(folder / "shop" / "a.csv", TRACES.format("a"))
    put(folder / "desk" / "2026" / "b.csv", TRACES.format("b"))
    run(context)
    assert stored(context.store) == [("a1", "shop"), ("a2", "shop"), ("b1", "desk"), ("b2", "desk")]
    assert [name for name in tree(folder) if not name.endswith(".json")] == ["done/desk/2026/b.csv", "done/shop/a.csv"]


def test_a_file_that_cannot_be_loaded_fails_with_the_reason_and_the_next_is_loaded(
    context: JobContext, folder: Path
) -> None:
    put(folder / "a.csv", "")
    put(folder / "b.csv", TRACES.format("b"))
    assert "loaded: 1, failed: 1" in run(context).message
    assert tree(folder) == [
        "done/b.csv", "done/b.csv.report.json", "failed/a.csv", "failed/a.csv.report.json",
    ]  # fmt: skip
    assert "a.csv" in json.loads((folder / "failed/a.csv.report.json").read_text())["error"]


def test_names_that_are_taken_get_a_number_and_nothing_is_overwritten(context: JobContext, folder: Path) -> None:
    contents = [TRACES.format(letter) for letter in "abc"]
    for content in contents:
        put(folder / "x.csv", content)
        run(context)
    put(folder / "done" / "x-4.csv.report.json", "precious")
    put(folder / "x.csv", TRACES.format("d"))
    run(context)
    assert [(folder / "done" / name).read_text() for name in ("x.csv", "x-2.csv", "x-3.csv")] == contents
    assert (folder / "done" / "x-4.csv.report.json").read_text() == "precious"
    assert (folder / "done" / "x-5.csv").read_text() == TRACES.format("d")
    assert len(stored(context.store)) == 8


@pytest.mark.parametrize(
    ("name", "numbered"),
    [
        ("a.csv", "a-2.csv"),
        ("a.jsonl.gz", "a-2.jsonl.gz"),
        ("a.b.json.zst", "a.b-2.json.zst"),
        ("a", "a-2"),
        ("a.gz", "a-2.gz"),
    ],
)
def test_the_number_leaves_the_ending(name: str, numbered: str) -> None:
    assert inbox._numbered(name, 2) == numbered


def test_hidden_partial_linked_and_put_away_files_are_left_alone(
    context: JobContext, folder: Path, tmp_path: Path
) -> None:
    outside = put(tmp_path / "outside" / "secret.csv", TRACES.format("s"))
    put(folder / ".hidden.csv", TRACES.format("h"))
    put(folder / ".folder" / "a.csv", TRACES.format("h"))
    put(folder / "a.csv.part", TRACES.format("p"))
    put(folder / "done" / "old.csv", TRACES.format("o"))
    put(folder / "failed" / "old.csv", TRACES.format("o"))
    (folder / "link.csv").symlink_to(outside)
    (folder / "linked").symlink_to(outside.parent)
    os.mkfifo(folder / "pipe.csv")
    before = tree(folder)
    assert not inbox.has_work(context.store, context.settings)
    assert run(context).rows == 0
    assert tree(folder) == before
    assert stored(context.store) == []
    assert outside.exists()


def test_a_file_that_changed_lately_waits(context: JobContext, folder: Path, clock: FixedClock) -> None:
    path = put(folder / "a.csv", TRACES.format("a"))
    changed = datetime.fromtimestamp(path.stat().st_ctime, UTC)
    # A copy that keeps the time of its original has settled only when its own last change is old.
    os.utime(path, (0, 0))
    changed = datetime.fromtimestamp(path.stat().st_ctime, UTC)
    for seconds, ready in ((0.0, False), (1.9, False), (2.1, True)):
        clock.moment = changed + timedelta(seconds=seconds)
        assert inbox.has_work(context.store, context.settings) is ready


def test_a_file_that_grows_while_it_is_loaded_stays_and_is_loaded_again(
    context: JobContext, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(folder / "a.csv", TRACES.format("a"))
    grown = False

    def grow(*arguments: object, **named: object) -> BatchReport:
        nonlocal grown
        report = load(*arguments, **named)  # type: ignore[arg-type]
        if not grown:
            grown = True
            with path.open("a") as file:
                file.write("late,bot\n")
        return report

    monkeypatch.setattr(inbox, "load", grow)
    run(context)
    assert tree(folder) == ["a.csv"]
    run(context)
    assert tree(folder) == ["done/a.csv", "done/a.csv.report.json"]
    assert [trace for trace, _ in stored(context.store)] == ["a1", "a2", "late"]


def test_a_kill_between_loading_and_moving_is_harmless(
    context: JobContext, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder / "a.csv", TRACES.format("a"))

    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(inbox, "_put_away", killed)
        with pytest.raises(Killed):
            run(context)
    assert tree(folder) == ["a.csv"]
    run(context)
    assert tree(folder) == ["done/a.csv", "done/a.csv.report.json"]
    report = json.loads((folder / "done/a.csv.report.json").read_text())
    assert (report["accepted"], report["duplicate"]) == (0, 2)
    assert len(stored(context.store)) == 2


def test_a_full_disk_leaves_the_file_where_it_is(
    context: JobContext, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder / "a.csv", TRACES.format("a"))

    def full(*_: object, **__: object) -> BatchReport:
        raise DiskFull(folder, "test")

    monkeypatch.setattr(inbox, "load", full)
    with pytest.raises(DiskFull):
        run(context)
    assert tree(folder) == ["a.csv"]


def test_a_defect_of_a_loader_does_not_hold_up_the_other_files(
    context: JobContext, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder / "a.csv", TRACES.format("a"))
    put(folder / "b.csv", TRACES.format("b"))

    def broken(store: Store, path: Path, **named: object) -> BatchReport:
        if path.name == "a.csv":
            raise ZeroDivisionError("oops")
        return load(store, path, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(inbox, "load", broken)
    with pytest.raises(ZeroDivisionError):
        run(context)
    assert [name for name in tree(folder) if not name.endswith(".json")] == ["done/b.csv", "failed/a.csv"]
    assert "oops" in json.loads((folder / "failed/a.csv.report.json").read_text())["error"]


def test_stopping_leaves_the_file_to_be_continued(context: JobContext, folder: Path) -> None:
    put(folder / "a.csv", TRACES.format("a"))

    def stop(fraction: float, message: str) -> None:
        if "reading" in message:
            raise JobInterrupted

    with pytest.raises(JobInterrupted):
        run(replace(context, progress=stop))
    assert tree(folder) == ["a.csv"]
    assert stored(context.store) == []
    run(context)
    assert len(stored(context.store)) == 2
    assert tree(folder) == ["done/a.csv", "done/a.csv.report.json"]


def test_a_file_that_disappears_is_no_error_of_the_inbox(
    context: JobContext, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(folder / "a.csv", TRACES.format("a"))

    def vanish(store: Store, given: Path, **named: object) -> BatchReport:
        path.unlink()
        return load(store, given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(inbox, "load", vanish)
    assert "loaded: 0, failed: 0" in run(context).message
    assert tree(folder) == []


def test_a_missing_inbox_is_an_empty_one(context: JobContext, folder: Path) -> None:
    shutil.rmtree(folder)
    assert not inbox.has_work(context.store, context.settings)
    assert run(context).rows == 0


def test_a_file_that_cannot_be_moved_leaves_nothing_half_done(
    context: JobContext, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder / "a.csv", TRACES.format("a"))

    def refuse(*_: object) -> Path:
        raise PermissionError("read-only")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", refuse)
        with pytest.raises(PermissionError):
            run(context)
    assert tree(folder) == ["a.csv"]
