"""Steering: what agents ask before they act, and what is in force.

    POST /v1/steer                which arm to run: {"decision_id", "arm", "propensities", "instructions", ...}
    GET  /v1/policies/{agent}     the policy in force, with an ETag
    GET  /v1/playbooks/{agent}    the playbook in force as plain text, with an ETag

An answer to /v1/steer comes from memory and waits for nothing: neither for the database nor for a thread. Beside pages
and jobs it comes from a process of its own.
"""

import json
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, Protocol

from anyio import to_thread
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.access import Access
from gateway.deciding import Figures, refused
from pipelines.steering.compiled import Compiled, limits_as_json
from pipelines.steering.decide import PoliciesUnread, UnknownAgent
from pipelines.steering.decision_log import LogCounts
from pipelines.steering.snapshot import Policies
from store import playbooks
from store.connection import Store
from store.errors import TrimtabError

__all__ = ["Source", "Steering"]


class Source(Protocol):
    """What answers questions: in this process (`Here`), or in one of its own (`Apart`)."""

    policies: Policies

    async def respond(self, request: Request) -> Response:
        """The answer to a question."""
        ...

    def figures(self) -> Figures:
        """The present figures. May wait for half a second."""
        ...

    def counts(self) -> LogCounts:
        """What became of decisions."""
        ...

    def condition(self) -> dict[str, Any]:
        """Where questions are answered, and whether they are."""
        ...

    def close(self) -> None:
        """Store the decisions that were made, then let go of the store."""
        ...


class Steering:
    """The routes. One for each process; close it before the store."""

    def __init__(self, store: Store, access: Access, source: Source) -> None:
        """`source` is closed with it."""
        self._store, self._access, self.source = store, access, source
        self.policies = source.policies

    async def steer(self, request: Request) -> Response:
        """Decide."""
        return await self.source.respond(request)

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
            return refused(error)
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
            return refused(error)
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
        counts = self.source.counts()
        problems = {agent or "all agents": problem.text for agent, problem in self.policies.problems().items()}
        return {
            "policies": len(self.policies.all()), "problems": problems, "decisions_waiting": counts.waiting,
            "decisions_lost": counts.lost, "log_error": counts.error, "process": self.source.condition(),
        }  # fmt: skip

    def metrics(self) -> Iterable[Metric]:
        """The figures for /metrics."""
        figures, log = self.source.figures(), self.source.counts()
        counts = figures.counts
        made = CounterMetricFamily("trimtab_steer_decisions", "Decisions; kinds overlap.", labels=["kind"])
        for kind, value in (
            ("all", counts.decisions), ("explored", counts.explored), ("sticky", counts.sticky),
            ("held_back", counts.held_back),
        ):  # fmt: skip
            made.add_metric([kind], value)
        yield made
        refused = CounterMetricFamily("trimtab_steer_refused", "Questions that were refused.", labels=["status"])
        for status, value in sorted(figures.refused.items()):
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
            spent.add_metric([policy.agent], figures.spent.get(policy.agent, 0.0))
        yield from (age, version, stale, spent)

    def close(self) -> None:
        """Store the decisions that were made, then let go of the store."""
        self.source.close()


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


def _tag(text: str) -> str:
    return f'"{blake2b(text.encode(), digest_size=12).hexdigest()}"'


def _unchanged(request: Request, tag: str) -> bool:
    """Whether the client holds what has this ETag."""
    given = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
    return tag in given or "*" in given
