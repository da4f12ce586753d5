"""What applying rates would do, against the formula of two arms worked out by hand."""

from math import erf, sqrt

import numpy as np
import polars as pl
import pytest

from dashboard.explore.preview import preview
from store.clock import SystemClock
from store.policy import Arm, Limits, Policy, Users

GAP, SD = 0.1, 0.1
UNITS = {"scope": pl.String, "unit": pl.String, "rate": pl.Float64, "decisions": pl.Int64}
# Two independent arms .1 apart with sd .1 each: the probability that the lower one is the better.
DOUBT = 0.5 * (1 - erf(GAP / sqrt(2 * SD**2) / sqrt(2)))


def policy(users=0, *, opted_out=(), states=("enabled", "enabled"), segments=("north", "south"), never=()):
    nothing = np.full((users, 2), np.nan, dtype=np.float32)
    out = np.zeros(users, dtype=np.bool_)
    out[list(opted_out)] = True
    return Policy(
        agent="shop", version=1, built_at=SystemClock().now(), reward_model_id=None, salt="s",
        arms=tuple(Arm(name, "prompt", state, name == "a") for name, state in zip("ab", states, strict=True)),
        mean=np.array([0.6, 0.5]), sd=np.array([SD, SD]), n=np.array([100, 100]), rate=0.05, propensity_floor=0.01,
        segments=segments, segment_mean=np.full((2, 2), np.nan), segment_sd=np.full((2, 2), np.nan),
        segment_rate=np.full(2, np.nan),
        users=Users(
            {f"u{place}": place for place in range(users)}, (np.arange(users) % 2).astype(np.int32), nothing, nothing,
            np.full(users, np.nan, dtype=np.float32), out,
        ),
        never_segments=frozenset(never), never_tasks=frozenset(), daily_regret_budget=None, solicit_rate=0.02,
        limits=Limits(),
    )  # fmt: skip


def units(*rows):
    return pl.DataFrame(list(rows), schema=UNITS, orient="row")


def worst(rate):
    """95 % ends of both arms against each other."""
    return rate * (GAP + 2 * 1.959963984540054 * SD)


def test_an_agent_without_known_people_is_computed_as_one():
    found = preview(policy(), 0.1, units(), 50.0)
    assert (found.people, found.sampled, found.proposed.people) == (0, 0, 0)
    assert found.proposed.explored == pytest.approx(50 * 0.1)
    assert found.proposed.expected == pytest.approx(50 * 0.1 * GAP)
    assert found.proposed.worst == pytest.approx(50 * worst(0.1))
    assert found.now.explored == pytest.approx(50 * 0.05)


def test_no_rate_goes_beyond_the_doubt():
    assert preview(policy(), 0.9, units(), 1.0).proposed.explored == pytest.approx(DOUBT, abs=1e-3)


def test_people_have_their_own_rate_their_segments_or_the_agents_and_count_by_their_decisions():
    # u0 (north) 20 % and 9 decisions, u1 (south) the segment's 2 %, u2 (north) the agent's 10 %, u3 (south) opted out.
    rows = units(("user", "u0", 0.2, 9), ("segment", "south", 0.02, 5))
    found = preview(policy(4, opted_out=[3]), 0.1, rows, 13.0)
    rates, weights = np.array([0.2, 0.02, 0.1, 0.0]), np.array([10, 1, 1, 1]) / 13
    assert (found.people, found.never, found.proposed.people) == (4, 1, 3)
    assert found.proposed.explored == pytest.approx(13 * weights @ rates)
    assert found.proposed.expected == pytest.approx(13 * weights @ rates * GAP)


def test_segments_on_the_list_are_never_explored():
    found = preview(policy(4, never=["north"]), 0.1, units(), 4.0)
    assert (found.never, found.proposed.people) == (2, 2)
    assert found.proposed.explored == pytest.approx(0.2)


def test_an_arm_in_the_shadow_is_not_explored():
    found = preview(policy(4, states=("enabled", "shadow")), 0.1, units(), 4.0)
    assert (found.arms, found.proposed.explored, found.proposed.people) == (1, 0.0, 0)


def test_many_people_are_sampled_evenly():
    found = preview(policy(350_000), 0.1, units(), 10.0)
    assert found.sampled < found.people == 350_000
    assert found.proposed.people == 350_000
    assert found.proposed.explored == pytest.approx(1.0)
