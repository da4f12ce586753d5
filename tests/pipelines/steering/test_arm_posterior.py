"""Posteriors of arms where the truth is known: coverage for agent, segments and users, confounding, delay, no data."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from arm_world import ARMS, simulate

from pipelines.steering.posterior import LEAST_DRAWN, MOST_YOUNG, NOTHING_KNOWN, ROWS, delay_weights, posterior

_REPLICATIONS = 150
_NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def _pairs():
    return [(a, b) for a in range(len(ARMS)) for b in range(a)]


def _replicate(replications=_REPLICATIONS, seed=1, **world):
    """Shares of 95 % intervals that hold the truth: arms of the agent, users' means, differences of users' arms."""
    rng = np.random.default_rng(seed)
    arms, levels, differences = [], [], []
    for _ in range(replications):
        drawn = simulate(rng, **world)
        held = posterior(drawn.rows, ARMS)
        arms.append(np.abs(held.mean - drawn.arms) <= 1.96 * held.sd)
        place = {user: row for row, user in enumerate(drawn.ids)}
        truth = drawn.users[[place[user] for user in held.users]]
        levels.append((np.abs(held.user_mean - truth) <= 1.96 * held.user_level_sd).ravel())
        differences += [
            np.abs(held.user_mean[:, a] - held.user_mean[:, b] - truth[:, a] + truth[:, b])
            <= 1.96 * np.hypot(held.user_sd[:, a], held.user_sd[:, b])
            for a, b in _pairs()
        ]
    return np.mean(arms), np.mean(np.concatenate(levels)), np.mean(np.concatenate(differences))


@pytest.mark.thorough
def test_intervals_hold_the_truth_as_often_as_they_say():
    arms, levels, differences = _replicate(people=120)
    assert 0.93 <= arms <= 0.97
    assert 0.93 <= levels <= 0.97
    assert 0.90 <= differences <= 0.97


@pytest.mark.thorough
def test_draws_that_follow_the_user_are_corrected_by_their_propensity():
    assert 0.92 <= _replicate(80, people=120, steering=0.7)[0] <= 0.98
    assert _replicate(20, people=120, steering=0.7, logged=False)[0] < 0.6


def test_a_user_row_moves_towards_what_the_user_showed():
    world = simulate(np.random.default_rng(2), people=400, traces=12, user_specific=0.15)
    held = posterior(world.rows, ARMS)
    place = {user: row for row, user in enumerate(world.ids)}
    rows = [place[user] for user in held.users]
    truth, segment = world.users[rows], held.segment_mean[[("north", "south", "west").index(s) for s in np.array(
        ["north", "south", "west"])[world.segment[rows]]]]  # fmt: skip
    assert np.mean((held.user_mean - truth) ** 2) < 0.5 * np.mean((segment - truth) ** 2)


def test_the_basis_says_what_an_arm_rests_on():
    world = simulate(np.random.default_rng(3), unused=("d",))
    held = posterior(world.rows, ARMS)
    assert held.basis == ("randomised", "randomised", "randomised", "prior")
    assert posterior(world.rows.with_columns(propensity=pl.lit(None, pl.Float64)), ARMS).basis[0] == "observational"
    few = world.rows.with_columns(propensity=pl.when(pl.int_range(pl.len()) < LEAST_DRAWN - 1).then("propensity"))
    assert posterior(few, ARMS).basis[0] == "observational"


def test_an_arm_without_data_may_be_the_best():
    held = posterior(simulate(np.random.default_rng(4), unused=("d",)).rows, ARMS)
    assert held.n.tolist()[3] == 0
    assert held.mean[3] == pytest.approx(held.mean[:3].mean(), abs=0.02)
    assert held.sd[3] >= 0.1 > 3 * held.sd[:3].max()
    assert held.mean[3] + held.sd[3] > held.mean.max()
    assert (held.segment_sd[:, 3] >= 0.1).all()


def test_young_and_unknown_traces_do_not_count():
    rows = simulate(np.random.default_rng(5)).rows
    extra = rows.with_columns(mean=pl.lit(1.0), weight=pl.lit(0.0))
    other = rows.with_columns(mean=pl.lit(1.0), arm=pl.lit("elsewhere"))
    both, alone = posterior(pl.concat([rows, extra, other]), ARMS), posterior(rows, ARMS)
    np.testing.assert_allclose(both.mean, alone.mean, atol=1e-12)
    assert (both.young, alone.young) == (rows.height, 0)


def test_an_agent_without_any_trace_has_arms_of_which_nothing_is_known():
    held = posterior(pl.DataFrame(schema=ROWS), ("a", "b"))
    assert (held.mean.tolist(), held.sd.tolist()) == ([NOTHING_KNOWN[0]] * 2, [NOTHING_KNOWN[1]] * 2)
    assert (held.users, held.segments, held.basis) == ((), (), ("prior", "prior"))
    assert posterior(pl.DataFrame(schema=ROWS), ()).mean.shape == (0,)


@pytest.mark.parametrize("lost", [["user_id"], ["segment"], ["user_id", "segment", "propensity"]])
def test_what_is_not_stated_is_done_without(lost):
    rows = simulate(np.random.default_rng(6)).rows.with_columns(pl.lit(None, ROWS[name]).alias(name) for name in lost)
    held = posterior(rows, ARMS)
    assert np.isfinite([held.mean, held.sd]).all()
    assert (not held.users) == ("user_id" in lost)
    assert (not held.segments) == ("segment" in lost)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_handful_of_traces_gives_finite_numbers(rows):
    held = posterior(simulate(np.random.default_rng(7)).rows.head(rows), ARMS)
    for array in (held.mean, held.sd, held.segment_mean, held.segment_sd, held.user_mean, held.user_sd):
        assert np.isfinite(array).all()
    assert (held.sd > 0.05).all()


def test_one_arm_alone_can_be_held():
    held = posterior(simulate(np.random.default_rng(8)).rows.filter(arm="a"), ("a",))
    assert (held.sd > 0).all()
    assert (held.segment_sd > 0).all()


def test_users_are_listed_once_and_in_order():
    held = posterior(simulate(np.random.default_rng(9)).rows, ARMS)
    assert list(held.users) == sorted(set(held.users))


def _times(*hours):
    return pl.Series(
        "done_at", [None if h is None else _NOW - timedelta(hours=h) for h in hours], pl.Datetime("us", "UTC")
    )


_DELAYS = np.linspace(0, 10, 101).tolist()  # even delays up to ten hours: 95 % have come after 9.5


def test_young_traces_are_left_out_where_enough_are_older():
    weight = delay_weights(_times(1, 9.4, 9.6, 100, 200, None), _NOW, _DELAYS)
    assert weight.tolist() == [0, 0, 1, 1, 1, 1]


def test_where_nearly_all_are_young_they_count_for_those_whose_signals_are_to_come():
    weight = delay_weights(_times(1, 2.5, 5, 8, 100), _NOW, _DELAYS)
    np.testing.assert_allclose(weight, [MOST_YOUNG, 4, 2, 1.25, 1], rtol=0.05)
    assert weight.max() <= MOST_YOUNG


def test_the_weights_undo_the_missing_signals():
    rng = np.random.default_rng(10)
    age, delay, good = rng.uniform(0.5, 9, 40_000), rng.uniform(0, 10, 40_000), rng.random(40_000) < 0.3
    age[good] = rng.uniform(0.5, 4, good.sum())  # the good ones are newer, so fewer of their signals have come
    seen = delay <= age
    weight = delay_weights(_times(*age[seen]), _NOW, _DELAYS)
    assert abs(np.average(good[seen], weights=weight) - 0.3) < 0.4 * abs(good[seen].mean() - 0.3)


@pytest.mark.parametrize("delays", [None, []])
def test_without_known_delays_all_count(delays):
    assert delay_weights(_times(0, None, 5), _NOW, delays).tolist() == [1, 1, 1]


def test_no_traces_have_no_weights():
    assert delay_weights(_times(), _NOW, _DELAYS).shape == (0,)


def test_nobody_is_young_for_more_than_two_weeks():
    late = np.linspace(0, 1000, 101).tolist()
    assert delay_weights(_times(300, 337, 950, 2000), _NOW, late).tolist() == [0, 1, 1, 1]


def test_signals_that_come_at_once_make_no_trace_young():
    assert delay_weights(_times(0, 1, 5), _NOW, [0.0] * 101).tolist() == [1, 1, 1]
