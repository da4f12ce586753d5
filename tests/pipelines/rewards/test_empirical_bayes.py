"""Rewards against a scalar reference, known truth, conservation laws and tau-bench."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.rewards.empirical_bayes import CELLS, NOTES, REWARDS, TRACES, RewardConfig, fit, reward_interval
from pipelines.rewards.observations import SIGNALS
from pipelines.stats.beta_binomial import interval
from pipelines.stats.contract import ContractError

NO_SIGNALS = pl.DataFrame(schema=SIGNALS)


def outcomes(trace_ids: list[str], values: list[float]) -> pl.DataFrame:
    rows = [(trace_id, "outcome", value, "code", None) for trace_id, value in zip(trace_ids, values, strict=True)]
    return pl.DataFrame(rows, schema=SIGNALS, orient="row")


def traces(*rows: tuple[str, str | None, str | None, str | None]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=TRACES, orient="row")


def reasons(notes: pl.DataFrame) -> set[str]:
    return set(notes["reason"])


def test_matches_a_scalar_reference() -> None:
    rng = np.random.default_rng(1)
    rows, values = [], {}
    for task in range(8):
        chance = rng.beta(1.5, 1.5)
        for rollout in range(5):
            rows.append((f"{task}.{rollout}", "a", str(task), f"u{rollout}"))
            if rollout < 4:
                values[f"{task}.{rollout}"] = float(rng.random() < chance)
    found = fit(traces(*rows), outcomes(list(values), list(values.values())))
    agent = found.parameters["agents"][0]
    m, v, kappa = agent["mean"], agent["mean_sd"] ** 2, agent["kappa"]
    nu = 0.1 / 0.9
    by_trace = {row["trace_id"]: row for row in found.rewards.iter_rows(named=True)}
    for task in range(8):
        own = [values[f"{task}.{rollout}"] for rollout in range(4)]
        k, n = sum(own), len(own)
        cell = (kappa * m + k) / (kappa + n)
        carried = (kappa / (kappa + n)) ** 2 * v
        cell_variance = (cell * (1 - cell) - carried) / (kappa + n + 1) + carried
        for rollout in range(5):
            y, w = (values[f"{task}.{rollout}"], 1.0) if rollout < 4 else (0.0, 0.0)
            mean = (nu * cell + w * y) / (nu + w)
            carried = (nu / (nu + w)) ** 2 * cell_variance
            sd = ((mean * (1 - mean) - carried) / (nu + w + 1) + carried) ** 0.5
            row = by_trace[f"{task}.{rollout}"]
            assert row["mean"] == pytest.approx(mean)
            assert row["sd"] == pytest.approx(sd)
            assert row["signals"] == int(w)


def simulated(seed: int, reliability: float) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, float], dict[str, float]]:
    """200 tasks of 15 traces from the model itself; 60 % of the traces have an outcome. Also true means of both."""
    rng = np.random.default_rng(seed)
    nu = (1 - reliability) / reliability
    rows, ids, values, truth, cells = [], [], [], {}, {}
    for task in range(200):
        mu = rng.beta(4 * 0.6, 4 * 0.4)
        cells[str(task)] = mu
        for i in range(15):
            trace_id = f"{task}.{i}"
            theta = rng.beta(nu * mu, nu * (1 - mu))
            rows.append((trace_id, "a", str(task), f"u{rng.integers(50)}"))
            truth[trace_id] = theta
            if rng.random() < 0.6:
                ids.append(trace_id)
                values.append(float(rng.random() < theta))
    return traces(*rows), outcomes(ids, values), truth, cells


@pytest.mark.parametrize("reliability", [0.3, 0.5, 0.7, 0.9])
def test_intervals_cover_the_truth(reliability: float) -> None:
    covered, observed, squared_errors, variances = [], [], [], []
    for seed in range(4):
        frame, signals, truth, _ = simulated(seed, reliability)
        found = fit(frame, signals, RewardConfig(reliability={"outcome": reliability}))
        mean, sd = found.rewards["mean"].to_numpy(), found.rewards["sd"].to_numpy()
        lower, upper = reward_interval(mean, sd)
        true = np.array([truth[trace_id] for trace_id in found.rewards["trace_id"]])
        covered.append((lower <= true) & (true <= upper))
        observed.append(found.rewards["signals"].to_numpy() > 0)
        squared_errors.append((mean - true) ** 2)
        variances.append(sd**2)
    inside, own = np.concatenate(covered), np.concatenate(observed)
    assert 0.93 <= inside.mean() <= 0.97
    assert 0.92 <= inside[own].mean() <= 0.98
    assert 0.92 <= inside[~own].mean() <= 0.98
    assert np.mean(squared_errors) == pytest.approx(np.mean(variances), rel=0.05)


def test_cell_intervals_cover_the_truth() -> None:
    covered = []
    for seed in range(5):
        frame, signals, _, cells = simulated(seed, 0.9)
        found = fit(frame, signals)
        lower, upper = interval(found.cells["mean"].to_numpy(), found.cells["sd"].to_numpy())
        true = np.array([cells[task] for task in found.cells["task"]])
        covered.append((lower <= true) & (true <= upper))
    assert 0.93 <= np.mean(covered) <= 0.97


names = st.sampled_from(["a", "b", None])
values = st.sampled_from([0.0, 0.25, 1.0, None])
kinds = st.sampled_from(["outcome", "thumb", "rating", "annotation", "judge", "click"])


@given(
    st.lists(st.tuples(names, names, names), max_size=12),
    st.lists(st.tuples(st.integers(0, 14), kinds, values, st.sampled_from(["code", "llm", None])), max_size=20),
)
def test_every_trace_gets_one_reward(
    rows: list[tuple[str | None, str | None, str | None]],
    given_signals: list[tuple[int, str, float | None, str | None]],
) -> None:
    frame = traces(*[(f"t{i}", *row) for i, row in enumerate(rows)])
    signals = pl.DataFrame(
        [(f"t{i}", kind, value, by, None) for i, kind, value, by in given_signals], schema=SIGNALS, orient="row"
    )
    found = fit(frame, signals)
    assert found.rewards.schema == REWARDS
    assert found.cells.schema == CELLS
    assert found.notes.schema == NOTES
    assert found.rewards["trace_id"].to_list() == frame["trace_id"].to_list()
    assert found.rewards["mean"].is_between(0, 1).all()
    assert (found.rewards["sd"] > 0).all()
    assert (found.rewards["sd"] <= 0.5).all()
    assert found.cells["traces"].sum() == frame.height
    json.dumps(found.parameters, allow_nan=False)
    assert found.rewards["signals"].sum() + sum(found.parameters["excluded"].values()) == signals.height
    shuffled = fit(frame.reverse(), signals.reverse())
    both = found.rewards.join(shuffled.rewards, on="trace_id")
    assert both["mean"].to_list() == pytest.approx(both["mean_right"].to_list())
    assert both["sd"].to_list() == pytest.approx(both["sd_right"].to_list())


def test_without_signals_the_sd_is_wide_and_the_reason_named() -> None:
    found = fit(traces(("t", "a", "x", "u"), ("s", "a", "y", "u")), NO_SIGNALS)
    assert found.rewards["mean"].to_list() == [0.5, 0.5]
    assert found.rewards["sd"].min() > 0.45
    assert found.rewards["signals"].to_list() == [0, 0]
    assert reasons(found.notes) == {"no_signals"}
    assert found.parameters["agents"][0]["kappa_reason"] == "no_trials"


def test_constant_labels_and_a_single_user_are_named() -> None:
    frame = traces(*[(f"t{i}", "a", str(i % 6), "ann") for i in range(12)])
    found = fit(frame, outcomes(frame["trace_id"].to_list(), [1.0] * 12))
    assert reasons(found.notes) == {"constant_labels", "single_user", "kappa_constant"}
    assert (found.rewards["mean"] < 1).all()
    assert (found.rewards["sd"] > 0.03).all()


def test_other_weaknesses_are_named() -> None:
    frame = traces(*[(f"t{i}", "a", None, None) for i in range(4)])
    signals = pl.DataFrame(
        [("t0", "thumb", 1.0, "user", False), ("t1", "thumb", 0.0, "user", None)], SIGNALS, orient="row"
    )
    found = fit(frame, signals)
    assert reasons(found.notes) == {
        "partial_signals",
        "unknown_users",
        "volunteered_feedback",
        "no_tasks",
        "kappa_too_few_cells",
    }


def test_a_trace_without_signals_is_predicted_by_its_task() -> None:
    rows = [(f"{task}{i}", "a", task, f"u{i}") for task in "abcdef" for i in range(10)]
    values = [float(task in "abc") if i < 8 else 1.0 - float(task in "abc") for task in "abcdef" for i in range(10)]
    frame = traces(*rows, ("new", "a", "a", "u"), ("poor", "a", "f", "u"), ("first", "a", "unseen", "u"))
    found = fit(frame, outcomes([row[0] for row in rows], values))
    reward = {row["trace_id"]: row for row in found.rewards.iter_rows(named=True)}
    assert reward["new"]["mean"] > 0.7 > 0.3 > reward["poor"]["mean"]
    assert reward["first"]["mean"] == pytest.approx(0.5, abs=0.01)
    assert reward["first"]["sd"] > reward["new"]["sd"] > reward["a0"]["sd"]


def test_a_thumb_moves_a_reward_less_than_a_verified_outcome() -> None:
    rows = [(f"{task}{i}", "a", str(task), f"u{i}") for task in range(6) for i in range(4)]
    base = outcomes([row[0] for row in rows], [float(i % 2) for i in range(24)])
    frame = traces(*rows, ("thumbed", "a", "0", "u"), ("verified", "a", "0", "u"))
    extra = [("thumbed", "thumb", 1.0, "user", None), ("verified", "outcome", 1.0, "code", None)]
    found = fit(frame, pl.concat([base, pl.DataFrame(extra, SIGNALS, orient="row")]))
    reward = {row["trace_id"]: row for row in found.rewards.iter_rows(named=True)}
    cell = found.cells.filter(pl.col("task") == "0")["mean"][0]
    # The stated reliability is the share that the trace's own observation takes.
    assert reward["thumbed"]["mean"] == pytest.approx(0.5 + 0.5 * cell)
    assert reward["verified"]["mean"] == pytest.approx(0.9 + 0.1 * cell)
    assert reward["thumbed"]["sd"] > reward["verified"]["sd"]


def test_means_of_tasks_rest_on_fair_evidence_where_there_is_enough() -> None:
    rng = np.random.default_rng(6)
    rows, said = [], []
    for i in range(3000):
        satisfied = rng.random() < 0.8
        rows.append((f"t{i}", "a", str(i % 10), f"u{i}"))
        if rng.random() < 0.05:
            said.append((f"t{i}", "thumb", float(satisfied), "user", True))
        elif rng.random() < (0.02 if satisfied else 0.4):  # mostly the unhappy speak up
            said.append((f"t{i}", "thumb", float(satisfied), "user", False))
    signals = pl.DataFrame(said, SIGNALS, orient="row")
    corrected = fit(traces(*rows), signals)
    naive = fit(traces(*rows), signals, RewardConfig(min_fair=10_000))
    agent = corrected.parameters["agents"][0]
    assert abs(agent["mean"] - 0.8) < 4 * agent["mean_sd"]
    assert naive.parameters["agents"][0]["mean"] < 0.5
    assert "volunteered_set_aside" in reasons(corrected.notes)
    assert "volunteered_feedback" in reasons(naive.notes)
    unhappy = [row[0] for row in said if row[2] == 0.0 and not row[4]]
    told = corrected.rewards.filter(pl.col("trace_id").is_in(unhappy))
    assert (told["mean"] < 0.5).all()  # what was said still counts for the trace itself


def test_agents_do_not_share_strength() -> None:
    good = [(f"g{i}", "good", str(i % 6), f"u{i}") for i in range(60)]
    frame = traces(*good, ("other", "idle", "0", "u"))
    found = fit(frame, outcomes([row[0] for row in good], [1.0] * 60))
    assert found.rewards.filter(trace_id="other")["mean"][0] == 0.5
    assert found.notes.filter(agent="idle")["reason"].to_list() == ["no_signals"]


def test_refuses_repeated_traces() -> None:
    with pytest.raises(ContractError, match="trace_id must be unique"):
        fit(traces(("t", "a", "x", "u"), ("t", "a", "x", "u")), NO_SIGNALS)


def test_tau_bench(shared_data: Path) -> None:
    runs = json.loads((shared_data / "tau_bench" / "gpt-4o-airline.json").read_text())
    ids = [f"{run['task_id']}.{run['trial']}" for run in runs]
    users = [run["info"]["task"]["user_id"] for run in runs]
    frame = pl.DataFrame(
        {"trace_id": ids, "agent": "airline", "task": [str(run["task_id"]) for run in runs], "user_id": users}
    )
    found = fit(frame, outcomes(ids, [run["reward"] for run in runs]))
    assert found.rewards.height == 200
    assert found.cells.height == 50
    assert found.notes.height == 0
    assert found.rewards["mean"].mean() == pytest.approx(0.42, abs=0.001)
    assert found.cells["raw_mean"].mean() == pytest.approx(0.42)
    # Tasks differ a lot: 14 are never solved, 10 always.
    assert 1.0 < found.parameters["agents"][0]["kappa"] < 2.0
    never = found.cells.filter(pl.col("raw_mean") == 0)
    assert never.height == 14
    assert never["mean"][0] == pytest.approx(0.11, abs=0.01)
