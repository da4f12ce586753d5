"""The job on a store: rates of agents, segments and users, once and again, and after what operators decide."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from loop_data import NOW, run_loop
from publishing import publisher

from store import arms, drift, exploration, links, never_explore
from store.clock import FixedClock
from store.connection import Store

USERS, EACH = 12, 40


def rows() -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Two arms that differ little; user 1 is unhappy whenever a decision explores, user 2 opted out."""
    rng = np.random.default_rng(11)
    traces, signals = [], []
    for user in range(USERS):
        greedy = "ab"[user % 2]
        for number in range(EACH):
            explore = user != 2 and rng.random() < 0.2
            arm = greedy if not explore else ("b" if greedy == "a" else "a")
            rate = 0.0 if user == 2 else 0.2
            name, moment = f"{user}-{number}", NOW - timedelta(days=20) + timedelta(hours=11 * number, minutes=user)
            metadata = {
                "segment": "young" if user < 6 else "old", "exploration_opt_out": user == 2, "steer.arm": arm,
                "steer.decision_id": f"d{name}", "steer.propensity": rate if explore else 1 - rate,
                "steer.explore": bool(explore),
                "steer.propensities": {greedy: 1 - rate, ("b" if greedy == "a" else "a"): rate},
            }  # fmt: skip
            traces.append(
                {"trace_id": f"t{name}", "agent": "shop", "arm": arm, "user_id": f"user {user}",
                 "decision_id": f"d{name}", "task": f"task {number % 3}", "started_at": moment, "ended_at": moment,
                 "input": "hello", "metadata": json.dumps(metadata)}
            )  # fmt: skip
            happy = 0.8 - 0.3 * (arm == "b") - (0.7 if explore and user == 1 else 0.0)
            signals.append(
                {"signal_id": f"g{name}", "trace_id": f"t{name}", "kind": "thumb",
                 "value": float(rng.random() < happy), "occurred_at": moment + timedelta(minutes=1)}
            )  # fmt: skip
    return traces, signals


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store with rewards and a policy."""
    opened = Store.open(tmp_path / "trimtab.duckdb", clock=FixedClock(NOW), threads=1)
    traces, signals = rows()
    publisher(opened, tmp_path)(traces=traces, signals=signals)
    links.refresh(opened)
    run_loop(opened, "rewards", "policies")
    yield opened
    opened.close()


def users(store: Store) -> dict[str, dict[str, object]]:
    moment = exploration.history(store)["recommended_at"][0]
    found = exploration.unit_rates(store, "shop", moment, scope="user")
    return {row["unit"]: row for row in found.iter_rows(named=True)}


def later(store: Store) -> None:
    assert isinstance(store.clock, FixedClock)
    store.clock.moment += timedelta(hours=1)


def test_everyone_gets_a_rate_and_nothing_is_asked_twice(store: Store) -> None:
    result = run_loop(store, "exploration")["exploration"]
    assert result.rows == 1
    assert "14 segments and users" in result.message
    found = users(store)
    assert len(found) == USERS
    assert found["user 2"]["rate"] == 0.0
    assert found["user 2"]["reason"] == "They opted out of exploration."
    others = [row for name, row in found.items() if name not in ("user 1", "user 2")]
    assert min(float(str(row["tolerance"])) for row in others) > float(str(found["user 1"]["tolerance"]))
    assert float(str(found["user 1"]["rate"])) < float(np.mean([float(str(row["rate"])) for row in others]))
    agent = exploration.history(store).row(0, named=True)
    assert 0.01 <= agent["lower"] <= agent["rate"] <= agent["upper"] <= 0.2
    later(store)
    assert run_loop(store, "exploration")["exploration"].rows == 0


def test_lists_bounds_and_drift_change_what_is_recommended(store: Store) -> None:
    run_loop(store, "exploration")
    before = users(store)
    never_explore.add(store, "*", "user", "user 5", reason="asked us", by="Ada")
    exploration.set_bounds(
        store, "shop", "user", "user 7", floor=0.15, cap=0.18, dial=None, daily_regret_budget=None, solicit_rate=None,
        automatic=None, by="Ada",
    )  # fmt: skip
    change = pl.DataFrame(
        [{"level": "user", "user_id": "user 4", "metric": drift.STATED, "likelihood": "bernoulli", "events": 30,
          "events_total": 30, "statistic": 9.0, "p_value": 1e-4, "q_value": 1e-3, "flagged": True,
          "changed_at": NOW - timedelta(days=1), "before_mean": 0.9, "before_n": 20, "after_mean": 0.2,
          "after_n": 10}],
        schema=drift.FOUND,
    )  # fmt: skip
    summary = drift.Summary(0.1, 12, 12, 1, 0, 10, None)
    drift.record(store, change, summary, data_version=1, code_version="x")
    later(store)
    assert run_loop(store, "exploration")["exploration"].rows == 1
    after = users(store)
    assert after["user 5"]["rate"] == 0.0
    assert after["user 5"]["reason"] == "On the never-explore list: asked us"
    assert 0.15 <= float(str(after["user 7"]["rate"])) <= 0.18
    assert float(str(after["user 4"]["rate"])) > float(str(before["user 4"]["rate"]))
    assert "ago raises it" in str(after["user 4"]["reason"])
    assert float(str(after["user 4"]["drift"])) == pytest.approx(0.5 ** (25 / 24 / 7), abs=1e-3)


def test_within_bounds_rates_apply_by_themselves_where_an_operator_said_so(store: Store) -> None:
    exploration.set_bounds(
        store, "shop", "agent", "", floor=0.02, cap=0.1, dial=None, daily_regret_budget=None, solicit_rate=None,
        automatic=True, by="Ada",
    )  # fmt: skip
    run_loop(store, "exploration")
    row = exploration.history(store).row(0, named=True)
    assert (row["state"], row["decided_by"]) == ("applied", "trimtab")
    applied = exploration.applied_rates(store, "shop")
    assert applied["rate"].max() <= 0.1  # type: ignore[operator]
    assert applied.filter(pl.col("unit") == "user 2")["rate"].to_list() == [0.0]
    assert applied.height == 1 + 2 + USERS


def test_an_arm_that_is_off_is_no_alternative(store: Store) -> None:
    listed = arms.listed(store, agent="shop")
    other = listed.filter(~pl.col("baseline"))["arm"][0]
    arms.set_state(store, "shop", other, "off", reason="test", by="Ada")
    assert run_loop(store, "exploration")["exploration"].rows == 0
    assert exploration.history(store).is_empty()
