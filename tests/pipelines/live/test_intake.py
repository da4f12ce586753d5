"""The queue before the store: what is committed together, what fails alone, what is refused, and how it ends."""

import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.ingest.tables import table_of
from pipelines.live import intake as module
from pipelines.live.intake import Busy, LiveIntake
from pipelines.live.prepare import Prepared
from pipelines.otel.wire import Refused
from store import live
from store.clock import FixedClock
from store.connection import Store
from store.errors import DiskFull, MemoryExhausted, StoreClosed, StoreError

WAIT = 30
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


class Ticks:
    def __init__(self):
        self.now = 1_000.0

    def __call__(self):
        return self.now


class Gate:
    """Stands in for `live.commit`: counts transactions, can be held, and fails as it is told."""

    def __init__(self, monkeypatch):
        self.calls = []
        self.open, self.entered = threading.Event(), threading.Event()
        self.open.set()
        self.failure = lambda groups: None
        monkeypatch.setattr(module.live, "commit", self._commit)
        self._real = _COMMIT

    def hold(self):
        self.entered.clear()
        self.open.clear()

    def _commit(self, store, groups):
        self.entered.set()
        assert self.open.wait(WAIT)
        self.calls.append([(group.source, group.received) for group in groups])
        error = self.failure(groups)
        if error is not None:
            raise error
        self._real(store, groups)


_COMMIT = live.commit


@pytest.fixture
def gate(monkeypatch):
    return Gate(monkeypatch)


@pytest.fixture
def store():
    opened = Store.open(None, clock=FixedClock(NOON), threads=1)
    yield opened
    opened.close()


@pytest.fixture
def clock():
    return Ticks()


@pytest.fixture
def intake(store, gate, clock):
    made = LiveIntake(store, clock=clock)
    yield made
    gate.open.set()
    made.close()


_SPAN = {"span_id": "1", "kind": "llm", "source": "test"}


def _prepared(*names, refused=0):
    rows = [(number, {"trace_id": name, **_SPAN}) for number, name in enumerate(names)]
    tables = {"spans": table_of("spans", rows)} if rows else {}
    return Prepared(tables, len(names) + refused, [Refused(f"[{n}]", "bad") for n in range(refused)])


def _traces(store):
    with store.read() as reader:
        return sorted(name for (name,) in reader.any_frame("SELECT trace_id FROM spans").rows())


def _held(intake, gate, *requests):
    """Requests that wait together behind one that is being committed; answers their futures."""
    gate.hold()
    first = intake.submit("first", _prepared("first"))
    assert gate.entered.wait(WAIT)
    futures = [intake.submit(source, prepared) for source, prepared in requests]
    gate.open.set()
    first.result(WAIT)
    return futures


def test_what_waits_is_committed_in_one_transaction(intake, gate, store):
    futures = _held(
        intake, gate, ("a", _prepared("a1", "a2")), ("b", _prepared("b1", refused=2)), ("a", _prepared("a3", refused=1))
    )
    for future in futures:
        future.result(WAIT)
    assert gate.calls == [[("first", 1)], [("a", 4), ("b", 3)]]
    assert _traces(store) == ["a1", "a2", "a3", "b1", "first"]
    seen = {row["source"]: row for row in live.last_seen(store).to_dicts()}
    assert [seen["a"][name] for name in ("received", "accepted", "duplicate", "rejected")] == [4, 3, 0, 1]
    assert [seen["b"][name] for name in ("received", "accepted", "duplicate", "rejected")] == [3, 1, 0, 2]


def test_records_of_joined_requests_keep_numbers_of_their_own(intake, gate, store):
    """A record that two requests number alike is two records: else the counters would take one for a duplicate."""
    futures = _held(intake, gate, ("a", _prepared("x")), ("a", _prepared("y")), ("a", _prepared("y")))
    for future in futures:
        future.result(WAIT)
    seen = {row["source"]: row for row in live.last_seen(store).to_dicts()}["a"]
    assert (seen["received"], seen["accepted"], seen["duplicate"], seen["traces"]) == (3, 2, 1, 2)


