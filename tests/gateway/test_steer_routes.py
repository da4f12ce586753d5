"""Steering over real HTTP: what is answered and logged, what is refused and how."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from steering_policies import arm, policy_of

from gateway.access import Access
from gateway.steering_here import Here
from pipelines.steering.decide import Question
from store import decisions, playbooks, policies
from store.playbooks import Rendered
from tests.gateway.live_server import JSON, Answer, LiveServer, serving

MEGABYTE = 1 << 20


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    with serving(tmp_path) as live:
        yield live


@pytest.fixture
def steered(server: LiveServer) -> LiveServer:
    """A server with a policy for support-bot."""
    publish(server)
    return server


def publish(server: LiveServer, **changed: Any) -> None:
    """Publish a policy, and wait until it is in force."""
    policy = policy_of(**changed)
    version = policies.publish(server.store, policy, cause="operator")
    wait_until(lambda: (held := server.gateway.steering.policies.policy_for(policy.agent)) and held.version == version)


def wait_until(condition: Any, seconds: float = 20.0) -> None:
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not come about")


def steer(server: LiveServer, document: Any = None, headers: dict[str, str] | None = None, **fields: Any) -> Answer:
    body = document if isinstance(document, bytes) else json.dumps({"agent": "support-bot", **fields}).encode()
    return server.send("POST", "/v1/steer", body, {**JSON, **(headers or {})})


def logged(server: LiveServer, count: int) -> list[dict[str, Any]]:
    """The decisions in the store, once there are `count`."""
    wait_until(lambda: decisions.recent(server.store, limit=10_000).height >= count)
    return decisions.recent(server.store, limit=10_000).to_dicts()


def test_an_answer_has_all_that_the_agent_needs_and_is_logged(steered: LiveServer) -> None:
    answer = steer(steered, user_id="u", session_id="s", task="refund", input="Where is it?")
    assert answer.status == 200
    told = answer.json()
    assert told["arm"] in told["propensities"]
    assert told["propensities"].keys() == {"baseline", "short answers", "with tools"}
    assert sum(told["propensities"].values()) == pytest.approx(1, abs=1e-9)
    assert told["propensity"] == told["propensities"][told["arm"]]
    assert told["definition"] == {"prompt_version": told["arm"]}
    assert told["limits"] == {
        "off_limits_tools": ["shell"], "off_limits_sites": [], "off_limits_actions": [], "min_delay_seconds": None,
        "max_actions_per_minute": None, "max_spend_usd": 0.5,
    }  # fmt: skip
    assert (told["lessons"], told["policy_version"], told["ttl_s"]) == (["l-1"], 1, 60.0)
    assert told["instructions"].startswith("# Playbook")
    assert told["solicit_propensity"] == 0.02
    row = logged(steered, 1)[0]
    assert {name: row[name] for name in ("decision_id", "arm", "propensity", "rate", "explore", "solicit")} == {
        name: told[name] for name in ("decision_id", "arm", "propensity", "rate", "explore", "solicit")
    }
    assert dict(zip(row["arms"], row["propensities"], strict=True)) == told["propensities"]
    assert (row["user_id"], row["session_id"], row["task"], row["unit"]) == ("u", "s", "refund", "session:s")
    assert (row["source"], row["off_policy"], row["sticky"]) == ("local", True, False)
    assert row["lesson_set_hash"] == told["lesson_set_hash"]


def test_a_session_keeps_its_arm_over_requests(steered: LiveServer) -> None:
    answers = [steer(steered, session_id="s").json() for _ in range(20)]
    assert len({each["arm"] for each in answers}) == 1
    assert [each["sticky"] for each in answers] == [False] + [True] * 19
    assert len({each["decision_id"] for each in answers}) == 20


def test_only_the_arms_an_agent_can_run_are_drawn(steered: LiveServer) -> None:
    told = steer(steered, arms=["with tools", "what?"]).json()
    assert (told["arm"], told["propensities"]) == ("with tools", {"with tools": 1.0})
    assert told["note"] == "not enabled arms of this agent: what?; only one arm may be drawn"


def test_fields_that_mean_nothing_are_named(steered: LiveServer) -> None:
    answer = steer(steered, sesion_id="s")
    assert answer.status == 200
    assert answer.json()["note"] == "fields that mean nothing here: 'sesion_id'"


def test_empty_texts_identify_nothing(steered: LiveServer) -> None:
    answers = [steer(steered, session_id="", user_id=" ", task=None).json() for _ in range(3)]
    assert not any(each["sticky"] for each in answers)
    assert {row["session_id"] for row in logged(steered, 3)} == {None}


def test_an_agent_without_a_policy_is_told_so(server: LiveServer) -> None:
    answer = steer(server)
    assert answer.status == 404
    assert "There is no policy for the agent 'support-bot'" in answer.json()["error"]
    assert server.get("/v1/policies/support-bot").status == 404
    assert server.get("/v1/playbooks/support-bot").status == 404
    publish(server)
    assert steer(server).status == 200


def test_the_key_needs_the_scope(steered: LiveServer) -> None:
    wrong, right = steered.key("ingest"), steered.key("steer", name="agents")
    for answer in (
        steer(steered, headers=wrong),
        steered.get("/v1/policies/support-bot", wrong),
        steered.get("/v1/playbooks/support-bot", wrong),
    ):
        assert answer.status == 403
        assert "lacks the scope steer" in answer.json()["error"]
    assert steer(steered, headers={"x-api-key": "tt_nobody"}).status == 401
    assert steer(steered, headers=right).status == 200
    assert [row["source"] for row in logged(steered, 1)] == ["agents"]


def test_the_policy_in_force_has_an_etag_that_changes_with_it(steered: LiveServer) -> None:
    answer = steered.get("/v1/policies/support-bot")
    assert answer.status == 200
    told = answer.json()
    assert [each["arm"] for each in told["arms"]] == ["baseline", "short answers", "with tools"]
    assert told["arms"][0] == {
        "arm": "baseline", "kind": "prompt", "state": "enabled", "baseline": True,
        "definition": {"prompt_version": "baseline"}, "mean": 0.6, "sd": 0.03, "n": 100, "limits": told["limits"],
    }  # fmt: skip
    assert (told["version"], told["rate"], told["problem"], told["users"]) == (1, 0.2, None, 0)
    assert told["age_s"] >= 0
    tag = answer.headers["etag"]
    same = steered.get("/v1/policies/support-bot", {"If-None-Match": f'"other", W/{tag}'})
    assert (same.status, same.body, same.headers["etag"]) == (304, b"", tag)
    publish(steered, rate=0.3)
    changed = steered.get("/v1/policies/support-bot", {"If-None-Match": tag})
    assert (changed.status, changed.json()["version"]) == (200, 2)
    assert changed.headers["etag"] != tag


def test_the_playbook_is_served_plain_with_an_etag(server: LiveServer) -> None:
    now = server.store.clock.now()

    def write(body: str) -> None:
        rendered = Rendered(body, ("l-1",), 9)
        server.store.write(lambda connection: playbooks.append(connection, now, "support-bot", rendered, "test"))

    write("# Éins <b>")
    answer = server.get("/v1/playbooks/support-bot")
    assert (answer.status, answer.body.decode()) == (200, "# Éins <b>")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-playbook-version"] == "1"
    held = {"If-None-Match": answer.headers["etag"]}
    assert server.get("/v1/playbooks/support-bot", held).status == 304
    write("# Zwei")
    again = server.get("/v1/playbooks/support-bot", held)
    assert (again.status, again.body.decode(), again.headers["x-playbook-version"]) == (200, "# Zwei", "2")
    assert server.get("/v1/playbooks/shop").status == 404


def test_a_rebuild_that_fails_leaves_the_old_policy_and_says_so(
    steered: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = steered.get("/v1/policies/support-bot").headers["etag"]

    def fail(*_: object) -> None:
        raise OSError("the disk is gone")

    with monkeypatch.context() as broken:
        broken.setattr(policies, "newest", fail)
        policies.publish(steered.store, policy_of(rate=0.9), cause="operator")
        wait_until(lambda: steered.gateway.steering.policies.problem("support-bot"))
        assert steer(steered).json()["policy_version"] == 1
        answer = steered.get("/v1/policies/support-bot", {"If-None-Match": tag})
        assert answer.status == 200
        assert (answer.json()["version"], answer.json()["problem"]["text"]) == (1, "the disk is gone")
        ready = steered.get("/readyz")
        assert ready.status == 200
        assert ready.json()["steering"]["problems"] == {"support-bot": "the disk is gone"}
        assert figures(steered)["trimtab_policy_problem", "support-bot"] == 1
        assert figures(steered)["trimtab_policy_version", "support-bot"] == 1
    steered.gateway.steering.policies.changed("support-bot")
    wait_until(lambda: steered.gateway.steering.policies.problem("support-bot") is None)
    assert steer(steered).json()["policy_version"] == 2


def test_answers_do_not_wait_for_the_store(steered: LiveServer) -> None:
    with steered.writer_held():
        answers = [steer(steered, session_id=f"s-{number}") for number in range(50)]
        assert {each.status for each in answers} == {200}
        wait_until(lambda: figures(steered)["trimtab_steer_log_waiting", ""] == 50)
        assert decisions.recent(steered.store).height == 0
    assert {row["decision_id"] for row in logged(steered, 50)} == {each.json()["decision_id"] for each in answers}


def test_a_restart_carries_on_with_sessions_budgets_and_what_was_not_stored(tmp_path: Path) -> None:
    with serving(tmp_path) as live:
        publish(live, daily_regret_budget=5.0)
        before = {f"s-{number}": steer(live, session_id=f"s-{number}").json() for number in range(30)}
        logged(live, 30)
        access = Access(live.store, keyless_loopback=True)
        later = Here(live.store, access, None)
        try:
            spent = live.gateway.steering.source.decider.spent("support-bot")
            assert later.decider.spent("support-bot") == pytest.approx(spent)
            assert spent > 0
            for session, first in before.items():
                again = later.decider.decide(Question("support-bot", session_id=session), "k").decision
                assert (again.sticky, again.arm, again.propensity) == (True, first["arm"], first["propensity"])
        finally:
            later.close()
            access.close()


def figures(server: LiveServer) -> dict[tuple[str, str], float]:
    """The metrics, by name and the value of their label."""
    text = server.get("/metrics").body.decode()
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_figures_count_what_happened(steered: LiveServer) -> None:
    for _ in range(3):
        steer(steered, session_id="s")
    steer(steered, b"{")
    steer(steered, agent="nobody")
    logged(steered, 3)
    wait_until(lambda: figures(steered)["trimtab_steer_log_waiting", ""] == 0)
    seen = figures(steered)
    assert seen["trimtab_steer_decisions_total", "all"] == 3
    assert seen["trimtab_steer_decisions_total", "sticky"] == 2
    assert seen["trimtab_steer_refused_total", "400"] == 1
    assert seen["trimtab_steer_refused_total", "404"] == 1
    assert seen["trimtab_steer_logged_total", "stored"] == 3
    assert seen["trimtab_steer_logged_total", "lost"] == 0
    assert seen["trimtab_steer_sessions", ""] == 1
    assert seen["trimtab_policy_version", "support-bot"] == 1
    assert seen["trimtab_policy_age_seconds", "support-bot"] > 0


# Hostile bodies


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with serving(tmp_path_factory.mktemp("hostile")) as live:
        publish(live, arms=[arm("baseline", baseline=True), arm("café"), arm("c")])
        yield live
        # It still decides and logs.
        before = decisions.recent(live.store, limit=10_000).height
        assert steer(live).status == 200
        logged(live, before + 1)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 400, "The body must be a JSON object"),
        (b"{", 400, "The body must be a JSON object"),
        (b"[]", 400, "came a list"),
        (b"null", 400, "came null"),
        (b'"support-bot"', 400, "came the text 'support-bot'"),
        (b"\xff\xfe", 400, "UTF-8"),
        (b"{}", 400, "agent must be the name"),
        (b'{"agent": null}', 400, "agent must be the name"),
        (b'{"agent": "  "}', 400, "agent must be the name"),
        (b'{"agent": 7}', 400, "agent must be a text; came a number"),
        (b'{"agent": true}', 400, "agent must be a text; came a boolean"),
        (b'{"agent": ["support-bot"]}', 400, "agent must be a text; came a list"),
        (b'{"agent": NaN}', 400, "NaN is not JSON"),
        (b'{"agent": "support-bot", "input": [1, -Infinity]}', 400, "-Infinity is not JSON"),
        (b'{"agent": "a", "user_id": {"id": 1}}', 400, "user_id must be a text; came an object"),
        (b'{"agent": "a", "session_id": 1e400}', 400, "session_id must be a text; came a number beyond"),
        (b'{"agent": "a\\u0000b"}', 400, "agent must be a text without NUL characters"),
        (b'{"agent": "a", "session_id": "\\u0000"}', 400, "session_id must be a text without NUL"),
        (b'{"agent": "a", "task": "\\ud800"}', 400, "task must be a text of whole characters"),
        (b'{"agent": "a", "user_id": "' + b"u" * 513 + b'"}', 400, "user_id must be at most 512 characters; came 513"),
        (b'{"agent": "' + b"a" * 500_000 + b'"}', 400, "agent must be at most 512 characters; came 500,000"),
        (b'{"agent": "a", "arms": "b"}', 400, "arms must be a list of texts; came the text 'b'"),
        (b'{"agent": "a", "arms": {"b": 1}}', 400, "arms must be a list of texts; came an object"),
        (b'{"agent": "a", "arms": ["b", 1]}', 400, "arms[1] must be a text; came a number"),
        (b'{"agent": "a", "arms": ["b", null]}', 400, "arms[1] must be a text; came null"),
        (b'{"agent": "a", "arms": ["\\u0000"]}', 400, "arms[0] must be a text without NUL"),
        (b'{"agent": "a", "arms": [' + b'"b",' * 200 + b'"b"]}', 400, "arms must be at most 200 names; came 201"),
        (b'{"agent": "a", "input": ' + b"9" * 5_000 + b"}", 400, "The body must be a JSON object"),
        (b"[" * 500_000, 400, "The body must be a JSON object"),
        (b'{"agent": "a", "input": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", 400, "The body must be a JSON object"),
        (b" " * (MEGABYTE + 1), 413, "1,048,576"),
        (b'{"agent": "support-bot", "input": "' + b"x" * MEGABYTE + b'"}', 413, "1,048,576"),
    ],
)
def test_a_body_that_is_no_question_is_refused_with_the_reason(
    hostile: LiveServer, body: bytes, status: int, reason: str
) -> None:
    answer = steer(hostile, body)
    assert answer.status == status
    assert reason in answer.json()["error"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"agent": "support-bot", "input": "' + b"x" * (MEGABYTE - 100) + b'"}',
        b'{"agent": "support-bot", "input": [' + b"1," * 500_000 + b"1]}",
        b'{"agent": "support-bot", "input": {"a": [null, true, 1e308, "\\ud800 \\u0000"]}}',
        b'{"agent": "support-bot", "user_id": "' + "\U0001f9ea".encode() * 512 + b'"}',
        b'{"agent": "support-bot", "user_id": "a", "user_id": "\' OR 1=1; DROP TABLE decisions; --"}',
        b'{"agent": "support-bot", "arms": ["cafe\\u0301", " caf\\u00e9 "]}',
        b'{"agent": "support-bot", "\\ud800": 1, "arms": null, "session_id": null}',
    ],
)
def test_whatever_is_a_question_is_answered_and_logged(hostile: LiveServer, body: bytes) -> None:
    before = decisions.recent(hostile.store, limit=10_000).height
    answer = steer(hostile, body)
    assert answer.status == 200
    logged(hostile, before + 1)


def test_other_types_and_encodings_are_refused(hostile: LiveServer) -> None:
    body = b'{"agent": "support-bot"}'
    assert hostile.send("POST", "/v1/steer", body, {"Content-Type": "text/plain"}).status == 415
    assert hostile.send("POST", "/v1/steer", body, {**JSON, "Content-Encoding": "gzip"}).status == 415
    assert hostile.send("GET", "/v1/steer").status == 405
    assert hostile.send("POST", "/v1/steer", [b'{"agent":', b'"support-bot"}'], JSON).status == 200
    assert hostile.send("POST", "/v1/steer", [b"x" * MEGABYTE] * 3, JSON).status == 413


@pytest.mark.parametrize(
    "agent", ["%00", "%ff", "nobody", "a" * 5_000, "..%2f..%2fetc", "%F0%9F%A7%AA", "'; DROP TABLE--"]
)
def test_agents_that_are_not_there_have_neither_policy_nor_playbook(hostile: LiveServer, agent: str) -> None:
    for kind in ("policies", "playbooks"):
        answer = hostile.get(f"/v1/{kind}/{agent.replace(' ', '%20')}")
        assert answer.status == 404
