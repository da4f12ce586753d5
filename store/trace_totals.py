"""What the spans of traces, and the statements about traces, add up to: functions of frames, one row a trace.

Tokens and cost are summed over the lowest spans that report them, so a parent that repeats its children's totals is not
counted twice.
"""

import polars as pl

from store.frames import UTC_TIME, conform, declare

STATED = ("agent", "agent_version", "user_id", "session_id", "task", "arm", "model_fingerprint", "decision_id")
"""What a span can say of the whole trace."""

SPANS = declare(
    {
        "row": pl.Int64, "trace_id": pl.String, "span_id": pl.String, "parent_span_id": pl.String, "ordinal": pl.Int32,
        "kind": pl.String, "name": pl.String, "started_at": UTC_TIME, "ended_at": UTC_TIME, "status": pl.String,
        "model": pl.String, "input_tokens": pl.Int64, "output_tokens": pl.Int64, "cost_usd": pl.Float64,
        "source": pl.String, **dict.fromkeys(STATED, pl.String), "has_input": pl.Boolean, "has_output": pl.Boolean,
    }
)  # fmt: skip
"""What is needed of a span, and the number by which its texts are found."""

RECORDS = declare(
    {
        "trace_id": pl.String, "content_hash": pl.UInt64, "source": pl.String, **dict.fromkeys(STATED, pl.String),
        "model": pl.String, "started_at": UTC_TIME, "ended_at": UTC_TIME, "status": pl.String, "input": pl.String,
        "output": pl.String, "input_tokens": pl.Int64, "output_tokens": pl.Int64, "cost_usd": pl.Float64,
        "metadata": pl.String,
    }
)  # fmt: skip
"""A statement about a trace; texts as previews."""

# Costs are added as whole millionths of a millionth of a dollar: a sum must not depend on the order in which spans
# arrived. From this many dollars on a cost is none.
_COST_PARTS = 1e12
_MOST_COST = 1e16

_LARGEST = pl.lit(2**63 - 1, pl.Int128)


def of_spans(spans: pl.DataFrame) -> pl.DataFrame:
    """What the spans (columns `SPANS`, each span once) of every trace add up to.

    Returns: `trace_id`; the columns that a trace takes over, null where no span says; `span_count`, `error_count` and
    `tool_count`; `last_status`, `root_status`, `root_name`, `agent_span_name`; `opening` and `closing`, the rows of the
    spans whose input opens the trace and whose output closes it: the root, else the first and last model call. A root
    has no parent in its trace; where parents form a circle the first step stands in.
    """
    # Steps in event time; the order of the rows is what everything below reads.
    ordered = conform(spans, SPANS).sort(
        "trace_id", "started_at", "ordinal", "span_id", nulls_last=[False, True, True, False]
    )
    steps = _with_family(ordered)
    totals = steps.group_by("trace_id", maintain_order=True).agg(_TOTALS)
    roots = steps.sort("has_parent", maintain_order=True).unique("trace_id", keep="first", maintain_order=True)
    found = (
        totals.join(_main_models(steps), on="trace_id", how="left")
        .join(roots.select(_OF_ROOT), on="trace_id")
        .select(_FOUND)
    )
    # Polars divides by a constant by multiplying: 0.1 would come out below 0.1.
    cost = pl.Series("cost_usd", found["cost_usd"].to_numpy() / _COST_PARTS).fill_nan(None)
    return found.with_columns(cost)


def of_records(records: pl.DataFrame) -> pl.DataFrame:
    """The statements (columns `RECORDS`) about every trace as one: each field from the latest one that states it."""
    ordered = conform(records, RECORDS).sort("trace_id", "ended_at", "content_hash", nulls_last=False)
    fields = [column for column in RECORDS.names() if column not in ("trace_id", "content_hash")]
    return ordered.group_by("trace_id", maintain_order=True).agg(
        *(pl.col(column).last(ignore_nulls=True) for column in fields)
    )


_TOKENS = ("input_tokens", "output_tokens")


def _cost_parts() -> pl.Expr:
    cost = pl.col("cost_usd")
    return pl.when(cost.is_finite() & (cost.abs() < _MOST_COST)).then(
        (cost * _COST_PARTS).round().cast(pl.Int128, strict=False)
    )


