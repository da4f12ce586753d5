"""Credit in the store: which steps are read in which order, what a run keeps, and which run is shown."""

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from loop_data import shop
from polars.testing import assert_frame_equal

from store import credit, rewards
from store.trace_ranges import trace_ranges

START = datetime(2026, 11, 1, tzinfo=UTC)


def _at(seconds):
    return START + timedelta(seconds=seconds)


def _reward(store, means, signals=None):
    frame = pl.DataFrame(
        {
            "trace_id": list(means),
            "mean": list(means.values()),
            "sd": 0.1,
            "signals": 1 if signals is None else signals,
        },
        schema_overrides={"signals": pl.Int32, "mean": pl.Float64},
    )
    fitted = rewards.Fitted("m", {}, frame, pl.DataFrame(schema=rewards.CELLS), len(means), 1, "0")
    return rewards.publish(store, fitted)


def _found(model, traces, **columns):
    steps = pl.DataFrame(
        [(t, "s1", 1, 0.5, 0.1, 0.3, -0.2, 0.05) for t in traces], schema=credit.STEP_CREDITS, orient="row"
    )
    tools = pl.DataFrame(
        [{"agent": "a", "scope": "tool", "tool": "look", "steps": 40, "traces": 40, "clusters": 12, "estimate": 0.1,
          "lower": 0.0, "upper": 0.2, "sd": 0.05, "p_value": 0.05, "q_value": 0.05, "basis": "predictive"}],
        schema=credit.TOOL_CREDITS,
    )  # fmt: skip
    parallel = pl.DataFrame(schema=credit.PARALLEL_CREDITS)
    values = {
        "steps": steps, "parallel": parallel, "tools": tools, "notes": [], "parameters": {}, "reward_model_id": model,
        "data_version": 1, "code_version": "0", "traces": len(traces), "informative": 1,
    }  # fmt: skip
    return credit.Found(**values | columns)


def test_steps_are_read_in_the_order_in_which_they_started(publish, store):
    publish(
        traces=[{"trace_id": "t", "agent": "a", "user_id": "u", "arm": "x"}],
        spans=[
            {"trace_id": "t", "span_id": "root", "kind": "agent", "name": "a", "started_at": _at(0), "ended_at": _at(9),
             "status": "error"},
            {"trace_id": "t", "span_id": "outer", "parent_span_id": "root", "kind": "tool", "name": "find",
             "started_at": _at(1), "ended_at": _at(4), "status": "error", "input": '{"q": 1}'},
            {"trace_id": "t", "span_id": "inner", "parent_span_id": "outer", "kind": "embedding", "name": "embed",
             "started_at": _at(2), "ended_at": _at(3)},
            {"trace_id": "t", "span_id": "say", "parent_span_id": "root", "kind": "llm", "name": "chat gpt-9",
             "model": "gpt-9", "started_at": _at(5), "ended_at": _at(6), "input_tokens": 3, "output_tokens": 4},
            {"trace_id": "t", "span_id": "loose", "kind": "agent", "name": "worker", "started_at": _at(6),
             "ended_at": _at(7)},
        ],
    )  # fmt: skip
    _reward(store, {"t": 0.7})
    found = credit.evidence(store)
    assert found.traces.to_dicts() == [
        {"trace_no": 0, "trace_id": "t", "agent": "a", "user_id": "u", "task": None, "arm": "x", "reward": 0.7,
         "reward_sd": 0.1, "signals": 1}
    ]  # fmt: skip
    steps = found.steps
    assert steps["span_id"].to_list() == ["outer", "inner", "say", "loose"]
    assert steps["position"].to_list() == [1, 2, 3, 4]
    assert steps["name"].to_list() == ["find", "embed", "chat", "worker"]
    assert steps["failed"].to_list() == [True, False, False, False]
    assert steps["tokens"].to_list() == [None, None, 7, None]
    assert steps["call"].is_not_null().to_list() == [True, False, False, False]
    assert json.loads(steps["shape"][0]) == {"q": "UBIGINT"}
    assert found.reward_model_id == 1


