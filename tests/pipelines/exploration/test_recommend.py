"""Rates of units: monotone in what they should follow, within their bounds, nothing for those who said no."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.exploration.bounds import UnitBounds
from pipelines.exploration.recommend import RateConfig, Units, rates
from pipelines.exploration.shared_value import Levels, Shared, for_segments, for_users
from store.errors import SettingsError


def units(n: int = 1, arms: int = 3, **changes: object) -> Units:
    means = np.tile(np.linspace(0.5, 0.4, arms), (n, 1))
    plain = Units(
        mean=means,
        sd=np.full((n, arms), 0.08),
        noise_sd=0.25,
        ahead=np.full(n, 100.0),
        shared=Shared(np.zeros((n, arms)), np.zeros((n, arms))),
        tolerance=np.zeros(n),
        tolerance_sd=np.full(n, 0.02),
        drift=np.zeros(n),
        progress=np.zeros(n),
        never=np.zeros(n, dtype=np.bool_),
        people=True,
    )
    return replace(plain, **changes)


def within(n: int = 1, floor: float = 0.01, cap: float = 0.2, dial: float = 0.5, *, own: bool = False) -> UnitBounds:
    return UnitBounds(np.full(n, floor), np.full(n, cap), np.full(n, dial), np.full(n, own))


GRID = np.linspace(0.0, 1.0, 9)


@pytest.mark.parametrize(
    "changes",
    [
        {"drift": GRID},
        {"progress": GRID},
        {"tolerance": 0.3 * GRID - 0.2},
        {"ahead": np.array([1, 10, 30, 50, 75, 100, 125, 150, 200.0])},
        {"shared": Shared(np.linspace(0, 1, 9)[:, None] * np.ones(3), np.full((9, 3), 0.05))},
    ],
)
def test_rates_rise_with_what_speaks_for_exploring(changes: dict[str, object]) -> None:
    found = rates(units(9, **changes), within(9)).rate
    assert np.all(np.diff(found) >= -1e-12)
    assert found[-1] > found[0]


def test_rates_rise_with_the_dial_and_with_ignorance() -> None:
    found = [float(rates(units(ahead=np.array([300.0])), within(dial=dial)).rate[0]) for dial in GRID]
    assert found == sorted(found)
    assert found[0] < found[-1]
    known = [float(rates(units(sd=np.full((1, 3), sd), ahead=np.array([300.0])), within()).rate[0]) for sd in
             (1e-6, 0.01, 0.03, 0.1)]  # fmt: skip
    assert known == sorted(known)
    assert known[0] == pytest.approx(0.01)


def test_where_there_is_much_traffic_a_smaller_share_of_it_is_enough() -> None:
    ahead = np.geomspace(1e3, 1e6, 60)
    found = rates(units(60, ahead=ahead), within(60)).rate
    assert found[-1] < found[0] / 3
    assert np.abs(np.diff(found)).max() < 0.03  # no jumps


def test_drift_wears_off_and_the_dial_at_0_ignores_it() -> None:
    from pipelines.exploration.drift_boost import boost

    days = np.array([0.0, 7.0, 14.0, 70.0, np.nan])
    assert boost(days) == pytest.approx([1.0, 0.5, 0.25, 0.5**10, 0.0])
    found = rates(units(5, drift=boost(days)), within(5)).rate
    assert np.all(np.diff(found) < 0)
    respect = rates(units(5, drift=boost(days)), within(5, dial=0.0)).rate
    assert respect == pytest.approx(respect[0])


def test_those_who_dislike_it_get_less_than_a_third_and_the_floor_gives_way() -> None:
    tolerance = np.array([0.0, -0.1, -0.2])
    known = units(3, tolerance=tolerance, ahead=np.full(3, 2000.0))
    found = rates(known, within(3))
    assert found.dislikes.tolist() == [False, True, True]
    assert found.rate[1] < found.rate[0] / 3
    assert found.rate[2] == 0.0
    # Not when an operator set the floor for this very user, nor for a segment, nor when it is not known well enough.
    assert rates(known, within(3, own=True)).rate[2] == 0.01
    assert rates(replace(known, people=False), within(3)).rate[2] == 0.01
    assert rates(replace(known, tolerance_sd=np.full(3, 0.2)), within(3)).rate[2] == 0.01


def test_never_is_never() -> None:
    found = rates(units(2, never=np.array([True, False])), within(2, own=True))
    assert (found.rate[0], found.lower[0], found.upper[0]) == (0.0, 0.0, 0.0)
    assert found.rate[1] >= 0.01


@settings(max_examples=80)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 0.4)), min_size=2, max_size=5),
    st.floats(-0.5, 0.5), st.floats(0, 0.3), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.3),
    st.floats(0, 1e5), st.booleans(),
)  # fmt: skip
def test_rates_keep_to_their_bounds(
    arms: list[tuple[float, float]], tolerance: float, sd: float, drift: float, progress: float, dial: float,
    floor: float, ahead: float, people: bool,
) -> None:  # fmt: skip
    means, sds = np.array([[arm[0] for arm in arms]]), np.array([[arm[1] for arm in arms]])
    known = units(
        arms=len(arms), mean=means, sd=sds, tolerance=np.array([tolerance]), tolerance_sd=np.array([sd]),
        drift=np.array([drift]), progress=np.array([progress]), ahead=np.array([ahead]), people=people,
    )  # fmt: skip
    found = rates(known, within(floor=floor, cap=0.3, dial=dial))
    rate = float(found.rate[0])
    assert 0.0 <= found.lower[0] <= rate <= found.upper[0] <= 0.3
    assert rate >= floor or (people and bool(found.dislikes[0]))
    assert found.best.sum() == pytest.approx(1.0)


def test_the_interval_holds_what_new_data_would_recommend() -> None:
    rng = np.random.default_rng(3)
    n = 400
    truth = rng.normal(0.5, 0.05, (n, 2))
    sds = np.full((n, 2), 0.03)
    ahead = np.full(n, 500.0)
    # The truth's own rate: what would be recommended if the means were known but the doubt the same.
    held = 0
    seen = truth + rng.normal(0.0, sds)
    found = rates(units(n, 2, mean=seen, sd=sds, ahead=ahead), within(n))
    true = rates(units(n, 2, mean=truth, sd=sds, ahead=ahead), within(n))
    same = true.greedy == found.greedy
    held = ((found.lower - 1e-9 <= true.rate) & (true.rate <= found.upper + 1e-9))[same].mean()
    assert same.mean() > 0.7
    assert held >= 0.93


def test_what_a_look_is_worth_to_others() -> None:
    mean, sd = np.array([[0.5, 0.48], [0.5, 0.48]]), np.array([[0.05, 0.05], [0.001, 0.001]])
    levels = Levels(
        segment=np.array([0, 0, 1, -1]), segment_mean=mean, segment_sd=sd, agent_mean=np.array([0.5, 0.48]),
        agent_sd=np.array([0.001, 0.001]), noise_sd=0.2, person_sd=0.05, ahead=np.array([100.0, 100.0, 200.0, 50.0]),
    )  # fmt: skip
    found = for_users(levels)
    assert found.worth.shape == (4, 2)
    # Where the segment is known already, others learn nothing.
    assert found.worth[0, 1] > 0.03
    assert found.worth[2].max() < 1e-3
    assert found.worth[3].max() < 1e-3
    assert for_segments(levels).worth.max() < 1e-3
    # Someone who makes up all of the segment teaches nobody else about it.
    alone = replace(levels, ahead=np.array([200.0, 0.0, 200.0, 50.0]))
    assert for_users(alone).worth[0].max() < 1e-3
    assert 0.0 < found.share[0, 1] <= 0.5


def test_refuses_wrong_input() -> None:
    with pytest.raises(ValueError, match="two arms"):
        rates(units(arms=1), within())
    with pytest.raises(SettingsError, match="displeasure"):
        RateConfig(displeasure=0.0)
