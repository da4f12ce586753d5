"""Reward models: versions are added and never lost, per-trace rewards are bounded, and evidence finds its trace."""

import json
from datetime import UTC, datetime

import polars as pl
import pytest

from pipelines.stats.pass_k import pass_k
from store import links, meta, result_rows, reward_versions, rewards
from store.reward_versions import Report
from store.scope import ACTIVE_REWARDS

START = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def traces(publish):
    rows = [
        {"trace_id": f"t{i}", "agent": "airline", "task": f"task {i % 2}", "user_id": "u", "arm": f"arm {i % 2}",
         "session_id": f"s{i}", "started_at": START}
        for i in range(4)
    ]  # fmt: skip
    publish(traces=[*rows, {"trace_id": "lone", "agent": "billing", "arm": "only"}])
    return [row["trace_id"] for row in rows]


def _fitted(trace_ids, mean=0.5, **changes):
    values = {
        "method": "empirical_bayes",
        "parameters": {"kappa": 1.0},
        "rewards": pl.DataFrame(
            {"trace_id": trace_ids, "mean": mean, "sd": 0.1, "signals": 1}, schema_overrides={"signals": pl.Int32}
        ),
        "cells": pl.DataFrame(
            [("airline", "task 0", 2, 2, 0.9, 0.8, 0.1), ("airline", "task 1", 2, 2, 0.2, 0.3, 0.1),
             ("airline", "silent", 9, 0, None, 0.5, 0.3)],
            schema=rewards.CELLS,
            orient="row",
        ),
        "signals": 4,
        "data_version": 7,
        "code_version": "0.1.0",
    }  # fmt: skip
    return rewards.Fitted(**(values | changes))


def _count(store, table):
    with store.read() as reader:
        return reader.value(f"SELECT count(*) FROM {table}")


def test_a_new_version_becomes_the_active_one_and_the_older_ones_stay(store, traces, clock):
    assert rewards.publish(store, _fitted(traces, 0.4)) == 1
    assert rewards.publish(store, _fitted(traces, 0.6)) == 2
    models = rewards.models(store)
    assert models["reward_model_id"].to_list() == [2, 1]
    assert models["active"].to_list() == [True, False]
    first = models.row(1, named=True)
    assert json.loads(first["parameters"]) == {"kappa": 1.0}
    assert (first["traces"], first["signals"], first["data_version"]) == (4, 4, 7)
    assert first["fitted_at"] == clock.now()
    assert rewards.by_arm(store)["mean"].unique().to_list() == [0.6]


def test_rewards_of_the_last_versions_and_of_the_one_in_use_are_kept(store, traces):
    keep = rewards.KEEP_REWARDS
    assert keep >= 14
    assert rewards.publish(store, _fitted(traces, 0.01)) == 1
    waits = Report(activate=False, reason="waits")
    for number in range(2, keep + 4):
        assert rewards.publish(store, _fitted(traces, number / 100, report=waits)) == number
    with store.read() as reader:
        kept = reader.any_frame("SELECT reward_model_id, count(*) FROM rewards GROUP BY ALL ORDER BY ALL").rows()
    assert kept == [(1, 4), *((number, 4) for number in range(4, keep + 4))]
    assert _count(store, "reward_models") == keep + 3
    assert _count(store, "reward_cells") == (keep + 1) * 3
    assert rewards.by_arm(store)["mean"].unique().to_list() == [0.01]


@pytest.fixture
def small_slices(monkeypatch):
    """One reward a transaction."""
    monkeypatch.setattr(result_rows, "SLICE", 1)


class Interrupted(Exception):
    """Stands for whatever ends a writer half-way."""


def _interrupted(fraction):
    if fraction > 0.4:
        raise Interrupted


def _in_force(store):
    with store.read() as reader:
        return sorted(reader.any_frame(f"SELECT trace_id, mean FROM {ACTIVE_REWARDS}").rows())


