"""What the audit log says of loaded files: who, which file, what became of its records; one row a batch, no more."""

import io
import json
from pathlib import Path

import pytest
from loading import write_rows

from pipelines.ingest.load import Progress, load, resume_publishing
from pipelines.ingest.loads import Loads
from pipelines.ingest.uploads import Uploads
from store import audit, batches
from store.connection import Store
from store.errors import FileRejected

_ROWS = [{"trace_id": f"t{number}", "input": f"question {number}"} for number in range(20)]
_CHUNK = 60


class Stopped(Exception):
    """What whoever waits for a load may raise."""


def rows(store: Store) -> list[tuple]:
    """Who loaded which batch, oldest first, with the detail."""
    log = audit.recent(store, 1000).reverse()
    assert set(log["action"]) <= {"file load"}
    return [(row["actor"], row["subject"], json.loads(row["detail"])) for row in log.iter_rows(named=True)]


def stop_in(phase: str, at: int):
    def stop(progress: Progress) -> None:
        if progress.phase == phase and (progress.slices_done or progress.slices_total) == at:
            raise Stopped

    return stop


def test_each_published_batch_has_one_row_with_what_became_of_it(store: Store, tmp_path: Path) -> None:
    path = write_rows(tmp_path, "rows.csv", [*_ROWS, {"trace_id": "", "input": "of nobody"}])
    load(store, path, source="shop", actor="ana@example.com", chunk_bytes=_CHUNK)
    load(store, path, source="shop", actor="ben@example.com", chunk_bytes=_CHUNK)
    told = {"file": "rows.csv", "source": "shop", "format": "traces", "received": 21, "rejected": 1}
    assert rows(store) == [
        ("ana@example.com", "batch 1", {**told, "accepted": 20, "duplicate": 0, "state": "done"}),
        ("ben@example.com", "batch 2", {**told, "accepted": 0, "duplicate": 20, "state": "done"}),
    ]
    assert audit.verify(store) is None


def test_of_what_published_nothing_or_was_asked_for_by_nobody_there_is_no_row(store: Store, tmp_path: Path) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_bytes(b"")
    with pytest.raises(FileRejected):
        load(store, empty, actor="ana@example.com")
    path = write_rows(tmp_path, "rows.csv", _ROWS)
    with pytest.raises(Stopped):
        load(store, path, actor="ana@example.com", progress=stop_in("reading", 3), chunk_bytes=_CHUNK)
    load(store, path)
    assert batches.recent(store)["state"].to_list() == ["done", "failed", "failed"]
    assert rows(store) == []


def test_who_had_it_loaded_is_named_also_when_another_process_ends_the_load(tmp_path: Path) -> None:
    path, db = write_rows(tmp_path, "rows.csv", _ROWS), tmp_path / "store" / "t.duckdb"
    store = Store.open(db, threads=1)
    with pytest.raises(Stopped):
        load(store, path, actor="ana@example.com", progress=stop_in("publishing", 3), chunk_bytes=_CHUNK)
    assert rows(store) == []
    store.close()
    store = Store.open(db, threads=1)
    with store.ingest_lock:
        assert resume_publishing(store) == [1]
    ((actor, subject, detail),) = rows(store)
    assert (actor, subject, detail["accepted"], detail["state"]) == ("ana@example.com", "batch 1", 20, "done")
    store.close()


def test_of_a_batch_that_was_published_in_part_the_row_says_so(store: Store, tmp_path: Path) -> None:
    path = write_rows(tmp_path, "rows.csv", _ROWS)
    with pytest.raises(Stopped):
        load(store, path, actor="ana@example.com", progress=stop_in("publishing", 3), chunk_bytes=_CHUNK)
    published = batches.one(store, 1)["accepted"]
    batches.finish(store, 1, "failed", "its staged files are gone")
    ((_, _, detail),) = rows(store)
    assert (detail["accepted"], detail["state"]) == (published, "failed")
    assert 0 < published < 20
    batches.finish(store, 1, "failed", "again")
    assert len(rows(store)) == 1


def test_an_upload_that_is_resumed_names_who_sent_it(store: Store, tmp_path: Path) -> None:
    content = write_rows(tmp_path, "rows.csv", _ROWS).read_bytes()
    name = "<b>=HYPERLINK(1)</b>.csv"
    loads = Loads(store)
    uploads = Uploads(tmp_path / "uploads", loads, process="earlier")
    with store.ingest_lock:
        uploads.submit(uploads.receive(io.BytesIO(content), name), actor="key shop")
        loads.close()
    assert rows(store) == []
    loads = Loads(store)
    Uploads(tmp_path / "uploads", loads).resume()
    loads._queue.put(None)
    loads._thread.join(60)
    ((actor, _, detail),) = rows(store)
    assert (actor, detail["file"]) == ("key shop", "b>.csv")
