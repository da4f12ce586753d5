"""The history of job runs."""

from datetime import timedelta

import polars as pl
import pytest
from publishing import Publish

from store import job_runs
from store.clock import FixedClock
from store.connection import Store


def begin(store: Store, job: str = "rewards", *, cause: job_runs.Cause = "schedule", watermark: int = 0) -> int:
    return job_runs.begin(store, job=job, cause=cause, attempt=1, watermark=watermark, code_version="test")


def test_a_run_from_begin_to_success(store: Store, clock: FixedClock) -> None:
    run_id = begin(store, watermark=7, cause="manual")
    job_runs.progress(store, run_id, 0.5, "half")
    run = job_runs.one(store, run_id)
    assert run is not None
    assert (run.status, run.progress, run.message, run.finished_at) == ("running", 0.5, "half", None)
    clock.moment += timedelta(seconds=3)
    job_runs.succeed(store, run_id, rows=12, message="done")
    run = job_runs.one(store, run_id)
    assert run is not None
    assert (run.status, run.progress, run.rows, run.message, run.watermark) == ("succeeded", 1.0, 12, "done", 7)
    assert run.finished_at is not None
    assert run.finished_at - run.started_at == timedelta(seconds=3)
    assert (run.cause, run.code_version, run.error) == ("manual", "test", None)


def test_a_failed_run_keeps_error_and_traceback(store: Store) -> None:
    run_id = begin(store)
    job_runs.fail(store, run_id, error="broken", traceback="Traceback ...")
    run = job_runs.one(store, run_id)
    assert run is not None
    assert (run.status, run.error, run.traceback) == ("failed", "broken", "Traceback ...")
    assert job_runs.failing(store)["job"].to_list() == ["rewards"]


def test_an_ended_run_stays_as_it_ended(store: Store) -> None:
    run_id = begin(store)
    job_runs.interrupt(store, run_id, "stopped")
    job_runs.succeed(store, run_id, rows=1, message="late")
    job_runs.progress(store, run_id, 0.9, "late")
    run = job_runs.one(store, run_id)
    assert run is not None
    assert (run.status, run.error, run.message) == ("interrupted", "stopped", None)


@pytest.mark.parametrize(("given", "stored"), [(-1.0, 0.0), (0.25, 0.25), (7.0, 1.0)])
def test_progress_is_kept_between_nothing_and_all(store: Store, given: float, stored: float) -> None:
    run_id = begin(store)
    job_runs.progress(store, run_id, given, "")
    run = job_runs.one(store, run_id)
    assert run is not None
    assert run.progress == stored


def test_there_is_no_run_of_an_unknown_id(store: Store) -> None:
    assert job_runs.one(store, 1) is None


def test_dead_runs_are_interrupted_and_ended_ones_are_not(store: Store) -> None:
    ended = begin(store, "tasks")
    job_runs.succeed(store, ended, rows=0, message="")
    dead = [begin(store, "rewards"), begin(store, "drift")]
    assert sorted(job_runs.interrupt_dead(store)) == ["drift", "rewards"]
    assert job_runs.interrupt_dead(store) == []
    statuses = {run_id: job_runs.one(store, run_id) for run_id in [ended, *dead]}
    assert [run.status for run in statuses.values() if run] == ["succeeded", "interrupted", "interrupted"]


def test_a_new_run_of_a_job_interrupts_the_row_that_was_left(store: Store) -> None:
    left, other = begin(store, "rewards"), begin(store, "drift")
    begin(store, "rewards")
    runs = [job_runs.one(store, run_id) for run_id in (left, other)]
    assert [run.status for run in runs if run] == ["interrupted", "running"]


