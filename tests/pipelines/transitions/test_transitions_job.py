"""The job on a store: models and surprise are published once, and of a single trace each step is explained."""

import json
from datetime import timedelta

import numpy as np
import pytest
from loop_data import HOSTILE, NOW, run_loop, shop
from publishing import publisher

from pipelines.transitions.steps import step_surprise
from store import links, transition_models, transitions
from store.clock import FixedClock
from store.connection import Store


@pytest.fixture
def opened(tmp_path):
    store = Store.open(tmp_path / "trimtab.duckdb", clock=FixedClock(NOW), threads=1)
    yield store, publisher(store, tmp_path)
    store.close()


@pytest.fixture
def shop_run(opened):
    store, publish = opened
    traces, spans, signals = shop()
    publish(traces=[*traces, {"trace_id": "lonely", "agent": "small"}], spans=spans, signals=signals)
    links.refresh(store)
    run_loop(store, "tasks", "rewards", "transitions")
    return store, publish


def test_models_of_every_agent_are_published_or_refused(shop_run):
    store, _ = shop_run
    models = transition_models.models(store)
    assert models["agent"].to_list() == ["shop", "small"]
    shop_model, small = models.iter_rows(named=True)
    assert (shop_model["traces"], shop_model["reward_model_id"], shop_model["abstraction"]) == (120, 1, 1)
    assert shop_model["concentration"] > 0
    assert small["concentration"] is None
    assert json.loads(small["parameters"])["notes"] == ["1 of at least 30 traces."]
    surprise = transition_models.most_surprising(store, agents=("shop",), limit=500)
    assert surprise.height == 120
    assert surprise["p_value"].is_sorted()
    moves = transition_models.moves(store, agent="shop")
    assert moves["n"].sum() == surprise["transitions"].sum()
    bands = {
        row["measure"]: row for row in transition_models.reliability(store, agent="shop").filter(arm="a").to_dicts()
    }
    assert 0 < bands["success"]["lower"] < bands["success"]["estimate"] < bands["success"]["upper"] < 1


def test_a_second_run_without_news_makes_no_version_and_news_make_one(shop_run):
    store, publish = shop_run
    assert run_loop(store, "transitions")["transitions"].rows == 0
    assert transition_models.versions(store)["model_id"].unique().to_list() == [1]
    publish(
        spans=[
            {"trace_id": "t001", "span_id": "late", "kind": "tool", "name": "book", "status": "error",
             "started_at": NOW - timedelta(days=2), "input": "{}"}
        ]
    )  # fmt: skip
    assert run_loop(store, "transitions")["transitions"].rows == 120
    assert transition_models.models(store)["model_id"].unique().to_list() == [2]
    assert transition_models.versions(store).height == 4
    with store.read() as reader:
        assert reader.value("SELECT count(DISTINCT model_id) FROM trace_surprise") == 1
        assert reader.value("SELECT count(DISTINCT model_id) FROM transition_counts") == 2


def test_steps_add_up_to_the_trace(shop_run):
    store, _ = shop_run
    for trace_id in ("t000", "t001", "t002", "t003"):
        steps = step_surprise(store, trace_id)
        whole = transition_models.surprise_of_trace(store, trace_id).row(0, named=True)
        assert steps.height == whole["transitions"]
        assert steps["z"].mean() == pytest.approx(whole["mean_z"])
        assert steps["information"].sum() == pytest.approx(whole["information"])
        assert steps["bayesian"].sum() == pytest.approx(whole["bayesian"])
        assert steps["previous"][0] == "START"
        assert steps["step"].to_list() == [*range(1, steps.height), None]


def test_a_step_never_seen_before_has_no_numbers(shop_run):
    store, publish = shop_run
    publish(
        spans=[
            {"trace_id": "t001", "span_id": "0new", "kind": "tool", "name": "unheard of", "ordinal": 5,
             "started_at": NOW, "input": "{}"}
        ]
    )  # fmt: skip
    steps = step_surprise(store, "t001")
    assert steps.filter(span_id="0new")["z"].to_list() == [None]
    assert steps["z"].null_count() == 2
    assert step_surprise(store, "lonely").is_empty()
    assert step_surprise(store, "no such trace").is_empty()


def test_demonstrations_and_corrections_become_weights(opened):
    """People look up before they book; the agent does not. Corrections are short, the answers long."""
    store, publish = opened
    random = np.random.default_rng(1)
    traces, spans, signals = [], [], []
    for i in range(240):
        person = i % 6 == 0
        name = f"t{i:03}"
        traces.append({"trace_id": name, "agent": "desk", "task": f"task {i // 12}", "user_id": f"u{i % 20}",
                       "started_at": NOW - timedelta(hours=i),
                       "output": "word " * int(random.integers(20, 40))})  # fmt: skip
        looked = random.random() < (0.95 if person else 0.3)
        spans += [
            {"trace_id": name, "span_id": str(place), "kind": "tool", "name": tool, "ordinal": place, "input": "{}"}
            for place, tool in enumerate(["look_up"] * looked + ["book"])
        ]
        kind = "demonstration" if person else "correction" if i % 6 == 1 else None
        if kind:
            signals.append({"signal_id": name, "trace_id": name, "kind": kind, "annotator_kind": "operator",
                            "text": "word " * int(random.integers(5, 15))})  # fmt: skip
    publish(traces=traces, spans=spans, signals=signals)
    run_loop(store, "rewards", "transitions")
    found = transition_models.weights(store, agent="desk")
    people = found.filter(method="demonstration")
    assert people["n"].to_list() == [40] * people.height
    look_up = people.filter(feature="calls of look_up").row(0, named=True)
    assert look_up["weight"] > 0
    assert look_up["q_value"] < 0.01
    words = found.filter(method="correction", feature="words").row(0, named=True)
    assert words["upper"] < 0
    # To look up is to take one more step and nothing else tells the two apart: no weight can be named.
    assert found.filter(method="maxent").is_empty()


def test_hostile_names_are_only_text(opened):
    store, publish = opened
    traces, spans, signals = shop(tool=HOSTILE, agent=HOSTILE)
    publish(traces=traces, spans=spans, signals=signals)
    run_loop(store, "rewards", "transitions")
    labels = transition_models.states(store, agent=HOSTILE)["label"].to_list()
    assert any(label.startswith(HOSTILE) for label in labels)


def test_an_empty_store_gives_nothing_to_do(opened):
    store, _ = opened
    assert run_loop(store, "transitions")["transitions"].rows == 0
    assert transition_models.models(store).is_empty()


def test_a_users_own_probabilities_lie_between_theirs_and_everybodys(shop_run):
    store, _ = shop_run
    steps = step_surprise(store, "t000")
    model = transition_models.models(store, agent="shop").row(0, named=True)
    own = transitions.one_users_counts(store, "ada")
    begins = own.filter(own["state"].is_null())
    first = begins["n"].sum()
    same = steps.row(0, named=True)
    hits = begins.filter(next_state=_first_state(store, "t000"))["n"].sum()
    kappa = model["user_concentration"]
    assert same["user_probability"] == pytest.approx((hits + kappa * same["probability"]) / (first + kappa))


def _first_state(store, trace_id):
    return transitions.episode(store, trace_id)["states"][0].to_list()[0]
