"""tau-bench trajectories, on the real file and on what a file may get wrong."""

import json
from collections import defaultdict
from copy import deepcopy
from math import comb
from pathlib import Path
from typing import Any

import pytest

from pipelines.ingest.layouts.tau_bench import import_tau_bench
from pipelines.ingest.rows import RecordRejected, Rows


@pytest.fixture(scope="module")
def records(shared_data: Path) -> list[dict[str, Any]]:
    return json.loads((shared_data / "tau_bench" / "gpt-4o-airline.json").read_text())


@pytest.fixture(scope="module")
def imported(records: list[dict[str, Any]]) -> list[Rows]:
    return [import_tau_bench(record, "tau-bench") for record in records]


def sample() -> dict[str, Any]:
    return {
        "task_id": 7,
        "trial": 2,
        "reward": 1.0,
        "info": {"task": {"user_id": "mia", "actions": [{"name": "book", "kwargs": {}}]}, "user_cost": 0.1},
        "traj": [
            {"role": "system", "content": "Intro\n# Retail agent policy\n\nRules."},
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "c1", "name": "find", "content": "Error: user not found"},
            {"role": "assistant", "content": "Sorry."},
        ],
    }


def test_every_rollout_is_a_trace_of_its_task(imported: list[Rows]) -> None:
    traces = [rows.traces[0] for rows in imported]
    assert all(len(rows.traces) == len(rows.signals) == 1 for rows in imported)
    assert len({trace["trace_id"] for trace in traces}) == 200
    by_task = defaultdict(list)
    for trace in traces:
        by_task[trace["task"]].append(trace)
    assert {len(rollouts) for rollouts in by_task.values()} == {4}
    assert set(by_task) == {f"airline-{number}" for number in range(50)}
    assert {trace["agent"] for trace in traces} == {"airline"}


def test_mean_outcome_and_pass_hat_k(imported: list[Rows]) -> None:
    outcomes = defaultdict(list)
    for rows in imported:
        (signal,) = rows.signals
        assert (signal["kind"], signal["name"], signal["annotator_kind"]) == ("outcome", "reward", "code")
        assert signal["trace_id"] == rows.traces[0]["trace_id"]
        outcomes[rows.traces[0]["task"]].append(signal["value"])
    values = [value for task in outcomes.values() for value in task]
    assert sum(values) / len(values) == pytest.approx(0.420)
    # pass^k = mean over tasks of C(c, k) / C(n, k), Yao et al. 2024, tau-bench
    passed = [(len(task), int(sum(task))) for task in outcomes.values()]
    hat = [round(sum(comb(c, k) / comb(n, k) for n, c in passed) / len(passed), 3) for k in (1, 2, 3, 4)]
    assert hat == [0.420, 0.273, 0.220, 0.200]
    assert sum(0 < c < n for n, c in passed) == 26
    assert sum(c == 0 for n, c in passed) == 14


def test_tool_calls_are_spans_with_arguments_and_results_in_order(
    records: list[dict[str, Any]], imported: list[Rows]
) -> None:
    for record, rows in zip(records, imported, strict=True):
        calls = [call for message in record["traj"] for call in message.get("tool_calls") or []]
        # call ids repeat within a rollout; each call is answered before the next one
        results = [message["content"] or None for message in record["traj"] if message["role"] == "tool"]
        tools = [span for span in rows.spans if span["kind"] == "tool"]
        assert [(s["name"], s["input"]) for s in tools] == [
            (c["function"]["name"], c["function"]["arguments"]) for c in calls
        ]
        assert [s.get("output") for s in tools] == results
        turns = {span["span_id"] for span in rows.spans if span["kind"] == "llm"}
        assert all(span["parent_span_id"] in turns for span in tools)
        failed = [s.get("output", "").startswith("Error") for s in tools]
        assert [s["status"] == "error" for s in tools] == failed
        assert [span["ordinal"] for span in rows.spans] == list(range(len(rows.spans)))
        assert [s["kind"] for s in rows.spans if "parent_span_id" not in s] == ["agent"]
        assert not any("started_at" in row or "ended_at" in row for row in [*rows.traces, *rows.spans])


def test_texts_of_the_trace(records: list[dict[str, Any]], imported: list[Rows]) -> None:
    for record, rows in zip(records, imported, strict=True):
        trace, spoken = rows.traces[0], [m for m in record["traj"] if m["role"] == "assistant" and m["content"]]
        assert trace["input"] == next(m["content"] for m in record["traj"] if m["role"] == "user")
        assert trace.get("output") == (spoken[-1]["content"] if spoken else None)
        assert trace["user_id"] == record["info"]["task"]["user_id"]
        assert trace["metadata"] == {key: record[key] for key in ("task_id", "trial", "info")}


def test_every_message_is_kept(records: list[dict[str, Any]], imported: list[Rows]) -> None:
    for record, rows in zip(records, imported, strict=True):
        held = {span.get(column) for span in rows.spans if span["kind"] != "agent" for column in ("input", "output")}
        for span in rows.spans:
            if span["kind"] == "llm" and "input" in span:
                held |= {message["content"] for message in json.loads(span["input"])}
        texts = {message["content"] for message in record["traj"] if message["content"]}
        assert texts <= held


def test_identity_is_the_content_whatever_its_order_of_keys() -> None:
    record = sample()
    shuffled = dict(reversed(record.items()))
    first, second = import_tau_bench(record, "a"), import_tau_bench(shuffled, "b")
    assert first.traces[0]["trace_id"] == second.traces[0]["trace_id"]
    changed = deepcopy(record)
    changed["traj"][1]["content"] = "Hello"
    assert import_tau_bench(changed, "a").traces[0]["trace_id"] != first.traces[0]["trace_id"]
    assert first.traces[0]["trace_id"].startswith("tau-")
    assert len(first.traces[0]["trace_id"]) == 4 + 24


def test_a_failed_tool_and_the_domain_of_the_heading() -> None:
    rows = import_tau_bench(sample(), "tau-bench")
    tool = next(span for span in rows.spans if span["kind"] == "tool")
    assert (tool["status"], tool["status_message"]) == ("error", "Error: user not found")
    assert rows.traces[0]["agent"] == "retail"
    assert rows.traces[0]["task"] == "retail-7"
    assert rows.traces[0]["metadata"]["info"]["task"]["actions"] == [{"name": "book", "kwargs": {}}]


def test_a_record_without_reward_or_info_still_is_a_trace() -> None:
    record = sample()
    del record["reward"]
    record["info"] = None
    rows = import_tau_bench(record, "tau-bench")
    assert rows.signals == []
    assert "user_id" not in rows.traces[0]


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("traj", "text", r"traj is the text 'text'; expected a list"),
        ("traj", [], "traj is a list; expected a list of chat messages"),
        ("traj", [1], r"traj\[0\] is the number 1; expected an object"),
        ("reward", "much", "reward is the text 'much'; expected a finite number"),
        ("reward", float("nan"), "reward is the text 'nan'; expected a finite number"),
        ("info", [1], "info is a list; expected an object"),
    ],
)
def test_wrong_types_name_the_field(field: str, value: object, reason: str) -> None:
    with pytest.raises(RecordRejected, match=reason) as caught:
        import_tau_bench({**sample(), field: value}, "tau-bench")
    assert caught.value.column is not None
    assert caught.value.column.startswith(field)