def test_steps_without_times_keep_the_order_of_their_source(publish, store):
    publish(
        traces=[{"trace_id": "t", "agent": "a"}],
        spans=[
            {"trace_id": "t", "span_id": name, "kind": "tool", "name": name, "ordinal": ordinal, "input": text}
            for ordinal, name, text in ((2, "a", "[1]"), (1, "b", "{broken"), (3, "c", None))
        ],
    )
    _reward(store, {"t": 0.7})
    steps = credit.evidence(store).steps
    assert steps["span_id"].to_list() == ["b", "a", "c"]
    assert steps["shape"].to_list() == [None, None, None]


def test_how_an_arm_was_drawn_is_read_from_the_record_or_the_root_span(publish, store):
    steer = {"steer.arm": "x", "steer.propensity": 0.25, "steer.propensities": {"x": 0.25, "y": 0.75}}
    publish(
        traces=[
            {"trace_id": "1", "agent": "a", "metadata": {"note": 1, **steer}},
            {"trace_id": "2", "agent": "a"},
            {"trace_id": "3", "agent": "a", "metadata": {"steer.arm": "y"}},
            {"trace_id": "4", "agent": "a"},
        ],
        spans=[{"trace_id": "2", "span_id": "s", "kind": "agent", "attributes": steer}],
    )
    _reward(store, dict.fromkeys("1234", 0.5))
    choices = credit.evidence(store).choices
    assert choices.select("trace_no", "arm", "propensity").rows() == [(0, "x", 0.25), (1, "x", 0.25), (2, "y", None)]
    assert [text and json.loads(text) for text in choices["propensities"]] == [
        {"x": 0.25, "y": 0.75}, {"x": 0.25, "y": 0.75}, None,
    ]  # fmt: skip


def test_children_that_overlap_in_time_are_found_with_all_below_them(publish, store):
    def span(name, parent, start, end):
        return {"trace_id": "t", "span_id": name, "parent_span_id": parent, "kind": "tool", "started_at": _at(start),
                "ended_at": _at(end)}  # fmt: skip

    publish(
        traces=[{"trace_id": "t", "agent": "a"}],
        spans=[
            span("root", None, 0, 20), span("alone", "root", 0, 1), span("left", "root", 2, 6),
            span("right", "root", 3, 8),
            span("below", "left", 3, 4), span("later", "root", 9, 10), span("p", "root", 11, 13),
            span("q", "root", 12, 14),
        ],
    )  # fmt: skip
    _reward(store, {"t": 0.5})
    found = credit.evidence(store).parallel
    assert found.select("parent_span_id", "member", "span_id").rows() == [
        ("root", "left", "below"), ("root", "left", "left"), ("root", "right", "right"), ("root", "p", "p"),
        ("root", "q", "q"),
    ]  # fmt: skip
    assert found["batch"].n_unique() == 2


@pytest.mark.parametrize("most", [1, 3, 119])
def test_what_is_read_does_not_depend_on_how_many_traces_are_read_at_once(publish, store, monkeypatch, most):
    traces, spans, _ = shop()
    together = [
        {"trace_id": trace["trace_id"], "span_id": f"extra {n}", "kind": "tool", "name": "side",
         "parent_span_id": "root", "started_at": _at(n), "ended_at": _at(5)}
        for trace in traces[:40] for n in range(2)
    ]  # fmt: skip
    publish(traces=traces, spans=[*spans, *together])
    _reward(store, {trace["trace_id"]: 0.5 for trace in traces[::2]})
    whole = credit.evidence(store)
    monkeypatch.setattr(credit, "trace_ranges", lambda ids: trace_ranges(ids, most))
    parts = credit.evidence(store)
    assert (whole.traces.height, whole.parallel.height) == (60, 40)
    for name in ("traces", "steps", "choices", "parallel"):
        assert_frame_equal(getattr(whole, name), getattr(parts, name))


