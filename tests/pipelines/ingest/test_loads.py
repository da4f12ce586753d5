"""The background worker: files in order, cancelled and failed ones in between, stopped and continued."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from loading import staged, table, write_rows
from publishing import state

from pipelines.ingest import loads as loads_module
from pipelines.ingest.load import load, resume_publishing
from pipelines.ingest.loads import Loads, LoadStatus
from store import batches
from store.connection import Store
from store.errors import StoreClosed

_WAIT = 60


@pytest.fixture
def loads(store: Store) -> Iterator[Loads]:
    """A worker on an empty store."""
    opened = Loads(store)
    yield opened
    opened.close()


def _rows(name: str, count: int = 3) -> list[dict]:
    return [{"trace_id": f"{name}{i}", "input": f"q{i}", "output": "a"} for i in range(count)]


class Ended:
    """Collects the ends of loads, in their order."""

    def __init__(self) -> None:
        self.order: list[tuple[str, str]] = []
        self._changed = threading.Condition()

    def __call__(self, status: LoadStatus) -> None:
        with self._changed:
            self.order.append((status.file, status.state))
            self._changed.notify_all()

    def wait(self, count: int) -> list[tuple[str, str]]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.order) >= count, _WAIT)
            return list(self.order)


class Gate:
    """Stops loads where they ask whether they are still wanted: once in front of each chunk, and once behind them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        self.entered, self.leave = threading.Event(), threading.Event()
        asked = 0

        def gated(store: Store, path: Path, *, cancelled: Callable[[], bool], **options):
            def ask() -> bool:
                nonlocal asked
                asked += 1
                if asked == at:
                    self.entered.set()
                    assert self.leave.wait(_WAIT)
                return cancelled()

            return load(store, path, cancelled=ask, chunk_bytes=40, **options)

        monkeypatch.setattr(loads_module, "load", gated)


def test_files_are_loaded_in_the_order_they_were_handed_over(store: Store, loads: Loads, tmp_path: Path) -> None:
    ended = Ended()
    with store.ingest_lock:
        ids = [loads.submit(write_rows(tmp_path, f"{name}.csv", _rows(name)), after=ended) for name in ("c", "a", "b")]
        assert [status.file for status in loads.active()] == ["c.csv", "a.csv", "b.csv"]
    assert ended.wait(3) == [("c.csv", "done"), ("a.csv", "done"), ("b.csv", "done")]
    assert loads.active() == []
    for load_id in ids:
        status = loads.status(load_id)
        assert status is not None
        assert status.report is not None
        assert (status.report.accepted, status.error) == (3, None)
        assert status.progress is not None
        assert (status.progress.phase, status.progress.slices_done) == ("publishing", status.progress.slices_total)
    assert batches.recent(store)["file_name"].to_list() == ["b.csv", "a.csv", "c.csv"]
    assert loads.status("unknown") is None


def test_a_failed_file_leaves_the_worker_alive(store: Store, loads: Loads, tmp_path: Path) -> None:
    ended = Ended()
    missing = loads.submit(tmp_path / "missing.csv", after=ended)

    def breaks(status: LoadStatus) -> None:
        ended(status)
        raise ValueError("whoever waited")

    loads.submit(write_rows(tmp_path, "first.csv", _rows("t")), after=breaks)
    loads.submit(write_rows(tmp_path, "second.csv", _rows("s")), after=ended)
    assert ended.wait(3) == [("missing.csv", "failed"), ("first.csv", "done"), ("second.csv", "done")]
    status = loads.status(missing)
    assert status is not None
    assert "There is no file" in str(status.error)
    assert table(store, "SELECT count(*) FROM traces").row(0) == (6,)


