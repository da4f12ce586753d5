"""The closed loop: learnt rates against fixed ones, the daily budget, and people who dislike or refuse exploration."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from pipelines.simulate.steered import FixedRate, Outcome, Steered, SteeredConfig, World, draw_world, posterior, run

Record = Callable[[str, object], None]
CONFIG = SteeredConfig()
SEEDS = range(20)
BUDGET = 4.0
LAST = slice(-10, None)  # days


@cache
def world(seed: int) -> World:
    return draw_world(CONFIG, seed)


@cache
def outcome(seed: int, policy: Steered | FixedRate) -> Outcome:
    return run(world(seed), CONFIG, policy)


def interval(values: list[float]) -> str:
    mean, margin = float(np.mean(values)), 1.96 * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return f"{mean:.1f} ({mean - margin:.1f} to {mean + margin:.1f})"


@pytest.mark.thorough
@pytest.mark.parametrize("fixed", [0.01, 0.05, 0.1])
def test_learnt_rates_regret_less_than_fixed_ones(fixed: float, record_property: Record) -> None:
    steered = [float(outcome(seed, Steered()).regret.sum()) for seed in SEEDS]
    other = [float(outcome(seed, FixedRate(fixed)).regret.sum()) for seed in SEEDS]
    saved = [b - a for a, b in zip(steered, other, strict=True)]
    record_property("regret", f"{interval(steered)}, fixed {interval(other)}, saved {interval(saved)}")
    assert np.mean(saved) > 0.0


@pytest.mark.thorough
def test_the_daily_budget_is_kept(record_property: Record) -> None:
    runs = [outcome(seed, Steered(budget=BUDGET)) for seed in SEEDS]
    highest = [float(run.cost.max()) for run in runs]
    free = [float(outcome(seed, Steered()).cost.max()) for seed in SEEDS]
    kept = np.mean([run.cost.max() <= BUDGET for run in runs])
    record_property("kept", f"in {kept:.0%} of runs; dearest day {interval(highest)}, without budget {interval(free)}")
    assert max(run.spent.max() for run in runs) <= BUDGET + 1e-9
    assert kept >= 0.95
    # Without a budget most runs have dearer days: it is the budget that keeps it.
    assert np.mean([cost > BUDGET for cost in free]) > 0.3
    assert min(outcome(seed, Steered()).spent.max() for seed in SEEDS) > BUDGET


def test_people_who_dislike_it_are_explored_less_than_a_third_as_much(record_property: Record) -> None:
    rates, shares = [], []
    for seed in SEEDS:
        own, of = world(seed), outcome(seed, Steered())
        dislikes = own.dislikes & ~own.opted_out
        rate = of.rate[:, LAST].mean(axis=1)
        rates.append(float(rate[dislikes].mean() / rate.mean()))
        explored, decided = of.explored[:, LAST].sum(axis=1), of.decided[:, LAST].sum(axis=1)
        shares.append(float(explored[dislikes].sum() / decided[dislikes].sum() / (explored.sum() / decided.sum())))
    record_property("dislike", f"rate {np.mean(rates):.3f} of the population's, share {np.mean(shares):.3f}")
    assert np.mean(rates) < 1 / 3
    assert np.mean(shares) < 1 / 3
    assert np.quantile(rates, 0.9) < 0.5


def test_nobody_who_opted_out_is_ever_explored() -> None:
    for seed in SEEDS:
        for policy in (Steered(), Steered(budget=BUDGET)):
            of, out = outcome(seed, policy), world(seed).opted_out
            assert out.any()
            assert of.explored[out].sum() == 0
            assert of.rate[out].max() == 0.0
            assert of.explored[~out].sum() > 0


def test_a_run_is_the_same_again_and_of_everyone() -> None:
    again = run(draw_world(CONFIG, 3), CONFIG, Steered())
    assert np.array_equal(again.regret, outcome(3, Steered()).regret)
    assert again.decided.sum() == world(3).user.size


def test_the_posterior_is_the_exact_one() -> None:
    config = SteeredConfig(users=5, segments=2)
    rng = np.random.default_rng(8)
    segment = np.array([0, 0, 1, 1, 1])
    n = rng.integers(0, 6, (5, 2)).astype(np.float64)
    total = np.where(n > 0, rng.normal(0.5, 0.1, (5, 2)) * n, 0.0)
    known = posterior(segment, config, n, total)
    for arm in range(2):
        # All of it as one Gaussian: agent, two segments, five persons; conditioned on the sums by linear algebra.
        agent = np.full((8, 8), config.arm_sd**2)
        below = np.array([-1, 0, 1, *segment])
        same = (below[:, None] == below) & (below >= 0)
        covariance = agent + config.segment_sd**2 * same
        covariance[3:, 3:] += config.person_sd**2 * np.eye(5)
        seen = np.flatnonzero(n[:, arm] > 0) + 3
        noise = np.diag(config.noise_sd**2 / n[seen - 3, arm])
        gain = covariance[:, seen] @ np.linalg.inv(covariance[np.ix_(seen, seen)] + noise)
        mean = 0.5 + gain @ (total[seen - 3, arm] / n[seen - 3, arm] - 0.5)
        sd = np.sqrt(np.diag(covariance - gain @ covariance[seen]))
        assert known.agent_mean[arm] == pytest.approx(mean[0])
        assert known.agent_sd[arm] == pytest.approx(sd[0])
        assert known.segment_mean[:, arm] == pytest.approx(mean[1:3])
        assert known.segment_sd[:, arm] == pytest.approx(sd[1:3])
        assert known.mean[:, arm] == pytest.approx(mean[3:])
        assert known.sd[:, arm] == pytest.approx(sd[3:])
