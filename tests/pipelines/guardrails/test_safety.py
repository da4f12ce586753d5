"""Safety floors: looks at logged decisions and at what was merely observed; false kills, and time to a true one."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from pipelines.exploration.pseudo_outcomes import contrast, looks
from pipelines.guardrails.safety import ALPHA, DRAWS, SafetyLook, look, safety_verdict
from store.safety_measures import MEASURED

START = datetime(2026, 11, 1, tzinfo=UTC)


def world(
    n: int, arm_rate: float, *, share: float = 0.2, seed: int = 0, confounded: bool = False
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Draws of arm b against a, and the error rate of their traces: .1 for a, `arm_rate` for b."""
    random = np.random.default_rng(seed)
    hard = random.random(n) < 0.5
    p = np.where(hard, 0.8, 0.1) if confounded else np.full(n, share)
    b = random.random(n) < p
    rate = np.where(b, arm_rate, 0.1) + (0.4 * hard if confounded else 0.0)
    failed = (random.random(n) < rate).astype(np.float64)
    names = [f"t{place}" for place in range(n)]
    arm = np.where(b, "b", "a")
    draws = pl.DataFrame(
        {
            "trace_id": names, "arm": arm, "arms": [["a", "b"]] * n,
            "propensities": np.stack([1 - p, p], axis=1).tolist(), "reward": 1.0 - failed, "cost_usd": 0.01 + failed,
        },
        schema=DRAWS,
    )  # fmt: skip
    moments = [START + timedelta(minutes=place) for place in range(n)]
    measured = pl.DataFrame({"trace_id": names, "arm": arm, "seen_at": moments, "value": failed}, schema=MEASURED)
    return draws, measured


@pytest.mark.parametrize("metric", ["error_rate", "reward", "cost_usd"])
def test_a_harmful_arm_breaks_the_floor_whatever_the_direction_of_the_metric(metric: str) -> None:
    draws, measured = world(4_000, 0.4)
    found = look(draws, measured, "b", "a", metric, 0.02)
    assert found.broken
    assert found.basis == "randomised"
    assert found.upper is not None
    assert found.upper < -0.02
    assert found.estimate == pytest.approx(-0.3, abs=0.06)
    assert (found.n_arm, found.n_baseline) == (draws["arm"].to_list().count("b"), draws["arm"].to_list().count("a"))
    better = look(draws, measured, "a", "b", metric, 0.02)
    assert (better.verdict, better.broken) == ("better", False)


def test_an_arm_that_got_the_harder_requests_is_not_blamed_where_that_was_logged() -> None:
    draws, measured = world(6_000, 0.1, confounded=True, seed=3)
    fair = look(draws, measured, "b", "a", "error_rate", 0.02)
    assert fair.verdict != "worse"
    assert fair.lower is not None
    assert fair.upper is not None
    assert fair.lower < 0.0 < fair.upper
    seen = look(draws.clear(), measured, "b", "a", "error_rate", 0.02)
    assert (seen.basis, seen.verdict) == ("observed", "worse")
    assert "observed" in seen.reason("error_rate", 0.02, "b", "a")


def test_nothing_is_said_too_early_or_of_an_arm_that_was_never_run() -> None:
    draws, measured = world(150, 0.9)
    early = look(draws, measured, "b", "a", "error_rate", 0.0)
    assert (early.verdict, early.lower, early.upper) == ("can't tell yet", None, None)
    never = look(draws, measured, "c", "a", "error_rate", 0.0)
    assert never == SafetyLook(
        0, measured.filter(pl.col("arm") == "a").height, None, None, None, "can't tell yet", "observed"
    )


def test_draws_without_a_value_and_decisions_that_could_go_one_way_only_are_left_out() -> None:
    draws, measured = world(3_000, 0.1)
    forced = draws.with_columns(
        propensities=pl.when(pl.col("arm") == "a").then(pl.lit([1.0, 0.0])).otherwise(pl.lit([0.0, 1.0]))
    )
    some = pl.concat([draws.head(1_000), forced.slice(1_000)])
    found = look(some, measured, "b", "a", "error_rate", 0.0)
    assert found.n_arm + found.n_baseline == 1_000
    fewer = look(draws, measured.head(500), "b", "a", "error_rate", 0.0)
    assert fewer.n_arm + fewer.n_baseline == 500


def test_the_verdict_is_about_the_margin() -> None:
    nan = float("nan")
    assert safety_verdict(nan, nan, 0.1) == "can't tell yet"
    assert safety_verdict(-0.3, -0.11, 0.1) == "worse"
    assert safety_verdict(-0.3, -0.05, 0.1) == "can't tell yet"
    assert safety_verdict(-0.09, 0.2, 0.1) == "no worse"
    assert safety_verdict(0.01, 0.2, 0.1) == "better"


@pytest.mark.parametrize(("share", "rate"), [(0.5, 0.1), (0.05, 0.5), (0.1, 0.97)])
def test_equal_arms_are_killed_in_at_most_one_of_a_hundred_runs_looked_at_at_every_decision(
    share: float, rate: float
) -> None:
    """Margin 0, the hardest: with a margin false kills are rarer still. Where success is rare an arm without luck
    shows little variance."""
    random = np.random.default_rng(11)
    runs, n = 300, 6_000
    drawn = random.random((runs, n)) < share
    bad = (random.random((runs, n)) < rate).astype(np.float64)
    found = contrast(-bad, drawn, ~drawn, np.full(drawn.shape, share), np.full(drawn.shape, 1 - share))
    seen = looks(found, alpha=ALPHA)
    assert np.isfinite(seen.upper[:, -1]).mean() > 0.5
    kills = (seen.upper < 0.0).any(axis=1).mean()
    assert kills <= 0.01
    either = ((seen.upper < 0.0) | (seen.lower > 0.0)).any(axis=1).mean()
    assert either <= 0.02


def test_a_harmful_arm_is_killed_in_every_run_within_the_decisions_that_are_expected() -> None:
    random = np.random.default_rng(12)
    runs, n = 200, 4_000
    drawn = random.random((runs, n)) < 0.2
    bad = (random.random((runs, n)) < np.where(drawn, 0.3, 0.1)).astype(np.float64)
    found = contrast(-bad, drawn, ~drawn, np.full(drawn.shape, 0.2), np.full(drawn.shape, 0.8))
    killed = looks(found, alpha=ALPHA).upper < -0.02
    assert killed.any(axis=1).all()
    assert 900 <= np.median(killed.argmax(axis=1)) <= 2_200
