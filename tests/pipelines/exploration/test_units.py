"""Rates of an agent's segments and users from its policy, with reasons that say what happened."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from pipelines.exploration.tolerance import TOLERANCE
from pipelines.exploration.units import UNIT_RATES, People, considered, unit_rates
from store.exploration_bounds import BOUNDS
from store.policy import Arm, Limits, Policy, Users

NAMES = ["ada", "bob", "cem", "dev", "eve"]


def policy(states: tuple[str, ...] = ("enabled", "enabled", "off")) -> Policy:
    mean = np.array([[0.5, 0.48, 0.9], [np.nan] * 3, [0.5, 0.49, 0.9], [0.7, 0.2, 0.9], [np.nan] * 3], np.float32)
    return Policy(
        agent="a", version=1, built_at=datetime(2026, 11, 20, tzinfo=UTC), reward_model_id=1, salt="x",
        arms=tuple(Arm(f"v{i}", "prompt", state, i == 0) for i, state in enumerate(states)),  # type: ignore[arg-type]
        mean=np.array([0.5, 0.45, 0.9]), sd=np.full(3, 0.02), n=np.full(3, 100), rate=0.05, propensity_floor=0.01,
        segments=("old", "young"), segment_mean=np.array([[0.5, 0.4, 0.9], [np.nan] * 3]),
        segment_sd=np.array([[0.02] * 3, [np.nan] * 3]), segment_rate=np.full(2, np.nan),
        users=Users(
            index={name: place for place, name in enumerate(NAMES)}, segment=np.array([0, 1, 1, 0, -1], np.int32),
            mean=mean, sd=np.where(np.isnan(mean), np.nan, 0.05).astype(np.float32),
            rate=np.full(5, np.nan, np.float32),
            opted_out=np.array([False, False, False, False, True]),
        ),
        never_segments=frozenset(), never_tasks=frozenset(), daily_regret_budget=None, solicit_rate=0.02,
        limits=Limits(),
    )  # fmt: skip


def people(**changes: object) -> People:
    tolerance = pl.DataFrame(
        [("a", "cem", -0.2, 0.03, -0.3, 9, 80), ("a", "ada", 0.0, 0.02, 0.0, 12, 90)], schema=TOLERANCE, orient="row"
    )
    plain: dict[str, object] = {
        "traffic": pl.DataFrame({"user_id": [*NAMES, "new", None], "traces": [400, 400, 400, 400, 400, 3, 7]}),
        "tolerance": tolerance,
        "drift": pl.DataFrame({"user_id": ["bob"], "days": [1.0]}),
        "progress": pl.DataFrame({"user_id": ["ada"], "progress": [0.5]}),
        "never_users": {},
        "never_segments": {},
        "opted_out": frozenset(),
        "population": None,
        "noise_sd": 0.25,
    }
    return People(**{**plain, **changes})  # type: ignore[arg-type]


def rows(frame: pl.DataFrame) -> dict[str, dict[str, object]]:
    return {row["unit"]: row for row in frame.iter_rows(named=True)}


NONE = pl.DataFrame(schema=BOUNDS)


def test_everyone_has_a_rate_with_a_reason() -> None:
    frame = unit_rates(policy(), people(), NONE)
    assert frame.schema == UNIT_RATES
    assert frame.filter(scope="segment")["unit"].to_list() == ["old", "young"]
    assert frame.filter(scope="user")["unit"].to_list() == sorted([*NAMES, "new"])
    found = rows(frame)
    assert found["eve"]["rate"] == 0.0
    assert found["eve"]["reason"] == "They opted out of exploration."
    assert "A change 1.0 days ago raises it" in str(found["bob"]["reason"])
    assert "tasks still teach something" in str(found["ada"]["reason"])
    assert "changed their reward by -0.2 ± 0.03 (n 9 explored)" in str(found["cem"]["reason"])
    assert "probability of 90 %" in str(found["cem"]["reason"])
    assert "never measured here" in str(found["bob"]["reason"])
    assert found["cem"]["rate"] < found["ada"]["rate"] / 3  # type: ignore[operator]
    # v0 is sure to be the best for dev: there is nothing to be learnt.
    assert found["dev"]["rate"] == pytest.approx(0.01)
    assert found["dev"]["doubt"] < 1e-6  # type: ignore[operator]
    # An arm that is off, however good, is no part of it.
    assert "v2" not in str(found["dev"]["reason"])


def test_who_opted_out_since_the_policy_was_built_is_left_alone_too() -> None:
    found = rows(unit_rates(policy(), people(opted_out=frozenset({"ada", "somebody"})), NONE))
    assert [found[name]["rate"] for name in ("ada", "somebody", "eve")] == [0.0, 0.0, 0.0]
    assert found["ada"]["reason"] == "They opted out of exploration."


def test_lists_and_bounds_are_kept() -> None:
    bounds = pl.DataFrame(
        [{"scope": "agent", "unit": "", "cap": 0.05}, {"scope": "user", "unit": "ada", "floor": 0.04}], schema=BOUNDS
    )
    known = people(never_users={"ada": "angry letter", "zoe": "lawyer"}, never_segments={"young": "by law"})
    found = rows(unit_rates(policy(), known, bounds))
    assert found["ada"]["rate"] == 0.0
    assert found["ada"]["reason"] == "On the never-explore list: angry letter"
    assert found["zoe"]["rate"] == 0.0
    for name in ("bob", "cem"):
        assert found[name]["rate"] == 0.0
        assert found[name]["reason"] == "Their segment is on the never-explore list."
    assert found["young"]["reason"] == "On the never-explore list: by law"
    assert max(row["rate"] for row in found.values()) <= 0.05  # type: ignore[type-var]
    assert rows(unit_rates(policy(), people(), bounds))["ada"]["rate"] >= 0.04  # type: ignore[operator]


def test_without_two_arms_there_are_no_rates() -> None:
    assert considered(policy()).tolist() == [0, 1]
    assert considered(policy(("enabled", "shadow", "shadow"))).tolist() == [0, 1, 2]
    one = policy()
    alone = Policy(**{**vars(one), "arms": one.arms[:1]})
    assert unit_rates(alone, people(), NONE).is_empty()
