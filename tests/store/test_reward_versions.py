"""Versions of the reward model: their reports, what an operator does about them, and the stated weight."""

import polars as pl
import pytest

from store import audit, reward_versions, rewards
from store.errors import ActionRefused, NotFound
from store.reward_versions import Report


@pytest.fixture
def traces(publish):
    publish(traces=[{"trace_id": f"t{i}", "agent": "shop", "arm": f"arm {i % 2}", "user_id": "u"} for i in range(4)])
    return [f"t{i}" for i in range(4)]


def _publish(store, traces, mean, **report):
    frame = pl.DataFrame({"trace_id": traces, "mean": mean, "sd": 0.1, "signals": 1})
    cells = pl.DataFrame(schema=rewards.CELLS)
    return rewards.publish(store, rewards.Fitted("m", {}, frame, cells, 4, 7, "0.1", Report(**report)))


def _metrics(value):
    row = ("users and tasks", "brier", value, value - 0.01, value + 0.01, 100, 50, "solicited")
    return pl.DataFrame([row], schema=reward_versions.METRICS, orient="row")


def _states(store):
    return dict(reward_versions.versions(store).select("reward_model_id", "state").rows())


def test_a_version_keeps_its_whole_report(store, traces, clock):
    weights = pl.DataFrame(
        [(None, "same:search", "step", -1.2, 0.1, 40, 0.1)], schema=reward_versions.WEIGHTS, orient="row"
    )
    bins = pl.DataFrame([("users", 0, 0.4, 0.5, 0.3, 0.7, 20, "solicited")], schema=reward_versions.BINS, orient="row")
    means = pl.DataFrame([("shop", "a", "x", 0.5, None, 3, 4, 1)], schema=reward_versions.SEGMENT_MEANS, orient="row")
    loading = pl.DataFrame(
        [
            ("shop", "thumb", "asked", 9, 8, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, True, "solicited", None),
            ("shop", "copy", None, 4, 3, 0.6, 0.2, 0.3, 1.1, -1.0, 0.1, -1.3, -0.9, 0.5, False, "observed", None),
        ],
        schema=reward_versions.LOADINGS, orient="row",
    )  # fmt: skip
    _publish(
        store, traces, 0.5, window_start=clock.now(), window_end=clock.now(), users=3, tasks=2, publication=5,
        metrics=_metrics(0.2), calibration=bins, weights=weights, loadings=loading, segment_means=means,
        state='{"a": 1}',
    )  # fmt: skip
    row = reward_versions.active(store)
    assert (row["users"], row["tasks"], row["publication"], row["window_start"]) == (3, 2, 5, clock.now())
    assert reward_versions.metrics(store).drop("reward_model_id").equals(_metrics(0.2))
    assert reward_versions.calibration(store, 1).equals(bins)
    assert reward_versions.feature_weights(store, 1).equals(weights)
    assert reward_versions.loadings(store, 1).equals(loading)
    assert reward_versions.segment_means(store, 1).equals(means)
    assert reward_versions.model_state(store, 1) == '{"a": 1}'
    assert reward_versions.model_state(store, 2) is None


def test_the_first_version_is_in_use_and_a_candidate_waits(store, traces):
    _publish(store, traces, 0.4, activate=False)
    _publish(store, traces, 0.6, activate=False, reason="worse")
    assert _states(store) == {1: "active", 2: "candidate"}
    assert rewards.by_arm(store)["mean"].unique().to_list() == [0.4]


def test_an_operator_puts_a_version_in_use_and_it_is_on_record(store, traces):
    _publish(store, traces, 0.4)
    _publish(store, traces, 0.6, activate=False)
    reward_versions.activate(store, 2, operator="Ada", reason="looks better")
    assert _states(store) == {1: "retired", 2: "active"}
    assert rewards.by_arm(store)["mean"].unique().to_list() == [0.6]
    assert reward_versions.active(store)["decided_by"] == "Ada"
    (row,) = audit.recent(store).to_dicts()
    assert (row["actor"], row["action"], row["subject"]) == ("Ada", "reward model activate", "reward model 2")
    assert '"before":1' in row["detail"]
    reward_versions.activate(store, 1, operator="Ada", reason="it did not hold")
    assert _states(store) == {1: "active", 2: "retired"}
    assert audit.verify(store) is None


