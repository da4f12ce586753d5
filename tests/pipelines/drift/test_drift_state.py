"""States between full scans: as if every value had been counted one by one, late ones counted afresh."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.drift.state import ALLOWANCE, THRESHOLD, VALUES, advance, begin, recount
from store.drift_states import STATES

START = datetime(2026, 6, 1, tzinfo=UTC)


def values(user, numbers, first=0):
    times = [START + timedelta(hours=first + at) for at in range(len(numbers))]
    return pl.DataFrame(
        {"user_id": user, "metric": "cost", "occurred_at": times, "value": [float(number) for number in numbers]},
        schema=VALUES,
    )


def one(frame, user):
    return frame.filter(user_id=user).row(0, named=True)


def by_hand(numbers, mean, sd):
    """Page's recursion, value by value."""
    plus = minus = 0.0
    for number in numbers:
        z = 0.0 if number == mean else float(np.sign(number - mean)) * 4 if sd == 0 else (number - mean) / sd
        z = min(max(z, -4.0), 4.0)
        plus, minus = max(0.0, plus + z - ALLOWANCE), max(0.0, minus - z - ALLOWANCE)
    return plus, minus


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=1, max_size=12), st.lists(st.floats(-50, 50), min_size=1, max_size=12))
def test_values_added_count_as_if_they_had_been_there(old, new):
    states = begin(pl.concat([values("a", old), values("b", [1.0])]))
    moved = advance(
        states, pl.concat([values("b", [2.0], first=500), values("a", new, first=100)]).sample(fraction=1.0)
    )
    assert moved.recount.is_empty()
    assert moved.states.schema == STATES
    row = one(moved.states, "a")
    both = np.array(old + new)
    assert (row["n"], row["minimum"], row["maximum"]) == (both.size, both.min(), both.max())
    assert row["mean"] == pytest.approx(both.mean(), abs=1e-9)
    assert row["m2"] == pytest.approx(((both - both.mean()) ** 2).sum(), abs=1e-6)
    sd = one(states, "a")["reference_sd"]
    if sd > 1e-6:
        expected = by_hand(new, one(states, "a")["reference_mean"], sd)
        assert (row["s_plus"], row["s_minus"]) == pytest.approx(expected, abs=1e-6)
        assert row["suspected"] == (max(expected) > THRESHOLD)
    assert one(moved.states, "b")["n"] == 2


def test_a_shift_is_suspected_soon_and_rest_is_not():
    random = np.random.default_rng(3)
    steady, moved = random.normal(size=(2, 60))
    states = begin(pl.concat([values("steady", steady), values("moved", moved)]))
    fresh = random.normal(size=15)
    after = advance(states, pl.concat([values("steady", fresh, 100), values("moved", fresh + 1.5, 100)])).states
    assert not one(after, "steady")["suspected"]
    assert one(after, "moved")["suspected"]
    assert one(after, "moved")["s_plus"] > THRESHOLD


def test_late_values_have_their_users_counted_afresh():
    states = begin(pl.concat([values("late", range(10)), values("on time", range(10))]))
    fresh = pl.concat([values("late", [99.0], first=3), values("late", [1.0], first=50), values("on time", [1.0], 50)])
    after = advance(states, fresh)
    assert after.recount.rows() == [("late", "cost")]
    assert after.states["user_id"].to_list() == ["on time"]
    again = recount(pl.concat([values("late", range(10)), fresh.filter(user_id="late")]).sort("occurred_at"))
    row = one(again, "late")
    assert (row["n"], row["maximum"]) == (12, 99.0)
    known = [0, 1, 2, 3, 99, 4, 5, 6, 7, 8, 9, 1]
    assert (row["s_plus"], row["s_minus"]) == pytest.approx(by_hand(known, np.mean(known), np.std(known, ddof=1)))


def test_equal_values_and_values_that_are_none():
    states = begin(values("same", [5.0, 5.0, float("nan"), float("inf"), 5.0]))
    assert one(states, "same")["n"] == 3
    still = advance(states, values("same", [5.0, 5.0], first=20)).states
    assert (one(still, "same")["s_plus"], one(still, "same")["s_minus"]) == (0.0, 0.0)
    other = advance(states, values("same", [5.1, 5.1, 5.1, float("nan")], first=20)).states
    assert one(other, "same")["suspected"]
    assert one(other, "same")["n"] == 6


def test_users_without_a_state_begin_one():
    after = advance(pl.DataFrame(schema=STATES), values("new", [1.0, 3.0]))
    assert (one(after.states, "new")["n"], one(after.states, "new")["mean"]) == (2, 2.0)
    assert advance(after.states, pl.DataFrame(schema=VALUES)).states.is_empty()
    assert recount(pl.DataFrame(schema=VALUES)).is_empty()