def test_history_counts_what_went_wrong_since_the_last_success(store: Store) -> None:
    assert job_runs.history(store, "rewards") == job_runs.History(None, None, 0, 0)
    job_runs.fail(store, begin(store), error="x", traceback="")
    success = begin(store, watermark=3)
    job_runs.succeed(store, success, rows=1, message="")
    for _ in range(2):
        job_runs.fail(store, begin(store), error="x", traceback="")
    job_runs.interrupt(store, begin(store), "x")
    begin(store, "drift")
    history = job_runs.history(store, "rewards")
    assert history.success is not None
    assert history.latest is not None
    assert (history.success.run_id, history.success.watermark) == (success, 3)
    assert (history.failures, history.interruptions, history.latest.status) == (2, 1, "interrupted")


def test_results_since_asks_for_rows_of_the_named_jobs_after_the_moment(store: Store, clock: FixedClock) -> None:
    start = clock.now()
    clock.moment += timedelta(seconds=1)
    job_runs.succeed(store, begin(store, "tasks"), rows=0, message="")
    job_runs.fail(store, begin(store, "link-signals"), error="x", traceback="")
    jobs = ("tasks", "link-signals")
    assert not job_runs.results_since(store, jobs, start)
    job_runs.succeed(store, begin(store, "tasks"), rows=5, message="")
    assert job_runs.results_since(store, jobs, start)
    assert not job_runs.results_since(store, ("link-signals",), start)
    assert not job_runs.results_since(store, jobs, clock.now())
    assert not job_runs.results_since(store, (), start)


def test_recent_latest_and_failing(store: Store) -> None:
    first = begin(store, "rewards")
    job_runs.fail(store, first, error="x", traceback="")
    second = begin(store, "drift")
    job_runs.fail(store, second, error="x", traceback="")
    third = begin(store, "rewards")
    assert job_runs.recent(store)["run_id"].to_list() == [third, second, first]
    assert job_runs.recent(store, job="rewards", limit=1)["run_id"].to_list() == [third]
    assert job_runs.latest(store)["run_id"].to_list() == [second, third]
    # While it runs again the last that ended is what counts.
    assert job_runs.failing(store)["run_id"].to_list() == [second, first]
    job_runs.succeed(store, third, rows=0, message="")
    assert job_runs.failing(store)["run_id"].to_list() == [second]
    assert job_runs.recent(store).schema == job_runs.RUNS


def test_pruning_keeps_young_runs_and_the_last_of_each_job(store: Store, clock: FixedClock) -> None:
    old_success, older_failure = begin(store, "rewards"), begin(store, "drift")
    job_runs.succeed(store, old_success, rows=0, message="")
    job_runs.fail(store, older_failure, error="x", traceback="")
    forgotten = begin(store, "drift")
    job_runs.fail(store, forgotten, error="x", traceback="")
    last_drift = begin(store, "drift")
    job_runs.fail(store, last_drift, error="x", traceback="")
    clock.moment += timedelta(days=31)
    young = begin(store, "rewards")
    job_runs.fail(store, young, error="x", traceback="")
    assert job_runs.prune(store, timedelta(days=30)) == 2
    assert job_runs.recent(store)["run_id"].to_list() == [young, last_drift, old_success]
    assert begin(store) == young + 1


def test_facts_count_every_version_and_not_what_is_derived(store: Store, publish: Publish) -> None:
    assert job_runs.facts(store) == 0
    publish(
        traces=[{"trace_id": "a"}],
        spans=[{"trace_id": "a", "span_id": "s", "kind": "llm", "name": "one"}],
        signals=[{"signal_id": "x", "trace_id": "a", "kind": "thumb", "value": 1.0}],
    )
    assert job_runs.facts(store) == 3
    publish(traces=[{"trace_id": "a"}])
    assert job_runs.facts(store) == 3
    publish(spans=[{"trace_id": "a", "span_id": "s", "kind": "llm", "name": "two"}])
    assert job_runs.facts(store) == 4
    begin(store)
    assert job_runs.facts(store) == 4


def test_frames_have_the_declared_types(store: Store) -> None:
    begin(store)
    assert job_runs.latest(store).schema["started_at"] == pl.Datetime("us", "UTC")
