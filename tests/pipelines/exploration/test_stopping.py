"""Verdicts: wrong ones under constant looking, coverage, time to a right one, the budget, the winner's value."""

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from pipelines.exploration.pseudo_outcomes import BURN_IN, contrast, looks, probabilities, values
from pipelines.exploration.stopping import (
    BETTER,
    DECISIONS,
    NO_WORSE,
    OPEN,
    WORSE,
    StoppingConfig,
    conservative_budget,
    further_decisions,
    shrunk,
    verdict,
    verdicts,
)
from pipelines.stats.confidence_sequence import radius
from pipelines.stats.contract import ContractError, FitRefused
from pipelines.steering.propensities import propensities
from store.errors import SettingsError

START = datetime(2026, 11, 1, tzinfo=UTC)
Floats = NDArray[np.float64]


class Streams(NamedTuple):
    """Runs side by side: outcomes and drawn arms (runs, n), probabilities (runs, n, arms)."""

    outcome: Floats
    drawn: NDArray[np.int64]
    p: Floats

    def looks(self, arm: int, alpha: float = 0.05):
        first, second = self.drawn == arm, self.drawn == 0
        return looks(contrast(self.outcome, first, second, self.p[..., arm], self.p[..., 0]), alpha=alpha)


def fixed(runs: int, n: int, means: list[float], p: list[float], seed: int) -> Streams:
    random = np.random.default_rng(seed)
    drawn = (random.random((runs, n, 1)) > np.cumsum(p)[:-1]).sum(axis=-1)
    outcome = (random.random((runs, n)) < np.asarray(means)[drawn]).astype(np.float64)
    return Streams(outcome, drawn, np.broadcast_to(np.asarray(p), (runs, n, len(p))))


def adaptive(runs: int, n: int, means: list[float], seed: int, *, floor: float = 0.05, drift: float = 0.0) -> Streams:
    """The steering endpoint's own rule (Thompson sampling with a floor), its posterior refreshed every 50 decisions.

    `drift` is added to every arm's mean over the run: the contrasts stay what they are.
    """
    random = np.random.default_rng(seed)
    arms = len(means)
    good, seen = np.ones((runs, arms)), np.full((runs, arms), 2.0)
    outcome, drawn, p = np.empty((runs, n)), np.empty((runs, n), dtype=np.int64), np.empty((runs, n, arms))
    rows = np.arange(runs)
    for t in range(n):
        if t % 50 == 0:
            mean = good / seen
            present = propensities(mean, np.sqrt(mean * (1 - mean) / (seen + 1)), 1.0, propensity_floor=floor).vector
        drawn[:, t] = (random.random((runs, 1)) > np.cumsum(present, axis=1)[:, :-1]).sum(axis=1)
        rate = np.asarray(means)[drawn[:, t]] + drift * t / n
        outcome[:, t] = random.random(runs) < rate
        p[:, t] = present
        good[rows, drawn[:, t]] += outcome[:, t]
        seen[rows, drawn[:, t]] += 1
    return Streams(outcome, drawn, p)


@cache
def half_and_half() -> Streams:
    return fixed(400, 5_000, [0.5, 0.5], [0.5, 0.5], 1)


class Wrong(NamedTuple):
    """Shares of runs: in which, at any look, some arm is called better; any better or worse; that passed the gate."""

    better: float
    either: float
    looked: float


def wrong(streams: Streams) -> Wrong:
    others = range(1, streams.p.shape[-1])
    found = [streams.looks(arm, 0.05 / len(others)) for arm in others]
    better = np.any([(each.lower > 0.0).any(axis=1) for each in found], axis=0)
    worse = np.any([(each.upper < 0.0).any(axis=1) for each in found], axis=0)
    looked = np.isfinite(found[0].lower[:, -1]).mean()
    return Wrong(float(better.mean()), float((better | worse).mean()), float(looked))


