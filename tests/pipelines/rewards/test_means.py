"""Mean rewards over all traces: unbiased where only the unhappy speak, and wide where traces share one estimate."""

import numpy as np
import polars as pl
import pytest

from pipelines.rewards.means import REWARDED, TASK_SDS, mean_rewards


def _rows(count, *, mean, sd, signals, task="t", arm="a"):
    return [
        {"agent": "x", "arm": arm, "task": task, "user_id": f"u{i}", "mean": mean, "sd": sd, "signals": signals}
        for i in range(count)
    ]


def _cells(*rows):
    return pl.DataFrame(rows, schema=TASK_SDS, orient="row")


def test_the_mean_is_over_all_traces_not_over_those_who_spoke():
    rows = _rows(100, mean=0.2, sd=0.1, signals=1) + _rows(900, mean=0.7, sd=0.4, signals=0)
    (row,) = mean_rewards(pl.DataFrame(rows, schema=REWARDED), _cells(("x", "t", 0.05))).to_dicts()
    assert row["mean"] == pytest.approx(0.65)
    assert (row["n"], row["traces"]) == (100, 1000)
    observed_sd = 0.1 / np.sqrt(100)
    assert row["sd"] == pytest.approx(np.hypot(0.1 * observed_sd, 0.9 * 0.05), rel=1e-6)


def test_more_traces_without_signals_do_not_make_it_surer():
    cells = _cells(("x", "t", 0.06))
    few = mean_rewards(
        pl.DataFrame(_rows(50, mean=0.5, sd=0.1, signals=1) + _rows(500, mean=0.5, sd=0.4, signals=0), schema=REWARDED),
        cells,
    )
    many = mean_rewards(
        pl.DataFrame(
            _rows(50, mean=0.5, sd=0.1, signals=1) + _rows(50_000, mean=0.5, sd=0.4, signals=0), schema=REWARDED
        ),
        cells,
    )
    assert many["sd"][0] >= few["sd"][0]
    assert many["sd"][0] == pytest.approx(0.06, rel=0.01)


def test_with_all_traces_observed_it_is_the_plain_mean():
    rows = _rows(40, mean=0.3, sd=0.1, signals=2)
    (row,) = mean_rewards(pl.DataFrame(rows, schema=REWARDED), _cells()).to_dicts()
    assert row["mean"] == pytest.approx(0.3)
    assert row["sd"] == pytest.approx(0.1 / np.sqrt(40))


def test_without_any_signal_there_is_no_mean():
    (row,) = mean_rewards(
        pl.DataFrame(_rows(40, mean=0.5, sd=0.4, signals=0), schema=REWARDED), _cells(("x", "t", 0.3))
    ).to_dicts()
    assert row["mean"] is None
    assert row["n"] == 0


def test_the_interval_covers_the_truth_when_only_the_unhappy_speak():
    """An agent with 20 tasks; in each few traces are verified, the rest carry their task's posterior."""
    random = np.random.default_rng(5)
    covered = 0
    for _ in range(200):
        truth = random.beta(7, 3, 20)
        rows, cells, total = [], [], 0.0
        for task, rate in enumerate(truth):
            outcomes = random.random(10) < rate
            total += outcomes.sum() + 90 * rate
            good, bad = outcomes.sum() + 3.5, (~outcomes).sum() + 1.5
            mean, sd = good / (good + bad), np.sqrt(good * bad / (good + bad) ** 2 / (good + bad + 1))
            cells.append(("x", str(task), sd))
            for value in outcomes:
                rows += _rows(1, mean=0.97 if value else 0.03, sd=0.05, signals=1, task=str(task))
            rows += _rows(90, mean=mean, sd=0.4, signals=0, task=str(task))
        (row,) = mean_rewards(pl.DataFrame(rows, schema=REWARDED), _cells(*cells)).to_dicts()
        covered += abs(row["mean"] - total / 2000) <= 1.96 * row["sd"]
    assert covered >= 188  # 1.0 of 400: errors of tasks count as fully correlated, which they are at most
