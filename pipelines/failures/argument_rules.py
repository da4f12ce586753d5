"""Arguments whose type is not the usual one for their tool, as learnt from good rollouts.

The shape of a call is its JSON arguments with every value replaced by its type (`store.failures.CALLS`). Shapes are few
even where calls are many, so they are read once each; an argument that is usually of one type makes the others odd.
"""

import json
from typing import Final

import polars as pl

from pipelines.failures.axes import CANDIDATES
from pipelines.failures.badness import FailureConfig

__all__ = ["odd_arguments"]

_MOST_SHAPES = 500  # of one tool: more of them, and its arguments are free-form
_TYPES: Final = {
    "D": "a date", "N": "a number as text", "S": "text", "0": "a number", "B": "true or false", "_": "null",
    "A": "a list", "O": "an object",
}  # fmt: skip
_READ = pl.Schema({"shape": pl.String(), "argument": pl.String(), "type": pl.String()})


def odd_arguments(traces: pl.DataFrame, calls: pl.DataFrame, config: FailureConfig) -> pl.DataFrame:
    """Wrong argument: a type that good rollouts hardly pass for this argument of this tool.

    Usual is a type with at least the share `usual` of `min_support` or more calls of good rollouts. Null and absent
    arguments are choices, not types, and are left out.
    """
    shaped = calls.filter(pl.col("shape").is_not_null() & (pl.col("kind") == "tool"))
    owned = shaped.join(traces.select("trace_key", "agent", "bad"), on="trace_key")
    kept = owned.filter(pl.col("shape").n_unique().over("agent", "name") <= _MOST_SHAPES)
    types = _types(kept["shape"].unique().to_list())
    seen = (
        kept.filter(~pl.col("bad"))
        .group_by("agent", "name", "shape")
        .agg(calls=pl.len())
        .join(types, on="shape")
        .group_by("agent", "name", "argument", "type")
        .agg(pl.col("calls").sum())
        .with_columns(share=pl.col("calls") / pl.col("calls").sum().over("agent", "name", "argument"))
        .with_columns(all=pl.col("calls").sum().over("agent", "name", "argument"))
    )
    usual = seen.filter((pl.col("share") >= config.usual) & (pl.col("all") >= config.min_support)).select(
        "agent", "name", "argument", usual="type"
    )
    odd = (
        kept.select("agent", "name", "shape")
        .unique()
        .join(types, on="shape")
        .join(usual, on=["agent", "name", "argument"])
        .filter(pl.col("type") != pl.col("usual"))
        .sort("agent", "name", "shape", "argument")
        .group_by("agent", "name", "shape", maintain_order=True)
        .first()
    )
    found = (
        owned.join(odd, on=["agent", "name", "shape"])
        .sort("trace_key", "position")
        .group_by("trace_key", "name", "argument", maintain_order=True)
        .first()
    )
    named = pl.col("type").replace_strict(_TYPES), pl.col("usual").replace_strict(_TYPES)
    return found.select(
        "trace_key",
        axis=pl.lit("wrong_argument"),
        rule=pl.lit("unusual_type"),
        subject=pl.format("{}.{}", "name", "argument"),
        span_id="span_id",
        position="position",
        strength=pl.lit(0.5),
        detail=pl.format("{} of {} is {}; good rollouts pass {}", "argument", "name", *named),
    ).select(list(CANDIDATES))


def _types(shapes: list[str]) -> pl.DataFrame:
    """One row per shape and top-level argument; shapes that are no JSON object after all are left out."""
    rows: list[tuple[str, str, str]] = []
    for shape in shapes:
        try:
            read = json.loads(_quoted(shape))
        except ValueError:
            continue
        if isinstance(read, dict):
            rows += [(shape, key, value[1:]) for key, value in read.items() if isinstance(value, str) and value != "@_"]
            rows += [(shape, key, "O") for key, value in read.items() if isinstance(value, dict)]
    return pl.DataFrame([row for row in rows if row[2] in _TYPES], schema=_READ, orient="row")


def _quoted(shape: str) -> str:
    for mark in ("@D", "@N", "@S", "@0", "@B", "@_", "@A"):
        shape = shape.replace(f":{mark}", f':"{mark}"')
    return shape
