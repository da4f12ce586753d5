"""Loads that were stopped in the middle: continued where they stopped, or ended so that others can go on."""

import shutil
from pathlib import Path

import pytest
from loading import loaded, staged, table, write_rows
from publishing import state

from pipelines.ingest.load import Progress, load, resume_publishing
from store import batches
from store.connection import Store

_ROWS = [{"trace_id": f"t{i}", "input": f"q{i}", "output": "a" * 20} for i in range(20)]
_CHUNK = 60


class Stopped(Exception):
    """What whoever waits for a load may raise."""


def _stopped(store: Store, path: Path, phase: str, at: int) -> None:
    """Load a file until so many parts of a phase are done."""

    def stop(progress: Progress) -> None:
        if progress.phase == phase and (progress.slices_done or progress.slices_total) == at:
            raise Stopped

    with pytest.raises(Stopped):
        load(store, path, progress=stop, chunk_bytes=_CHUNK)


def _fresh(*paths: Path) -> dict:
    store = Store.open(None, threads=1)
    for path in paths:
        loaded(store, path)
    found = state(store)
    store.close()
    return found


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.json", "rows.jsonl.gz"])
def test_a_load_that_stopped_while_reading_is_continued(store: Store, tmp_path: Path, name: str) -> None:
    path = write_rows(tmp_path, name, _ROWS)
    before = state(store)
    _stopped(store, path, "reading", 3)
    assert state(store) == before
    assert batches.one(store, 1)["state"] == "staging"
    parts = []
    report = loaded(store, path, progress=lambda progress: parts.append(progress.slices_total))
    assert parts[0] == 4
    assert (report.received, report.accepted) == (20, 20)
    assert (batches.one(store, 1)["state"], batches.one(store, 1)["error"]) == (
        "failed", "The load stopped; batch 2 continues it.",
    )  # fmt: skip
    assert report.fidelity["rows"] == {"trace_records": 20}
    assert state(store) == _fresh(path)


def test_a_file_that_was_changed_is_read_from_the_start(store: Store, tmp_path: Path) -> None:
    path = write_rows(tmp_path, "rows.csv", _ROWS)
    _stopped(store, path, "reading", 3)
    write_rows(tmp_path, "rows.csv", [{**row, "input": "other"} for row in _ROWS])
    assert loaded(store, path).accepted == 20
    assert "nothing of it was applied" in batches.one(store, 1)["error"]
    assert state(store) == _fresh(path)


def test_another_file_ends_the_load_that_stopped(store: Store, tmp_path: Path) -> None:
    path, other = write_rows(tmp_path, "rows.csv", _ROWS), write_rows(tmp_path, "other.csv", _ROWS[:3])
    _stopped(store, path, "reading", 3)
    assert loaded(store, other).accepted == 3
    assert batches.one(store, 1)["state"] == "failed"
    assert staged(store) == []
    assert loaded(store, path).accepted == 17


@pytest.mark.parametrize("moved", [False, True])
def test_a_batch_that_stopped_while_publishing_goes_on(tmp_path: Path, moved: bool) -> None:
    path, folder = write_rows(tmp_path, "rows.csv", _ROWS), tmp_path / "store"
    store = Store.open(folder / "t.duckdb", threads=1)
    _stopped(store, path, "publishing", 3)
    done = batches.one(store, 1)
    assert (done["state"], done["slices_done"]) == ("publishing", 3)
    assert table(store, "SELECT count(*) FROM traces").row(0) == (done["accepted"],)
    store.close()
    path.unlink()
    if moved:
        shutil.move(folder, tmp_path / "elsewhere")
        folder = tmp_path / "elsewhere"
    store = Store.open(folder / "t.duckdb", threads=1)
    with store.ingest_lock:
        assert resume_publishing(store) == [1]
        assert resume_publishing(store) == []
    assert (batches.one(store, 1)["state"], batches.one(store, 1)["accepted"]) == ("done", 20)
    assert staged(store) == []
    found = state(store)
    store.close()
    assert found == _fresh(write_rows(tmp_path, "rows.csv", _ROWS))


@pytest.mark.parametrize("fault", ["damaged", "gone", "all gone"])
def test_a_batch_that_cannot_go_on_does_not_keep_others_from_loading(store: Store, tmp_path: Path, fault: str) -> None:
    path, other = write_rows(tmp_path, "rows.csv", _ROWS), write_rows(tmp_path, "other.csv", _ROWS[:2])
    _stopped(store, path, "publishing", 3)
    folder = tmp_path / "store" / "trimtab.duckdb.staging" / "00000001"
    match fault:
        case "damaged":
            (folder / "000004.trace_records.parquet").write_bytes(b"PAR1 and nothing else")
        case "gone":
            (folder / "000004.trace_records.parquet").unlink()
        case _:
            shutil.rmtree(folder)
    assert loaded(store, other).duplicate == 2
    ended = batches.one(store, 1)
    assert ended["state"] == "failed"
    assert ended["error"].startswith("rows.csv: publishing stopped after 3 ")
    assert ended["error"].endswith("Send the file again to load the rest.")
    again = loaded(store, path)
    assert (again.duplicate, again.accepted) == (ended["accepted"], 20 - ended["accepted"])
    assert state(store) == _fresh(path)


def test_folders_that_no_batch_needs_are_removed(store: Store, tmp_path: Path) -> None:
    orphan = tmp_path / "store" / "trimtab.duckdb.staging" / "00000001"
    orphan.mkdir(parents=True)
    (orphan / "manifest.json").write_text('{"recipe": {}, "slices": [], "complete": true, "fidelity": {}}')
    (orphan.with_name("00000007")).mkdir()
    assert loaded(store, write_rows(tmp_path, "rows.csv", _ROWS)).accepted == 20
    assert staged(store) == []
