"""Intervals of proportions against the values that their papers print."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from pipelines.stats.proportion import Interval, newcombe_difference, verdict, wilson_interval


# Newcombe 1998, Statistics in Medicine 17:857-872, Table I, method 3.
@pytest.mark.parametrize(
    ("successes", "trials", "lower", "upper"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_limits(successes, trials, lower, upper):
    interval = wilson_interval(successes, trials)
    assert interval.estimate == successes / trials
    assert interval.lower == pytest.approx(lower, abs=5e-5)
    assert interval.upper == pytest.approx(upper, abs=5e-5)


# Newcombe 1998, Statistics in Medicine 17:873-890, Table II, method 10.
@pytest.mark.parametrize(
    ("counts", "lower", "upper"),
    [
        ((56, 70, 48, 80), 0.0524, 0.3339),
        ((9, 10, 3, 10), 0.1705, 0.8090),
        ((6, 7, 2, 7), 0.0582, 0.8062),
        ((5, 56, 0, 29), -0.0381, 0.1926),
        ((0, 10, 0, 20), -0.1611, 0.2775),
        ((0, 10, 0, 10), -0.2775, 0.2775),
        ((10, 10, 0, 20), 0.6791, 1.0),
        ((10, 10, 0, 10), 0.6075, 1.0),
    ],
)
def test_the_difference_has_the_published_limits(counts, lower, upper):
    interval = newcombe_difference(*counts)
    assert interval.lower == pytest.approx(lower, abs=5e-5)
    assert interval.upper == pytest.approx(upper, abs=5e-5)


@given(
    st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.8, 0.95, 0.99])
)
def test_wilson_agrees_with_scipy_and_stays_possible(counts, confidence):
    successes, trials = counts
    interval = wilson_interval(successes, trials, confidence)
    oracle = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    assert interval.lower == pytest.approx(oracle.low, abs=1e-12)
    assert interval.upper == pytest.approx(oracle.high, abs=1e-12)
    assert 0 <= interval.lower <= interval.estimate <= interval.upper <= 1


@given(
    st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
)
def test_swapping_the_samples_mirrors_the_difference(now, before):
    forward, backward = newcombe_difference(*now, *before), newcombe_difference(*before, *now)
    assert forward.lower == pytest.approx(-backward.upper, abs=1e-12)
    assert -1 - 1e-12 <= forward.lower <= forward.estimate <= forward.upper <= 1 + 1e-12


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(successes, trials):
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(successes, trials)


def test_an_impossible_confidence_is_refused():
    with pytest.raises(ValueError, match="confidence"):
        wilson_interval(1, 2, 1.0)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((0.01, 0.05), "better"),
        ((-0.05, -0.01), "worse"),
        ((-0.01, 0.05), "no worse"),
        ((-0.05, 0.05), "can't tell yet"),
    ],
)
def test_the_verdict_follows_the_interval(limits, expected):
    lower, upper = limits
    assert verdict(Interval((lower + upper) / 2, lower, upper), margin=0.02, higher_is_better=True) == expected
    assert verdict(Interval(-(lower + upper) / 2, -upper, -lower), margin=0.02, higher_is_better=False) == expected


def test_a_margin_must_be_positive():
    with pytest.raises(ValueError, match="margin"):
        verdict(Interval(0, -1, 1), margin=0, higher_is_better=True)
