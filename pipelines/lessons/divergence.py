"""Where two rollouts of a task part: the first step at which best and worst differ (as AutoGuide, arXiv 2403.08978)."""

from typing import Final

import polars as pl

__all__ = ["DIVERGENCES", "first_differences"]

DIVERGENCES: Final = pl.Schema(
    {
        "agent": pl.String(),
        "task": pl.String(),
        "kind": pl.String(),  # action, arguments, none (the difference is not in the actions)
        "step": pl.Int32(),  # of the first difference; null when none
        "previous_action": pl.String(),
        "best_action": pl.String(),  # null: that rollout takes no further action
        "worst_action": pl.String(),
        "best_span_id": pl.String(),
        "worst_span_id": pl.String(),
    }
)


def first_differences(groups: pl.DataFrame, calls: pl.DataFrame) -> pl.DataFrame:
    """One row (columns DIVERGENCES) per row of `groups`, which has agent, task, best_key and worst_key, in its order.

    The first step at which the action differs; where none does, the first at which its arguments do. `calls` has
    trace_key, position, name, call and span_id of the actions of these traces (`store.failures.CALLS`).
    """
    pairs = groups.select("agent", "task", "best_key", "worst_key").with_row_index("pair")
    steps = calls.select("trace_key", "position", pl.col("name").cast(pl.String), "call", "span_id")
    best = pairs.select("pair", trace_key="best_key").join(steps, on="trace_key").drop("trace_key")
    worst = pairs.select("pair", trace_key="worst_key").join(steps, on="trace_key").drop("trace_key")
    both = best.join(worst, on=["pair", "position"], how="full", coalesce=True, suffix="_worst").sort(
        "pair", "position"
    )
    other_action = ~pl.col("name").eq_missing(pl.col("name_worst"))
    other_call = ~pl.col("call").eq_missing(pl.col("call_worst"))
    marked = both.with_columns(
        previous=pl.col("name").shift(1).over("pair"),
        kind=pl.when(other_action).then(pl.lit("action")).when(other_call).then(pl.lit("arguments")),
    )
    first = (
        marked.filter(pl.col("kind").is_not_null())
        .sort("pair", "kind", "position")  # action before arguments
        .unique("pair", keep="first", maintain_order=True)
    )
    return (
        pairs.join(first, on="pair", how="left", maintain_order="left")
        .select(
            "agent", "task", kind=pl.col("kind").fill_null("none"), step="position", previous_action="previous",
            best_action="name", worst_action="name_worst", best_span_id="span_id", worst_span_id="span_id_worst",
        )
        .cast(DIVERGENCES)
    )  # fmt: skip
