"""The job `guardrails` over a store: only what is new, late spans, what is switched off and what is not."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from loop_data import run_loop
from publishing import Publish, publisher

from pipelines.guardrails import floors, job
from pipelines.jobs import JobResult
from store import arms, audit, failures, guardrails, safety_measures
from store.clock import FixedClock
from store.connection import Store
from store.errors import NotFound
from store.settings import Settings

START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(START)


@pytest.fixture
def store(tmp_path: Path, clock: FixedClock) -> Iterator[Store]:
    """A store with an agent of two arms."""
    opened = Store.open(tmp_path / "trimtab.duckdb", clock=clock, threads=1)
    for arm, baseline in (("a", True), ("b", False)):
        arms.define(opened, "shop", arm, kind="prompt", definition={}, baseline=baseline, origin="operator", by="ann")
    yield opened
    opened.close()


@pytest.fixture
def publish(store: Store, tmp_path: Path) -> Publish:
    return publisher(store, tmp_path)


def run(store: Store) -> JobResult:
    return run_loop(store, "guardrails")["guardrails"]


def trace(trace_id: str, minute: float = 1.0, **stated: Any) -> dict[str, Any]:
    moment = START + timedelta(minutes=minute)
    return {"trace_id": trace_id, "agent": "shop", "arm": "b", "started_at": moment, "status": "ok"} | stated


def call(trace_id: str, span_id: str, seconds: float = 60.0, **stated: Any) -> dict[str, Any]:
    moment = START + timedelta(seconds=seconds)
    own = {"trace_id": trace_id, "span_id": span_id, "kind": "tool", "name": "fetch", "started_at": moment}
    return own | {"agent": "shop"} | stated


def state(store: Store, arm: str) -> str:
    return str(arms.listed(store, agent="shop").filter(pl.col("arm") == arm)["state"][0])


def test_there_is_nothing_to_do_without_guardrails(store: Store, publish: Publish) -> None:
    publish(traces=[trace("t1")])
    assert not job.has_work(store, Settings())
    assert run(store) == JobResult(0, "There are no guardrails that are on.")


def test_only_traces_that_follow_are_audited_and_each_once(store: Store, publish: Publish, clock: FixedClock) -> None:
    publish(traces=[trace("before", -1)], spans=[call("before", "s0", -60)])
    guardrails.define(store, "shop", kind="off_limits_tool", subject="fetch", by="ann")
    assert job.has_work(store, Settings())
    publish(traces=[trace("t1"), trace("x", agent="other")], spans=[call("t1", "s1"), call("x", "s2", agent="other")])
    clock.moment += timedelta(minutes=2)
    assert job.has_work(store, Settings())
    assert run(store).message == "1 traces audited, 1 new violations, 0 looks at safety floors."
    assert not job.has_work(store, Settings())
    assert guardrails.violations(store).select("trace_id", "span_id", "action").rows() == [("t1", "s1", "alert")]
    assert run(store).message == "0 traces audited, 0 new violations, 0 looks at safety floors."
    publish(traces=[trace("t2", 2)], spans=[call("t2", "s3", 120), call("t2", "s4", 121)])
    assert run(store).rows == 2
    assert state(store, "b") == "enabled"


@pytest.mark.parametrize(
    ("rule", "evidence"),
    [
        ({"kind": "off_limits_tool", "subject": "FETCH"}, ["s1", "s2"]),
        ({"kind": "off_limits_site", "subject": "evil.com"}, ["s2"]),
        ({"kind": "off_limits_action", "subject": "fetch(url=*evil*)"}, ["s2"]),
        ({"kind": "min_delay_seconds", "threshold": 2.0}, ["s2"]),
        ({"kind": "max_actions_per_minute", "threshold": 1}, ["s2"]),
        ({"kind": "max_spend_usd", "threshold": 0.5}, ["s2"]),
    ],
)
def test_each_kind_alone_reads_what_it_needs(
    store: Store, publish: Publish, rule: dict[str, Any], evidence: list[str]
) -> None:
    guardrails.define(store, "shop", by="ann", **rule)
    publish(
        traces=[trace("t1")],
        spans=[
            call("t1", "s1", 60, input='{"url": "https://good.com"}', cost_usd=0.3),
            call("t1", "s2", 61, input='{"url": "https://evil.com"}', cost_usd=0.3),
        ],
    )
    run(store)
    assert guardrails.violations(store)["span_id"].sort().to_list() == evidence


def test_late_spans_are_audited_with_their_trace_and_their_session(store: Store, publish: Publish) -> None:
    guardrails.define(store, "shop", kind="min_delay_seconds", threshold=5.0, by="ann")
    guardrails.define(store, "shop", kind="max_spend_usd", threshold=1.0, by="ann")
    publish(
        traces=[trace("t1", session_id="s"), trace("t2", 2, session_id="s")],
        spans=[call("t1", "s1", 60), call("t2", "s2", 120)],
    )
    assert run(store).rows == 0
    # A span of t1 that came late began just before the first of t2, which was published before.
    publish(spans=[call("t1", "late", 119.0, session_id="s")])
    assert run(store).message.startswith("1 traces audited, 1 new violations")
    row = guardrails.violations(store).row(0, named=True)
    assert (row["trace_id"], row["span_id"], row["observed"]) == ("t2", "s2", 1.0)
    publish(spans=[call("t1", "dear", 62.0, kind="llm", name="m", cost_usd=1.5)])
    assert run(store).rows == 1
    assert guardrails.violations(store, trace_id="t1")["kind"].to_list() == ["max_spend_usd"]


def test_traces_in_one_run_and_in_many_give_the_same_violations(
    store: Store, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    guardrails.define(store, "shop", kind="min_delay_seconds", threshold=5.0, by="ann")
    guardrails.define(store, "shop", kind="off_limits_tool", subject="fetch", by="ann")
    traces = [trace(f"t{n}", 1 + n / 60, session_id=f"s{n % 7}") for n in range(40)]
    publish(traces=traces, spans=[call(f"t{n}", f"p{n}", 60 + n * 0.9) for n in range(40)])
    monkeypatch.setattr(job, "_CHUNK", 5)
    assert run(store).rows == 40  # seven actions apart is more than 5 s
    assert guardrails.violation_counts(store)["violations"].to_list() == [40]


def test_an_arm_is_switched_off_for_new_violations_and_says_why(store: Store, publish: Publish) -> None:
    made = guardrails.define(
        store, "shop", kind="off_limits_tool", subject="fetch", on_violation="switch_off", by="ann"
    )
    publish(traces=[trace("t1"), trace("t2")], spans=[call("t1", "s1"), call("t2", "s2")])
    run(store)
    row = arms.listed(store, agent="shop").filter(pl.col("arm") == "b").row(0, named=True)
    assert (row["state"], row["state_by"]) == ("off", "trimtab")
    assert row["state_reason"].startswith(f"Guardrail {made}, trace t1: expected no call of the tool fetch")
    assert guardrails.violations(store)["action"].to_list() == ["switch_off", "switch_off"]
    assert audit.recent(store, limit=1)["actor"].to_list() == ["trimtab"]
    arms.set_state(store, "shop", "b", "enabled", reason="", by="ann")
    publish(spans=[call("t1", "llm", kind="llm", name="m")])
    run(store)
    assert state(store, "b") == "enabled"  # the trace was audited anew, and what it did was known
    publish(spans=[call("t1", "s9")])
    run(store)
    assert state(store, "b") == "off"


def test_the_baseline_and_unknown_arms_are_reported_not_switched_off(store: Store, publish: Publish) -> None:
    guardrails.define(store, "shop", kind="off_limits_tool", subject="fetch", on_violation="switch_off", by="ann")
    publish(
        traces=[trace("t1", arm="a"), trace("t2", arm=None), trace("t3", arm="unheard")],
        spans=[call("t1", "s1"), call("t2", "s2"), call("t3", "s3")],
    )
    run(store)
    told = {row["trace_id"]: row for row in guardrails.violations(store).to_dicts()}
    assert {row["action"] for row in told.values()} == {"alert"}
    assert told["t1"]["detail"].endswith("the baseline is not switched off by itself")
    assert told["t2"]["detail"].endswith("no arm is known that could be switched off")
    assert told["t3"]["detail"].endswith("no arm is known that could be switched off")
    assert state(store, "a") == "enabled"


def test_what_was_cut_short_is_made_up(store: Store, publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    guardrails.define(store, "shop", kind="off_limits_tool", subject="fetch", on_violation="switch_off", by="ann")
    publish(traces=[trace("t1")], spans=[call("t1", "s1")])

    def cut(*args: object) -> None:
        raise RuntimeError("power")

    with monkeypatch.context() as patched:
        patched.setattr(guardrails, "add_violations", cut)
        with pytest.raises(RuntimeError):
            run(store)
    assert guardrails.violations(store).is_empty()
    assert run(store).rows == 1
    assert (state(store, "b"), guardrails.violations(store).height) == ("off", 1)


def decisions(n: int, *, logged: bool, seed: int = 5, bad: float = 0.6, first: int = 0) -> list[dict[str, Any]]:
    """Traces whose arm was drawn with .3 for b, which fails `bad` of the time against .1."""
    random = np.random.default_rng(seed)
    rows = []
    for place in range(first, first + n):
        arm = "b" if random.random() < 0.3 else "a"
        failed = random.random() < (bad if arm == "b" else 0.1)
        said = {
            "steer.arm": arm,
            "steer.propensity": 0.3 if arm == "b" else 0.7,
            "steer.propensities": {"a": 0.7, "b": 0.3},
        }
        moment = START + timedelta(minutes=place)
        rows.append(
            trace(f"d{place}", arm=arm, started_at=moment, ended_at=moment, status="error" if failed else "ok")
            | ({"metadata": said} if logged else {})
        )
    return rows


def floor(store: Store, on_violation: str = "switch_off") -> str:
    return guardrails.define(
        store, "shop", kind="safety_floor", subject="error_rate", threshold=0.05, on_violation=on_violation, by="ann"
    )


def test_a_broken_floor_switches_the_arm_off_and_the_look_stays(
    store: Store, publish: Publish, clock: FixedClock
) -> None:
    made = floor(store)
    publish(traces=decisions(150, logged=True))
    assert run(store).rows == 1
    first = guardrails.looks(store).row(0, named=True)
    assert (first["verdict"], first["lower"], first["basis"]) == ("can't tell yet", None, "randomised")
    assert run(store).rows == 0
    publish(traces=decisions(1_500, logged=True, first=150))
    clock.moment += timedelta(days=2)
    message = run(store).message
    assert "Switched off: error_rate of b is worse than that of a" in message
    row = arms.listed(store, agent="shop").filter(pl.col("arm") == "b").row(0, named=True)
    assert row["state"] == "off"
    assert row["state_reason"].startswith("Safety floor: error_rate of b is worse")
    last = guardrails.looks(store, guardrail_id=made, newest=True).row(0, named=True)
    assert (last["verdict"], last["n_arm"] + last["n_baseline"]) == ("worse", 1_650)
    assert last["upper"] < -0.05
    publish(traces=decisions(50, logged=True, first=1_650))
    assert run(store).rows == 0  # an arm that is off is not looked at
    # Enabled again it is judged by what it does from then on.
    arms.set_state(store, "shop", "b", "enabled", reason="", by="ann")
    publish(traces=decisions(300, logged=True, first=4_000, bad=0.1))
    clock.moment += timedelta(days=4)
    run(store)
    assert state(store, "b") == "enabled"
    again = guardrails.looks(store, newest=True).row(0, named=True)
    assert (again["verdict"], again["n_arm"] + again["n_baseline"]) == ("can't tell yet", 300)


def test_a_floor_is_due_when_it_is_new_or_the_rewards_are(store: Store, publish: Publish, clock: FixedClock) -> None:
    publish(traces=decisions(300, logged=True))
    floor(store)
    assert job.has_work(store, Settings())  # nothing came since, but there has been no look
    assert run(store).rows == 1
    assert not job.has_work(store, Settings())
    clock.moment += timedelta(minutes=5)
    guardrails.define(store, "shop", kind="safety_floor", subject="reward", threshold=0.05, by="ann")
    assert job.has_work(store, Settings())
    run_loop(store, "rewards")
    clock.moment += timedelta(minutes=5)
    run(store)
    assert not job.has_work(store, Settings())
    clock.moment += timedelta(minutes=5)
    store.write(
        lambda connection: connection.execute(
            """INSERT INTO job_runs VALUES
            (1, 'rewards', 'schedule', 1, 'succeeded', $now, $now, 1, '', 5, 1, NULL, NULL, 'x')""",
            {"now": clock.now()},
        )
    )
    assert job.has_work(store, Settings())
    run(store)
    assert not job.has_work(store, Settings())
    arms.set_state(store, "shop", "b", "off", reason="enough", by="ann")
    guardrails.define(store, "shop", kind="safety_floor", subject="cost_usd", threshold=0.05, by="ann")
    assert not job.has_work(store, Settings())  # no arm is left to be looked at


def test_of_many_traces_a_look_waits_for_enough_that_is_new(
    store: Store, publish: Publish, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floors, "_FEW", 100)
    floor(store)
    publish(traces=decisions(400, logged=True, bad=0.1))
    clock.moment = START + timedelta(minutes=400)
    assert run(store).rows == 1
    publish(traces=decisions(3, logged=True, first=401))
    clock.moment += timedelta(minutes=10)
    assert run(store).rows == 0
    publish(traces=decisions(3, logged=True, first=405))
    assert run(store).rows == 1
    publish(traces=decisions(1, logged=True, first=409))
    clock.moment += timedelta(minutes=61)
    assert run(store).rows == 1


def test_what_was_not_randomised_is_an_alert_only(store: Store, publish: Publish) -> None:
    floor(store)
    publish(traces=decisions(1_500, logged=False))
    result = run(store)
    assert "Alert: error_rate of b is worse" in result.message
    assert "observed" in result.message
    assert guardrails.looks(store)["basis"].to_list() == ["observed"]
    assert state(store, "b") == "enabled"


def test_an_alert_switches_nothing_off_and_a_floor_needs_a_baseline(store: Store, publish: Publish) -> None:
    floor(store, "alert")
    guardrails.define(store, "travel", kind="safety_floor", subject="reward", threshold=0.05, by="ann")
    publish(traces=decisions(1_500, logged=True))
    message = run(store).message
    assert "Alert: error_rate of b is worse" in message
    assert "travel has no baseline arm" in message
    assert state(store, "b") == "enabled"


def test_violations_are_causes_of_bad_traces(store: Store, publish: Publish) -> None:
    guardrails.define(store, "shop", kind="off_limits_tool", subject="fetch", by="ann")
    publish(
        traces=[trace(f"t{n}", status="error") for n in range(3)] + [trace("good")],
        spans=[call(f"t{n}", f"s{n}") for n in range(3)],
        signals=[
            {"signal_id": f"g{name}", "trace_id": name, "kind": "outcome", "value": value}
            for name, value in (("t0", 0.0), ("t1", 0.0), ("t2", 0.0), ("good", 1.0))
        ],
    )
    run_loop(store, "rewards", "guardrails", "failures")
    label = failures.of_trace(store, "t0").row(0, named=True)
    assert (label["axis"], label["rule"], label["span_id"]) == ("policy_violation", "against_guardrail", "s0")
    assert label["detail"] == "expected no call of the tool fetch; fetch was called"


def test_every_metric_of_a_floor_can_be_read(store: Store, publish: Publish) -> None:
    publish(
        traces=[
            trace("t1", ended_at=START + timedelta(minutes=1, seconds=3), cost_usd=0.5, status="error"), trace("t2"),
            trace("t3", arm=None),
        ],
        spans=[
            call("t1", "s1", kind="llm", attributes={"gen_ai.response.finish_reasons": ["content_filter"]}),
            call("t2", "s2", kind="llm", attributes={"gen_ai.response.finish_reasons": ["stop"]}),
        ],
        signals=[
            {"signal_id": "g1", "trace_id": "t1", "kind": "thumb", "value": 1.0},
            {"signal_id": "g2", "trace_id": "t1", "kind": "thumb", "value": 0.0},
            {"signal_id": "g3", "trace_id": "t2", "kind": "retry"},
            {"signal_id": "g4", "trace_id": "t2", "kind": "purchase", "value": 1.0},
        ],
    )  # fmt: skip
    run_loop(store, "rewards")
    expected = {
        "error_rate": {"t1": 1.0, "t2": 0.0}, "cost_usd": {"t1": 0.5}, "latency_seconds": {"t1": 3.0, "t2": 0.0},
        "refusal": {"t1": 1.0, "t2": 0.0}, "thumb": {"t1": 0.5}, "rating": {}, "outcome": {},
        "purchase": {"t1": 0.0, "t2": 1.0}, "correction": {"t1": 0.0, "t2": 0.0}, "retry": {"t1": 0.0, "t2": 1.0},
        "abandon": {"t1": 0.0, "t2": 0.0},
    }  # fmt: skip
    for metric in guardrails.METRICS:
        found = safety_measures.measured(store, "shop", metric)
        values = dict(zip(found["trace_id"], found["value"], strict=True))
        if metric == "reward":
            assert "t1" in values  # of t2 no signal speaks that the reward rests on
            assert set(values) <= {"t1", "t2"}
        else:
            assert values == expected[metric], metric
    with pytest.raises(NotFound):
        safety_measures.measured(store, "shop", "happiness")
