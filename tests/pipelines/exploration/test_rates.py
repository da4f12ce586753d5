"""Exploration rates against closed forms, known truth and their limits."""

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from pipelines.exploration.bounds import AgentBounds
from pipelines.exploration.rates import (
    ARMS,
    RECOMMENDATIONS,
    REWARDS,
    AgentEvidence,
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


def by_hand(gap: float, sds: tuple[float, float], noise: float, ahead: float) -> float:
    """The rate of two arms, the second one `gap` below the first, in plain numbers at the default bounds."""
    cost = gap
    worths, nets = [], []
    n = 1
    while n == 1 or 2 * n <= ahead:
        moved = sds[1] ** 2 / np.sqrt(sds[1] ** 2 + noise**2 / n)
        gain = ahead * moved * (norm.pdf(gap / moved) - gap / moved * norm.sf(gap / moved))
        worths.append(gain / n)
        nets.append((gain - n * cost, n))
        n *= 2
    at = max(range(len(nets)), key=lambda i: nets[i][0])
    best = float(nets[at][1]) if nets[at][0] > 0 else 0.0
    if 0 < at < len(nets) - 1:
        low, top, high = (nets[i][0] for i in (at - 1, at, at + 1))
        best *= 2 ** min(max(0.5 * (low - high) / (low - 2 * top + high), -0.5), 0.5)
    returned = max(worths) / cost
    need = min(best / ahead / 0.19, 1.0) * returned**2 / (1 + returned**2)
    return 0.01 + 0.19 * need


@pytest.mark.parametrize(("low", "ahead"), [(0.36, 2000.0), (0.38, 150.0), (0.38, 1e5), (0.3, 80.0)])
def test_two_arms_in_closed_form(low: float, ahead: float) -> None:
    one, two = [0.4, 0.6] * 20, [low, 0.6] * 20
    gap = (0.4 - low) / 2
    known = {"a": AgentEvidence(ahead=ahead)}
    row = recommend(pl.concat([rewards("v1", one), rewards("v2", two)]), agents=known).row(0, named=True)
    variances = [(np.var(values, ddof=1) + 0.01) / 40 for values in (one, two)]
    z = gap / np.sqrt(sum(variances))
    sds = (float(variances[0] ** 0.5), float(variances[1] ** 0.5))
    noise = float(np.sqrt(np.mean([variance * 40 for variance in variances])))
    assert row["status"] == "recommended"
    assert (row["greedy_arm"], row["decisions"]) == ("v1", 80)
    assert row["greedy_best"] == pytest.approx(norm.cdf(z))
    assert row["rate"] == pytest.approx(by_hand(gap, sds, noise, ahead))
    # The interval: the gap at the ends of its own; at the lower end the arms are alike, and trying costs nothing.
    margin = 1.96 * np.sqrt(sum(variances))
    assert margin > gap
    assert row["lower"] == pytest.approx(by_hand(gap + margin, sds, noise, ahead), abs=1e-3)
    assert row["upper"] == pytest.approx(0.2, abs=1e-3) or (ahead > 8192 and row["upper"] > row["rate"])
    arms = json.loads(row["arms"])
    assert [arm["arm"] for arm in arms] == ["v1", "v2"]
    assert arms[1]["sd"] == pytest.approx(variances[1] ** 0.5)
    assert arms[0]["best"] + arms[1]["best"] == pytest.approx(1.0)
    assert "v1 has the highest mean reward, 0.500" in row["reason"]
    assert f"the {ahead:,.0f} decisions ahead" in row["reason"]


CLOSE = pl.concat([rewards("v1", [0.4, 0.6] * 20), rewards("v2", [0.38, 0.6] * 20)])


def test_more_decisions_ahead_make_looking_pay() -> None:
    found = [
        recommend(CLOSE, agents={"a": AgentEvidence(ahead=ahead)})["rate"][0] for ahead in (1.0, 80.0, 150.0, 400.0)
    ]
    assert found == sorted(found)
    assert found[0] < 0.02 < found[-1]


def test_bounds_tolerance_and_progress_of_the_agent_count() -> None:
    def rate(**known: float) -> float:
        return float(recommend(CLOSE, agents={"a": AgentEvidence(ahead=150.0, **known)})["rate"][0])

    plain = rate()
    assert rate(tolerance=-0.05, tolerance_sd=0.01) < plain < rate(progress=0.8)
    row = recommend(CLOSE, agents={"a": AgentEvidence(AgentBounds(floor=0.04, cap=0.05))}).row(0, named=True)
    assert 0.04 <= row["lower"] <= row["rate"] <= row["upper"] <= 0.05
    assert "the cap 0.05" in row["reason"]
    dials = [
        recommend(CLOSE, agents={"a": AgentEvidence(AgentBounds(dial=dial), ahead=100.0)})["rate"][0]
        for dial in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    assert dials == sorted(dials)
    assert dials[0] < dials[-1]


@pytest.mark.parametrize(("gap", "expected"), [(0.0, 0.2), (0.9, 0.01)])
def test_ignorance_costs_the_cap_and_certainty_the_floor(gap: float, expected: float) -> None:
    frames = [rewards(f"v{i}", [0.05, 0.05 + 1e-9] * 50) for i in range(3)]
    frames.append(rewards("w", [0.05 + gap] * 100))
    row = recommend(pl.concat(frames)).row(0, named=True)
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
    rows = {row["agent"]: row for row in recommend(frame).iter_rows(named=True)}
    assert {row["status"] for row in rows.values()} == {"not enough data"}
    assert rows["one-arm"]["reason"] == "Not enough data: there is one arm (only), and exploring needs at least two."
    assert rows["thin"]["reason"] == "Not enough data: arm v2 has 12 traces with signals and needs 18 more."
    assert rows["thin"]["rate"] is None
    assert json.loads(rows["thin"]["arms"])[1]["n"] == 12
    assert recommend(pl.DataFrame(schema=REWARDS)).schema == RECOMMENDATIONS


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
    few = recommend(pl.concat([rewards("v1", values, users=3), rewards("v2", values, users=3)]))
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
@given(st.lists(st.lists(st.floats(0, 1), min_size=30, max_size=35), min_size=2, max_size=4))
def test_rates_stay_within_their_limits(arms: list[list[float]]) -> None:
    frame = pl.concat([rewards(f"v{i}", means) for i, means in enumerate(arms)])
    known = {"a": AgentEvidence(AgentBounds(floor=0.02, cap=0.15))}
    first = recommend(frame, agents=known)
    row = first.row(0, named=True)
    assert 0.02 <= row["lower"] <= row["rate"] <= row["upper"] <= 0.15
    assert sum(arm["best"] for arm in json.loads(row["arms"])) == pytest.approx(1.0)
    assert recommend(frame.reverse(), agents=known)["rate"][0] == pytest.approx(row["rate"])


def test_refuses_wrong_input() -> None:
    with pytest.raises(SettingsError, match="min_traces"):
        ExplorationConfig(min_traces=1)
    with pytest.raises(ContractError, match="mean"):
        recommend(rewards("v", [0.2]).drop("mean"))
