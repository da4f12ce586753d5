"""The job `payoffs` on a store: what it publishes, takes away from agents, and leaves alone."""

from datetime import timedelta

import polars as pl
import pytest
from lesson_library import act, approve, propose, render
from loop_data import run_loop
from payoff_frames import START, exposures
from publishing import publisher

from pipelines.compute import Aside
from pipelines.lessons.payoff.job import measured
from pipelines.lessons.payoff.measure import PayoffConfig
from store import decisions, lesson_reviews, lesson_settings, lessons, payoffs, playbooks, rewards
from store.clock import FixedClock
from store.connection import Store
from store.lesson_reviews import SYSTEM


@pytest.fixture
def store(tmp_path):
    opened = Store.open(tmp_path / "trimtab.duckdb", clock=FixedClock(START + timedelta(days=30)), threads=1)
    yield opened
    opened.close()


def decided(frame):
    """Decisions (columns `store.decisions.DECISIONS`) of exposures of one lesson each."""
    rows = [
        {
            "decision_id": row["decision_id"], "decided_at": row["decided_at"], "agent": "airline",
            "policy_version": 1, "user_id": row["user_id"], "segment": row["segment"], "session_id": None,
            "task": row["task"], "unit": row["unit"], "draw": 0.5, "arm": "default", "greedy_arm": "default",
            "explore": False, "propensity": 1.0, "arms": ["default"], "propensities": [1.0], "rate": 0.0,
            "allowed_rate": 0.0, "budget_scale": 1.0, "expected_regret": 0.0, "worst_regret": 0.0, "solicit": False,
            "solicit_propensity": 0.0, "sticky": False, "off_policy": True, "note": None, "lesson_set_hash": None,
            "input_hash": None, "source": "key", "playbook_version": 1,
            "empty_probability": row["empty_probability"],
            "exposures": [
                {"lesson_id": row["lesson_id"], "lesson_version": row["version"], "status": row["status"],
                 "served_probability": row["served_probability"], "match": 1.0, "tokens": row["lesson_tokens"]}
            ],
        }
        for row in frame.iter_rows(named=True)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=decisions.DECISIONS)


def world(store, folder, effects, *, units=1600):
    """Lessons l0, l1, ... of these effects, active and served, with what came of it."""
    names = [f"l{place}" for place in range(len(effects))]
    propose(store, *names)
    frames = []
    for place, (name, effect) in enumerate(zip(names, effects, strict=True)):
        approve(store, name)
        own = exposures(units, effect=effect, lesson=name, seed=place)
        frames.append(own.with_columns(pl.col("decision_id", "unit") + f"-{name}"))
    frame = pl.concat(frames)
    store.write(lambda connection: decisions.append(connection, decided(frame)))
    publisher(store, folder)(
        traces=[
            {"trace_id": f"t-{row['decision_id']}", "agent": "airline", "decision_id": row["decision_id"],
             "arm": "default", "started_at": row["decided_at"], "ended_at": row["decided_at"], "cost_usd": 0.01}
            for row in frame.iter_rows(named=True)
        ]
    )  # fmt: skip
    given = frame.select(
        trace_id=pl.lit("t-") + pl.col("decision_id"), mean="outcome", sd=pl.lit(0.1), signals=pl.lit(1, pl.Int32)
    )
    fitted = rewards.Fitted("m", {}, given, pl.DataFrame(schema=rewards.CELLS), given.height, 1, "0")
    rewards.publish(store, fitted)
    return names


def test_payoffs_are_published_harm_is_retired_and_playbooks_say_so(store, tmp_path):
    helpful, harmful = world(store, tmp_path, [0.3, -0.3])
    result = run_loop(store, "payoffs")["payoffs"]
    assert result.rows == 2
    assert "2 lesson versions of 1 agents from 3,200 decisions" in result.message
    whole = payoffs.of_lesson(store, helpful).filter(
        pl.col("segment").is_null(), measure="outcome", estimator="doubly robust"
    )
    assert whole["verdict"].to_list() == ["better"]
    assert whole["lower"][0] < 0.3 < whole["upper"][0]
    retired = lessons.one(store, harmful)
    assert (retired["state"], retired["state_by"]) == ("retired", SYSTEM)
    assert "Measured harm for airline" in retired["state_reason"]
    assert "withheld)" in retired["state_reason"]
    assert lessons.one(store, helpful)["state"] == "active"
    entries = playbooks.in_force(store, "airline").entries
    served = {entry.lesson_id: entry for entry in entries}
    assert list(served) == [helpful]
    assert served[helpful].payoff > 0.05
    assert served[helpful].payoff_n > 1000
    run = payoffs.latest_run(store)
    assert run["reward_model_id"] == 1


def test_what_an_operator_serves_again_stays(store, tmp_path):
    (harmful,) = world(store, tmp_path, [-0.3])
    run_loop(store, "payoffs")
    last = lessons.undoable(store, lesson_id=harmful).row(0, named=True)
    lesson_reviews.undo(store, harmful, sequence=last["sequence"], operator="Ada", render=render)
    assert lessons.one(store, harmful)["state"] == "active"
    again = run_loop(store, "payoffs")["payoffs"]
    assert lessons.one(store, harmful)["state"] == "active"
    assert "Retired" not in again.message


def test_demotion_follows_the_setting(store, tmp_path):
    (harmful,) = world(store, tmp_path, [-0.3])
    lesson_settings.put(store, "airline", by="Ada", render=render, automatic_demotion=False)
    run_loop(store, "payoffs")
    assert lessons.one(store, harmful)["state"] == "active"
    lesson_settings.put(store, "airline", by="Ada", render=render, automatic_demotion=True)
    run_loop(store, "payoffs")
    assert lessons.one(store, harmful)["state"] == "retired"


def test_a_new_text_is_not_blamed_for_the_old(store, tmp_path):
    (harmful,) = world(store, tmp_path, [-0.3])
    act(store, "edit", harmful)
    assert lessons.one(store, harmful)["version"] == 2
    run_loop(store, "payoffs")
    assert lessons.one(store, harmful)["state"] == "active"
    assert payoffs.of_lesson(store, harmful)["version"].unique().to_list() == [1]


def test_without_exposures_nothing_is_written(store):
    result = run_loop(store, "payoffs")["payoffs"]
    assert (result.rows, payoffs.latest_run(store)) == (0, None)
    assert payoffs.newest(store).is_empty()


def test_another_process_measures_the_same(store, tmp_path):
    world(store, tmp_path, [0.3], units=1200)
    aside = Aside(lambda: None, store)
    try:
        there = aside(measured, store, PayoffConfig())
    finally:
        aside.close()
    own = measured(store, PayoffConfig())
    order = ["kind", "measure", "estimator", "segment"]
    assert there.rows.sort(order).equals(own.rows.sort(order))
    assert (there.decisions, there.reward_model_id) == (1200, 1)
