"""What people and tasks add to a prediction: random intercepts by empirical Bayes on out-of-fold residuals.

    r_i = u_user + t_task + e_i,   e_i ~ N(0, s^2 + 1 / precision_i),   u ~ N(0, tau_u^2),   t ~ N(0, tau_t^2)

The variance of an effect is the covariance of different rows of one group, which the rows' own noise cannot reach:

    tau^2 = sum_g [(sum w r)^2 - sum (w r)^2] / sum_g [(sum w)^2 - sum w^2]        (method of moments)

The effect that a row gets is the posterior given the *other* rows of its group, those of its opposite group (the same
person on the same task) left out too, so that nothing a row says of itself enters what is expected of it.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

__all__ = ["Effect", "GroupEffects", "fit_effects", "known_effect"]

Floats = NDArray[np.float64]

_ROUNDS = 3


@dataclass(frozen=True)
class Effect:
    """One grouping: `variance` between groups, `mean` and `sd2` of every row's effect from the others, and the sums
    `table` (name, weighted, weight) that give a later row its effect.
    """

    variance: float
    mean: Floats
    sd2: Floats
    table: pl.DataFrame
    groups: int


@dataclass(frozen=True)
class GroupEffects:
    """Effects of people and tasks, and the variance of a trace's quality around them."""

    users: Effect
    tasks: Effect
    residual: float


def fit_effects(
    residual: Floats, precision: Floats, users: pl.Series, tasks: pl.Series, *, least: int = 10
) -> GroupEffects:
    """Estimate both groupings, in turns.

    Args: `residual` and `precision` of every trace; precision 0: it has no evidence and only receives effects. `least`
    groups with two or more traces are needed for a variance, else it is zero.
    """
    known = precision > 0.0
    noise = 1.0 / np.where(known, precision, 1.0)
    total = _weighted(residual**2 - noise, 1.0 / (1.0 + noise) ** 2, known)
    spread = max(total, 0.05)
    pairs = _pairs(users, tasks)
    none = Effect(0.0, np.zeros(len(residual)), np.zeros(len(residual)), _TABLE, 0)
    user, task = none, none
    for _ in range(_ROUNDS):
        # What is not known of the other grouping is noise here.
        task = _effect(
            residual - user.mean, np.where(known, 1.0 / (spread + noise + user.sd2), 0.0), tasks, pairs, least
        )
        user = _effect(
            residual - task.mean, np.where(known, 1.0 / (spread + noise + task.sd2), 0.0), users, pairs, least
        )
        spread = max(total - user.variance - task.variance, 0.05)
    left = (residual - user.mean - task.mean) ** 2 - noise - user.sd2 - task.sd2
    return GroupEffects(user, task, max(_weighted(left, 1.0 / (spread + noise) ** 2, known), 0.02))


def known_effect(effect: Effect, names: pl.Series) -> tuple[Floats, Floats]:
    """Mean and variance of the effect of each named group; nothing but the prior for a group never seen."""
    rows = pl.DataFrame({"name": names.cast(pl.String)}).join(
        effect.table, on="name", how="left", maintain_order="left"
    )
    weighted, weight = rows["weighted"].fill_null(0.0).to_numpy(), rows["weight"].fill_null(0.0).to_numpy()
    shrink = effect.variance / (1.0 + effect.variance * weight)
    return weighted * shrink, shrink


_TABLE = pl.DataFrame(schema={"name": pl.String(), "weighted": pl.Float64(), "weight": pl.Float64()})


def _pairs(users: pl.Series, tasks: pl.Series) -> pl.Series:
    """A number for each (person, task); null where either is not known."""
    frame = pl.DataFrame({"user": users, "task": tasks})
    return frame.select(
        pl.when(pl.col("user").is_not_null() & pl.col("task").is_not_null()).then(
            pl.struct("user", "task").rank("dense")
        )
    ).to_series()


def _effect(residual: Floats, weight: Floats, names: pl.Series, pairs: pl.Series, least: int) -> Effect:
    frame = pl.DataFrame({"name": names.cast(pl.String), "pair": pairs, "wr": weight * residual, "w": weight})
    sums = frame.filter(pl.col("name").is_not_null() & (pl.col("w") > 0)).group_by("name").agg(
        weighted=pl.col("wr").sum(), weight=pl.col("w").sum(), squares=(pl.col("wr") ** 2).sum(),
        weights=(pl.col("w") ** 2).sum(), n=pl.len(),
    )  # fmt: skip
    several = sums.filter(pl.col("n") > 1)
    variance = 0.0
    if several.height >= least:
        crossed = float((several["weighted"] ** 2 - several["squares"]).sum())
        variance = max(crossed / float((several["weight"] ** 2 - several["weights"]).sum()), 0.0)
    # A row without a partner on the same pair leaves out itself alone.
    own = (
        frame.with_columns(
            pair_wr=pl.when(pl.col("pair").is_null()).then("wr").otherwise(pl.col("wr").sum().over("pair")),
            pair_w=pl.when(pl.col("pair").is_null()).then("w").otherwise(pl.col("w").sum().over("pair")),
        )
        .join(sums.select("name", "weighted", "weight"), on="name", how="left", maintain_order="left")
        .select(
            weighted=(pl.col("weighted") - pl.col("pair_wr")).fill_null(0.0),
            weight=(pl.col("weight") - pl.col("pair_w")).fill_null(0.0).clip(lower_bound=0.0),
        )
    )
    shrink = variance / (1.0 + variance * own["weight"].to_numpy())
    unnamed = names.is_null().to_numpy()
    return Effect(
        variance,
        np.where(unnamed, 0.0, own["weighted"].to_numpy() * shrink),
        np.where(unnamed, variance, shrink),
        sums.select("name", "weighted", "weight").sort("name"),
        sums.height,
    )


def _weighted(values: Floats, weight: Floats, known: NDArray[np.bool_]) -> float:
    weight = np.where(known, weight, 0.0)
    return float((values * weight).sum() / max(float(weight.sum()), 1e-12))
