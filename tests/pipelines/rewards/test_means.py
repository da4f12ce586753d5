"""Mean rewards over all traces: unbiased where only the unhappy speak, and wide where traces share one estimate."""

import numpy as np
import polars as pl
import pytest

from pipelines.rewards import empirical_bayes
from pipelines.rewards.means import REWARDED, TASK_SDS, beyond_sampling, mean_rewards

REPEATS = 500


def _rows(count, *, mean, sd, signals, task="t", arm="a"):
    return [
        {"agent": "x", "arm": arm, "task": task, "user_id": f"u{i}", "mean": mean, "sd": sd, "signals": signals}
        for i in range(count)
    ]


def _cells(*rows):
    return pl.DataFrame(rows, schema=TASK_SDS, orient="row")


def test_the_mean_is_over_all_traces_not_over_those_who_spoke():
    rows = _rows(100, mean=0.2, sd=0.1, signals=1) + _rows(900, mean=0.7, sd=0.05, signals=0)
    (row,) = mean_rewards(pl.DataFrame(rows, schema=REWARDED), _cells(("x", "t", 0.05, 0.05))).to_dicts()
    assert row["mean"] == pytest.approx(0.65)
    assert (row["n"], row["traces"]) == (100, 1000)
    observed_sd = 0.1 / np.sqrt(100)
    assert row["sd"] == pytest.approx(np.hypot(0.1 * observed_sd, 0.9 * 0.05), rel=1e-6)


def test_more_traces_without_signals_do_not_make_it_surer():
    cells = _cells(("x", "t", 0.06, 0.06))
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


def test_what_all_traces_of_an_agent_err_by_alike_does_not_average_out():
    rows = _rows(40_000, mean=0.3, sd=0.1, signals=2)
    frame = pl.DataFrame(rows, schema=REWARDED)
    (row,) = mean_rewards(frame, _cells(), {"x": 0.04, "y": 0.5, None: 0.5}).to_dicts()
    assert row["sd"] == pytest.approx(0.04, rel=1e-3)


def test_the_chance_of_which_traces_there_were_is_not_counted_twice():
    sampled = mean_rewards(pl.DataFrame(_rows(100, mean=0.3, sd=0.2, signals=2), schema=REWARDED), _cells())
    chance = 0.2 / np.sqrt(100)
    left = beyond_sampling({"x": 0.05, "elsewhere": 0.3, None: 0.1}, sampled)
    assert left == {"x": pytest.approx(np.sqrt(0.05**2 - chance**2)), "elsewhere": 0.3, None: 0.1}
    assert beyond_sampling({"x": chance / 2}, sampled) == {"x": 0.0}


@pytest.mark.thorough
def test_intervals_with_a_level_that_was_fitted_to_the_same_traces_cover():
    """The level is the traces' own mean on a scale that is off by a little: its error holds their chance already."""
    random = np.random.default_rng(11)
    covered, twice = 0, 0
    for _ in range(REPEATS):
        values = random.normal(0.5, 0.2, 80)
        off = random.normal(0.0, 0.02)
        rows = [
            {"agent": "x", "arm": "a", "task": None, "user_id": f"u{at}", "mean": float(value), "sd": 0.0, "signals": 1}
            for at, value in enumerate(values + off)
        ]
        frame = pl.DataFrame(rows, schema=REWARDED)
        fitted = {"x": float(np.hypot(0.2 / np.sqrt(80), 0.02))}  # of the level, as a fit states it
        (row,) = mean_rewards(frame, _cells(), beyond_sampling(fitted, mean_rewards(frame, _cells()))).to_dicts()
        covered += abs(row["mean"] - 0.5) <= 1.96 * row["sd"]
        (wide,) = mean_rewards(frame, _cells(), fitted).to_dicts()
        twice += abs(wide["mean"] - 0.5) <= 1.96 * wide["sd"]
    assert 0.93 <= covered / REPEATS <= 0.97
    assert twice > covered


def test_without_any_signal_there_is_no_mean():
    (row,) = mean_rewards(
        pl.DataFrame(_rows(40, mean=0.5, sd=0.4, signals=0), schema=REWARDED), _cells(("x", "t", 0.3, 0.3))
    ).to_dicts()
    assert row["mean"] is None
    assert row["n"] == 0


def test_what_is_a_tasks_own_averages_out_and_what_is_shared_does_not():
    rows = _rows(10, mean=0.5, sd=0.1, signals=1, task="0")
    rows += [row for task in range(16) for row in _rows(100, mean=0.5, sd=0.2, signals=0, task=str(task))]
    frame = pl.DataFrame(rows, schema=REWARDED)

    def sd(shared):
        cells = _cells(*(("x", str(task), 0.2, shared) for task in range(16)))
        (row,) = mean_rewards(frame, cells).to_dicts()
        return row["sd"]

    observed = 10 / 1610 * 0.1 / np.sqrt(10)
    rest = 1600 / 1610
    assert sd(0.0) == pytest.approx(np.hypot(observed, rest * 0.2 / 4), rel=1e-6)
    assert sd(0.2) == pytest.approx(np.hypot(observed, rest * 0.2), rel=1e-6)
    assert sd(0.12) == pytest.approx(np.sqrt(observed**2 + rest**2 * (0.16**2 / 16 + 0.12**2)), rel=1e-6)


def _world(random, tasks, observed, silent, concentration):
    """Traces of one agent whose quality varies within and between tasks; few have a checked outcome. The true mean."""
    agent = random.beta(14, 6)
    rates = random.beta(concentration * agent, concentration * (1 - agent), tasks)
    task = np.repeat(np.arange(tasks), observed + silent)
    within = 1 / 9  # of a class of evidence with reliability .9
    quality = random.beta(within * rates[task], within * (1 - rates[task]))
    seen = np.tile(np.arange(observed + silent) < observed, tasks)
    ids = np.array([f"t{i}" for i in range(len(task))])
    traces = pl.DataFrame(
        {"trace_id": ids, "agent": "x", "task": task.astype(str), "user_id": [f"u{i}" for i in range(len(task))]}
    )
    signals = pl.DataFrame(
        {
            "trace_id": ids[seen], "kind": "outcome",
            "value": (random.random(int(seen.sum())) < quality[seen]).astype(float), "annotator_kind": "code",
            "solicited": None,
        },
        schema=empirical_bayes.SIGNALS,
    )  # fmt: skip
    return traces, signals, float(quality.mean())


@pytest.mark.thorough
@pytest.mark.parametrize(("tasks", "observed", "silent"), [(30, 8, 40), (60, 3, 20)])
def test_intervals_of_the_fallbacks_means_cover(tasks, observed, silent):
    random = np.random.default_rng(5)
    covered = 0
    for _ in range(REPEATS):
        traces, signals, truth = _world(random, tasks, observed, silent, concentration=6.0)
        fitted = empirical_bayes.fit(traces, signals)
        rewarded = traces.join(fitted.rewards, on="trace_id").with_columns(arm=pl.lit("a"))
        (row,) = mean_rewards(rewarded, fitted.cells).to_dicts()
        covered += abs(row["mean"] - truth) <= 1.96 * row["sd"]
    assert 0.93 <= covered / REPEATS <= 0.97, covered / REPEATS
