"""The credit job on a simulated deployment: mistakes that were planted get the blame, and arms their true effect."""

import numpy as np
import polars as pl
import pytest
from loop_data import NOW, run_loop

from pipelines.credit.credits import assign
from pipelines.credit.randomised import arm_credits
from pipelines.ingest.load import load
from pipelines.simulate import SimulationConfig, simulate, write
from store import credit, rewards
from store.clock import FixedClock
from store.connection import Store


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    """A deployment of 3,000 traces, loaded; every trace's reward is what its user would say if asked."""
    folder = tmp_path_factory.mktemp("deployed")
    deployment = simulate(SimulationConfig(users=200, days=14, traces=3_000, seed=11))
    write(deployment, folder)
    store = Store.open(folder / "trimtab.duckdb", clock=FixedClock(NOW), threads=1)
    for name in ("traces", "spans"):
        load(store, next(folder.glob(f"{name}.*")))
    said = deployment.truth_traces.select(
        "trace_id", mean=pl.col("satisfied").cast(pl.Float64), sd=pl.lit(0.0), signals=pl.lit(1, dtype=pl.Int32)
    )
    _publish(store, said)
    result = run_loop(store, "credit")["credit"]
    yield store, deployment, result
    store.close()


def _publish(store, frame):
    fitted = rewards.Fitted("truth", {}, frame, pl.DataFrame(schema=rewards.CELLS), frame.height, 1, "0")
    rewards.publish(store, fitted)


def _steps(store):
    with store.read() as reader:
        return reader.any_frame("SELECT trace_id, span_id, position, credit, decision FROM step_credits")


def test_without_rewards_there_is_nothing_to_divide(tmp_path):
    store = Store.open(tmp_path / "trimtab.duckdb", clock=FixedClock(NOW), threads=1)
    result = run_loop(store, "credit")["credit"]
    assert (result.rows, credit.shown_run(store)) == (0, None)
    assert "no rewards yet" in result.message
    store.close()


def test_every_step_of_every_trace_is_credited(deployed):
    store, deployment, result = deployed
    leaves = deployment.spans.filter(pl.col("kind") != "agent")
    assert result.rows == leaves.height
    run = credit.shown_run(store)
    assert (run["traces"], run["informative"]) == (3_000, 3_000)


def test_planted_mistakes_get_the_blame_far_more_often_than_chance(deployed):
    store, deployment, _ = deployed
    planted = deployment.truth_traces.filter(pl.col("cause_span_id").is_not_null()).select("trace_id", "cause_span_id")
    ranked = (
        _steps(store)
        .join(planted, on="trace_id")
        .group_by("trace_id")
        .agg(
            blamed=pl.col("span_id").sort_by("decision").first(),
            by_credit=pl.col("span_id").sort_by("credit").first(),
            truth=pl.col("cause_span_id").first(),
            steps=pl.len(),
        )
    )
    hits = float((ranked["blamed"] == ranked["truth"]).mean())
    by_credit = float((ranked["by_credit"] == ranked["truth"]).mean())
    chance = float((1 / ranked["steps"]).mean())
    assert hits > 2.5 * chance, (hits, by_credit, chance, ranked.height)
    assert hits > by_credit - 0.05


def test_arms_get_the_effect_that_their_counterfactuals_have(deployed):
    """With the true quality as reward: an arm's value played for everybody, minus what the logged mixture got."""
    store, deployment, _ = deployed
    held = credit.evidence(store)
    truth = deployment.truth_traces
    known = held.traces.join(truth.select("trace_id", "quality"), on="trace_id", maintain_order="left")
    traces = known.with_columns(reward="quality").drop("quality")
    credited = assign(traces, held.steps, held.parallel, np.random.default_rng(1))
    found = arm_credits(credited, held.choices)
    assert set(found["agent"]) == {"shop-assistant", "travel-desk"}
    eligible = held.choices.filter(pl.col("propensity") < 1.0).join(
        traces.select("trace_no", "agent", "reward"), on="trace_no"
    )
    got = dict(eligible.group_by("agent").agg(pl.col("reward").mean()).iter_rows())
    values = {(a["name"], arm["name"]): arm["value"] for a in deployment.truth["agents"] for arm in a["arms"]}
    known_arms = found.filter(pl.col("estimate").is_not_null())
    assert known_arms.height >= 8
    inside = [
        row["lower"] <= values[row["agent"], row["tool"]] - got[row["agent"]] <= row["upper"]
        for row in known_arms.to_dicts()
    ]
    assert set(known_arms["basis"]) == {"causal"}
    assert sum(inside) >= len(inside) - 2


def test_the_second_run_gives_the_same_credit(deployed):
    store, _, _ = deployed
    before = _steps(store).sort("trace_id", "position")
    run_loop(store, "credit")
    after = _steps(store).sort("trace_id", "position").unique(["trace_id", "span_id"], maintain_order=True)
    np.testing.assert_allclose(before["credit"], after["credit"], atol=1e-12)
