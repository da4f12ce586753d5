"""The rewards job on a simulated deployment: good, calibrated rewards, versions, and new traces scored."""

import json
from contextlib import closing
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from loop_data import run_loop
from publishing import publisher
from scipy.stats import spearmanr

from pipelines.compute import Aside
from pipelines.jobs import JobContext
from pipelines.rewards import job
from pipelines.rewards.empirical_bayes import reward_interval
from pipelines.simulate import SimulationConfig, simulate
from store import links, reward_versions, rewards
from store.clock import FixedClock
from store.connection import Store
from store.scope import ACTIVE_REWARDS
from store.settings import Settings

CONFIG = SimulationConfig(users=300, days=28, traces=5_500, seed=11, solicitation_rate=0.1)


def _load(store, folder, deployment, traces):
    """Publish these traces of a deployment with their spans and signals."""
    chosen = deployment.traces.filter(pl.col("trace_id").is_in(traces.implode()))
    spans = deployment.spans.filter(pl.col("trace_id").is_in(traces.implode()))
    signals = deployment.signals.filter(pl.col("trace_id").is_in(traces.implode()))
    rows = {kind: _rows(frame) for kind, frame in (("traces", chosen), ("spans", spans), ("signals", signals))}
    satisfied = dict(deployment.truth_traces.select("trace_id", pl.col("satisfied").cast(pl.Float64)).iter_rows())
    for number, row in enumerate(rows["traces"]):
        told = satisfied[row["trace_id"]]
        row["metadata"] |= {"final_score": told, "hint": told + number % 7 / 100}
    publisher(store, folder)(**rows)
    links.refresh(store)


def _rows(frame):
    parsed = [name for name in ("metadata", "attributes", "links") if name in frame.columns]
    rows = frame.to_dicts()
    for row in rows:
        for name in parsed:
            if isinstance(row[name], str):
                row[name] = json.loads(row[name])
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


@pytest.fixture(scope="module")
def deployment():
    return simulate(CONFIG)


@pytest.fixture(scope="module")
def loaded(deployment, tmp_path_factory):
    """A store with all but the last 300 traces, and the job run on it once; a clock that can be moved."""
    folder = tmp_path_factory.mktemp("rewards")
    clock = FixedClock(CONFIG.until)
    store = Store.open(folder / "trimtab.duckdb", clock=clock, threads=2)
    ids = deployment.traces["trace_id"]
    _load(store, folder, deployment, ids.head(CONFIG.traces - 300))
    run_loop(store, "tasks", "rewards")
    yield store, folder, clock
    store.close()


def _joined(store, deployment):
    with store.read() as reader:
        held = reader.any_frame(f"SELECT trace_id, mean, sd, signals FROM {ACTIVE_REWARDS}")
    return held.join(deployment.truth_traces, on="trace_id")


