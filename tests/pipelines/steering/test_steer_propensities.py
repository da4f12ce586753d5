"""Propensities against Monte Carlo, exact Thompson sampling and the rules they must keep."""

import numpy as np
import pytest

from pipelines.stats.quadrature import probability_best
from pipelines.steering.propensities import effective_rate, greedy_arms, propensities, regret, vector


def _cases(random: np.random.Generator, units: int, arms: int) -> tuple[np.ndarray, np.ndarray]:
    return random.uniform(0.2, 0.8, (units, arms)), random.uniform(0.02, 0.2, (units, arms))


@pytest.mark.parametrize("arms", [2, 3, 5, 8])
def test_quadrature_is_monte_carlo(arms: int) -> None:
    random = np.random.default_rng(arms)
    means, sds = _cases(random, 6, arms)
    best = probability_best(means, sds)
    for unit in range(len(means)):
        drawn = random.normal(means[unit], sds[unit], (400_000, arms)).argmax(axis=1)
        shares = np.bincount(drawn, minlength=arms) / len(drawn)
        assert np.abs(best[unit] - shares).max() < 0.005


@pytest.mark.parametrize("arms", [2, 3, 6])
def test_an_ample_rate_without_floor_is_thompson_sampling(arms: int) -> None:
    means, sds = _cases(np.random.default_rng(1), 50, arms)
    found = propensities(means, sds, 1.0, propensity_floor=0.0, uniform_share=0.0)
    np.testing.assert_allclose(found.vector, probability_best(means, sds), atol=1e-12)
    np.testing.assert_allclose(found.rate, found.doubt, atol=1e-12)


@pytest.mark.parametrize("arms", [2, 3, 7, 40, 150])
@pytest.mark.parametrize("allowed", [0.001, 0.05, 0.5, 1.0])
def test_vectors_sum_to_one_and_keep_the_floor_and_the_rate(arms: int, allowed: float) -> None:
    means, sds = _cases(np.random.default_rng(arms), 40, arms)
    sds[:10] = 1e-5  # certain: all but the best at the floor
    found = propensities(means, sds, allowed)
    floor = min(0.01, 1 / arms)
    assert np.abs(found.vector.sum(axis=-1) - 1).max() < 1e-12
    assert found.vector.min() >= min(floor, allowed / (arms - 1)) - 1e-12
    greedy = np.take_along_axis(found.vector, found.greedy[:, None], axis=-1)[:, 0]
    np.testing.assert_allclose(greedy, 1 - found.rate, atol=1e-12)
    least = (arms - 1) * floor
    assert (found.rate <= allowed + 1e-12).all(), "an operator's cap is never passed, however many arms there are"
    assert (found.rate <= np.maximum(found.doubt, least) + 1e-12).all()
    assert (found.rate >= min(allowed, least) - 1e-12).all()


def test_the_floor_is_taken_from_the_others_in_proportion() -> None:
    best = np.array([0.7, 0.2, 0.0995, 0.0005])
    drawn = vector(best, np.int64(0), 0.1, uniform_share=0.0)
    # By hand: .1 of mass; the last arm goes to .01, the other two share .09 in the ratio .2 : .0995.
    expected = [0.9, 0.09 * 0.2 / 0.2995, 0.09 * 0.0995 / 0.2995, 0.01]
    np.testing.assert_allclose(drawn, expected, atol=1e-15)


def test_raising_one_arm_may_push_another_under_the_floor() -> None:
    best = np.array([0.6, 0.3, 0.0999, 0.0001])
    drawn = vector(best, np.int64(0), 0.0305, uniform_share=0.0)
    # After the last arm is at .01 the third would have .0205 * .0999 / .3999 = .0051, so it is raised too.
    np.testing.assert_allclose(drawn, [0.9695, 0.0105, 0.01, 0.01], atol=1e-15)


def test_nobody_explores_where_nothing_is_allowed() -> None:
    means, sds = _cases(np.random.default_rng(3), 20, 4)
    found = propensities(means, sds, 0.0)
    assert (found.rate == 0).all()
    assert (found.vector.max(axis=-1) == 1).all()
    assert (found.vector.argmax(axis=-1) == means.argmax(axis=-1)).all()


def test_the_rate_is_at_most_what_is_allowed_and_the_doubt_but_for_the_floor() -> None:
    rates = effective_rate(np.array([0.0, 0.001, 0.05, 0.5, 0.5]), np.array([0.4, 0.4, 0.4, 0.4, 0.0]), 3)
    np.testing.assert_allclose(rates, [0.0, 0.001, 0.05, 0.4, 0.02])
    assert effective_rate(0.5, 0.5, 1) == 0
    np.testing.assert_allclose(effective_rate(1.0, 1.0, 2), 0.99)


def test_equal_means_go_by_the_order() -> None:
    means = np.array([[0.5, 0.5, 0.4], [0.4, 0.5, 0.5]])
    assert greedy_arms(means).tolist() == [0, 1]
    assert greedy_arms(means, np.array([2, 1, 0])).tolist() == [1, 2]


def test_equal_arms_share_the_rate() -> None:
    found = propensities(np.full(4, 0.5), np.full(4, 0.1), 0.3)
    np.testing.assert_allclose(found.vector, [0.7, 0.1, 0.1, 0.1], atol=1e-9)


def test_regret_is_the_sum_over_the_other_arms() -> None:
    means, sds = np.array([0.7, 0.6, 0.9]), np.array([0.05, 0.1, 0.01])
    expected, worst = regret(means, sds, np.array([0.1, 0.2, 0.7]), np.int64(2))
    assert expected == pytest.approx(0.1 * 0.2 + 0.2 * 0.3)
    z = 1.959963984540054
    assert worst == pytest.approx(0.1 * (0.2 + z * 0.06) + 0.2 * (0.3 + z * 0.11))


def test_regret_is_at_most_the_range_of_rewards() -> None:
    _, worst = regret(np.array([0.5, 0.5]), np.array([5.0, 5.0]), np.array([0.8, 0.2]), np.int64(0))
    assert worst == pytest.approx(0.2)


def test_one_arm_is_certain() -> None:
    found = propensities(np.array([[0.5]]), np.array([[0.1]]), 0.5)
    assert found.vector.tolist() == [[1.0]]
    assert found.rate.tolist() == [0.0]
