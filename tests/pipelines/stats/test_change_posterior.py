"""The posterior of a change against a sum over splits by scipy, and its calibration over simulated users."""

import numpy as np
import pytest
from scipy.stats import norm

from pipelines.stats.change_posterior import changes
from pipelines.stats.likelihood_ratio import Bernoulli, NormalScores, scan
from pipelines.stats.sequential_calibration import Schedule, p_value

RATE = Schedule("bernoulli", 20, 1000, 10)


def users(count: int, changed: float, size: float, events: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """0/1 streams of users, some changed by a normal amount somewhere in the middle; and by how much each changed."""
    random = np.random.default_rng(5)
    effect = np.where(random.random(count) < changed, random.normal(0, size, count), 0.0)
    at = random.integers(50, events - 50, count)
    rate = 0.5 - effect[:, None] / 2 + effect[:, None] * (np.arange(events) >= at[:, None])
    return (random.random((count, events)) < rate.clip(0.02, 0.98)).astype(np.uint8), effect


def test_shrunken_effects_are_right_on_average_where_the_raw_ones_exaggerate() -> None:
    streams, effect = users(3_000, 0.1, 0.3)
    lengths = np.full(3_000, 200)
    found = scan(streams.reshape(-1), lengths, Bernoulli())
    p = p_value(found.statistic, lengths, RATE)
    change = changes(
        streams.reshape(-1), streams.reshape(-1).astype(float), lengths, found, p, np.full(3_000, 0.1), Bernoulli()
    )
    after = np.arange(200) >= found.before[:, None]
    raw = (streams * after).sum(axis=1) / after.sum(axis=1) - (streams * ~after).sum(axis=1) / (~after).sum(axis=1)
    suspects = p <= 0.2
    assert np.mean((change.effect - effect)[suspects] ** 2) < 0.6 * np.mean((raw - effect)[suspects] ** 2)
    slope = np.sum(change.effect[suspects] * effect[suspects]) / np.sum(change.effect[suspects] ** 2)
    assert slope == pytest.approx(1.0, abs=0.15)
    # The probabilities are those with which it is so.
    large = np.abs(effect) > 0.1
    for low, high in ((0.0, 0.2), (0.2, 0.8), (0.8, 1.01)):
        those = (change.practical >= low) & (change.practical < high)
        assert large[those].mean() == pytest.approx(change.practical[those].mean(), abs=0.15)
    assert np.median(change.effect_sd[change.changed > 0.99]) < 0.15


def test_one_sequence_is_the_sum_over_its_splits() -> None:
    values = np.concatenate([np.random.default_rng(2).normal(0, 1, 40), np.random.default_rng(3).normal(1.2, 1, 40)])
    gains = NormalScores(20)
    lengths = np.array([80])
    found = scan(values, lengths, gains)
    change = changes(values, values, lengths, found, np.array([1.0]), np.array([0.5]), gains)
    # No sequence is significant by itself: tau is the vague guess, twice the threshold.
    tau2, weights, draws = 1.0, [], []
    every = gains(values[None])[0]
    for gain, s in zip(every, range(20, 61), strict=True):
        one, two = values[:s], values[s:]
        within = ((one - one.mean()) ** 2).sum() + ((two - two.mean()) ** 2).sum() + values.var()
        v = within / 79 * (1 / s + 1 / (80 - s))
        weights.append(np.sqrt(v / (v + tau2)) * np.exp(gain * tau2 / (v + tau2)))
        draws.append((two.mean() - one.mean(), v))
    weight, parts = np.array(weights), np.array(draws)
    kept = tau2 / (tau2 + parts[:, 1])
    mean, sd = parts[:, 0] * kept, np.sqrt(parts[:, 1] * kept)
    share = weight / weight.sum()
    assert change.effect[0] == pytest.approx(change.changed[0] * np.sum(share * mean))
    beyond = norm.sf((0.5 - mean) / sd) + norm.cdf((-0.5 - mean) / sd)
    assert change.practical[0] == pytest.approx(change.changed[0] * np.sum(share * beyond))
    near = np.flatnonzero(every > every.max() - 2) + 20
    assert (change.earliest[0], change.latest[0]) == (near[0], near[-1])


def test_constant_and_short_sequences_have_no_effect() -> None:
    lengths = np.array([100, 30])
    values = np.ones(130)
    gains = NormalScores(20)
    found = scan(values, lengths, gains)
    change = changes(values, values, lengths, found, np.array([1.0, np.nan]), np.zeros(2), gains)
    assert change.effect[0] == 0.0
    assert change.changed[0] < 0.05
    assert np.isnan(change.effect[1])
