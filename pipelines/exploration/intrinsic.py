"""Where the next exploratory decision teaches most, and whom to ask what they think.

Interest of a task group, 0 to 1: 1 - (1 - learning progress)(1 - novelty). Learning progress is how much the newer half
of the data lowered the loss on held-out traces (Schmidhuber 1991; Oudeyer, Kaplan & Hafner 2007), counted only where it
is above 0 beyond its error, and on a scale where a drop of `MUCH` nats a step is much; novelty is the count bonus
1 / sqrt(n + 1). Raw surprise has no part in it: what is random by nature surprises for ever and teaches nothing.

Whom to ask: those about whom the least is known, and who answered the least. The weight multiplies the agent's solicit
rate and has mean 1, so that as many are asked as the operator allowed; its logged propensity says who was asked how.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.exploration.information_value import looks

__all__ = ["ASK", "GROUPS", "groups", "interest", "interest_of_users", "solicit_weights"]

Floats = NDArray[np.float64]

MUCH = 0.05
_LEAST_WEIGHT, _MOST_WEIGHT = 0.25, 4.0

GROUPS = pl.Schema(
    {
        "agent": pl.String(),
        "task": pl.String(),
        "traces": pl.Int64(),
        "users": pl.Int64(),
        "novelty": pl.Float64(),
        "progress": pl.Float64(),
        "progress_lower": pl.Float64(),  # 95 %
        "interest": pl.Float64(),
        "arm": pl.String(),  # where a look teaches most; null with fewer than two arms
        "worth": pl.Float64(),  # of that look, reward points over the decisions of the horizon
        "reason": pl.String(),
    }
)
ASK = pl.Schema({"user_id": pl.String(), "weight": pl.Float64(), "answers": pl.Int64(), "reason": pl.String()})


def interest(tasks: pl.DataFrame) -> pl.DataFrame:
    """Tasks (columns of `store.exploration_evidence.TASKS`) with `progress_lower` and `interest`; unknown counts 0."""
    lower = pl.col("progress") - 1.96 * pl.col("progress_se").fill_null(0.0)
    learnt = pl.when(lower > 0.0).then(1.0 - (-pl.col("progress") / MUCH).exp()).otherwise(0.0)
    new = pl.col("novelty").fill_null(0.0)
    return tasks.with_columns(
        progress_lower=lower, interest=(1.0 - (1.0 - learnt.fill_null(0.0)) * (1.0 - new)).clip(0.0, 1.0)
    )


def interest_of_users(tasks: pl.DataFrame, user_tasks: pl.DataFrame) -> pl.DataFrame:
    """The mean interest of the tasks that each user brings (agent, user_id, progress), by how often they do."""
    scored = user_tasks.join(interest(tasks).select("agent", "task", "interest"), on=["agent", "task"], how="inner")
    return scored.group_by("agent", "user_id").agg(
        progress=(pl.col("interest") * pl.col("traces")).sum() / pl.col("traces").sum()
    )


def groups(
    tasks: pl.DataFrame, arms: pl.DataFrame, *, noise: dict[str, float], prior_sd: float = 0.1, limit: int = 200
) -> pl.DataFrame:
    """Task groups by what the next exploratory decision there teaches, the most first (columns GROUPS).

    Args: `arms` one row per agent, task and arm with the `mean` of its rewards and their number `n`, in this task;
    `noise` the sd of one reward by agent. Means are shrunk to the agent's arm by the prior sd between tasks.
    """
    scored = interest(tasks)
    pooled = arms.group_by("agent", "arm").agg(
        centre=(pl.col("mean") * pl.col("n")).sum() / pl.col("n").sum(), total=pl.col("n").sum()
    )
    rows = []
    for (agent, task), own in (
        arms.join(pooled, on=["agent", "arm"])
        .sort("agent", "task", "arm")
        .group_by("agent", "task", maintain_order=True)
    ):
        every = pooled.filter(agent=agent).sort("arm")
        if every.height < 2:
            continue
        sd = max(noise.get(str(agent), 0.3), 1e-6)
        joined = every.join(own.select("arm", "mean", "n"), on="arm", how="left", maintain_order="left")
        n = joined["n"].fill_null(0).to_numpy().astype(np.float64)
        centre = joined["centre"].to_numpy()
        variance = prior_sd**2 + sd**2 / joined["total"].to_numpy()
        share = variance / (variance + sd**2 / np.maximum(n, 1e-9))
        mean = centre + np.where(n > 0, share * (joined["mean"].fill_null(0.0).to_numpy() - centre), 0.0)
        left = np.sqrt(np.where(n > 0, variance * (1.0 - share), variance))
        taught = looks(mean, left, sd, float(n.sum()), mean.max() - mean).worth
        best = int(taught.argmax())
        rows.append((agent, task, joined["arm"][best], float(taught[best])))
    worth = pl.DataFrame(
        rows, schema={"agent": pl.String, "task": pl.String, "arm": pl.String, "worth": pl.Float64}, orient="row"
    )
    joined_groups = scored.join(worth, on=["agent", "task"], how="left")
    shown = joined_groups.with_columns(
        reason=pl.concat_str(
            pl.when(pl.col("arm").is_not_null())
            .then(
                pl.concat_str(
                    pl.lit("A look at "),
                    "arm",
                    pl.lit(" is expected to be worth "),
                    pl.col("worth").round(3).cast(pl.String),
                    pl.lit(" reward points to the decisions ahead."),
                )
            )
            .otherwise(pl.lit("Too few rewards to compare arms here.")),
            pl.when(pl.col("progress_lower") > 0.0)
            .then(pl.lit(" What follows what is still being learnt here."))
            .otherwise(pl.lit("")),
            pl.when(pl.col("novelty") > 0.1)
            .then(pl.lit(" Its steps were seen only a few times."))
            .otherwise(pl.lit("")),
        )
    )
    order = [pl.col("worth").fill_null(0.0) * (1.0 + pl.col("interest")), pl.col("interest"), pl.col("traces")]
    ranked = shown.sort([*order, pl.col("agent"), pl.col("task")], descending=[True, True, True, False, False])
    return ranked.select(list(GROUPS)).cast(GROUPS).head(limit)


def solicit_weights(sd: Floats, answers: pl.DataFrame, typical_sd: float) -> pl.DataFrame:
    """By what to multiply the solicit rate of each user (columns ASK), mean 1, from 1/4 to 4; the highest first.

    Args: `answers` (user_id, answers) as `store.exploration_evidence.asked`; `sd` (users,) in that order, of the
    posterior of their greedy arm; `typical_sd` of the agent's users.
    """
    given = answers["answers"].to_numpy().astype(np.float64)
    raw = (np.asarray(sd) / max(typical_sd, 1e-9)) / np.sqrt(1.0 + given)
    weight = np.clip(raw / max(float(raw.mean()) if raw.size else 1.0, 1e-9), _LEAST_WEIGHT, _MOST_WEIGHT)
    weight = weight / (float(weight.mean()) if raw.size else 1.0)
    return answers.select(
        "user_id",
        weight=pl.Series(weight, dtype=pl.Float64),
        answers="answers",
        reason=pl.concat_str(
            pl.when(pl.col("answers") == 0)
            .then(pl.lit("Never gave an answer that was asked for; "))
            .otherwise(pl.concat_str(pl.lit("Gave "), pl.col("answers").cast(pl.String), pl.lit(" answers; "))),
            pl.lit("what the best arm is worth to them is known to ± "),
            pl.Series(np.round(sd, 3), dtype=pl.Float64).cast(pl.String),
            pl.lit("."),
        ),
    ).sort("weight", "user_id", descending=[True, False])