def test_an_interrupted_version_leaves_the_one_before_in_force_and_the_next_takes_its_place(
    store, traces, small_slices
):
    rewards.publish(store, _fitted(traces, 0.4))
    before = _in_force(store)
    version = meta.data_version(store)
    with pytest.raises(Interrupted):
        rewards.publish(store, _fitted(traces, 0.6), _interrupted)
    assert _count(store, "rewards") == 6
    assert _in_force(store) == before
    assert meta.data_version(store) == version
    assert reward_versions.versions(store)["reward_model_id"].to_list() == [1]
    assert rewards.publish(store, _fitted(traces, 0.4)) is None
    assert _count(store, "rewards") == 4
    with pytest.raises(Interrupted):
        rewards.publish(store, _fitted(traces[::-1], 0.7), _interrupted)
    assert rewards.publish(store, _fitted(traces, 0.6)) == 2
    assert _in_force(store) == [(trace, 0.6) for trace in traces]
    assert _count(store, "rewards") == 8


def test_an_interruption_before_the_first_version_leaves_nothing_to_see(store, traces, small_slices):
    with pytest.raises(Interrupted):
        rewards.publish(store, _fitted(traces), _interrupted)
    assert _in_force(store) == []
    assert rewards.publish(store, _fitted(traces)) == 1
    assert _count(store, "rewards") == 4


def test_a_reader_sees_one_version_or_the_other_and_never_a_part(store, traces, small_slices):
    rewards.publish(store, _fitted(traces, 0.4))
    seen, queued = [], []
    with store.read() as long:
        held = long.any_frame(f"SELECT mean FROM {ACTIVE_REWARDS}")["mean"].to_list()

        def look(fraction):
            seen.append(_in_force(store))
            # Others get their turn between two slices.
            queued.append(store.write(lambda connection: connection.execute("SELECT 1").fetchall()))

        rewards.publish(store, _fitted(traces, 0.6), look)
        assert long.any_frame(f"SELECT mean FROM {ACTIVE_REWARDS}")["mean"].to_list() == held == [0.4] * 4
    assert seen == [[(trace, 0.4) for trace in traces]] * 4
    assert len(queued) == 4
    assert _in_force(store) == [(trace, 0.6) for trace in traces]


def test_scoring_cut_short_is_due_again(store, traces, small_slices):
    rewards.publish(store, _fitted(traces, 0.4))
    before = reward_versions.active(store)["publication"]
    fresh = pl.DataFrame({"trace_id": traces, "mean": 0.9, "sd": 0.2, "signals": 0})
    with pytest.raises(Interrupted):
        rewards.extend(store, 1, fresh, publication=9, progress=_interrupted)
    assert sorted(mean for _, mean in _in_force(store)) == [0.4, 0.4, 0.9, 0.9]
    assert reward_versions.active(store)["publication"] == before
    assert rewards.extend(store, 1, fresh, publication=9) == 4
    assert [mean for _, mean in _in_force(store)] == [0.9] * 4
    assert reward_versions.active(store)["publication"] == 9


def test_new_traces_are_scored_with_the_version_in_use(store, traces):
    rewards.publish(store, _fitted(traces[:3], 0.4))
    fresh = pl.DataFrame({"trace_id": traces[2:], "mean": 0.9, "sd": 0.2, "signals": 0})
    assert rewards.extend(store, 1, fresh, publication=9) == 2
    assert rewards.by_arm(store)["mean"].sort().to_list() == [0.4, 0.4, 0.9, 0.9]
    assert reward_versions.active(store)["publication"] == 9


@pytest.mark.parametrize(
    ("change", "is_new"),
    [
        ({}, False),
        ({"parameters": {"kappa": 2.0}}, False),
        ({"mean": 0.5 + 1e-13}, False),
        ({"mean": 0.5 + 1e-5}, True),
        ({"signals": 5}, True),
        ({"method": "other"}, True),
    ],
)
def test_a_fit_that_says_the_same_makes_no_version(store, traces, change, is_new):
    rewards.publish(store, _fitted(traces))
    changed = dict(change)
    again = rewards.publish(store, _fitted(traces, changed.pop("mean", 0.5), **changed))
    assert again == (2 if is_new else None)
    assert _count(store, "reward_models") == (2 if is_new else 1)


