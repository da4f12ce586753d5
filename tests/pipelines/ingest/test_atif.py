"""ATIF trajectories: both dialects, observations, continuations, copied context, subagents, no invented times."""

import json
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from import_checks import check, damaged, keys_in, odd_values
from loading import loaded, rejects_of, rows_of, table
from publishing import state

from pipelines.ingest.formats import Format, importer_for, recognise_columns, recognise_record
from pipelines.ingest.layouts.atif import import_trajectory
from pipelines.ingest.layouts.atif_identity import base_session, identity
from pipelines.ingest.rows import RecordRejected, Row
from store.connection import Store

AT = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
AGENT = {"name": "terminus", "version": "2.0", "model_name": "gpt-5-mini", "tool_definitions": [{"name": "bash"}]}


def stamp(seconds: float) -> str:
    return (AT + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


CHILD: dict[str, Any] = {
    "schema_version": "ATIF-v1.7", "trajectory_id": "child-1", "session_id": "run-7-search",
    "agent": {"name": "searcher", "version": "1.0", "model_name": "gpt-5-nano"},
    "steps": [
        {"step_id": 1, "source": "user", "message": "find the log", "timestamp": stamp(3)},
        {"step_id": 2, "source": "agent", "message": "found", "timestamp": stamp(4),
         "tool_calls": [{"tool_call_id": "g-1", "function_name": "grep", "arguments": {"for": "log"}}],
         "observation": {"results": [{"source_call_id": "g-1", "content": "a.log"}]},
         "metrics": {"prompt_tokens": 40, "completion_tokens": 4}},
    ],
    "final_metrics": {"total_prompt_tokens": 40, "total_completion_tokens": 4}, "notes": "a helper",
}  # fmt: skip
RUN: dict[str, Any] = {
    "schema_version": "ATIF-v1.7", "session_id": "run-7", "agent": AGENT,
    "steps": [
        {"step_id": 1, "source": "system", "message": "You are careful.", "timestamp": stamp(0)},
        {"step_id": 2, "source": "user", "message": "Why does it fail?", "timestamp": stamp(0.5)},
        {"step_id": 3, "source": "agent", "message": "I look.", "timestamp": stamp(1), "reasoning_content": "hm",
         "reasoning_effort": "low", "llm_call_count": 1,
         "tool_calls": [
             {"tool_call_id": "c-1", "function_name": "bash", "arguments": {"keystrokes": "ls\n", "duration": 0.1}},
             {"tool_call_id": "c-2", "function_name": "delegate", "arguments": {"task": "search"}},
         ],
         "observation": {"results": [
             {"source_call_id": "c-1", "content": "Error: no such folder"},
             {"source_call_id": "c-2", "content": "found", "subagent_trajectory_ref": [{"trajectory_id": "child-1"}]},
         ]},
         "metrics": {"prompt_tokens": 100, "completion_tokens": 20, "cached_tokens": 64, "cost_usd": 0.001,
                     "completion_token_ids": [1, 2, 3]},
         "extra": {"attempt": 1}},
        {"step_id": 4, "source": "agent", "message": "It is the disk.", "timestamp": stamp(5),
         "model_name": "gpt-5", "metrics": {"prompt_tokens": 160, "completion_tokens": 8, "cost_usd": 0.002}},
    ],
    "final_metrics": {"total_prompt_tokens": 260, "total_completion_tokens": 28, "total_cached_tokens": 64,
                      "total_cost_usd": 0.003, "total_steps": 4},
    "notes": "a note", "extra": {"task": "disk-full", "user_id": "ada", "reward": 1},
    "subagent_trajectories": [CHILD],
}  # fmt: skip
# the other dialect: role and content, a plain list of observations, and no times at all
BARE: dict[str, Any] = {
    "trajectory_id": "tr-1", "session_id": "run-8", "agent": {"model_name": "claude-5"},
    "steps": [
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "assistant", "content": None,
         "tool_calls": [{"id": "x", "type": "function", "function": {"name": "look", "arguments": "{\"a\": 1}"}}]},
        {"role": "tool", "tool_call_id": "x", "content": "seen"},
        {"role": "assistant", "content": "hello", "metrics": {"reward": 0.5}},
        {"role": "user", "content": "thanks"},
    ],
}  # fmt: skip
CONTINUED: dict[str, Any] = {
    "schema_version": "ATIF-v1.6", "session_id": "run-7-cont-1", "agent": AGENT,
    "steps": [
        {"step_id": 1, "source": "user", "message": "Why does it fail?", "timestamp": stamp(0.5),
         "is_copied_context": True},
        {"step_id": 2, "source": "agent", "message": "It is the disk.", "timestamp": stamp(5),
         "is_copied_context": True, "metrics": {"prompt_tokens": 160, "completion_tokens": 8}},
        {"step_id": 3, "source": "user", "message": "Then clean it.", "timestamp": stamp(60)},
        {"step_id": 4, "source": "agent", "message": "Done.", "timestamp": stamp(61),
         "metrics": {"prompt_tokens": 200, "completion_tokens": 2}},
    ],
    "continued_trajectory_ref": "trajectory.cont-2.json",
}  # fmt: skip
SAMPLES = [RUN, BARE, CONTINUED]


