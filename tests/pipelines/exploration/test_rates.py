"""Exploration rates against closed forms, known truth and their limits."""

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from pipelines.exploration.rates import (
    ARMS,
    RECOMMENDATIONS,
    REWARDS,
    ExplorationConfig,
    arm_posteriors,
    recommend,
)
from pipelines.stats.contract import ContractError
from store.errors import SettingsError


def rewards(
    arm: str, means: list[float], *, sd: float = 0.1, agent: str = "a", users: int | None = None
) -> pl.DataFrame:
    rows = [(agent, arm, None if users is None else f"u{i % users}", mean, sd, 1) for i, mean in enumerate(means)]
    return pl.DataFrame(rows, schema=REWARDS, orient="row")


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def test_two_arms_in_closed_form() -> None:
    one, two = [0.4, 0.6] * 20, [0.3, 0.6] * 20
    row = recommend(pl.concat([rewards("v1", one), rewards("v2", two)]), rng=rng()).row(0, named=True)
    variances = [(np.var(values, ddof=1) + 0.01) / 40 for values in (one, two)]
    z = 0.05 / np.sqrt(sum(variances))
    assert row["status"] == "recommended"
    assert (row["greedy_arm"], row["decisions"]) == ("v1", 80)
    assert row["greedy_best"] == pytest.approx(norm.cdf(z))
    assert row["rate"] == pytest.approx(0.01 + 0.19 * 2 * norm.cdf(-z))
    # Drawn again, z is normal around its present value with sd 1; the rate falls in z and ends at the cap.
    assert row["lower"] == pytest.approx(0.01 + 0.19 * 2 * norm.cdf(-z - 1.96), abs=0.004)
    assert row["upper"] == pytest.approx(0.2)
    arms = json.loads(row["arms"])
    assert [arm["arm"] for arm in arms] == ["v1", "v2"]
    assert arms[1]["sd"] == pytest.approx(variances[1] ** 0.5)
    assert arms[0]["best"] + arms[1]["best"] == pytest.approx(1.0)
    assert "v1 has the highest mean reward, 0.500" in row["reason"]


@pytest.mark.parametrize(("gap", "expected"), [(0.0, 0.2), (0.9, 0.01)])
def test_ignorance_costs_the_cap_and_certainty_the_floor(gap: float, expected: float) -> None:
    frames = [rewards(f"v{i}", [0.05, 0.05 + 1e-9] * 50) for i in range(3)]
    frames.append(rewards("w", [0.05 + gap] * 100))
    row = recommend(pl.concat(frames), rng=rng()).row(0, named=True)
    assert row["rate"] == pytest.approx(expected, abs=1e-3)
    assert row["lower"] <= row["rate"] <= row["upper"]


def test_what_is_missing_is_named() -> None:
    frame = pl.concat(
        [
            rewards("only", [0.5] * 50, agent="one-arm"),
            rewards("v1", [0.5] * 50, agent="thin"),
            rewards("v2", [0.5] * 12, agent="thin"),
            rewards("v2", [0.5] * 40, agent="thin").with_columns(signals=pl.lit(0, pl.Int64)),
        ]
    )
    rows = {row["agent"]: row for row in recommend(frame, rng=rng()).iter_rows(named=True)}
    assert {row["status"] for row in rows.values()} == {"not enough data"}
    assert rows["one-arm"]["reason"] == "Not enough data: there is one arm (only), and exploring needs at least two."
    assert rows["thin"]["reason"] == "Not enough data: arm v2 has 12 traces with signals and needs 18 more."
    assert rows["thin"]["rate"] is None
    assert json.loads(rows["thin"]["arms"])[1]["n"] == 12
    assert recommend(pl.DataFrame(schema=REWARDS), rng=rng()).schema == RECOMMENDATIONS


def test_unnamed_arms_and_predictions_do_not_count() -> None:
    frame = pl.concat(
        [
            rewards("v1", [0.5] * 30),
            rewards("v1", [1.0] * 30).with_columns(arm=pl.lit(None, pl.String)),
            rewards("v1", [0.9] * 7).with_columns(signals=pl.lit(0, pl.Int64)),
        ]
    )
    arms = arm_posteriors(frame)
    assert arms.schema == ARMS
    assert arms.row(0, named=True) | {"sd": None} == {
        "agent": "a",
        "arm": "v1",
        "mean": 0.5,
        "sd": None,
        "n": 30,
        "traces": 37,
        "users": 0,
        "clustered": False,
    }


def test_traces_of_one_user_are_not_independent() -> None:
    values = [float(i % 12 < 6) for i in range(240)]  # every user always gives the same reward
    clustered = arm_posteriors(rewards("v1", values, users=12)).row(0, named=True)
    independent = arm_posteriors(rewards("v1", values)).row(0, named=True)
    assert clustered["clustered"]
    assert clustered["users"] == 12
    # Twelve users with mean 0 or 1: the variance of their mean, plus what the rewards' own sd adds.
    assert clustered["sd"] ** 2 == pytest.approx(np.var([0, 1] * 6, ddof=1) / 12 + 0.01 / 240)
    assert clustered["sd"] > 3 * independent["sd"]
    few = recommend(pl.concat([rewards("v1", values, users=3), rewards("v2", values, users=3)]), rng=rng())
    assert "Fewer than 10 users are known" in few["reason"][0]


def test_clustered_interval_of_an_arm_covers() -> None:
    generator = np.random.default_rng(5)
    covered = 0
    for _ in range(400):
        chance = generator.beta(3, 3, 40)
        user = generator.integers(0, 40, 300)
        mean = (generator.random(300) < chance[user]).astype(float)
        frame = pl.DataFrame(
            {"agent": "a", "arm": "v", "user_id": user, "mean": mean, "sd": 0.0, "signals": 1},
            schema_overrides={"user_id": pl.Int64},
        ).with_columns(pl.col("user_id").cast(pl.String))
        arm = arm_posteriors(frame).row(0, named=True)
        covered += abs(arm["mean"] - 0.5) <= 1.96 * arm["sd"]
    assert abs(covered / 400 - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 400)


@settings(max_examples=30)
@given(st.lists(st.lists(st.floats(0, 1), min_size=30, max_size=35), min_size=2, max_size=4), st.integers(0, 2**32))
def test_rates_stay_within_their_limits(arms: list[list[float]], seed: int) -> None:
    frame = pl.concat([rewards(f"v{i}", means) for i, means in enumerate(arms)])
    config = ExplorationConfig(floor=0.02, cap=0.15, draws=200)
    first = recommend(frame, config, rng=np.random.default_rng(seed))
    row = first.row(0, named=True)
    assert 0.02 <= row["lower"] <= row["rate"] <= row["upper"] <= 0.15
    assert sum(arm["best"] for arm in json.loads(row["arms"])) == pytest.approx(1.0)
    assert recommend(frame.reverse(), config, rng=np.random.default_rng(seed))["rate"][0] == pytest.approx(row["rate"])


def test_refuses_wrong_input() -> None:
    with pytest.raises(SettingsError, match="floor and cap"):
        ExplorationConfig(floor=0.3)
    with pytest.raises(SettingsError, match="min_traces"):
        ExplorationConfig(min_traces=1)
    with pytest.raises(ContractError, match="column mean must lie from 0 to 1"):
        recommend(rewards("v", [1.2]), rng=rng())
