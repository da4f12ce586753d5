"""Step patterns of rollouts: tools called or left out, order, argument shapes, repetition, what follows an error.

A pattern is a yes/no property of a rollout that can be asked only of some rollouts, its domain:

    missing             T was not called; in tasks where at least half of the rollouts call it
    used                T was called; in tasks where fewer do
    precedes            A was called before the first call of B; asked of rollouts that call B
    order               A was called before B; asked of rollouts that call both
    repeated            T was called with the arguments of an earlier call that had succeeded; of rollouts that call T
    unresolved          a call of T failed and none of T succeeded after it; of rollouts that call T
    error_then_*        after the first failure of T the next action was the same call (retry), T with other arguments
                        (change), another tool (switch), or there was none (stop); of rollouts in which T failed
    given               T was given the argument; of rollouts that call T with readable arguments
    shape               the argument of T was of this type; of rollouts that give it

A tool has another meaning where it is part of the usual way than where it is not, so `missing` and `used` divide the
tasks by what rollouts do, never by how they end. Patterns are kept as the rows in which they hold, of all agents at
once, and counted into cells: one per pattern and stratum (task), which is all that a test within strata needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.lessons import arguments

__all__ = ["CELLS", "KINDS", "Facts", "Rows", "cells", "facts", "present"]

KINDS: Final = (
    "missing", "precedes", "repeated", "unresolved", "shape", "given", "error_then_retry", "error_then_change",
    "error_then_switch", "error_then_stop", "order", "used",
)  # fmt: skip
"""In the order in which one of several patterns of the same rollouts is taken to speak for them."""

CELLS: Final = pl.Schema(
    {
        "kind": pl.UInt8(),  # place in KINDS
        "tool": pl.UInt32(),  # code of `Facts.tools`
        "other": pl.UInt32(),  # the second tool, the argument, or the argument's type; 0 where there is none
        "stratum": pl.UInt32(),
        "n1": pl.Int64(),  # rows in which the pattern holds: their number, sums, squares, successes and fingerprint
        "y1": pl.Float64(),
        "yy1": pl.Float64(),
        "s1": pl.Int64(),
        "h1": pl.UInt64(),
        "n": pl.Int64(),  # the same of all rows of the domain
        "y": pl.Float64(),
        "yy": pl.Float64(),
        "s": pl.Int64(),
        "h": pl.UInt64(),
    }
)
_SUMS: Final = ("n", "y", "yy", "s", "h")
_RANKS: Final = {"retriever": 1, "guardrail": 2}
_SLICE: Final = 200_000  # rollouts whose pairs of tools are in memory at once


@dataclass(frozen=True)
class Rows:
    """Rollouts by row 0..n-1, the arrays of shape (n,).

    `stratum` is the code of its task, `agent` that of its agent; `y` the outcome less the mean of its stratum;
    `success` whether it is above the lowest outcome of its agent, for outcomes that take two values; `main` False where
    the rollout met a failure of its environment, so that it is compared only with others that met the same.
    """

    key: NDArray[np.uint64]
    stratum: NDArray[np.uint32]
    agent: NDArray[np.uint32]
    y: NDArray[np.float64]
    success: NDArray[np.bool_]
    main: NDArray[np.bool_]


@dataclass(frozen=True)
class Facts:
    """What rollouts did, one row per rollout and thing done; `row` indexes Rows, `tool` the frame `tools`.

    `tools` (tool, agent, name, rank, place) holds the tools of each agent that most rollouts use; rank 0 is a tool, 1 a
    retriever, 2 a guardrail, place its mean position among the actions. `used` (row, tool, first, repeated,
    unresolved); `errors` (row, tool, kind); `given` (row, tool, argument) and `shapes` (row, tool, other) with codes of
    `arguments` (code, tool, type, argument, text): other is an argument with its type, and type is null for an argument
    itself.
    """

    tools: pl.DataFrame
    arguments: pl.DataFrame
    used: pl.DataFrame
    errors: pl.DataFrame
    given: pl.DataFrame
    shapes: pl.DataFrame
    shaped: pl.DataFrame  # (row, tool): called with readable arguments


def facts(calls: pl.DataFrame, rows: Rows, max_tools: int) -> Facts:
    """What the rollouts `rows` did, of `calls` (columns `pipelines.lessons.actions.CALLS`).

    Of each agent the `max_tools` tools that most rollouts call are looked at.
    """
    index = pl.DataFrame({"trace_key": rows.key, "row": np.arange(rows.key.size, dtype=np.uint32), "agent": rows.agent})
    made = calls.join(index, on="trace_key").drop("trace_key")
    counts = made.group_by("agent", "name").agg(
        rollouts=pl.col("row").n_unique(),
        rank=pl.col("kind").cast(pl.String).replace_strict(_RANKS, default=0, return_dtype=pl.Int32).min(),
        place=pl.col("position").mean(),
    )
    counts = counts.with_columns(text=pl.col("name").cast(pl.String)).sort(
        ["agent", "rollouts", "text"], descending=[False, True, False]
    )
    tools = (
        counts.filter(pl.int_range(pl.len()).over("agent") < max_tools)
        .sort("agent", "text")
        .with_row_index("tool")
        .select("tool", "agent", "name", "text", "rank", "place")
    )
    made = made.join(tools.select("tool", "agent", "name"), on=["agent", "name"], how="left").drop("name", "agent")
    known = made.filter(pl.col("tool").is_not_null())
    codes, given, shapes, shaped = arguments.given(known)
    return Facts(
        tools=tools.select("tool", "agent", "rank", "place", name="text"),
        arguments=codes,
        used=_used(known),
        errors=_errors(made),
        given=given,
        shapes=shapes,
        shaped=shaped,
    )


def cells(found: Facts, rows: Rows) -> pl.DataFrame:
    """Sums per pattern and stratum (columns CELLS), of strata that have rollouts with and without the pattern."""
    random = np.random.default_rng(0).integers(0, 2**63, rows.key.size, dtype=np.uint64)
    marks = pl.DataFrame(
        {
            "stratum": rows.stratum, "y": rows.y, "yy": rows.y**2, "s": rows.success, "h": random, "main": rows.main,
        }
    )  # fmt: skip
    everywhere = _sums(marks, pl.DataFrame({"row": np.arange(rows.key.size, dtype=np.uint32)}), [])
    used = _sums(marks, found.used, ["tool"])
    parts = [_usage(used, everywhere)]
    for kind in ("repeated", "unresolved"):
        parts.append(_within(kind, _sums(marks, found.used.filter(kind), ["tool"]), used, ["tool"]))
    parts += _pairs(found.used, marks, used)
    failed = _sums(marks, found.errors, ["tool"], main=False)
    for (error,), own in found.errors.group_by("kind", maintain_order=True):
        parts.append(_within(str(error), _sums(marks, own, ["tool"], main=False), failed, ["tool"]))
    shaped = _sums(marks, found.shaped, ["tool"])
    given = _sums(marks, found.given, ["tool", "argument"])
    parts.append(_within("given", given.rename({"argument": "other"}), shaped, ["tool"]))
    of_argument = found.arguments.filter(pl.col("type").is_not_null()).select("argument", other="code")
    typed = _sums(marks, found.shapes, ["tool", "other"]).join(of_argument, on="other")
    parts.append(_within("shape", typed, given, ["tool", "argument"]))
    return pl.concat(parts)


def present(found: Facts, rows: Rows, kind: str, tool: int, other: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where a pattern holds and where it can be asked, each of shape (rows,); tasks do not restrict the domain here."""
    has, asked = np.zeros(rows.key.size, dtype=bool), np.zeros(rows.key.size, dtype=bool)
    own = found.used.filter(tool=tool)
    if kind in ("missing", "used"):
        has[own["row"].to_numpy()] = True
        return (~has if kind == "missing" else has), rows.main.copy()
    if kind in ("precedes", "order"):
        first = own.select("row", before="first")
        second = found.used.filter(tool=other).select("row", after="first")
        both = first.join(second, on="row")
        asked[(second if kind == "precedes" else both)["row"].to_numpy()] = True
        has[both.filter(pl.col("before") < pl.col("after"))["row"].to_numpy()] = True
    elif kind in ("repeated", "unresolved"):
        asked[own["row"].to_numpy()] = True
        has[own.filter(kind)["row"].to_numpy()] = True
    elif kind in ("given", "shape"):
        if kind == "given":
            asked[found.shaped.filter(tool=tool)["row"].to_numpy()] = True
            has[found.given.filter(argument=other)["row"].to_numpy()] = True
        else:
            argument = found.arguments.filter(code=other)["argument"][0]
            asked[found.given.filter(argument=argument)["row"].to_numpy()] = True
            has[found.shapes.filter(other=other)["row"].to_numpy()] = True
    else:
        failed = found.errors.filter(tool=tool)
        asked[failed["row"].to_numpy()] = True
        has[failed.filter(pl.col("kind") == kind)["row"].to_numpy()] = True
        return has & asked, asked
    return has & rows.main, asked & rows.main


