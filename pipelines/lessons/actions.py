"""The actions of rollouts: calls of tools, retrievers and guardrails, in the order in which they were made."""

from typing import Final

import polars as pl

from pipelines.stats.contract import require
from store.failures import ACTION_KINDS
from store.lessons import STEPS

__all__ = ["ACTIONS", "ACTION_KINDS", "CALLS", "actions", "compact"]

ACTIONS = pl.Schema(
    {
        "trace_id": pl.String(),
        "span_id": pl.String(),
        "step": pl.Int64(),  # 1, 2, ... among the actions of the trace
        "name": pl.String(),
        "failed": pl.Boolean(),
        "arguments": pl.String(),  # the input without white space, to tell whether two calls are the same
        "input": pl.String(),
        "output": pl.String(),
    }
)

# Calls without their texts, as `store.failures.CALLS` has them: what a contrast of a million traces holds in memory.
CALLS: Final = pl.Schema(
    {
        "trace_key": pl.UInt64(),
        "position": pl.Int32(),  # 1, 2, ... among the actions of the trace
        "kind": pl.Categorical(),
        "name": pl.Categorical(),
        "failed": pl.Boolean(),
        "fault": pl.Categorical(),  # of a failed one: argument, platform or other
        "call": pl.UInt64(),  # hash of name and arguments
        "shape": pl.Categorical(),  # the arguments with every value replaced by its type; null where they are not JSON
    }
)


def actions(steps: pl.DataFrame, kinds: tuple[str, ...] = ACTION_KINDS) -> pl.DataFrame:
    """The spans that are actions (columns ACTIONS), renumbered from 1 within each trace in the order of `step`.

    `steps` has the columns STEPS. A span without a name is called by its kind; a call failed if its status is error.
    """
    steps = require(steps, STEPS, "lesson steps", not_null=["trace_id", "span_id", "step", "kind"])
    return (
        steps.filter(pl.col("kind").is_in(list(kinds)))
        .sort("trace_id", "step", "span_id")
        .select(
            "trace_id",
            "span_id",
            step=pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("trace_id"),
            name=pl.coalesce("name", "kind"),
            failed=(pl.col("status") == "error").fill_null(False),
            arguments=pl.col("input").str.replace_all(r"\s+", ""),
            input="input",
            output="output",
        )
    )


def compact(calls: pl.DataFrame) -> pl.DataFrame:
    """Calls as the store gives them (`store.failures.CALLS`) in the columns CALLS: a third of the memory."""
    return calls.select(list(CALLS)).cast(CALLS)
