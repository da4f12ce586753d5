"""The stopping rules of the benchmark: TensorZero's against numbers worked out by hand, and ours beside it."""

import numpy as np
import pytest

from bench.stopping import Streams, likelihood_ratio, measure, ours


def stream(rewards: list[list[int]]) -> Streams:
    """One run that draws the arms in turn; `rewards` by arm."""
    table = np.asarray(rewards, dtype=np.float64)
    arms, pulls = table.shape
    drawn = np.tile(np.arange(arms), pulls)[None, :]
    return Streams(table.T.reshape(1, -1), drawn, np.full((1, arms * pulls, arms), 1.0 / arms))


def test_the_likelihood_ratio_is_the_published_one() -> None:
    """40 pulls, 5 of 20 against 14 of 20: .45² / (2 (.1974 + .2211) / 20) = 4.839; ln((1 + ln 40) / .05) = 4.541."""
    low, high = [1] * 5 + [0] * 15, [1] * 14 + [0] * 6
    pull, winner = likelihood_ratio(stream([low, high]))
    assert (pull.tolist(), winner.tolist()) == ([40.0], [1])
    # 13 of 20: .4² / (2 (.1974 + .2395) / 20) = 3.663.
    pull, winner = likelihood_ratio(stream([low, [1] * 13 + [0] * 7]))
    assert (pull.tolist(), winner.tolist()) == ([np.inf], [-1])
    # The nearest rival counts: a third arm as good as the leader leaves it open.
    pull, _ = likelihood_ratio(stream([low, high, high]), every=60)
    assert pull.tolist() == [np.inf]


def test_our_rule_names_the_better_arm_and_the_baseline_when_all_others_are_worse() -> None:
    random = np.random.default_rng(1)
    good, bad = (random.random((2, 1_000)) < np.array([[0.8], [0.4]])).astype(int).tolist()
    assert ours(stream([bad, good]))[1].tolist() == [1]
    pull, winner = ours(stream([good, bad, bad]))
    assert winner.tolist() == [0]
    assert pull[0] % 40 == 0
    assert ours(stream([good, bad, good[::-1]]))[1].tolist() == [-1]


def test_in_a_world_that_drifts_only_ours_keeps_its_promise() -> None:
    rows = {(row.setting, row.rule): row for row in measure(100)}
    drifting = "steered, equal, rising from .3 to .7"
    assert rows[drifting, "TensorZero"].wrong > 0.5
    assert rows[drifting, "ours"].wrong <= 0.1  # of 10 runs
    assert rows["gap .1", "ours"].right == rows["gap .1", "TensorZero"].right == 1.0
    assert rows["gap .1", "ours"].decisions == pytest.approx(900, rel=0.4)
