"""Prediction-powered means and prevalences: closed forms, resampling and refusals."""

from typing import Any

import numpy as np
import pytest

from pipelines.stats.contract import FitRefused
from pipelines.stats.prediction_powered import mean, rogan_gladen


def population(rng: np.random.Generator, items: int, rate: float, accuracy: float) -> tuple[np.ndarray, np.ndarray]:
    truth = (rng.random(items) < rate).astype(float)
    judge = np.where(rng.random(items) < accuracy, truth, 1 - truth)
    return truth, judge


def labelled(rng: np.random.Generator, truth: np.ndarray, count: int) -> np.ndarray:
    label = np.full(truth.size, np.nan)
    drawn = rng.choice(truth.size, count, replace=False)
    label[drawn] = truth[drawn]
    return label


def test_uniform_labelling_is_the_textbook_regression_estimator() -> None:
    rng = np.random.default_rng(1)
    truth, judge = population(rng, 1000, 0.6, 0.8)
    label = labelled(rng, truth, 100)
    result = mean(judge, label, np.full(1000, 0.1))
    known = ~np.isnan(label)
    y, f = label[known], judge[known]
    # λ* = Cov/Var when the labelled are part of the population (PPI++ section 6 with n of N).
    n, size = 100, 1000
    b = np.where(known, (judge - judge.mean()) - size / n * (judge - f.mean()), judge - judge.mean())
    a = np.zeros(size)
    a[known] = size / n * (y - y.mean())
    tuned = -(a @ b) / (b @ b)
    assert result.weight == pytest.approx(tuned)
    assert result.weight == pytest.approx(np.cov(y, f)[0, 1] / np.var(f), rel=0.1)
    assert result.estimate == pytest.approx(tuned * judge.mean() + np.mean(y - tuned * f))
    assert result.standard_error == pytest.approx(np.sqrt(np.sum((a + tuned * b) ** 2) * n / (n - 2)) / size)
    assert result.labels_only == pytest.approx(y.mean())
    assert result.upper - result.lower < result.labels_only_upper - result.labels_only_lower
    assert (result.labels, result.items, result.warning) == (100, 1000, None)


def test_a_given_weight_is_kept_and_zero_is_labels_alone() -> None:
    rng = np.random.default_rng(2)
    truth, judge = population(rng, 400, 0.6, 0.8)
    label = labelled(rng, truth, 80)
    probability = np.full(400, 0.2)
    alone = mean(judge, label, probability, weight=0.0)
    assert (alone.estimate, alone.lower, alone.upper) == (
        alone.labels_only, alone.labels_only_lower, alone.labels_only_upper,
    )  # fmt: skip
    full = mean(judge, label, probability, weight=1.0)
    known = ~np.isnan(label)
    assert full.estimate == pytest.approx(judge.mean() + np.mean(label[known] - judge[known]))


@pytest.mark.parametrize(("rate", "accuracy"), [(0.6, 0.85), (0.9, 0.75), (0.5, 0.5)])
def test_intervals_cover_and_are_never_much_wider_than_labels_alone(rate: float, accuracy: float) -> None:
    rng = np.random.default_rng(3)
    truth, judge = population(rng, 2000, rate, accuracy)
    runs, hits, widest, width = 1000, 0, 0.0, 0.0
    for _ in range(runs):
        result = mean(judge, labelled(rng, truth, 100), np.full(2000, 0.05))
        ratio = (result.upper - result.lower) / (result.labels_only_upper - result.labels_only_lower)
        widest, width = max(widest, ratio), width + ratio / runs
        # Items drawn anew: the interval is for what they come from, and covers up to .965 of these items' own mean.
        fresh, verdicts = population(rng, 2000, rate, accuracy)
        result = mean(verdicts, labelled(rng, fresh, 100), np.full(2000, 0.05))
        hits += result.lower <= rate <= result.upper
    assert 0.93 <= hits / runs <= 0.97
    assert widest <= 1.05
    assert width < (0.99 if accuracy > 0.6 else 1.01)


def test_unequal_labelling_probabilities_are_corrected() -> None:
    rng = np.random.default_rng(4)
    truth, judge = population(rng, 4000, 0.5, 0.8)
    probability = np.where(judge == 1, 0.02, 0.10)  # suspected failures are labelled more often
    runs, hits, raw = 1500, 0, 0.0
    for _ in range(runs):
        label = np.where(rng.random(4000) < probability, truth, np.nan)
        result = mean(judge, label, probability)
        hits += result.lower <= truth.mean() <= result.upper
        raw += np.nanmean(label) / runs
    assert 0.93 <= hits / runs <= 0.97  # .9415 of 2,000
    assert raw < truth.mean() - 0.1


