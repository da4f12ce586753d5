"""Residuals: what hits everybody is nobody's own drift, and what only one user does is not explained away."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from drift_values import NOTHING_KNOWN, START, population

from pipelines.drift import coupling
from pipelines.drift.residuals import Cells, Spells, fit, pilot, prepare, residual, settle

CHANGE = 30.0


def left(events, likelihood, known=NOTHING_KNOWN, **arguments):
    """Events with their residuals, and the expectation."""
    first = pilot(events, likelihood, **arguments)
    spells, cells = Spells(first.columns), Cells(first.columns)
    spells.add(prepare(events, first, known))
    first = settle(first, spells)
    prepared = prepare(events, first, known)
    cells.add(prepared)
    expectation = fit(cells)
    return residual(prepared, first, expectation), expectation


def gap(frame, column="residual", user=None):
    """Mean after the change less mean before."""
    own = frame if user is None else frame.filter(user_id=user)
    after = pl.col("occurred_at") >= START + pl.duration(days=CHANGE)
    return own.filter(after)[column].mean() - own.filter(~after)[column].mean()


@pytest.mark.parametrize("likelihood", ["gaussian", "log", "bernoulli"])
def test_a_change_for_everybody_leaves_users_as_they_were(likelihood):
    def values(user, day, random):
        own = random.normal(size=user.max() + 1)[user]
        if likelihood == "bernoulli":
            chance = 1 / (1 + np.exp(-(1.2 + 0.5 * own - 1.5 * (day >= CHANGE))))
            return (random.random(user.size) < chance).astype(float)
        number = own + random.normal(size=user.size) + 1.5 * (day >= CHANGE)
        return np.exp(number) if likelihood == "log" else number

    events = population(60, 60, values)
    raw = events.with_columns(residual=pl.col("value").log() if likelihood == "log" else "value")
    found, expectation = left(events, likelihood)
    assert abs(gap(raw)) > 0.25
    assert abs(gap(found)) < 0.12 * abs(gap(raw))
    assert expectation.explained > 0.05
    assert found["residual"].is_finite().all()


def test_a_change_of_one_user_stays():
    def values(user, day, random):
        return random.normal(size=user.size) + 2.0 * ((user == 7) & (day >= CHANGE))

    found, _ = left(population(40, 60, values), "gaussian")
    assert gap(found, user="u0007") == pytest.approx(2.0, abs=0.5)
    assert abs(gap(found.filter(pl.col("user_id") != "u0007"))) < 0.1


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_the_change_of_an_only_user_is_not_explained_away(likelihood):
    def values(user, day, random):
        if likelihood == "bernoulli":
            return (random.random(user.size) < np.where(day >= CHANGE, 0.2, 0.9)).astype(float)
        return random.normal(size=user.size) + 2.0 * (day >= CHANGE)

    events = population(1, 200, values)
    found, _ = left(events, likelihood)
    assert gap(found) == pytest.approx(gap(events, "value"), abs=1e-9)


def test_another_mix_of_tasks_is_no_other_value():
    random = np.random.default_rng(5)
    hard = pl.Series(random.random(60 * 60) < 0.5)
    events = population(60, 60, lambda user, day, draw: draw.normal(size=user.size), seed=3)
    shifted = (pl.col("user_id") == "u0003") & (pl.col("occurred_at") >= START + pl.duration(days=CHANGE))
    events = events.with_columns(task=pl.when(hard | shifted).then(pl.lit("hard")).otherwise(pl.lit("easy")))
    events = events.with_columns(value=pl.col("value") - 3.0 * (pl.col("task") == "hard"))
    found, _ = left(events, "gaussian")
    assert gap(events, "value", "u0003") < -1.0
    assert abs(gap(found, user="u0003")) < 0.5


def test_a_model_that_only_some_use_is_expected_of_them():
    def values(user, day, random):
        return random.normal(size=user.size)

    events = population(60, 60, values)
    moved = (pl.col("user_id") < "u0030") & (pl.col("occurred_at") >= START + pl.duration(days=CHANGE))
    events = events.with_columns(model=pl.when(moved).then(pl.lit("new")).otherwise(pl.lit("old")))
    events = events.with_columns(value=pl.col("value") + 2.0 * (pl.col("model") == "new"))
    found, _ = left(events, "gaussian")
    movers = pl.col("user_id") < "u0030"
    assert abs(gap(found.filter(movers))) < 0.25
    assert abs(gap(found.filter(~movers))) < 0.25


def test_a_known_intervention_of_one_segment_is_expected_of_it_alone():
    def values(user, day, random):
        return random.normal(size=user.size) + 2.0 * ((user < 30) & (day >= CHANGE))

    segment = pl.when(pl.col("user_id") < "u0030").then(pl.lit("new")).otherwise(pl.lit("old"))
    events = population(60, 60, values).with_columns(segment=segment)
    known = pl.DataFrame(
        {"intervention_id": "x", "kind": "campaign", "agent": "shop", "segment": "new", "title": "t", "origin": "noted",
         "happened_at": START + timedelta(days=CHANGE)},
        schema=NOTHING_KNOWN.schema,
    )  # fmt: skip
    unaware, _ = left(events, "gaussian")
    aware, _ = left(events, "gaussian", known)
    concerned = pl.col("segment") == "new"
    assert abs(gap(unaware.filter(concerned))) > 0.6
    assert abs(gap(aware.filter(concerned))) < 0.2
    assert abs(gap(aware.filter(~concerned))) < 0.2


def test_categories_stay_categories_and_lose_what_everybody_did():
    def values(user, day, random):
        first = random.random(user.size) < np.where(day >= CHANGE, 0.2, 0.7)
        return np.where(first, "search", np.where(random.random(user.size) < 0.5, "buy", "ask")).tolist()

    events = population(60, 60, values)
    found, _ = left(events, "categorical", by_task=True)
    search = found.with_columns(seen=(pl.col("category") == "search").cast(pl.Float64))
    search = search.with_columns(scanned=(pl.col("coupled") == "search").cast(pl.Float64))
    assert gap(search, "seen") == pytest.approx(-0.5, abs=0.05)
    assert abs(gap(search, "scanned")) < 0.1
    assert set(found["coupled"]) == {"search", "buy", "ask"}
    again, _ = left(events, "categorical")
    assert again["coupled"].equals(found["coupled"])


def test_nothing_in_common_leaves_values_alone():
    def values(user, day, random):
        return (random.random(user.size) < 0.7).astype(float)

    events = population(50, 60, values)
    found, _ = left(events, "bernoulli")
    redrawn = (found["residual"] != found["value"]).mean()
    assert redrawn < 0.02
    assert (found["residual"] == 1).mean() == pytest.approx((found["value"] == 1).mean(), abs=0.01)


def test_the_coupling_gives_the_shares_that_are_expected_of_all_events():
    """Against the definition: P(redrawn) is the distance between the two distributions, its result has the second."""
    random = np.random.default_rng(2)
    n = 200_000
    now, usual = np.array([0.6, 0.3, 0.1]), np.array([0.2, 0.3, 0.5])
    # Half of the events as now, half so that the mean over all is usual.
    other = 2 * usual - now
    expected = np.concatenate([np.tile(now, (n, 1)), np.tile(np.clip(other, 0.0, None), (n, 1))])
    expected = coupling.positive(expected)
    seen = np.concatenate([random.choice(3, n, p=now), random.choice(3, n, p=expected[-1])])
    outcome = np.eye(3)[seen]
    redrawn = coupling.coupled(outcome, expected, np.zeros(2 * n, np.int64), random.random(2 * n))
    own = outcome.mean(axis=0)
    for half in (slice(0, n), slice(n, 2 * n)):
        assert np.bincount(redrawn[half], minlength=3) / n == pytest.approx(own, abs=0.01)
    distance = 0.5 * np.abs(now - own).sum()
    assert (redrawn[:n] != seen[:n]).mean() == pytest.approx(distance, abs=0.01)


def test_slices_add_up_to_the_same_expectation():
    def values(user, day, random):
        return random.normal(size=user.size) + (day >= CHANGE)

    events = population(40, 40, values)
    first = pilot(events, "gaussian")
    whole, parts = Cells(first.columns), Cells(first.columns)
    whole.add(prepare(events, first, NOTHING_KNOWN))
    for number in range(4):
        own = events.filter(pl.col("user_id").str.slice(1).cast(pl.Int64) % 4 == number)
        parts.add(prepare(own, first, NOTHING_KNOWN))
    one, other = fit(whole), fit(parts)
    assert one.explained == pytest.approx(other.explained)
    for effect, same in zip(one.effects, other.effects, strict=True):
        assert effect.kappa == pytest.approx(same.kappa)
        assert effect.sums.sort(effect.keys)["s0_all"].to_list() == pytest.approx(
            same.sums.sort(effect.keys)["s0_all"].to_list()
        )