def test_rewards_rank_traces_by_their_true_quality_and_are_calibrated(loaded, deployment):
    store, *_ = loaded
    joined = _joined(store, deployment)
    assert joined.height == CONFIG.traces - 300
    assert spearmanr(joined["mean"], joined["quality"]).statistic >= 0.8
    bins = joined.with_columns(bin=pl.col("mean").rank("ordinal") * 10 // (joined.height + 1)).group_by("bin")
    gaps = bins.agg((pl.col("mean") - pl.col("satisfaction")).mean().abs(), pl.len())
    assert float((gaps["mean"] * gaps["len"]).sum() / joined.height) <= 0.03
    lower, upper = reward_interval(joined["mean"].to_numpy(), joined["sd"].to_numpy())
    truth = joined["satisfaction"].to_numpy()
    assert np.mean((lower <= truth) & (truth <= upper)) == pytest.approx(0.95, abs=0.03)


def test_means_of_agents_and_arms_are_about_the_truth(loaded, deployment):
    """In their intervals, which hold what is not known of the scale; and without that the contrasts of arms are."""
    store, *_ = loaded
    joined = _joined(store, deployment)
    parameters = json.loads(rewards.models(store)["parameters"][0])
    truth = joined.group_by("agent", "arm").agg(truth=pl.col("satisfaction").mean())
    whole = joined.group_by("agent", arm=pl.lit("all arms")).agg(truth=pl.col("satisfaction").mean())
    for name, true in (("arm_means", truth), ("agent_means", whole)):
        means = pl.DataFrame(parameters[name]).join(true, on=["agent", "arm"])
        assert means.height == true.height
        errors = ((means["mean"] - means["truth"]) / means["sd"]).abs()
        assert errors.max() < 3.5, means.with_columns(errors=errors)
        assert (errors < 1.96).mean() > 0.8
    outcomes = rewards.by_arm(store).group_by("agent", "arm").agg(
        outcome=pl.col("mean").mean(), error=pl.col("mean").std() / pl.len().sqrt()
    ).join(truth, on=["agent", "arm"])  # fmt: skip
    centred = outcomes.with_columns(
        off=(pl.col("outcome") - pl.col("truth")) - (pl.col("outcome") - pl.col("truth")).mean().over("agent")
    )
    # Traces of one person go together, so the plain errors are somewhat too small.
    assert (centred["off"].abs() < 3 * centred["error"]).mean() > 0.8, centred


def test_features_that_give_the_outcome_away_are_refused_by_name(loaded):
    parameters = json.loads(rewards.models(loaded[0])["parameters"][0])
    refused = {one["feature"]: one["reason"] for one in parameters["refused_features"]}
    assert refused == {"final_score": "named_outcome", "hint": "gives_away_label"}
    features = reward_versions.feature_weights(loaded[0], 1)["feature"]
    assert not features.str.contains("final_score|hint").any()
    assert {"named_outcome", "gives_away_label"} <= {note["reason"] for note in parameters["notes"]}


def test_traces_without_signals_have_rewards_too(loaded, deployment):
    silent = _joined(loaded[0], deployment).filter(pl.col("signals") == 0)
    assert silent.height > 50
    assert spearmanr(silent["mean"], silent["quality"]).statistic >= 0.65


def test_the_version_says_what_it_rests_on(loaded):
    store, _, clock = loaded
    row = reward_versions.active(store)
    assert (row["method"], row["state"], row["reason"]) == ("trace_model", "active", "the first version")
    assert row["window_start"] < row["window_end"] <= clock.now()
    assert row["users"] > 200
    assert row["code_version"]
    metrics = reward_versions.metrics(store)
    assert set(metrics["held_out"]) == {"users", "tasks", "users and tasks"}
    assert set(metrics["metric"]) == {"brier", "log_loss", "ece", "spearman"}
    assert set(metrics["basis"]) == {"solicited"}
    assert metrics["n"].min() > 300
    brier = metrics.filter(pl.col("metric") == "brier")
    assert brier.filter((pl.col("lower") < pl.col("value")) & (pl.col("value") < pl.col("upper"))).height == 3
    model = row["reward_model_id"]
    assert reward_versions.calibration(store, model).filter(held_out="users")["n"].sum() == metrics["n"][0]
    assert set(reward_versions.segment_means(store, model)["segment"].drop_nulls()) == {
        "bargain_hunters", "health_minded", "explorers", "busy_professionals",
    }  # fmt: skip
    loadings = reward_versions.loadings(store, model)
    assert loadings.filter(pl.col("anchor")).height == 3
    limits = loadings.filter(pl.col("loading_sd") > 0.0)
    assert limits.height > 10
    for name in ("loading", "intercept"):
        assert limits[name].is_between(limits[f"{name}_lower"], limits[f"{name}_upper"]).all()
    parameters = json.loads(rewards.models(store)["parameters"][0])
    assert {row["agent"] for row in parameters["choice_of_arm"]} == {"shop-assistant", "travel-desk", "support-desk"}


def test_what_was_planted_is_among_the_feature_weights(loaded):
    weights = reward_versions.feature_weights(loaded[0], 1)
    worth = dict(weights.filter(kind="step").select("feature", "weight").iter_rows())
    for form in (
        'search_catalog{{"query":T, "occasion":T, "max_price":{}}}',
        'search_trips{{"destination":T, "date":{}, "purpose":T}}',
    ):
        right = "N" if "price" in form else "D"
        assert worth[f"form:{form.format('T')}"] < worth[f"form:{form.format(right)}"] - 0.3
    taste = weights.filter(pl.col("feature") == "answer_features.brevity x segment busy_professionals")
    assert taste["weight"][0] - 2 * taste["sd"][0] > 0


def _aside(store):
    """The job with its heavy work in a process of its own."""
    with closing(Aside(lambda: None, store)) as compute:
        return job.run(
            JobContext(store, store.clock, Settings(), np.random.default_rng(7), lambda *at: None, None, compute)
        )


@pytest.mark.process
def test_a_process_of_its_own_fits_and_scores_the_same(loaded):
    store, _, clock = loaded
    before = _held(store)
    store.clock = FixedClock(clock.now() + timedelta(hours=24))
    assert _aside(store).message == "Nothing changed: the version in use holds."
    store.clock = clock
    model = reward_versions.active(store)["reward_model_id"]
    _score_all_again(store, model)
    here = run_loop(store, "rewards")["rewards"]
    scored = _held(store)
    _score_all_again(store, model)
    assert _aside(store) == here
    assert _gap(_held(store), scored) < 1e-6
    assert _gap(scored, before) < 0.03


@pytest.mark.process
def test_a_fit_that_is_refused_there_comes_back_with_its_reason(tmp_path):
    store = Store.open(tmp_path / "trimtab.duckdb", clock=FixedClock(CONFIG.until), threads=1)
    publisher(store, tmp_path)(
        traces=[{"trace_id": f"t{i}", "agent": "shop", "user_id": f"u{i % 30}"} for i in range(420)],
        signals=[
            {"signal_id": f"s{i}", "trace_id": f"t{i}", "kind": "thumb", "value": float(i % 3 > 0)} for i in range(40)
        ],
    )
    assert "40 of them with 40 signals of their own" in _aside(store).message
    row = rewards.models(store).row(0, named=True)
    assert row["method"] == "empirical_bayes"
    assert "too_few_traces" in {note["reason"] for note in json.loads(row["parameters"])["notes"]}
    store.close()


def _held(store):
    with store.read() as reader:
        return reader.any_frame(f"SELECT trace_id, mean, sd FROM {ACTIVE_REWARDS}")


def _gap(one, other):
    """The mean distance between the rewards of the same traces."""
    both = one.join(other, on="trace_id", suffix="_other")
    assert both.height == one.height > 0
    return float((both["mean"] - both["mean_other"]).abs().mean())


def _score_all_again(store, model):
    """Let every trace count as new to the version."""
    store.write(
        lambda connection: connection.execute(
            "UPDATE reward_versions SET publication = -1 WHERE reward_model_id = $model", {"model": model}
        )
    )


def test_new_traces_are_scored_in_between_and_the_night_fits_anew(loaded, deployment):
    store, folder, clock = loaded
    assert run_loop(store, "rewards")["rewards"].rows == 0
    _load(store, folder, deployment, deployment.traces["trace_id"].tail(300))
    scored = run_loop(store, "tasks", "rewards")["rewards"]
    assert "scored" in scored.message
    assert scored.rows >= 300
    assert reward_versions.versions(store).height == 1
    joined = _joined(store, deployment)
    assert joined.height == CONFIG.traces
    fresh = joined.filter(pl.col("trace_id").is_in(deployment.traces["trace_id"].tail(300).implode()))
    assert spearmanr(fresh["mean"], fresh["quality"]).statistic > 0.7
    assert run_loop(store, "rewards")["rewards"].rows == 0

    before = joined.select("trace_id", "mean")
    store.clock = FixedClock(clock.now() + timedelta(hours=24))
    refitted = run_loop(store, "rewards")["rewards"]
    assert refitted.rows == CONFIG.traces
    listed = reward_versions.versions(store)
    assert listed["reward_model_id"].to_list() == [2, 1]
    assert listed["state"].to_list() == ["active", "retired"]
    assert "not worse than version 1" in listed["reason"][0]
    after = _joined(store, deployment).join(before, on="trace_id", suffix="_before")
    assert spearmanr(after["mean"], after["mean_before"]).statistic > 0.97
    reward_versions.activate(store, 1, operator="Ada", reason="as before")
    assert _joined(store, deployment).height == CONFIG.traces


def test_while_a_version_waits_for_an_operator_the_one_in_use_scores_what_is_new(loaded, deployment):
    """Arms, guardrails and lessons go by the version in use: else they would be blind until somebody decides."""
    store, _, clock = loaded
    assert reward_versions.active(store)["reward_model_id"] == 1
    new = deployment.traces["trace_id"].tail(200).to_list()
    store.write(
        lambda connection: connection.execute(
            "DELETE FROM rewards WHERE trace_id IN (SELECT unnest($new))", {"new": new}
        )
    )
    _score_all_again(store, 1)
    store.clock = FixedClock(clock.now() + timedelta(hours=48))
    made = run_loop(store, "rewards")["rewards"]
    assert "Version 3: " in made.message
    assert "waits for an operator" in made.message
    assert "Version 1 scored" in made.message
    assert _joined(store, deployment).height == CONFIG.traces
    assert reward_versions.versions(store)["state"].to_list() == ["candidate", "retired", "active"]
    again = run_loop(store, "rewards")["rewards"]
    assert (again.rows, reward_versions.versions(store).height) == (0, 3)


def test_a_stated_weight_holds_in_the_fit_and_for_traces_scored_after_it(loaded, deployment):
    store, *_ = loaded
    store.clock = FixedClock(reward_versions.active(store)["fitted_at"] + timedelta(days=3))
    run_loop(store, "rewards")
    _put_newest_in_use(store)
    even = _held(store)
    reward_versions.set_stated_weight(
        store, 0.0, agent="shop-assistant", segment=None, operator="Ada", reason="deeds, not words"
    )
    store.clock = FixedClock(store.clock.now() + timedelta(days=1))
    assert run_loop(store, "rewards")["rewards"].rows > 0
    model = _put_newest_in_use(store)
    scopes = json.loads(rewards.models(store)["parameters"][0])["stated_weights"]
    assert {(one["agent"], one["weight"], one["note"]) for one in scopes} == {("shop-assistant", 0.0, None)}
    weighted = _held(store)
    of_shop, of_others = _by_shop(weighted, deployment)
    assert _gap(of_shop, even) > 0.02
    assert _gap(of_others, even) < 1e-6  # what is decided of one agent moves no other

    # What the version says of a trace that comes later is what the fit says of it, not what all its signals say.
    _score_all_again(store, model)
    assert "scored" in run_loop(store, "rewards")["rewards"].message
    scored, scored_others = _by_shop(_held(store), deployment)
    assert _gap(scored, weighted) < 1.3 * _gap(scored_others, weighted)
    moved = [one.join(even, on="trace_id").sort("trace_id").select(pl.col("mean") - pl.col("mean_right"))["mean"]
             for one in (scored, of_shop)]  # fmt: skip
    assert np.corrcoef(*moved)[0, 1] > 0.5


def _put_newest_in_use(store):
    """In place of one that an operator chose over it; returns its number."""
    model = reward_versions.versions(store)["reward_model_id"][0]
    if reward_versions.active(store)["reward_model_id"] != model:
        reward_versions.activate(store, model, operator="Ada", reason="as decided")
    return model


def _by_shop(held, deployment):
    agents = held.join(deployment.traces.select("trace_id", "agent"), on="trace_id")
    return agents.filter(agent="shop-assistant"), agents.filter(pl.col("agent") != "shop-assistant")
