"""How each person's reward responds to decisions that explore, measured within the person.

Arms differ, and exploring means running other arms: so the reward is first freed of what its arm is worth. With cells c
of agent, segment and arm, y = β_c + τ·explore + error is fitted within cells, where an arm was greedy for some and
explored for others; β_c takes the arm, τ is what exploring does on average. Of each person then counts

    D_u = mean(y - β_c | explored) - mean(y - β_c | greedy)

in which how satisfied the person is in general cancels. D_u has sampling variance v_u = σ² (1/n₁ + 1/n₀) and is shrunk
to the population by empirical Bayes: τ_u ~ N(μ, ω²) with ω² by DerSimonian & Laird (1986), so
E[τ_u | D_u] = (ω² D_u + v_u μ) / (ω² + v_u) (Morris 1983, JASA 78:47-55). Decisions count half after `half_life_days`:
people change, and someone who is never explored any more is met with an open mind again in the end.

Negative tolerance: exploring displeases beyond what the arm itself is worth to people like them.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.stats.contract import require

__all__ = ["DECISIONS", "Population", "ToleranceConfig", "measure", "shrink"]

Floats = NDArray[np.float64]

DECISIONS = pl.Schema(
    {
        "agent": pl.String(),
        "user_id": pl.String(),
        "segment": pl.String(),  # null where it is not known
        "arm": pl.String(),
        "explore": pl.Boolean(),
        "reward": pl.Float64(),
        "reward_sd": pl.Float64(),
        "age_days": pl.Float64(),
    }
)
TOLERANCE = pl.Schema(
    {
        "agent": pl.String(),
        "user_id": pl.String(),
        "tolerance": pl.Float64(),  # shrunk, reward points
        "tolerance_sd": pl.Float64(),
        "difference": pl.Float64(),  # as measured; null without decisions of both kinds
        "explored": pl.Int64(),
        "greedy": pl.Int64(),
    }
)


@dataclass(frozen=True)
class ToleranceConfig:
    """Days after which a decision counts half, and the exploratory decisions an agent needs in all."""

    half_life_days: float = 60.0
    min_explored: int = 30
    prior_sd: float = 0.05  # of tolerance between people, where too few were explored to tell


@dataclass(frozen=True)
class Population:
    """Tolerance of an agent's users: mean with its sd, and sd between users. `basis` says what the mean rests on."""

    agent: str
    mean: float
    mean_sd: float
    between_sd: float
    users: int  # with decisions of both kinds
    explored: int
    basis: str  # measured, not identified, too few


def measure(
    decisions: pl.DataFrame, config: ToleranceConfig | None = None
) -> tuple[pl.DataFrame, dict[str, Population]]:
    """Tolerance of every user with decisions (columns TOLERANCE), and of each agent's population.

    `decisions` has one row per decision with a reward (columns DECISIONS). Raises: ContractError.
    """
    config = config or ToleranceConfig()
    decisions = require(
        decisions, DECISIONS, "decisions", not_null=["agent", "user_id", "arm", "explore", "reward"]
    )  # fmt: skip
    frames, populations = [pl.DataFrame(schema=TOLERANCE)], {}
    for own in decisions.partition_by("agent", maintain_order=True):
        frame, populations[own["agent"][0]] = _of_agent(own, config)
        frames.append(frame)
    return pl.concat(frames), populations


def shrink(
    difference: Floats, variance: Floats, config: ToleranceConfig, *, centre: bool
) -> tuple[float, float, float]:
    """Mean of the population, its variance, and the variance between users, from each user's difference.

    `difference` and its sampling `variance`: (users,), two at least. Without `centre` the mean is 0: it is not known.
    """
    weight = 1.0 / variance
    mean = float((weight * difference).sum() / weight.sum()) if centre else 0.0
    q = float((weight * (difference - mean) ** 2).sum())
    freedom = difference.size - (1 if centre else 0)
    scale = float(weight.sum() - ((weight**2).sum() / weight.sum() if centre else 0.0))
    between = max(0.0, (q - freedom) / scale)
    # Few users cannot show that they are all alike: the prior's spread counts as ten of them.
    between = (10.0 * config.prior_sd**2 + difference.size * between) / (10.0 + difference.size)
    total = 1.0 / (variance + between)
    mean = float((total * difference).sum() / total.sum()) if centre else 0.0
    return mean, float(1.0 / total.sum()) if centre else 0.0, between


