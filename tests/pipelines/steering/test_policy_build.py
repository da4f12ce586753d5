"""Putting a policy together: arms by state, rates within bounds, lists; numbers that hardly move stay as they are."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from arm_world import ARMS, simulate

from pipelines.steering.compiled import Compiled
from pipelines.steering.policy import Limits
from pipelines.steering.policy_build import PEOPLE, Beliefs, Decided, beliefs, beliefs_of, build
from pipelines.steering.posterior import posterior
from store import arms, exploration, never_explore

_NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def _arms(**states):
    return pl.DataFrame(
        [
            {
                "agent": "shop", "arm": name, "kind": "prompt", "state": state, "baseline": name == "a",
                "description": None, "definition": f'{{"prompt_version": "{name}"}}', "origin": "api",
                "state_reason": None, "state_by": "Ada", "created_at": _NOW, "updated_at": _NOW,
            }
            for name, state in states.items()
        ],
        schema=arms.ARMS,
    )  # fmt: skip


def _bounds(*rows):
    whole = dict.fromkeys(exploration.BOUNDS.names()) | {"updated_by": "Ada", "updated_at": _NOW}
    return pl.DataFrame([whole | row for row in rows], schema=exploration.BOUNDS)


def _never(*rows):
    whole = {"agent": "shop", "reason": "r", "set_by": "Ada", "set_at": _NOW}
    return pl.DataFrame([whole | {"kind": kind, "unit": unit} for kind, unit in rows], schema=never_explore.ENTRIES)


def _rates(*rows):
    return pl.DataFrame(rows, schema=exploration.APPLIED, orient="row")


def _decided(states=None, *, rates=(), bounds=(), never=(), **more):
    return Decided(
        _arms(**(states or dict.fromkeys(ARMS, "enabled"))), _rates(*rates), _bounds(*bounds), _never(*never), **more
    )


@pytest.fixture(scope="module")
def held():
    world = simulate(np.random.default_rng(1), people=60)
    people = world.rows.select("user_id", "segment").unique()
    extra = pl.DataFrame({"user_id": ["quiet"], "segment": ["north"]}, schema=PEOPLE)
    return beliefs(
        posterior(world.rows, ARMS), pl.concat([people, extra]), opted_out=frozenset({"u000003", "elsewhere"}),
        reward_model_id=7,
    )  # fmt: skip


def _build(held, decided=None, **more):
    return build("shop", held, decided or _decided(), built_at=_NOW, salt="salt", **more)


def test_the_numbers_are_those_of_the_posterior(held):
    policy = _build(held)
    assert [arm.name for arm in policy.arms] == list(ARMS)
    np.testing.assert_array_equal(policy.mean, held.mean)
    np.testing.assert_array_equal(policy.segment_sd, held.segment_sd)
    row = policy.users.index["u000007"]
    place = held.people["user_id"].to_list().index("u000007")
    np.testing.assert_array_equal(policy.users.mean[row], held.user_mean[place])
    assert policy.segments[policy.users.segment[row]] == held.people["segment"][place]
    assert np.isnan(policy.users.mean[policy.users.index["quiet"]]).all()
    assert (policy.salt, policy.reward_model_id, policy.version) == ("salt", 7, 0)


def test_it_can_be_decided_by(held):
    for states in ({"a": "enabled"}, {"a": "off", "b": "shadow"}, {"b": "enabled", "new": "enabled"}):
        Compiled(_build(held, _decided(states)))


def test_arms_that_are_off_are_out_and_shadows_are_in(held):
    policy = _build(held, _decided({"a": "enabled", "b": "off", "c": "shadow", "d": "enabled"}))
    assert {arm.name: arm.state for arm in policy.arms} == {"a": "enabled", "c": "shadow", "d": "enabled"}
    np.testing.assert_array_equal(policy.mean, held.mean[[0, 2, 3]])
    np.testing.assert_array_equal(policy.users.mean[policy.users.index["u000007"]].shape, (3,))


def test_where_no_arm_is_enabled_the_baseline_is_what_runs(held):
    policy = _build(held, _decided({"a": "off", "b": "shadow", "c": "off"}))
    assert [(arm.name, arm.state) for arm in policy.arms] == [("a", "off"), ("b", "shadow")]


def test_an_arm_of_which_nothing_is_known_is_as_good_as_the_others_for_everyone(held):
    policy = _build(held, _decided({"a": "enabled", "b": "enabled", "new": "enabled"}))
    place = [arm.name for arm in policy.arms].index("new")
    assert policy.basis[place] == "prior"
    assert policy.mean[place] == pytest.approx(held.mean.mean())
    assert policy.sd[place] >= 0.1
    row = policy.users.index["u000007"]
    at = held.people["user_id"].to_list().index("u000007")
    assert policy.users.mean[row, place] == pytest.approx(held.user_mean[at].mean(), abs=1e-6)
    assert np.isnan(policy.users.mean[policy.users.index["quiet"]]).all()


def test_an_agent_without_data_has_a_policy():
    policy = _build(Beliefs.nothing(), _decided({"a": "enabled", "b": "enabled"}, never=[("user", "u1")]))
    assert (policy.mean.tolist(), policy.n.tolist()) == ([0.5, 0.5], [0, 0])
    assert policy.users.opted_out[policy.users.index["u1"]]
    Compiled(policy)


def test_rates_come_from_user_then_segment_then_agent(held):
    rates = [("agent", "", 0.1), ("segment", "north", 0.05), ("user", "u000007", 0.02), ("user", "unseen", 0.03)]
    policy = _build(held, _decided(rates=rates))
    compiled = Compiled(policy)
    assert policy.rate == 0.1
    assert compiled.standing("u000007", None).allowed_rate == pytest.approx(0.02)
    assert compiled.standing("unseen", None).allowed_rate == pytest.approx(0.03)
    assert compiled.standing("quiet", None).allowed_rate == pytest.approx(0.05)
    assert compiled.standing(None, None).allowed_rate == 0.1
    unset = np.isnan(policy.users.rate)
    assert unset.sum() == len(policy.users.index) - 2


def test_what_operators_allow_holds_at_once_for_rates_that_were_applied_before(held):
    rates = [("agent", "", 0.15), ("segment", "north", 0.12), ("user", "u000007", 0.18), ("user", "u000008", 0.001)]
    bounds = [
        {"scope": "agent", "unit": "", "cap": 0.1, "floor": 0.02, "daily_regret_budget": 3.0, "solicit_rate": 0.5},
        {"scope": "segment", "unit": "south", "cap": 0.04}, {"scope": "user", "unit": "u000009", "cap": 0.0},
        {"scope": "user", "unit": "fresh", "floor": 0.08},
    ]  # fmt: skip
    policy = _build(held, _decided(rates=rates, bounds=bounds))
    compiled = Compiled(policy)

    def rate(user):
        return compiled.standing(user, None).allowed_rate

    assert (policy.rate, policy.daily_regret_budget, policy.solicit_rate) == (0.1, 3.0, 0.5)
    southern = held.people.filter(segment="south")["user_id"].to_list()
    assert {rate(user) for user in southern if user not in ("u000003", "u000007", "u000008", "u000009")} == {0.04}
    assert rate("quiet") == pytest.approx(0.1)
    assert rate("u000007") <= np.float32(0.1)
    assert rate("u000009") == 0.0
    # Someone who dislikes exploration may be below the agent's floor.
    assert rate("u000008") == pytest.approx(0.001)
    assert rate("fresh") >= 0.08


def test_nobody_on_a_list_is_explored(held):
    never = [("user", "u000005"), ("user", "stranger"), ("segment", "south"), ("task", "wire money")]
    compiled = Compiled(_build(held, _decided(rates=[("user", "u000005", 0.2)], never=never)))
    for user in ("u000003", "u000005", "stranger", "elsewhere"):
        assert compiled.standing(user, None).allowed_rate == 0.0
    southern = held.people.filter(segment="south")["user_id"][0]
    assert compiled.standing(southern, None).allowed_rate == 0.0
    assert compiled.standing("quiet", "wire money").allowed_rate == 0.0
    assert compiled.standing("quiet", "other").allowed_rate > 0.0


def test_limits_of_arms_that_are_out_are_out(held):
    decided = _decided(
        {"a": "enabled", "b": "off"}, limits=Limits(max_spend_usd=1.0),
        arm_limits={"a": Limits(max_spend_usd=0.5), "b": Limits(max_spend_usd=0.1)},
    )  # fmt: skip
    policy = _build(held, decided)
    assert (policy.limits.max_spend_usd, set(policy.arm_limits)) == (1.0, {"a"})


def test_users_that_hardly_move_keep_their_numbers(held):
    before = _build(held)
    moved = held.user_mean + np.float32(0.01) * held.user_sd
    far = moved.copy()
    far[7] += 1.0 * held.user_sd[7]
    after = _build(
        replace(held, user_mean=far, mean=held.mean + 1e-12, segment_mean=held.segment_mean + 1e-12), previous=before
    )
    np.testing.assert_array_equal(after.mean, before.mean)
    np.testing.assert_array_equal(after.segment_mean, before.segment_mean)
    changed = np.flatnonzero((after.users.mean != before.users.mean).any(axis=1) & ~np.isnan(after.users.mean[:, 0]))
    user = held.people["user_id"][7]
    assert changed.tolist() == [after.users.index[user]]
    np.testing.assert_array_equal(after.users.mean[changed[0]], far[7])


def test_numbers_are_kept_whatever_order_arms_and_users_are_in(held):
    before = _build(held)
    order = [2, 0, 3, 1]
    shuffled = replace(
        before, arms=tuple(before.arms[at] for at in order), mean=before.mean[order], sd=before.sd[order],
        segment_mean=before.segment_mean[:, order], segment_sd=before.segment_sd[:, order],
        users=replace(before.users, mean=before.users.mean[:, order], sd=before.users.sd[:, order]),
    )  # fmt: skip
    after = _build(replace(held, user_mean=held.user_mean + np.float32(1e-6)), previous=shuffled)
    np.testing.assert_array_equal(after.users.mean, before.users.mean)


def test_the_beliefs_of_a_policy_build_that_policy(held):
    before = _build(held)
    again = _build(beliefs_of(before), previous=before)
    for name in ("mean", "sd", "n", "segment_mean", "segment_sd", "segment_rate"):
        np.testing.assert_array_equal(getattr(again, name), getattr(before, name))
    for name in ("segment", "mean", "sd", "rate", "opted_out"):
        np.testing.assert_array_equal(getattr(again.users, name), getattr(before.users, name))
    assert again.users.index == before.users.index