def test_of_more_steps_than_are_divided_the_newest_of_each_agent_are_read(publish, store):
    def trace(agent, number):
        return {"trace_id": f"{agent or 'none'} {number}", "agent": agent, "started_at": _at(number)}

    traces = [trace("busy", n) for n in range(20)] + [trace("rare", n) for n in range(3)] + [trace(None, 0)]
    spans = [
        {"trace_id": each["trace_id"], "span_id": f"{step}", "kind": "tool", "name": "look", "started_at": _at(step)}
        for each in traces for step in range(2)
    ]  # fmt: skip
    publish(traces=traces, spans=spans)
    _reward(store, {each["trace_id"]: 0.5 for each in traces})
    assert credit.evidence(store, most=48).older == {}
    found = credit.evidence(store, most=20)
    # Ten traces fit: the rare agent's three, the one without an agent, and the newest six of the busy one.
    assert found.traces["trace_id"].to_list() == sorted(
        [f"busy {n}" for n in range(14, 20)] + [f"rare {n}" for n in range(3)] + ["none 0"]
    )
    assert found.steps.height == 20
    assert found.older == {"busy": 14}
    assert found.traces.height + sum(found.older.values()) == len(traces)
    tiny = credit.evidence(store, most=1)
    assert sorted(tiny.traces["trace_id"]) == ["busy 19", "none 0", "rare 2"]


def test_traces_that_state_no_time_are_counted_like_others(publish, store):
    """They were all first seen at the same moment."""
    traces = [{"trace_id": f"t{n}", "agent": "a"} for n in range(9)]
    publish(traces=traces, spans=[{"trace_id": t["trace_id"], "span_id": "1", "kind": "tool"} for t in traces])
    _reward(store, {t["trace_id"]: 0.5 for t in traces})
    found = credit.evidence(store, most=4)
    assert found.traces["trace_id"].to_list() == ["t0", "t1", "t2", "t3"]
    assert (found.steps.height, found.older) == (4, {"a": 5})


def test_nothing_is_read_without_rewards(publish, store):
    publish(traces=[{"trace_id": "t", "agent": "a"}], spans=[{"trace_id": "t", "span_id": "s", "kind": "tool"}])
    found = credit.evidence(store)
    assert found.reward_model_id is None
    assert found.traces.is_empty()
    assert found.steps.is_empty()
    assert credit.shown_run(store) is None
    assert credit.of_trace(store, "t").is_empty()


def test_steps_are_kept_of_the_newest_run_and_of_the_rewards_in_use(publish, store):
    publish(
        traces=[{"trace_id": "t", "agent": "a"}],
        spans=[{"trace_id": "t", "span_id": "s1", "kind": "tool", "name": "look", "status": "ok"}],
    )
    assert _reward(store, {"t": 0.6}) == 1
    assert [credit.record(store, _found(1, ["t"])) for _ in range(2)] == [1, 2]
    assert credit.shown_run(store)["run_id"] == 2
    assert _reward(store, {"t": 0.2}) == 2
    assert credit.shown_run(store)["active"] is False  # no run has divided the new rewards yet
    assert credit.record(store, _found(2, ["t"])) == 3
    assert credit.record(store, _found(1, ["t"])) == 4
    shown = credit.shown_run(store)
    assert (shown["run_id"], shown["active"], shown["reward_model_id"]) == (3, True, 2)
    with store.read() as reader:
        runs = reader.any_frame("SELECT DISTINCT run_id FROM step_credits ORDER BY run_id")
    assert runs["run_id"].to_list() == [3, 4]
    assert credit.tools(store).height == 1
    assert credit.tools(store, agent="b").is_empty()
    row = credit.of_trace(store, "t").row(0, named=True)
    assert (row["name"], row["credit"], row["decision"], row["luck"], row["members"]) == ("look", 0.1, 0.3, -0.2, None)


def test_the_share_of_a_group_stands_beside_the_step(publish, store):
    publish(
        traces=[{"trace_id": "t", "agent": "a"}],
        spans=[{"trace_id": "t", "span_id": "s1", "kind": "tool", "name": "look"}],
    )
    _reward(store, {"t": 0.6})
    joint = pl.DataFrame([("t", "root", "s1", 3, 0.07, True)], schema=credit.PARALLEL_CREDITS, orient="row")
    credit.record(store, _found(1, ["t"], parallel=joint))
    row = credit.of_trace(store, "t").row(0, named=True)
    assert (row["members"], row["parallel_credit"]) == (3, pytest.approx(0.07))