@pytest.mark.parametrize(
    "streams",
    [
        pytest.param(lambda: half_and_half(), id="half and half"),
        pytest.param(lambda: fixed(200, 5_000, [0.1, 0.1], [0.9, 0.1], 2), id="one in ten, rare outcome"),
        pytest.param(lambda: fixed(100, 5_000, [0.5] * 4, [0.7, 0.1, 0.1, 0.1], 3), id="four arms"),
        pytest.param(lambda: adaptive(400, 5_000, [0.5, 0.5], 4), id="adaptive"),
        pytest.param(
            lambda: adaptive(100, 5_000, [0.3, 0.3, 0.3], 5, floor=0.02), id="adaptive, three arms, low floor"
        ),
        pytest.param(lambda: adaptive(150, 5_000, [0.03, 0.03], 19, floor=0.02), id="adaptive, rare outcome"),
        pytest.param(lambda: fixed(150, 5_000, [0.03, 0.03], [0.9, 0.1], 20), id="one in ten, very rare outcome"),
        pytest.param(lambda: adaptive(150, 5_000, [0.3, 0.3], 6, drift=0.4), id="adaptive while the world drifts"),
    ],
)
def test_equal_arms_have_a_false_winner_in_at_most_one_of_twenty_runs_looked_at_at_every_decision(streams) -> None:
    found = wrong(streams())
    assert found.looked > 0.25
    assert found.better <= 0.05
    assert found.either <= 0.05


@pytest.mark.parametrize("gap", [0.0, 0.1])
def test_intervals_cover_the_difference_at_all_looks_together(gap: float) -> None:
    for streams in (fixed(150, 5_000, [0.4, 0.4 + gap], [0.8, 0.2], 7), adaptive(150, 5_000, [0.4, 0.4 + gap], 8)):
        seen = streams.looks(1)
        missed = ((seen.lower > gap) | (seen.upper < gap)).any(axis=1).mean()
        assert missed <= 0.05


def test_looking_at_every_decision_with_a_fixed_size_interval_is_wrong_much_more_often() -> None:
    """The oracle of the tests above: on the same streams the usual 95 % interval finds a false winner."""
    streams = half_and_half()
    found = contrast(streams.outcome, streams.drawn == 1, streams.drawn == 0, streams.p[..., 1], streams.p[..., 0])
    seen = looks(found)
    t = np.arange(1.0, seen.estimate.shape[1] + 1.0)
    outside = (np.abs(seen.estimate) > 1.96 * np.sqrt(seen.variance / t)) & (found.ess >= 200)
    assert outside.any(axis=1).mean() > 0.2


@pytest.mark.parametrize(("gap", "within", "power"), [(0.1, 1_400, 0.99), (0.05, 4_500, 0.7)])
def test_a_better_arm_is_found_in_time(gap: float, within: int, power: float) -> None:
    seen = fixed(150, 6_000, [0.5, 0.5 + gap], [0.5, 0.5], 9).looks(1)
    told = seen.lower > 0.0
    assert told.any(axis=1).mean() >= power
    assert np.median(np.where(told.any(axis=1), told.argmax(axis=1), 10**9)) <= within
    assert not (seen.upper < 0.0).any()


def test_pseudo_outcomes_are_right_whatever_the_guess_of_the_means() -> None:
    """Their mean over many runs is the difference, at every decision: nothing of a decision enters its own guess."""
    streams = adaptive(4_000, 120, [0.2, 0.7], 10, floor=0.2)
    first, second = streams.drawn == 1, streams.drawn == 0
    found = contrast(streams.outcome, first, second, streams.p[..., 1], streams.p[..., 0]).values
    error = found.std(axis=0) / np.sqrt(found.shape[0])
    z = (found.mean(axis=0) - 0.5) / error
    assert np.abs(z).max() < 4.5
    assert abs(z.mean()) < 0.4
    own = values(streams.outcome, first, streams.p[..., 1])
    assert own.mean() == pytest.approx(0.7, abs=0.01)
    assert found.shape[1] == 120 - BURN_IN