def test_a_defect_leaves_the_worker_alive(
    store: Store, loads: Loads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = Ended()
    with monkeypatch.context() as broken:
        broken.setattr("pipelines.ingest.load.choose", lambda *_, **__: 1 / 0)
        failed = loads.submit(write_rows(tmp_path, "first.csv", _rows("t")), after=ended)
        ended.wait(1)
    loads.submit(write_rows(tmp_path, "second.csv", _rows("s")), after=ended)
    assert ended.wait(2) == [("first.csv", "failed"), ("second.csv", "done")]
    status = loads.status(failed)
    assert status is not None
    assert status.error == "first.csv: an unexpected error: ZeroDivisionError('division by zero')"
    first = batches.recent(store).to_dicts()[-1]
    assert (first["state"], first["error"]) == ("failed", status.error)
    assert staged(store) == []


def test_a_queued_load_is_cancelled_at_once(store: Store, loads: Loads, tmp_path: Path) -> None:
    ended = Ended()
    with store.ingest_lock:
        loads.submit(write_rows(tmp_path, "first.csv", _rows("t")), after=ended)
        second = loads.submit(write_rows(tmp_path, "second.csv", _rows("s")), after=ended)
        loads.cancel(second)
        status = loads.status(second)
        assert status is not None
        assert status.state == "cancelled"
        assert [each.file for each in loads.active()] == ["first.csv"]
    assert ended.wait(2) == [("first.csv", "done"), ("second.csv", "cancelled")]
    assert batches.recent(store)["file_name"].to_list() == ["first.csv"]
    loads.cancel(second)
    loads.cancel("unknown")


def test_a_load_that_waits_for_another_one_is_cancelled(store: Store, loads: Loads, tmp_path: Path) -> None:
    ended = Ended()
    with store.ingest_lock:
        load_id = loads.submit(write_rows(tmp_path, "first.csv", _rows("t")), after=ended)
        loads.cancel(load_id)
        assert ended.wait(1) == [("first.csv", "cancelled")]
    assert batches.recent(store).is_empty()


@pytest.mark.parametrize("at", [1, 3])
def test_a_running_load_is_cancelled_between_chunks(
    store: Store, loads: Loads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    ended, gate, before = Ended(), Gate(monkeypatch, at), state(store)
    load_id = loads.submit(write_rows(tmp_path, "first.csv", _rows("t", 20)), after=ended)
    assert gate.entered.wait(_WAIT)
    assert len(loads.active()) == 1
    loads.cancel(load_id)
    gate.leave.set()
    assert ended.wait(1) == [("first.csv", "cancelled")]
    assert state(store) == before
    assert staged(store) == []
    assert batches.recent(store).to_dicts()[0]["state"] == "cancelled"


def test_closing_stops_the_running_load_and_the_next_process_continues_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, before = Ended(), state(store)
    path = write_rows(tmp_path, "first.csv", _rows("t", 20))
    with monkeypatch.context() as patched:
        gate = Gate(patched, at=4)
        loads = Loads(store)
        loads.submit(path, after=ended)
        loads.submit(write_rows(tmp_path, "second.csv", _rows("s")), after=ended)
        assert gate.entered.wait(_WAIT)
        closing = threading.Thread(target=loads.close)
        closing.start()
        while not loads._closing.is_set():
            pass
        gate.leave.set()
        closing.join(_WAIT)
        assert not closing.is_alive()
    assert ended.order == [("first.csv", "stopped"), ("second.csv", "stopped")]
    assert state(store) == before
    assert staged(store) == ["00000001"]
    with pytest.raises(StoreClosed):
        loads.submit(path)
    report = load(store, path)
    assert (report.received, report.accepted) == (20, 20)
    assert batches.one(store, 1)["error"] == "The load stopped; batch 2 continues it."
    assert staged(store) == []


def test_closing_does_not_wait_for_a_load_of_somebody_else(store: Store, tmp_path: Path) -> None:
    ended = Ended()
    loads = Loads(store)
    with store.ingest_lock:
        loads.submit(write_rows(tmp_path, "first.csv", _rows("t")), after=ended)
        loads.close()
    assert ended.order == [("first.csv", "stopped")]


def test_closing_while_publishing_lets_the_next_start_go_on(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = Ended()
    path = write_rows(tmp_path, "first.jsonl", _rows("t", 10))
    with monkeypatch.context() as patched:
        # Ten chunks of one record are asked about before reading, one time behind, then after each part but the last.
        gate = Gate(patched, at=10 + 1 + 3)
        loads = Loads(store)
        loads.submit(path, after=ended)
        assert gate.entered.wait(_WAIT)
        closing = threading.Thread(target=loads.close)
        closing.start()
        while not loads._closing.is_set():
            pass
        gate.leave.set()
        closing.join(_WAIT)
    assert ended.order == [("first.jsonl", "stopped")]
    assert batches.one(store, 1)["state"] == "publishing"
    done = batches.one(store, 1)["slices_done"]
    assert 0 < done < 10
    with store.ingest_lock:
        assert resume_publishing(store) == [1]
    assert (batches.one(store, 1)["state"], batches.one(store, 1)["accepted"]) == ("done", 10)
    assert table(store, "SELECT count(*) FROM traces").row(0) == (10,)
    assert staged(store) == []
