"""Tolerance against planted truth: freed of the arms, shrunk, and honest about what cannot be told."""

import numpy as np
import polars as pl
import pytest

from pipelines.exploration.tolerance import DECISIONS, TOLERANCE, ToleranceConfig, measure
from pipelines.stats.contract import ContractError


def decided(
    seed: int,
    *,
    users: int = 80,
    each: int = 60,
    rate: float = 0.2,
    tolerance: np.ndarray | None = None,
    gap: float = 0.15,
    personal: bool = True,
) -> pl.DataFrame:
    """Decisions of users whose greedy arm differs (`personal`), arm b being worse by `gap`, satisfaction by person."""
    rng = np.random.default_rng(seed)
    takes = np.zeros(users) if tolerance is None else tolerance
    user = np.repeat(np.arange(users), each)
    explore = rng.random(user.size) < rate
    prefers_b = (user % 2 == 1) if personal else np.zeros(user.size, dtype=bool)
    arm_b = explore ^ prefers_b
    level = rng.normal(0.6, 0.1, users)
    reward = level[user] - gap * arm_b + explore * takes[user] + rng.normal(0.0, 0.05, user.size)
    return pl.DataFrame(
        {
            "agent": "a", "user_id": [f"u{u:03d}" for u in user], "segment": "s",
            "arm": np.where(arm_b, "b", "a"), "explore": explore, "reward": np.clip(reward, 0, 1), "reward_sd": 0.0,
            "age_days": 0.0,
        },
        schema=DECISIONS,
    )  # fmt: skip


def test_worse_arms_are_no_dislike() -> None:
    found, population = measure(decided(1))
    assert found.schema == TOLERANCE
    # Without taking the arms out, those whose greedy arm is a would seem to lose .15 by exploring.
    assert found["tolerance"].abs().max() < 0.05
    assert population["a"].basis == "measured"
    assert abs(population["a"].mean) < 3 * population["a"].mean_sd + 0.01


def test_people_who_dislike_it_are_found() -> None:
    takes = np.where(np.arange(80) % 8 == 0, -0.3, 0.0)
    found, population = measure(decided(2, tolerance=takes))
    shrunk = found.sort("user_id")["tolerance"].to_numpy()
    sd = found.sort("user_id")["tolerance_sd"].to_numpy()
    assert np.all(shrunk[takes < 0] < -0.15)
    assert np.all(shrunk[takes == 0] > -0.12)
    assert np.mean(np.abs(shrunk - takes) < 1.96 * sd) > 0.85
    assert population["a"].mean == pytest.approx(takes.mean(), abs=0.03)
    assert population["a"].between_sd == pytest.approx(takes.std(), rel=0.4)


def test_little_evidence_is_shrunk_more_and_none_is_the_population() -> None:
    takes = np.where(np.arange(80) % 4 == 0, -0.3, 0.0)
    frame = decided(3, tolerance=takes)
    rare = frame.filter((pl.col("user_id") != "u000") | ~pl.col("explore") | (pl.int_range(pl.len()) == 0))
    once = pl.concat([frame.filter((pl.col("user_id") == "u000") & pl.col("explore")).head(1),
                      rare.filter((pl.col("user_id") != "u000") | ~pl.col("explore"))])  # fmt: skip
    never = rare.filter((pl.col("user_id") != "u000") | ~pl.col("explore"))
    rows = {}
    for name, data in (("often", frame), ("once", once), ("never", never)):
        found, population = measure(data)
        rows[name] = found.filter(user_id="u000").row(0, named=True)
        if name == "never":
            assert rows[name]["tolerance"] == pytest.approx(population["a"].mean)
            assert rows[name]["difference"] is None
    assert rows["often"]["tolerance_sd"] < rows["once"]["tolerance_sd"] < rows["never"]["tolerance_sd"]
    assert abs(rows["once"]["tolerance"] - rows["once"]["difference"]) > 1e-4


def test_exploring_that_cannot_be_told_from_the_arm_is_not_called_dislike() -> None:
    found, population = measure(decided(4, personal=False))  # b is only ever run by exploring
    assert population["a"].basis == "not identified"
    assert population["a"].mean == 0.0
    assert found["tolerance"].abs().max() < 0.05


def test_old_decisions_count_less() -> None:
    takes = np.full(80, 0.0)
    old = decided(5, tolerance=np.where(np.arange(80) < 10, -0.3, takes)).with_columns(age_days=pl.lit(600.0))
    new = decided(6, tolerance=takes)
    found, _ = measure(pl.concat([old, new]))
    changed = found.sort("user_id")["tolerance"].to_numpy()[:10]
    assert np.all(changed > -0.05)
    flat, _ = measure(pl.concat([old, new]), ToleranceConfig(half_life_days=1e9))
    assert np.all(flat.sort("user_id")["tolerance"].to_numpy()[:10] < -0.05)


def test_too_few_say_so_and_nobody_gives_nothing() -> None:
    found, population = measure(decided(7, users=3, each=10))
    assert population["a"].basis == "too few"
    assert found.height == 3
    empty, nobody = measure(pl.DataFrame(schema=DECISIONS))
    assert empty.is_empty()
    assert nobody == {}
    with pytest.raises(ContractError, match="reward"):
        measure(decided(8).drop("reward"))
