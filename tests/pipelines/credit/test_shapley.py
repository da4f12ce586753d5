"""Shapley values: the axioms, the definition itself as oracle, sampling, and shares of spans that ran at once."""

from itertools import permutations

import numpy as np
import polars as pl
import pytest
from credit_frames import steps_frame, traces_frame
from hypothesis import given
from hypothesis import strategies as st

from pipelines.credit import shapley
from pipelines.credit.credits import assign
from pipelines.credit.parallel import PARALLEL, shares

games = st.integers(1, 5).flatmap(
    lambda n: st.lists(st.floats(-5, 5, allow_nan=False), min_size=2**n, max_size=2**n).map(np.array)
)


def _by_definition(worth):
    members = len(worth).bit_length() - 1
    values = np.zeros(members)
    orders = list(permutations(range(members)))
    for order in orders:
        mask = 0
        for member in order:
            values[member] += worth[mask | 1 << member] - worth[mask]
            mask |= 1 << member
    return values / len(orders)


@given(games)
def test_exact_values_are_the_mean_over_all_orders(worth):
    values = shapley.exact(worth[None, :])[0]
    np.testing.assert_allclose(values, _by_definition(worth), atol=1e-10)
    assert values.sum() == pytest.approx(worth[-1] - worth[0], abs=1e-10)


@given(games, st.floats(-3, 3))
def test_additivity(worth, factor):
    other = np.sin(np.arange(len(worth)))
    joint = shapley.exact((worth + factor * other)[None, :])
    np.testing.assert_allclose(joint, shapley.exact(worth[None, :]) + factor * shapley.exact(other[None, :]), atol=1e-9)


@given(st.lists(st.floats(-5, 5), min_size=4, max_size=4))
def test_a_member_who_adds_nothing_gets_nothing_and_equals_get_the_same(worth):
    null = np.array([worth[mask & 3] for mask in range(8)])
    assert shapley.exact(null[None, :])[0][2] == pytest.approx(0.0, abs=1e-10)
    equal = np.array([worth[int(mask).bit_count()] for mask in range(8)])
    values = shapley.exact(equal[None, :])[0]
    np.testing.assert_allclose(values, values[0], atol=1e-10)


def test_sampling_is_near_the_exact_values_and_adds_up():
    rng = np.random.default_rng(5)
    worth = rng.normal(size=1 << 6)

    def value(joined):
        return worth[joined @ (1 << np.arange(6))]

    exact = shapley.exact(worth[None, :])[0]
    found = shapley.sampled(value, 6, rng, orders=2_000)
    assert found.sum() == pytest.approx(worth[-1] - worth[0], abs=1e-10)
    np.testing.assert_allclose(found, exact, atol=0.08)


def test_an_incomplete_game_is_refused():
    with pytest.raises(ValueError, match="came 3"):
        shapley.exact(np.zeros((1, 3)))


def _together(members, traces=300):
    """Traces with one step, then `members` at once; what "good" returns matters, the others are idle."""
    rng = np.random.default_rng(8)
    at, position, names, failed, rewards, parallel = [], [], [], [], [], []
    for trace in range(traces):
        bad = rng.random() < 0.5
        order = rng.permutation(members)
        rewards.append(float(rng.random() < (0.2 if bad else 0.9)))
        for place in range(members + 1):
            at.append(trace), position.append(place + 1)
            names.append("plan" if place == 0 else "good" if order[place - 1] == 0 else f"idle{order[place - 1]}")
            failed.append(bool(bad and names[-1] == "good"))
            if place:
                parallel.append((trace, "root", 1, f"{trace}-{place + 1}", f"{trace}-{place + 1}"))
    # A last step keeps the reward's own noise out of the joint credit.
    at += range(traces)
    position += [members + 2] * traces
    names += ["answer"] * traces
    failed += [False] * traces
    frame = pl.DataFrame(parallel, schema=PARALLEL, orient="row")
    users = [f"u{n % 40}" for n in range(traces)]
    return traces_frame(rewards, users=users), steps_frame(at, position, names, failed=failed), frame


@pytest.mark.parametrize("members", [3, 9])
def test_the_joint_credit_of_spans_that_ran_at_once_is_divided_by_who_mattered(members):
    traces, steps, parallel = _together(members)
    credited = assign(traces, steps, parallel, np.random.default_rng(2))
    divided = shares(credited)
    assert divided.height == 300 * members
    assert divided["exact"].all() == (members <= shapley.MOST_EXACT)
    joint = (
        credited.frame.filter(pl.col("position").is_between(2, members + 1))
        .group_by("trace_no")
        .agg(pl.col("credit").sum())
        .join(divided.group_by("trace_no").agg(shared=pl.col("credit").sum()), on="trace_no")
    )
    assert (joint["credit"] - joint["shared"]).abs().max() < 1e-12
    named = divided.join(steps.select("trace_no", "span_id", "name", "failed"), on=["trace_no", "span_id"])
    by_name = named.group_by(good=pl.col("name") == "good", failed="failed").agg(pl.col("credit").mean())
    good = {row["failed"]: row["credit"] for row in by_name.filter("good").to_dicts()}
    idle = by_name.filter(~pl.col("good"))["credit"].abs().max()
    assert good[True] < -0.1 < 0.1 < good[False]
    assert idle < 0.06


def test_groups_mixed_with_other_steps_are_left_out():
    traces, steps, parallel = _together(3)
    gap = parallel.filter(~pl.col("member").str.ends_with("-3"))
    assert shares(assign(traces, steps, gap, np.random.default_rng(2))).is_empty()
