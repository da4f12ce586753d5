"""p-values over whole schedules: nominal where nothing changes, and quick where something does (METHODS §7)."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.stats.likelihood_ratio import scan
from pipelines.stats.sequential_calibration import (
    DEFAULTS,
    NotCalibrated,
    Schedule,
    Tail,
    calibrate,
    from_json,
    largest,
    missing,
    p_value,
    shapes,
    to_json,
)

RATE = Schedule("bernoulli", 20, 1000, 10)
NUMBER = Schedule("gaussian", 20, 1000, 20)


def smallest(streams: NDArray[np.generic], schedule: Schedule, *, first: int = 0) -> tuple[NDArray[np.float64], ...]:
    """p at every look, and the events seen at it."""
    count, events = streams.shape
    ends = np.arange(2 * schedule.min_segment, events + 1, schedule.look_every)
    looks = []
    for end in ends:
        seen = np.ascontiguousarray(streams[:, max(0, end - schedule.window) : end])
        found = scan(seen.reshape(-1), np.full(count, seen.shape[1]), schedule.gains)
        share = seen.mean(axis=1) if schedule.likelihood == "bernoulli" else None
        looks.append(p_value(found.statistic, int(end), schedule, share=share))
    return ends[ends >= first], np.array(looks)[ends >= first]


def within_binomial(hits: NDArray[np.bool_], alpha: float, *, nominal: bool = True) -> None:
    """No more alarms than chance allows, and (nominal) not far fewer either."""
    error = 4 * np.sqrt(alpha * (1 - alpha) / hits.size) + 1 / hits.size
    assert hits.mean() <= alpha + error
    if nominal:
        assert hits.mean() >= 0.5 * alpha - error


@pytest.mark.parametrize("rate", [0.02, 0.2, 0.5, 0.98])
def test_stationary_rates_raise_no_more_alarms_than_nominal(rate: float) -> None:
    random = np.random.default_rng(int(1000 * rate))
    _, p = smallest((random.random((600, 1000)) < rate).astype(np.uint8), RATE)
    for alpha in (0.05, 0.01):
        within_binomial(p.min(axis=0) <= alpha, alpha)


def test_skewed_costs_raise_no_more_alarms_than_nominal() -> None:
    _, p = smallest(np.random.default_rng(5).lognormal(0.0, 1.5, (200, 1000)), NUMBER)
    for alpha in (0.05, 0.01):
        within_binomial(p.min(axis=0) <= alpha, alpha)


@pytest.mark.parametrize("rate", [0.3, 0.95, 0.99])
def test_sessions_of_alike_events_and_ties_raise_no_more_alarms_than_nominal(rate: float) -> None:
    """Five events of a session share a mood; one row is the session's mean, of six possible values."""
    random = np.random.default_rng(6)
    mood = 2.0 * random.normal(size=(200, 500)) + np.log(rate / (1 - rate))
    means = random.binomial(5, 1 / (1 + np.exp(-mood))) / 5
    _, p = smallest(means, NUMBER)
    for alpha in (0.05, 0.01):
        within_binomial(p.min(axis=0) <= alpha, alpha, nominal=False)


@pytest.mark.parametrize("rate", [0.02, 0.5, 0.97])
def test_yes_and_no_scanned_as_numbers_raise_no_more_alarms_than_nominal(rate: float) -> None:
    _, p = smallest((np.random.default_rng(7).random((200, 500)) < rate).astype(float), NUMBER)
    for alpha in (0.05, 0.01):
        within_binomial(p.min(axis=0) <= alpha, alpha, nominal=False)


def test_after_the_first_window_the_whole_error_is_still_not_spent() -> None:
    short = Schedule("bernoulli", 20, 100, 10)
    tail = calibrate(short, random=np.random.default_rng(1), streams=1_000)
    random = np.random.default_rng(2)
    streams = (random.random((500, 600)) < 0.4).astype(np.uint8)
    looks = []
    for end in range(20, 601, 20):
        seen = np.ascontiguousarray(streams[:, max(0, end - 100) : end])
        found = scan(seen.reshape(-1), np.full(500, seen.shape[1]), short.gains)
        looks.append(p_value(found.statistic, end, short, {short: tail}, share=seen.mean(axis=1)))
    within_binomial(np.min(looks, axis=0) <= 0.05, 0.05)


