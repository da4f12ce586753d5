"""Good-Turing, and learning progress: what is random by nature teaches nothing, what can be learned does."""

import numpy as np
import pytest

from pipelines.transitions import dirichlet, novelty


def test_good_turing_and_the_count_bonus_by_hand():
    counts = np.array([[5.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0], [4.0, 4.0, 0.0, 0.0]])
    assert novelty.good_turing(counts) == pytest.approx([2 / 7, 1.0, 0.0])
    assert novelty.novelty(np.array([0.0, 3.0, 99.0])) == pytest.approx([1.0, 0.5, 0.1])


def test_good_turing_estimates_the_mass_not_seen():
    random = np.random.default_rng(1)
    p = random.dirichlet(np.full(300, 0.3))
    errors = []
    for _ in range(200):
        counts = random.multinomial(400, p).astype(float)
        errors.append(novelty.good_turing(counts[None])[0] - p[counts == 0].sum())
    assert np.mean(errors) == pytest.approx(0.0, abs=0.005)


def test_a_noisy_television_teaches_nothing_and_a_learnable_state_does():
    """State 0 is noise over 20 channels; state 1 always leads to its own successor, first seen in the newer half."""
    random = np.random.default_rng(2)
    n = 4_000
    source = np.where(np.arange(n) < n // 2, 0, np.arange(n) % 2)
    target = np.where(source == 0, random.integers(0, 20, n), 20)
    held = random.random(n) < 0.2
    older = np.zeros(n, dtype=bool)
    training = np.flatnonzero(~held)
    older[training[: training.size // 2]] = True
    counts = np.bincount(source * 21 + target, minlength=42).reshape(2, 21).astype(float)
    base = dirichlet.pooled(counts)
    found = novelty.learning_progress(source, target, older, held, base, 10.0, 2)
    assert found.drop[1] > 1.0
    assert found.drop[1] > 10 * found.se[1]
    assert abs(found.drop[0]) < 0.05
    surprise = dirichlet.surprise(counts, base, 10.0)
    raw = [surprise.information[state, target[source == state]].mean() for state in (0, 1)]
    assert raw[0] > raw[1] + 2.0  # raw surprise would reward the television


def test_the_learning_curve_falls_to_the_entropy():
    random = np.random.default_rng(3)
    p = random.dirichlet(np.ones(8), 4)
    source = random.integers(0, 4, 40_000)
    target = np.minimum((random.random(source.size)[:, None] > np.cumsum(p, axis=1)[source]).sum(axis=1), 7)
    held = random.random(source.size) < 0.2
    curve = novelty.learning_curve(source, target, held, np.full(8, 1 / 8), 5.0, 4)
    assert curve["share"].to_list() == [0.0625, 0.125, 0.25, 0.5, 1.0]
    entropy = -(p * np.log(p)).sum(axis=1).mean()
    assert curve["loss"][-1] == pytest.approx(entropy, abs=0.03)
    assert curve["loss"][0] >= curve["loss"][-1]


def test_states_without_held_out_steps_have_no_progress():
    source, target = np.array([0, 0, 1]), np.array([0, 1, 1])
    held = np.array([True, True, False])
    found = novelty.learning_progress(source, target, ~held, held, np.array([0.5, 0.5]), 1.0, 3)
    assert found.n.tolist() == [2, 0, 0]
    assert np.isnan(found.drop[1:]).all()
