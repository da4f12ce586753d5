"""Putting a policy together: what the data say of arms and users, and what operators decided, as one immutable object.

The two sides change at different paces. `Beliefs` come from the posterior every few minutes; a `Decided` changes when
an operator acts, and is then joined with the beliefs that are held, so that an arm that is switched off is out at once.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.exploration import bounds as limits_of_rates
from pipelines.exploration.bounds import RATE_WITHOUT_DECISION
from pipelines.steering.policy import Arm, Limits, Policy, Users
from pipelines.steering.posterior import LEAST_ARM_SD, NOTHING_KNOWN, Posterior
from pipelines.steering.settle import named_rows, picked, settled
from store.drift_responses import RAISED
from store.lesson_sets import LessonSet

__all__ = ["PEOPLE", "PROPENSITY_FLOOR", "Beliefs", "Decided", "beliefs", "beliefs_of", "build"]

Floats = NDArray[np.float64]
PROPENSITY_FLOOR = 0.01
PEOPLE = pl.Schema({"user_id": pl.String(), "segment": pl.String()})


@dataclass(frozen=True)
class Beliefs:
    """What the data say; arrays are (arms,), (segments, arms) and (users, arms); NaN: nothing of one's own.

    `basis` of each arm as in `Posterior`; `people` (columns PEOPLE) are the users in the order of the arrays.
    """

    arms: tuple[str, ...]
    mean: Floats
    sd: Floats
    n: NDArray[np.int64]
    basis: tuple[str, ...]
    segments: tuple[str, ...]
    segment_mean: Floats
    segment_sd: Floats
    people: pl.DataFrame
    user_mean: NDArray[np.float32]
    user_sd: NDArray[np.float32]
    opted_out: frozenset[str]
    reward_model_id: int | None

    @staticmethod
    def nothing() -> "Beliefs":
        """Beliefs about an agent of which there is no data."""
        none, nobody = np.empty((0, 0)), np.empty((0, 0), dtype=np.float32)
        return Beliefs(
            (), np.empty(0), np.empty(0), np.empty(0, dtype=np.int64), (), (), none, none,
            pl.DataFrame(schema=PEOPLE), nobody, nobody, frozenset(), None,
        )  # fmt: skip


@dataclass(frozen=True)
class Decided:
    """What operators decided for one agent.

    Frames: `arms` as `store.arms.ARMS`, `rates` (scope, unit, rate) as `store.exploration.applied_rates`, `bounds` as
    `store.exploration.bounds`, `never` (kind, unit) as `store.never_explore.listed`, `raised` as
    `store.drift_responses.raised`: rates that are at least so high for a time, within the caps of `bounds`.
    """

    arms: pl.DataFrame
    rates: pl.DataFrame
    bounds: pl.DataFrame
    never: pl.DataFrame
    limits: Limits = field(default_factory=Limits)
    arm_limits: Mapping[str, Limits] = field(default_factory=dict)
    instructions: str = ""
    lesson_ids: tuple[str, ...] = ()
    lessons: LessonSet | None = None
    raised: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=RAISED))

    def same(self, other: "Decided") -> bool:
        """Whether both say the same."""
        frames = ("arms", "rates", "bounds", "never", "raised")
        if not all(getattr(self, name).equals(getattr(other, name)) for name in frames):
            return False
        return all(
            getattr(self, name) == getattr(other, name)
            for name in ("limits", "arm_limits", "instructions", "lesson_ids", "lessons")
        )


def beliefs(
    posterior: Posterior, people: pl.DataFrame, *, opted_out: frozenset[str], reward_model_id: int | None
) -> Beliefs:
    """The beliefs of a posterior; `people` (columns PEOPLE) are all users of the agent."""
    people = people.select(list(PEOPLE)).sort("user_id")
    width = len(posterior.arms)
    mean, sd = (np.full((people.height, width), np.nan, dtype=np.float32) for _ in range(2))
    own = pl.DataFrame(
        {"user_id": list(posterior.users), "row": np.arange(len(posterior.users))},
        schema={"user_id": pl.String, "row": pl.Int64},
    )
    row = people.join(own, on="user_id", how="left", maintain_order="left")["row"]
    there = row.is_not_null().to_numpy()
    rows = row.drop_nulls().to_numpy()
    mean[there], sd[there] = posterior.user_mean[rows], posterior.user_sd[rows]
    return Beliefs(
        posterior.arms, posterior.mean, posterior.sd, posterior.n, posterior.basis, posterior.segments,
        posterior.segment_mean, posterior.segment_sd, people, mean, sd, opted_out, reward_model_id,
    )  # fmt: skip


def beliefs_of(policy: Policy) -> Beliefs:
    """The beliefs that a policy holds; who was not to be explored for any reason counts as opted out."""
    ids = list(policy.users.index)
    rows = np.fromiter(policy.users.index.values(), dtype=np.int64, count=len(ids))
    code = policy.users.segment[rows]
    names = pl.Series([*policy.segments, None], dtype=pl.String)
    people = pl.DataFrame(
        {"user_id": ids, "segment": names.gather(np.where(code < 0, len(policy.segments), code))}, schema=PEOPLE
    )
    out = policy.users.opted_out[rows]
    return Beliefs(
        tuple(arm.name for arm in policy.arms), policy.mean, policy.sd, policy.n, policy.basis,
        policy.segments,
        policy.segment_mean, policy.segment_sd, people, policy.users.mean[rows], policy.users.sd[rows],
        frozenset(people["user_id"].filter(pl.Series(out)).to_list()), policy.reward_model_id,
    )  # fmt: skip


def build(
    agent: str, held: Beliefs, decided: Decided, *, built_at: datetime, salt: str, previous: Policy | None = None
) -> Policy:
    """The policy of an agent; its version is 0 until it is published.

    Users whose numbers hardly differ from those in `previous` keep these, so that a version need not write everybody.
    """
    arms = _arms(decided.arms)
    names = [arm.name for arm in arms]
    held = _of_arms(held, names)
    segments = sorted(
        set(held.segments) | set(held.people["segment"].drop_nulls()) | _units(decided.rates, "segment")
        | _units(decided.bounds, "segment") | set(decided.never.filter(kind="segment")["unit"])
        | _units(decided.raised, "segment")
    )  # fmt: skip
    segment_mean, segment_sd = (
        named_rows(numbers, held.segments, segments) for numbers in (held.segment_mean, held.segment_sd)
    )
    agent_bounds = limits_of_rates.of_agent(decided.bounds)
    agent_rate = _agent_rate(decided.rates, agent_bounds)
    segment_rate = _segment_rates(decided, segments, agent_rate)
    users = _users(held, decided, segments, segment_rate, agent_rate)
    asked = {scope: _raised(decided.raised, "ask", scope) for scope in ("agent", "segment", "user")}
    policy = Policy(
        agent=agent, version=0, built_at=built_at, reward_model_id=held.reward_model_id, salt=salt, arms=arms,
        mean=held.mean, sd=held.sd, n=held.n, rate=agent_rate, propensity_floor=PROPENSITY_FLOOR,
        segments=tuple(segments), segment_mean=segment_mean, segment_sd=segment_sd,
        segment_rate=np.where(segment_rate == agent_rate, np.nan, segment_rate), users=users,
        never_segments=frozenset(decided.never.filter(kind="segment")["unit"]),
        never_tasks=frozenset(decided.never.filter(kind="task")["unit"]),
        daily_regret_budget=agent_bounds.daily_regret_budget,
        solicit_rate=max(agent_bounds.solicit_rate, asked["agent"].get("", 0.0)),
        solicit_segments=asked["segment"], solicit_users=asked["user"],
        limits=decided.limits,
        arm_limits={arm: limits for arm, limits in sorted(decided.arm_limits.items()) if arm in names},
        instructions=decided.instructions, lesson_ids=decided.lesson_ids, lessons=decided.lessons,
        basis=held.basis,
    )  # fmt: skip
    return policy if previous is None else settled(policy, previous)


def _arms(listed: pl.DataFrame) -> tuple[Arm, ...]:
    """Enabled and shadow arms, the baseline first; where none is enabled the baseline too, to have something to run."""
    enabled = (listed["state"] == "enabled").any()
    shown = listed.filter((pl.col("state") != "off") | (pl.col("baseline") & pl.lit(not enabled)))
    return tuple(
        Arm(row["arm"], row["kind"], row["state"], row["baseline"], json.loads(row["definition"]))
        for row in shown.sort("baseline", "arm", descending=[True, False]).to_dicts()
    )


def _of_arms(held: Beliefs, names: list[str]) -> Beliefs:
    """The beliefs on these arms; one of which nothing is known is as the others are, and may be the best."""
    width = len(held.arms)
    place = {name: index for index, name in enumerate(held.arms)}
    columns = np.array([place.get(name, -1) for name in names], dtype=np.int64)
    fresh = columns < 0
    centre = float(held.mean.mean()) if width else NOTHING_KNOWN[0]
    spread = (
        float(np.sqrt(max(float(held.mean.var()), LEAST_ARM_SD**2) + (held.sd**2).mean()))
        if width
        else NOTHING_KNOWN[1]
    )

    def shown(numbers: NDArray[np.float64], fill: float) -> NDArray[np.float64]:
        if not width:
            return np.full((*numbers.shape[:-1], len(names)), fill)
        return np.where(fresh, fill, numbers[..., columns])

    def apart(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Means in which an unknown arm is as the group's others are."""
        own = shown(numbers, 0.0)
        if not width or not fresh.any():
            return own
        shift = (numbers - held.mean).mean(axis=-1, keepdims=True)
        return np.where(fresh, centre + shift, own)

    user_sd = shown(held.user_sd.astype(np.float64), spread)
    user_sd[np.isnan(held.user_sd).all(axis=-1)] = np.nan
    segment_sd = shown(held.segment_sd, spread)
    segment_sd[np.isnan(held.segment_sd).all(axis=-1)] = np.nan
    return replace(
        held,
        arms=tuple(names),
        mean=shown(held.mean, centre),
        sd=shown(held.sd, spread),
        n=np.where(fresh, 0, held.n[columns]) if width else np.zeros(len(names), dtype=np.int64),
        basis=tuple("prior" if column < 0 else held.basis[column] for column in columns),
        segment_mean=apart(held.segment_mean),
        segment_sd=segment_sd,
        user_mean=apart(held.user_mean.astype(np.float64)).astype(np.float32),
        user_sd=user_sd.astype(np.float32),
    )