def spans_of(record: dict[str, Any]) -> dict[str, Row]:
    spans = import_trajectory(record, "atif").spans
    assert [span["ordinal"] for span in spans] == list(range(len(spans)))
    found = {span["span_id"]: span for span in spans}
    assert len(found) == len(spans)
    assert all(span.get("parent_span_id", "root") in found for span in spans)
    return found


def test_trajectories_are_recognised() -> None:
    for record in SAMPLES:
        assert recognise_record(record) is Format.ATIF
    assert recognise_columns(RUN) is Format.ATIF
    assert recognise_record({"schema_version": "ATIF-v1.0", "agent": {}, "steps": [{"message": "x"}]}) is Format.ATIF
    assert recognise_record({"schema_version": "2", "agent": "x", "steps": [{"action": "cut"}]}) is Format.MAPPED
    assert recognise_record({"agent": "baker", "session_id": "s", "steps": 7}) is Format.MAPPED
    assert recognise_record({"agent": "baker", "steps": [{"role": "x"}]}) is Format.MAPPED
    assert recognise_record({**RUN, "messages": [{"role": "user"}]}) is Format.CHAT


def test_the_trace() -> None:
    rows = import_trajectory(RUN, "atif")
    (trace,) = rows.traces
    metadata = trace.pop("metadata")
    assert trace == {
        "trace_id": "run-7", "source": "atif", "agent": "terminus", "agent_version": "2.0", "session_id": "run-7",
        "user_id": "ada", "task": "disk-full", "model": "gpt-5-mini", "started_at": AT,
        "ended_at": AT + timedelta(seconds=5), "input": "Why does it fail?", "output": "It is the disk.",
        "input_tokens": 260, "output_tokens": 28, "cost_usd": 0.003,
    }  # fmt: skip
    for name in ("schema_version", "agent", "final_metrics", "notes"):
        assert metadata[name] == RUN[name]
    assert metadata["task"] == "disk-full"
    (outcome,) = rows.signals
    assert (outcome["kind"], outcome["name"], outcome["value"], outcome["annotator_kind"]) == (
        "outcome", "reward", 1.0, "code",
    )  # fmt: skip


def test_steps_in_order_with_the_subagent_beneath_its_call() -> None:
    spans = spans_of(RUN)
    assert [(s["span_id"], s["kind"], s["name"], s.get("parent_span_id")) for s in spans.values()] == [
        ("root", "agent", "terminus", None),
        ("step-3", "llm", "gpt-5-mini", "root"),
        ("step-3-call-0", "tool", "bash", "step-3"),
        ("step-3-call-1", "tool", "delegate", "step-3"),
        ("subagent-1/root", "agent", "searcher", "step-3-call-1"),
        ("subagent-1/step-2", "llm", "gpt-5-nano", "subagent-1/root"),
        ("subagent-1/step-2-call-0", "tool", "grep", "subagent-1/step-2"),
        ("step-4", "llm", "gpt-5", "root"),
    ]
    turn = spans["step-3"]
    assert [(m["role"], m["content"]) for m in json.loads(turn["input"])] == [
        ("system", "You are careful."), ("user", "Why does it fail?"),
    ]  # fmt: skip
    assert (turn["output"], turn["input_tokens"], turn["output_tokens"], turn["cost_usd"]) == (
        "I look.",
        100,
        20,
        0.001,
    )
    assert turn["started_at"] == AT + timedelta(seconds=1)
    assert "ended_at" not in turn, "a step has one time; when it ended is not stated"
    kept = {
        name: RUN["steps"][2][name] for name in ("step_id", "reasoning_content", "reasoning_effort", "metrics", "extra")
    }
    assert kept.items() <= turn["attributes"].items()
    assert [m["content"] for m in json.loads(spans["step-4"]["input"])] == ["Error: no such folder", "found"]


