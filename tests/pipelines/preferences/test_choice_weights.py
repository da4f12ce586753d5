"""Weights from choices: against a likelihood computed here, an independent optimiser, and people with known weights."""

import numpy as np
import pytest
from scipy.optimize import minimize

from pipelines.preferences.choice_likelihood import Choices
from pipelines.preferences.weights import fit, modes, posterior
from pipelines.stats import conditional_logit

MEAN = np.array([1.0, -0.6])
SPREAD = np.array([[0.25, 0.1], [0.1, 0.16]])
EXAMINATION = np.array([1.0, 0.7, 0.5, 0.35])


def _drawn(people, lists, items, *, any_number, seed, constant=-0.8, mean=MEAN):
    """Choices of people whose weights are normal around `mean`; returns the choices and the weights."""
    random = np.random.default_rng(seed)
    weights = random.multivariate_normal(mean, SPREAD, people)
    user = np.repeat(np.arange(people), lists * items)
    features = random.uniform(-1.5, 1.5, (len(user), 2))
    utility = np.einsum("ij,ij->i", features, weights[user]) + constant
    if any_number:
        looked = np.tile(EXAMINATION[:items], people * lists)
        chosen = random.random(len(user)) < looked / (1 + np.exp(-utility))
    else:
        looked = np.ones(len(user))
        odds = np.exp(utility.reshape(-1, items))
        share = np.cumsum(odds / (1 + odds.sum(axis=1, keepdims=True)), axis=1)
        picked = (random.random((len(share), 1)) >= share).sum(axis=1)
        chosen = (np.arange(items) == picked[:, None]).ravel()
    return Choices(
        features=np.column_stack([features, np.ones(len(user))]),
        user=user,
        shown=np.repeat(np.arange(people * lists), items),
        chosen=chosen,
        any_number=np.full(len(user), any_number),
        examination=looked,
        place=np.column_stack([np.zeros(len(user), np.int64), np.full(len(user), -1)]),
        places=1,
        segment=np.zeros(people, np.int64),
    ), weights


def _negative_log_posterior(choices, rows, prior_mean, prior_precision, constant):
    """Of one person, written out list by list."""

    def value(weights):
        total = 0.5 * (weights - prior_mean) @ prior_precision @ (weights - prior_mean)
        utility = choices.features[rows] @ weights + constant
        for number in np.unique(choices.shown[rows]):
            own = choices.shown[rows] == number
            u, y, e = utility[own], choices.chosen[rows][own], choices.examination[rows][own]
            if choices.any_number[rows][own][0]:
                p = e / (1 + np.exp(-u))
                total -= np.sum(np.where(y, np.log(p), np.log1p(-p)))
            else:
                total -= u[y].sum() - np.log1p(np.exp(u).sum())
        return total

    return value


@pytest.mark.parametrize("any_number", [False, True])
def test_modes_are_the_maxima_of_the_posterior(any_number):
    choices, _ = _drawn(6, 12, 4, any_number=any_number, seed=2)
    pooled = modes(choices, fit(choices))
    precision = np.linalg.inv(pooled.spread[0])
    for person in range(6):
        rows = choices.user == person
        value = _negative_log_posterior(choices, rows, pooled.mean[0], precision, pooled.constants[0])
        best = minimize(value, pooled.weights[person], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12})
        assert pooled.weights[person] == pytest.approx(best.x, abs=1e-5)


@pytest.mark.parametrize("any_number", [False, True])
def test_weights_of_known_people_are_found_and_intervals_cover(any_number):
    choices, truth = _drawn(600, 40, 4, any_number=any_number, seed=4)
    pooled = fit(choices)
    assert pooled.converged
    found = pooled.weights[:, :2]
    sd = np.sqrt(np.einsum("uii->ui", pooled.covariance)[:, :2])
    covered = np.abs(found - truth) < 1.96 * sd
    assert 0.93 <= covered.mean() <= 0.97
    assert pooled.mean[0, :2] == pytest.approx(truth.mean(axis=0), abs=0.06)
    assert np.sqrt(np.diag(pooled.spread[0]))[:2] == pytest.approx(np.sqrt(np.diag(SPREAD)), abs=0.06)
    for column in range(2):
        assert np.corrcoef(found[:, column], truth[:, column])[0, 1] > 0.75
    assert pooled.constants[0] == pytest.approx(-0.8, abs=0.1)


