"""The job `preferences`: from a store's signals to weights, contradictions, rankings and users; and with nothing."""

import pytest
from choice_data import FEATURES, WEIGHTS, comparisons, deployment
from loop_data import NOW, run_loop
from publishing import publisher

from store import links, preferences, users
from store.clock import FixedClock
from store.connection import Store


@pytest.fixture
def store():
    opened = Store.open(None, clock=FixedClock(NOW), threads=1)
    yield opened
    opened.close()


def test_an_empty_store_gives_a_run_that_says_why(store):
    result = run_loop(store, "preferences")["preferences"]
    assert result.rows == 0
    assert "No list of items was shown to a known person." in result.message
    assert preferences.latest_run(store)["parameters"]["refused"]["reason"] == "no_lists"
    assert preferences.weights(store).is_empty()


def test_weights_contradictions_and_rankings_come_out(store, tmp_path):
    traces, signals = deployment(segment="all of them")
    publisher(store, tmp_path)(traces=traces, signals=[*signals, *comparisons()])
    links.refresh(store)
    run_loop(store, "rewards", "preferences")
    run = preferences.latest_run(store)
    assert run["parameters"]["features"] == sorted(FEATURES)
    assert run["parameters"]["agents"][0]["kind"] == "choose one"
    weights = preferences.weights(store).filter(scope="everyone", basis="revealed")
    by_feature = {row["feature"]: row for row in weights.to_dicts()}
    for feature, weight in zip(FEATURES, WEIGHTS, strict=True):
        row = by_feature[feature]
        assert abs(row["weight"] - weight) < 3 * row["sd"] + 0.1
    ada = preferences.user_agreement(store, "ada")
    assert ada["contradicts"] is True
    assert ada["angle"] > 90
    assert preferences.user_agreement(store, "user 00")["reason"] == "6 of 30 lists"
    ranked = {(row["axis"], row["item"]): row for row in preferences.rankings(store).to_dicts()}
    assert ranked["prompt", "v2"]["rank_upper"] == 1
    assert ranked["arm", "b"]["basis"] == "rewards"
    assert users.latest_run(store).users == 41 + 12


def test_the_same_data_gives_the_same_run(store, tmp_path):
    traces, signals = deployment()
    publisher(store, tmp_path)(traces=traces, signals=signals)
    run_loop(store, "rewards", "preferences")
    first = preferences.weights(store).to_dicts(), preferences.user_weights(store, "ada").to_dicts()
    run_loop(store, "preferences")
    second = preferences.weights(store).to_dicts(), preferences.user_weights(store, "ada").to_dicts()
    assert preferences.latest_run(store)["preference_run_id"] == 2
    for one, other in zip(first, second, strict=True):
        for left, right in zip(one, other, strict=True):
            assert left["weight"] == pytest.approx(right["weight"], abs=1e-9)


def test_hostile_feature_names_are_only_names(store, tmp_path):
    features = ("a'; DROP TABLE signals; --", "<b>x</b>", "sp ace.dot[0]")
    traces, signals = deployment(features=features)
    publisher(store, tmp_path)(traces=traces, signals=signals)
    run_loop(store, "rewards", "preferences")
    assert preferences.latest_run(store)["parameters"]["features"] == sorted(features)