@pytest.fixture
def crowd(monkeypatch):
    """A group of fewer than three records waits for an hour where requests come faster than they are stored."""
    monkeypatch.setattr(module, "_CROWDED_SECONDS", 3_600.0)
    monkeypatch.setattr(module, "_WORTHWHILE_RECORDS", 3)


def test_a_small_group_waits_for_more_where_requests_come_faster_than_they_are_stored(intake, gate, crowd):
    (second,) = _held(intake, gate, ("a", _prepared("a1")))
    third = intake.submit("b", _prepared("b1", "b2"))
    second.result(WAIT)
    third.result(WAIT)
    assert gate.calls == [[("first", 1)], [("a", 1), ("b", 2)]]


def test_a_small_group_still_waits_for_two_seconds_after_requests_had_to(intake, gate, crowd, clock):
    """A commit that ends with nothing behind it does not mean that no more come: a moment later they do."""
    _held(intake, gate, ("a", _prepared("a1", "a2", "a3")))[0].result(WAIT)
    clock.now += module._CROWDED_FOR_SECONDS - 0.1
    before, after = intake.submit("b", _prepared("b1")), intake.submit("c", _prepared("c1", "c2"))
    before.result(WAIT)
    after.result(WAIT)
    assert gate.calls[2:] == [[("b", 1), ("c", 2)]]
    clock.now += 0.2
    intake.submit("d", _prepared("d1")).result(WAIT)
    assert gate.calls[3:] == [[("d", 1)]]


def test_those_who_wait_for_each_answer_do_not_wait_for_anybody_once_all_are_there(intake, gate, crowd):
    """Two clients that got in each other's way: when both are in the group, nobody is left that could come."""
    (of_a,) = _held(intake, gate, ("a", _prepared("a1")))
    of_b = intake.submit("b", _prepared("b1"))
    for number in (2, 3):
        of_a.result(WAIT)
        of_b.result(WAIT)
        of_a, of_b = (intake.submit(source, _prepared(f"{source}{number}")) for source in "ab")
    of_a.result(WAIT)
    of_b.result(WAIT)
    assert gate.calls[1:] == [[("a", 1), ("b", 1)]] * 3


def test_whoever_waits_for_each_answer_is_not_kept_waiting(intake, gate, crowd):
    for name in ("c1", "c2"):
        intake.submit("c", _prepared(name)).result(WAIT)
    assert len(gate.calls) == 2


def test_a_group_is_bounded(intake, gate, monkeypatch):
    monkeypatch.setattr(module, "_GROUP_RECORDS", 3)
    futures = _held(intake, gate, *[("a", _prepared(f"a{n}", f"b{n}")) for n in range(5)])
    for future in futures:
        future.result(WAIT)
    assert [sum(count for _, count in call) for call in gate.calls] == [1, 4, 4, 2]


def test_a_request_that_cannot_be_stored_fails_alone(intake, gate, store):
    gate.failure = lambda groups: ValueError("odd") if any(group.source == "bad" for group in groups) else None
    good, bad, other = _held(intake, gate, ("a", _prepared("a1")), ("bad", _prepared("b1")), ("c", _prepared("c1")))
    good.result(WAIT)
    other.result(WAIT)
    with pytest.raises(StoreError, match="odd"):
        bad.result(WAIT)
    assert _traces(store) == ["a1", "c1", "first"]
    counts = intake.counts()
    assert (counts.requests, counts.failed_requests) == (3, 1)


def test_a_request_the_engine_refuses_fails_alone(intake, gate, store):
    """A fault inside the transaction: nothing of the group is applied twice or lost."""
    sourceless = table_of("spans", [(0, {"trace_id": "b1", **_SPAN, "source": None})])
    lacking = _prepared("c1").tables["spans"].drop_columns(["kind"])
    good, *bad = _held(
        intake, gate, ("a", _prepared("a1")), ("a", Prepared({"spans": sourceless}, 1)),
        ("a", Prepared({"spans": lacking}, 1)),
    )  # fmt: skip
    good.result(WAIT)
    for future, reason in zip(bad, ("NOT NULL constraint failed: spans.source", '"kind" not found'), strict=True):
        with pytest.raises(StoreError, match=reason):
            future.result(WAIT)
    assert _traces(store) == ["a1", "first"]


