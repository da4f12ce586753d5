"""The example agent as a process of its own, against the real gateway and a model that answers as expected."""

import importlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from steering_policies import arm, policy_of

from pipelines.steering.policy import Limits
from store import decisions, policies
from tests.gateway.fake_model import REPLY, fake_model
from tests.gateway.live_server import LiveServer, serving

AGENT = Path(__file__).resolve().parents[2] / "docs" / "client" / "example_agent.py"
QUESTION = "Where is my order 7?"
ARMS = (
    arm("plain", baseline=True, prompt="Be plain.", model="gpt-plain"),
    arm("warm", prompt="Be warm.", model="gpt-warm"),
)


@pytest.fixture(scope="module")
def model() -> Iterator[str]:
    with fake_model() as url:
        yield url


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    with serving(tmp_path, keyless=False) as live:
        yield live


def publish(server: LiveServer, **changed: Any) -> None:
    """Have a policy for the agent in force."""
    policy = policy_of(ARMS, (0.6, 0.58), (0.05, 0.05), agent="support", **changed)
    policies.publish(server.store, policy, cause="operator")
    assert server.gateway.steering.policies.refresh("support")


def run(server: LiveServer, model: str, *options: str) -> str:
    """What the agent prints."""
    key = server.key("ingest", "steer")["x-api-key"]
    ran = subprocess.run(
        [sys.executable, str(AGENT), "--base-url", server.url, "--openai-base-url", model, "--timeout", "30",
         "--user", "ada", *options, QUESTION],
        env={**os.environ, "TRIMTAB_API_KEY": key}, capture_output=True, text=True, timeout=120,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def spans(server: LiveServer, trace_id: str, name: str) -> list[dict[str, Any]]:
    found = server.rows("FROM spans WHERE trace_id = $1 AND name = $2 ORDER BY started_at", trace_id, name)
    return [{**row, "attributes": json.loads(row["attributes"] or "{}")} for row in found]


@pytest.mark.process
def test_from_the_decision_to_the_feedback(server: LiveServer, model: str) -> None:
    """The decision in the log, the trace, and the signal tell the same story."""
    publish(server, rate=0.4, solicit_rate=1.0, limits=Limits(), instructions="Be brief.")
    printed = run(server, model, "--session", "visit-3", "--feedback", "yes")
    server.gateway.steering.source.log.close()
    (decision,) = decisions.recent(server.store, limit=10).to_dicts()
    assert printed.startswith(f"arm {decision['arm']} (server)\n")
    known = {"agent": "support", "user_id": "ada", "session_id": "visit-3", "task": "order-status"}
    assert {name: decision[name] for name in known} == known
    assert sorted(decision["arms"]) == ["plain", "warm"]
    assert 0.0 < decision["propensity"] < 1.0

    (trace,) = server.rows("FROM traces")
    ran = {**known, "arm": decision["arm"], "decision_id": decision["decision_id"], "input": QUESTION, "tool_count": 3}
    assert {name: trace[name] for name in ran} == ran
    assert trace["output"] in printed
    (root,) = spans(server, trace["trace_id"], "support")
    stated = {name: value for name, value in root["attributes"].items() if name.startswith("steer.")}
    assert json.loads(stated.pop("steer.propensities")) == dict(
        zip(decision["arms"], decision["propensities"], strict=True)
    )
    for column in ("steer.arm", "steer.decision_id", "steer.task"):  # columns of the trace
        stated.pop(column, None)
    assert stated == {
        "steer.source": "server", "steer.propensity": decision["propensity"], "steer.explore": decision["explore"],
        "steer.policy.version": 1, "steer.lesson.ids": ["l-1"],
    }  # fmt: skip
    calls = spans(server, trace["trace_id"], "ChatCompletion")
    assert len(calls) == 4, "three turns with tools, as this model calls one whenever it may, and a last one without"
    for call in calls:
        assert call["model"].startswith(f"gpt-{decision['arm']}")
        assert json.loads(call["input"])[0]["content"] == f"Be {decision['arm']}.\n\nBe brief."

    (signal,) = server.rows("FROM signals")
    given = {"trace_id": trace["trace_id"], "user_id": "ada", "session_id": "visit-3", "kind": "thumb", "value": 1.0,
             "solicited": True, "propensity": 1.0}  # fmt: skip
    assert {name: signal[name] for name in given} == given


@pytest.mark.process
def test_it_keeps_within_the_limits(server: LiveServer, model: str) -> None:
    publish(server, solicit_rate=0.0, limits=Limits(off_limits_tools=("order_*",), min_delay_seconds=0.05))
    run(server, model, "--feedback", "no")
    (trace,) = server.rows("FROM traces")
    assert spans(server, trace["trace_id"], "order_status") == []
    refunds = [span["started_at"] for span in spans(server, trace["trace_id"], "refund")]
    assert len(refunds) == 3
    gaps = [(later - earlier).total_seconds() for earlier, later in itertools.pairwise(refunds)]
    assert min(gaps) >= 0.05
    (signal,) = server.rows("FROM signals")
    assert (signal["value"], signal["solicited"], signal["propensity"]) == (0.0, False, None)


@pytest.mark.process
def test_without_a_decision_it_runs_the_safe_arm_and_logs_none(server: LiveServer, model: str) -> None:
    """Nobody has defined arms for the agent."""
    printed = run(server, model)
    assert printed.startswith("arm plain (fallback: the server answered with status 404: There is no policy")
    assert REPLY in printed
    (trace,) = server.rows("FROM traces")
    assert (trace["arm"], trace["decision_id"]) == ("plain", None)
    (root,) = spans(server, trace["trace_id"], "support")
    assert (root["attributes"]["steer.source"], root["attributes"]["steer.propensity"]) == ("fallback", 1.0)
    assert server.rows("FROM signals") == []


# The pace, without waiting for it


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(AGENT.parent))
    return importlib.import_module("example_agent")


