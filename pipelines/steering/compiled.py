"""A policy made ready for decisions: checked once, with everything looked up by name and what was worked out kept.

A decision depends on the policy, the user's standing in it, the eligible arms and what is allowed. The costly part, the
probability that each arm is the best, is worked out once for each posterior and eligible set; units without numbers of
their own share those of their segment or agent.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.lessons.serving.choose import Choice as LessonChoice
from pipelines.lessons.serving.choose import Request, chooser, set_hash
from pipelines.stats.quadrature import probability_best
from pipelines.steering.assignment import clean_name, cumulative
from pipelines.steering.named_lessons import named_lessons
from pipelines.steering.policy import Arm, Limits, Policy
from pipelines.steering.propensities import effective_rate, greedy_arms, regret, vector
from store.errors import TrimtabError

__all__ = ["Choice", "Compiled", "Eligible", "Key", "LessonChoice", "PolicyUnusable", "Standing", "limits_as_json"]

Floats = NDArray[np.float64]

# A posterior: ("user", position), ("segment", position) or ("agent", 0).
Key = tuple[str, int]

# How many results are kept for a policy before they are forgotten all at once.
_KEPT = 100_000


class PolicyUnusable(TrimtabError):
    """A policy by which nothing can be decided."""

    def __init__(self, agent: str, version: int, why: str) -> None:
        self.agent, self.version, self.why = agent, version, why
        super().__init__(f"Version {version} of the policy of {agent!r} cannot be used: {why}.")


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a unit stands in a policy: whose posterior is its own, and what rate applies to it."""

    key: Key
    segment: str | None
    allowed_rate: float
    why_not: str  # why the rate is 0, else ""


@dataclass(frozen=True, slots=True)
class Eligible:
    """The arms that may be drawn, as positions in the policy, and what was unusual about finding them."""

    positions: tuple[int, ...]
    names: tuple[str, ...]
    drawable: bool  # False: the agent asked for arms of which none may be drawn
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """What is drawn from, by eligible arm."""

    names: tuple[str, ...]
    propensities: tuple[float, ...]
    sums: tuple[float, ...]
    greedy: int
    rate: float
    expected_regret: float
    worst_regret: float


@dataclass(frozen=True, slots=True)
class _Odds:
    means: Floats
    sds: Floats
    best: Floats
    greedy: int