def test_a_contrast_moves_with_the_outcomes_and_turns_round_with_the_arms() -> None:
    streams = fixed(3, 400, [0.4, 0.6], [0.7, 0.3], 11)
    sides = (streams.drawn == 1, streams.drawn == 0, streams.p[..., 1], streams.p[..., 0])
    plain = contrast(streams.outcome, *sides)
    moved = contrast(1_000.0 + 10.0 * streams.outcome, *sides)
    np.testing.assert_allclose(moved.values, 10.0 * plain.values, atol=1e-8)
    np.testing.assert_allclose(moved.guard, 100.0 * plain.guard, rtol=1e-6)
    turned = contrast(streams.outcome, sides[1], sides[0], sides[3], sides[2])
    np.testing.assert_allclose(turned.values, -plain.values, atol=1e-12)
    drawn = streams.drawn[0, BURN_IN:] == 1
    assert plain.ess[0, -1] == pytest.approx(drawn.sum())
    assert plain.first[0, -1] == (streams.drawn[0] == 1).sum()


def test_what_cannot_be_contrasted_is_refused() -> None:
    drawn = np.zeros(100, dtype=bool)
    fine, p = np.zeros(100), np.full(100, 0.5)
    with pytest.raises(FitRefused, match="21 are needed"):
        contrast(fine[:20], drawn[:20], ~drawn[:20], p[:20], p[:20])
    with pytest.raises(FitRefused, match="1 outcomes are missing"):
        contrast(np.where(np.arange(100) == 3, np.nan, fine), drawn, ~drawn, p, p)
    for bad in (0.0, -0.1, 1.1, np.nan):
        with pytest.raises(FitRefused, match="probability"):
            contrast(fine, drawn, ~drawn, np.where(np.arange(100) == 3, bad, p), p)


def frame(streams: Streams, names: list[str], *, turn: bool = False) -> pl.DataFrame:
    """The first run as logged decisions; `turn`: every other row lists its arms in the opposite order."""
    n = streams.outcome.shape[1]
    arms, p = [], []
    for place in range(n):
        step = -1 if turn and place % 2 else 1
        arms.append(names[::step])
        p.append(streams.p[0, place].tolist()[::step])
    return pl.DataFrame(
        {
            "decision_id": [f"d{place}" for place in range(n)],
            "decided_at": [START + timedelta(seconds=place) for place in range(n)],
            "arm": [names[drawn] for drawn in streams.drawn[0]],
            "arms": arms,
            "propensities": p,
            "reward": streams.outcome[0],
        },
        schema=DECISIONS,
    )


def test_verdicts_of_several_arms() -> None:
    streams = fixed(1, 8_000, [0.5, 0.7, 0.3, 0.5], [0.4, 0.2, 0.2, 0.2], 12)
    found = verdicts(frame(streams, ["base", "good", "bad", "same"], turn=True), "base")
    told = {row["arm"]: row for row in found.to_dicts()}
    assert list(told) == ["bad", "good", "same"]
    assert (told["good"]["verdict"], told["bad"]["verdict"], told["same"]["verdict"]) == (BETTER, WORSE, OPEN)
    for name, mean in (("good", 0.7), ("bad", 0.3), ("same", 0.5)):
        row = told[name]
        assert row["lower"] <= mean - 0.5 <= row["upper"]
        assert row["value"] == pytest.approx(mean, abs=4 * row["value_sd"])
        assert row["basis"] == "randomised"
        assert row["n"] == 8_000
        assert row["n_arm"] == (streams.drawn[0] == ["base", "good", "bad", "same"].index(name)).sum()
    assert told["good"]["more_decisions"] == 0
    assert told["same"]["more_decisions"] is None or told["same"]["more_decisions"] > 1_000
    assert "0.02" in told["same"]["reason"]
    # Level alpha / K: with the two others gone the interval is narrower.
    alone = verdicts(
        frame(Streams(streams.outcome, streams.drawn, streams.p), ["base", "good", "bad", "same"]), "base",
        StoppingConfig(alpha=0.15),
    ).row(1, named=True)  # fmt: skip
    assert alone["upper"] - alone["lower"] < told["good"]["upper"] - told["good"]["lower"]