class Time:
    """Stands for the module time; sleeping moves it."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def begun(agent: ModuleType, monkeypatch: pytest.MonkeyPatch, actions: int, **limits: Any) -> list[float]:
    """When so many actions begin that each take a second."""
    time = Time()
    monkeypatch.setattr(agent, "time", time)
    guard = agent.Guard(agent.Limits(**limits))
    found = []
    for _ in range(actions):
        guard.wait()
        guard.acted()
        found.append(time.now - 100.0)
        time.now += 1.0
    return found


def test_the_pace_is_that_of_the_limits(agent: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert begun(agent, monkeypatch, 4) == [0, 1, 2, 3]
    assert begun(agent, monkeypatch, 4, min_delay_seconds=5.0) == [0, 5, 10, 15]
    assert begun(agent, monkeypatch, 4, min_delay_seconds=0.5) == [0, 1, 2, 3]
    assert begun(agent, monkeypatch, 7, max_actions_per_minute=3.0) == [0, 1, 2, 60, 61, 62, 120]
    assert begun(agent, monkeypatch, 4, max_actions_per_minute=2.5, min_delay_seconds=40.0) == [0, 40, 80, 120]
    with pytest.raises(agent.LimitReached, match="no action"):
        begun(agent, monkeypatch, 1, max_actions_per_minute=0.0)


def test_spending_ends_at_the_cap(agent: ModuleType) -> None:
    guard = agent.Guard(agent.Limits(max_spend_usd=0.5))
    guard.spend(0.0)
    guard.spend(0.4)
    with pytest.raises(agent.LimitReached, match=r"0\.5 USD are spent, of 0\.5"):
        guard.spend(0.1)
    agent.Guard(agent.Limits()).spend(1e9)


def test_a_call_that_is_off_limits_is_not_made(agent: ModuleType) -> None:
    """Even when the model asks for a tool that it was not offered."""
    guard = agent.Guard(agent.Limits(off_limits_actions=("refund(order=7)",)))
    tracer = agent.trace.get_tracer("t")
    assert [tool["function"]["name"] for tool in guard.tools()] == ["order_status", "refund"]
    assert agent.called("refund", '{"order": "8"}', guard, tracer) == "Order 8 was refunded."
    assert agent.called("refund", '{"order": "7"}', guard, tracer).startswith("Not called: the action refund(order=7)")
    assert agent.called("delete_all", "{}", guard, tracer) == "Not called: there is no tool delete_all."
    assert agent.called("refund", "[7]", guard, tracer) == "Not called: the arguments are no object."
    assert agent.called("refund", "{", guard, tracer).startswith("Not called: the arguments are no JSON")
