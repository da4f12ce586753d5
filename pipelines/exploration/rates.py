"""How much an agent should still explore, from how unsure its rewards leave the choice of the best arm.

Each arm's mean reward has a Gaussian posterior. The greedy arm is the one with the highest mean; the probability
that another one is the best, 1 - P(greedy best), is what exploration is for (METHODS §6). The recommended rate
runs linearly from `floor` (certain) to `cap` (as good as a coin among all arms: 1 - P = 1 - 1/arms).

The interval answers how far the recommendation would move if the data were collected again: arm means are drawn anew
from their posteriors, the rate is computed for each draw with the present greedy arm, and the central 95 % reported.

Assumed: within an agent, arms met comparable requests (assigned at random, or at least not by difficulty). Only
traces with own signals count, since the others' rewards are predictions that know nothing of the arm.
"""

import json
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.stats.contract import require
from pipelines.stats.quadrature import probability_best
from store.errors import SettingsError

__all__ = ["ARMS", "RECOMMENDATIONS", "REWARDS", "ExplorationConfig", "arm_posteriors", "recommend"]

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


@dataclass(frozen=True)
class ExplorationConfig:
    """Limits of the rate, the traces each arm needs, the users needed for a clustered sd, and the posterior draws."""

    floor: float = 0.01
    cap: float = 0.2
    min_traces: int = 30
    min_users: int = 10
    draws: int = 2000

    def __post_init__(self) -> None:
        if not 0.0 <= self.floor <= self.cap <= 1.0:
            raise SettingsError("exploration floor and cap", (self.floor, self.cap), "0 ≤ floor ≤ cap ≤ 1")
        if self.min_traces < 2 or self.min_users < 2 or self.draws < 100:
            limits = (self.min_traces, self.min_users, self.draws)
            raise SettingsError("exploration min_traces, min_users, draws", limits, "at least 2, 2 and 100")


def arm_posteriors(rewards: pl.DataFrame, config: ExplorationConfig | None = None) -> pl.DataFrame:
    """Mean reward of every arm with its standard deviation (columns ARMS) from one row per trace (columns REWARDS).

    Var = (between-trace variance + mean squared reward sd) / n: the second term carries what the reward model does not
    know of each trace. Where at least `min_users` users are known, the larger of this and the cluster-robust
    variance over users is taken, since traces of one user are not independent. Rows without agent or arm are ignored.
    """
    config = config or ExplorationConfig()
    rewards = require(rewards, REWARDS, "arm rewards", not_null=["mean", "sd", "signals"], unit_interval=["mean"])
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
    rewards: pl.DataFrame, config: ExplorationConfig | None = None, *, rng: np.random.Generator
) -> pl.DataFrame:
    """One row per agent (columns RECOMMENDATIONS): the exploration rate with its interval, or what is missing for one.

    `rewards` has one row per trace (columns REWARDS). An agent needs two arms and `min_traces` traces with signals on
    each of its arms. `decisions` counts the traces with signals behind the estimate. Raises ContractError for a wrong
    frame.
    """
    config = config or ExplorationConfig()
    arms = arm_posteriors(rewards, config)
    rows = [_recommendation(agent, config, rng) for agent in arms.partition_by("agent", maintain_order=True)]
    return pl.DataFrame(rows, schema=RECOMMENDATIONS, orient="row")


def _recommendation(arms: pl.DataFrame, config: ExplorationConfig, rng: np.random.Generator) -> dict[str, object]:
    missing = _missing(arms, config)
    listed = arms.select("arm", "mean", "sd", "n").to_dicts()
    row: dict[str, object] = {"agent": arms["agent"][0], "decisions": int(arms["n"].sum())}
    if missing:
        return row | {
            "status": "not enough data",
            "reason": f"Not enough data: {missing}.",
            "arms": json.dumps([arm | {"best": None} for arm in listed]),
        }
    means = arms["mean"].to_numpy()
    sds = np.maximum(arms["sd"].to_numpy(), 1e-9)
    best = probability_best(means, sds)
    greedy = int(np.argmax(means))
    redrawn = rng.normal(means, sds, size=(config.draws, means.size))
    rates = _rate(probability_best(redrawn, np.broadcast_to(sds, redrawn.shape))[:, greedy], means.size, config)
    rate = float(_rate(best[greedy], means.size, config))
    lower, upper = np.quantile(rates, [0.025, 0.975])
    return row | {
        "status": "recommended",
        "rate": rate,
        "lower": min(rate, float(lower)),
        "upper": max(rate, float(upper)),
        "greedy_arm": arms["arm"][greedy],
        "greedy_best": float(best[greedy]),
        "reason": _reason(arms, greedy, best, rate, config),
        "arms": json.dumps([arm | {"best": float(share)} for arm, share in zip(listed, best, strict=True)]),
    }


def _rate(greedy_best: NDArray[np.float64] | np.float64, arms: int, config: ExplorationConfig) -> NDArray[np.float64]:
    doubt = np.clip((1.0 - greedy_best) / (1.0 - 1.0 / arms), 0.0, 1.0)
    return np.asarray(config.floor + (config.cap - config.floor) * doubt, dtype=np.float64)


def _missing(arms: pl.DataFrame, config: ExplorationConfig) -> str:
    if arms.height < 2:
        return f"there is one arm ({arms['arm'][0]}), and exploring needs at least two"
    short = arms.filter(pl.col("n") < config.min_traces)
    return "; ".join(
        f"arm {arm} has {n} traces with signals and needs {config.min_traces - n} more"
        for arm, n in short.select("arm", "n").iter_rows()
    )


def _reason(arms: pl.DataFrame, greedy: int, best: NDArray[np.float64], rate: float, config: ExplorationConfig) -> str:
    name, mean, sd, n = arms.select("arm", "mean", "sd", "n").row(greedy)
    others = [arm for arm in range(arms.height) if arm != greedy]
    rival = max(others, key=lambda arm: float(best[arm]))
    rival_name, rival_mean, rival_sd, rival_n = arms.select("arm", "mean", "sd", "n").row(rival)
    text = (
        f"{name} has the highest mean reward, {mean:.3f} ± {sd:.3f} (n {n}); the probability that another is better "
        f"is {1.0 - best[greedy]:.3f}, most likely {rival_name} with {rival_mean:.3f} ± {rival_sd:.3f} (n {rival_n}). "
        f"Between the floor {config.floor:g} and the cap {config.cap:g} this gives {rate:.3f}."
    )
    if not arms["clustered"].all():
        text += (
            f" Fewer than {config.min_users} users are known on some arm: differences between users are not included."
        )
    return text
