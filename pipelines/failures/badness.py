"""Which traces went badly, and which are compared with them.

A trace is bad when its status is error, when its verified outcome is below one half, or when its mean reward is below
`reward_below` or in the lowest `lowest_share` of its agent's rewards and at least `clearly_below` under their median
(an agent whose rewards hardly differ has no lowest traces worth a cause).
"""

from dataclasses import dataclass

import polars as pl

from pipelines.stats.contract import require
from store.errors import SettingsError
from store.failures import TRACES

__all__ = ["TRACES", "FailureConfig", "examined", "mark", "thresholds"]

_NO_AGENT = ""


@dataclass(frozen=True)
class FailureConfig:
    """Thresholds of badness, how much is examined, and when a learnt rule is believed.

    most_good        good traces examined beside all bad ones: what rules learn from and are weighed against
    min_support      good rollouts behind anything that is learnt of an agent
    usual            share of good rollouts from which a step, an order or a shape of arguments is what is usual
    min_confidence   a finding of a learnt rule is left out below it
    prior_sd         how far the share that a finding explains may be from its rule's own strength
    min_judged       traces with signals of their own from which rules are weighed on them alone
    """

    reward_below: float = 0.5
    lowest_share: float = 0.2
    clearly_below: float = 0.05
    most_good: int = 100_000
    min_support: int = 30
    min_task_support: int = 10
    usual: float = 0.7
    min_confidence: float = 0.2
    prior_sd: float = 0.25
    min_judged: int = 200

    def __post_init__(self) -> None:
        for name in ("reward_below", "lowest_share", "clearly_below", "min_confidence"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise SettingsError(f"failures {name}", getattr(self, name), "a number from 0 and below 1")
        if not 0.5 < self.usual < 1.0:
            raise SettingsError("failures usual", self.usual, "a number above .5 and below 1")
        if min(self.most_good, self.min_support, self.min_task_support, self.prior_sd) <= 0:
            limits = (self.most_good, self.min_support, self.min_task_support, self.prior_sd)
            raise SettingsError("failures most_good, min_support, min_task_support, prior_sd", limits, "above 0")


def thresholds(traces: pl.DataFrame, config: FailureConfig) -> pl.DataFrame:
    """Per agent the reward below which a trace is bad: columns agent, threshold, median, rewarded."""
    traces = require(traces, TRACES, "traces to label", not_null=["trace_id", "trace_key"], unit_interval=["reward"])
    low = pl.col("reward").quantile(config.lowest_share, interpolation="higher")
    return (
        traces.with_columns(pl.col("agent").fill_null(_NO_AGENT))
        .group_by("agent")
        .agg(low=low, median=pl.col("reward").median(), rewarded=pl.col("reward").count().cast(pl.Int64))
        .with_columns(
            threshold=pl.max_horizontal(
                pl.lit(config.reward_below), pl.min_horizontal("low", pl.col("median") - config.clearly_below)
            )
        )
        .select("agent", "threshold", "median", "rewarded")
        .sort("agent")
    )


def mark(traces: pl.DataFrame, config: FailureConfig) -> pl.DataFrame:
    """The traces with `bad` (Boolean), `agent` filled with '' where none is stated, and `judged`.

    `judged`: the trace has signals of its own. Raises ContractError for a wrong frame or a reward outside 0 to 1.
    """
    limits = thresholds(traces, config)
    return (
        traces.with_columns(pl.col("agent").fill_null(_NO_AGENT))
        .join(limits.select("agent", "threshold"), on="agent", how="left")
        .with_columns(
            bad=pl.col("failed").fill_null(False)
            | (pl.col("outcome") < 0.5).fill_null(False)
            | (pl.col("reward") < pl.col("threshold")).fill_null(False),
            judged=pl.col("failed").fill_null(False) | (pl.col("signals") > 0) | pl.col("outcome").is_not_null(),
        )
        .drop("threshold")
    )


def examined(marked: pl.DataFrame, config: FailureConfig) -> pl.DataFrame:
    """All bad traces and at most `most_good` of the others, the same ones every time, with the column `weight`.

    `weight` is how many traces one row stands for: 1 for bad ones, 1 / sampling share for the others. Traces that are
    neither bad nor have a reward, an outcome or the status ok say nothing and are left out.
    """
    telling = pl.col("reward").is_not_null() | pl.col("outcome").is_not_null()
    good = marked.filter(~pl.col("bad") & telling)
    kept = good.sort("trace_key").head(config.most_good) if good.height > config.most_good else good
    weight = good.height / kept.height if kept.height else 1.0
    return pl.concat(
        [marked.filter("bad").with_columns(weight=pl.lit(1.0)), kept.with_columns(weight=pl.lit(weight))]
    ).sort("trace_key")
