"""Policies: each version comes back exactly as published, whatever came later, and only what differs is written."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import policies, result_rows
from store.clock import FixedClock
from store.connection import Store
from store.errors import NotFound
from store.policy import Arm, Limits, Policy, Users

_NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
_ARMS = ("a", "b", "c", "d")
_SEGMENTS = ("north", "south")


def _policy(people, names=("a", "b"), *, agent="shop", segments=_SEGMENTS, seed=0, **more):
    """`people`: user_id to (segment or None, numbers or None, rate or None, opted out)."""
    rng = np.random.default_rng(seed)
    width = len(names)
    ids = list(people)
    segment = [segments.index(one[0]) if one[0] in segments else -1 for one in people.values()]
    numbers = np.full((len(ids), 2, width), np.nan, dtype=np.float32)
    for row, one in enumerate(people.values()):
        if one[1] is not None:
            numbers[row] = np.random.default_rng(one[1]).random((2, width), dtype=np.float32)
    rate = np.array([np.nan if one[2] is None else one[2] for one in people.values()], dtype=np.float32)
    out = np.array([one[3] for one in people.values()], dtype=np.bool_)
    users = Users(
        dict(zip(ids, range(len(ids)), strict=True)), np.array(segment, dtype=np.int32), numbers[:, 0], numbers[:, 1],
        rate, out,
    )  # fmt: skip
    segment_mean = rng.random((len(segments), width))
    if segments:
        segment_mean[0] = np.nan
    policy = Policy(
        agent=agent, version=0, built_at=_NOW, reward_model_id=3, salt="salt",
        arms=tuple(Arm(name, "prompt", "enabled", name == "a", {"prompt_version": name}) for name in names),
        mean=rng.random(width), sd=rng.random(width), n=np.arange(width, dtype=np.int64), rate=1 / 3,
        propensity_floor=0.01, segments=tuple(segments), segment_mean=segment_mean, segment_sd=segment_mean / 3,
        segment_rate=np.array([np.nan, 0.2][: len(segments)]), users=users, never_segments=frozenset({"south"}),
        never_tasks=frozenset({"wire money", "delete"}), daily_regret_budget=None, solicit_rate=0.02,
        limits=Limits(off_limits_tools=("rm", "dd"), max_spend_usd=0.5), arm_limits={"a": Limits(min_delay_seconds=2)},
        instructions="Be kind.\n", lesson_ids=("l1", "l2"), basis=("prior",) * width,
    )  # fmt: skip
    return replace(policy, **more)


def _shown(policy, *, of_version=False):
    """All that a policy says, its users by id, in a form that compares; NaN as text."""
    said = {field.name: getattr(policy, field.name) for field in fields(Policy)}
    users, segments = said.pop("users"), policy.segments
    for name in () if of_version else ("version",):
        said.pop(name)
    said = {name: _exact(value) if isinstance(value, np.ndarray) else value for name, value in said.items()}
    said["users"] = {
        user: (
            segments[users.segment[row]] if users.segment[row] >= 0 else None, _exact(users.mean[row]),
            _exact(users.sd[row]), _exact(users.rate[row : row + 1]), bool(users.opted_out[row]),
        )
        for user, row in users.index.items()
    }  # fmt: skip
    return said


def _exact(array):
    if array.dtype.kind != "f":
        return (array.dtype.str, array.tolist())
    return (array.dtype.str, array.shape, np.where(np.isnan(array), -1, array).tobytes())


_PERSON = st.tuples(
    st.sampled_from([None, *_SEGMENTS]), st.none() | st.integers(0, 3), st.sampled_from([None, 0.0, 0.1, 0.3]),
    st.booleans(),
)  # fmt: skip
_PEOPLE = st.dictionaries(st.sampled_from(["u1", "u2", "ü3", "u 4", "U5"]), _PERSON, max_size=5)
_NAMES = st.lists(st.sampled_from(_ARMS), unique=True, max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(st.tuples(_PEOPLE, _NAMES, st.sampled_from([(), _SEGMENTS, _SEGMENTS[::-1]])), min_size=1, max_size=6))
def test_every_version_comes_back_as_it_was_published(steps):
    store = Store.open(None, clock=FixedClock(_NOW), threads=1)
    try:
        published = {}
        for number, (people, names, segments) in enumerate(steps):
            policy = _policy(people, tuple(names), segments=segments, seed=number % 2)
            version = policies.publish(store, policy, cause="schedule")
            expected = max(published, default=0)
            if version is None:
                assert _shown(published[expected]) == _shown(policy)
                continue
            assert version == expected + 1
            published[version] = policy
        for version, policy in published.items():
            held = policies.at(store, "shop", version)
            assert _shown(held) == _shown(policy)
            assert held.version == version
        assert [_shown(each) for each in policies.newest(store)] == [_shown(published[max(published)])]
    finally:
        store.close()


def _rows(store):
    with store.read() as reader:
        return reader.any_frame("SELECT * FROM policy_users ORDER BY agent, version, user_id")


_SOME = {"u1": ("north", 1, None, False), "u2": (None, 2, 0.1, False), "u3": ("south", None, None, True)}


def test_only_users_that_differ_are_written(store):
    assert policies.publish(store, _policy(_SOME), cause="schedule") == 1
    changed = {**_SOME, "u2": (None, 3, 0.1, False), "u4": ("north", 1, None, False)}
    del changed["u3"]
    assert policies.publish(store, _policy(changed), cause="schedule") == 2
    rows = _rows(store).filter(version=2)
    assert rows["user_id"].to_list() == ["u2", "u3", "u4"]
    assert rows["removed"].to_list() == [False, True, False]


def test_nothing_is_published_when_nothing_differs(store, clock):
    policies.publish(store, _policy(_SOME), cause="schedule")
    clock.moment += timedelta(hours=1)
    later = replace(_policy(_SOME), built_at=clock.now(), version=77)
    assert policies.publish(store, later, cause="schedule") is None
    assert policies.publish(store, replace(later, reward_model_id=4), cause="schedule") == 2


def test_an_arm_switched_off_and_on_again_changes_no_user(store):
    whole = _policy(_SOME, ("a", "b", "c"))
    policies.publish(store, whole, cause="schedule")
    kept = [0, 2]
    users = replace(whole.users, mean=whole.users.mean[:, kept], sd=whole.users.sd[:, kept])
    less = replace(
        whole, arms=(whole.arms[0], whole.arms[2]), mean=whole.mean[kept], sd=whole.sd[kept], n=whole.n[kept],
        segment_mean=whole.segment_mean[:, kept], segment_sd=whole.segment_sd[:, kept], users=users,
    )  # fmt: skip
    assert policies.publish(store, less, cause="arms") == 2
    assert policies.publish(store, whole, cause="arms") == 3
    assert _rows(store)["version"].unique().to_list() == [1]
    assert [_shown(policies.at(store, "shop", version)) for version in (1, 2, 3)] == [
        _shown(whole), _shown(less), _shown(whole)
    ]  # fmt: skip


def test_what_an_interrupted_publish_left_is_never_seen(store, monkeypatch):
    policies.publish(store, _policy(_SOME), cause="schedule")
    with monkeypatch.context() as patch:
        patch.setattr(policies, "_list", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            policies.publish(store, _policy({"u1": (None, 3, None, False), "u9": (None, 3, None, False)}), cause="arms")
    assert _rows(store)["version"].max() == 2
    assert [each.version for each in policies.newest(store)] == [1]
    assert _shown(policies.newest(store)[0]) == _shown(_policy(_SOME))
    after = _policy({**_SOME, "u1": (None, 2, None, False)})
    assert policies.publish(store, after, cause="schedule") == 2
    assert _shown(policies.at(store, "shop", 2)) == _shown(after)


def test_users_come_in_slices(store, monkeypatch):
    monkeypatch.setattr(result_rows, "SLICE", 2)
    people = {f"u{number}": (None, number, None, False) for number in range(7)}
    policies.publish(store, _policy(people), cause="schedule")
    assert _shown(policies.newest(store)[0]) == _shown(_policy(people))


def test_followers_hear_of_each_version_after_it_can_be_read(store, caplog):
    heard = []

    def failing(agent):
        raise RuntimeError("gone")

    def listener(agent):
        heard.append((agent, [each.version for each in policies.newest(store, agent)]))

    policies.follow(store, failing)
    policies.follow(store, listener)
    policies.publish(store, _policy(_SOME), cause="schedule")
    policies.publish(store, _policy(_SOME), cause="schedule")
    policies.publish(store, _policy({}, agent="desk"), cause="schedule")
    assert heard == [("shop", [1]), ("desk", [1])]
    assert "failed at version 1 of shop" in caplog.text
    policies.unfollow(store, listener)
    policies.unfollow(store, listener)
    policies.publish(store, _policy({}), cause="schedule")
    assert len(heard) == 2


def test_agents_do_not_mix(store):
    policies.publish(store, _policy(_SOME), cause="schedule")
    policies.publish(store, _policy({"u1": (None, 3, None, False)}, agent="desk"), cause="schedule")
    assert [(each.agent, each.version, len(each.users.index)) for each in policies.newest(store)] == [
        ("desk", 1, 1), ("shop", 1, 3)
    ]  # fmt: skip
    assert policies.newest(store, "nobody") == []


def test_an_unknown_version_is_not_found(store):
    policies.publish(store, _policy(_SOME), cause="schedule")
    with pytest.raises(NotFound, match="shop 2"):
        policies.at(store, "shop", 2)


def test_versions_are_listed_newest_first(store):
    policies.publish(store, _policy(_SOME), cause="schedule")
    policies.publish(store, _policy({}), cause="guardrail")
    listed = policies.versions(store, "shop")
    assert listed.select("version", "cause").rows() == [(2, "guardrail"), (1, "schedule")]
    assert listed.schema == pl.Schema(policies.VERSIONS)
