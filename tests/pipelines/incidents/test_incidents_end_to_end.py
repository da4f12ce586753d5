"""From traces to incidents: a model change that hits everyone raises one, an approved lesson that works raises none."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from incident_world import NOW
from lesson_library import propose, read
from loop_data import run_loop
from publishing import publisher

from pipelines.lessons.review import render
from store import drift, incidents, interventions, lesson_reviews, notices
from store.clock import FixedClock
from store.connection import Store

DAYS, USERS = 60, 60
CHANGE = NOW - timedelta(days=25)


def deployment(random, *, shift, model="gpt-4"):
    """Users of the agent `airline` who ask again in some of their sessions; `shift` more often from `CHANGE` on."""
    traces, signals = [], []
    for user in range(USERS):
        usual = random.uniform(0.2, 0.4)
        for day in range(DAYS):
            for number in range(random.poisson(2.0)):
                begin = NOW - timedelta(days=DAYS - day, hours=float(random.uniform(0, 14)))
                after = begin >= CHANGE
                name = f"t{user}-{day}-{number}"
                traces.append(
                    {"trace_id": name, "session_id": name, "agent": "airline", "user_id": f"u{user}",
                     "started_at": begin, "model": model if after else "gpt-4", "agent_version": "1",
                     "metadata": f'{{"segment": "{("power", "light")[user % 2]}"}}'}
                )  # fmt: skip
                if random.random() < max(usual + shift * after, 0.02):
                    signals.append(
                        {"signal_id": f"r{name}", "trace_id": name, "kind": "retry", "value": 1.0,
                         "occurred_at": begin + timedelta(minutes=1)}
                    )  # fmt: skip
    return traces, signals


@pytest.fixture
def clock():
    return FixedClock(NOW)


@pytest.fixture
def store(clock):
    opened = Store.open(None, clock=clock, threads=1)
    yield opened
    opened.close()


def test_a_model_change_that_hits_everyone_raises_one_incident(store, tmp_path: Path):
    traces, signals = deployment(np.random.default_rng(1), shift=0.25, model="gpt-5")
    publisher(store, tmp_path)(traces=traces, signals=signals)
    for _ in range(2):
        run_loop(store, "drift", "incidents")
    assert incidents.listed(store).height == 1
    one = incidents.one(store, incidents.listed(store)["incident_id"][0])
    assert one["metrics"] == ["retry"]
    assert abs(one["changed_at"] - CHANGE) < timedelta(days=2)
    assert one["cause"] == "model"
    assert "gpt-5 suspected" in one["title"]
    assert one["cause_detail"]["suspects"][0]["lower"] > 0.5
    assert notices.open_count(store) == 1


@pytest.mark.parametrize("approved", [True, False])
def test_an_approved_lesson_that_works_raises_nothing(store, clock, tmp_path: Path, approved):
    if approved:
        clock.moment = CHANGE
        propose(store, "l1", agent="airline")
        read(store, "l1")
        lesson_reviews.approve(store, "l1", version=1, operator="ann", render=render)
        clock.moment = NOW
    traces, signals = deployment(np.random.default_rng(2), shift=-0.2)
    publisher(store, tmp_path)(traces=traces, signals=signals)
    run_loop(store, "drift", "incidents")
    found = drift.findings(store, flagged_only=True)
    assert "population" in found["level"]
    if approved:
        lesson = interventions.known(store).filter(kind="lesson")["intervention_id"][0]
        assert set(found["explained_by"]) == {lesson}
    # Without the lesson nobody knows why: the same change is an incident.
    assert incidents.listed(store).height == notices.open_count(store) == (0 if approved else 1)
    assert list(notices.open_(store)["severity"]) == ([] if approved else ["info"])