def test_results_complete_their_calls() -> None:
    spans = spans_of(RUN)
    failed, delegated = spans["step-3-call-0"], spans["step-3-call-1"]
    assert json.loads(failed["input"]) == {"keystrokes": "ls\n", "duration": 0.1}
    assert (failed["output"], failed["status"]) == ("Error: no such folder", "error")
    assert failed["attributes"] == {"tool_call_id": "c-1"}
    assert (delegated["output"], delegated["status"]) == ("found", "ok")
    assert "links" not in delegated
    child = spans["subagent-1/root"]
    assert (child["input"], child["output"], child["input_tokens"]) == ("find the log", "found", 40)
    assert child["attributes"]["notes"] == "a helper"
    assert child["attributes"]["session_id"] == "run-7-search"


def test_the_other_dialect_and_no_invented_times() -> None:
    rows = import_trajectory(BARE, "atif")
    spans = spans_of(BARE)
    assert rows.traces[0]["trace_id"] == "run-8/tr-1"
    assert (rows.traces[0]["input"], rows.traces[0]["output"]) == ("hi", "hello")
    for row in (*rows.traces, *rows.spans, *rows.signals):
        assert not {"started_at", "ended_at", "occurred_at"} & set(row)
    assert list(spans) == ["root", "step-2", "step-2-call-0", "step-4", "step-5"]
    call = spans["step-2-call-0"]
    assert (call["name"], call["input"], call["output"], call["status"]) == ("look", '{"a": 1}', "seen", "ok")
    assert (spans["step-5"]["kind"], spans["step-5"]["name"], spans["step-5"]["input"]) == ("other", "user", "thanks")
    (reward,) = rows.signals
    assert (reward["span_id"], reward["value"], reward["kind"]) == ("step-4", 0.5, "outcome")


def test_a_list_of_observations_and_results_without_ids() -> None:
    def observed(observation: Any, calls: int = 1, name: str = "observation") -> dict[str, Row]:
        made = [{"tool_call_id": f"c{n}", "function_name": "f", "arguments": {}} for n in range(calls)]
        step = {"source": "agent", "message": "x", "tool_calls": made, name: observation}
        return spans_of({"schema_version": "ATIF-v1.4", "session_id": "s", "agent": AGENT, "steps": [step]})

    for spans in (
        observed([{"source_call_id": "c0", "content": "y"}], name="observations"),
        observed({"results": [{"content": "y"}]}),
        observed({"results": [{"source_call_id": None, "content": [{"type": "text", "text": "y"}]}]}),
        observed("y"),
    ):
        assert (spans["step-1-call-0"]["output"], len(spans)) == ("y", 3)
    spans = observed({"results": [{"content": "of both"}], "terminal": "tty1"}, calls=2)
    result = spans["step-1-result-0"]
    assert (result["kind"], result["name"], result["output"], result["parent_span_id"]) == (
        "other", "observation", "of both", "step-1",
    )  # fmt: skip
    assert spans["step-1"]["attributes"]["observation"] == {"terminal": "tty1"}
    orphan = observed({"results": [{"source_call_id": "gone", "content": "late"}]})["step-1-result-0"]
    assert orphan["attributes"] == {"source_call_id": "gone", "orphan": True}


def test_a_subagent_in_a_file_of_its_own_is_linked() -> None:
    record = {key: value for key, value in RUN.items() if key != "subagent_trajectories"}
    steps = deepcopy(RUN["steps"])
    steps[2]["observation"]["results"][1]["subagent_trajectory_ref"] = [
        {"session_id": "run-7-search", "trajectory_path": "child.json"}
    ]
    span = spans_of({**record, "steps": steps})["step-3-call-1"]
    assert span["links"] == [{"trace_id": "run-7-search", "span_id": "root"}]
    assert span["attributes"]["result"]["subagent_trajectory_ref"][0]["trajectory_path"] == "child.json"


