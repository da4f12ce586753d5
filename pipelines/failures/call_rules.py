"""Rules that read single calls: failed ones, refused ones, warnings, and the same call made again for nothing."""

import polars as pl

from pipelines.failures.axes import CANDIDATES

__all__ = ["failed_calls", "failed_traces", "loops", "refused", "warned"]

_STUBBORN = 4  # so often the same call is a loop even if it always failed: retrying a failure three times is no mistake


def loops(calls: pl.DataFrame) -> pl.DataFrame:
    """Loop: the same tool with identical arguments again, after the same call had succeeded.

    A call repeated because it failed is a retry, unless it was made `_STUBBORN` times. The evidence is the first call
    that could have been spared.
    """
    same = ["trace_key", "name", "call"]
    repeated = (
        calls.filter(pl.col("call").is_not_null() & (pl.col("kind") != "guardrail"))
        .filter(pl.len().over(same) > 1)
        .sort("trace_key", "position")
        .with_columns(
            nth=pl.int_range(1, pl.len() + 1).over(same),
            times=pl.len().over(same),
            succeeded_before=(~pl.col("failed")).cum_sum().over(same) - (~pl.col("failed")).cast(pl.UInt32),
        )
        .filter((pl.col("succeeded_before") > 0) | (pl.col("nth") >= _STUBBORN))
        .group_by(same, maintain_order=True)
        .first()
    )
    return _candidates(
        repeated,
        axis="loop",
        rule="repeated_call",
        strength=0.7,
        detail=pl.format("{} was called {} times with the same arguments", "name", "times"),
    )


def failed_calls(calls: pl.DataFrame) -> pl.DataFrame:
    """A failed call: wrong argument when the message blames what was passed, else the tool or its environment.

    One candidate a trace and tool, at its first failure. A failure that says nothing of its reason is put down to the
    environment with less confidence.
    """
    failed = (
        calls.filter(pl.col("failed") & (pl.col("kind") != "guardrail"))
        .sort("trace_key", "position")
        .group_by("trace_key", "name", "fault", maintain_order=True)
        .first()
    )
    blamed = pl.col("fault") == "argument"
    wrong = _candidates(
        failed.filter(blamed),
        axis="wrong_argument",
        rule="refused_arguments",
        strength=0.85,
        detail=pl.format("{} refused its arguments", "name"),
    )
    strength = pl.when(pl.col("fault") == "platform").then(0.9).otherwise(0.6)
    broken = _candidates(
        failed.filter(~blamed),
        axis="environment_error",
        rule="failed_call",
        strength=strength,
        detail=pl.format("{} failed", "name"),
    )
    return pl.concat([wrong, broken])


def warned(calls: pl.DataFrame) -> pl.DataFrame:
    """Wrong argument: the result warns that an argument was not understood or ignored."""
    first = calls.filter("warned").sort("trace_key", "position").group_by("trace_key", "name", maintain_order=True)
    return _candidates(
        first.first(),
        axis="wrong_argument",
        rule="warned_arguments",
        strength=0.8,
        detail=pl.format("{} warned that it did not use an argument as given", "name"),
    )


def refused(calls: pl.DataFrame) -> pl.DataFrame:
    """Policy violation: a guardrail failed or said no."""
    first = calls.filter("refused").sort("trace_key", "position").group_by("trace_key", "name", maintain_order=True)
    return _candidates(
        first.first(),
        axis="policy_violation",
        rule="refused_by_guardrail",
        strength=0.9,
        detail=pl.format("the guardrail {} was not passed", "name"),
    )


def failed_traces(traces: pl.DataFrame, answers: pl.DataFrame, explained: pl.DataFrame) -> pl.DataFrame:
    """Environment error: the trace ended in error although none of its calls failed (`explained`: those that did)."""
    ended = traces.filter("failed").join(explained.select("trace_key").unique(), on="trace_key", how="anti")
    rows = ended.join(answers.select("trace_key", "span_id"), on="trace_key", how="left")
    return _candidates(
        rows.with_columns(name=pl.lit(""), position=pl.lit(None, dtype=pl.Int32)),
        axis="environment_error",
        rule="failed_trace",
        strength=0.5,
        detail=pl.lit("the trace ended in error although no call of it failed"),
    )


def _candidates(
    rows: pl.DataFrame, *, axis: str, rule: str, strength: float | pl.Expr, detail: pl.Expr
) -> pl.DataFrame:
    return rows.select(
        "trace_key",
        axis=pl.lit(axis),
        rule=pl.lit(rule),
        subject=pl.col("name").fill_null(""),
        span_id="span_id",
        position=pl.col("position").cast(pl.Int32),
        strength=(pl.lit(strength) if isinstance(strength, float) else strength).cast(pl.Float64),
        detail=detail,
    ).select(list(CANDIDATES))
