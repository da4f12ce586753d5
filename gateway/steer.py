"""Steering: what agents ask before they act, and what is in force.

    POST /v1/steer                which arm to run: {"decision_id", "arm", "propensities", "instructions", ...}
    GET  /v1/policies/{agent}     the policy in force, with an ETag
    GET  /v1/playbooks/{agent}    the playbook in force as plain text, with an ETag

An answer to /v1/steer comes from memory and waits for nothing: neither for the database nor for a thread.
"""

import json
from collections.abc import Iterable
from datetime import timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any

from anyio import to_thread
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway import bodies
from gateway.access import Access
from gateway.bodies import UnsupportedBody
from gateway.refusals import JSON, refusal
from gateway.steer_question import BODY_LIMIT, read_question
from pipelines.steering.budget import Budgets
from pipelines.steering.compiled import Compiled, limits_as_json
from pipelines.steering.decide import Decided, Decider, PoliciesUnread, UnknownAgent
from pipelines.steering.decision_log import DecisionLog
from pipelines.steering.sessions import LIFETIME_SECONDS, Sessions
from pipelines.steering.snapshot import Policies
from store import decisions, playbooks
from store.connection import Store
from store.errors import TrimtabError

__all__ = ["Steering"]

_NO_STORE = {"Cache-Control": "no-store"}


class Steering:
    """The routes, and what they decide by. One for each process; close it before the store."""

    def __init__(self, store: Store, access: Access, spool: Path | None) -> None:
        """Carry on where an earlier process ended; decisions that it could not store are in the folder `spool`.

        Raises: `StoreError` when the decisions of the day cannot be read.
        """
        self._store, self._access = store, access
        self.log = DecisionLog(store, spool)
        try:
            now = store.clock.now()
            sessions = Sessions()
            sessions.restore(decisions.sessions_since(store, now - timedelta(seconds=LIFETIME_SECONDS)), now)
            budgets = Budgets(now, decisions.spent_today(store, now))
            self.policies = Policies.of_store(store)
        except BaseException:
            self.log.close()
            raise
        self.decider = Decider(self.policies, store.clock, sessions=sessions, budgets=budgets)
        self._refused: dict[int, int] = {}

    async def steer(self, request: Request) -> Response:
        """Decide."""
        try:
            caller = self._access.check(request.headers, request.client.host if request.client else None, "steer")
            bodies.content_type(request, JSON)
            if bodies.encoding(request) != "identity":
                raise UnsupportedBody("Content-Encoding", "gzip", "identity")
            question = read_question(await bodies.read(request, lambda _: None, BODY_LIMIT))
            decided = self.decider.decide(question, caller.source)
            self.log.take(decided.decision)
        except TrimtabError as error:
            answer = _refusal(error)
            self._refused[answer.status_code] = self._refused.get(answer.status_code, 0) + 1
            return answer
        return Response(_answer(decided), media_type=JSON, headers=_NO_STORE)

    async def policy(self, request: Request) -> Response:
        """What is in force for an agent."""
        agent = str(request.path_params["agent"])
        try:
            self._access.check(request.headers, request.client.host if request.client else None, "steer")
            compiled = self.policies.get(agent)
            problem = self.policies.problem(agent)
            if compiled is None:
                raise PoliciesUnread(problem.text) if problem is not None else UnknownAgent(agent)
        except TrimtabError as error:
            return _refusal(error)
        document = policy_document(compiled)
        document["problem"] = {"text": problem.text, "since": problem.since.isoformat()} if problem else None
        tag = _tag(json.dumps(document))
        if _unchanged(request, tag):
            return Response(status_code=304, headers={"ETag": tag})
        document["age_s"] = round((self._store.clock.now() - compiled.policy.built_at).total_seconds(), 3)
        return JSONResponse(document, headers={"ETag": tag})

    async def playbook(self, request: Request) -> Response:
        """The newest playbook of an agent."""
        agent = str(request.path_params["agent"])
        try:
            self._access.check(request.headers, request.client.host if request.client else None, "steer")
            frame = await to_thread.run_sync(lambda: playbooks.latest(self._store, agent))
        except TrimtabError as error:
            return _refusal(error)
        if frame.is_empty():
            return JSONResponse({"error": f"There is no playbook for the agent {agent[:100]!r}."}, status_code=404)
        row = frame.row(0, named=True)
        tag = _tag(f"{row['version']} {row['body']}")
        headers = {"ETag": tag, "X-Playbook-Version": str(row["version"])}
        if _unchanged(request, tag):
            return Response(status_code=304, headers=headers)
        return Response(row["body"], media_type="text/plain; charset=utf-8", headers=headers)

    def condition(self) -> dict[str, Any]:
        """How steering is, for /readyz: it goes on whatever this says."""
        counts = self.log.counts()
        problems = {agent or "all agents": problem.text for agent, problem in self.policies.problems().items()}
        return {
            "policies": len(self.policies.all()), "problems": problems, "decisions_waiting": counts.waiting,
            "decisions_lost": counts.lost, "log_error": counts.error,
        }  # fmt: skip

    def metrics(self) -> Iterable[Metric]:
        """The figures for /metrics."""
        counts, log = self.decider.counts(), self.log.counts()
        made = CounterMetricFamily("trimtab_steer_decisions", "Decisions; kinds overlap.", labels=["kind"])
        for kind, value in (
            ("all", counts.decisions), ("explored", counts.explored), ("sticky", counts.sticky),
            ("held_back", counts.held_back),
        ):  # fmt: skip
            made.add_metric([kind], value)
        yield made
        refused = CounterMetricFamily("trimtab_steer_refused", "Questions that were refused.", labels=["status"])
        for status, value in sorted(self._refused.items()):
            refused.add_metric([str(status)], value)
        yield refused
        logged = CounterMetricFamily("trimtab_steer_logged", "Decisions by what became of their row.", labels=["state"])
        logged.add_metric(["stored"], log.stored)
        logged.add_metric(["lost"], log.lost)
        yield logged
        yield CounterMetricFamily("trimtab_steer_log_failures", "Attempts to store decisions.", value=log.failures)
        yield GaugeMetricFamily("trimtab_steer_log_waiting", "Decisions not stored yet.", value=log.waiting)
        yield GaugeMetricFamily("trimtab_steer_log_fresh", "Of these, in no file: lost by a kill.", value=log.fresh)
        yield GaugeMetricFamily("trimtab_steer_sessions", "Sessions that keep their arm.", value=counts.sessions)
        age = GaugeMetricFamily("trimtab_policy_age_seconds", "Since the policy in force was built.", labels=["agent"])
        version = GaugeMetricFamily("trimtab_policy_version", "The policy in force.", labels=["agent"])
        stale = GaugeMetricFamily("trimtab_policy_problem", "1 where the newest is not in force.", labels=["agent"])
        spent = GaugeMetricFamily(
            "trimtab_steer_regret_spent", "Worst-case regret of the UTC day, in reward points.", labels=["agent"]
        )
        now = self._store.clock.now()
        for compiled in self.policies.all():
            policy = compiled.policy
            age.add_metric([policy.agent], (now - policy.built_at).total_seconds())
            version.add_metric([policy.agent], policy.version)
            stale.add_metric([policy.agent], float(self.policies.problem(policy.agent) is not None))
            spent.add_metric([policy.agent], self.decider.spent(policy.agent))
        yield from (age, version, stale, spent)

    def close(self) -> None:
        """Store the decisions that were made, then let go of the store."""
        self.policies.close()
        self.log.close()


