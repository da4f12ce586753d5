"""Traces without a task are read whole and in order, and a trace that has a task keeps it."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from store import meta, tasks
from store.rollup import PREVIEW_CHARACTERS

START = datetime(2026, 11, 1, tzinfo=UTC)
LONG = "Please change the flight of my mother. " * 40  # 1,600 characters


def _trace(name, **columns):
    return {"trace_id": name, "agent": "airline", "started_at": START, **columns}


def _assign(store, **given):
    frame = pl.DataFrame(
        {"trace_id": list(given), "agent": "airline", "task": list(given.values()), "similarity": 0.9},
        schema_overrides={"trace_id": pl.String, "task": pl.String},
    )
    names = sorted(set(given.values()))
    opened = pl.DataFrame({"task": names, "agent": "airline", "representative": names}, schema=tasks.GROUPS)
    return tasks.assign(store, frame, opened)


def _tasks(store):
    with store.read() as reader:
        rows = reader.any_frame("SELECT trace_id, task, task_origin FROM traces ORDER BY trace_id").rows()
    return {trace: (task, origin) for trace, task, origin in rows}


def test_only_traces_with_an_input_and_without_a_task_are_read_oldest_first(publish, store):
    publish(
        traces=[
            _trace("late", input="change", started_at=START + timedelta(days=1)),
            _trace("given", input="change", task="refund"),
            _trace("blank", input=" \n\t "),
            _trace("missing"),
            _trace("early", input="cancel"),
        ]
    )
    assert tasks.ungrouped(store).rows() == [
        ("early", "airline", "cancel", START),
        ("late", "airline", "change", START + timedelta(days=1)),
    ]


def test_pages_follow_one_another_without_gap_or_repeat(publish, store):
    publish(traces=[_trace(f"t{i}", input="x", started_at=START + timedelta(hours=i // 3)) for i in range(10)])
    seen, after = [], None
    while len(page := tasks.ungrouped(store, after=after, limit=3)):
        seen += page["trace_id"].to_list()
        after = tasks.Position(page["seen_at"][-1], page["trace_id"][-1])
    assert seen == [f"t{i}" for i in range(10)]


@pytest.mark.parametrize("length", [PREVIEW_CHARACTERS - 1, PREVIEW_CHARACTERS, PREVIEW_CHARACTERS + 1, 1600])
def test_inputs_are_whole_wherever_they_are_held(publish, store, length):
    text = LONG[:length]
    later = START + timedelta(minutes=1)
    publish(
        traces=[_trace("record", input=text)],
        spans=[
            {"trace_id": "root", "span_id": "r", "kind": "agent", "input": text, "agent": "airline"},
            {"trace_id": "root", "span_id": "c", "parent_span_id": "r", "kind": "llm", "input": "x" * 900},
            {"trace_id": "call", "span_id": "r", "kind": "agent", "agent": "airline", "started_at": START},
            {"trace_id": "call", "span_id": "a", "parent_span_id": "r", "kind": "llm", "input": text,
             "started_at": START},
            {"trace_id": "call", "span_id": "b", "parent_span_id": "r", "kind": "llm", "input": "y" * 900,
             "started_at": later},
        ],
    )  # fmt: skip
    inputs = dict(tasks.ungrouped(store).select("trace_id", "input").rows())
    assert inputs == {"record": text, "root": text, "call": text}
    assert set(tasks.ungrouped(store, characters=700)["input"]) == {text[:700]}
    assert set(tasks.ungrouped(store, characters=100)["input"]) == {text[:100]}


def test_an_assigned_task_reaches_the_rollup_and_stays(publish, store):
    publish(traces=[_trace("a", input="change"), _trace("b", input="cancel"), _trace("g", task="given", input="x")])
    before = meta.data_version(store)
    assert _assign(store, a="airline/change", b="airline/cancel", g="airline/change", unknown="airline/change") == 2
    expected = {
        "a": ("airline/change", "grouped"),
        "b": ("airline/cancel", "grouped"),
        "g": ("given", "given"),
    }
    assert _tasks(store) == expected
    assert meta.data_version(store) == before + 1
    assert _assign(store, a="airline/cancel", b="airline/change") == 0
    assert _tasks(store) == expected
    assert tasks.ungrouped(store).is_empty()
    assert tasks.groups(store)["task"].to_list() == ["airline/cancel", "airline/change"]
    assert meta.data_version(store) == before + 1


def test_late_spans_do_not_change_the_task_nor_the_batch(publish, store):
    publish(traces=[_trace("a", input="change")])
    _assign(store, a="airline/change")
    publish(spans=[{"trace_id": "a", "span_id": "1", "kind": "tool", "input": "late"}])
    assert _tasks(store) == {"a": ("airline/change", "grouped")}
    with store.read() as reader:
        assert reader.value("SELECT batch_id FROM traces") == 1
    assert tasks.counts(store).rows() == [("airline", "airline/change", "grouped", 1)]
