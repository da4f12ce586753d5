"""Deciding: which arm an agent runs, with which probability, and what to say with it.

A decision is fixed by the policy's version, the unit and the eligible arms; the only things remembered are which arm a
session was given and what the day has cost. Everything that went into it is in the row that is logged.
"""

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from pipelines.lessons.serving.choose import Exposure, Request
from pipelines.steering.assignment import arm_at, draw_of, unit_of
from pipelines.steering.budget import Budgets
from pipelines.steering.compiled import Choice, Compiled, Eligible, LessonChoice, Standing
from pipelines.steering.sessions import Assignment, Sessions
from pipelines.steering.snapshot import Policies
from store.clock import Clock
from store.errors import TrimtabError

__all__ = ["Counts", "Decided", "Decider", "Decision", "Question", "UnknownAgent"]


class UnknownAgent(TrimtabError):
    """There is no policy for the agent."""

    def __init__(self, agent: str) -> None:
        self.agent = agent
        super().__init__(
            f"There is no policy for the agent {agent[:100]!r}. It has one once it has an enabled arm or a lesson that "
            "is served; until then run what it runs by default."
        )


class PoliciesUnread(TrimtabError):
    """Policies could not be read since the start, so nobody knows whether the agent has one."""

    def __init__(self, why: str) -> None:
        super().__init__(f"The policies could not be read yet: {why}")


@dataclass(frozen=True, slots=True)
class Question:
    """What an agent asks."""

    agent: str
    user_id: str | None = None
    session_id: str | None = None
    task: str | None = None
    input: str | None = None  # what lessons are matched with; kept nowhere
    input_hash: str | None = None
    arms: tuple[str, ...] | None = None  # it can run no others
    notes: tuple[str, ...] = ()


class Decision(NamedTuple):
    """One decision as it is logged: the columns of `store.decisions.DECISIONS`."""

    decision_id: str
    decided_at: datetime
    agent: str
    policy_version: int
    user_id: str | None
    segment: str | None
    session_id: str | None
    task: str | None
    unit: str
    draw: float
    arm: str
    greedy_arm: str
    explore: bool
    propensity: float
    arms: tuple[str, ...]
    propensities: tuple[float, ...]
    rate: float
    allowed_rate: float
    budget_scale: float
    expected_regret: float
    worst_regret: float
    solicit: bool
    solicit_propensity: float
    sticky: bool
    off_policy: bool
    note: str | None
    lesson_set_hash: str | None
    input_hash: str | None
    source: str
    playbook_version: int | None = None
    empty_probability: float | None = None
    exposures: tuple[Exposure, ...] = ()


@dataclass(frozen=True)
class Decided:
    """A decision, the policy in force that it is answered with, and the lessons it serves."""

    decision: Decision
    compiled: Compiled
    lessons: LessonChoice


@dataclass(frozen=True)
class Counts:
    """Decisions since the start. `explored` left the greedy arm; `sticky` repeat one; the last were `held_back`, with
    a rate lowered because of the day's budget."""

    decisions: int
    explored: int
    sticky: int
    held_back: int
    unknown: int
    sessions: int