def _raised(raised: pl.DataFrame, action: str, scope: str) -> dict[str, float]:
    """The least rate of each unit ('' for the agent itself)."""
    return dict(raised.filter(action=action, scope=scope).select("unit", "rate").iter_rows())


def _units(frame: pl.DataFrame, scope: str) -> set[str]:
    return set(frame.filter(scope=scope)["unit"].to_list())


def _agent_rate(rates: pl.DataFrame, bounds: limits_of_rates.AgentBounds) -> float:
    own = rates.filter(scope="agent")["rate"]
    return float(np.clip(own[0] if len(own) else RATE_WITHOUT_DECISION, bounds.floor, bounds.cap))


def _segment_rates(decided: Decided, segments: list[str], agent_rate: float) -> Floats:
    """The rate of every segment within its bounds, (segments,)."""
    own = dict(decided.rates.filter(scope="segment").select("unit", "rate").iter_rows())
    least = _raised(decided.raised, "explore", "segment")
    rate = np.array([max(own.get(name, agent_rate), least.get(name, 0.0)) for name in segments], dtype=np.float64)
    within = limits_of_rates.of_segments(decided.bounds, segments)
    return _bounded(rate, within)


def _bounded(rate: Floats, within: limits_of_rates.UnitBounds) -> Floats:
    """Never above the cap; a unit may be below its agent's floor (it dislikes exploration), not below its own."""
    return np.asarray(np.minimum(np.where(within.own_floor, np.maximum(rate, within.floor), rate), within.cap))


