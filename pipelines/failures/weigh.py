"""How far a finding explains a bad trace: how often it holds in bad and in good ones, and the label that follows.

The attributable share 1 - P(bad | finding absent) / P(bad | finding present) is the excess fraction among the exposed
(Robins & Greenland 1989, Stat Med 8:845): the probability that the finding is why, if nothing else goes with it. It is
measured per agent, rule and subject, with the log-risk-ratio interval of Katz et al. (1978, Biometrics 34:469).
A good trace stands for `weight` of them where only some were examined.
"""

from typing import Final

import polars as pl

from pipelines.failures.axes import DOING, HARD, UNKNOWN
from pipelines.failures.badness import FailureConfig
from store.failures import LABELS, RULES

__all__ = ["LABELS", "RULES", "labels", "weigh"]

_GROUP: Final = ("agent", "axis", "rule", "subject")
_MOST_LABELS: Final = 5  # of one trace
_LATE: Final = 2**31 - 1
_Z95: Final = 1.959963984540054


def weigh(examined: pl.DataFrame, candidates: pl.DataFrame, config: FailureConfig) -> pl.DataFrame:
    """How often each finding holds in bad and good traces of its agent, and its attributable share (columns RULES).

    `examined` as `badness.examined` gives it. Where an agent has `min_judged` traces with signals of their own on which
    both sides are seen, only those count: the reward of the others is what traces like them got.
    """
    counted = _weighed_on(examined, config)
    held = candidates.select("trace_key", "axis", "rule", "subject").unique()
    held = held.join(counted.select("trace_key", "agent", "bad", "weight"), on="trace_key")
    totals = counted.group_by("agent").agg(
        bad_traces=pl.col("bad").sum(),
        good_traces=(~pl.col("bad")).sum(),
        bad_weight=pl.col("weight").filter("bad").sum(),
        good_weight=pl.col("weight").filter(~pl.col("bad")).sum(),
    )
    found = (
        held.group_by(_GROUP)
        .agg(
            bad=pl.col("bad").sum(),
            good=(~pl.col("bad")).sum(),
            bad_with=pl.col("weight").filter("bad").sum(),
            good_with=pl.col("weight").filter(~pl.col("bad")).sum(),
        )
        .join(totals, on="agent")
        .sort(_GROUP)
    )
    # Half a trace is added to every cell, so that a finding never seen in good traces is no certainty.
    b1, g1 = pl.col("bad_with") + 0.5, pl.col("good_with") + 0.5
    b0, g0 = pl.col("bad_weight") - pl.col("bad_with") + 0.5, pl.col("good_weight") - pl.col("good_with") + 0.5
    with_, without = b1 / (b1 + g1), b0 / (b0 + g0)
    # By the delta method with Poisson cells: a good trace that stands for w of them adds w times its variance.
    each = (pl.col("good_weight") / pl.col("good_traces")).fill_nan(1.0)
    of_with = (1.0 - with_) ** 2 / b1 + each * g1 / (b1 + g1) ** 2
    of_without = (1.0 - without) ** 2 / b0 + each * g0 / (b0 + g0) ** 2
    error = (of_with + of_without).sqrt()
    ratio = (without / with_).log()
    # With one side only there is nothing to compare with.
    told = (pl.col("bad_traces") > 0) & (pl.col("good_traces") > 0)
    return found.with_columns(
        attributable=pl.when(told).then(1.0 - ratio.exp()),
        lower=pl.when(told).then(1.0 - (ratio + _Z95 * error).exp()),
        upper=pl.when(told).then(1.0 - (ratio - _Z95 * error).exp()),
    ).select(pl.col(name).cast(dtype) for name, dtype in RULES.items())


def labels(
    examined: pl.DataFrame, candidates: pl.DataFrame, rules: pl.DataFrame, config: FailureConfig
) -> pl.DataFrame:
    """The causes of every bad trace by rank, at least one each (columns LABELS).

    confidence is the normal posterior mean of the share explained: the rule's strength with `prior_sd` and the measured
    attributable share with the width of its interval, each by its precision, cut to 0..1. Learnt findings below
    `min_confidence` are left out. Rank: whose doing it is (`axes`), then confidence, then the earlier evidence (the
    first failure of a trace is its root cause in most annotated ones, LESSONS A.18).
    """
    bad = examined.filter("bad").select("trace_id", "trace_key", "agent")
    precision = (2.0 * _Z95 / (pl.col("upper") - pl.col("lower"))) ** 2
    measured = rules.select(*_GROUP, precision=precision, share="attributable")
    prior = config.prior_sd**-2
    scored = (
        candidates.join(bad, on="trace_key")
        .join(measured, on=list(_GROUP), how="left")
        .with_columns(pl.col("precision").fill_null(0.0), pl.col("share").fill_null(0.0))
        .with_columns(
            confidence=(
                (prior * pl.col("strength") + pl.col("precision") * pl.col("share")) / (prior + pl.col("precision"))
            ).clip(0.0, 1.0)
        )
        .filter(pl.col("rule").is_in(sorted(HARD)) | (pl.col("confidence") >= config.min_confidence))
    )
    nothing = bad.join(scored.select("trace_key"), on="trace_key", how="anti").select(
        "trace_id",
        rank=pl.lit(1, dtype=pl.Int32),
        axis=pl.lit(UNKNOWN),
        origin=pl.lit("rule"),
        rule=pl.lit("no_finding"),
        span_id=pl.lit(None, dtype=pl.String),
        confidence=pl.lit(0.0),
        detail=pl.lit("no rule found a cause"),
    )
    ranked = (
        scored.with_columns(
            doing=pl.col("axis").replace_strict(DOING, return_dtype=pl.Int32),
            place=pl.col("position").fill_null(_LATE),
        )
        .sort(
            ["trace_id", "doing", "confidence", "place", "axis", "rule", "subject"],
            descending=[False, False, True, False, False, False, False],
        )
        .with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("trace_id"), origin=pl.lit("rule"))
        .filter(pl.col("rank") <= _MOST_LABELS)
    )
    return pl.concat([ranked.select(list(LABELS)), nothing.select(list(LABELS))]).sort("trace_id", "rank")


def _weighed_on(examined: pl.DataFrame, config: FailureConfig) -> pl.DataFrame:
    sides = (
        examined.filter("judged")
        .group_by("agent")
        .agg(judged_bad=pl.col("bad").sum(), judged_good=(~pl.col("bad")).sum())
    )
    enough = sides.filter(
        (pl.col("judged_bad") + pl.col("judged_good") >= config.min_judged)
        & (pl.min_horizontal("judged_bad", "judged_good") > 0)
    )
    return examined.filter(pl.col("judged") | ~pl.col("agent").is_in(enough["agent"].to_list()))