def _total(values: pl.Expr) -> pl.Expr:
    """The sum; null where nothing is added."""
    return pl.when(values.count() > 0).then(values.cast(pl.Int128).sum())


# Made once: live data asks for the totals of a few hundred spans several times a second, and making these each time
# was a third of what that took.
_REPORTED = (
    (pl.col("input_tokens").is_not_null() | pl.col("output_tokens").is_not_null()).any().alias("child_tokens"),
    _cost_parts().is_not_null().any().alias("child_cost"),
)
_TOTALS = (
    *(pl.col(column).first(ignore_nulls=True) for column in STATED),
    pl.col("name").filter(pl.col("kind") == "agent").first(ignore_nulls=True).alias("agent_span_name"),
    pl.col("started_at").min(),
    pl.coalesce("ended_at", "started_at").max().alias("ended_at"),
    *(_total(pl.col(column).filter(~pl.col("child_tokens"))).alias(column) for column in _TOKENS),
    _total(_cost_parts().filter(~pl.col("child_cost"))).alias("cost_usd"),
    pl.len().cast(pl.Int32).alias("span_count"),
    pl.col("status").last().alias("last_status"),
    (pl.col("status") == "error").sum().cast(pl.Int32).alias("error_count"),
    (pl.col("kind") == "tool").sum().cast(pl.Int32).alias("tool_count"),
    (~pl.col("has_parent")).sum().alias("roots"),
    pl.col("row").filter(pl.col("kind") == "llm").first().alias("first_call"),
    pl.col("row").filter(pl.col("kind") == "llm").last().alias("last_call"),
)
_OF_ROOT = (
    *map(pl.col, ("trace_id", "row", "has_input", "has_output", "source")),
    pl.col("status").alias("root_status"),
    pl.col("name").alias("root_name"),
)
_FOUND = (
    *map(pl.col, ("trace_id", "source", *STATED, "agent_span_name", "model", "started_at", "ended_at")),
    *(pl.col(column).clip(upper_bound=_LARGEST).cast(pl.Int64) for column in _TOKENS),
    pl.col("cost_usd").cast(pl.Float64),
    *map(pl.col, ("span_count", "error_count", "tool_count", "last_status")),
    pl.when(pl.col("roots") == 1).then("root_status").alias("root_status"),
    pl.col("root_name"),
    pl.when("has_input").then("row").otherwise(pl.coalesce("first_call", "row")).alias("opening"),
    pl.when("has_output").then("row").otherwise(pl.coalesce("last_call", "row")).alias("closing"),
)
_HAS_PARENT = pl.lit(True).alias("has_parent")
_NO_FAMILY = pl.col("child_tokens", "child_cost", "has_parent").fill_null(False)
_READ_AND_WRITTEN = sum((pl.col(column).fill_null(0).cast(pl.Int128) for column in _TOKENS), pl.lit(0, pl.Int128))


def _with_family(steps: pl.DataFrame) -> pl.DataFrame:
    """With `has_parent`, whether the parent is in the trace, and whether children report tokens and cost."""
    children = steps.filter(pl.col("parent_span_id").is_not_null())
    parents = children.group_by("trace_id", pl.col("parent_span_id").alias("span_id")).agg(_REPORTED)
    held = steps.select("trace_id", pl.col("span_id").alias("parent_span_id"), _HAS_PARENT)
    return (
        steps.join(parents, on=("trace_id", "span_id"), how="left", maintain_order="left")
        .join(held, on=("trace_id", "parent_span_id"), how="left", maintain_order="left")
        .with_columns(_NO_FAMILY)
    )


def _main_models(steps: pl.DataFrame) -> pl.DataFrame:
    """The model that read and wrote most in one span of each trace; of several the first."""
    return (
        steps.filter(pl.col("model").is_not_null())
        .select("trace_id", "model", _READ_AND_WRITTEN.alias("tokens"))
        .sort("tokens", descending=True, maintain_order=True)
        .unique("trace_id", keep="first", maintain_order=True)
        .select("trace_id", "model")
    )