class Compiled:
    """One version of one agent's policy. Used by one thread at a time, but for what is fixed when it is made."""

    def __init__(self, policy: Policy) -> None:
        """Raises: `PolicyUnusable`."""
        self.policy = policy
        _check(policy)
        self._positions: dict[str, int] = {}
        for position, arm in enumerate(policy.arms):
            if arm.state == "enabled":
                self._positions.setdefault(clean_name(arm.name), position)
        self._baseline = next((place for place, arm in enumerate(policy.arms) if arm.baseline), None)
        if not self._positions and self._baseline is None:
            raise PolicyUnusable(policy.agent, policy.version, "it has neither an enabled arm nor a baseline")
        self.lesson_set_hash = set_hash(policy.lesson_ids, policy.instructions)
        self._chooser = chooser(policy.lessons) if policy.lessons is not None else None
        self._whole = LessonChoice(policy.lesson_ids, (), policy.instructions, False, self.lesson_set_hash)
        # Which lessons an arm forces and forbids.
        self._ruled = {arm.name: named_lessons(arm) for arm in policy.arms}
        self._all = self._every_arm()
        # The rank of each arm among arms with equal means.
        self.order = _order(policy.arms)
        # Whose posterior is their own, and in plain lists what is looked up for every decision.
        self._own_segment = _with_numbers(policy.segment_mean)
        self._own_user = _with_numbers(policy.users.mean)
        self._segment_rates: list[float] = policy.segment_rate.tolist()
        self._eligible: dict[tuple[str, ...], Eligible] = {}
        self._odds: dict[tuple[Key, tuple[int, ...]], _Odds] = {}
        self._choices: dict[tuple[Key, tuple[int, ...], float], Choice] = {}
        self._answers = {
            arm.name: json.dumps(self._served(arm), ensure_ascii=False).encode()[1:-1] for arm in policy.arms
        }

    def eligible(self, asked: tuple[str, ...] | None) -> Eligible:
        """The arms that may be drawn: the enabled ones, of these only `asked` where an agent names some."""
        if asked is None:
            return self._all
        found = self._eligible.get(asked)
        if found is None:
            found = self._of(asked)
            if len(self._eligible) >= _KEPT:
                self._eligible.clear()
            self._eligible[asked] = found
        return found

    def standing(self, user_id: str | None, task: str | None) -> Standing:
        """Whose posterior and which rate apply to a user, None for an unknown one, at a task."""
        policy = self.policy
        place = policy.users.index.get(user_id) if user_id is not None else None
        segment = int(policy.users.segment[place]) if place is not None else -1
        name = policy.segments[segment] if segment >= 0 else None
        key: Key = ("agent", 0)
        if segment >= 0 and self._own_segment[segment]:
            key = ("segment", segment)
        if place is not None and self._own_user[place]:
            key = ("user", place)
        rate = float(policy.users.rate[place]) if place is not None else float("nan")
        if rate != rate and segment >= 0:
            rate = self._segment_rates[segment]
        if rate != rate:
            rate = float(policy.rate)
        why = ""
        if place is not None and policy.users.opted_out[place]:
            why = "the user opted out of exploration"
        elif name is not None and name in policy.never_segments:
            why = f"segment {name!r} is never explored"
        elif task is not None and task in policy.never_tasks:
            why = f"task {task!r} is never explored"
        elif rate <= 0.0:
            why = "the exploration rate is 0"
        return Standing(key, name, 0.0 if why else min(rate, 1.0), why)

    def choice(self, key: Key, positions: tuple[int, ...], allowed: float) -> Choice:
        """The propensities of these arms for units with this posterior, where `allowed` is the rate that applies."""
        wanted = (key, positions, allowed)
        found = self._choices.get(wanted)
        if found is None:
            found = self._choose(key, positions, allowed)
            if len(self._choices) >= _KEPT:
                self._choices.clear()
            self._choices[wanted] = found
        return found

    def lessons(self, arm: str, request: Request) -> LessonChoice:
        """The lessons of a request that runs an arm; the whole block where the policy has none to choose from."""
        if self._chooser is None:
            return self._whole
        force, forbid = self._ruled[arm]
        return self._chooser.choose(replace(request, force=force, forbid=forbid) if force or forbid else request)

    def served(self, arm: str) -> bytes:
        """What every answer with this arm says, as the inside of a JSON object."""
        return self._answers[arm]

    def posterior(self, key: Key, positions: Sequence[int]) -> tuple[Floats, Floats]:
        """Means and sds of these arms: the unit's own, where it has none its segment's, then its agent's."""
        policy, picked = self.policy, list(positions)
        means, sds = policy.mean[picked], policy.sd[picked]
        segment = -1
        if key[0] == "segment":
            segment = key[1]
        elif key[0] == "user":
            segment = int(policy.users.segment[key[1]])
        if segment >= 0:
            means, sds = _over(policy.segment_mean[segment, picked], policy.segment_sd[segment, picked], means, sds)
        if key[0] == "user":
            own, spread = policy.users.mean[key[1], picked], policy.users.sd[key[1], picked]
            means, sds = _over(own.astype(np.float64), spread.astype(np.float64), means, sds)
        return means, sds

    def _choose(self, key: Key, positions: tuple[int, ...], allowed: float) -> Choice:
        odds = self._odds.get((key, positions))
        if odds is None:
            means, sds = self.posterior(key, positions)
            best = probability_best(means, sds)
            odds = _Odds(means, sds, best, int(greedy_arms(means, self.order[list(positions)])))
            if len(self._odds) >= _KEPT:
                self._odds.clear()
            self._odds[key, positions] = odds
        floor = self.policy.propensity_floor
        doubt = 1.0 - odds.best[odds.greedy]
        rate = float(effective_rate(allowed, doubt, len(positions), propensity_floor=floor))
        drawn = vector(odds.best, np.int64(odds.greedy), rate, propensity_floor=floor)
        expected, worst = regret(odds.means, odds.sds, drawn, np.int64(odds.greedy))
        propensities = tuple(drawn.tolist())
        return Choice(
            tuple(self.policy.arms[position].name for position in positions), propensities, cumulative(propensities),
            odds.greedy, rate, float(expected), float(worst),
        )  # fmt: skip

    def _every_arm(self) -> Eligible:
        if self._positions:
            return self._named(tuple(self._positions.values()), True, ())
        assert self._baseline is not None
        return self._named((self._baseline,), False, ("no arm is enabled, so this is the baseline",))

    def _of(self, asked: tuple[str, ...]) -> Eligible:
        names = dict.fromkeys(map(clean_name, asked))
        positions = tuple(place for name, place in self._positions.items() if name in names)
        unknown = [name for name in names if name not in self._positions]
        notes = (f"not enabled arms of this agent: {', '.join(unknown)[:500]}",) if unknown else ()
        if positions:
            return self._named(positions, True, notes)
        only = self._baseline if self._baseline is not None else self._all.positions[0]
        what = "the baseline" if only == self._baseline else "the agent's first arm"
        return self._named((only,), False, (*notes, f"none of the arms asked for may be drawn, so this is {what}"))

    def _named(self, positions: tuple[int, ...], drawable: bool, notes: tuple[str, ...]) -> Eligible:
        return Eligible(positions, tuple(self.policy.arms[place].name for place in positions), drawable, notes)

    def _served(self, arm: Arm) -> dict[str, Any]:
        policy = self.policy
        return {
            "definition": arm.definition,
            "limits": limits_as_json(policy.arm_limits.get(arm.name, policy.limits)),
            "ttl_s": policy.ttl_seconds,
        }


