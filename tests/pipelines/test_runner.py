"""The runner: history, progress, failure, one run at a time, interruption."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from publishing import publisher

from pipelines.jobs import REGISTRY, Deferred, Job, JobContext, JobInterrupted, JobResult
from pipelines.runner import Runner, backoff, due_at
from store import job_runs
from store.clock import FixedClock
from store.connection import Store
from store.errors import JobAlreadyRunning, JobError, StoreError, UnknownJob
from store.settings import Settings

LIMIT = 30.0  # seconds after which a test that waits for a thread has failed


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 11, 20, 12, 0, tzinfo=UTC))


@pytest.fixture
def store(clock: FixedClock) -> Iterator[Store]:
    opened = Store.open(None, clock=clock, threads=1)
    yield opened
    opened.close()


def job(
    run: Callable[[JobContext], JobResult],
    name: str = "rewards",
    *,
    reads_data: bool = False,
    after: tuple[str, ...] = (),
) -> Job:
    return Job(name, name, "Does something.", timedelta(minutes=5), run, reads_data, after)


def runner_of(store: Store, *jobs: Job) -> Runner:
    return Runner(store, Settings(), registry={each.name: each for each in jobs})


def nothing(_: JobContext) -> JobResult:
    return JobResult(0, "nothing")


def wrong(_: JobContext) -> JobResult:
    raise ValueError("the moon is wrong")


def test_a_success_is_recorded_with_rows_message_cause_and_code(store: Store) -> None:
    outcome = runner_of(store, job(lambda _: JobResult(7, "seven"))).run("rewards", "manual")
    assert (outcome.status, outcome.rows, outcome.message) == ("succeeded", 7, "seven")
    run = job_runs.one(store, outcome.run_id)
    assert run is not None
    assert (run.status, run.cause, run.attempt, run.rows, run.progress) == ("succeeded", "manual", 1, 7, 1.0)
    assert run.code_version.startswith("0.")


def test_a_failure_is_recorded_with_its_traceback_and_not_raised(store: Store) -> None:
    outcome = runner_of(store, job(wrong)).run("rewards", "schedule")
    assert (outcome.status, outcome.error) == ("failed", "ValueError: the moon is wrong")
    run = job_runs.one(store, outcome.run_id)
    assert run is not None
    assert run.traceback is not None
    assert "in wrong" in run.traceback
    assert run.error == outcome.error


def test_our_own_errors_are_shown_in_their_words(store: Store) -> None:
    def refuse(_: JobContext) -> JobResult:
        raise StoreError("The disk is on the moon.")

    assert runner_of(store, job(refuse)).run("rewards", "manual").error == "The disk is on the moon."


def test_a_failing_job_does_not_stop_another(store: Store) -> None:
    runner = runner_of(store, job(wrong), job(nothing, "drift"))
    assert runner.run("rewards", "schedule").status == "failed"
    assert runner.run("drift", "schedule").status == "succeeded"
    assert runner.running() == []


def test_attempts_count_failures_in_a_row(store: Store) -> None:
    succeed = threading.Event()

    def moody(_: JobContext) -> JobResult:
        if not succeed.is_set():
            raise ValueError
        return JobResult(0, "")

    runner = runner_of(store, job(moody))
    for _ in range(2):
        runner.run("rewards", "retry")
    succeed.set()
    runner.run("rewards", "retry")
    runner.run("rewards", "schedule")
    assert job_runs.recent(store)["attempt"].to_list() == [1, 3, 2, 1]


def test_an_unknown_job_names_the_known_ones(store: Store) -> None:
    with pytest.raises(UnknownJob, match="drift"):
        runner_of(store, job(nothing, "drift")).run("drfit", "manual")


def test_a_job_runs_once_at_a_time(store: Store) -> None:
    started, release = threading.Event(), threading.Event()

    def wait(_: JobContext) -> JobResult:
        started.set()
        assert release.wait(LIMIT)
        return JobResult(1, "waited")

    runner = runner_of(store, job(wait), job(nothing, "drift"))
    run_id = runner.start("rewards")
    assert started.wait(LIMIT)
    assert runner.running() == ["rewards"]
    with pytest.raises(JobAlreadyRunning):
        runner.run("rewards", "schedule")
    assert runner.run("drift", "schedule").status == "succeeded"
    release.set()
    assert runner.close(LIMIT) == []
    run = job_runs.one(store, run_id)
    assert run is not None
    assert (run.status, run.message) == ("succeeded", "waited")


def test_a_claim_that_could_not_be_recorded_is_given_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = runner_of(store, job(nothing))
    with monkeypatch.context() as patched:
        patched.setattr(job_runs, "begin", lambda *_, **__: (_ for _ in ()).throw(StoreError("no")))
        with pytest.raises(StoreError, match="no"):
            runner.run("rewards", "manual")
    assert runner.run("rewards", "manual").status == "succeeded"


def test_progress_is_observed_always_and_stored_once_a_second(
    store: Store, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: list[float] = []
    record = job_runs.progress

    def spy(store: Store, run_id: int, fraction: float, message: str) -> None:
        stored.append(fraction)
        record(store, run_id, fraction, message)

    monkeypatch.setattr(job_runs, "progress", spy)

    def steps(context: JobContext) -> JobResult:
        for step in range(10):
            context.progress(step / 10, f"step {step}")
            clock.moment += timedelta(seconds=0.4)
        return JobResult(0, "")

    observed: list[tuple[float, str]] = []
    runner_of(store, job(steps)).run("rewards", "manual", lambda *progress: observed.append(progress))
    assert observed == [(step / 10, f"step {step}") for step in range(10)]
    # 0.4 s apart: every third one.
    assert stored == [0.0, 0.3, 0.6, 0.9]


def test_random_numbers_depend_on_job_and_facts_only(store: Store, tmp_path: Path) -> None:
    drawn: list[float] = []

    def draw(context: JobContext) -> JobResult:
        drawn.append(float(context.random.random()))
        return JobResult(0, "")

    runner = runner_of(store, job(draw), job(draw, "drift"))
    for name in ("rewards", "rewards", "drift"):
        runner.run(name, "manual")
    publisher(store, tmp_path)(traces=[{"trace_id": "a"}])
    runner.run("rewards", "manual")
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3


def test_closing_waits_for_a_run_that_ends_in_time(store: Store) -> None:
    started, release = threading.Event(), threading.Event()

    def wait(context: JobContext) -> JobResult:
        started.set()
        assert release.wait(LIMIT)
        context.progress(0.5, "still allowed")
        return JobResult(0, "ended in time")

    runner = runner_of(store, job(wait))
    run_id = runner.start("rewards")
    assert started.wait(LIMIT)
    closing = threading.Thread(target=runner.close, args=(LIMIT,))
    closing.start()
    release.set()
    closing.join(LIMIT)
    run = job_runs.one(store, run_id)
    assert run is not None
    assert (run.status, run.message) == ("succeeded", "ended in time")
    with pytest.raises(JobError, match="stopping"):
        runner.run("rewards", "manual")


def test_after_the_grace_a_run_stops_at_its_next_report(store: Store) -> None:
    started, seen = threading.Event(), threading.Event()

    def endless(context: JobContext) -> JobResult:
        try:
            while True:
                context.progress(0.1, "on and on")
                started.set()
        except JobInterrupted:
            seen.set()
            raise

    runner = runner_of(store, job(endless))
    run_id = runner.start("rewards")
    assert started.wait(LIMIT)
    assert runner.close(0) == []
    assert seen.is_set()
    run = job_runs.one(store, run_id)
    assert run is not None
    assert (run.status, run.error) == ("interrupted", "Trimtab was stopped before the run ended.")


def test_a_run_that_does_not_listen_is_recorded_as_interrupted(store: Store) -> None:
    started, release = threading.Event(), threading.Event()

    def deaf(_: JobContext) -> JobResult:
        started.set()
        release.wait(LIMIT)
        return JobResult(0, "too late")

    runner = runner_of(store, job(deaf))
    run_id = runner.start("rewards")
    assert started.wait(LIMIT)
    assert runner.close(0) == ["rewards"]
    run = job_runs.one(store, run_id)
    assert run is not None
    assert run.status == "interrupted"
    release.set()


def test_runs_of_a_dead_process_are_recovered(store: Store) -> None:
    job_runs.begin(store, job="rewards", cause="schedule", attempt=1, watermark=0, code_version="x")
    runner = runner_of(store, job(nothing))
    assert runner.recover() == ["rewards"]
    history = job_runs.history(store, "rewards")
    assert due_at(runner.job("rewards"), history) is None
    assert runner.has_work(runner.job("rewards"), history)


def test_ctrl_c_marks_the_run_as_interrupted_and_goes_on(store: Store) -> None:
    def stopped(_: JobContext) -> JobResult:
        raise KeyboardInterrupt

    runner = runner_of(store, job(stopped))
    with pytest.raises(KeyboardInterrupt):
        runner.run("rewards", "manual")
    assert job_runs.latest(store)["status"].to_list() == ["interrupted"]
    assert runner.running() == []


def test_old_runs_are_forgotten_after_a_success(store: Store, clock: FixedClock) -> None:
    runner = runner_of(store, job(nothing))
    runner.run("rewards", "manual")
    clock.moment += timedelta(days=Settings().keep_job_runs_days + 1)
    runner.run("rewards", "manual")
    assert len(job_runs.recent(store)) == 1


def test_a_job_that_reads_data_has_work_when_facts_or_earlier_results_are_new(
    store: Store, clock: FixedClock, tmp_path: Path
) -> None:
    tasks = job(lambda _: JobResult(3, "wrote"), "tasks", reads_data=True)
    rewards = job(nothing, "rewards", reads_data=True, after=("tasks",))
    runner = runner_of(store, tasks, rewards)

    def has_work(each: Job) -> bool:
        return runner.has_work(each, job_runs.history(store, each.name))

    def tick() -> None:
        clock.moment += timedelta(seconds=1)

    assert not has_work(rewards)
    publish = publisher(store, tmp_path)
    publish(traces=[{"trace_id": "a"}])
    assert has_work(rewards)
    runner.run("rewards", "schedule")
    assert not has_work(rewards)
    publish(traces=[{"trace_id": "a"}])
    assert not has_work(rewards)
    publish(signals=[{"signal_id": "x", "trace_id": "a", "kind": "thumb", "value": 1.0}])
    assert has_work(rewards)
    runner.run("rewards", "schedule")
    tick()
    runner.run("tasks", "schedule")
    assert has_work(rewards)
    tick()
    runner.run("rewards", "schedule")
    assert not has_work(rewards)
    # What it writes itself, and what comes after it, does not wake it.
    assert not has_work(tasks)


def test_facts_that_arrive_while_a_job_runs_are_new_to_it(store: Store, tmp_path: Path) -> None:
    publish = publisher(store, tmp_path)
    publish(traces=[{"trace_id": "a"}])

    def work(_: JobContext) -> JobResult:
        publish(traces=[{"trace_id": "b"}])
        return JobResult(1, "")

    rewards = job(work, reads_data=True)
    runner = runner_of(store, rewards)
    runner.run("rewards", "schedule")
    assert runner.has_work(rewards, job_runs.history(store, "rewards"))


def test_a_failed_or_interrupted_run_is_repeated_without_new_facts(store: Store) -> None:
    rewards = job(wrong, reads_data=True)
    runner = runner_of(store, rewards)
    runner.run("rewards", "manual")
    assert runner.has_work(rewards, job_runs.history(store, "rewards"))


def test_the_wait_grows_fourfold_up_to_an_hour() -> None:
    waits = [backoff(failures).total_seconds() for failures in range(1, 8)]
    assert waits == [30, 120, 480, 1920, 3600, 3600, 3600]


def test_when_a_job_is_due(store: Store, clock: FixedClock) -> None:
    start = clock.now()
    runner = runner_of(store, job(nothing), job(wrong, "drift"))
    rewards, drift = runner.job("rewards"), runner.job("drift")
    assert due_at(rewards, job_runs.history(store, "rewards")) is None
    runner.run("rewards", "schedule")
    assert due_at(rewards, job_runs.history(store, "rewards")) == start + timedelta(minutes=5)
    for failures in (1, 2, 3):
        runner.run("drift", "schedule")
        assert due_at(drift, job_runs.history(store, "drift")) == start + backoff(failures)


def test_a_job_that_ends_the_process_time_and_again_waits(store: Store, clock: FixedClock) -> None:
    rewards = job(nothing)
    waits = []
    for _ in range(4):
        job_runs.begin(store, job="rewards", cause="catch-up", attempt=1, watermark=0, code_version="x")
        job_runs.interrupt_dead(store)
        due = due_at(rewards, job_runs.history(store, "rewards"))
        waits.append(None if due is None else (due - clock.now()).total_seconds())
    assert waits == [None, None, 30, 120]


@pytest.mark.parametrize("name", REGISTRY)
def test_every_job_of_the_registry_resolves_to_its_functions(name: str) -> None:
    registered = REGISTRY[name]
    assert isinstance(registered.run, Deferred)
    assert callable(registered.run.resolve())
    if registered.has_work is not None:
        assert isinstance(registered.has_work, Deferred)
        assert callable(registered.has_work.resolve())


def test_the_registry_is_in_the_order_of_its_dependencies() -> None:
    seen: set[str] = set()
    for name, registered in REGISTRY.items():
        assert registered.name == name
        assert set(registered.after) <= seen, name
        assert registered.description.endswith(".")
        seen.add(name)
    assert seen == {
        "inbox", "pull", "link-signals", "tasks", "judges", "rewards", "transitions", "credit", "failures",
        "signal-yield", "hacking-watch", "lessons", "draft-lessons", "lint-lessons", "preferences", "drift",
        "guardrails", "lesson-expiry", "policies", "exploration", "payoffs", "distil", "graduate", "segments",
        "model-watch", "model-probes", "incidents", "notices", "retention", "backup",
    }  # fmt: skip
    # Rollouts that failed through no fault of the agent are set aside by their labels.
    assert "failures" in REGISTRY["lessons"].after
    # What reads results without `after` (it asks whether there is work) comes behind them in a round all the same.
    order = list(REGISTRY)
    assert order.index("lessons") < order.index("draft-lessons")
    assert order.index("lesson-expiry") < order.index("policies")


@pytest.mark.parametrize("name", [name for name in REGISTRY if name != "inbox"])
def test_every_job_copes_with_an_empty_store(store: Store, name: str) -> None:
    outcome = Runner(store, Settings()).run(name, "manual")
    assert (outcome.status, outcome.rows, outcome.error) == ("succeeded", 0, None)
