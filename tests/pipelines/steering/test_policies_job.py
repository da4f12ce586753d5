"""From traces to policies in force: the job, what an operator decides, and what holds when something breaks."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from loop_data import NOW, shop_file

from pipelines.jobs import JobContext
from pipelines.steering import job, publishing
from pipelines.steering import republish as republishing
from pipelines.steering.republish import Republisher
from store import arms, audit, exploration, never_explore, policies
from store.clock import FixedClock
from store.connection import Store
from store.settings import Settings


@pytest.fixture
def store(tmp_path: Path):
    path = tmp_path / "trimtab.duckdb"
    path.write_bytes(shop_file())
    opened = Store.open(path, clock=FixedClock(NOW), threads=1)
    # The round of all jobs that made the file has published already.
    for table in ("policies", "policy_users", "arms"):
        opened.write(lambda connection, table=table: connection.execute(f"DELETE FROM {table}"))
    yield opened
    opened.close()


def _run(store):
    return job.run(
        JobContext(
            store=store, clock=store.clock, settings=Settings(), random=np.random.default_rng(1),
            progress=lambda *_: None, loads=None,
        )
    )  # fmt: skip


def _newest(store):
    (policy,) = policies.newest(store, "shop")
    return policy


def _states(store):
    return {arm.name: arm.state for arm in _newest(store).arms}


def test_traces_become_a_policy(store):
    result = _run(store)
    assert result.rows == 1
    assert "Published shop version 1" in result.message
    policy = _newest(store)
    assert sorted(_states(store).values()) == ["enabled", "shadow"]
    assert [arm.baseline for arm in policy.arms] == [True, False]
    assert policy.basis == ("observational", "observational")
    assert policy.n.sum() > 60
    assert "ada" in policy.users.index
    assert policy.reward_model_id == 1


def test_the_same_data_publish_nothing_more(store):
    _run(store)
    result = _run(store)
    assert (result.rows, result.message) == (0, "The policies of 1 agents are as they were.")
    assert policies.versions(store, "shop").height == 1


def test_a_store_without_arms_says_so(tmp_path):
    empty = Store.open(None, clock=FixedClock(NOW))
    try:
        assert _run(empty).message == "No agent has an arm: no trace names one, and nobody defined any."
    finally:
        empty.close()


def test_what_operators_decided_is_in_the_next_version_without_the_job(store):
    _run(store)
    (shadow,) = (name for name, state in _states(store).items() if state == "shadow")
    arms.set_state(store, "shop", shadow, "enabled", reason="", by="Ada")
    assert publishing.republish(store, cause="arms") == {"shop": 2}
    assert set(_states(store).values()) == {"enabled"}
    never_explore.add(store, "*", "user", "ada", reason="she asked", by="Ada")
    exploration.set_bounds(
        store, "shop", "agent", "", floor=0.0, cap=0.01, dial=None, daily_regret_budget=2.0, solicit_rate=None,
        automatic=None, by="Ada",
    )  # fmt: skip
    assert publishing.republish(store, cause="rates") == {"shop": 3}
    policy = _newest(store)
    assert policy.users.opted_out[policy.users.index["ada"]]
    assert (policy.rate, policy.daily_regret_budget) == (0.01, 2.0)
    assert policy.salt == policies.at(store, "shop", 1).salt
    never_explore.remove(store, "*", "user", "ada", by="Ada")
    publishing.republish(store, cause="rates")
    policy = _newest(store)
    assert not policy.users.opted_out[policy.users.index["ada"]]


def test_an_arm_that_comes_back_has_what_was_known_of_it(store):
    _run(store)
    before = _newest(store)
    name = before.arms[1].name
    arms.set_state(store, "shop", name, "off", reason="slow", by="Ada")
    publishing.republish(store, cause="arms")
    assert list(_states(store)) == [before.arms[0].name]
    arms.set_state(store, "shop", name, "enabled", reason="", by="Ada")
    publishing.republish(store, cause="arms")
    after = _newest(store)
    np.testing.assert_array_equal(after.mean, before.mean)
    np.testing.assert_array_equal(after.users.mean, before.users.mean)


def test_after_a_restart_decisions_are_joined_with_the_newest_policy(store, tmp_path):
    _run(store)
    before = _newest(store)
    publishing._held.clear()  # as in a new process
    arms.define(store, "shop", "brand new", kind="model", definition={}, origin="api", by="Ada")
    arms.define(store, "another agent", "x", kind="model", definition={}, origin="api", by="Ada")
    assert publishing.republish(store, cause="arms") == {"another agent": 1, "shop": 2}
    after = _newest(store)
    assert [arm.name for arm in after.arms] == [before.arms[0].name, *sorted([before.arms[1].name, "brand new"])]
    assert after.basis.count("prior") == 1


def _wait(condition):
    for _ in range(2_000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not come about")


def test_a_decision_is_published_by_itself_with_its_cause(store):
    _run(store)
    (shadow,) = (name for name, state in _states(store).items() if state == "shadow")
    watching = Republisher(store, look_seconds=0.01)
    try:
        _wait(lambda: watching._seen is not None)
        arms.set_state(store, "shop", shadow, "off", reason="slow", by="Ada")
        _wait(lambda: len(_newest(store).arms) == 1)
    finally:
        watching.close()
        watching.close()
    assert policies.versions(store, "shop")["cause"][0] == "arms"


@pytest.fixture
def still(store, monkeypatch):
    """A republisher that looks only when told."""
    monkeypatch.setattr(Republisher, "_run", lambda self: None)
    made = Republisher(store)
    yield made
    made.close()


def test_what_was_decided_before_the_start_is_published_at_the_start(store, still):
    _run(store)
    arms.define(store, "shop", "new", kind="model", definition={}, origin="api", by="Ada")
    assert still.look()
    assert "new" in _states(store)
    assert policies.versions(store, "shop")["cause"][0] == "operator"
    assert not still.look()


def test_only_decisions_that_policies_depend_on_are_looked_into(store, still, monkeypatch):
    still.look()
    asked = []
    monkeypatch.setattr(republishing, "republish", lambda _, cause: asked.append(cause))

    def decide(*actions):
        for action in actions:
            store.write(lambda c, action=action: audit.append(c, NOW, "Ada", action, "s", {}))
        still.look()

    decide("key create", "source add")
    assert asked == []
    decide("key create", "guardrail define")
    decide("never explore add", "exploration apply")
    decide("arm state", "guardrail define")
    decide("something new")
    decide(*["key create"] * 60)
    assert asked == ["guardrail", "rates", "operator", "operator", "operator"]


def test_a_failing_publish_is_tried_again(store, monkeypatch, caplog):
    _run(store)
    failing = [True]

    def publish(*arguments, **named):
        if failing[0]:
            raise OSError("no space")
        return real(*arguments, **named)

    real = policies.publish
    monkeypatch.setattr(policies, "publish", publish)
    watching = Republisher(store, look_seconds=0.01, retry_seconds=0.01)
    try:
        arms.define(store, "shop", "new", kind="model", definition={}, origin="api", by="Ada")
        _wait(lambda: "trying again" in caplog.text)
        assert "new" not in _states(store)
        failing[0] = False
        _wait(lambda: "new" in _states(store))
    finally:
        watching.close()


def test_a_republisher_ends_with_its_store(tmp_path):
    own = Store.open(None, clock=FixedClock(NOW))
    watching = Republisher(own, look_seconds=0.01, retry_seconds=0.01)
    own.close()
    watching._thread.join(20)
    assert not watching._thread.is_alive()


def test_posterior_and_decision_at_once_leave_the_decision_in_force(store):
    """The job has computed while the operator decides: what it publishes then has the decision in it."""
    _run(store)
    held = publishing._held[store].beliefs["shop"]
    (shadow,) = (name for name, state in _states(store).items() if state == "shadow")
    arms.set_state(store, "shop", shadow, "off", reason="slow", by="Ada")
    publishing.publish(store, {"shop": replace(held, mean=held.mean + 0.1)}, cause="schedule")
    assert shadow not in _states(store)
