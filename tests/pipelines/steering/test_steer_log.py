"""The log of decisions: nothing waits for it, nothing is lost, nothing is stored twice."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from pipelines.steering.decide import Decision
from pipelines.steering.decision_log import DecisionLog
from store import decisions
from store.clock import FixedClock
from store.connection import Store
from store.errors import StoreClosed, StoreError

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
_TIMEOUT = 30.0


def decision(number: int, **changed: Any) -> Decision:
    made = Decision(
        decision_id=f"d-{number}", decided_at=NOON + timedelta(milliseconds=number), agent="support-bot",
        policy_version=3, user_id="u", segment=None, session_id=f"s-{number % 7}", task=None,
        unit=f"session:s-{number % 7}", draw=0.5, arm="a", greedy_arm="b", explore=True, propensity=0.25,
        arms=("a", "b"), propensities=(0.25, 0.75), rate=0.25, allowed_rate=0.3, budget_scale=1.0,
        expected_regret=0.125, worst_regret=0.25, solicit=False, solicit_propensity=0.02, sticky=False,
        off_policy=True, note=None, lesson_set_hash=None, input_hash="h", source="key",
    )  # fmt: skip
    return made._replace(**changed)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "log.duckdb", clock=FixedClock(NOON), threads=1)
    yield opened
    opened.close()


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def begun(store: Any, spool: Path | None, **changed: Any) -> DecisionLog:
    settings: dict[str, Any] = {"interval": 0.005, "store_interval": 0.01, "backoff": (0.005, 0.02)}
    return DecisionLog(store, spool, **(settings | changed))


def stored(store: Store) -> list[str]:
    return sorted(decisions.recent(store, limit=1_000_000)["decision_id"])


def names(*numbers: int) -> list[str]:
    return sorted(f"d-{number}" for number in numbers)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        threading.Event().wait(0.002)


class Faulty:
    """A store whose writer refuses, holds up, or stores and then says that it failed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.refuses = False
        self.lies = 0
        self.attempts = 0

    def submit(self, work: Callable[[duckdb.DuckDBPyConnection], int]) -> "Future[int]":
        self.attempts += 1
        if self.refuses:
            failed: Future[int] = Future()
            failed.set_exception(StoreError("the disk is on fire"))
            return failed
        if self.lies:
            self.lies -= 1
            self._store.write(work)
            failed = Future()
            failed.set_exception(StoreError("nobody knows whether that is on disk"))
            return failed
        return self._store.submit(work)


def test_decisions_come_into_the_store_whole_and_their_files_go(store: Store, spool: Path) -> None:
    log = begun(store, spool)
    made = [decision(number) for number in range(50)] + [decision(50, note="ünlike; 'quoted'", session_id=None)]
    for each in made:
        log.take(each)
    until(lambda: log.counts().stored == 51)
    log.close()
    frame = decisions.recent(store, limit=100).sort("decided_at")
    assert [tuple(tuple(value) if isinstance(value, list) else value for value in row) for row in frame.rows()] == [
        tuple(each) for each in made
    ]
    counts = log.counts()
    assert (counts.taken, counts.stored, counts.waiting, counts.lost, counts.failures) == (51, 51, 0, 0, 0)
    assert list(spool.iterdir()) == []


def test_taking_never_waits_for_the_writer_and_what_waits_is_in_files(store: Store, spool: Path) -> None:
    log = begun(store, spool)
    held, go_on = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        held.set()
        go_on.wait(_TIMEOUT)

    holding = store.submit(hold)
    assert held.wait(_TIMEOUT)
    for number in range(5_000):
        log.take(decision(number))
    # All of it is on disk while the writer stands still.
    until(lambda: sum(len(decisions_in(path)) for path in spool.glob("*.arrow")) == 5_000)
    assert log.counts().waiting == 5_000
    assert log.counts().stored == 0
    go_on.set()
    holding.result(_TIMEOUT)
    log.close()
    assert stored(store) == names(*range(5_000))
    assert list(spool.iterdir()) == []


def decisions_in(path: Path) -> list[str]:
    try:
        return pl.read_ipc(path)["decision_id"].to_list()
    except OSError:
        return []


def test_closing_stores_what_was_taken_and_takes_no_more(store: Store, spool: Path) -> None:
    log = begun(store, spool, interval=60.0)
    for number in range(300):
        log.take(decision(number))
    log.close()
    log.close()
    assert stored(store) == names(*range(300))
    with pytest.raises(StoreClosed):
        log.take(decision(301))


def test_a_writer_that_fails_is_asked_again_until_it_works(store: Store, spool: Path) -> None:
    faulty = Faulty(store)
    faulty.refuses = True
    log = begun(faulty, spool)
    for number in range(20):
        log.take(decision(number))
    until(lambda: faulty.attempts >= 3)
    counts = log.counts()
    assert counts.failures >= 2
    assert counts.error is not None
    assert "the disk is on fire" in counts.error
    assert stored(store) == []
    log.take(decision(20))
    faulty.refuses = False
    until(lambda: log.counts().stored == 21)
    assert log.counts().error is None
    log.close()
    assert stored(store) == names(*range(21))


