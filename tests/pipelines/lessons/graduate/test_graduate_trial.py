"""Trials: a model that absorbed its lesson is told from one that did not, by its own decisions only."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from graduation_world import AGENT, LESSON, NOW, expose, open_world
from lesson_library import approve, force, propose
from loop_data import run_loop
from publishing import publisher

from pipelines.compute import Aside
from pipelines.lessons import review
from pipelines.lessons.graduate import trial
from store import graduation_trials, lessons, playbooks, rewards
from store.clock import FixedClock
from store.errors import ActionRefused

TUNED = "ft:base-1:shop:trimtab:1"


@pytest.fixture
def clock():
    return FixedClock(NOW)


@pytest.fixture
def store(tmp_path, clock):
    opened = open_world(tmp_path / "t.duckdb", clock)
    propose(opened, LESSON, agent=AGENT)
    approve(opened, LESSON)
    yield opened
    opened.close()


def live(store, folder, version, effect, *, units=6_000, other=2.0, seed=1):
    """Decisions after the trial began; two thirds ran the trained model, for which the lesson has this effect; for the
    old model it has the effect `other`."""
    random = np.random.default_rng(seed)
    at = store.clock.now() + timedelta(minutes=1)
    served = random.random(units) < 0.49
    tuned = random.random(units) < 2 / 3
    chance = 0.5 + np.where(served, np.where(tuned, effect, other), 0.0)
    outcome = (random.random(units) < chance).astype(float)
    names = [f"live-{place}" for place in range(units)]
    expose(store, list(zip(names, [f"p{place}" for place in range(units)], served.tolist(), [at] * units, strict=True)),
           version=version, p=0.49)  # fmt: skip
    publisher(store, folder)(
        traces=[
            {"trace_id": f"t-{name}", "agent": AGENT, "decision_id": name, "arm": "default", "started_at": at,
             "ended_at": at, "model": TUNED if new else "base-1"}
            for name, new in zip(names, tuned.tolist(), strict=True)
        ]
    )  # fmt: skip
    given = pl.DataFrame({"trace_id": [f"t-{name}" for name in names], "mean": outcome}).with_columns(
        sd=pl.lit(0.1), signals=pl.lit(1, pl.Int32)
    )
    fitted = rewards.Fitted("m", {}, given, pl.DataFrame(schema=rewards.CELLS), given.height, 1, "0")
    rewards.publish(store, fitted)
    store.clock.moment += timedelta(days=20)
    return int(tuned.sum())


def begun(store, **changes):
    told = {"version": lessons.one(store, LESSON)["version"], "basis": "model", "name": TUNED, "operator": "Ada",
            "margin": 0.12} | changes  # fmt: skip
    return trial.begin(store, AGENT, LESSON, **told)


def test_an_absorbed_lesson_is_proposed_and_graduated_by_an_operator_and_undone(store, tmp_path):
    number = begun(store)
    held = lessons.one(store, LESSON)
    assert (held["holdout"], held["state"], held["version"]) == (0.5, "active", 2)
    tuned = live(store, tmp_path, 2, 0.0, other=0.4)
    # Another process, beside a server, measures the same.
    aside = Aside(lambda: None, store)
    try:
        there = aside(trial.measured, store, graduation_trials.one(store, number))
    finally:
        aside.close()
    assert run_loop(store, "graduate")["graduate"].rows == 1
    row = graduation_trials.one(store, number)
    assert row["state"] == "absorbed", row
    assert row["served"] + row["withheld"] == tuned
    assert {name: row[name] for name in ("served", "withheld", "lower", "upper")} == {
        name: there[name] for name in ("served", "withheld", "lower", "upper")
    }
    assert -0.12 < row["lower"] < 0 < row["upper"] < 0.12
    # A proposal: the lesson is served until an operator has confirmed.
    assert lessons.one(store, LESSON)["state"] == "active"
    with pytest.raises(ActionRefused, match="no person"):
        trial.graduate(store, number, operator="trimtab")
    done = trial.graduate(store, number, operator="Ada")
    assert lessons.one(store, LESSON)["state"] == "graduated"
    assert playbooks.latest(store)["lesson_ids"].to_list() == [[]]
    assert graduation_trials.one(store, number)["state"] == "graduated"
    review.undo(store, LESSON, sequence=done.sequence, operator="Bob")
    assert lessons.one(store, LESSON)["state"] == "active"


def test_a_lesson_that_still_pays_is_not_absorbed_and_is_served_as_before(store, tmp_path):
    number = begun(store)
    # The old model does as well without: were it counted, the lesson would look absorbed.
    live(store, tmp_path, 2, 0.25, other=0.0)
    run_loop(store, "graduate")
    row = graduation_trials.one(store, number)
    assert row["state"] == "not absorbed", row
    assert row["lower"] > 0.12
    with pytest.raises(ActionRefused, match="not absorbed"):
        trial.graduate(store, number, operator="Ada")
    trial.end(store, number, operator="Ada")
    held = lessons.one(store, LESSON)
    assert (held["holdout"], held["state"]) == (None, "active")
    assert graduation_trials.running(store).is_empty()


def test_few_decisions_cannot_tell(store, tmp_path):
    number = begun(store, margin=0.02)
    run_loop(store, "graduate")
    assert graduation_trials.one(store, number)["message"] == "No decision ran it yet."
    live(store, tmp_path, 2, 0.0, units=600, other=0.4)
    run_loop(store, "graduate")
    assert graduation_trials.one(store, number)["state"] == "running"


@pytest.mark.parametrize(
    ("lower", "upper", "state"),
    [(-0.01, 0.01, "absorbed"), (0.001, 0.01, "not absorbed"), (-0.01, -0.001, "harms"), (-0.03, 0.01, "running"),
     (-0.01, 0.03, "running"), (None, None, "running"), (0.0, 0.0, "absorbed")],
)  # fmt: skip
def test_the_interval_decides(lower, upper, state):
    assert trial.decide(lower, upper, 0.02) == state


def test_trials_are_refused_where_they_could_tell_nothing(store):
    for changes in ({"holdout": 0.05}, {"margin": 0.0}, {"name": " "}, {"basis": "magic"}):
        with pytest.raises(ActionRefused):
            begun(store, **changes)
    force(store, LESSON, agent="*")
    with pytest.raises(ActionRefused, match="for every agent"):
        begun(store)
    force(store, LESSON, agent=AGENT)
    assert lessons.one(store, LESSON)["version"] == 1
    begun(store)
    with pytest.raises(ActionRefused, match="open"):
        begun(store)