def test_few_or_constant_labels_are_said() -> None:
    rng = np.random.default_rng(5)
    truth, judge = population(rng, 500, 0.6, 0.8)
    assert mean(judge, labelled(rng, truth, 49), np.full(500, 0.1)).warning == "few_labels"
    label = np.full(500, np.nan)
    label[:60] = 1.0
    constant = mean(judge, label, np.full(500, 0.12))
    assert constant.warning == "constant_labels"
    assert constant.estimate == 1.0
    assert 0.9 < constant.lower < 0.96
    assert constant.upper == 1.0


def test_values_beyond_one_have_symmetric_intervals() -> None:
    rng = np.random.default_rng(6)
    hits, runs = 0, 1500
    for _ in range(runs):
        truth = rng.normal(10, 3, 800)
        judge = truth + rng.normal(0, 1, 800)
        result = mean(judge, labelled(rng, truth, 60), np.full(800, 60 / 800))
        hits += result.lower <= 10 <= result.upper
        assert result.upper - result.estimate == pytest.approx(result.estimate - result.lower)
    assert 0.93 <= hits / runs <= 0.97


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"prediction": np.empty(0), "label": np.empty(0), "probability": np.empty(0)}, "no_rows"),
        ({"prediction": np.array([1.0, np.nan, 0.0])}, "not_finite"),
        ({"label": np.array([1.0, np.inf, 0.0])}, "not_finite"),
        ({"probability": np.array([0.5, 0.0, 0.5])}, "bad_propensity"),
        ({"probability": np.array([0.5, -0.1, 0.5])}, "bad_propensity"),
        ({"probability": np.array([0.5, np.nan, 0.5])}, "bad_propensity"),
        ({"probability": np.array([0.5, 1.1, 0.5])}, "bad_propensity"),
        ({"label": np.full(3, np.nan)}, "no_labels"),
        ({"label": np.array([1.0, np.nan, np.nan])}, "no_labels"),
        ({"label": np.array([0.7, 0.7, np.nan])}, "constant_labels"),
    ],
)
def test_refuses_by_name(change: dict[str, Any], reason: str) -> None:
    rows = {
        "prediction": np.array([1.0, 0.0, 1.0]),
        "label": np.array([1.0, 0.0, np.nan]),
        "probability": np.full(3, 0.5),
    }
    with pytest.raises(FitRefused) as refusal:
        mean(**(rows | change))
    assert refusal.value.reason == reason


def test_rogan_gladen_is_the_textbook_estimate() -> None:
    result = rogan_gladen(300, 1000, 180, 200, 160, 200)
    assert result.estimate == pytest.approx((0.3 + 0.8 - 1) / (0.9 + 0.8 - 1))
    assert result.informedness == pytest.approx(0.7)
    assert result.lower < result.estimate < result.upper
    perfect = rogan_gladen(300, 1000, 100_000, 100_000, 100_000, 100_000)
    assert perfect.estimate == pytest.approx(0.3)
    assert perfect.upper - perfect.lower == pytest.approx(2 * 1.96 * np.sqrt(0.21 / 1000), rel=0.01)
    assert rogan_gladen(10, 40, 18, 20, 19, 20).warning == "few_labels"


@pytest.mark.parametrize("prevalence", [0.05, 0.3, 0.8])
def test_rogan_gladen_covers(prevalence: float) -> None:
    rng = np.random.default_rng(7)
    runs, hits = 2000, 0
    for _ in range(runs):
        called = rng.random(600) < np.where(rng.random(600) < prevalence, 0.85, 0.1)
        result = rogan_gladen(int(called.sum()), 600, rng.binomial(80, 0.85), 80, rng.binomial(120, 0.9), 120)
        hits += result.lower <= prevalence <= result.upper
    assert 0.93 <= hits / runs <= 0.97  # .9525, .9468 and .954 of 8,000


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ((5, 4, 1, 1, 1, 1), "out_of_range"),
        ((-1, 4, 1, 1, 1, 1), "out_of_range"),
        ((0, 0, 1, 1, 1, 1), "no_rows"),
        ((2, 4, 0, 0, 10, 10), "no_labels"),
        ((2, 4, 10, 20, 10, 20), "uninformative_judge"),
        ((2, 4, 2, 20, 3, 20), "uninformative_judge"),
    ],
)
def test_rogan_gladen_refuses_by_name(counts: tuple[int, ...], reason: str) -> None:
    with pytest.raises(FitRefused) as refusal:
        rogan_gladen(*counts)
    assert refusal.value.reason == reason