def limits_as_json(limits: Limits) -> dict[str, Any]:
    """Limits as agents are told of them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(limits).items()}


def _with_numbers(rows: NDArray[Any]) -> list[bool]:
    there: NDArray[np.bool_] = np.isfinite(rows).any(axis=1)
    return list(map(bool, there.tolist()))


def _over(own: Floats, spread: Floats, means: Floats, sds: Floats) -> tuple[Floats, Floats]:
    """`own` and its `spread` where both are there, else the wider scope's."""
    there = ~(np.isnan(own) | np.isnan(spread))
    return np.where(there, own, means), np.where(there, spread, sds)


def _order(arms: Sequence[Arm]) -> NDArray[np.int64]:
    """The rank of each arm among arms with equal means: the baseline first, then by name."""
    ranked = sorted(range(len(arms)), key=lambda place: (not arms[place].baseline, arms[place].name))
    ranks = np.empty(len(arms), dtype=np.int64)
    ranks[ranked] = np.arange(len(arms))
    return ranks


def _check(policy: Policy) -> None:
    """Raises: `PolicyUnusable` where an array has the wrong shape or a number no decision could be made with."""

    def refuse(why: str) -> None:
        raise PolicyUnusable(policy.agent, policy.version, why)

    arms, segments, users = len(policy.arms), len(policy.segments), len(policy.users.index)
    shapes: list[tuple[str, NDArray[Any], tuple[int, ...]]] = [
        ("mean", policy.mean, (arms,)), ("sd", policy.sd, (arms,)),
        ("segment_mean", policy.segment_mean, (segments, arms)), ("segment_sd", policy.segment_sd, (segments, arms)),
        ("segment_rate", policy.segment_rate, (segments,)), ("users.mean", policy.users.mean, (users, arms)),
        ("users.sd", policy.users.sd, (users, arms)), ("users.rate", policy.users.rate, (users,)),
        ("users.segment", policy.users.segment, (users,)), ("users.opted_out", policy.users.opted_out, (users,)),
    ]  # fmt: skip
    for name, array, shape in shapes:
        if array.shape != shape:
            refuse(f"{name} has the shape {array.shape}, not {shape}")
    if not (np.isfinite(policy.mean).all() and np.isfinite(policy.sd).all() and (policy.sd > 0).all()):
        refuse("an arm has no finite mean or no positive sd")
    for name, means, sds in (
        ("a segment", policy.segment_mean, policy.segment_sd), ("a user", policy.users.mean, policy.users.sd)
    ):  # fmt: skip
        if np.isinf(means).any() or np.isinf(sds).any() or (sds <= 0).any():
            refuse(f"{name} has an infinite mean or an sd that is not positive")
    if ((policy.users.segment < -1) | (policy.users.segment >= segments)).any():
        refuse("a user is in a segment that is not there")
    if not (0.0 <= policy.rate <= 1.0 and 0.0 <= policy.propensity_floor < 1.0 and 0.0 <= policy.solicit_rate <= 1.0):
        refuse("a rate is not between 0 and 1")
    if not all(0.0 <= rate <= 1.0 for rate in (*policy.solicit_segments.values(), *policy.solicit_users.values())):
        refuse("a rate of asking is not between 0 and 1")
