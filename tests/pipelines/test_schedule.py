"""The scheduler: what runs when, and that it really wakes up."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from pipelines import memory
from pipelines.jobs import Job, JobContext, JobResult
from pipelines.runner import Runner
from pipelines.schedule import Schedule
from store import job_runs
from store.clock import FixedClock
from store.connection import Store
from store.settings import Settings

LIMIT = 30.0
EVERY = timedelta(minutes=5)
LIGHT_THREADS = 3


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 11, 20, 12, 0, tzinfo=UTC))


@pytest.fixture
def store(clock: FixedClock) -> Iterator[Store]:
    opened = Store.open(None, clock=clock, threads=1)
    yield opened
    opened.close()


def nothing(_: JobContext) -> JobResult:
    return JobResult(0, "")


def wrong(_: JobContext) -> JobResult:
    raise ValueError("wrong")


def schedule_of(
    store: Store,
    *functions: Callable[[JobContext], JobResult],
    has_work: Callable[[Store, Settings], bool] | None = None,
    look_every: timedelta = timedelta(seconds=15),
) -> tuple[Schedule, Runner]:
    """Jobs named a, b, ... every five minutes."""
    jobs = [
        Job(name, name, "Works.", EVERY, function, False, has_work=has_work)
        for name, function in zip("abcdef", functions, strict=False)
    ]
    runner = Runner(store, Settings(), registry={job.name: job for job in jobs})
    return Schedule(store, runner, look_every=look_every), runner


def causes(store: Store) -> list[tuple[str, int]]:
    frame = job_runs.recent(store)
    return list(zip(frame["cause"].to_list(), frame["attempt"].to_list(), strict=True))[::-1]


def test_a_job_runs_when_it_is_due_and_not_before(store: Store, clock: FixedClock) -> None:
    schedule, _ = schedule_of(store, nothing)
    ran = []
    for seconds in (0, 0, 299, 1, 10, 290):
        clock.moment += timedelta(seconds=seconds)
        ran.append(schedule.look("a") is not None)
    assert ran == [True, False, False, True, False, True]
    assert causes(store) == [("schedule", 1)] * 3


def test_a_failing_job_is_retried_after_growing_waits(store: Store, clock: FixedClock) -> None:
    start = clock.now()
    schedule, _ = schedule_of(store, wrong)
    tries = []
    for second in range(0, 700, 10):
        clock.moment = start + timedelta(seconds=second)
        if schedule.look("a") is not None:
            tries.append(second)
    assert tries == [0, 30, 150, 630]
    assert causes(store) == [("schedule", 1), ("retry", 2), ("retry", 3), ("retry", 4)]


def test_after_a_failure_a_success_brings_back_the_interval(store: Store, clock: FixedClock) -> None:
    fail = threading.Event()
    fail.set()

    def moody(_: JobContext) -> JobResult:
        if fail.is_set():
            raise ValueError
        return JobResult(0, "")

    schedule, _ = schedule_of(store, moody)
    schedule.look("a")
    fail.clear()
    clock.moment += timedelta(seconds=30)
    retried = schedule.look("a")
    assert retried is not None
    assert retried.status == "succeeded"
    assert schedule.next_run("a") == clock.now() + EVERY
    clock.moment += EVERY
    schedule.look("a")
    assert causes(store) == [("schedule", 1), ("retry", 2), ("schedule", 1)]


def test_one_failing_job_leaves_the_others_alone(store: Store, clock: FixedClock) -> None:
    schedule, _ = schedule_of(store, wrong, nothing)
    for _ in range(3):
        for name in ("a", "b"):
            schedule.look(name)
        clock.moment += EVERY
    frame = job_runs.recent(store, job="b")
    assert frame["status"].to_list() == ["succeeded"] * 3


def test_what_fell_due_while_nothing_ran_is_caught_up_at_the_first_look(store: Store, clock: FixedClock) -> None:
    before, _ = schedule_of(store, nothing)
    before.look("a")
    clock.moment += timedelta(hours=3)
    after, _ = schedule_of(store, nothing)
    assert after.next_run("a") == clock.now()
    assert after.look("a") is not None
    clock.moment += EVERY
    after.look("a")
    assert causes(store) == [("schedule", 1), ("catch-up", 1), ("schedule", 1)]


def test_after_a_short_stop_nothing_is_caught_up(store: Store, clock: FixedClock) -> None:
    before, _ = schedule_of(store, nothing)
    before.look("a")
    clock.moment += timedelta(minutes=1)
    after, _ = schedule_of(store, nothing)
    assert after.look("a") is None
    assert after.next_run("a") == clock.now() + timedelta(minutes=4)


def test_a_run_that_was_cut_short_is_caught_up_at_once(store: Store) -> None:
    job_runs.begin(store, job="a", cause="schedule", attempt=1, watermark=0, code_version="x")
    schedule, runner = schedule_of(store, nothing)
    assert runner.recover() == ["a"]
    assert schedule.look("a") is not None
    assert causes(store) == [("schedule", 1), ("catch-up", 1)]


def test_a_job_without_work_leaves_no_trace_in_the_history(store: Store) -> None:
    schedule, runner = schedule_of(store, nothing, has_work=lambda _, __: False)
    assert schedule.look("a") is None
    assert len(job_runs.recent(store)) == 0
    assert runner.run("a", "manual").status == "succeeded"


def test_a_job_that_runs_already_is_left_alone(store: Store) -> None:
    started, release = threading.Event(), threading.Event()

    def wait(_: JobContext) -> JobResult:
        started.set()
        assert release.wait(LIMIT)
        return JobResult(0, "")

    schedule, runner = schedule_of(store, wait)
    runner.start("a")
    assert started.wait(LIMIT)
    assert schedule.look("a") is None
    release.set()
    assert runner.close(LIMIT) == []
    assert len(job_runs.recent(store)) == 1


def test_after_closing_nothing_is_started(store: Store) -> None:
    schedule, runner = schedule_of(store, nothing)
    runner.close(0)
    assert schedule.look("a") is None
    assert len(job_runs.recent(store)) == 0
    schedule.close()


def test_started_it_wakes_up_again_and_again_for_every_job(store: Store, clock: FixedClock) -> None:
    ran: dict[str, threading.Semaphore] = {name: threading.Semaphore(0) for name in "ab"}

    def count(name: str) -> Callable[[JobContext], JobResult]:
        def run(_: JobContext) -> JobResult:
            clock.moment += EVERY
            ran[name].release()
            if name == "b":
                raise ValueError("b always fails")
            return JobResult(0, "")

        return run

    schedule, runner = schedule_of(store, count("a"), count("b"), look_every=timedelta(milliseconds=20))
    schedule.start()
    try:
        for name in "ab":
            for _ in range(3):
                assert ran[name].acquire(timeout=LIMIT), name
    finally:
        schedule.close()
        assert runner.close(LIMIT) == []
    assert set(job_runs.latest(store)["status"].to_list()) == {"succeeded", "failed"}


def test_memory_is_bounded_while_every_job_waits_for_somebody(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting, end = threading.Semaphore(0), threading.Event()
    looked = {"bound_cache": threading.Semaphore(0), "trim": threading.Semaphore(0)}

    def wait(_: JobContext) -> JobResult:
        waiting.release()
        assert end.wait(LIMIT)
        return JobResult(0, "")

    for name, seen in looked.items():
        monkeypatch.setattr(memory, name, lambda *_, seen=seen: seen.release())
    for name in ("CACHE_EVERY", "TRIM_EVERY"):
        monkeypatch.setattr(memory, name, timedelta(milliseconds=20))
    schedule, runner = schedule_of(store, *[wait] * 6, look_every=timedelta(milliseconds=20))
    schedule.start()
    try:
        for _ in range(LIGHT_THREADS):
            assert waiting.acquire(timeout=LIMIT)
        for seen in looked.values():
            while seen.acquire(blocking=False):
                pass
            # Two: one may have begun before the last job did.
            for _ in range(2):
                assert seen.acquire(timeout=LIMIT)
    finally:
        end.set()
        schedule.close()
        assert runner.close(LIMIT) == []


def test_jobs_that_read_data_wait_for_agents_ten_minutes_at_most(store: Store, clock: FixedClock) -> None:
    saturated = True
    jobs = {
        name: Job(name, name, "Works.", EVERY, nothing, reads_data, has_work=lambda *_: True)
        for name, reads_data in (("reader", True), ("light", False))
    }
    runner = Runner(store, Settings(), registry=jobs)
    schedule = Schedule(store, runner, saturated=lambda: saturated)
    assert schedule.look("light") is not None
    assert schedule.look("reader") is None
    clock.moment += timedelta(minutes=9, seconds=59)
    assert schedule.look("reader") is None
    clock.moment += timedelta(seconds=1)
    assert schedule.look("reader") is not None
    # The wait begins anew with the next run that is due.
    clock.moment += EVERY
    assert schedule.look("reader") is None
    saturated = False
    assert schedule.look("reader") is not None


def _chain(
    store: Store, upstream: Callable[[JobContext], JobResult], every: timedelta = timedelta(days=1)
) -> tuple[Schedule, Runner]:
    """A job `up` of every minute, and `down`, by default of every day, which reads its results; both have work."""
    up = Job("up", "up", "Works.", timedelta(minutes=1), upstream, True, has_work=lambda *_: True)
    down = Job("down", "down", "Works.", every, nothing, True, after=("up",), has_work=lambda *_: True)
    runner = Runner(store, Settings(), registry={"up": up, "down": down})
    return Schedule(store, runner), runner


def test_a_job_goes_behind_those_whose_results_it_reads(store: Store, clock: FixedClock) -> None:
    schedule, _ = _chain(store, nothing)
    assert schedule.look("down") is None, "up is due: what it will write is not there yet"
    assert schedule.look("up") is not None
    assert schedule.look("down") is not None
    clock.moment += timedelta(days=1)
    assert [schedule.look(name) is not None for name in ("down", "up", "down")] == [False, True, True]


@pytest.mark.parametrize(("every", "longest"), [(1440, 10), (3, 3)])
def test_a_job_waits_while_one_whose_results_it_reads_runs(
    store: Store, clock: FixedClock, every: int, longest: int
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(_: JobContext) -> JobResult:
        begun.set()
        assert go_on.wait(LIMIT)
        return JobResult(0, "")

    schedule, runner = _chain(store, slow, timedelta(minutes=every))
    runner.start("up")
    assert begun.wait(LIMIT)
    for _ in range(longest):
        assert schedule.look("down") is None
        clock.moment += timedelta(minutes=1)
    # Not for ever: what always runs would never let it.
    assert schedule.look("down") is not None
    go_on.set()
    runner.close(LIMIT)


def test_a_job_does_not_wait_for_one_that_fails(store: Store) -> None:
    schedule, _ = _chain(store, wrong)
    assert schedule.look("up") is not None
    assert schedule.look("down") is not None
