"""Step patterns of a rollout: which tools were called, in which order, called again in vain, or left failed.

A pattern is a yes/no property of a rollout, sometimes undefined: whether A came before B can be asked only of rollouts
that called both. A tool that is missing is the complement of `used`, and B before A the complement of A before B, so
neither is a test of its own: the sign of the effect says which side is the better one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

__all__ = ["Pattern", "extract"]

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Pattern:
    """One property of rollouts: `present` where it holds, `defined` where it can be asked, both of shape (rollouts,).

    `kind` is used, error_then_continue, repeated or order; for order, `tool` came before `other_tool`. `same_as` names
    patterns that hold for exactly the same rollouts, or with "not " before them for exactly the others: the same test.
    """

    kind: str
    tool: str
    other_tool: str | None
    present: Bools
    defined: Bools
    same_as: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.tool}" + (f">{self.other_tool}" if self.other_tool else "")


def extract(actions: pl.DataFrame, trace_ids: list[str], max_tools: int) -> list[Pattern]:
    """Patterns of the rollouts `trace_ids`, each distinct one once, over the `max_tools` most often used tools.

    `actions` has trace_id, step, name, failed (Boolean) and arguments (null where unknown), one row per action. A
    rollout without actions has none of the patterns.
    """
    index = pl.DataFrame({"trace_id": trace_ids}).with_row_index("rollout")
    rows = actions.join(index, on="trace_id", how="inner")
    counts = rows.group_by("name").agg(rollouts=pl.col("trace_id").n_unique())
    tools = counts.sort(["rollouts", "name"], descending=[True, False]).head(max_tools)["name"].sort().to_list()
    distinct: dict[bytes, Pattern] = {}
    for pattern in _candidates(rows.filter(pl.col("name").is_in(tools)), rows, tools, len(trace_ids)):
        asked = np.flatnonzero(pattern.defined)
        mirrored = bool(asked.size) and not pattern.present[asked[0]]
        side = ~pattern.present & pattern.defined if mirrored else pattern.present
        key = np.packbits(side).tobytes() + np.packbits(pattern.defined).tobytes()
        if key in distinct:
            first = distinct[key]
            opposite = not np.array_equal(first.present, pattern.present)
            name = f"not {pattern.name}" if opposite else pattern.name
            distinct[key] = replace(first, same_as=(*first.same_as, name))
        else:
            distinct[key] = pattern
    return list(distinct.values())


def _candidates(rows: pl.DataFrame, all_rows: pl.DataFrame, tools: list[str], rollouts: int) -> Iterator[Pattern]:
    first = _first_steps(rows, tools, rollouts)
    used = np.isfinite(first)
    everywhere = np.ones(rollouts, dtype=bool)
    unresolved, repeated = _unresolved(rows, all_rows), _repeated(rows)
    for column, tool in enumerate(tools):
        yield Pattern("used", tool, None, used[:, column], everywhere)
    for kind, found in (("error_then_continue", unresolved), ("repeated", repeated)):
        by_tool = {str(name): frame["rollout"].to_numpy() for (name,), frame in found.group_by("name")}
        for tool in tools:
            present = np.zeros(rollouts, dtype=bool)
            present[by_tool.get(tool, np.empty(0, dtype=np.int64))] = True
            yield Pattern(kind, tool, None, present, everywhere)
    for a in range(len(tools)):
        for b in range(a + 1, len(tools)):
            both = used[:, a] & used[:, b]
            yield Pattern("order", tools[a], tools[b], both & (first[:, a] < first[:, b]), both)


def _first_steps(rows: pl.DataFrame, tools: list[str], rollouts: int) -> NDArray[np.float64]:
    """Step of the first call of each tool in each rollout, infinity where there is none: shape (rollouts, tools)."""
    columns = pl.DataFrame({"name": tools}, schema={"name": pl.String()}).with_row_index("column")
    earliest = rows.group_by("rollout", "name").agg(pl.col("step").min()).join(columns, on="name")
    first = np.full((rollouts, len(tools)), np.inf)
    first[earliest["rollout"].to_numpy(), earliest["column"].to_numpy()] = earliest["step"].to_numpy()
    return first


def _unresolved(rows: pl.DataFrame, all_rows: pl.DataFrame) -> pl.DataFrame:
    """(rollout, name) where a call failed, another action followed, and the tool never succeeded after it."""
    keys = ["rollout", "name"]
    failures = rows.filter("failed").group_by(keys).agg(failed_at=pl.col("step").max())
    successes = rows.filter(~pl.col("failed")).group_by(keys).agg(succeeded_at=pl.col("step").max())
    ends = all_rows.group_by("rollout").agg(last=pl.col("step").max())
    later = failures.join(successes, on=keys, how="left").join(ends, on="rollout")
    never_fixed = pl.col("succeeded_at").is_null() | (pl.col("succeeded_at") < pl.col("failed_at"))
    return later.filter(never_fixed & (pl.col("last") > pl.col("failed_at"))).select(keys)


def _repeated(rows: pl.DataFrame) -> pl.DataFrame:
    """(rollout, name) where a tool was called at least twice with the same arguments."""
    calls = rows.filter(pl.col("arguments").is_not_null()).group_by("rollout", "name", "arguments").len()
    return calls.filter(pl.col("len") > 1).select("rollout", "name").unique(maintain_order=True)
