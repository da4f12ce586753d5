"""Single decisions where something is unusual: sessions, arms, budgets and clocks that change under way."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from steering_policies import arm, policy_of

from pipelines.steering.assignment import arm_at, cumulative
from pipelines.steering.budget import Budgets
from pipelines.steering.compiled import Compiled, PolicyUnusable
from pipelines.steering.decide import Decider, Decision, PoliciesUnread, Question, UnknownAgent
from pipelines.steering.decision_log import frame_of
from pipelines.steering.policy import Limits, Policy
from pipelines.steering.sessions import Sessions
from pipelines.steering.snapshot import Policies
from store.clock import FixedClock
from store.decisions import SESSIONS

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


class World:
    """A decider whose policy and clock the test changes."""

    def __init__(self, policy: Policy, **given: Any) -> None:
        self.clock = FixedClock(NOON)
        self.newest = [policy]
        self.policies = Policies(lambda agent: self.newest, self.clock)
        self.decider = Decider(self.policies, self.clock, **given)

    def ask(self, **asked: Any) -> Decision:
        return self.decider.decide(Question("support-bot", **asked), "key").decision

    def publish(self, policy: Policy) -> None:
        self.newest = [policy]
        assert self.policies.refresh(policy.agent)


@contextmanager
def world(policy: Policy | None = None, **given: Any) -> Iterator[World]:
    made = World(policy if policy is not None else policy_of(), **given)
    try:
        yield made
    finally:
        made.policies.close()


def session_on(made: World, where: Callable[[Decision], bool]) -> Decision:
    """The first decision of a new session for which `where` holds."""
    for number in range(10_000):
        decision = made.ask(session_id=f"seek-{number}")
        if where(decision):
            return decision
    raise AssertionError("no session is like that")


def test_a_session_keeps_its_arm_and_propensities_when_the_policy_changes() -> None:
    with world() as made:
        first = session_on(made, lambda each: each.explore)
        made.publish(policy_of(mean=(0.9, 0.1, 0.1), version=2))
        again = made.ask(session_id=first.session_id, user_id="other")
        kept = ("arm", "greedy_arm", "propensity", "propensities", "arms", "policy_version", "draw", "rate", "unit")
        assert [getattr(again, name) for name in kept] == [getattr(first, name) for name in kept]
        assert (again.sticky, again.off_policy, again.explore) == (True, True, True)
        assert again.decision_id != first.decision_id
        assert made.ask(session_id="new").policy_version == 2


def test_a_session_whose_arm_is_switched_off_goes_on_with_the_greedy_one_and_says_so() -> None:
    with world() as made:
        first = session_on(made, lambda each: each.arm == "short answers")
        arms = [arm("baseline", baseline=True), arm("short answers", state="shadow"), arm("with tools")]
        made.publish(policy_of(arms, version=2))
        moved = made.ask(session_id=first.session_id)
        assert (moved.arm, moved.sticky, moved.off_policy, moved.rate, moved.propensity) == (
            "baseline",
            False,
            False,
            0,
            1,
        )
        assert moved.note == "the session ran 'short answers' until now; that arm may not be drawn now"
        assert moved.arms == ("baseline", "with tools")
        after = made.ask(session_id=first.session_id)
        assert (after.arm, after.sticky, after.off_policy) == ("baseline", True, False)


def test_an_arm_that_comes_anew_leaves_sessions_alone() -> None:
    with world() as made:
        first = made.ask(session_id="s")
        arms = [arm("another"), arm("baseline", baseline=True), arm("short answers"), arm("with tools")]
        made.publish(policy_of(arms, (0.9, 0.6, 0.5, 0.5), (0.01, 0.1, 0.1, 0.1), version=2))
        again = made.ask(session_id="s")
        assert (again.arm, again.arms, again.sticky) == (first.arm, first.arms, True)


def test_sessions_of_two_agents_are_two() -> None:
    with world() as made:
        made.newest = [policy_of(), policy_of(agent="shop")]
        made.policies.refresh(None)
        first = made.ask(session_id="s")
        other = made.decider.decide(Question("shop", session_id="s"), "key").decision
        assert not other.sticky
        assert other.draw != first.draw


def test_decisions_without_a_session_are_drawn_one_by_one() -> None:
    with world() as made:
        drawn = [made.ask(user_id="u") for _ in range(200)]
        assert len({each.draw for each in drawn}) == 200
        assert len({each.arm for each in drawn}) > 1
        assert all(each.unit == f"decision:{each.decision_id}" for each in drawn)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"people": {"u": {"opted_out": True}}}, "the user opted out of exploration"),
        ({"people": {"u": {"rate": 0.0}}}, "the exploration rate is 0"),
        (
            {"people": {"u": {"segment": "children"}}, "segments": {"children": {}},
             "never_segments": frozenset({"children"})},
            "segment 'children' is never explored",
        ),
        ({"never_tasks": frozenset({"payment"})}, "task 'payment' is never explored"),
    ],
)  # fmt: skip
def test_who_must_not_be_explored_gets_the_greedy_arm(changed: dict[str, Any], why: str) -> None:
    with world(policy_of(**changed)) as made:
        for number in range(50):
            decision = made.ask(user_id="u", task="payment", session_id=f"s-{number}")
            assert (decision.arm, decision.propensity, decision.rate) == ("baseline", 1.0, 0.0)
            assert decision.propensities == (1.0, 0.0, 0.0)
            assert (decision.off_policy, decision.note, decision.allowed_rate) == (False, why, 0.0)
            assert decision.worst_regret == 0


def test_a_session_that_may_not_explore_any_more_ends_its_exploration_whatever_arm_it_drew() -> None:
    with world() as made:
        exploring = session_on(made, lambda each: each.explore)
        greedy = session_on(made, lambda each: not each.explore)
        made.publish(policy_of(version=2, people={"u": {"opted_out": True}}))
        for first in (exploring, greedy):
            now = made.ask(session_id=first.session_id, user_id="u")
            assert (now.arm, now.rate, now.off_policy, now.sticky) == ("baseline", 0.0, False, False)
            assert now.note == f"the session ran {first.arm!r} until now; the user opted out of exploration"


def test_the_unit_s_own_numbers_come_first_then_its_segment_s_then_the_agent_s() -> None:
    nan = float("nan")
    policy = policy_of(
        segments={"old": {"mean": (0.1, 0.9, nan), "sd": (0.05, 0.05, nan), "rate": 0.5}, "new": {}},
        people={
            "own": {"segment": "old", "mean": (0.2, 0.3, 0.4), "sd": (0.01, 0.02, 0.03), "rate": 0.25},
            "partly": {"segment": "old", "mean": (nan, nan, 0.7), "sd": (nan, nan, 0.01)},
            "old": {"segment": "old"}, "new": {"segment": "new"}, "none": {},
        },
    )  # fmt: skip
    compiled = Compiled(policy)

    def seen(user: str | None) -> tuple[list[float], float]:
        standing = compiled.standing(user, None)
        means, _ = compiled.posterior(standing.key, (0, 1, 2))
        return np.round(means, 6).tolist(), standing.allowed_rate

    assert seen("own") == ([0.2, 0.3, 0.4], 0.25)
    assert seen("partly") == ([0.1, 0.9, 0.7], 0.5)
    assert seen("old") == ([0.1, 0.9, 0.55], 0.5)
    for user in ("new", "none", "stranger", None):
        assert seen(user) == ([0.6, 0.58, 0.55], 0.2)


# The arms an agent names


def test_only_arms_that_the_agent_can_run_are_drawn_and_unknown_ones_are_named() -> None:
    with world() as made:
        drawn = [made.ask(arms=(" with tools ", "short answers", "what?")) for _ in range(300)]
        assert {each.arm for each in drawn} == {"short answers", "with tools"}
        assert {each.arms for each in drawn} == {("short answers", "with tools")}
        assert {each.greedy_arm for each in drawn} == {"short answers"}
        assert {each.note for each in drawn} == {"not enabled arms of this agent: what?"}
        assert all(each.off_policy for each in drawn)


def test_an_agent_that_can_run_none_of_the_arms_gets_the_baseline() -> None:
    with world() as made:
        decision = made.ask(arms=("what?",))
        assert (decision.arm, decision.off_policy, decision.propensity) == ("baseline", False, 1.0)
        assert decision.note is not None
        assert decision.note.endswith("none of the arms asked for may be drawn, so this is the baseline")
        assert made.ask(arms=()).arm == "baseline"


def test_two_arms_of_the_same_name_count_once() -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    policy = policy_of([arm("baseline", baseline=True), arm(composed), arm(f" {decomposed}")])
    with world(policy) as made:
        assert made.ask().arms == ("baseline", composed)
        asked = made.ask(arms=(composed, decomposed, "baseline", "baseline"))
        assert asked.arms == ("baseline", composed)
        assert asked.note is None


def test_shadow_arms_are_never_drawn() -> None:
    with world(policy_of([arm("baseline", baseline=True), arm("b", state="shadow"), arm("c")])) as made:
        assert {made.ask().arm for _ in range(300)} == {"baseline", "c"}
        assert made.ask(arms=("b",)).arm == "baseline"


def test_without_an_enabled_arm_it_is_the_baseline() -> None:
    with world(
        policy_of([arm("baseline", baseline=True, state="shadow"), arm("b", state="shadow")], (0.5, 0.6), (0.1, 0.1))
    ) as made:
        decision = made.ask()
        assert (decision.arm, decision.note) == (
            "baseline",
            "no arm is enabled, so this is the baseline",
        )
        assert not decision.off_policy


def test_equal_means_fall_to_the_baseline_then_to_the_first_name() -> None:
    arms = [arm("z"), arm("b"), arm("a"), arm("baseline", baseline=True)]
    with world(policy_of(arms, (0.5,) * 4, (0.1,) * 4)) as made:
        assert made.ask().greedy_arm == "baseline"
        assert made.ask(arms=("z", "b")).greedy_arm == "b"


def test_arms_have_limits_of_their_own() -> None:
    policy = policy_of(arm_limits={"with tools": Limits(max_spend_usd=0.1)})
    compiled = Compiled(policy)
    assert b'"max_spend_usd": 0.1' in compiled.served("with tools")
    assert b'"max_spend_usd": 0.5' in compiled.served("baseline")


# Budgets


def test_the_budget_is_never_passed_and_runs_out_slowly() -> None:
    with world(policy_of(daily_regret_budget=2.0)) as made:
        drawn = [made.ask() for _ in range(3_000)]
        spent = np.cumsum([each.worst_regret for each in drawn])
        assert spent[-1] <= 2.0
        assert spent[-1] > 1.9
        scales = [each.budget_scale for each in drawn]
        assert scales[0] == 1
        assert scales == sorted(scales, reverse=True)
        assert any(0 < scale < 1 for scale in scales)
        last = drawn[-1]
        assert (last.rate, last.off_policy, last.note) == (0.0, False, "the day's regret budget is spent")


def test_a_budget_ends_for_all_sessions_alike() -> None:
    """Whether a session goes on does not depend on the arm it drew: what is left stays a fair sample."""
    with world(policy_of(daily_regret_budget=1.0)) as made:
        first = [made.ask(session_id=f"s-{number}") for number in range(5)]
        while made.ask().rate > 0:
            pass
        again = [made.ask(session_id=each.session_id) for each in first]
        assert {each.off_policy for each in again} == {False}
        assert {each.arm for each in again} == {"baseline"}
        assert all("budget does not cover it" in (each.note or "") for each in again)
        assert made.decider.spent("support-bot") <= 1.0


def test_a_new_day_brings_a_new_budget_and_a_clock_that_jumps_back_does_not() -> None:
    with world(policy_of(daily_regret_budget=0.5)) as made:

        def exhausted() -> bool:
            return made.ask().rate == 0

        for _ in range(500):
            made.ask()
        assert exhausted()
        made.clock.moment = NOON - timedelta(days=1)
        assert exhausted()
        made.clock.moment = NOON.replace(hour=23, minute=59)
        assert exhausted()
        made.clock.moment = NOON + timedelta(days=1)
        assert not exhausted()
        spent = made.decider.spent("support-bot")
        made.clock.moment = NOON
        made.ask()
        assert made.decider.spent("support-bot") > spent


@pytest.mark.parametrize("budget", [0.0, -1.0, float("nan")])
def test_without_a_budget_to_spend_nobody_explores(budget: float) -> None:
    with world(policy_of(daily_regret_budget=budget)) as made:
        decision = made.ask()
        assert (decision.rate, decision.arm, decision.budget_scale) == (0.0, "baseline", 0.0)


def test_what_was_spent_before_a_restart_counts() -> None:
    budgets = Budgets(NOON, {"support-bot": 0.99})
    with world(policy_of(daily_regret_budget=1.0), budgets=budgets) as made:
        drawn = [made.ask() for _ in range(100)]
        assert sum(each.worst_regret for each in drawn) <= 0.01


# Clocks and sessions


def test_sessions_are_forgotten_after_a_day_without_decisions_whatever_the_time_of_day_does() -> None:
    moment = 0.0
    sessions = Sessions(clock=lambda: moment)
    with world(sessions=sessions) as made:
        made.ask(session_id="s")
        made.clock.moment += timedelta(days=500)
        moment = 23 * 3600.0
        assert made.ask(session_id="s").sticky
        moment += 23 * 3600.0
        assert made.ask(session_id="s").sticky
        moment += 25 * 3600.0
        again = made.ask(session_id="s")
        assert not again.sticky


def test_the_sessions_used_last_are_kept() -> None:
    with world(sessions=Sessions(capacity=3)) as made:
        first = {name: made.ask(session_id=name) for name in "abc"}
        made.ask(session_id="a")
        made.ask(session_id="d")
        assert made.ask(session_id="a").sticky
        redrawn = made.ask(session_id="b")
        assert not redrawn.sticky
        assert redrawn.arm == first["b"].arm
        assert made.decider.counts().sessions == 3


def test_sessions_come_back_from_the_log_as_they_were() -> None:
    with world() as made:
        drawn = [made.ask(session_id=f"s-{number}") for number in range(40)]
    kept = frame_of(drawn).select(SESSIONS.names())
    moment = 0.0
    sessions = Sessions(clock=lambda: moment)
    sessions.restore(kept, NOON + timedelta(hours=20))
    with world(policy_of(version=2, mean=(0.1, 0.2, 0.9)), sessions=sessions) as later:
        for before in drawn:
            again = later.ask(session_id=before.session_id)
            assert again.sticky
            names = Decision._fields[8:20]
            assert [getattr(again, name) for name in names] == [getattr(before, name) for name in names]
    old = Sessions(clock=lambda: moment)
    old.restore(kept, NOON + timedelta(hours=25))
    assert old.get("support-bot", "s-1") is None
    ahead = Sessions(clock=lambda: moment)
    ahead.restore(kept, NOON - timedelta(hours=1))  # a clock that was set back
    assert ahead.get("support-bot", "s-1") is not None


# Solicitation


def test_feedback_is_asked_for_at_the_rate_that_is_logged_and_independently_of_the_arm() -> None:
    with world(policy_of(solicit_rate=0.3)) as made:
        drawn = [made.ask() for _ in range(4_000)]
        assert {each.solicit_propensity for each in drawn} == {0.3}
        asked = sum(each.solicit for each in drawn)
        assert abs(asked - 1_200) < 4 * (4_000 * 0.3 * 0.7) ** 0.5
        explored = [each.solicit for each in drawn if each.explore]
        assert abs(sum(explored) - 0.3 * len(explored)) < 4 * (len(explored) * 0.21) ** 0.5
    with world(policy_of(solicit_rate=0.0)) as made:
        assert not any(made.ask().solicit for _ in range(100))


# Policies that cannot be used


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"sd": np.array([0.1, 0.0, 0.1])}, "no positive sd"),
        ({"mean": np.array([0.1, np.nan, 0.1])}, "no finite mean"),
        ({"mean": np.array([0.1, 0.2])}, "mean has the shape (2,), not (3,)"),
        ({"rate": 1.5}, "a rate is not between 0 and 1"),
        ({"rate": float("nan")}, "a rate is not between 0 and 1"),
        ({"arms": (arm("a", state="shadow"), arm("b", state="off"), arm("c", state="off"))}, "neither an enabled arm"),
    ],
)
def test_a_policy_nothing_can_be_decided_by_is_refused(changed: dict[str, Any], why: str) -> None:
    with pytest.raises(PolicyUnusable) as refused:
        Compiled(replace(policy_of(), **changed))
    assert why in str(refused.value)


def test_an_unknown_agent_is_told_so() -> None:
    with world() as made, pytest.raises(UnknownAgent, match="no policy for the agent 'nobody'"):
        made.decider.decide(Question("nobody"), "key")
    assert made.decider.counts().unknown == 1


def test_policies_that_could_not_be_read_are_not_the_same_as_none() -> None:
    def fail(agent: str | None) -> list[Policy]:
        raise OSError("the disk is gone")

    clock = FixedClock(NOON)
    policies = Policies(fail, clock, retry_seconds=60)
    try:
        with pytest.raises(PoliciesUnread, match="the disk is gone"):
            Decider(policies, clock).decide(Question("support-bot"), "key")
    finally:
        policies.close()


def test_the_inverse_distribution_never_yields_an_arm_that_cannot_be_drawn() -> None:
    assert cumulative((0.0, 1.0, 0.0)) == (0.0, 1.0, 1.0)
    for draw in (0.0, 0.5, 1 - 2**-53):
        assert arm_at(draw, cumulative((0.0, 1.0, 0.0))) == 1
    tenths = tuple([0.1] * 10)
    assert arm_at(1 - 2**-53, cumulative(tenths)) == 9
    assert arm_at(0.0, cumulative((0.0, 0.3, 0.7))) == 1
    assert [arm_at(draw, cumulative((0.25, 0.75))) for draw in (0.0, 0.2499, 0.25, 0.99)] == [0, 0, 1, 1]


def test_the_log_s_frame_holds_every_field() -> None:
    with world() as made:
        decision = made.ask(session_id="s", user_id="u", task="t", input_hash="h")
    frame = frame_of([decision])
    assert frame.height == 1
    row = frame.row(0, named=True)
    assert {
        name: tuple(value) if isinstance(value, list) else value for name, value in row.items()
    } == decision._asdict()
    assert isinstance(frame.schema["arms"], pl.List)
