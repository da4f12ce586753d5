"""How much an agent should still explore, from how unsure its rewards leave the choice of the best arm.

Each arm's mean reward has a Gaussian posterior. What exploring would teach, against what it costs, gives the rate and
its interval (`recommend.rates`); how sure the greedy arm, the one with the highest mean, is to be the best is shown
beside it. Not this probability but what is at stake decides: two arms that differ by nothing need no exploring, however
unsure it is which is the better one.

Assumed: within an agent, arms met comparable requests (assigned at random, or at least not by difficulty). Only
traces with own signals count, since the others' rewards are predictions that know nothing of the arm.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from pipelines.exploration.bounds import AgentBounds, UnitBounds
from pipelines.exploration.recommend import RateConfig, Rates, Units, rates
from pipelines.exploration.shared_value import Shared
from pipelines.exploration.units import considered
from pipelines.stats.contract import require
from store.errors import SettingsError
from store.policy import Policy

__all__ = ["ARMS", "RECOMMENDATIONS", "REWARDS", "AgentEvidence", "ExplorationConfig", "arm_posteriors", "recommend"]

REWARDS = pl.Schema(
    {
        "agent": pl.String(),
        "arm": pl.String(),
        "user_id": pl.String(),
        "mean": pl.Float64(),  # the reward of one trace
        "sd": pl.Float64(),
        "signals": pl.Int64(),
    }
)
ARMS = pl.Schema(
    {
        "agent": pl.String(),
        "arm": pl.String(),
        "mean": pl.Float64(),
        "sd": pl.Float64(),  # of the arm's mean; null with fewer than two traces
        "n": pl.Int64(),  # traces with signals
        "traces": pl.Int64(),
        "users": pl.Int64(),
        "clustered": pl.Boolean(),  # the sd lets traces of one user depend on one another
    }
)
RECOMMENDATIONS = pl.Schema(
    {
        "agent": pl.String(),
        "status": pl.String(),  # recommended, not enough data
        "rate": pl.Float64(),  # null from here to greedy_best when there is not enough data
        "lower": pl.Float64(),
        "upper": pl.Float64(),
        "greedy_arm": pl.String(),
        "greedy_best": pl.Float64(),  # probability that the greedy arm is the best
        "decisions": pl.Int64(),
        "reason": pl.String(),
        "arms": pl.String(),  # JSON: [{arm, mean, sd, n, best}]
    }
)

_DECIMALS = 12


@dataclass(frozen=True)
class ExplorationConfig:
    """The traces each arm needs, and the users needed for a clustered sd."""

    min_traces: int = 30
    min_users: int = 10
    rates: RateConfig = field(default_factory=RateConfig)

    def __post_init__(self) -> None:
        if self.min_traces < 2 or self.min_users < 2:
            limits = (self.min_traces, self.min_users)
            raise SettingsError("exploration min_traces and min_users", limits, "at least 2")


@dataclass(frozen=True)
class AgentEvidence:
    """What is known of an agent beside the rewards of its arms.

    `ahead`: decisions expected within the horizon (None: as many as there were); `tolerance` of its users, reward
    points, with its sd; `progress` of its tasks, 0 to 1.
    """

    bounds: AgentBounds = field(default_factory=AgentBounds)
    ahead: float | None = None
    tolerance: float = 0.0
    tolerance_sd: float = 0.0
    progress: float = 0.0


def arm_posteriors(rewards: pl.DataFrame, config: ExplorationConfig | None = None) -> pl.DataFrame:
    """Mean reward of every arm with its standard deviation (columns ARMS) from one row per trace (columns REWARDS).

    Var = (between-trace variance + mean squared reward sd) / n: the second term carries what the reward model does not
    know of each trace. Where at least `min_users` users are known, the larger of this and the cluster-robust
    variance over users is taken, since traces of one user are not independent. Rows without agent or arm are ignored.
    """
    config = config or ExplorationConfig()
    rewards = require(rewards, REWARDS, "arm rewards", not_null=["mean", "sd", "signals"])
    known = rewards.filter(pl.col("agent").is_not_null() & pl.col("arm").is_not_null())
    keys = ["agent", "arm"]
    seen = known.group_by(keys).agg(traces=pl.len().cast(pl.Int64))
    observed = known.filter(pl.col("signals") > 0).with_row_index("row")
    simple = observed.group_by(keys).agg(
        mean_reward=pl.col("mean").mean(),
        n=pl.len().cast(pl.Int64),
        simple_variance=(pl.col("mean").var() + (pl.col("sd") ** 2).mean()) / pl.len(),
        reward_variance=(pl.col("sd") ** 2).mean() / pl.len(),
    )
    # A trace without a user is a cluster of its own.
    cluster = pl.coalesce(pl.lit("u:") + pl.col("user_id"), pl.lit("r:") + pl.col("row").cast(pl.String))
    clusters = (
        observed.join(simple, on=keys)
        .group_by(*keys, cluster.alias("cluster"))
        .agg(
            total=(pl.col("mean") - pl.col("mean_reward")).sum(),
            user=pl.col("user_id").is_not_null().all(),
            n=pl.col("n").first(),
        )
        .group_by(keys)
        .agg(
            users=pl.col("user").sum().cast(pl.Int64),
            robust_variance=(pl.col("total") ** 2).sum()
            / pl.col("n").first() ** 2
            * pl.len()
            / (pl.len() - 1).cast(pl.Float64),
        )
    )
    clustered = pl.col("users") >= config.min_users
    variance = (
        pl.when(clustered)
        .then(pl.max_horizontal("simple_variance", pl.col("robust_variance") + pl.col("reward_variance")))
        .otherwise(pl.col("simple_variance"))
    )
    joined = seen.join(simple, on=keys, how="left").join(clusters, on=keys, how="left")
    return (
        joined.select(
            *keys,
            mean="mean_reward",
            sd=variance.sqrt(),
            n=pl.col("n").fill_null(0),
            traces="traces",
            users=pl.col("users").fill_null(0),
            clustered=clustered.fill_null(False),
        )
        .cast(ARMS)
        .sort(keys)
    )


def recommend(
    rewards: pl.DataFrame,
    config: ExplorationConfig | None = None,
    *,
    agents: Mapping[str, AgentEvidence] | None = None,
    policies: Mapping[str, Policy] | None = None,
) -> pl.DataFrame:
    """One row per agent (columns RECOMMENDATIONS): the exploration rate with its interval, or what is missing for one.

    `rewards` has one row per trace (columns REWARDS); `agents` by name. An agent needs two arms and `min_traces` traces
    with signals on each of its arms. Where an agent has a policy, its posteriors are used: what it is steered by, and
    what the rates of its segments and users rest on. `decisions` counts the traces with signals behind the estimate.
    Raises: ContractError for a wrong frame.
    """
    config = config or ExplorationConfig()
    arms = _in_force(arm_posteriors(rewards, config), policies or {})
    rows = [
        _recommendation(own, config, (agents or {}).get(str(own["agent"][0]), AgentEvidence()))
        for own in arms.partition_by("agent", maintain_order=True)
    ]
    return pl.DataFrame(rows, schema=RECOMMENDATIONS, orient="row")


def _in_force(arms: pl.DataFrame, policies: Mapping[str, Policy]) -> pl.DataFrame:
    """The arms (columns ARMS) with the posteriors of their agent's policy, where it knows them from traces."""
    rows = [
        (agent, policy.arms[at].name, float(policy.mean[at]), float(policy.sd[at]), int(policy.n[at]))
        for agent, policy in policies.items()
        for at in considered(policy)
    ]
    schema = {"agent": pl.String(), "arm": pl.String(), "believed": pl.Float64(), "believed_sd": pl.Float64(),
              "believed_n": pl.Int64()}  # fmt: skip
    believed = pl.DataFrame(rows, schema=schema, orient="row")
    steered = pl.col("agent").is_in(list(policies))
    return (
        arms.join(believed, on=["agent", "arm"], how="left", maintain_order="left")
        .filter(~steered | pl.col("believed").is_not_null())
        .with_columns(
            mean=pl.coalesce("believed", "mean"), sd=pl.coalesce("believed_sd", "sd"), n=pl.coalesce("believed_n", "n")
        )
        .select(list(ARMS))
    )