def _users(held: Beliefs, decided: Decided, segments: list[str], segment_rate: Floats, agent_rate: float) -> Users:
    """Everybody of whom something is held, in order of id."""
    own_rates = decided.rates.filter(scope="user").select(user_id="unit", own="rate")
    own_bounds = decided.bounds.filter(scope="user").select(user_id="unit")
    least = decided.raised.filter(action="explore", scope="user").select(user_id="unit", least="rate")
    never = decided.never.filter(kind="user").select(user_id="unit").unique()
    out = pl.concat([never, pl.DataFrame({"user_id": sorted(held.opted_out)}, schema={"user_id": pl.String})]).unique()
    known = held.people.with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    people = (
        pl.concat([known.select("user_id"), own_rates.select("user_id"), own_bounds, out, least.select("user_id")])
        .unique()
        .join(known, on="user_id", how="left")
        .join(own_rates, on="user_id", how="left")
        .join(out.with_columns(out=True), on="user_id", how="left")
        .join(least, on="user_id", how="left")
        .sort("user_id")
    )
    place = {name: code for code, name in enumerate(segments)}
    code = people["segment"].replace_strict(place, default=-1, return_dtype=pl.Int32).fill_null(-1).to_numpy()
    inherited = np.append(segment_rate, agent_rate)[code]
    own = people["own"].cast(pl.Float64).to_numpy().astype(np.float64)  # null: NaN
    rate = np.maximum(np.where(np.isnan(own), inherited, own), people["least"].fill_null(0.0).to_numpy())
    if own_rates.height or own_bounds.height or least.height:
        within = limits_of_rates.of_users(decided.bounds, people["user_id"].to_list(), people["segment"].to_list())
        rate = _bounded(rate, within)
    row = people["row"].fill_null(-1).to_numpy()
    return Users(
        index=dict(zip(people["user_id"].to_list(), range(people.height), strict=True)),
        segment=code.astype(np.int32),
        mean=picked(held.user_mean, row),
        sd=picked(held.user_sd, row),
        rate=np.where(rate == inherited, np.nan, rate).astype(np.float32),
        opted_out=people["out"].fill_null(False).to_numpy(),
    )