def test_verdicts_are_those_of_the_looks() -> None:
    streams = adaptive(1, 3_000, [0.5, 0.6], 13, floor=0.2)
    row = verdicts(frame(streams, ["a", "b"], turn=True), "a").row(0, named=True)
    seen = streams.looks(1)
    assert (row["estimate"], row["lower"], row["upper"]) == pytest.approx(
        (seen.estimate[0, -1], seen.lower[0, -1], seen.upper[0, -1]), abs=1e-12
    )


def test_decisions_in_which_both_arms_could_not_be_drawn_say_nothing() -> None:
    streams = fixed(1, 3_000, [0.5, 0.6], [0.5, 0.5], 14)
    logged = frame(streams, ["a", "b"])
    forced = logged.with_columns(
        arm=pl.lit("b"), reward=pl.lit(0.0), arms=pl.lit(["a", "b"]), propensities=pl.lit([0.0, 1.0])
    )
    missing = logged.with_columns(arm=pl.lit("b"), reward=pl.lit(0.0), arms=pl.lit(["b"]), propensities=pl.lit([1.0]))
    plain = verdicts(logged, "a").row(0, named=True)
    for other in (forced, missing):
        mixed = verdicts(pl.concat([logged, other]), "a").row(0, named=True)
        for name in ("estimate", "lower", "upper", "n"):
            assert mixed[name] == plain[name]
    assert probabilities(pl.concat([logged.head(1), missing.head(1)]), ["b", "a", "c"]).tolist() == [
        [0.5, 0.5, 0.0], [1.0, 0.0, 0.0],
    ]  # fmt: skip


def test_nothing_is_said_below_the_gate_and_without_randomisation_it_is_said_so() -> None:
    streams = fixed(1, 6_000, [0.5, 0.9], [0.97, 0.03], 15)
    logged = frame(streams, ["a", "b"])
    early = verdicts(logged.head(2_000), "a").row(0, named=True)
    assert (early["verdict"], early["lower"]) == (OPEN, None)
    assert "nothing is said below 200" in early["reason"]
    # 200 draws of b at 3 % each are 6,667 decisions.
    assert early["more_decisions"] == pytest.approx(200 / 0.03 - 2_000, rel=0.35)
    seen = verdicts(logged.with_columns(arms=None, propensities=None), "a", randomised=False).row(0, named=True)
    assert (seen["basis"], seen["n"]) == ("observed", 6_000)
    assert "not drawn at random" in seen["reason"] or seen["lower"] is None
    assert verdicts(
        logged.filter(pl.col("arm") == "a").with_columns(arms=pl.lit(["a"]), propensities=pl.lit([1.0])), "a"
    ).is_empty()
    with pytest.raises(ContractError, match="propensities"):
        verdicts(logged.with_columns(propensities=None), "a")
    with pytest.raises(SettingsError):
        StoppingConfig(alpha=1.0)


def test_the_verdict_of_limits() -> None:
    nan = float("nan")
    assert [verdict(*each, 0.02) for each in ((0.01, 0.3), (-0.3, -0.01), (-0.01, 0.3), (-0.3, 0.3), (nan, nan))] == [
        BETTER, WORSE, NO_WORSE, OPEN, OPEN,
    ]  # fmt: skip


@pytest.mark.parametrize("gap", [0.05, 0.1, -0.1])
def test_the_expected_number_of_further_decisions_comes_true(gap: float) -> None:
    """Asked half way with the true difference, the median run has its verdict about when it was expected."""
    config = StoppingConfig(margin=0.0)
    streams = fixed(150, 8_000, [0.5, 0.5 + gap], [0.5, 0.5], 16)
    seen = streams.looks(1)
    told = (seen.lower > 0.0) | (seen.upper < 0.0)
    actual = np.median(np.where(told.any(axis=1), told.argmax(axis=1), 10**9))
    expected = further_decisions(gap, 1.0, 400.0, 200.0, OPEN, 0.05, config)
    assert expected is not None
    # A mean that wanders crosses a little before its limit does.
    assert 0.5 * expected <= actual - 400 <= 1.2 * expected