@pytest.mark.parametrize(
    ("before", "after", "power", "delay"), [(0.3, 0.5, 0.97, 170), (0.9, 0.75, 0.97, 170), (0.97, 0.85, 0.99, 130)]
)
def test_changed_rates_are_found_in_time(before: float, after: float, power: float, delay: float) -> None:
    random = np.random.default_rng(11)
    streams = (random.random((500, 1000)) < np.repeat([before, after], 500)).astype(np.uint8)
    ends, p = smallest(streams, RATE)
    alarm = np.where((p <= 0.002).any(axis=0), ends[(p <= 0.002).argmax(axis=0)], np.inf)
    found = (alarm > 500) & np.isfinite(alarm)
    assert np.mean(found) >= power - 2 * np.sqrt(power * (1 - power) / 500)  # Monte Carlo error; bench: 10,000
    assert np.median(alarm[found]) - 500 <= delay


def test_a_changed_score_is_found_in_time() -> None:
    random = np.random.default_rng(12)
    streams = np.hstack([random.beta(8, 2, (150, 500)), random.beta(6, 3, (150, 500))])
    ends, p = smallest(streams, NUMBER, first=480)
    alarm = ends[(p <= 0.01).argmax(axis=0)]
    assert (p <= 0.01).any(axis=0).all()
    assert np.median(alarm) - 500 <= 30


@pytest.mark.parametrize(("schedule", "tail"), DEFAULTS.items(), ids=str)
def test_the_default_table_is_what_simulation_gives(schedule: Schedule, tail: Tail) -> None:
    """The share of stationary streams beyond the 95 % and 99 % points of the table."""
    streams = 60 if schedule.look_every == 1 else 150
    drawn = shapes(schedule)
    if len(tail.c) == 1:
        drawn = drawn[:1]  # of categories the even shares are the heaviest
    random = np.random.default_rng(20)
    for draw, c in zip(drawn, tail.c, strict=True):
        highest = largest(schedule, draw, random=random, streams=streams)
        within_binomial(highest > c, 0.05)
        within_binomial(highest > c + np.log(5) / tail.b, 0.01, nominal=False)
    assert 0.75 <= tail.b <= 1.0
    assert 1.0 <= tail.later <= 3.0


def test_p_value_is_the_fitted_tail() -> None:
    schedule, tail = Schedule("gaussian", 5, 50, 5), Tail((8.0,), 0.9, 2.0)
    known = {schedule: tail}
    assert p_value(np.array([8.0]), 50, schedule, known)[0] == pytest.approx(0.05 / 0.9)
    assert p_value(np.array([12.0]), 40, schedule, known)[0] == pytest.approx(0.05 / 0.9 * np.exp(-0.9 * 4))
    # The third window: 2 x 3 x later / .1.
    assert p_value(np.array([20.0]), 101, schedule, known)[0] == pytest.approx(0.05 * 120 * np.exp(-0.9 * 12))
    assert p_value(np.array([0.0]), 50, schedule, known)[0] == 1.0
    assert np.isnan(p_value(np.array([np.nan]), 50, schedule, known)[0])


def test_rare_events_have_a_lighter_tail() -> None:
    rare, even, unknown = (
        p_value(np.array([10.0]), 100, RATE, share=share) for share in (np.array([0.98]), np.array([0.5]), None)
    )
    assert rare < even
    assert even == unknown


def test_other_schedules_are_named_until_they_are_calibrated() -> None:
    other = Schedule("bernoulli", 10, 40, 5)
    with pytest.raises(NotCalibrated, match="look_every=10"):
        p_value(np.array([1.0]), 40, other)
    assert missing([RATE, other, other]) == [other]
    kept = {other: calibrate(other, random=np.random.default_rng(3), streams=300)}
    assert from_json(to_json(kept)) == kept
    assert missing([other], from_json(to_json(kept))) == []
    again = calibrate(other, random=np.random.default_rng(3), streams=300)
    assert again == kept[other]


@pytest.mark.parametrize("text", ['{"a": 1}', "[1]", "null", "[{}]", "no"])
def test_refuses_other_json(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - JSON's own for what is none
        from_json(text)


def test_refuses_impossible_schedules() -> None:
    with pytest.raises(ValueError, match="two segments"):
        Schedule("bernoulli", 20, 15, 10)
    with pytest.raises(ValueError, match="likelihood"):
        Schedule("poisson", 20, 100, 10)
