"""The index against its definition, its bias against simulation, and the G-test against scipy."""

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from pipelines.stats.population_stability import g_test, stability


def test_the_index_is_its_definition() -> None:
    before, after = np.array([[60, 30, 10]]), np.array([[20, 20, 10]])
    p, q = (before[0] + 0.5) / 101.5, (after[0] + 0.5) / 51.5
    found = stability(before, after)
    assert found.raw[0] == pytest.approx(np.sum((q - p) * np.log(q / p)))
    assert found.corrected[0] == pytest.approx(found.raw[0] - 2 * (1 / 100 + 1 / 50))


def test_without_a_change_the_raw_index_alarms_and_the_corrected_one_is_nil() -> None:
    """50 events before and 20 after in ten bins: most unchanged users pass the published .25."""
    random = np.random.default_rng(1)
    shares = np.full(10, 0.1)
    small = stability(random.multinomial(50, shares, 4_000), random.multinomial(20, shares, 4_000))
    assert np.mean(small.raw > 0.25) > 0.5
    large = stability(random.multinomial(700, shares, 4_000), random.multinomial(300, shares, 4_000))
    assert large.raw.mean() == pytest.approx(9 * (1 / 700 + 1 / 300), rel=0.05)
    assert large.corrected.mean() == pytest.approx(0.0, abs=0.002)
    assert np.mean(large.p_value <= 0.05) == pytest.approx(0.05, abs=0.015)


def test_g_is_scipys() -> None:
    random = np.random.default_rng(2)
    before, after = random.integers(0, 30, (50, 4)), random.integers(0, 30, (50, 4))
    before[:5, 2] = after[:5, 2] = 0
    statistic, p = g_test(before, after)
    for row in range(50):
        table = np.stack([before[row], after[row]])
        table = table[:, table.sum(axis=0) > 0]
        theirs = chi2_contingency(table, lambda_="log-likelihood", correction=False)
        assert statistic[row] == pytest.approx(theirs.statistic)
        assert p[row] == pytest.approx(theirs.pvalue)


def test_one_category_or_an_empty_side_cannot_be_compared() -> None:
    before, after = np.array([[5, 0], [0, 0], [5, 0]]), np.array([[7, 0], [3, 4], [0, 5]])
    for values in (stability(before, after).corrected, g_test(before, after)[1]):
        assert np.isnan(values[:2]).all()
        assert np.isfinite(values[2])


@pytest.mark.parametrize(("before", "after"), [([[1, -1]], [[1, 1]]), ([[1, 1]], [[1, 1, 1]]), ([1], [1])])
def test_refuses_wrong_counts(before: list[list[int]], after: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="counts must be 0 or more"):
        stability(np.array(before), np.array(after))
