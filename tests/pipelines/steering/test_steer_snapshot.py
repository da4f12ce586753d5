"""Policies in memory: swapped when a new version is published, kept when it cannot be, and saying so."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from steering_policies import policy_of

from pipelines.steering.policy import Policy
from pipelines.steering.snapshot import Policies
from store import policies
from store.clock import FixedClock
from store.connection import Store

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
_TIMEOUT = 30.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "policies.duckdb", clock=FixedClock(NOON), threads=1)
    yield opened
    opened.close()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + _TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        threading.Event().wait(0.002)


class Source:
    """Policies that a test changes, and that fail when it says so."""

    def __init__(self, *held: Policy) -> None:
        self.held = list(held)
        self.error: Exception | None = None
        self.reads: list[str | None] = []

    def __call__(self, agent: str | None) -> list[Policy]:
        self.reads.append(agent)
        if self.error is not None:
            raise self.error
        return [each for each in self.held if agent in (None, each.agent)]


def version(held: Policies, agent: str = "support-bot") -> int | None:
    policy = held.policy_for(agent)
    return policy.version if policy else None


def test_each_version_is_in_force_once_it_is_published(store: Store) -> None:
    policies.publish(store, policy_of(), cause="operator")
    held = Policies.of_store(store)
    try:
        assert version(held) == 1
        policies.publish(store, policy_of(rate=0.5), cause="rates")
        until(lambda: version(held) == 2)
        policies.publish(store, policy_of(agent="shop"), cause="operator")
        until(lambda: version(held, "shop") == 1)
        assert [each.policy.agent for each in held.all()] == ["shop", "support-bot"]
        assert held.problems() == {}
    finally:
        held.close()
        held.close()
    policies.publish(store, policy_of(rate=0.6), cause="rates")
    assert version(held) == 2


def test_a_version_that_cannot_be_read_leaves_the_old_one_in_force_and_says_so() -> None:
    clock = FixedClock(NOON)
    source = Source(policy_of(), policy_of(agent="shop"))
    held = Policies(source, clock, retry_seconds=0.01)
    try:
        source.error = OSError("the disk is gone")
        source.held[0] = policy_of(version=2)
        clock.moment += timedelta(minutes=1)
        held.changed("support-bot")
        until(lambda: held.problem("support-bot"))
        assert (version(held), version(held, "shop")) == (1, 1)
        problem = held.problem("support-bot")
        assert problem is not None
        assert (problem.text, problem.since) == ("the disk is gone", NOON + timedelta(minutes=1))
        assert held.problem("shop") is None
        clock.moment += timedelta(minutes=1)
        reads = len(source.reads)
        until(lambda: len(source.reads) > reads + 2)
        assert held.problem("support-bot") == problem  # since when it goes on
        source.error = None
        until(lambda: version(held) == 2)
        until(lambda: held.problems() == {})
    finally:
        held.close()


def test_a_version_nothing_can_be_decided_by_leaves_the_old_one_in_force() -> None:
    source = Source(policy_of(), policy_of(agent="shop"))
    held = Policies(source, FixedClock(NOON), retry_seconds=0.01)
    try:
        source.held[0] = policy_of(version=2, sd=(0.1, 0.0, 0.1))
        source.held[1] = policy_of(agent="shop", version=2)
        assert not held.refresh(None)
        assert (version(held), version(held, "shop")) == (1, 2)
        problem = held.problem("support-bot")
        assert problem is not None
        assert "Version 2 of the policy of 'support-bot' cannot be used" in problem.text
        source.held[0] = policy_of(version=3)
        assert held.refresh("support-bot")
        assert (version(held), held.problem("support-bot")) == (3, None)
    finally:
        held.close()


def test_a_first_version_that_cannot_be_used_is_a_problem_and_no_policy() -> None:
    held = Policies(Source(policy_of(mean=(np.nan, 0.1, 0.1))), FixedClock(NOON), retry_seconds=60)
    try:
        assert held.get("support-bot") is None
        assert held.problem("support-bot") is not None
    finally:
        held.close()


def test_what_could_not_be_read_at_the_start_is_read_later() -> None:
    source = Source(policy_of())
    source.error = OSError("not yet")
    held = Policies(source, FixedClock(NOON), retry_seconds=0.01)
    try:
        assert held.get("support-bot") is None
        assert held.problem("anybody") is not None
        source.error = None
        until(lambda: version(held) == 1)
        assert held.problem("anybody") is None
    finally:
        held.close()


def test_an_agent_without_a_policy_any_more_has_none() -> None:
    source = Source(policy_of())
    held = Policies(source, FixedClock(NOON))
    try:
        source.held.clear()
        assert held.refresh("support-bot")
        assert held.get("support-bot") is None
    finally:
        held.close()


def test_the_same_version_is_not_compiled_again() -> None:
    held = Policies(Source(policy_of()), FixedClock(NOON))
    try:
        before = held.get("support-bot")
        assert held.refresh(None)
        assert held.get("support-bot") is before
    finally:
        held.close()


def test_readers_see_whole_policies_while_they_are_swapped() -> None:
    """Every policy has the mean of all arms equal to its version: a mixture would show."""

    def numbered(number: int) -> Policy:
        return policy_of(mean=(number / 1e4,) * 3, version=number)

    source = Source(numbered(1))
    held = Policies(source, FixedClock(NOON))
    wrong: list[object] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            compiled = held.get("support-bot")
            assert compiled is not None
            means, _ = compiled.posterior(("agent", 0), (0, 1, 2))
            if set(means) != {compiled.policy.version / 1e4}:
                wrong.append(means)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(2, 200):
        source.held[0] = numbered(number)
        assert held.refresh("support-bot")
    stop.set()
    for thread in threads:
        thread.join()
    held.close()
    assert wrong == []