def test_subagents_of_the_system_and_those_nobody_called() -> None:
    system = {"step_id": 1, "source": "system", "message": "summarise", "timestamp": stamp(0), "observation": {
        "results": [{"subagent_trajectory_ref": [{"session_id": "run-7-search"}]}]}}  # fmt: skip
    other = {**CHILD, "trajectory_id": "child-2", "session_id": "x", "subagent_trajectories": [{**CHILD, "steps": []}]}
    spans = spans_of({**RUN, "steps": [system], "subagent_trajectories": [CHILD, other]})
    assert (spans["step-1"]["kind"], spans["step-1"]["input"], spans["step-1"]["name"]) == (
        "other",
        "summarise",
        "system",
    )
    assert spans["subagent-1/root"]["parent_span_id"] == "step-1-result-0"
    assert spans["subagent-2/root"]["parent_span_id"] == "root"
    assert spans["subagent-2/subagent-1/root"]["parent_span_id"] == "subagent-2/root"


def test_a_step_without_a_model_call_is_no_model_call() -> None:
    step = {"source": "agent", "message": "dispatched", "llm_call_count": 0}
    spans = spans_of({**CONTINUED, "steps": [step]})
    assert (spans["step-1"]["kind"], spans["step-1"]["name"]) == ("other", "agent")
    assert "model" not in spans["step-1"]


def test_continuations_are_one_session_and_copied_context_counts_once() -> None:
    rows = import_trajectory(CONTINUED, "atif")
    (trace,) = rows.traces
    assert (trace["trace_id"], trace["session_id"]) == ("run-7-cont-1", "run-7")
    assert trace["metadata"]["continued_trajectory_ref"] == "trajectory.cont-2.json"
    assert trace["metadata"]["session_id"] == "run-7-cont-1"
    assert (trace["started_at"], trace["input"]) == (AT + timedelta(seconds=60), "Then clean it.")
    spans = spans_of(CONTINUED)
    assert list(spans) == ["root", "step-4"]
    read = json.loads(spans["step-4"]["input"])
    assert [message["content"] for message in read] == ["Why does it fail?", "It is the disk.", "Then clean it."]
    assert read[1]["metrics"]["prompt_tokens"] == 160
    assert {span["session_id"] for span in spans.values()} == {"run-7"}


def test_ids() -> None:
    assert base_session("run-7-cont-12") == "run-7"
    assert base_session("run-7-cont-1-cont-2") == "run-7"
    assert [base_session(each) for each in ("-cont-1", "a-cont-x", "run", None)] == ["-cont-1", "a-cont-x", "run", None]
    assert identity("s", None) == "s"
    assert identity(None, "t") == "t"
    assert identity("s-1", "s-1:main") == "s-1:main"
    assert identity("s-1", "main") == "s-1/main"
    nameless = {"schema_version": "ATIF-v1.4", "agent": AGENT, "steps": RUN["steps"]}
    assert import_trajectory(nameless, "a").traces[0]["trace_id"].startswith("atif-")


def test_feedback_beside_a_trajectory_is_kept() -> None:
    signals = import_trajectory({**RUN, "feedback": {"thumb": "down", "comment": "wrong disk"}}, "atif").signals
    assert [(s["kind"], s.get("value"), s.get("text")) for s in signals] == [
        ("outcome", 1.0, None), ("thumb", 0.0, "wrong disk"),
    ]  # fmt: skip
    assert signals[1]["user_id"] == "ada"


