"""MMD against its definition; its p-value under no change, also with sessions whose rows are alike."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from pipelines.stats.mean_discrepancy import project, split_discrepancy


def test_the_index_is_the_unbiased_estimate_at_the_split() -> None:
    random = np.random.default_rng(1)
    rows = random.normal(size=(60, 3))
    rows[30:] += 1.5
    found = split_discrepancy(rows, np.arange(60), random=random)
    distance = ((rows[:, None] - rows[None]) ** 2).sum(axis=2)
    kernel = np.exp(-distance / np.median(distance[np.triu_indices(60, 1)]))
    np.fill_diagonal(kernel, 0)
    m, n = found.before, 60 - found.before
    first, second, across = kernel[:m, :m].sum(), kernel[m:, m:].sum(), kernel[:m, m:].sum()
    assert found.squared == pytest.approx(first / (m * (m - 1)) + second / (n * (n - 1)) - 2 * across / (m * n))
    assert abs(m - 30) <= 5
    assert found.p_value < 0.001


@threadpool_limits.wrap(1)
def test_alarms_without_a_change_are_nominal_also_within_sessions() -> None:
    random = np.random.default_rng(2)
    p = []
    for _ in range(80):
        blocks = np.repeat(np.arange(30), 4)
        rows = random.normal(size=(30, 8))[blocks] + 0.3 * random.normal(size=(120, 8))
        p.append(split_discrepancy(rows, blocks, random=random, permutations=100).p_value)
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 80)
    assert np.mean(np.array(p) <= 0.5) == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / 80))
    # Rows taken one by one would be taken for many more than there are.
    ignored = [
        split_discrepancy(
            random.normal(size=(30, 8))[blocks] + 0.3 * random.normal(size=(120, 8)), np.arange(120), random=random,
            permutations=100,
        ).p_value
        for _ in range(15)
    ]  # fmt: skip
    assert np.mean(np.array(ignored) <= 0.05) > 0.2


def test_a_projection_keeps_distances() -> None:
    random = np.random.default_rng(3)
    rows = random.normal(size=(50, 1_000))
    small = project(rows, random=random)
    assert small.shape == (50, 64)
    ratio = np.linalg.norm(small[:25] - small[25:], axis=1) / np.linalg.norm(rows[:25] - rows[25:], axis=1)
    assert ratio.mean() == pytest.approx(1.0, abs=0.08)
    assert project(rows[:, :10], random=random).shape == (50, 10)


def test_equal_rows_one_session_and_few_rows_show_nothing() -> None:
    random = np.random.default_rng(4)
    for rows, blocks in (
        (np.ones((80, 3)), np.arange(80)),
        (random.normal(size=(80, 3)), np.zeros(80, dtype=int)),
        (random.normal(size=(39, 3)), np.arange(39)),
    ):
        found = split_discrepancy(rows, blocks, random=random)
        assert (found.p_value, found.before) == (1.0, 0)


def test_refuses_missing_numbers() -> None:
    rows = np.ones((50, 2))
    rows[3, 1] = np.nan
    with pytest.raises(ValueError, match="finite"):
        split_discrepancy(rows, np.arange(50), random=np.random.default_rng(1))