def test_a_caller_that_went_away_does_not_stop_the_others(intake, gate, store):
    gate.hold()
    first = intake.submit("here", _prepared("a"))
    assert gate.entered.wait(WAIT)
    gone, stays = intake.submit("here", _prepared("b")), intake.submit("here", _prepared("c"))
    assert gone.cancel()
    gate.open.set()
    first.result(WAIT)
    stays.result(WAIT)
    assert _traces(store) == ["a", "c"]
    intake.submit("here", _prepared("d")).result(WAIT)


def test_a_full_disk_fails_the_whole_group_and_the_next_request_succeeds(intake, gate, store):
    failures = [None, DiskFull(Path("x"), "no space")]
    gate.failure = lambda groups: failures.pop(0) if failures else None
    futures = _held(intake, gate, ("a", _prepared("a1")), ("b", _prepared("b1")))
    for future in futures:
        with pytest.raises(DiskFull):
            future.result(WAIT)
    assert _traces(store) == ["first"]
    assert len(gate.calls) == 2  # it is not tried one by one: the disk is full for each
    intake.submit("a", _prepared("a1")).result(WAIT)
    assert _traces(store) == ["a1", "first"]
    assert intake.counts().failed_requests == 2


def test_more_than_may_wait_is_refused_until_something_is_answered(store):
    intake = LiveIntake(store, pending_bytes=100, clock=Ticks())
    with intake.admitted(1_000):  # alone, whatever its size
        with pytest.raises(Busy) as refusal, intake.admitted(1):
            pass
        assert (refusal.value.pending_bytes, intake.counts().pending_requests) == (1_000, 1)
        assert refusal.value.retry_after == 1
    assert (intake.counts().pending_bytes, intake.counts().pending_requests) == (0, 0)
    with intake.admitted(60), intake.admitted(40):
        assert intake.counts().pending_bytes == 100
        with pytest.raises(Busy), intake.admitted(1):
            pass
    assert intake.counts().refused_requests == 2
    intake.close()


def test_a_request_that_grows_is_held_to_the_bound_and_gives_all_back(store):
    intake = LiveIntake(store, pending_bytes=100, clock=Ticks())
    with intake.admitted(10) as resize, intake.admitted(40):
        resize(60)
        with pytest.raises(Busy):
            resize(61)
        assert intake.counts().pending_bytes == 100
        resize(5)
        assert intake.counts().pending_bytes == 45
    assert (intake.counts().pending_bytes, intake.counts().pending_requests) == (0, 0)
    intake.close()


@pytest.mark.parametrize(("pending", "seconds"), [(0, 1), (64 << 20, 9), (10 << 30, 30)])
def test_the_time_to_come_back_grows_with_what_waits_while_nothing_is_stored(store, pending, seconds):
    intake = LiveIntake(store, pending_bytes=0, clock=Ticks())
    with intake.admitted(pending), pytest.raises(Busy) as refusal, intake.admitted(1):
        pass
    assert refusal.value.retry_after == seconds
    assert f"{seconds} s" in str(refusal.value)
    intake.close()


def test_room_is_given_back_when_a_request_fails(intake):
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), intake.admitted(50):
            raise error
    assert (intake.counts().pending_bytes, intake.counts().pending_requests) == (0, 0)


def test_closing_commits_what_waits_and_then_refuses(store, gate):
    intake = LiveIntake(store)
    gate.hold()
    futures = [intake.submit("a", _prepared("a0"))]
    assert gate.entered.wait(WAIT)
    futures += [intake.submit("a", _prepared(f"a{n}")) for n in range(1, 4)]
    closing = threading.Thread(target=intake.close)
    closing.start()
    gate.open.set()
    closing.join(WAIT)
    assert not closing.is_alive()
    for future in futures:
        assert future.done()
        future.result(0)
    assert _traces(store) == ["a0", "a1", "a2", "a3"]
    with pytest.raises(StoreClosed):
        intake.submit("a", _prepared("late"))
    with pytest.raises(StoreClosed), intake.admitted(1):
        pass
    intake.close()


def test_a_closed_store_answers_and_the_thread_ends(gate):
    store = Store.open(None, clock=FixedClock(NOON), threads=1)
    intake = LiveIntake(store)
    store.close()
    with pytest.raises(StoreClosed):
        intake.submit("a", _prepared("a")).result(WAIT)
    intake.close()


