"""The job `drift` and texts: a user's own change of topic is recorded, and between full scans one is found sooner."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from loop_data import run_loop
from publishing import publisher

from store import drift, drift_states, users
from store.clock import FixedClock
from store.connection import Store
from store.drift_events import WORDS

START = datetime(2026, 9, 1, tzinfo=UTC)
TRAVEL = ["flight", "hotel", "beach", "museum", "train", "ticket", "island", "ferry"]
MONEY = ["invoice", "refund", "card", "bank", "payment", "tax", "receipt", "loan"]


def _traces(user, first, sessions, begin, days, moved_at):
    random = np.random.default_rng([first, *user.encode()])
    return [
        {"trace_id": f"{user} {first + at}", "agent": "shop", "user_id": user, "session_id": f"{user} {first + at}",
         "started_at": START + timedelta(days=float(day)),
         "input": " ".join(["please find me", *random.choice(TRAVEL if day < moved_at else MONEY, 4)])}
        for at, day in enumerate(np.sort(random.uniform(begin, begin + days, sessions)))
    ]  # fmt: skip


@pytest.fixture
def store(tmp_path):
    """Eight users; ann asked about travel, then about money."""
    opened = Store.open(tmp_path / "t.duckdb", clock=FixedClock(START + timedelta(days=70)), threads=1)
    publish = publisher(opened, tmp_path)
    names = ["ann", *(f"user {number}" for number in range(7))]
    publish(traces=[row for name in names for row in _traces(name, 0, 60, 0, 40, 15 if name == "ann" else 99)])
    users.count(opened)
    yield opened, publish
    opened.close()


def test_a_change_of_topic_is_recorded_without_effect_and_another_is_found_by_the_next_small_run(store):
    opened, publish = store
    run_loop(opened, "drift")
    found = drift.findings(opened, metric=WORDS)
    assert found.height == 8
    assert found.filter("flagged")["user_id"].to_list() == ["ann"]
    row = found.filter(user_id="ann").row(0, named=True)
    assert (row["likelihood"], row["effect"], row["before_mean"], row["after_mean"]) == ("embedding", None, None, None)
    assert (row["practical"], row["category"], row["before_n"] + row["after_n"]) == (None, None, 40)
    (measured,) = drift.measured(opened).filter(metric=WORDS).to_dicts()
    assert (measured["level"], measured["likelihood"], measured["events"]) == ("user", "embedding", 480)
    with opened.read() as reader:
        assert drift_states.of_metric(reader, WORDS)["n"].to_list() == [60] * 8
    publish(traces=_traces("user 3", 60, 25, 41, 12, 0))
    message = run_loop(opened, "drift")["drift"].message
    assert "were scanned" in message
    row = drift.findings(opened, metric=WORDS, user_id="user 3").row(0, named=True)
    assert (row["flagged"], row["events"], row["events_total"], row["effect"]) == (True, 80, 85, None)
    assert drift.latest_run(opened)["rescanned"] == 1
