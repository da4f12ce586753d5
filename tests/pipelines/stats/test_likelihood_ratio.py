"""The scan against a loop, and its p-value against the calibration that METHODS §7 reports."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import xlogy

from pipelines.stats.likelihood_ratio import p_value, scan


def by_loop(values: list[int], min_segment: int) -> dict[int, float]:
    """The gain of every allowed split by the definition."""

    def likelihood(part: list[int]) -> float:
        k, n = sum(part), len(part)
        return float(xlogy(k, k / n) + xlogy(n - k, 1 - k / n))

    splits = range(min_segment, len(values) - min_segment + 1)
    return {s: likelihood(values[:s]) + likelihood(values[s:]) - likelihood(values) for s in splits}


@given(st.lists(st.lists(st.integers(0, 1), max_size=40), min_size=1, max_size=6), st.integers(1, 12))
def test_ragged_sequences_match_the_loop(sequences: list[list[int]], min_segment: int) -> None:
    flat = np.array([value for sequence in sequences for value in sequence], dtype=np.int64)
    found = scan(flat, np.array([len(sequence) for sequence in sequences]), min_segment=min_segment)
    for sequence, statistic, before in zip(sequences, found.statistic, found.before, strict=True):
        gains = by_loop(sequence, min_segment)
        if gains:
            assert statistic == pytest.approx(max(gains.values()), abs=1e-9)
            assert gains[int(before)] == pytest.approx(statistic, abs=1e-9)
        else:
            assert np.isnan(statistic)
            assert before == 0


def test_a_clear_change_is_located() -> None:
    found = scan(np.array([0] * 37 + [1] * 25), np.array([62]))
    assert found.before.tolist() == [37]


@pytest.mark.parametrize(("values", "lengths"), [([0, 1, 2], [3]), ([0, 1], [3]), ([0, 1], [3, -1])])
def test_refuses_wrong_input(values: list[int], lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="values"):
        scan(np.array(values), np.array(lengths))


def looks(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """p-values at every look (each 20 events) of users with equally long histories: events, and p of (looks, users)."""
    users, events = values.shape
    ends = np.arange(20, events + 1, 20)
    return ends, np.stack([p_value(scan(values[:, :t].reshape(-1), np.full(users, t)).statistic) for t in ends])


def test_false_alarms_of_stationary_users_are_nominal() -> None:
    rng = np.random.default_rng(7)
    users = 800
    smallest = looks((rng.random((users, 1000)) < 0.3).astype(np.int64))[1].min(axis=0)
    for alpha in (0.05, 0.01, 0.002):
        error = np.sqrt(alpha * (1 - alpha) / users)
        assert np.mean(smallest <= alpha) < alpha + 4 * error
    assert np.mean(smallest <= 0.05) > 0.05 - 4 * np.sqrt(0.05 * 0.95 / users)  # nor is it empty caution


def test_power_and_delay_at_a_real_change() -> None:
    rng = np.random.default_rng(8)
    ends, p = looks((rng.random((600, 1000)) < np.repeat([0.3, 0.5], 500)).astype(np.int64))
    first = np.where((p <= 0.002).any(axis=0), ends[(p <= 0.002).argmax(axis=0)], 0)
    assert np.mean(first > 500) >= 0.95
    assert np.median(first[first > 500] - 500) <= 200


def test_p_value_is_the_published_fit() -> None:
    assert p_value(np.array([8.2]))[0] == pytest.approx(0.05)
    assert p_value(np.array([0.0]))[0] == 1.0
    assert p_value(np.array([11.5]))[0] == pytest.approx(0.05 * np.exp(-0.96 * 3.3))
    assert p_value(np.array([11.5]), np.array([3]))[0] == pytest.approx(0.15 * np.exp(-0.96 * 3.3))
    assert np.isnan(p_value(np.array([np.nan]))[0])