def test_further_decisions_at_the_limits() -> None:
    config = StoppingConfig()
    assert further_decisions(0.1, 1.0, 5_000.0, 900.0, BETTER, 0.05, config) == 0
    assert further_decisions(0.0, 1.0, 5_000.0, 900.0, NO_WORSE, 0.05, config) is None
    more = further_decisions(0.0, 1.0, 5_000.0, 900.0, OPEN, 0.05, config)  # until it is no worse
    assert more is not None
    total = more + 5_000.0
    assert float(radius(total, 1.0)) <= 0.02 < float(radius(total * 0.999, 1.0))
    assert further_decisions(0.5, 1.0, 1_000.0, np.inf, OPEN, 0.05, config) is None
    assert further_decisions(0.9, 1.0, 1_000.0, 2_000.0, OPEN, 0.05, config) == 1_000


def test_the_winners_value_is_less_wrong_when_shrunk() -> None:
    """Best of eight arms whose means differ little: the raw value is too high by more than the shrunk one is off."""
    random = np.random.default_rng(17)
    raw, better = [], []
    for _ in range(2_000):
        truth = random.normal(0.5, 0.02, 8)
        sds = random.uniform(0.02, 0.05, 8)
        seen = random.normal(truth, sds)
        winner = int(np.argmax(seen))
        raw.append(seen[winner] - truth[winner])
        better.append(shrunk(seen, sds)[winner] - truth[winner])
    assert np.mean(raw) > 0.035
    assert abs(np.mean(better)) < 0.35 * np.mean(raw)
    assert np.mean(np.square(better)) < 0.5 * np.mean(np.square(raw))


def test_shrinking_leaves_what_is_certain_and_what_is_unknown() -> None:
    np.testing.assert_allclose(shrunk(np.array([0.1, 0.9]), np.array([1e-6, 1e-6])), [0.1, 0.9], atol=1e-6)
    np.testing.assert_allclose(shrunk(np.array([0.4, 0.6]), np.array([0.5, 0.5])), [0.5, 0.5])
    np.testing.assert_array_equal(shrunk(np.array([0.4, np.nan]), np.array([0.1, np.nan])), [0.4, np.nan])


def test_the_budget_is_that_of_conservative_bandits() -> None:
    """Played by the rule, the sum of true rewards never falls below the promise while the limits hold."""
    random = np.random.default_rng(18)
    means = np.array([0.35, 0.2])
    alpha, base = 0.1, 0.5
    plays, won = np.zeros(2), np.zeros(2)
    base_plays, tried = 0, 0
    for t in range(4_000):
        mean = np.divide(won, plays, out=np.zeros(2), where=plays > 0)
        width = np.sqrt(np.log(100) / np.maximum(plays, 1))
        lower = np.clip(np.where(plays > 0, mean - width, 0.0), 0.0, 1.0)
        arm = t % 2
        budget = conservative_budget(plays, lower, arm, (base, base), baseline_plays=base_plays, alpha=alpha)
        earned = (plays * lower).sum() + lower[arm] + base_plays * base
        assert budget.allowed == (earned >= (1 - alpha) * (t + 1) * base - 1e-9) or abs(budget.slack) < 1e-9
        if budget.allowed:
            plays[arm] += 1
            won[arm] += random.random() < means[arm]
            tried += 1
        else:
            base_plays += 1
        assert (plays * means).sum() + base_plays * base >= (1 - alpha) * (t + 1) * base - 1.0
    assert 400 < tried < 4_000
    wide = conservative_budget(plays, lower, 0, (0.4, 0.6), baseline_plays=base_plays, alpha=alpha)
    ends = [
        conservative_budget(plays, lower, 0, (end, end), baseline_plays=base_plays, alpha=alpha).slack
        for end in (0.4, 0.5, 0.6)
    ]
    assert wide.slack == min(ends)
    with pytest.raises(ValueError, match="alpha"):
        conservative_budget(plays, lower, 0, (0.4, 0.6), baseline_plays=1, alpha=0.0)
