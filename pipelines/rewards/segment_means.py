"""Mean reward of every arm in every segment, over all traces, with standard deviations clustered by person."""

from collections.abc import Mapping

import polars as pl

from pipelines.rewards.means import shared_variance
from store.reward_versions import SEGMENT_MEANS

__all__ = ["SEGMENT_MEANS", "segment_means"]


def segment_means(rewarded: pl.DataFrame, common: Mapping[str | None, float] | None = None) -> pl.DataFrame:
    """Means by agent, arm and segment (columns SEGMENT_MEANS) of traces with agent, arm, segment, user_id, mean, sd and
    signals.

    The variance of a mean is that of its people's sums around it, (G / (G - 1)) sum_g (sum (r - mean))^2 / N^2, plus
    the rewards' own, plus the square of what all traces of an agent err by alike (`common`, by agent). `n` counts
    traces with signals of their own. Traces without an arm are left out.
    """
    by = ["agent", "arm", "segment"]
    rows = rewarded.filter(pl.col("arm").is_not_null() & pl.col("agent").is_not_null()).with_columns(
        centred=pl.col("mean") - pl.col("mean").mean().over(by),
        person=pl.col("user_id").fill_null("nobody named"),
    )
    people = rows.group_by(*by, "person").agg(
        pl.col("centred").sum(),
        total=pl.col("mean").sum(),
        variance=(pl.col("sd") ** 2).sum(),
        n=(pl.col("signals") > 0).sum(),
        traces=pl.len(),
    )
    return (
        people.group_by(by)
        .agg(
            mean=pl.col("total").sum() / pl.col("traces").sum(),
            between=(pl.col("centred") ** 2).sum() * pl.len() / (pl.len() - 1).clip(lower_bound=1),
            own=pl.col("variance").sum(),
            n=pl.col("n").sum().cast(pl.Int64),
            traces=pl.col("traces").sum().cast(pl.Int64),
            users=pl.len().cast(pl.Int64),
        )
        .with_columns(
            sd=pl.when(pl.col("users") > 1).then(
                ((pl.col("between") + pl.col("own")) / pl.col("traces") ** 2 + shared_variance(common or {})).sqrt()
            )
        )
        .sort(by, nulls_last=True)
        .select(list(SEGMENT_MEANS))
    )
