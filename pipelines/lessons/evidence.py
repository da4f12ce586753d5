"""Which traces stand behind a draft: good and bad rollouts of the same task, and the steps in question.

The clearest traces for a claim often come from different tasks. Reading them side by side then compares the tasks, so
evidence comes in pairs: of a task one rollout that did better in the way that the pattern says, and one that did not.
"""

from dataclasses import dataclass
from typing import Any, Final

import polars as pl

__all__ = ["Evidence", "Pairs", "of_group", "of_pattern", "step_of", "written"]

_QUOTE: Final = 200


@dataclass(frozen=True)
class Evidence:
    """One trace behind a draft. `role` is good or bad; `span_id`, `step` and `quote` are of the step in question.

    `step` counts the trace's actions from 1; `quote` is put together from the step's name, arguments and result.
    """

    trace_id: str
    span_id: str | None
    role: str
    reward: float
    reward_sd: float | None
    quote: str | None
    step: int | None = None


@dataclass(frozen=True)
class Pairs:
    """Chosen traces, columns trace_id, role, present, reward, reward_sd; best pair first. `tasks` were compared."""

    traces: pl.DataFrame
    tasks: tuple[str, ...]


def of_pattern(effect: float, presence: pl.DataFrame, used: pl.DataFrame, pairs: int) -> Pairs:
    """Up to `pairs` pairs for a pattern with this effect, each of another task, those furthest apart first.

    Args: `presence` of the pattern (columns PRESENCE), `used` of its agent (USED of `pipelines.lessons.contrast`).
    """
    compared = used.filter(pl.col("aside").is_null()).join(presence.select("trace_id", "present"), on="trace_id")
    compared = compared.filter(
        pl.col("present").any().over("task") & (~pl.col("present")).any().over("task")
    ).with_columns(better=pl.col("present") if effect > 0 else ~pl.col("present"))
    order = ["outcome", "reward", "trace_id"]
    good = (
        compared.filter("better")
        .sort(order, descending=[True, True, False])
        .unique("task", keep="first", maintain_order=True)
    )
    bad = compared.filter(~pl.col("better")).sort(order).unique("task", keep="first", maintain_order=True)
    gaps = good.select("task", high="outcome").join(bad.select("task", low="outcome"), on="task")
    gaps = gaps.with_columns(gap=pl.col("high") - pl.col("low")).filter(pl.col("gap") > 0.0)
    chosen = (
        gaps.sort(["gap", "task"], descending=[True, False]).head(pairs).with_row_index("place").select("place", "task")
    )
    both = pl.concat(
        [good.with_columns(role=pl.lit("good"), side=pl.lit(0)), bad.with_columns(role=pl.lit("bad"), side=pl.lit(1))]
    )
    traces = both.join(chosen, on="task").sort("place", "side")
    return Pairs(
        traces.select("trace_id", "role", "present", "reward", "reward_sd"),
        tuple(compared["task"].unique().sort().to_list()),
    )


def of_group(row: dict[str, Any], used: pl.DataFrame) -> Pairs:
    """The chosen good and bad rollouts of a group (a row of GROUPS), the best and the worst first."""
    named = [(trace_id, role) for role in ("good", "bad") for trace_id in row[f"{role}_trace_ids"]]
    roles = pl.DataFrame(named, schema={"trace_id": pl.String, "role": pl.String}, orient="row")
    traces = roles.join(used.select("trace_id", "reward", "reward_sd"), on="trace_id", maintain_order="left")
    return Pairs(traces.with_columns(present=pl.lit(None, pl.Boolean)).select(
        "trace_id", "role", "present", "reward", "reward_sd"), (row["task"],))  # fmt: skip


def written(trace: dict[str, Any], span: dict[str, Any] | None) -> Evidence:
    """Evidence of a chosen trace; `span` is the step in question, a row of ACTIONS."""
    quote = None
    if span is not None:
        said = f"{span['name']}({span['input'] or ''}) -> {span['output'] or ''}"
        quote = " ".join(said.split())
        if len(quote) > _QUOTE:
            quote = quote[: _QUOTE - 1] + "…"
    return Evidence(
        trace_id=trace["trace_id"],
        span_id=span["span_id"] if span else None,
        role=trace["role"],
        reward=trace["reward"],
        reward_sd=trace["reward_sd"],
        quote=quote,
        step=span["step"] if span else None,
    )


def step_of(row: dict[str, Any], own: pl.DataFrame) -> dict[str, Any] | None:
    """The step that a pattern (a row of PATTERNS) points at among the actions `own` of one trace, if it is there.

    Of two tools in order whichever came first; of a repetition the call that was not needed; of errors the failed call.
    """
    calls = own.filter(pl.col("name").is_in([row["tool"], row["other_tool"] or row["tool"]]))
    if row["kind"].startswith("error_then"):
        calls = calls.filter("failed")
    elif row["kind"] == "unresolved":
        calls = calls.filter("failed").tail(1) if calls["failed"].any() else calls
    elif row["kind"] == "repeated":
        again = calls.filter(pl.col("arguments").is_not_null() & ~pl.col("arguments").is_first_distinct())
        calls = again if again.height else calls
    return calls.row(0, named=True) if calls.height else None