def _recommendation(arms: pl.DataFrame, config: ExplorationConfig, known: AgentEvidence) -> dict[str, object]:
    missing = _missing(arms, config)
    listed = arms.select("arm", "mean", "sd", "n").to_dicts()
    row: dict[str, object] = {"agent": arms["agent"][0], "decisions": int(arms["n"].sum())}
    if missing:
        return row | {
            "status": "not enough data",
            "reason": f"Not enough data: {missing}.",
            "arms": json.dumps([arm | {"best": None} for arm in listed]),
        }
    means, sds, n = (arms[column].to_numpy()[None, :].astype(np.float64) for column in ("mean", "sd", "n"))
    units = Units(
        # Sums are not taken in a fixed order: arms that are alike stay alike.
        mean=means.round(_DECIMALS),
        sd=sds,
        # The sd of an arm's mean tells that of one reward, with what differs between users where that is known.
        noise_sd=float(np.sqrt((sds**2 * n).mean())),
        ahead=np.array([float(arms["traces"].sum()) if known.ahead is None else known.ahead]),
        shared=Shared(np.zeros_like(means), np.zeros_like(means)),
        tolerance=np.array([known.tolerance]),
        tolerance_sd=np.array([known.tolerance_sd]),
        drift=np.zeros(1),
        progress=np.array([known.progress]),
        never=np.zeros(1, dtype=np.bool_),
        people=False,
    )
    bounds = UnitBounds(
        np.array([known.bounds.floor]), np.array([known.bounds.cap]), np.array([known.bounds.dial]), np.array([True])
    )
    found = rates(units, bounds, config.rates)
    greedy, best = int(found.greedy[0]), found.best[0]
    return row | {
        "status": "recommended",
        "rate": float(found.rate[0]),
        "lower": float(found.lower[0]),
        "upper": float(found.upper[0]),
        "greedy_arm": arms["arm"][greedy],
        "greedy_best": float(best[greedy]),
        "reason": _reason(arms, found, units, known, config),
        "arms": json.dumps([arm | {"best": float(share)} for arm, share in zip(listed, best, strict=True)]),
    }


