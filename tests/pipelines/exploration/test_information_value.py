"""Values of information against closed forms, simulation and brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import integrate
from scipy.stats import norm

from pipelines.exploration.information_value import expected_maximum, knowledge_gradient, looks, perfect_information


@pytest.mark.parametrize(
    "sds", [[0.1, 0.1, 0.1], [0.01, 0.1, 0.1], [0.001, 0.1, 0.02], [0.05, 0.002, 0.3, 0.01], [0.1, 0.2]]
)
def test_the_expected_maximum_equals_numerical_integration(sds: list[float]) -> None:
    rng = np.random.default_rng(len(sds))
    for _ in range(5):
        means, spread = rng.normal(0.5, 0.05, len(sds)), np.array(sds)

        def cdf(x: float, means: np.ndarray = means, spread: np.ndarray = spread) -> float:
            return float(norm.cdf((x - means) / spread).prod())

        edges = sorted({-4.0, *means.tolist(), 5.0})
        above = sum(integrate.quad(lambda x: 1 - cdf(x), a, b)[0] for a, b in itertools.pairwise(edges) if a >= 0)
        start = next(edge for edge in edges if edge >= 0)
        below = integrate.quad(cdf, 0.0, start)[0]
        expected = start - below + above - integrate.quad(cdf, -4.0, 0.0)[0]
        assert expected_maximum(means, spread) == pytest.approx(expected, abs=1e-3 * max(sds))


def test_nothing_is_to_be_learnt_of_one_arm_or_of_what_is_certain() -> None:
    assert perfect_information(np.array([[0.4]]), np.array([[0.2]])) == 0.0
    assert perfect_information(np.array([0.4, 0.5, 0.6]), np.zeros(3)) == pytest.approx(0.0)
    # As likely as not to be the better one, but by nothing that matters: doubt is no reason by itself.
    assert perfect_information(np.array([0.5, 0.5]), np.array([1e-6, 1e-6])) < 1e-6


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0.001, 0.3)), min_size=2, max_size=5),
    st.floats(0.01, 0.5),
    st.integers(1, 500),
)
@settings(max_examples=200)
@example(arms=[(0.0, 0.25), (1.0, 0.25), (0.78125, 0.00390625)], noise=0.03125, n=1)
def test_looks_teach_no_more_than_knowing_everything(arms: list[tuple[float, float]], noise: float, n: int) -> None:
    means, sds = np.array([arm[0] for arm in arms]), np.array([arm[1] for arm in arms])
    some = knowledge_gradient(means, sds, noise, looks=n)
    more = knowledge_gradient(means, sds, noise, looks=2 * n)
    assert np.all(some >= 0.0)
    assert np.all(more >= some - 1e-12)
    assert np.all(some <= perfect_information(means, sds) + 1e-12)


def test_the_knowledge_gradient_is_what_simulated_looks_bring() -> None:
    rng = np.random.default_rng(4)
    means, sds, noise, n = np.array([0.55, 0.5, 0.4]), np.array([0.03, 0.1, 0.12]), 0.25, 8
    found = knowledge_gradient(means, sds, noise, looks=n)
    for arm in range(3):
        truth = rng.normal(means[arm], sds[arm], 400_000)
        seen = truth + rng.normal(0.0, noise / np.sqrt(n), truth.size)
        share = sds[arm] ** 2 / (sds[arm] ** 2 + noise**2 / n)
        after = means[arm] + share * (seen - means[arm])
        rival = np.delete(means, arm).max()
        gained = np.maximum(after, rival).mean() - means.max()
        assert found[arm] == pytest.approx(gained, abs=2.5e-4)


def test_the_number_of_looks_is_the_one_of_the_highest_net_gain() -> None:
    means, sds = np.array([[0.5, 0.45], [0.5, 0.2]]), np.array([[0.02, 0.08], [0.02, 0.01]])
    ahead, cost = np.array([1000.0, 1000.0]), np.array([[0.0, 0.05], [0.0, 0.3]])
    found = looks(means, sds, 0.25, ahead, cost)
    for unit in range(2):
        numbers = [2.0**k for k in range(10) if 2 * 2.0**k <= 1000]
        gains = [1000 * knowledge_gradient(means[unit], sds[unit], 0.25, looks=n)[1] for n in numbers]
        net = [gain - n * cost[unit, 1] for gain, n in zip(gains, numbers, strict=True)]
        every = np.arange(1, 501)
        finest = [
            1000 * knowledge_gradient(means[unit], sds[unit], 0.25, looks=n)[1] - n * cost[unit, 1] for n in every
        ]
        wanted = every[int(np.argmax(finest))] if max(net) > 0 else 0.0
        assert found.best[unit, 1] == pytest.approx(wanted, rel=0.15)
        assert found.worth[unit, 1] == pytest.approx(max(g / n for g, n in zip(gains, numbers, strict=True)))
    assert found.best[0, 1] > 1.0  # one look alone does not pay as well
    assert found.best[1, 1] == 0.0


def test_refuses_what_is_no_posterior() -> None:
    with pytest.raises(ValueError, match="one shape"):
        expected_maximum(np.zeros(2), np.ones(3))
    with pytest.raises(ValueError, match="not negative"):
        perfect_information(np.zeros(2), np.array([0.1, -0.1]))