def _used(known: pl.DataFrame) -> pl.DataFrame:
    ok = ~pl.col("failed")
    calls = (
        known.filter(pl.col("call").is_not_null())
        .group_by("row", "tool", "call")
        .agg(last=pl.col("position").max(), first_ok=pl.col("position").filter(ok).min())
        .filter(pl.col("last") > pl.col("first_ok"))
        .select("row", "tool", repeated=True)
        .unique()
    )
    used = known.group_by("row", "tool").agg(
        first=pl.col("position").min(),
        last_failed=pl.col("position").filter(pl.col("failed")).max(),
        last_ok=pl.col("position").filter(ok).max(),
    )
    never_fixed = pl.col("last_ok").is_null() | (pl.col("last_ok") < pl.col("last_failed"))
    return used.join(calls, on=["row", "tool"], how="left").select(
        "row", "tool", "first", pl.col("repeated").fill_null(False),
        unresolved=(pl.col("last_failed").is_not_null() & never_fixed).fill_null(False),
    )  # fmt: skip


def _errors(made: pl.DataFrame) -> pl.DataFrame:
    """(row, tool, kind): what followed the first failure of a tool."""
    first = (
        made.filter(pl.col("failed") & pl.col("tool").is_not_null())
        .sort("row", "position")
        .unique(["row", "tool"], keep="first", maintain_order=True)
        .select("row", "tool", "call", next=pl.col("position") + 1)
    )
    after = made.select("row", next="position", next_tool="tool", next_call="call", there=True)
    joined = first.join(after, on=["row", "next"], how="left")
    same_tool = (pl.col("next_tool") == pl.col("tool")).fill_null(False)
    same_call = (pl.col("next_call") == pl.col("call")).fill_null(False)
    kind = (
        pl.when(pl.col("there").is_null())
        .then(pl.lit("error_then_stop"))
        .when(~same_tool)
        .then(pl.lit("error_then_switch"))
        .when(same_call)
        .then(pl.lit("error_then_retry"))
        .otherwise(pl.lit("error_then_change"))
    )
    return joined.select("row", "tool", kind=kind).sort("kind", "row", "tool")


