"""A metric scanned at all levels: slices change nothing, bad values are left out and counted, likelihoods fit."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from drift_values import NOTHING_KNOWN, START, population
from polars.testing import assert_frame_equal

from pipelines.drift import levels, likelihoods, metrics
from pipelines.drift.detection import DetectionConfig
from pipelines.drift.scan import scan, state_values
from store.errors import NotFound


def scanned(events, name, slices=1):
    """The scan of a metric, its users divided among slices."""
    codes = events["user_id"].rank("dense").cast(pl.Int64)
    parts = [events.filter(codes % slices == number) for number in range(slices)]
    return scan(
        metrics.metric(name), lambda at: parts[at], slices, NOTHING_KNOWN, DetectionConfig(), np.random.default_rng(1)
    )


def normal(user, day, random):
    return random.normal(size=user.size)


def test_slices_find_what_one_scan_finds():
    def values(user, day, random):
        return random.normal(size=user.size) + 2.5 * ((user == 4) & (day > 30)) + (day > 45)

    events = population(20, 60, values, segment="s")
    whole, parts = scanned(events, "surprise"), scanned(events, "surprise", slices=4)
    # Effects are shrunk towards those of the same slice, so only the test is the same.
    columns = ["level", "user_id", "segment", "agent", "statistic", "p_value", "changed_at", "before_n"]
    keys = ["level", "user_id", "segment"]
    own = whole.found.filter(user_id="u0004").row(0, named=True)
    assert own["p_value"] < 1e-4
    after = events.filter((pl.col("user_id") == "u0004") & (pl.col("occurred_at") > START + timedelta(days=30)))
    assert own["changed_at"] in after["occurred_at"].head(2)
    assert whole.found.filter(level="population")["p_value"][0] < 0.01
    assert sorted(whole.found["level"].unique()) == ["population", "segment", "user"]
    others = whole.found.filter((pl.col("level") == "user") & (pl.col("user_id") != "u0004"))
    assert others["p_value"].min() > 0.001
    loose = parts.found.select(columns).sort(keys)
    assert loose.select(keys).equals(whole.found.select(columns).sort(keys).select(keys))
    assert parts.found.filter(user_id="u0004")["p_value"][0] == pytest.approx(own["p_value"], rel=0.5)
    assert (
        parts.measured.select("level", "events", "subjects")
        .sort("level")
        .equals(whole.measured.select("level", "events", "subjects").sort("level"))
    )
    assert_frame_equal(parts.states.sort("user_id"), whole.states.sort("user_id"))


def test_values_that_are_none_are_left_out_and_counted():
    events = population(6, 60, normal)
    bad = pl.Series(range(events.height)) % 10
    broken = events.with_columns(
        value=pl.when(bad == 0).then(float("nan")).when(bad == 1).then(float("inf")).when(bad == 2).then(None)
        .otherwise("value")
    )  # fmt: skip
    found = scanned(broken, "surprise")
    kept = events.filter(bad > 2)
    assert found.measured["ignored"].unique().to_list() == [events.height - kept.height]
    assert found.measured["events"].unique().to_list() == [kept.height]
    clean = scanned(kept, "surprise")
    assert_frame_equal(found.found.sort("level", "user_id"), clean.found.sort("level", "user_id"))


@pytest.mark.parametrize(("name", "value"), [("surprise", 2.5), ("stated satisfaction", 1.0), ("cost", 0.0)])
def test_equal_values_are_no_change(name, value):
    found = scanned(population(5, 60, lambda user, day, random: np.full(user.size, value)), name)
    made = found.found.filter(pl.col("p_value").is_not_null())
    assert made.height > 0
    assert made["p_value"].min() == 1.0
    assert "equal" in found.measured["reason"][0]


def test_gaps_and_days_told_twice_are_no_change():
    events = population(10, 90, normal, days=120)
    day = (pl.col("occurred_at") - START).dt.total_days()
    holed = events.filter((day < 30) | (day > 75))
    twice = pl.concat([holed, holed.filter(day < 5).with_columns(block=pl.col("block") + "again")])
    for frame in (holed, twice):
        assert scanned(frame, "surprise").found["p_value"].drop_nulls().min() > 0.001


def test_a_user_with_an_event_a_year_is_waited_for():
    rare = population(1, 6, normal, days=6 * 365).with_columns(user_id=pl.lit("rare"))
    found = scanned(pl.concat([population(4, 60, normal), rare]), "surprise")
    row = found.found.filter(user_id="rare").row(0, named=True)
    assert (row["status"], row["events_total"], row["missing"]) == ("not enough data", 6, 34)
    users = found.measured.filter(level="user").row(0, named=True)
    assert (users["subjects"], users["scanned"], users["too_few"], users["missing_median"]) == (5, 4, 1, 34.0)


def test_traces_of_no_agent_are_scanned_too():
    found = scanned(population(4, 60, normal, agent=None, task=None, model=None, agent_version=None), "surprise")
    assert found.found.filter(level="population")["agent"].to_list() == [None]
    assert found.found.filter(level="user").height == 4


def test_nothing_is_no_scan():
    assert scanned(population(2, 5, normal).clear(), "surprise") is None
    assert scanned(population(2, 5, lambda user, day, random: np.full(user.size, np.nan)), "surprise") is None


def test_categories_are_scanned_as_such_and_as_samples_above_users():
    def values(user, day, random):
        moved = (user == 2) & (day > 30)
        return np.where(random.random(user.size) < np.where(moved, 0.1, 0.8), "German", "English").tolist()

    found = scanned(population(12, 80, values), "language")
    users = found.found.filter(level="user").sort("p_value")
    assert users["user_id"][0] == "u0002"
    assert users["p_value"][0] < 1e-4 < 0.01 < users["p_value"][1]
    assert {users["likelihood"][0], users["category"][0]} <= {"categorical", "German", "English"}
    above = found.found.filter(level="population").row(0, named=True)
    assert (above["likelihood"], above["events"]) == ("categorical", levels.SAMPLE)
    assert state_values(population(1, 3, values), "language")["value"].is_between(0, 1).all()


@pytest.mark.parametrize(
    ("values", "expected", "likelihood", "words"),
    [
        ([0.0, 1.0, 1.0], "cost", "bernoulli", "yes or no"),
        ([0.0, 0.4, 1.0], "stated satisfaction", "gaussian", "0 to 1"),
        (np.exp(np.random.default_rng(1).normal(size=400)), "reward", "log", "skewed"),
        (np.random.default_rng(1).normal(10, 1, size=400), "cost", "gaussian", "without strong skew"),
        (-np.exp(np.random.default_rng(1).normal(size=400)), "cost", "gaussian", "both signs"),
        ([3.0, 3.0, float("nan")], "cost", "gaussian", "equal"),
        ([1.0, 1.0], "stated satisfaction", "bernoulli", "equal"),
        ([], "latency", "log", "no values yet"),
        ([], "task mix", "categorical", "categories"),
    ],
)
def test_the_likelihood_is_chosen_by_the_values(values, expected, likelihood, words):
    found, reason = likelihoods.choose(np.array(values, dtype=float), metrics.METRICS[expected])
    assert found == likelihood
    assert words in reason


def test_metrics_are_named():
    assert metrics.metric("cost").unit == "USD"
    assert metrics.metric("preference: price").title == "Preference: price"
    assert [one.name for one in metrics.listed(["price"])][-1] == "preference: price"
    for name in ("mood", "preference: "):
        with pytest.raises(NotFound):
            metrics.metric(name)
