"""Publishing policies: from new beliefs, or from those that are held when an operator has decided something."""

import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final
from weakref import WeakKeyDictionary

import polars as pl

from pipelines.steering.policy import Policy
from pipelines.steering.policy_build import Beliefs, Decided, beliefs_of, build
from store import arms, audit, drift_responses, exploration, guardrails, lesson_sets, never_explore, playbooks, policies
from store.connection import Store
from store.lesson_sets import LessonSet

__all__ = ["DEFAULT_ARM", "decided", "publish", "republish"]

DEFAULT_ARM: Final = "default"
"""The only arm of an agent that has lessons and no arms."""


@dataclass
class _Held:
    """What is behind the newest policies of this process, by agent."""

    # Unlike a policy they also hold the arms that are off.
    beliefs: dict[str, Beliefs] = field(default_factory=dict)
    decided: dict[str, Decided] = field(default_factory=dict)
    policies: dict[str, Policy] = field(default_factory=dict)


_held: WeakKeyDictionary[Store, _Held] = WeakKeyDictionary()
_held_lock = threading.Lock()


def decided(store: Store, agent: str, before: Decided | None = None) -> Decided:
    """What operators decided for an agent, as it is now; `before` spares reading lessons that are the same."""
    limits, arm_limits = guardrails.limits_of(store, agent)
    newest = playbooks.latest(store, agent).to_dicts()
    listed = arms.listed(store, agent=agent)
    return Decided(
        arms=_one_arm(agent, newest[0]["created_at"]) if newest and listed.is_empty() else listed,
        rates=exploration.applied_rates(store, agent), bounds=exploration.bounds(store, agent),
        never=never_explore.listed(store, agent), limits=limits,
        arm_limits={arms.clean_name(arm): found for arm, found in arm_limits.items()},
        instructions=newest[0]["body"] if newest else "",
        lesson_ids=tuple(newest[0]["lesson_ids"]) if newest else (),
        lessons=_lessons(store, agent, newest[0]["version"], before) if newest else None,
        raised=drift_responses.raised(store, agent),
    )  # fmt: skip


def publish(store: Store, fresh: Mapping[str, Beliefs], *, cause: str) -> dict[str, int]:
    """Publish the policies of these agents where they differ from the newest; returns the versions by agent."""
    held = _of(store)
    published = {}
    for agent in sorted(fresh):
        with policies.publishing(store):
            held.beliefs[agent] = fresh[agent]
            now = decided(store, agent, held.decided.get(agent))
            version = _publish_one(store, agent, now, _newest(store, agent), cause)
        if version is not None:
            published[agent] = version
    return published


def republish(store: Store, *, cause: str) -> dict[str, int]:
    """As `publish` for the agents about which something was decided, with the beliefs that are held: quick."""
    held = _of(store)
    published = {}
    for agent in sorted({*arms.listed(store)["agent"], *playbooks.latest(store)["agent"]}):
        with policies.publishing(store):
            before = held.decided.get(agent)
            now = decided(store, agent, before)
            if before is not None and now.same(before):
                continue
            previous = _newest(store, agent)
            if agent not in held.beliefs:
                held.beliefs[agent] = beliefs_of(previous) if previous is not None else Beliefs.nothing()
            version = _publish_one(store, agent, now, previous, cause)
        if version is not None:
            published[agent] = version
    return published


def _lessons(store: Store, agent: str, version: int, before: Decided | None) -> LessonSet:
    """The lessons of a playbook, which never change."""
    held = before.lessons if before is not None else None
    if held is not None and held.playbook_version == version:
        return held
    return lesson_sets.at(store, agent, version)


def _one_arm(agent: str, since: datetime) -> pl.DataFrame:
    """The arms (columns `store.arms.ARMS`) of an agent that has lessons and no arms: what it runs anyway."""
    row = {
        "agent": agent, "arm": DEFAULT_ARM, "kind": "mixed", "state": "enabled", "baseline": True,
        "definition": "{}", "origin": audit.SYSTEM, "state_by": audit.SYSTEM, "created_at": since, "updated_at": since,
    }  # fmt: skip
    return pl.DataFrame([row], schema=arms.ARMS)


def _of(store: Store) -> _Held:
    with _held_lock:
        return _held.setdefault(store, _Held())


def _publish_one(store: Store, agent: str, now: Decided, previous: Policy | None, cause: str) -> int | None:
    held = _of(store)
    policy = build(
        agent,
        held.beliefs[agent],
        now,
        built_at=store.clock.now(),
        salt=previous.salt if previous is not None else secrets.token_hex(8),
        previous=previous,
    )
    version = policies.publish(store, policy, cause=cause)
    if version is not None:
        held.policies[agent] = replace(policy, version=version)
    held.decided[agent] = now
    return version


def _newest(store: Store, agent: str) -> Policy | None:
    """The agent's newest policy, read only where this process did not publish it."""
    held = _of(store).policies.get(agent)
    if held is not None and policies.versions(store, agent, limit=1)["version"].to_list() == [held.version]:
        return held
    found = policies.newest(store, agent)
    return found[0] if found else None