def test_a_commit_that_only_seems_to_have_failed_is_not_stored_twice(store: Store, spool: Path) -> None:
    faulty = Faulty(store)
    faulty.lies = 2
    log = begun(faulty, spool)
    for number in range(20):
        log.take(decision(number))
    until(lambda: log.counts().stored == 20)
    for number in range(20, 40):
        log.take(decision(number))
    log.close()
    assert stored(store) == names(*range(40))


def test_what_a_dead_process_left_is_stored_at_the_next_start_once(store: Store, spool: Path) -> None:
    faulty = Faulty(store)
    faulty.refuses = True
    dead = begun(faulty, spool)
    for number in range(30):
        dead.take(decision(number))
    dead.close()
    assert stored(store) == []
    assert dead.counts().waiting == 30
    kept = {path.name: path.read_bytes() for path in spool.iterdir()}
    first = begun(store, spool)
    first.close()
    assert stored(store) == names(*range(30))
    # It had committed, and was killed before the file went.
    for name, content in kept.items():
        (spool / name).write_bytes(content)
    second = begun(store, spool)
    second.take(decision(99))
    second.close()
    assert stored(store) == names(*range(30), 99)
    assert list(spool.iterdir()) == []


def test_half_a_file_is_left_alone_and_the_others_are_stored(store: Store, spool: Path) -> None:
    faulty = Faulty(store)
    faulty.refuses = True
    dead = begun(faulty, spool)
    dead.take(decision(1))
    until(lambda: len(list(spool.glob("*.arrow"))) == 1)
    dead.close()
    whole = next(spool.glob("*.arrow"))
    (spool / "cut.arrow").write_bytes(whole.read_bytes()[:100])
    (spool / "cut.part").write_bytes(whole.read_bytes()[:50])
    log = begun(store, spool)
    assert log.counts().stored == 1
    assert log.counts().error is None or "cut.arrow" in log.counts().error
    assert log.counts().failures == 1
    log.close()
    assert stored(store) == names(1)
    assert (spool / "cut.arrow").exists()


def test_beyond_the_bound_decisions_wait_in_their_files(store: Store, spool: Path) -> None:
    faulty = Faulty(store)
    faulty.refuses = True
    log = begun(faulty, spool, memory_rows=100)
    for number in range(1_000):
        log.take(decision(number))
        if number % 50 == 49:
            until(lambda count=number + 1: sum(len(decisions_in(path)) for path in spool.glob("*.arrow")) == count)
    until(lambda: log.counts().spilled >= 800)
    assert log.counts().waiting == 1_000
    faulty.refuses = False
    until(lambda: log.counts().stored == 1_000)
    assert (log.counts().spilled, log.counts().lost, log.counts().waiting) == (0, 0, 0)
    log.close()
    assert stored(store) == names(*range(1_000))


def test_without_files_decisions_beyond_the_bound_are_lost_and_counted(store: Store, tmp_path: Path) -> None:
    faulty = Faulty(store)
    faulty.refuses = True
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    log = begun(faulty, in_the_way, memory_rows=100)
    for number in range(500):
        log.take(decision(number))
        if number % 50 == 49:
            until(lambda: log.counts().fresh == 0)
    until(lambda: log.counts().lost > 0)
    counts = log.counts()
    assert counts.lost + counts.waiting == 500
    assert counts.error is not None
    faulty.refuses = False
    log.close()
    assert len(stored(store)) == 500 - log.counts().lost
    assert log.counts().stored == len(stored(store))


def test_a_decision_that_no_column_can_hold_does_not_hold_up_the_others(store: Store, spool: Path) -> None:
    log = begun(store, spool, interval=60.0)
    for number in range(10):
        log.take(decision(number))
    log.take(decision(10, task="\ud800"))
    log.take(decision(11, draw="not a number"))
    log.take(decision(12))
    log.close()
    assert stored(store) == names(*range(10), 12)
    assert log.counts().lost == 2


def test_many_threads_take_at_once(store: Store, spool: Path) -> None:
    log = begun(store, spool)

    def work(first: int) -> None:
        for number in range(first, first + 500):
            log.take(decision(number))

    threads = [threading.Thread(target=work, args=(500 * place,)) for place in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert stored(store) == names(*range(3_000))


def test_two_lives_in_one_process_do_not_share_files(store: Store, spool: Path) -> None:
    faulty = Faulty(store)
    faulty.refuses = True
    for life in range(3):
        log = begun(faulty, spool)
        log.take(decision(life))
        log.close()
    assert len(list(spool.glob("*.arrow"))) == 3
    begun(store, spool).close()
    assert stored(store) == names(0, 1, 2)
