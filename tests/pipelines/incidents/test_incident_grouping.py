"""Findings of one cause become one group, and every finding is in one group or lone."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.incidents.grouping import FINDINGS, SCANNED, GroupingConfig, group
from store.errors import SettingsError

START = datetime(2026, 10, 1, tzinfo=UTC)


def finding(at, *, level="user", user=None, segment=None, agent=None, metric="reward", effect=-0.2, width=2.0, q=0.01):
    """A flagged finding whose change happened `at` days after the start, give or take `width`."""
    moment = START + timedelta(days=float(at))
    return {
        "level": level, "user_id": user, "segment": segment, "agent": agent, "metric": metric, "changed_at": moment,
        "changed_from": moment - timedelta(days=width), "changed_to": moment + timedelta(days=width),
        "before_mean": 0.7, "before_n": 50, "after_mean": 0.7 + effect, "after_n": 40, "effect": effect,
        "effect_sd": 0.05, "q_value": q,
    }  # fmt: skip


def frame(rows):
    return pl.DataFrame(rows, schema=FINDINGS, orient="row")


def scanned(**users):
    return pl.DataFrame({"segment": list(users), "users": list(users.values())}, schema=SCANNED)


def scattered(random, users, segment, around, share):
    """Findings on users whose changes are estimated around a day, and as many users as drift whenever they do."""
    rows = []
    for i in range(users):
        if random.random() < share:
            rows.append(finding(around + random.normal(0, 1.5), user=f"{segment}{i}", segment=segment))
        elif random.random() < 0.02:
            rows.append(finding(random.uniform(0, 120), user=f"{segment}{i}", segment=segment, effect=0.3))
    return rows


@pytest.mark.parametrize("seed", range(5))
def test_a_change_of_everybody_is_one_group_however_its_users_scatter(seed):
    random = np.random.default_rng(seed)
    rows = [row for name in "abc" for row in scattered(random, 1_000, name, 60, 0.4)]
    rows += [
        finding(60.2, level="population", agent="shop", width=1),
        finding(59.5, level="population", agent="shop", metric="latency", effect=1.0, width=1),
        finding(60.1, level="segment", segment="b", agent="shop", width=1),
    ]
    groups, lone = group(frame(rows), scanned(a=1_000, b=1_000, c=1_000))
    assert len(groups) == 1
    assert groups[0].segments == ()
    assert groups[0].agent == "shop"
    assert groups[0].metrics == ["latency", "reward"]  # what moved first
    assert abs((groups[0].changed_at - START).total_seconds() / 86_400 - 59.5) < 0.01
    assert lone.filter(pl.col("effect") < 0).height <= 0.01 * groups[0].findings.height
    assert (groups[0].findings["effect"] == 0.3).sum() < 0.25 * lone.height  # drifters swept along


def test_users_who_drift_at_their_own_times_are_no_incident():
    random = np.random.default_rng(3)
    rows = [finding(random.uniform(0, 120), user=f"u{i}", segment="ab"[i % 2]) for i in range(100)]
    groups, lone = group(frame(rows), scanned(a=2_500, b=2_500))
    assert groups == []
    assert lone.height == 100


def test_the_share_of_a_segment_that_makes_an_incident_is_more_than_one_in_twenty():
    rows = [finding(30, user=f"u{i}", segment="a") for i in range(6)]
    assert [one.users for one in group(frame(rows), scanned(a=119, b=500))[0]] == [6]
    assert group(frame(rows), scanned(a=120, b=500))[0] == []
    assert group(frame(rows[:4]), scanned(a=20, b=500))[0] == []  # so few are no incident whatever their share


def test_a_segment_that_moves_alone_leaves_the_others_lone():
    rows = [finding(30, user=f"a{i}", segment="a") for i in range(40)]
    rows += [finding(30, user=f"b{i}", segment="b") for i in range(3)]
    rows += [finding(30, level="population", agent="shop")]  # a large segment moves the mean of everybody
    groups, lone = group(frame(rows), scanned(a=200, b=200, c=200))
    assert [one.segment for one in groups] == ["a"]
    assert groups[0].findings["level"].value_counts().sort("level").rows() == [("population", 1), ("user", 40)]
    assert groups[0].users == 40
    assert groups[0].scanned == 200
    assert set(lone["user_id"]) == {"b0", "b1", "b2"}


def test_two_changes_weeks_apart_are_two_groups():
    rows = [finding(day, user=f"u{i}-{day}", segment="a") for day in (20, 60) for i in range(30)]
    groups, lone = group(frame(rows), scanned(a=300))
    assert sorted((one.changed_at - START).days for one in groups) == [20, 60]
    assert lone.is_empty()


def test_one_finding_on_everybody_is_an_incident_by_itself():
    groups, lone = group(frame([finding(10, level="population", agent="shop")]), scanned())
    assert [(one.users, one.scanned, one.agent) for one in groups] == [(0, 0, "shop")]
    assert lone.is_empty()


def test_nothing_gives_nothing():
    groups, lone = group(frame([]), scanned())
    assert groups == []
    assert lone.is_empty()


@pytest.mark.parametrize("values", [{"share": 0.0}, {"share": 1.0}, {"least_users": 0}, {"least_days": 9.0}])
def test_a_config_that_cannot_be_is_refused(values):
    with pytest.raises(SettingsError):
        GroupingConfig(**values)


_ROWS = st.lists(
    st.builds(
        lambda at, level, user, segment, agent, metric, effect, width, dated: {
            **finding(
                at, level=level, user=user if level == "user" else None,
                segment=None if level == "population" else segment, agent=agent, metric=metric, effect=effect,
                width=width,
            ),
            **({} if dated else {"changed_at": None, "changed_from": None, "changed_to": None}),
        },
        st.floats(0, 40), st.sampled_from(["user", "user", "user", "segment", "population"]),
        st.sampled_from([f"u{i}" for i in range(30)]), st.sampled_from([None, "a", "b"]),
        st.sampled_from([None, "shop", "desk"]), st.sampled_from(["reward", "latency", "cost"]), st.floats(-1, 1),
        st.floats(0, 30), st.sampled_from([True, True, True, True, False]),
    ),
    max_size=60,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(_ROWS, st.integers(0, 300), st.integers(0, 300))
def test_every_finding_is_in_one_group_or_lone(rows, users_a, users_b):
    whole = frame(rows)
    groups, lone = group(whole, scanned(a=users_a, b=users_b))
    parts = [*(one.findings for one in groups), lone]
    key = list(FINDINGS)
    assert pl.concat(parts).sort(key).equals(whole.sort(key))
    for one in groups:
        assert one.changed_from <= one.changed_at <= one.changed_to
        assert set(one.metrics) == set(one.findings["metric"])
        assert one.moved["moved_at"].is_sorted()
        assert one.users == one.findings["user_id"].drop_nulls().n_unique()