def policy_document(compiled: Compiled) -> dict[str, Any]:
    """A policy as agents and operators read it, without single users."""
    policy = compiled.policy
    return {
        "agent": policy.agent,
        "version": policy.version,
        "built_at": policy.built_at.isoformat(),
        "reward_model_id": policy.reward_model_id,
        "arms": [
            {
                "arm": arm.name, "kind": arm.kind, "state": arm.state, "baseline": arm.baseline,
                "definition": arm.definition, "mean": float(policy.mean[place]), "sd": float(policy.sd[place]),
                "n": int(policy.n[place]), "limits": limits_as_json(policy.arm_limits.get(arm.name, policy.limits)),
            }
            for place, arm in enumerate(policy.arms)
        ],
        "rate": float(policy.rate),
        "propensity_floor": float(policy.propensity_floor),
        "segments": [
            {"segment": name, "rate": None if rate != rate else rate}
            for name, rate in zip(policy.segments, policy.segment_rate.tolist(), strict=True)
        ],
        "users": len(policy.users.index),
        "never_segments": sorted(policy.never_segments),
        "never_tasks": sorted(policy.never_tasks),
        "daily_regret_budget": policy.daily_regret_budget,
        "solicit_rate": policy.solicit_rate,
        "limits": limits_as_json(policy.limits),
        "lessons": list(policy.lesson_ids),
        "lesson_set_hash": compiled.lesson_set_hash,
        "instructions": policy.instructions,
        "ttl_s": policy.ttl_seconds,
    }  # fmt: skip


def _answer(decided: Decided) -> bytes:
    decision = decided.decision
    told = {
        "decision_id": decision.decision_id,
        "policy_version": decision.policy_version,
        "arm": decision.arm,
        "explore": decision.explore,
        "propensity": decision.propensity,
        "propensities": dict(zip(decision.arms, decision.propensities, strict=True)),
        "rate": decision.rate,
        "sticky": decision.sticky,
        "solicit": decision.solicit,
        "solicit_propensity": decision.solicit_propensity,
        "note": decision.note,
    }
    own = json.dumps(told, ensure_ascii=False).encode()
    return own[:-1] + b", " + decided.compiled.served(decision.arm) + b"}"


def _refusal(error: TrimtabError) -> Response:
    match error:
        case UnknownAgent():
            return JSONResponse({"error": str(error)}, status_code=404)
        case PoliciesUnread():
            return JSONResponse({"error": str(error)}, status_code=503, headers={"Retry-After": "5"})
        case _:
            return refusal(error)


def _tag(text: str) -> str:
    return f'"{blake2b(text.encode(), digest_size=12).hexdigest()}"'


def _unchanged(request: Request, tag: str) -> bool:
    """Whether the client holds what has this ETag."""
    given = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
    return tag in given or "*" in given
