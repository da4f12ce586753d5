"""What a contrast reads, and that the page sees the newest run whole."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from publishing import Publish

from store import contrasts, lessons, rewards
from store.clock import FixedClock
from store.connection import Store
from store.contrasts import AGENTS, GROUPS, PATTERNS, ROLLOUTS, Found

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def counts(**changed: object) -> dict[str, object]:
    return dict.fromkeys(AGENTS, 0) | {"agent": "a", "best_q": None, "note": None} | changed


def group(**changed: object) -> dict[str, object]:
    return dict.fromkeys(GROUPS, 0) | {
        "agent": "a", "task": "t", "best_trace_id": "g", "worst_trace_id": "b", "good_trace_ids": ["g"],
        "bad_trace_ids": ["b"], "kind": "none", "step": None, "previous_action": None, "best_action": None,
        "worst_action": None, "best_span_id": None, "worst_span_id": None, "escalate": None,
    } | changed  # fmt: skip


def pattern(**changed: object) -> dict[str, object]:
    return dict.fromkeys(PATTERNS, 0) | {
        "agent": "a", "pattern": "used:x", "kind": "used", "tool": "x", "other_tool": None, "argument": None,
        "shape": None, "survives": False, "exact": True, "same_as": [], "explained_by": None, "lesson_id": None,
        "escalate": None,
    } | changed  # fmt: skip


def found(groups: int = 2) -> Found:
    tasks = [group(task=f"t{place}", value=float(place)) for place in range(groups)]
    return Found(
        pl.DataFrame([counts(traces=3, used=2, without_outcome=1)], schema=AGENTS),
        pl.DataFrame(tasks, schema=GROUPS),
        pl.DataFrame([pattern(p_value=0.5), pattern(pattern="used:y", p_value=0.1)], schema=PATTERNS),
    )


def keep(store: Store, what: Found) -> int:
    return contrasts.publish(
        store, what, data_version=1, code_version="0", reward_model_id=None, failure_run_id=None, parameters={"a": 1}
    )


def test_the_newest_run_is_seen_and_the_one_before_is_gone(store: Store) -> None:
    assert contrasts.newest(store) is None
    assert contrasts.groups(store).is_empty()
    assert keep(store, found()) == 1
    assert keep(store, found(groups=3)) == 2
    newest = contrasts.newest(store)
    assert newest is not None
    assert (newest["run_id"], newest["parameters"]) == (2, {"a": 1})
    assert contrasts.groups(store)["task"].to_list() == ["t2", "t1", "t0"]
    assert contrasts.groups(store, limit=1)["task"].to_list() == ["t2"]
    assert contrasts.patterns(store)["pattern"].to_list() == ["used:y", "used:x"]
    assert contrasts.agents(store).row(0, named=True)["traces"] == 3
    assert contrasts.groups(store, agent="b").is_empty()
    with store.read() as reader:
        for table in ("contrast_agents", "contrast_groups", "contrast_patterns"):
            assert reader.value(f"SELECT count(DISTINCT run_id) FROM {table}") == 1


def test_rollouts_are_all_traces_of_a_task_also_without_signals(store: Store, publish: Publish) -> None:
    publish(
        traces=[{"trace_id": name, "agent": agent, "task": task} for name, agent, task in
                [("1", "a", "x"), ("2", "a", "x"), ("3", "a", "y"), ("4", "a", None), ("5", None, "x")]],
        spans=[
            {"trace_id": "1", "span_id": "b", "kind": "tool", "name": "book", "ordinal": 2, "input": "x" * 50},
            {"trace_id": "1", "span_id": "a", "kind": "tool", "name": "look", "ordinal": 1, "status": "error"},
            {"trace_id": "1", "span_id": "c", "kind": "llm", "name": "say", "ordinal": 3},
        ],
    )  # fmt: skip
    before = contrasts.rollouts(store)
    assert before.schema == ROLLOUTS
    assert before["trace_id"].to_list() == ["1", "2", "3"]
    assert before["reward"].null_count() == 3
    frame = pl.DataFrame(
        {"trace_id": list("12"), "mean": 0.5, "sd": 0.1, "signals": [1, 2]}, schema_overrides={"signals": pl.Int32}
    )
    rewards.publish(store, rewards.Fitted("m", {}, frame, pl.DataFrame(schema=rewards.CELLS), 6, 1, "0"))
    store.write(lambda connection: connection.execute("UPDATE rewards SET outcome = 1.2 WHERE trace_id = '2'"))
    after = contrasts.rollouts(store)
    assert after["reward"].to_list() == [0.5, 0.5, None]
    assert after["outcome"].to_list() == [None, 1.2, None]
    steps = lessons.steps(store, ["1", "2"], ("tool",), characters=10)
    assert steps.select("trace_id", "span_id", "step", "status", "input").rows() == [
        ("1", "a", 1, "error", None), ("1", "b", 2, None, "x" * 10),
    ]  # fmt: skip


def test_requests_and_shares_of_users(store: Store, publish: Publish) -> None:
    publish(
        traces=[
            {"trace_id": str(n), "agent": "a", "task": "t", "user_id": "ada" if n < 3 else "bob",
             "input": f"request {n} " + "x" * 600, "started_at": NOW - timedelta(hours=n)}
            for n in range(4)
        ]
    )  # fmt: skip
    asked = contrasts.requests(store, each=2)
    assert [text[:9] for text in asked["input"]] == ["request 0", "request 1"]
    assert asked["input"].str.len_chars().max() == 500
    assert contrasts.user_shares(store, ["ada", "eve"]).rows() == [("a", "t", "ada", 0.75)]
    assert contrasts.user_shares(store, []).is_empty()


@pytest.mark.parametrize(
    ("state", "paused", "expires", "seen"),
    [
        ("active", None, None, "active"), ("canary", None, NOW + timedelta(days=1), "canary"),
        ("active", "kill switch", None, "paused"), ("active", None, NOW - timedelta(days=1), "paused"),
        ("retired", None, None, "retired"), ("proposed", None, None, None), ("rejected", None, None, None),
    ],
)  # fmt: skip
def test_lessons_that_are_or_were_served(
    store: Store, clock: FixedClock, state: str, paused: str | None, expires: datetime | None, seen: str | None
) -> None:
    draft = {
        "lesson_id": "l", "agent": "a", "task": None, "tested": True, "value": 1.0, "title": "T", "when_text": "w",
        "when_not": None, "do_text": "d", "why": "y",
    }  # fmt: skip
    columns = {name: lessons.PROPOSALS[name] for name in draft}
    evidence = pl.DataFrame(schema=lessons.EVIDENCE)
    lessons.propose(store, pl.DataFrame([draft], schema=columns), evidence)
    clock.moment = NOW
    store.write(
        lambda connection: connection.execute(
            "UPDATE lessons SET state = $state, paused = $paused, expires_at = $expires",
            {"state": state, "paused": paused, "expires": expires},
        )
    )
    assert contrasts.served(store)["state"].to_list() == ([] if seen is None else [seen])