def test_counts_and_the_rate_of_the_last_minute(store, gate):
    clock, seconds = Ticks(), []
    intake = LiveIntake(store, clock=clock, observe_commit=seconds.append)
    intake.submit("a", _prepared("a", "b", refused=1)).result(WAIT)
    intake.submit("a", _prepared("c")).result(WAIT)
    assert intake.counts().rate == 0  # the second under way does not count
    clock.now += 1
    assert intake.counts().rate == pytest.approx(4 / 60)
    intake.submit("a", _prepared(*map(str, range(8)))).result(WAIT)
    clock.now += 59
    assert intake.counts().rate == pytest.approx(12 / 60)
    clock.now += 1
    assert intake.counts().rate == pytest.approx(8 / 60)
    clock.now += 1
    counts = intake.counts()
    assert (counts.requests, counts.received, counts.rejected, counts.rate) == (3, 12, 1, 0)
    intake.close()
    assert seconds == [0, 0, 0]


def test_full_groups_for_ten_seconds_mean_saturated(store, gate):
    clock = Ticks()
    intake = LiveIntake(store, clock=clock)
    assert not intake.saturated()
    intake.submit("a", _prepared(*map(str, range(module._SATURATED_RECORDS)))).result(WAIT)
    assert intake.saturated()
    intake.submit("a", _prepared("one more, alone")).result(WAIT)
    assert not intake.saturated()  # on average over both commits
    intake.submit("a", _prepared(*map(str, range(2 * module._SATURATED_RECORDS)))).result(WAIT)
    assert intake.saturated()
    clock.now += 11
    assert not intake.saturated()
    intake.close()


def test_busy_is_who_stores_for_a_quarter_of_the_time_until_it_is_a_tenth(intake, gate, clock, monkeypatch):
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.01)

    def slow(groups):
        clock.now += 0.6

    gate.failure = slow
    intake.submit("a", _prepared("a1")).result(WAIT)
    assert not intake.busy()
    intake.submit("a", _prepared("a2")).result(WAIT)
    assert intake.busy()
    clock.now += 10
    end = time.monotonic() + WAIT
    while intake.busy() and time.monotonic() < end:
        time.sleep(0.01)
    assert not intake.busy()


def test_a_request_of_refused_records_only_is_counted(intake, store):
    intake.submit("a", _prepared(refused=3)).result(WAIT)
    seen = live.last_seen(store).to_dicts()[0]
    assert (seen["received"], seen["rejected"], seen["accepted"]) == (3, 3, 0)
    with store.read() as reader:
        assert reader.any_frame("SELECT record_no, column_name, reason FROM ingest_rejects ORDER BY 1").rows() == [
            (1, "[0]", "bad"), (2, "[1]", "bad"), (3, "[2]", "bad")
        ]  # fmt: skip


def test_senders_at_once_lose_nothing(intake, store):
    def send(sender):
        for number in range(10):
            with intake.admitted(10):
                intake.submit(f"s{sender % 2}", _prepared(f"{sender}-{number}")).result(WAIT)

    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert len(_traces(store)) == 60
    assert (intake.counts().requests, intake.counts().pending_requests) == (60, 0)


def test_what_needs_more_memory_than_there_is_for_a_moment_is_tried_again(store, gate):
    pauses: list[float] = []
    failures = [MemoryExhausted("2GB", "all used"), MemoryExhausted("2GB", "all used"), None]
    gate.failure = lambda groups: failures.pop(0) if failures else None
    made = LiveIntake(store, clock=Ticks(), pause=pauses.append)
    made.submit("a", _prepared("a1")).result(WAIT)
    assert pauses == [0.25, 0.5]
    gate.failure = lambda groups: MemoryExhausted("2GB", "all used")
    with pytest.raises(MemoryExhausted, match="TRIMTAB_MEMORY_LIMIT"):
        made.submit("a", _prepared("a2")).result(WAIT)
    assert pauses == [0.25, 0.5, 0.25, 0.5, 1.0, 2.0]
    gate.failure = lambda groups: None
    made.submit("a", _prepared("a3")).result(WAIT)
    made.close()
    assert _traces(store) == ["a1", "a3"]
