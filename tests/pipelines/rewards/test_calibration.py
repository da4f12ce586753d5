"""Calibration: the link is found again, moments equal Monte Carlo, metrics equal sklearn's, intervals cover."""

import numpy as np
import polars as pl
import pytest
from scipy.special import expit
from scipy.stats import spearmanr
from sklearn.metrics import brier_score_loss, log_loss

from pipelines.rewards import calibration
from pipelines.rewards.calibration import Link


def test_moments_equal_monte_carlo():
    random = np.random.default_rng(1)
    mean, variance = np.array([-2.0, 0.0, 1.5]), np.array([0.2, 2.0, 0.7])
    link = Link(0.3, 0.8, 0, 0, 0, "")
    draws = expit(0.3 + 0.8 * (mean + np.sqrt(variance) * random.normal(size=(400_000, 3))))
    got = calibration.reward_moments(mean, variance, link)
    assert got[0] == pytest.approx(draws.mean(axis=0), abs=2e-3)
    assert got[1] == pytest.approx(draws.std(axis=0), abs=2e-3)


def test_the_link_is_found_and_its_sds_are_right():
    random = np.random.default_rng(2)
    errors = []
    for _ in range(40):
        mean, variance = random.normal(0.5, 1.2, 2_000), np.full(2_000, 0.4)
        theta = mean + np.sqrt(0.4) * random.normal(size=2_000)
        labels = (random.random(2_000) < expit(-0.4 + 1.15 * theta)).astype(float)
        link = calibration.fit_link(mean, variance, labels, "solicited")
        errors.append(((link.intercept + 0.4) / link.intercept_sd, (link.slope - 1.15) / link.slope_sd))
    assert np.std(errors, axis=0) == pytest.approx([1.0, 1.0], abs=0.3)
    assert (link.labels, link.basis) == (2_000, "solicited")


def test_few_labels_calibrate_nothing():
    link = calibration.fit_link(np.zeros(49), np.ones(49), np.ones(49), "solicited")
    assert (link.intercept, link.slope, link.labels) == (0.0, 1.0, 0)


@pytest.mark.parametrize("constant", [0.0, 1.0])
def test_constant_labels_give_a_finite_link(constant):
    random = np.random.default_rng(3)
    mean, variance = random.normal(size=200), np.full(200, 0.5)
    link = calibration.fit_link(mean, variance, np.full(200, constant), "solicited")
    predicted, _ = calibration.reward_moments(mean, variance, link)
    assert abs(predicted.mean() - constant) < 0.2
    metrics = calibration.measure(predicted, np.full(200, constant), pl.Series(["u"] * 200), "users", "x", random)
    assert "spearman" not in metrics["metric"].to_list()


def test_metrics_equal_those_of_others():
    random = np.random.default_rng(4)
    p = random.beta(3, 2, 3_000)
    labels = (random.random(3_000) < p).astype(float)
    users = pl.Series([f"u{i % 200}" for i in range(3_000)])
    rows = {
        row["metric"]: row for row in calibration.measure(p, labels, users, "users", "solicited", random).to_dicts()
    }
    assert rows["brier"]["value"] == pytest.approx(brier_score_loss(labels, p))
    assert rows["log_loss"]["value"] == pytest.approx(log_loss(labels, p))
    assert rows["spearman"]["value"] == pytest.approx(spearmanr(p, labels).statistic)
    assert rows["ece"]["value"] < 0.04
    assert all(row["lower"] < row["value"] < row["upper"] or row["metric"] == "ece" for row in rows.values())
    assert {(row["n"], row["clusters"]) for row in rows.values()} == {(3_000, 200)}
    biased = calibration.measure(np.clip(p + 0.2, 0, 1), labels, users, "users", "solicited", random)
    assert biased.filter(metric="ece")["value"][0] == pytest.approx(0.19, abs=0.02)


@pytest.mark.thorough
def test_the_interval_of_the_brier_score_covers_with_clustered_people():
    random = np.random.default_rng(5)
    truth = np.mean([_clustered(random)[2] for _ in range(4_000)])
    hits = 0
    for _ in range(500):
        p, labels, _, users = _clustered(random)
        row = calibration.measure(p, labels, users, "users", "x", random).filter(metric="brier").row(0, named=True)
        hits += row["lower"] <= truth <= row["upper"]
    assert 0.93 <= hits / 500 <= 0.97


def _clustered(random):
    person = np.repeat(random.normal(0, 1.5, 60), 10)
    labels = (random.random(600) < expit(person)).astype(float)
    p = np.full(600, 0.5) + 0.1 * np.sign(person)
    return p, labels, float(np.mean((p - labels) ** 2)), pl.Series(np.repeat(np.arange(60), 10).astype(str))


def test_the_reliability_diagram_counts_every_label_once():
    random = np.random.default_rng(6)
    p = random.random(1_234)
    labels = (random.random(1_234) < p).astype(float)
    bins = calibration.reliability(p, labels, "users", "solicited")
    assert bins["n"].sum() == 1_234
    assert bins.height == 10
    assert bins["predicted"].is_sorted()
    inside = bins.filter(pl.col("predicted").is_between("lower", "upper")).height
    assert inside >= 8
    assert (bins["observed"] * bins["n"]).sum() == pytest.approx(labels.sum())


def test_nobody_calibrates_their_own_prediction():
    random = np.random.default_rng(7)
    mean, variance = random.normal(size=300), np.full(300, 0.3)
    labels = (random.random(300) < expit(mean)).astype(float)
    fold = np.arange(300) % 5
    before = calibration.crossfit_link(mean, variance, labels, "solicited", fold)
    changed = labels.copy()
    changed[fold == 2] = 1.0 - changed[fold == 2]
    after = calibration.crossfit_link(mean, variance, changed, "solicited", fold)
    assert after[fold == 2] == pytest.approx(before[fold == 2])
    assert not np.allclose(after[fold != 2], before[fold != 2])
