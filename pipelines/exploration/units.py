"""Exploration rates of an agent's segments and users, from its policy, with the reason of each in words."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.exploration import bounds as limits
from pipelines.exploration.drift_boost import boost
from pipelines.exploration.reasons import reasons
from pipelines.exploration.recommend import RateConfig, Rates, Units, rates
from pipelines.exploration.shared_value import Levels, Shared, for_segments, for_users
from pipelines.exploration.tolerance import Population, ToleranceConfig
from store.policy import Policy

__all__ = ["UNIT_RATES", "People", "considered", "unit_rates"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

UNIT_RATES = pl.Schema(
    {
        "agent": pl.String(),
        "scope": pl.String(),
        "unit": pl.String(),
        "rate": pl.Float64(),
        "lower": pl.Float64(),
        "upper": pl.Float64(),
        "decisions": pl.Int64(),
        "doubt": pl.Float64(),
        "progress": pl.Float64(),
        "drift": pl.Float64(),
        "tolerance": pl.Float64(),
        "tolerance_sd": pl.Float64(),
        "dial": pl.Float64(),
        "reason": pl.String(),
    }
)
_UNMEASURED_SD = ToleranceConfig().prior_sd  # of tolerance, where nobody was ever explored


@dataclass(frozen=True)
class People:
    """What is known of an agent's users beside the policy.

    Frames by user_id: `traffic` (traces), `tolerance` (columns of `tolerance.measure`), `drift` (days since they
    changed), `progress` (0 to 1). `never` says of users and segments on a list why. `noise_sd` is of one reward.
    """

    traffic: pl.DataFrame
    tolerance: pl.DataFrame
    drift: pl.DataFrame
    progress: pl.DataFrame
    never_users: Mapping[str, str]
    never_segments: Mapping[str, str]
    opted_out: frozenset[str]  # beside those of whom the policy knows it
    population: Population | None
    noise_sd: float


def considered(policy: Policy) -> NDArray[np.int64]:
    """The arms that rates are about: those enabled; all that are held while fewer than two of them are enabled."""
    enabled = [place for place, arm in enumerate(policy.arms) if arm.state == "enabled"]
    return np.array(enabled if len(enabled) > 1 else range(len(policy.arms)), dtype=np.int64)


def unit_rates(policy: Policy, people: People, bounds: pl.DataFrame, config: RateConfig | None = None) -> pl.DataFrame:
    """The rates of every segment and user of an agent (columns UNIT_RATES); none where it has fewer than two arms.

    Users are those with traffic, those the policy holds something of, and those with bounds of their own. Those of whom
    nothing is known beyond their segment get its rates. `bounds` as `store.exploration.bounds`.
    """
    columns = considered(policy)
    if columns.size < 2:
        return pl.DataFrame(schema=UNIT_RATES)
    config = config or RateConfig(propensity_floor=policy.propensity_floor)
    users = _users(policy, people, bounds)
    segment = users["segment"].to_numpy().astype(np.int64)
    agent_mean, agent_sd = policy.mean[columns], policy.sd[columns]
    segment_mean = _or(policy.segment_mean[:, columns], agent_mean)
    segment_sd = _or(policy.segment_sd[:, columns], agent_sd)
    centre, centre_sd = np.vstack([segment_mean, agent_mean])[segment], np.vstack([segment_sd, agent_sd])[segment]
    place = users["place"].to_numpy().astype(np.int64)
    own_mean, own_sd = _own(policy.users.mean, place, columns), _own(policy.users.sd, place, columns)
    person_sd = _person_sd(own_mean, own_sd, centre, centre_sd)
    mean = np.where(np.isnan(own_mean), centre, own_mean)
    sd = np.where(np.isnan(own_sd), np.hypot(centre_sd, person_sd), own_sd)
    ahead = users["traces"].to_numpy().astype(np.float64)
    levels = Levels(segment, segment_mean, segment_sd, agent_mean, agent_sd, people.noise_sd, person_sd, ahead)
    names = [policy.arms[column].name for column in columns]
    frames = [
        _of_segments(policy, people, bounds, levels, users, names, config),
        _of_users(policy, people, bounds, (mean, sd), for_users(levels), users, names, config),
    ]
    return pl.concat(frames)


def _users(policy: Policy, people: People, bounds: pl.DataFrame) -> pl.DataFrame:
    """user_id, place in the policy (-1: not held), segment (place, -1: none), traces, tolerance..., in order of id."""
    held = pl.DataFrame(
        {"user_id": list(policy.users.index), "place": list(policy.users.index.values())},
        schema={"user_id": pl.String, "place": pl.Int64},
    ).with_columns(
        segment=pl.Series(policy.users.segment[np.fromiter(policy.users.index.values(), np.int64)].astype(np.int64)),
        out=pl.Series(policy.users.opted_out[np.fromiter(policy.users.index.values(), np.int64)]),
    )
    own = pl.DataFrame({"user_id": bounds.filter(scope="user")["unit"]}, schema={"user_id": pl.String})
    listed = pl.DataFrame({"user_id": [*people.never_users, *people.opted_out]}, schema={"user_id": pl.String})
    known = people.traffic.filter(pl.col("user_id").is_not_null()).select("user_id", "traces")
    population = people.population
    mean, sd = (0.0, _UNMEASURED_SD) if population is None else (population.mean, _spread(population))
    return (
        pl.concat([held.select("user_id"), known.select("user_id"), own, listed])
        .unique()
        .sort("user_id")
        .join(held, on="user_id", how="left")
        .join(known, on="user_id", how="left")
        .join(
            people.tolerance.select("user_id", "tolerance", "tolerance_sd", "explored", "greedy"),
            on="user_id",
            how="left",
        )
        .join(people.drift.select("user_id", "days"), on="user_id", how="left")
        .join(people.progress.select("user_id", "progress"), on="user_id", how="left")
        .with_columns(
            pl.col("place").fill_null(-1),
            pl.col("segment").fill_null(-1),
            pl.col("out").fill_null(False),
            pl.col("traces").fill_null(0),
            pl.col("tolerance").fill_null(mean),
            pl.col("tolerance_sd").fill_null(sd),
            pl.col("explored", "greedy").fill_null(0),
            pl.col("progress").fill_null(0.0),
        )
        .sort("user_id")
    )


def _spread(population: Population) -> float:
    return float(np.hypot(population.mean_sd, population.between_sd))


def _of_users(
    policy: Policy,
    people: People,
    bounds: pl.DataFrame,
    known: tuple[Floats, Floats],
    shared: Shared,
    users: pl.DataFrame,
    names: list[str],
    config: RateConfig,
) -> pl.DataFrame:
    segments: list[str | None] = [*policy.segments, None]
    of = [segments[code] for code in users["segment"].to_list()]
    within = limits.of_users(bounds, users["user_id"].to_list(), of)
    listed = users["user_id"].is_in(list(people.never_users)).to_numpy()
    in_segment = pl.Series(of, dtype=pl.String).is_in(list(people.never_segments)).fill_null(False).to_numpy()
    out = users["out"].to_numpy() | users["user_id"].is_in(list(people.opted_out)).to_numpy()
    drift = boost(users["days"].cast(pl.Float64).to_numpy().astype(np.float64))
    units = Units(
        mean=known[0],
        sd=known[1],
        noise_sd=people.noise_sd,
        ahead=users["traces"].to_numpy().astype(np.float64),
        shared=shared,
        tolerance=users["tolerance"].to_numpy(),
        tolerance_sd=users["tolerance_sd"].to_numpy(),
        drift=drift,
        progress=users["progress"].to_numpy(),
        never=out | listed | in_segment,
        people=True,
    )
    found = rates(units, within, config)
    why = pl.Series(
        [people.never_users.get(user, "") for user in users["user_id"].to_list()] if people.never_users else [""]
    )
    frame = _frame(policy.agent, "user", users["user_id"], users["traces"], units, found, within)
    return frame.with_columns(
        reason=reasons(frame, found, within, names, users["explored"], users["days"], people=True)
    ).with_columns(
        reason=pl.when(pl.Series(out & ~listed))
        .then(pl.lit("They opted out of exploration."))
        .when(pl.Series(listed))
        .then(pl.lit("On the never-explore list: ") + (why if len(why) == users.height else pl.lit("")))
        .when(pl.Series(in_segment))
        .then(pl.lit("Their segment is on the never-explore list."))
        .otherwise("reason")
    )


def _of_segments(
    policy: Policy,
    people: People,
    bounds: pl.DataFrame,
    levels: Levels,
    users: pl.DataFrame,
    names: list[str],
    config: RateConfig,
) -> pl.DataFrame:
    if not policy.segments:
        return pl.DataFrame(schema=UNIT_RATES)
    within = limits.of_segments(bounds, policy.segments)
    rows = pl.DataFrame({"segment": np.arange(len(policy.segments), dtype=np.int64)})
    # A segment tolerates what its people do on the whole: each counts by how much is known of them.
    weight = 1.0 / pl.col("tolerance_sd") ** 2
    grouped = users.filter(pl.col("segment") >= 0).group_by("segment").agg(
        traces=pl.col("traces").sum(),
        tolerance=(pl.col("tolerance") * weight).sum() / weight.sum(),
        tolerance_sd=1.0 / weight.sum().sqrt(),
        explored=pl.col("explored").sum(),
        progress=(pl.col("progress") * pl.col("traces")).sum() / pl.col("traces").sum().clip(1),
    )  # fmt: skip
    own = rows.join(grouped, on="segment", how="left", maintain_order="left").with_columns(
        pl.col("traces", "explored").fill_null(0),
        pl.col("tolerance", "progress").fill_null(0.0),
        pl.col("tolerance_sd").fill_null(_UNMEASURED_SD),
    )
    units = Units(
        mean=levels.segment_mean,
        sd=levels.segment_sd,
        noise_sd=float(np.hypot(levels.noise_sd, levels.person_sd)),
        ahead=own["traces"].to_numpy().astype(np.float64),
        shared=for_segments(levels),
        tolerance=own["tolerance"].to_numpy(),
        tolerance_sd=own["tolerance_sd"].to_numpy(),
        drift=np.zeros(own.height),
        progress=own["progress"].to_numpy(),
        never=np.array([name in people.never_segments for name in policy.segments]),
        people=False,
    )
    found = rates(units, within, config)
    unit = pl.Series(list(policy.segments), dtype=pl.String)
    frame = _frame(policy.agent, "segment", unit, own["traces"], units, found, within)
    none = pl.Series([None] * own.height, dtype=pl.Float64)
    reason = reasons(frame, found, within, names, own["explored"], none, people=False)
    return frame.with_columns(
        reason=pl.when(pl.Series(units.never))
        .then(
            pl.lit("On the never-explore list: ")
            + pl.Series([people.never_segments.get(name, "") for name in policy.segments])
        )
        .otherwise(reason)
    )


def _frame(
    agent: str, scope: str, unit: pl.Series, traces: pl.Series, units: Units, found: Rates, within: limits.UnitBounds
) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "agent": pl.repeat(agent, len(unit), dtype=pl.String, eager=True),
            "scope": pl.repeat(scope, len(unit), dtype=pl.String, eager=True),
            "unit": unit,
            "rate": found.rate,
            "lower": found.lower,
            "upper": found.upper,
            "decisions": traces,
            "doubt": found.doubt,
            "progress": units.progress,
            "drift": units.drift,
            "tolerance": units.tolerance,
            "tolerance_sd": units.tolerance_sd,
            "dial": within.dial,
            "reason": pl.repeat("", len(unit), dtype=pl.String, eager=True),
        },
        schema=UNIT_RATES,
    )


def _or(numbers: Floats, otherwise: Floats) -> Floats:
    return np.where(np.isnan(numbers), otherwise, numbers)


def _own(numbers: NDArray[np.float32], place: NDArray[np.int64], columns: NDArray[np.int64]) -> Floats:
    """The rows of users, NaN for -1."""
    wide = np.vstack([numbers.astype(np.float64), np.full((1, numbers.shape[1]), np.nan)])
    return np.asarray(wide[place][:, columns])


def _person_sd(own_mean: Floats, own_sd: Floats, centre: Floats, centre_sd: Floats) -> float:
    """How far persons differ from their segment: by the law of total variance, less what is not known of the segment.

    Only what persons differ by between arms counts; where nobody has numbers of their own, they are taken as alike.
    """
    known = ~np.isnan(own_mean).any(axis=1)
    if known.sum() < 2:
        return 0.0
    apart = (own_mean - centre)[known]
    apart = apart - apart.mean(axis=1, keepdims=True)
    variance = (apart**2 + own_sd[known] ** 2 - centre_sd[known] ** 2).mean()
    return float(np.sqrt(max(variance, 0.0)))
