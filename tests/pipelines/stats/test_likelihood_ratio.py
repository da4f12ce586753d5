"""The scans against loops by the definition, with scipy's G-test, ranks and quantiles."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import xlogy
from scipy.stats import chi2_contingency, norm, rankdata

from pipelines.stats.likelihood_ratio import Bernoulli, Categories, NormalScores, normal_scores, scan

Gains = Bernoulli | Categories | NormalScores


def of_rate(values: list[int], s: int) -> float:
    def likelihood(part: list[int]) -> float:
        k, n = sum(part), len(part)
        return float(xlogy(k, k / n) + xlogy(n - k, 1 - k / n))

    return likelihood(values[:s]) + likelihood(values[s:]) - likelihood(values)


def of_categories(values: list[int], s: int) -> float:
    """Half of scipy's G."""
    table = np.array([np.bincount(part, minlength=4) for part in (values[:s], values[s:])])
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] == 1:
        return 0.0
    return float(chi2_contingency(table, lambda_="log-likelihood", correction=False).statistic) / 2


def of_scores(values: list[int], s: int) -> float:
    """-(n-2)/2 ln(1 - r²), r the correlation of the scores with the side of the split; at most that of the usual value
    or another where more than three quarters are alike."""
    n = len(values)
    scores = norm.ppf((rankdata(values) - 0.5) / n)
    if np.ptp(scores) == 0:
        return 0.0
    r = np.corrcoef(scores, np.arange(n) >= s)[0, 1]
    gain = float(-0.5 * (n - 2) * np.log1p(-min(r * r, 1 - 1e-9)))
    usual = [int(value == max(values, key=values.count)) for value in values]
    return min(gain, of_rate(usual, s)) if sum(usual) > 0.75 * n else gain


@pytest.mark.parametrize(
    ("gains", "oracle", "top"),
    [(Bernoulli, of_rate, 1), (lambda m: Categories(4, m), of_categories, 3), (NormalScores, of_scores, 6)],
)
def test_ragged_sequences_match_the_definition(
    gains: Callable[[int], Gains], oracle: Callable[[list[int], int], float], top: int
) -> None:
    @settings(max_examples=30)
    @given(st.lists(st.lists(st.integers(0, top), max_size=24), min_size=1, max_size=3), st.integers(1, 8))
    def check(sequences: list[list[int]], min_segment: int) -> None:
        flat = np.array([value for sequence in sequences for value in sequence], dtype=np.int64)
        found = scan(flat, np.array([len(sequence) for sequence in sequences]), gains(min_segment))
        for sequence, statistic, before in zip(sequences, found.statistic, found.before, strict=True):
            splits = range(min_segment, len(sequence) - min_segment + 1)
            if len(splits) == 0:
                assert np.isnan(statistic)
                assert before == 0
                continue
            by_loop = {s: oracle(sequence, s) for s in splits}
            assert statistic == pytest.approx(max(by_loop.values()), abs=1e-6)
            assert by_loop[int(before)] == pytest.approx(statistic, abs=1e-6)

    check()


def test_sequences_that_do_not_lie_side_by_side_and_threads_change_nothing() -> None:
    random = np.random.default_rng(1)
    lengths = random.integers(0, 400, 1_500)
    values = random.integers(0, 2, lengths.sum()).astype(np.uint8)
    one, two = (scan(values, lengths, Bernoulli(), threads=threads) for threads in (1, 2))
    np.testing.assert_array_equal(one.statistic, two.statistic)
    np.testing.assert_array_equal(one.before, two.before)
    begin = int(lengths[:700].sum())
    alone = scan(values[begin : begin + lengths[700]], lengths[700:701], Bernoulli())
    np.testing.assert_array_equal(alone.statistic, one.statistic[700:701])


def test_a_clear_change_is_located() -> None:
    assert scan(np.array([0] * 37 + [1] * 25), np.array([62]), Bernoulli()).before.tolist() == [37]
    assert scan(np.array([2] * 30 + [0] * 25), np.array([55]), Categories(3)).before.tolist() == [30]
    shifted = np.concatenate((np.arange(30.0)[::-1], 1_000 + np.arange(25.0)[::-1]))
    assert scan(shifted, np.array([55]), NormalScores()).before.tolist() == [30]


def test_the_scale_does_not_matter_for_normal_scores() -> None:
    values = np.random.default_rng(2).lognormal(0, 2, 300)
    raw, logged = (scan(numbers, np.array([300]), NormalScores()).statistic for numbers in (values, np.log(values)))
    np.testing.assert_allclose(raw, logged, rtol=1e-12)
    np.testing.assert_allclose(normal_scores(values[None])[0], norm.ppf((rankdata(values) - 0.5) / 300), atol=1e-12)


def test_equal_values_show_nothing() -> None:
    for gains in (Bernoulli(), Categories(3), NormalScores()):
        assert scan(np.ones(100, dtype=np.int64), np.array([100]), gains).statistic.tolist() == [0.0]


@pytest.mark.parametrize(
    ("values", "lengths", "gains"),
    [
        ([0, 1, 2], [3], Bernoulli()),
        ([0, 0.5], [2], Bernoulli()),
        ([0, 1], [3], Bernoulli()),
        ([0, 1], [3, -1], Bernoulli()),
        ([0, 3], [2], Categories(3)),
        ([0, np.nan], [2], NormalScores()),
        ([0, np.nan], [2], Bernoulli()),
    ],
)
def test_refuses_wrong_input(values: list[float], lengths: list[int], gains: Gains) -> None:
    with pytest.raises(ValueError, match="values"):
        scan(np.array(values), np.array(lengths), gains)