@pytest.mark.parametrize(
    ("path", "value", "column"),
    [
        (("steps",), [], "steps"),
        (("steps", 1), "text", "steps[1]"),
        (("steps", 2, "timestamp"), "later", "steps[2].timestamp"),
        (("steps", 2, "metrics", "prompt_tokens"), 1.5, "steps[2].metrics.prompt_tokens"),
        (("steps", 2, "observation"), 7, "steps[2].observation"),
        (("agent",), "terminus", "agent"),
        (("subagent_trajectories", 0, "steps", 0, "timestamp"), "x", "subagent_trajectories[0].steps[0].timestamp"),
    ],
)
def test_rejects_name_the_field(path: tuple[Any, ...], value: Any, column: str) -> None:
    record = deepcopy(RUN)
    holder: Any = record
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    with pytest.raises(RecordRejected) as rejected:
        import_trajectory(record, "atif")
    assert rejected.value.column == column


# ---- through the pipeline


@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_loading_a_file_twice_gives_the_same_store(store: Store, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"trajectory.{kind}"
    if kind == "json":
        path.write_text(json.dumps(RUN, indent=2))
    else:
        path.write_text("".join(json.dumps(record) + "\n" for record in SAMPLES))
    report = loaded(store, path)
    count = 1 if kind == "json" else 3
    assert (report.source, report.received, report.accepted, report.rejected) == ("atif", count, count, 0)
    trace = table(store, "FROM traces WHERE trace_id = 'run-7'").to_dicts()[0]
    assert (trace["input_tokens"], trace["output_tokens"], trace["cost_usd"]) == (260, 28, 0.003)
    assert (trace["span_count"], trace["tool_count"], trace["error_count"]) == (8, 3, 1)
    before = state(store)
    again = loaded(store, path)
    assert (again.accepted, again.duplicate) == (0, count)
    assert state(store) == before


def test_a_session_and_its_continuation(store: Store, tmp_path: Path) -> None:
    for name, record in (("trajectory", RUN), ("trajectory.cont-1", CONTINUED)):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(record))
        loaded(store, path)
    traces = table(store, "SELECT trace_id, session_id, input_tokens FROM traces ORDER BY trace_id").rows()
    assert traces == [("run-7", "run-7", 260), ("run-7-cont-1", "run-7", 200)]


def test_a_longer_export_of_the_same_run_adds_to_it(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "trajectory.json"
    path.write_text(json.dumps({**RUN, "steps": RUN["steps"][:3]}))
    loaded(store, path)
    path.write_text(json.dumps(RUN))
    loaded(store, path)
    assert len(rows_of(store, "spans")) == 8
    assert table(store, "FROM traces")["output"].to_list() == ["It is the disk."]


def test_a_bad_trajectory_costs_only_itself(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in (RUN, {**BARE, "agent": 7}, CONTINUED)))
    report = loaded(store, path)
    assert (report.received, report.accepted, report.rejected) == (3, 2, 1)
    assert rejects_of(store, report)[0][2] == "agent"


# ---- any value


@given(damaged(SAMPLES))
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_damaged_records_give_rows_or_a_reject(record: dict[str, Any]) -> None:
    rows = check(import_trajectory, record)
    if rows is not None:
        ids = [span["span_id"] for span in rows.spans]
        assert len(set(ids)) == len(ids)


@given(odd_values(keys_in(SAMPLES)))
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_any_value_gives_rows_or_a_reject(record: Any) -> None:
    check(import_trajectory, record)
    recognise_record(record)


@given(st.lists(st.sampled_from(["user", "system", "agent", "tool", "odd"]), min_size=1, max_size=12), st.data())
def test_no_text_of_a_step_is_lost(roles: list[str], data: st.DataObject) -> None:
    steps = [
        {"source": role, "message": f"text-{place}.", "is_copied_context": data.draw(st.booleans())}
        for place, role in enumerate(roles)
    ]
    spans = import_trajectory({"session_id": "s", "agent": AGENT, "steps": steps}, "atif").spans
    text = json.dumps([[span.get("input"), span.get("output"), span.get("attributes")] for span in spans[1:]])
    assert all(f"text-{place}." in text for place in range(len(roles)))


def test_records_nested_without_end_are_rejected() -> None:
    deep: Any = "x"
    for _ in range(10_000):
        deep = [deep]
    for sample in SAMPLES:
        found = recognise_record({**sample, "deep": deep})
        assert found is recognise_record(sample)
        assert found is not None
        importer = importer_for(found)
        assert importer is not None
        with pytest.raises(RecordRejected, match="nested more than 64 levels"):
            importer({**sample, "deep": deep}, "source")