def _of_agent(own: pl.DataFrame, config: ToleranceConfig) -> tuple[pl.DataFrame, Population]:
    agent = str(own["agent"][0])
    weighted = own.with_columns(
        w=pl.lit(0.5).pow(pl.col("age_days").fill_null(0.0).clip(0.0) / config.half_life_days),
        x=pl.col("explore").cast(pl.Float64),
    )
    effect, effect_sd, identified = _mean_effect(weighted)
    freed = weighted.with_columns(left=pl.col("reward") - (_mean("reward") - effect * _mean("x")))
    sides = freed.group_by("user_id", "explore").agg(
        mean=(pl.col("w") * pl.col("left")).sum() / pl.col("w").sum(),
        n=pl.len().cast(pl.Int64),
        inverse_n=(pl.col("w") ** 2).sum() / pl.col("w").sum() ** 2,
        squares=((pl.col("left") - pl.col("left").mean()) ** 2).sum(),
        noise=(pl.col("reward_sd").fill_null(0.0) ** 2).sum(),
    )
    degrees = int((sides["n"] - 1).sum())
    # Never less than a hundredth: rewards that all agree so far are no proof that they always will.
    variance = max(float(sides["squares"].sum()) / max(degrees, 1), 1e-4) + float(sides["noise"].sum()) / own.height
    explored = sides.filter("explore").select("user_id", mean_1="mean", explored="n", inverse_1="inverse_n")
    greedy = sides.filter(~pl.col("explore")).select("user_id", mean_0="mean", greedy="n", inverse_0="inverse_n")
    users = (
        sides.select("user_id").unique(maintain_order=False).sort("user_id")
        .join(explored, on="user_id", how="left").join(greedy, on="user_id", how="left")
        .with_columns(
            difference=pl.col("mean_1") - pl.col("mean_0"),
            v=variance * (pl.col("inverse_1") + pl.col("inverse_0")),
        )
    )  # fmt: skip
    both = users.drop_nulls("difference")
    total = int(users["explored"].sum())
    mean, mean_variance, between, basis = 0.0, 0.0, config.prior_sd**2, "too few"
    if total >= config.min_explored and both.height >= 2:
        difference, sampling = both["difference"].to_numpy(), both["v"].to_numpy()
        mean, mean_variance, between = shrink(difference, sampling, config, centre=identified)
        mean_variance = mean_variance + effect_sd**2 if identified else 0.0
        basis = "measured" if identified else "not identified"
    share = pl.lit(between) / (pl.lit(between) + pl.col("v"))
    frame = users.select(
        agent=pl.lit(agent),
        user_id="user_id",
        tolerance=pl.when(pl.col("v").is_null()).then(mean).otherwise(
            share * pl.col("difference") + (1.0 - share) * mean
        ),
        tolerance_sd=pl.when(pl.col("v").is_null())
        .then(between + mean_variance)
        .otherwise(share * pl.col("v") + (1.0 - share) ** 2 * mean_variance)
        .sqrt(),
        difference="difference",
        explored=pl.col("explored").fill_null(0),
        greedy=pl.col("greedy").fill_null(0),
    ).cast(TOLERANCE)  # fmt: skip
    return frame, Population(agent, mean, mean_variance**0.5, between**0.5, both.height, total, basis)


def _mean(column: str) -> pl.Expr:
    """The weighted mean of a column in each cell of segment and arm."""
    cell = ["segment", "arm"]
    return (pl.col("w") * pl.col(column)).sum().over(cell) / pl.col("w").sum().over(cell)


def _mean_effect(weighted: pl.DataFrame) -> tuple[float, float, bool]:
    """τ, its sd, and whether it can be told from the arms: some must be greedy for some and explored for others."""
    centred = weighted.select("w", x=pl.col("x") - _mean("x"), y=pl.col("reward") - _mean("reward"))
    information = float((centred["w"] * centred["x"] ** 2).sum())
    if information < 5.0:
        return 0.0, 0.0, False
    effect = float((centred["w"] * centred["x"] * centred["y"]).sum()) / information
    residual = centred["y"] - effect * centred["x"]
    meat = float(((centred["w"] * centred["x"] * residual) ** 2).sum())
    return effect, meat**0.5 / information, True