def test_posterior_moments_are_those_of_a_sum_over_a_grid():
    """One person's two weights, the third held at nothing by its prior: brute force over 201 x 201 points."""
    choices, _ = _drawn(6, 12, 4, any_number=True, seed=2)
    pooled = fit(choices)
    spread = np.array([np.diag([0.8, 0.6, 1e-4])])
    pooled = type(pooled)(**{**vars(pooled), "spread": spread, "mean": np.zeros((1, 3))})
    found = posterior(choices, pooled)
    value = _negative_log_posterior(
        choices, choices.user == 0, np.zeros(3), np.linalg.inv(spread[0]), pooled.constants[0]
    )
    axis = np.linspace(-4, 4, 101)
    points = np.array([(a, b, 0.0) for a in axis for b in axis])
    weight = np.exp(-np.array([value(point) for point in points]))
    weight /= weight.sum()
    mean = weight @ points
    assert found.weights[0, :2] == pytest.approx(mean[:2], abs=0.02)
    variance = weight @ (points - mean) ** 2
    assert np.sqrt(np.diag(found.covariance[0]))[:2] == pytest.approx(np.sqrt(variance[:2]), rel=0.04)


def test_one_choice_each_agrees_with_the_module_of_statistics():
    """`pipelines.stats.conditional_logit.pool` fits the same model of lists to choose one item from."""
    choices, _ = _drawn(300, 30, 3, any_number=False, seed=9)
    pooled = fit(choices)
    other = conditional_logit.pool(choices.features[:, :2], choices.shown, choices.chosen, choices.user)
    assert pooled.mean[0, :2] == pytest.approx(other.mean[:2], abs=0.03)
    assert pooled.weights[:, :2].ravel() == pytest.approx(other.weights[:, :2].ravel(), abs=0.15)


def test_a_segment_has_a_mean_of_its_own_that_its_people_lean_on():
    left, _ = _drawn(150, 3, 4, any_number=False, seed=5)
    right, _ = _drawn(150, 3, 4, any_number=False, seed=6, mean=-MEAN)
    both = Choices(
        features=np.concatenate([left.features, right.features]),
        user=np.concatenate([left.user, right.user + 150]),
        shown=np.concatenate([left.shown, right.shown + 450]),
        chosen=np.concatenate([left.chosen, right.chosen]),
        any_number=np.concatenate([left.any_number, right.any_number]),
        examination=np.concatenate([left.examination, right.examination]),
        place=np.concatenate([left.place, right.place]),
        places=1,
        segment=np.repeat([0, 1], 150),
    )
    pooled = fit(both)
    assert pooled.mean[0, :2] == pytest.approx(MEAN, abs=0.3)
    assert pooled.mean[1, :2] == pytest.approx(-MEAN, abs=0.3)
    assert pooled.weights[:150, 0].mean() > 0.6
    assert pooled.weights[150:, 0].mean() < -0.6


def test_someone_without_choices_of_their_own_gets_the_prior():
    """One list of 200 says next to nothing: mean and variance stay close to those of everyone."""
    choices, _ = _drawn(200, 20, 4, any_number=True, seed=7)
    pooled = fit(choices)
    few = Choices(
        **{
            **vars(choices),
            **{name: getattr(choices, name)[:1] for name in
               ("features", "user", "shown", "chosen", "any_number", "examination", "place")},
            "segment": choices.segment[:1],
        }
    )  # fmt: skip
    alone = posterior(few, type(pooled)(**{**vars(pooled), "weights": pooled.mean.copy()}))
    assert np.abs(alone.weights[0] - pooled.mean[0]).max() < 2 * np.sqrt(np.diag(pooled.spread[0])).max()
    assert np.all(np.diag(alone.covariance[0]) > 0.6 * np.diag(pooled.spread[0]))


def test_a_sample_of_people_gives_everyone_weights():
    choices, truth = _drawn(400, 15, 4, any_number=True, seed=8)
    whole, sampled = fit(choices), fit(choices, most_users=200)
    assert sampled.weights.shape == whole.weights.shape
    assert np.corrcoef(sampled.weights[:, 0], whole.weights[:, 0])[0, 1] > 0.97
    assert np.corrcoef(sampled.weights[:, 0], truth[:, 0])[0, 1] > 0.6


def test_nothing_or_everything_chosen_is_refused():
    choices, _ = _drawn(5, 5, 3, any_number=True, seed=1)
    for chosen in (np.zeros_like(choices.chosen), np.ones_like(choices.chosen)):
        with pytest.raises(ValueError, match="chosen"):
            fit(Choices(**{**vars(choices), "chosen": chosen}))
