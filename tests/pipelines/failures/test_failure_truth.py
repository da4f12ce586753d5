"""Failure labels against the simulated truth: what each bad trace deserves, and the very span that shows it."""

import json

import polars as pl
import pytest
from failure_truth import scored, simulated
from loop_data import run_loop

from pipelines.failures import badness
from pipelines.failures.badness import FailureConfig
from pipelines.failures.label import label
from pipelines.simulate import SimulationConfig
from store import failures

# What is reached on 5,000 traces, less a margin: (precision, recall).
FLOORS = {
    "loop": (0.97, 0.97),
    "wrong_argument": (0.97, 0.97),
    "policy_violation": (0.95, 0.95),
    "environment_error": (0.95, 0.95),
    "ungrounded_claim": (0.95, 0.92),
    "wrong_tool": (0.9, 0.85),
    "underspecified_request": (0.65, 0.55),
    "unknown": (0.88, 0.8),
}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """The deployment's truth, its store with tasks grouped and the failures job run, and what the job recorded."""
    folder = tmp_path_factory.mktemp("failures")
    deployment, store = simulated(folder, SimulationConfig(users=400, days=28, traces=5_000, seed=3))
    result = run_loop(store, "tasks", "failures")["failures"]
    with store.read() as reader:
        labels = reader.frame(f"SELECT {', '.join(failures.LABELS)} FROM failure_labels", failures.LABELS)
    yield deployment, store, labels, result
    store.close()


@pytest.mark.parametrize("axis", sorted(FLOORS))
def test_labels_are_what_bad_traces_deserve(labelled, axis):
    deployment, _, labels, _ = labelled
    (row,) = scored(labels, deployment.truth_traces).filter(axis=axis).to_dicts()
    precision, recall = FLOORS[axis]
    assert row["true"] >= 20, row
    assert row["precision"] >= precision, row
    assert row["recall"] >= recall, row


def test_every_bad_trace_has_one_label_and_no_other_trace_any(labelled):
    _, store, labels, result = labelled
    marked = badness.mark(failures.traces(store), FailureConfig())
    bad = marked.filter("bad")["trace_id"]
    first = labels.filter(pl.col("rank") == 1)["trace_id"]
    assert sorted(first) == sorted(bad)
    assert set(labels["trace_id"]) == set(bad)
    assert result.rows == len(bad)
    ranks = labels.group_by("trace_id").agg(pl.col("rank").sort())["rank"].to_list()
    assert all(row == list(range(1, len(row) + 1)) for row in ranks)


def test_the_evidence_is_the_planted_mistake(labelled):
    deployment, _, labels, _ = labelled
    truth = deployment.truth_traces.filter(pl.col("cause_span_id").is_not_null())
    right = labels.filter(pl.col("rank") == 1).join(truth, on="trace_id").filter(pl.col("axis") == pl.col("failure"))
    assert right.height > 500
    assert (right["span_id"] == right["cause_span_id"]).mean() >= 0.95


def test_exploration_is_a_label_only_where_nothing_else_went_wrong(labelled):
    deployment, _, labels, _ = labelled
    explored = labels.filter((pl.col("rank") == 1) & (pl.col("axis") == "deliberate_exploration"))
    truth = explored.join(deployment.truth_traces, on="trace_id")
    assert truth.height >= 20
    assert truth["explored"].all()
    assert truth["cause"].null_count() == truth.height
    assert not truth["environment_error"].any()


def test_a_decoy_step_explains_nothing(labelled):
    _, _, labels, _ = labelled
    decoys = ("get_product", "convert_currency", "add_note")
    assert not labels.filter(pl.col("detail").str.contains_any(list(decoys))).height


def test_a_finding_that_holds_as_often_in_good_traces_is_no_label(labelled):
    """Products advertise a price per 100 g that no result states: unsupported, in good traces just as often."""
    _, store, labels, _ = labelled
    rules = failures.rules(store).filter(rule="unsupported_figure", agent="shop-assistant").row(0, named=True)
    assert rules["bad"] > 50
    assert rules["lower"] < 0.1
    shop = labels.filter(pl.col("rule") == "unsupported_figure")
    assert shop.height < 0.1 * rules["bad"] + 20


def test_the_run_is_recorded_with_its_thresholds(labelled):
    deployment, store, labels, _ = labelled
    run = failures.latest_run(store)
    first = labels.filter(pl.col("rank") == 1)
    assert (run["traces"], run["bad"]) == (deployment.traces.height, first.height)
    assert run["unknown"] == first.filter(axis="unknown").height
    assert run["reward_model_id"] == 1
    agents = {row["agent"]: row for row in run["parameters"]["thresholds"]}
    assert set(agents) == {"shop-assistant", "travel-desk", "support-desk"}
    assert all(row["threshold"] >= 0.5 for row in agents.values())
    assert run["parameters"]["agreement"]["people"]["n"] == 0
    assert run["parameters"]["model"] is None
    json.dumps(run["parameters"])


def test_a_sample_of_good_traces_stands_for_all_of_them(labelled):
    """Examining a fifth of the good traces leaves the measured shares where they were."""
    _, store, _, _ = labelled
    traces = failures.traces(store)

    def rules(most_good):
        config = FailureConfig(most_good=most_good)
        examined = badness.examined(badness.mark(traces, config), config)
        ids = examined["trace_id"].to_list()
        return label(
            examined, failures.calls(store, ids), failures.answers(store, ids), failures.requests(store, ids), config
        ).rules

    both = rules(100_000).join(rules(1_500), on=["agent", "axis", "rule", "subject"], suffix="_sampled")
    often = both.filter(pl.col("bad") >= 40)
    assert often.height >= 8
    # What is usual of a rare task may change with fewer rollouts of it; what single calls say may not.
    hard = often.filter(pl.col("rule").is_in(["repeated_call", "failed_call", "warned_arguments", "explored"]))
    assert hard.height >= 6
    assert (hard["bad"] == hard["bad_sampled"]).all()
    assert ((hard["attributable"] - hard["attributable_sampled"]).abs() < 0.15).all()
    same = often.filter((pl.col("bad") - pl.col("bad_sampled")).abs() <= 0.25 * pl.col("bad"))
    assert same.height >= often.height - 2
    assert ((same["attributable"] - same["attributable_sampled"]).abs() < 0.2).all()
