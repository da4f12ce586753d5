"""The job `retention`: deletes what is due, and finishes what forgetting somebody has left to do."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from publishing import publisher

from pipelines.jobs import REGISTRY, JobContext
from store import forgetting, retention
from store.clock import FixedClock
from store.connection import Store
from store.playbooks import Rendered
from store.settings import Settings

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
USER = "zelda-4711@example.org"


@pytest.fixture
def store(tmp_path):
    opened = Store.open(tmp_path / "trimtab.duckdb", clock=FixedClock(NOW), threads=1)
    publisher(opened, tmp_path)(
        traces=[
            {"trace_id": "old", "agent": "shop", "user_id": "other", "started_at": NOW - timedelta(days=40)},
            {"trace_id": "new", "agent": "shop", "user_id": USER, "started_at": NOW, "input": "hello"},
        ]
    )
    yield opened
    opened.close()


def _run(store):
    job = REGISTRY["retention"]
    context = JobContext(
        store=store, clock=store.clock, settings=Settings(), random=np.random.default_rng(1),
        progress=lambda fraction, message: None, loads=None,
    )  # fmt: skip
    return job.run(context)


def test_it_has_work_only_when_something_is_due(store):
    job = REGISTRY["retention"]
    assert job.has_work is not None
    assert not job.has_work(store, Settings())
    retention.put(store, "traces", "*", 30, by="Ada")
    assert job.has_work(store, Settings())
    done = _run(store)
    assert (done.rows, done.message) == (1, "Deleted as too old: 1 traces.")
    assert not job.has_work(store, Settings())


def test_a_rewrite_that_was_held_up_is_done_later(store, monkeypatch):
    rewrite = store.rewrite
    monkeypatch.setattr(store, "rewrite", lambda: rewrite(patience=0.05))
    with store.read():
        report = forgetting.forget(store, USER, operator="Ada", render=lambda served, budget: Rendered("", (), 0))
    assert not report.rewritten
    assert "keeps it in use" in str(report.problem)
    assert REGISTRY["retention"].has_work(store, Settings())
    assert "written anew" in _run(store).message
    assert not forgetting.rewrite_due(store)
    assert USER.encode() not in store.path.read_bytes()


def test_what_a_job_had_read_before_and_writes_after_goes_too(store):
    report = forgetting.forget(store, USER, operator="Ada", render=lambda served, budget: Rendered("", (), 0))
    assert report.rewritten

    def late(connection):
        for user in (USER, "other"):
            connection.execute(
                "INSERT INTO reward_people (reward_model_id, user_id, events) VALUES (1, $user, 3)", {"user": user}
            )
        for trace in ("new", "old"):
            connection.execute(
                "INSERT INTO rewards (trace_id, reward_model_id, mean, sd, signals) VALUES ($trace, 1, .5, .1, 1)",
                {"trace": trace},
            )
        connection.execute(
            """INSERT INTO job_runs (run_id, job, cause, attempt, status, started_at, code_version)
            VALUES (1, 'rewards', 'manual', 1, 'running', $now, 'v')""",
            {"now": NOW},
        )

    store.write(late)
    job = REGISTRY["retention"]
    assert not job.has_work(store, Settings())
    store.write(lambda connection: connection.execute("UPDATE job_runs SET status = 'succeeded'"))
    assert job.has_work(store, Settings())
    assert "2 results" in _run(store).message
    with store.read() as reader:
        assert reader.any_frame("SELECT user_id FROM reward_people").rows() == [("other",)]
        assert reader.any_frame("SELECT trace_id FROM rewards").rows() == [("old",)]
    assert USER.encode() not in store.path.read_bytes()
    assert not job.has_work(store, Settings())