class Decider:
    """Decides. One for each process; any thread may ask."""

    def __init__(
        self,
        policies: Policies,
        clock: Clock,
        *,
        sessions: Sessions | None = None,
        budgets: Budgets | None = None,
        new_id: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        """`sessions` and `budgets` as an earlier process left them; `new_id` makes ids of decisions."""
        self._policies, self._clock, self._new_id = policies, clock, new_id
        self._sessions = sessions if sessions is not None else Sessions()
        self._budgets = budgets if budgets is not None else Budgets(clock.now())
        self._lock = threading.Lock()
        self._decisions = self._explored = self._sticky = self._held_back = self._unknown = 0

    def decide(self, question: Question, source: str) -> Decided:
        """Decide for an agent; `source` is the name of its key. Raises: `UnknownAgent`, `PoliciesUnread`."""
        compiled = self._policies.get(question.agent)
        with self._lock:
            if compiled is None:
                self._unknown += 1
                unread = self._policies.problem(question.agent)
                if unread is not None:
                    raise PoliciesUnread(unread.text)
                raise UnknownAgent(question.agent)
            decision, lessons = self._decided(question, source, compiled)
            self._decisions += 1
            self._explored += decision.explore
            self._sticky += decision.sticky
            self._held_back += decision.budget_scale < 1.0
        return Decided(decision, compiled, lessons)

    def counts(self) -> Counts:
        """The present figures."""
        with self._lock:
            return Counts(
                self._decisions, self._explored, self._sticky, self._held_back, self._unknown, len(self._sessions)
            )

    def spent(self, agent: str) -> float:
        """The worst-case regret of the agent's decisions of the day."""
        with self._lock:
            return self._budgets.spent(agent)

    def _decided(self, question: Question, source: str, compiled: Compiled) -> tuple[Decision, LessonChoice]:
        now = self._clock.now()
        self._budgets.turn(now)
        policy = compiled.policy
        notes = list(question.notes)
        eligible = compiled.eligible(question.arms)
        notes += eligible.notes
        standing = compiled.standing(question.user_id, question.task)
        decision_id = self._new_id()
        unit = unit_of(question.session_id, decision_id)
        assignment, sticky = None, False
        if question.session_id is not None:
            held = self._sessions.get(policy.agent, question.session_id)
            if held is not None:
                ended = self._ended(held, compiled, eligible, standing)
                assignment, sticky = (held, True) if not ended else (None, False)
                if ended:
                    notes.append(f"the session ran {held.arm!r} until now; {ended}")
                    assignment = self._assign(compiled, unit, eligible, standing, [], explore=False)
        if assignment is None:
            assignment = self._assign(compiled, unit, eligible, standing, notes, explore=eligible.drawable)
        if question.session_id is not None and not sticky:
            self._sessions.put(policy.agent, question.session_id, assignment)
        solicit_rate = policy.solicit_rate_of(question.user_id, standing.segment)
        solicit = draw_of(policy.salt, policy.agent, f"solicit:{decision_id}") < solicit_rate
        asked = Request(question.input, question.user_id, standing.segment, question.task, unit, policy.salt, now)
        lessons = compiled.lessons(assignment.arm, asked)
        decision = Decision(
            decision_id=decision_id, decided_at=now, agent=policy.agent, policy_version=assignment.policy_version,
            user_id=question.user_id, segment=standing.segment, session_id=question.session_id, task=question.task,
            unit=unit, draw=assignment.draw, arm=assignment.arm, greedy_arm=assignment.greedy_arm,
            explore=assignment.explore, propensity=assignment.propensity, arms=assignment.arms,
            propensities=assignment.propensities, rate=assignment.rate, allowed_rate=assignment.allowed_rate,
            budget_scale=assignment.budget_scale, expected_regret=assignment.expected_regret,
            worst_regret=assignment.worst_regret, solicit=solicit, solicit_propensity=solicit_rate,
            sticky=sticky, off_policy=assignment.off_policy, note="; ".join(notes) or None,
            lesson_set_hash=lessons.lesson_set_hash, input_hash=question.input_hash, source=source,
            playbook_version=lessons.playbook_version, empty_probability=lessons.empty_probability,
            exposures=lessons.exposures,
        )  # fmt: skip
        return decision, lessons

    def _ended(self, held: Assignment, compiled: Compiled, eligible: Eligible, standing: Standing) -> str:
        """Why a session cannot go on with the arm it was given; "" when it goes on, its cost being counted.

        Whether it goes on never depends on which arm it drew, but for arms that may not be run any more: else the
        sessions that are left would tell a biased story of the arms.
        """
        if held.arm not in eligible.names:
            return "that arm may not be drawn now"
        if held.rate > 0.0 and not standing.allowed_rate > 0.0:
            return standing.why_not
        if not self._budgets.spend(compiled.policy.agent, compiled.policy.daily_regret_budget, held.worst_regret):
            return "the day's regret budget does not cover it any more"
        return ""

    def _assign(
        self,
        compiled: Compiled,
        unit: str,
        eligible: Eligible,
        standing: Standing,
        notes: list[str],
        *,
        explore: bool,
    ) -> Assignment:
        """Draw an arm, lowering the rate as far as the day's budget demands; without `explore` the greedy one."""
        policy = compiled.policy
        allowed = standing.allowed_rate if explore else 0.0
        scale = self._budgets.scale(policy.agent, policy.daily_regret_budget) if allowed > 0.0 else 1.0
        choice = compiled.choice(standing.key, eligible.positions, allowed * scale)
        if not self._budgets.spend(policy.agent, policy.daily_regret_budget, choice.worst_regret):
            scale = 0.0
            choice = compiled.choice(standing.key, eligible.positions, 0.0)
            self._budgets.spend(policy.agent, policy.daily_regret_budget, choice.worst_regret)
        if explore:
            notes += _why_certain(choice, standing, scale)
        draw = draw_of(policy.salt, policy.agent, unit)
        place = arm_at(draw, choice.sums)
        return Assignment(
            policy_version=policy.version, unit=unit, draw=draw, arm=choice.names[place],
            greedy_arm=choice.names[choice.greedy], propensity=choice.propensities[place], arms=choice.names,
            propensities=choice.propensities, rate=choice.rate, allowed_rate=allowed, budget_scale=scale,
            expected_regret=choice.expected_regret, worst_regret=choice.worst_regret, off_policy=choice.rate > 0.0,
        )  # fmt: skip


def _why_certain(choice: Choice, standing: Standing, scale: float) -> list[str]:
    """Why nothing was explored, where nothing was."""
    if choice.rate > 0.0:
        return []
    if len(choice.names) == 1:
        return ["only one arm may be drawn"]
    if standing.why_not:
        return [standing.why_not]
    return ["the day's regret budget is spent"] if scale == 0.0 else []