@pytest.mark.parametrize("keep", [slice(0, 3), slice(0, 0)])
def test_a_trace_more_or_less_makes_a_version(store, traces, keep):
    rewards.publish(store, _fitted(traces))
    assert rewards.publish(store, _fitted(traces[keep])) == 2
    assert rewards.publish(store, _fitted(traces)) == 3


def test_cells_come_lowest_first_and_only_where_something_was_observed(store, traces):
    rewards.publish(store, _fitted(traces))
    assert rewards.cells(store)["task"].to_list() == ["task 1", "task 0"]
    assert rewards.cells(store, limit=1)["mean"].to_list() == [0.3]
    assert rewards.cells(store, agent="billing").is_empty()


def test_evidence_finds_its_trace_by_id_and_by_link(publish, store, traces):
    publish(
        signals=[
            {"signal_id": "a", "trace_id": "t0", "kind": "outcome", "value": 1.0, "annotator_kind": "code"},
            {"signal_id": "b", "session_id": "s1", "kind": "thumb", "value": 0.0, "solicited": True},
            {"signal_id": "c", "kind": "thumb", "value": 1.0},
            {"signal_id": "d", "trace_id": "t0", "kind": "click", "value": 1.0},
            {"signal_id": "e", "trace_id": "nowhere", "kind": "rating", "value": 0.5},
        ]
    )
    links.refresh(store)
    found = rewards.evidence(store, ["outcome", "thumb", "rating"])
    assert found.traces["trace_id"].to_list() == ["lone", "t0", "t1", "t2", "t3"]
    assert found.signals.rows() == [
        ("t0", "outcome", 1.0, "code", None),
        ("t1", "thumb", 0.0, None, True),
        (None, "thumb", 1.0, None, None),
        ("nowhere", "rating", 0.5, None, None),
    ]
    coverage = {row["kind"]: row for row in rewards.coverage(store).to_dicts()}
    assert (coverage["thumb"]["signals"], coverage["thumb"]["traces"], coverage["thumb"]["unlinked"]) == (2, 1, 1)
    assert coverage["thumb"]["share"] == pytest.approx(1 / 5)
    assert coverage["thumb"]["mean"] == pytest.approx(0.5)
    assert coverage["rating"]["unlinked"] == 1
    assert sum(row["signals"] for row in coverage.values()) == 5


def test_arms_are_compared_only_where_an_agent_has_several(store, traces):
    rewards.publish(store, _fitted([*traces, "lone"]))
    assert set(rewards.by_arm(store)["agent"]) == {"airline"}
    assert rewards.by_arm(store).height == 4


def test_an_outcome_is_the_majority_of_its_signals_and_language_models_have_no_say(publish, store, traces):
    verdicts = [("t0", 1.0, "code"), ("t1", 0.0, "code"), ("t1", 1.0, "llm"), ("t2", 1.0, None), ("t2", 0.0, "user"),
                ("t3", 7.0, "code")]  # fmt: skip
    publish(
        signals=[
            {"signal_id": f"o{i}", "trace_id": trace, "kind": "outcome", "value": value, "annotator_kind": who}
            for i, (trace, value, who) in enumerate(verdicts)
        ]
    )
    outcomes = rewards.outcomes(store)
    assert dict(outcomes.select("trace_id", "success").rows()) == {"t0": True, "t1": False, "t2": True}
    assert rewards.outcomes(store, agent="billing").is_empty()
    table = pass_k(outcomes.select("task", "success"), largest=2)
    assert table["mean"].to_list() == [0.5, 1.0]
    assert table["tasks"].to_list() == [2, 1]


def test_an_empty_store_has_nothing_to_say(store):
    assert rewards.evidence(store, ["thumb"]).traces.is_empty()
    for frame in (rewards.models(store), rewards.cells(store), rewards.coverage(store), rewards.by_arm(store)):
        assert frame.is_empty()
    assert rewards.outcomes(store).is_empty()
