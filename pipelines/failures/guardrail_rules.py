"""The rule that reads recorded violations of guardrails: a policy was broken, whatever came of it."""

import polars as pl

from pipelines.failures.axes import CANDIDATES

__all__ = ["VIOLATIONS", "against_guardrails"]

VIOLATIONS = pl.Schema(
    {
        "trace_id": pl.String(),
        "guardrail_id": pl.String(),
        "span_id": pl.String(),
        "kind": pl.String(),
        "detail": pl.String(),
    }
)


def against_guardrails(examined: pl.DataFrame, violations: pl.DataFrame) -> pl.DataFrame:
    """Policy violation: an audit found that the trace did what a guardrail forbids; one candidate a guardrail."""
    first = violations.sort("trace_id", "guardrail_id", "span_id", nulls_last=True).unique(
        ["trace_id", "guardrail_id"], keep="first", maintain_order=True
    )
    return (
        first.join(examined.select("trace_id", "trace_key"), on="trace_id")
        .select(
            "trace_key",
            axis=pl.lit("policy_violation"),
            rule=pl.lit("against_guardrail"),
            subject=pl.format("{} {}", "kind", "guardrail_id"),
            span_id="span_id",
            position=pl.lit(None, dtype=pl.Int32),
            strength=pl.lit(0.95),
            detail="detail",
        )
        .cast(dict(CANDIDATES))  # type: ignore[arg-type]
    )