def _missing(arms: pl.DataFrame, config: ExplorationConfig) -> str:
    if arms.height < 2:
        return f"there is one arm ({arms['arm'][0]}), and exploring needs at least two"
    short = arms.filter(pl.col("n") < config.min_traces)
    return "; ".join(
        f"arm {arm} has {n} traces with signals and needs {config.min_traces - n} more"
        for arm, n in short.select("arm", "n").iter_rows()
    )


def _reason(arms: pl.DataFrame, found: Rates, units: Units, known: AgentEvidence, config: ExplorationConfig) -> str:
    greedy, best, rate = int(found.greedy[0]), found.best[0], float(found.rate[0])
    name, mean, sd, n = arms.select("arm", "mean", "sd", "n").row(greedy)
    others = [arm for arm in range(arms.height) if arm != greedy]
    rival = max(others, key=lambda arm: float(best[arm]))
    rival_name, rival_mean, rival_sd, rival_n = arms.select("arm", "mean", "sd", "n").row(rival)
    bounds = known.bounds
    text = (
        f"{name} has the highest mean reward, {mean:.3f} ± {sd:.3f} (n {n}); the probability that another is better "
        f"is {1.0 - best[greedy]:.3f}, most likely {rival_name} with {rival_mean:.3f} ± {rival_sd:.3f} (n {rival_n}). "
        f"An exploratory decision is expected to be worth {found.value[0]:.3f} reward points to the "
        f"{units.ahead[0]:,.0f} decisions ahead and to cost {found.cost[0]:.3f}. Between the floor {bounds.floor:g} "
        f"and the cap {bounds.cap:g}, with the dial at {bounds.dial:g}, this gives {rate:.3f}."
    )
    if known.tolerance_sd > 0.0 and abs(float(found.factor[0]) - 1.0) > 0.02:
        text += (
            f" Exploring changes people's reward by {known.tolerance:.3f} ± {known.tolerance_sd:.3f} on the whole: "
            f"the rate is {found.factor[0]:.2f} of what it would be."
        )
    if known.progress > 0.02:
        text += " Its tasks still teach something, which raises the rate."
    if not arms["clustered"].all():
        text += (
            f" Fewer than {config.min_users} users are known on some arm: differences between users are not included."
        )
    return text