@pytest.mark.parametrize(
    ("version", "reason", "error", "says"),
    [
        (1, "again", ActionRefused, "in use already"),
        (2, " ", ActionRefused, "no reason"),
        (9, "why not", NotFound, "reward model"),
    ],
)
def test_an_activation_that_makes_no_sense_changes_nothing(store, traces, version, reason, error, says):
    _publish(store, traces, 0.4)
    _publish(store, traces, 0.6, activate=False)
    with pytest.raises(error, match=says):
        reward_versions.activate(store, version, operator="Ada", reason=reason)
    assert _states(store) == {1: "active", 2: "candidate"}
    assert audit.recent(store).is_empty()


def test_a_version_without_its_rewards_cannot_be_put_in_use(store, traces):
    for number in range(1, rewards.KEEP_REWARDS + 2):
        _publish(store, traces, number / 100)
    versions = reward_versions.versions(store)
    assert versions.filter(~pl.col("readable"))["reward_model_id"].to_list() == [1]
    with pytest.raises(ActionRefused, match="no longer kept"):
        reward_versions.activate(store, 1, operator="Ada", reason="the good old one")


def test_the_weight_between_stated_and_revealed_is_set_and_replaced(store):
    reward_versions.set_stated_weight(store, 0.9, agent="shop", segment="busy", operator="Ada", reason="goals first")
    reward_versions.set_stated_weight(store, 0.5, agent=None, segment=None, operator="Ada", reason="even")
    reward_versions.set_stated_weight(store, 0.7, agent="shop", segment="busy", operator="Bob", reason="less")
    held = reward_versions.stated_weights(store)
    assert held.select("agent", "segment", "weight", "set_by").rows() == [
        ("shop", "busy", 0.7, "Bob"),
        (None, None, 0.5, "Ada"),
    ]
    assert audit.recent(store)["action"].to_list() == ["stated weight set"] * 3
    for weight in (-0.1, 1.1, float("nan")):
        with pytest.raises(ActionRefused, match="from 0 to 1"):
            reward_versions.set_stated_weight(store, weight, agent=None, segment=None, operator="Ada", reason="x")
    with pytest.raises(ActionRefused, match="no reason"):
        reward_versions.set_stated_weight(store, 0.5, agent=None, segment=None, operator="Ada", reason="")
    assert reward_versions.stated_weights(store).equals(held)


def test_what_a_version_says_of_a_person_is_that_of_the_version_in_use(store, traces):
    def people(satisfaction):
        row = {
            "user_id": "u", "events": 3, "satisfaction": satisfaction, "satisfaction_sd": 0.1, "leniency": 0.2,
            "leniency_sd": 0.3, "leans_on": 0.6, "segment": "explorers",
        }  # fmt: skip
        return pl.DataFrame([row], schema=reward_versions.PEOPLE)

    _publish(store, traces, 0.1, people=people(0.7))
    _publish(store, traces, 0.2, people=people(0.8), activate=False)
    (found,) = reward_versions.person(store, "u").to_dicts()
    assert (found["satisfaction"], found["segment"], found["leans_on"]) == (0.7, "explorers", 0.6)
    assert reward_versions.person(store, "nobody").is_empty()
    for number in range(5):
        _publish(store, traces, 0.3 + number / 100, people=people(0.5), activate=False)
    with store.read() as reader:
        kept = [row[0] for row in reader.any_frame("SELECT reward_model_id FROM reward_people ORDER BY 1").rows()]
    # The newest ones, and the one in use however old it is.
    assert kept == [1, 5, 6, 7]
