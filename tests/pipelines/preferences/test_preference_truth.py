"""Preferences of the simulated deployment against its truth: weights, coverage, examination, contradictions."""

import numpy as np
import polars as pl
import preference_data
import pytest

from pipelines.preferences import agreement, choices, population, stated_revealed, weights
from pipelines.simulate import SimulationConfig, simulate
from pipelines.simulate.slates import EXAMINATION

ADEQUATE = 50  # lists of a person


@pytest.fixture(scope="module")
def fitted():
    """The deployment, its lists, the fit and what people stated."""
    deployment = simulate(SimulationConfig(users=600, days=28, traces=30_000, seed=3, contradiction_share=0.15))
    segments = preference_data.segments(deployment)
    lists = choices.reconstruct(preference_data.shown_sets(deployment), preference_data.AVAILABLE, segments)
    pooled = weights.fit(lists.choices)
    codes = {name: code for code, name in enumerate(lists.segments) if name is not None}
    segment_of = {user: codes[name] for user, name in segments.iter_rows() if name in codes}
    statements = preference_data.statements(deployment)
    features = [name for name in lists.features if name in set(statements["feature"])]
    stated = stated_revealed.shrink(statements, features, segment_of, len(codes))
    return deployment, lists, pooled, stated


@pytest.fixture(scope="module")
def compared(fitted):
    """Found and true weights of people who do not drift, (people, features) in the order of the truth's features."""
    deployment, lists, pooled, _ = fitted
    people = {user["user_id"]: user for user in deployment.truth["users"]}
    steady = np.array([people[user]["weights_revealed_after"] is None for user in lists.user_ids])
    columns = [lists.features.index(name) for name in deployment.truth["features"]]
    found = (pooled.weights[:, :-1] / lists.scale)[steady][:, columns]
    sd = (np.sqrt(np.einsum("uii->ui", pooled.covariance)[:, :-1]) / lists.scale)[steady][:, columns]
    truth = np.array([people[user]["weights_revealed"] for user in lists.user_ids])[steady]
    return found, sd, truth, lists.lists[steady]


def test_both_kinds_of_lists_are_recognised_and_positions_corrected(fitted):
    _, lists, _, _ = fitted
    agents = {one["agent"]: one for one in lists.agents}
    assert agents["travel-desk"]["kind"] == "choose one"
    assert agents["shop-assistant"]["kind"] == "pick any"
    found = [one["examination"] for one in agents["shop-assistant"]["positions"]]
    assert found == pytest.approx(EXAMINATION, abs=0.03)


def test_weights_of_people_with_fifty_lists_correlate_with_the_truth(compared):
    found, _, truth, lists = compared
    many = lists >= ADEQUATE
    assert many.sum() > 100
    assert np.corrcoef(found[many].ravel(), truth[many].ravel())[0, 1] >= 0.9
    for column in range(truth.shape[1]):
        assert np.corrcoef(found[many, column], truth[many, column])[0, 1] >= 0.85


def test_intervals_cover_the_truth_as_often_as_they_say(compared):
    found, sd, truth, lists = compared
    covered = np.abs(found - truth) < 1.96 * sd
    assert 0.93 <= covered.mean() <= 0.97
    for few, many in ((1, 30), (30, 10_000)):
        assert 0.92 <= covered[(lists >= few) & (lists < many)].mean() <= 0.98


def test_two_names_of_one_feature_are_found_to_go_together(fitted):
    """The shop logs `cheapness`, the travel desk `price`: what people weigh is the same."""
    _, lists, pooled, _ = fitted
    one, other = (pooled.weights[:, lists.features.index(name)] for name in ("cheapness", "price"))
    assert np.corrcoef(one, other)[0, 1] > 0.9


def test_contradictions_are_found_and_hardly_anyone_else_is(fitted):
    deployment, lists, pooled, stated = fitted
    random = np.random.default_rng(1)
    frame = agreement.agreement(lists, pooled, population.means(lists, pooled), stated, random)
    people = frame.filter((pl.col("scope") == "user") & pl.col("contradicts").is_not_null())
    truth = people["user_id"].is_in(deployment.truth["contradictions"]).to_numpy()
    flagged, enough = people["contradicts"].to_numpy(), (people["lists"] >= ADEQUATE).to_numpy()
    assert (truth & enough).sum() >= 30
    assert flagged[truth & enough].mean() >= 0.9
    assert (flagged & ~truth).sum() / flagged.sum() <= 0.08  # .05 is what is expected; this is one draw of about 60


def test_people_whose_goals_change_are_not_compared(fitted):
    deployment, _, _, stated = fitted
    drifting = {one["user_id"] for one in deployment.truth["drift"] if one["kind"] == "preference"}
    changed = {user for user, new in zip(stated.user_ids, stated.changed.tolist(), strict=True) if new}
    assert len(changed & drifting) >= 0.8 * len(drifting)
    assert len(changed - drifting) <= 0.01 * len(stated.user_ids)


def test_segment_means_are_those_of_their_people(fitted):
    deployment, lists, pooled, _ = fitted
    means = population.means(lists, pooled)
    people = {user["user_id"]: user for user in deployment.truth["users"]}
    own = np.array([people[user]["weights_revealed"] for user in lists.user_ids])
    names = np.array([people[user]["segment"] for user in lists.user_ids])
    columns = [means.features.index(name) for name in deployment.truth["features"]]
    for place, segment in enumerate(means.segments):
        truth = own[names == segment].mean(axis=0) if segment is not None else own.mean(axis=0)
        assert means.mean[place, columns] == pytest.approx(truth, abs=0.3)
