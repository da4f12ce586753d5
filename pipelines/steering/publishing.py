"""Publishing policies: from new beliefs, or from those that are held when an operator has decided something."""

import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from weakref import WeakKeyDictionary

import polars as pl

from pipelines.steering.policy import Policy
from pipelines.steering.policy_build import Beliefs, Decided, beliefs_of, build
from store import arms, exploration, guardrails, never_explore, playbooks, policies
from store.connection import Store

__all__ = ["decided", "publish", "republish"]


@dataclass
class _Held:
    """What is behind the newest policies of this process, by agent."""

    # Unlike a policy they also hold the arms that are off.
    beliefs: dict[str, Beliefs] = field(default_factory=dict)
    decided: dict[str, Decided] = field(default_factory=dict)
    policies: dict[str, Policy] = field(default_factory=dict)


_held: WeakKeyDictionary[Store, _Held] = WeakKeyDictionary()
_held_lock = threading.Lock()


def decided(store: Store, agent: str) -> Decided:
    """What operators decided for an agent, as it is now."""
    limits, arm_limits = guardrails.limits_of(store, agent)
    newest = playbooks.latest(store).filter(pl.col("agent") == agent).to_dicts()
    return Decided(
        arms=arms.listed(store, agent=agent), rates=exploration.applied_rates(store, agent),
        bounds=exploration.bounds(store, agent), never=never_explore.listed(store, agent), limits=limits,
        arm_limits={arms.clean_name(arm): found for arm, found in arm_limits.items()},
        instructions=newest[0]["body"] if newest else "",
        lesson_ids=tuple(newest[0]["lesson_ids"]) if newest else (),
    )  # fmt: skip


def publish(store: Store, fresh: Mapping[str, Beliefs], *, cause: str) -> dict[str, int]:
    """Publish the policies of these agents where they differ from the newest; returns the versions by agent."""
    held = _of(store)
    published = {}
    for agent in sorted(fresh):
        with policies.publishing(store):
            held.beliefs[agent] = fresh[agent]
            version = _publish_one(store, agent, decided(store, agent), _newest(store, agent), cause)
        if version is not None:
            published[agent] = version
    return published


def republish(store: Store, *, cause: str) -> dict[str, int]:
    """As `publish` for the agents about which something was decided, with the beliefs that are held: quick."""
    held = _of(store)
    published = {}
    for agent in arms.listed(store)["agent"].unique().sort().to_list():
        with policies.publishing(store):
            now, before = decided(store, agent), held.decided.get(agent)
            if before is not None and now.same(before):
                continue
            previous = _newest(store, agent)
            if agent not in held.beliefs:
                held.beliefs[agent] = beliefs_of(previous) if previous is not None else Beliefs.nothing()
            version = _publish_one(store, agent, now, previous, cause)
        if version is not None:
            published[agent] = version
    return published


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
