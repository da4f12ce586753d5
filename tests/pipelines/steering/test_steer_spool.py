"""Decisions that one process puts into files and another stores."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from steering_policies import policy_of

from pipelines.steering.decide import Decider, Decision, Question
from pipelines.steering.decision_log import FolderLog, LogCounts
from pipelines.steering.snapshot import Policies
from pipelines.steering.spool import Spool, SpoolCounts
from store import decisions
from store.clock import FixedClock
from store.connection import Store
from store.errors import StoreClosed

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "log.duckdb", clock=FixedClock(NOON), threads=1)
    yield opened
    opened.close()


def made(count: int) -> list[Decision]:
    held = Policies(lambda _: [policy_of()], FixedClock(NOON))
    decider = Decider(held, FixedClock(NOON))
    found = [decider.decide(Question("support-bot", session_id=f"s-{n % 5}"), "key").decision for n in range(count)]
    held.close()
    return found


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        threading.Event().wait(0.002)


def stored(store: Store) -> list[str]:
    return sorted(decisions.recent(store, limit=1_000_000)["decision_id"])


def names(rows: list[Decision]) -> list[str]:
    return sorted(row.decision_id for row in rows)


def test_what_is_spooled_is_stored_once_while_both_run(store: Store, tmp_path: Path) -> None:
    folder, rows = tmp_path / "spool", made(400)
    log = FolderLog(store, folder, look_seconds=0.005)
    spool = Spool(folder, interval=0.002)
    for row in rows:
        spool.take(row)
    until(lambda: log.counts().stored == 400)
    assert stored(store) == names(rows)
    assert spool.counts() == SpoolCounts(400, 0, 0, 0, None)
    assert log.counts().behind(spool.counts()) == LogCounts(400, 400, 0, 0, 0, 0, 0, None)
    spool.close()
    log.close()
    assert list(folder.iterdir()) == []


def test_catching_up_stores_what_is_in_files_at_once(store: Store, tmp_path: Path) -> None:
    folder, rows = tmp_path / "spool", made(30)
    log = FolderLog(store, folder, look_seconds=60.0)
    spool = Spool(folder, interval=60.0)
    for row in rows:
        spool.take(row)
    assert spool.counts().fresh == 30
    spool.flush()
    assert spool.counts().fresh == 0
    log.catch_up()
    assert stored(store) == names(rows)
    spool.close()
    spool.close()
    with pytest.raises(StoreClosed):
        spool.take(rows[0])
    log.close()


def test_a_file_that_outlived_its_commit_is_not_stored_again(store: Store, tmp_path: Path) -> None:
    """The server was killed between the two."""
    folder, rows = tmp_path / "spool", made(20)
    spool = Spool(folder, interval=60.0)
    for row in rows:
        spool.take(row)
    spool.close()
    (file,) = folder.iterdir()
    content = file.read_bytes()
    FolderLog(store, folder).close()
    file.write_bytes(content)
    (folder / "half.part").write_bytes(content[:50])
    FolderLog(store, folder).close()
    assert stored(store) == names(rows)
    assert list(folder.iterdir()) == []


def test_decisions_wait_in_memory_while_no_file_can_be_written(store: Store, tmp_path: Path) -> None:
    folder, rows = tmp_path / "spool", made(50)
    folder.write_text("in the way")
    spool = Spool(folder, interval=0.002, memory_rows=1_000)
    for row in rows:
        spool.take(row)
    until(lambda: spool.counts().failures > 2)
    counts = spool.counts()
    assert (counts.fresh, counts.lost) == (50, 0)
    assert counts.error is not None
    assert "cannot be spooled" in counts.error
    folder.unlink()
    until(lambda: spool.counts().fresh == 0)
    assert spool.counts().error is None
    spool.close()
    FolderLog(store, folder).close()
    assert stored(store) == names(rows)


def test_beyond_the_bound_they_are_lost_and_counted(tmp_path: Path) -> None:
    folder, rows = tmp_path / "spool", made(50)
    folder.write_text("in the way")
    spool = Spool(folder, interval=60.0, memory_rows=30)
    for part in (rows[:20], rows[20:40], rows[40:]):
        for row in part:
            spool.take(row)
        spool.flush()
    counts = spool.counts()
    assert counts.lost + counts.fresh == 50
    assert counts.fresh <= 30
    spool.close()
    assert spool.counts().lost == 50


def test_a_row_that_no_column_can_hold_does_not_hold_up_the_others(store: Store, tmp_path: Path) -> None:
    folder, rows = tmp_path / "spool", made(5)
    spool = Spool(folder, interval=60.0)
    for row in [*rows, rows[0]._replace(task="\ud800")]:
        spool.take(row)
    spool.close()
    assert replace(spool.counts(), error=None) == SpoolCounts(6, 0, 1, 0, None)
    FolderLog(store, folder).close()
    assert stored(store) == names(rows)
