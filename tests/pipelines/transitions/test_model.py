"""The model of one agent: counts of SQL shape equal NumPy's, scores, reliability, schema events, noisy states."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from transition_chains import START, draw, frames

from pipelines.transitions.absorbing import absorption
from pipelines.transitions.episodes import count_matrix, encode, folded_counts, user_cells
from pipelines.transitions.model import ModelConfig, fit_agent
from pipelines.transitions.scoring import score

CHAIN = np.array(
    [
        [0.7, 0.2, 0.1, 0.0, 0.0, 0.0],
        [0.1, 0.5, 0.1, 0.2, 0.05, 0.05],
        [0.0, 0.1, 0.4, 0.35, 0.1, 0.05],
        [0.3, 0.0, 0.1, 0.1, 0.45, 0.05],
    ]
)


@pytest.fixture(scope="module")
def fitted():
    paths, over = draw(CHAIN, 3_000, np.random.default_rng(5))
    episodes, counts, by_user, labelled = frames(paths, over, task="t")
    model = fit_agent("a", episodes, counts, by_user, labelled, np.random.default_rng(6))
    return episodes, counts, by_user, paths, over, model


def test_counts_of_sql_numpy_and_by_hand_agree(fitted):
    _, counts, by_user, paths, over, model = fitted
    expected = np.zeros((4, 6))
    place = dict(model.folded.of.iter_rows())
    for path, end in zip(paths, over, strict=True):
        line = [0, *(place[state] for state in path)]
        np.add.at(expected, (line, [*(p - 1 for p in line[1:]), 3 + end]), 1.0)
    assert np.array_equal(count_matrix(model.transitions), expected)
    assert np.array_equal(folded_counts(counts, model.folded.of, 3), expected)
    assert np.array_equal(model.counts, expected)
    n, source, target, group = user_cells(by_user, model.folded.of, 3)
    summed = np.zeros((4, 6))
    np.add.at(summed, (source, target), n)
    assert np.array_equal(summed, expected)
    assert group.max() + 1 == 40 * 4  # every user has been everywhere


def test_the_model_says_where_traces_end(fitted):
    episodes, *_, model = fitted
    truth = absorption(CHAIN, 3, np.array([0.0, 0.5, 0.5, 0.5]))
    bands = {row["measure"]: row for row in model.reliability.iter_rows(named=True)}
    expected = {
        "success": truth.ends[0], "failure": truth.ends[1], "ended": truth.ends[2],
        "success_of_judged": truth.ends[0] / truth.ends[:2].sum(), "steps": truth.steps, "cost_usd": truth.cost,
    }  # fmt: skip
    assert set(bands) == set(expected)
    for name, value in expected.items():
        assert bands[name]["lower"] < value < bands[name]["upper"], name
        assert bands[name]["traces"] == episodes.height
    assert model.entry["parameters"]["order"]["verdict"] == "no history needed"
    assert model.entry["parameters"]["cost_known"] == 1.0
    assert model.states["role"].to_list() == ["start", "step", "step", "step", "success", "failure", "ended"]
    assert model.states["base"].sum() == pytest.approx(1.0)


def test_ordinary_traces_have_ordinary_p_values_and_a_strange_one_stands_out(fitted):
    paths, over = draw(CHAIN, 2_000, np.random.default_rng(7))
    # START to state 3, then state 2 again and again: steps that the chain hardly ever takes.
    paths.append([3, 2, 1, 3, 2, 1, 3, 2, 1, 3, 2, 1])
    over = np.append(over, 1)
    episodes, counts, by_user, labelled = frames(paths, over, task="t")
    model = fit_agent("a", episodes, counts, by_user, labelled, np.random.default_rng(6))
    found = score("a", episodes, model.transitions, model.surprise, episodes["seen_at"][-1])
    assert found["p_value"].to_list()[-1] < 0.02
    assert 0.0 < (found["p_value"] <= 0.1).mean() <= 0.1  # short paths tie, which makes p-values larger
    assert set(found["comparison"]) == {"task"}
    assert found["transitions"].sum() == model.transitions.source.size


def test_a_state_that_is_random_by_nature_does_not_alarm():
    """Half of the traces watch a television with 30 channels: by p-value they are no stranger than the others."""
    random = np.random.default_rng(8)
    size = 32
    chain = np.zeros((size + 1, size + 3))
    chain[0, 0], chain[0, 1] = 0.5, 0.5
    chain[1, 2:size] = 1 / 30  # state 1: the television
    chain[2, size], chain[2, 0] = 0.9, 0.1
    chain[3:, 1] = 1.0
    paths, over = draw(chain, 6_000, random)
    episodes, counts, by_user, labelled = frames(paths, over)
    model = fit_agent("a", episodes, counts, by_user, labelled, random)
    found = score("a", episodes, model.transitions, model.surprise, episodes["seen_at"][-1])
    watched = pl.Series([path[0] == 1 for path in paths])
    alarm = found["p_value"] <= 0.05
    assert alarm.filter(watched).mean() < 0.08
    place = dict(model.folded.of.iter_rows())[1]
    z = model.surprise.z[place][model.transitions.target[model.transitions.source == place]]
    assert abs(z.mean()) < 0.1
    assert np.abs(z).max() < 4.0
    raw = model.surprise.information[place][model.transitions.target[model.transitions.source == place]]
    assert raw.mean() > 3.0


def test_arms_get_bands_of_their_own():
    random = np.random.default_rng(9)
    better = CHAIN.copy()
    better[3, 3], better[3, 4] = 0.5, 0.05
    first, ends = draw(CHAIN, 400, random)
    second, more = draw(better, 400, random)
    frame = frames([*first, *second], np.concatenate([ends, more]), arms=["old"] * 400 + ["new"] * 400)
    model = fit_agent("a", *frame, random)
    bands = model.reliability.filter(measure="success")
    assert bands["arm"].to_list() == [None, "new", "old"]
    new, old = (bands.filter(arm=arm).row(0, named=True) for arm in ("new", "old"))
    assert new["lower"] > old["upper"]
    assert new["traces"] == 400


def test_a_new_tool_is_a_schema_event():
    paths = [[1]] * 60 + [[1, 2]] * 30
    episodes, counts, by_user, labelled = frames(paths, [0] * 90)
    days = [START + timedelta(days=i / 3) for i in range(90)]
    episodes = episodes.with_columns(seen_at=pl.Series(days).cast(episodes.schema["seen_at"]))
    assert fit_agent("a", episodes, counts, by_user, labelled, np.random.default_rng(1)).entry["parameters"][
        "schema"
    ] == {"new": [], "gone": []}
    late = frames([[1]] * 60 + [[3]] * 25 + [[2]] * 25, [0] * 110)
    spread = [START + timedelta(days=i / 4) for i in range(110)]
    moved = late[0].with_columns(seen_at=pl.Series(spread).cast(late[0].schema["seen_at"]))
    schema = fit_agent("a", moved, *late[1:], np.random.default_rng(1)).entry["parameters"]["schema"]
    assert schema == {"new": ["tool 2"], "gone": ["tool 1"]}


def test_traces_without_steps_and_unknown_costs_are_fitted_all_the_same():
    episodes, counts, by_user, labelled = frames([[]] * 50, [0] * 30 + [2] * 20)
    model = fit_agent("a", episodes, counts, by_user, labelled, np.random.default_rng(1))
    assert model.entry["states"] == 0
    success = model.reliability.filter(measure="success").row(0, named=True)
    assert success["lower"] < 0.6 < success["upper"]
    assert "cost_usd" not in set(model.reliability["measure"])
    # No failure among 50: Jeffreys' upper limit, 1 - (.025)^(1/50) being the exact one.
    failure, judged = (model.reliability.filter(measure=m).row(0, named=True) for m in ("failure", "success_of_judged"))
    assert (failure["estimate"], failure["lower"]) == (0.0, 0.0)
    assert failure["upper"] == pytest.approx(0.0489, abs=0.001)
    assert (judged["estimate"], judged["upper"]) == (1.0, 1.0)
    assert judged["lower"] == pytest.approx(1 - 0.0802, abs=0.001)


def test_an_unknown_verdict_a_state_without_place_and_other_counts_are_named(fitted):
    episodes, counts, by_user, *_, model = fitted
    with pytest.raises(ValueError, match="verdicts must be one of success, failure, ended; 3000"):
        encode(episodes.with_columns(verdict=pl.lit("maybe")), model.folded.of, 3)
    with pytest.raises(ValueError, match="does not place"):
        encode(episodes, model.folded.of.head(2), 3)
    with pytest.raises(ValueError, match="were counted"):
        fit_agent(
            "a", episodes.head(100), counts, by_user, frames([[1, 2, 3]], [0])[3], np.random.default_rng(1),
            ModelConfig(),
        )  # fmt: skip


def test_counts_are_those_of_deeptime():
    """20 fixed trajectories of 50 steps; deeptime 0.4.5, TransitionCountEstimator(lagtime=1, count_mode="sliding")."""
    expected = [
        [32, 24, 36, 92, 52],
        [100, 32, 28, 24, 32],
        [40, 44, 20, 36, 16],
        [36, 72, 12, 56, 40],
        [28, 44, 60, 8, 16],
    ]
    paths = [[(i * i * (k + 1) + 3 * i + i // 4 + k) % 5 + 1 for i in range(50)] for k in range(20)]
    episodes, counts, _, _ = frames(paths, [0] * 20)
    folds = pl.DataFrame({"state": range(1, 6), "place": range(1, 6)}, schema={"state": pl.UInt64, "place": pl.Int32})
    for matrix in (folded_counts(counts, folds, 5), count_matrix(encode(episodes, folds, 5))):
        assert matrix[1:, :5].tolist() == expected
        assert matrix[0].sum() == matrix[:, 5].sum() == 20


def test_success_is_the_mean_reward_not_the_share_above_a_threshold():
    """Rewards of .6 are all above .5: the agent succeeds in 60 of 100 traces, not in all."""
    episodes, counts, by_user, labelled = frames([[1]] * 400, [0] * 400)
    hedged = episodes.with_columns(success=pl.lit(0.6))
    model = fit_agent("a", hedged, counts, by_user, labelled, np.random.default_rng(1))
    success = model.reliability.filter(measure="success").row(0, named=True)
    assert success["estimate"] == pytest.approx(0.6, abs=0.01)
    assert success["lower"] < 0.6 < success["upper"]
    assert success["upper"] - success["lower"] == pytest.approx(2 * 1.96 * np.sqrt(0.24 / 400), rel=0.15)