def _sums(marks: pl.DataFrame, rows: pl.DataFrame, by: Sequence[str], *, main: bool = True) -> pl.DataFrame:
    """Number, sums and fingerprint of rows by `by` and stratum; of the rows that are compared with all where `main`."""
    own = pl.concat([rows.select(*by), marks[rows["row"].to_numpy()]], how="horizontal")
    own = own.filter("main") if main else own
    return own.group_by(*by, "stratum").agg(
        n=pl.len().cast(pl.Int64), y=pl.col("y").sum(), yy=pl.col("yy").sum(),
        s=pl.col("s").sum().cast(pl.Int64), h=pl.col("h").sum(),
    )  # fmt: skip


def _usage(used: pl.DataFrame, everywhere: pl.DataFrame) -> pl.DataFrame:
    joined = _joined(used, everywhere, [])
    usual = pl.col("n1") * 2 >= pl.col("n")
    kept = joined.filter(pl.col("n1") < pl.col("n")).with_columns(
        kind=pl.when(usual).then(KINDS.index("missing")).otherwise(KINDS.index("used")), other=pl.lit(0)
    )
    opposite = [
        pl.when(usual).then(pl.col(f"{name}") - pl.col(f"{name}1")).otherwise(pl.col(f"{name}1")).alias(f"{name}1")
        for name in _SUMS
    ]
    return kept.with_columns(opposite).select(list(CELLS)).cast(CELLS)


def _within(kind: str, having: pl.DataFrame, domain: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    joined = _joined(having, domain, by).filter(pl.col("n1") < pl.col("n"))
    other = pl.col("other") if "other" in joined.columns else pl.lit(0)
    return joined.with_columns(kind=pl.lit(KINDS.index(kind)), other=other).select(list(CELLS)).cast(CELLS)


def _joined(having: pl.DataFrame, domain: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    named = having.rename({name: f"{name}1" for name in _SUMS})
    return named.join(domain.select(*by, "stratum", *_SUMS), on=[*by, "stratum"])


def _pairs(used: pl.DataFrame, marks: pl.DataFrame, domain: pl.DataFrame) -> list[pl.DataFrame]:
    """Cells of `precedes` and `order`; a rollout with k tools has k (k - 1) / 2 pairs, so it is done slice by slice."""
    ordered = []
    slim = used.select("row", "tool", "first").sort("row")
    for start in range(0, marks.height, _SLICE):
        own = slim.filter(pl.col("row").is_between(start, start + _SLICE - 1))
        both = own.join(own, on="row").filter(pl.col("first") < pl.col("first_right"))
        ordered.append(_sums(marks, both.select("row", "tool", other="tool_right"), ["tool", "other"]))
    if not ordered:
        return []
    keys = ["tool", "other", "stratum"]
    before = pl.concat(ordered).group_by(keys).agg(pl.col(name).sum() for name in _SUMS)
    precedes = _within("precedes", before, domain.rename({"tool": "other"}), ["other"])
    # An order and its reverse are one question: the sign tells which is the better one.
    reverse = before.rename({"tool": "other", "other": "tool"}).select(*keys, *_SUMS)
    both = before.join(reverse, on=keys, how="inner", suffix="_back")
    both = both.filter(pl.col("tool") < pl.col("other")).select(
        *keys,
        *(pl.col(name).alias(f"{name}1") for name in _SUMS),
        *((pl.col(name) + pl.col(f"{name}_back")).alias(name) for name in _SUMS),
    )
    order = both.with_columns(kind=pl.lit(KINDS.index("order"))).select(list(CELLS)).cast(CELLS)
    return [precedes, order]
