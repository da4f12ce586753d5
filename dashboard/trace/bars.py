"""The bars of a waterfall: which spans are drawn, in tree order, with their depth, offset and length."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import polars as pl

from dashboard.ui import format as fmt
from dashboard.ui.text import plotly_safe

__all__ = ["BAR_ROWS", "MOST_BARS", "Bars", "Pick", "bars"]

MOST_BARS: Final = 200

Pick = Literal["in order", "slowest", "failed"]

BAR_ROWS: Final = pl.Schema(
    {
        "span_id": pl.String, "label": pl.String, "depth": pl.Int64, "kind": pl.String, "status": pl.String,
        "start": pl.Float64, "length": pl.Float64, "hover": pl.String,
    }
)  # fmt: skip


@dataclass(frozen=True)
class Bars:
    """Rows to draw (BAR_ROWS, from top to bottom); whether any span is timed; how many of the spans state no start."""

    rows: pl.DataFrame
    timed: bool
    untimed: int


def bars(spans: pl.DataFrame, *, pick: Pick = "in order", most: int = MOST_BARS) -> Bars:
    """The bars of a trace's spans (`store.spans.SPAN_ROWS`, in step order), at most `most` of them.

    Where no span states a time, a bar is its step: step n reaches from n-1 to n. Where some do, one that does not
    begins where its parent does, without length. Parents that form a circle count as roots.
    """
    rows = spans.to_dicts()
    depths, order = _tree(rows)
    starts = [row["started_at"] for row in rows if row["started_at"] is not None]
    origin = min(starts, default=None)
    chosen = _chosen(rows, order, pick, most)
    by_id = {row["span_id"]: row for row in rows}
    drawn = [_bar(rows[index], depths[index], origin, by_id) for index in chosen]
    untimed = sum(row["started_at"] is None for row in rows)
    return Bars(pl.DataFrame(drawn, schema=BAR_ROWS, orient="row"), origin is not None, untimed)


def _tree(rows: Sequence[dict[str, Any]]) -> tuple[list[int], list[int]]:
    """The depth of each row, and the rows' indexes in tree order: a parent before its children, siblings by step."""
    index = {row["span_id"]: place for place, row in enumerate(rows)}
    children: dict[int, list[int]] = {}
    roots = []
    for place, row in enumerate(rows):
        parent = index.get(row["parent_span_id"])
        if parent is None or parent == place:
            roots.append(place)
        else:
            children.setdefault(parent, []).append(place)
    depths = [-1] * len(rows)
    order: list[int] = []
    # What no root reaches lies on a circle: its first step stands in as a root.
    for root in [*roots, *range(len(rows))]:
        stack = [(root, 0)] if depths[root] < 0 else []
        while stack:
            place, depth = stack.pop()
            if depths[place] >= 0:
                continue
            depths[place] = depth
            order.append(place)
            stack.extend((child, depth + 1) for child in reversed(children.get(place, [])))
    return depths, order


def _chosen(rows: Sequence[dict[str, Any]], order: list[int], pick: Pick, most: int) -> list[int]:
    if pick == "failed":
        return [place for place in order if rows[place]["status"] == "error"][:most]
    if pick == "slowest":
        slowest = sorted(order, key=lambda place: _seconds(rows[place]) or 0.0, reverse=True)[:most]
        kept = set(slowest)
        return [place for place in order if place in kept]
    return [place for place in order if place < most]


def _bar(
    row: dict[str, Any], depth: int, origin: datetime | None, by_id: dict[str, dict[str, Any]]
) -> tuple[str, str, int, str, str | None, float, float, str]:
    seconds = _seconds(row)
    if origin is None:
        start, length = float(row["step"] - 1), 1.0
    else:
        parent = by_id.get(row["parent_span_id"])
        begun = row["started_at"] or (parent["started_at"] if parent else None) or origin
        start, length = (begun - origin).total_seconds(), seconds or 0.0
    label = row["name"] or row["kind"]
    return (
        row["span_id"],
        label,
        depth,
        row["kind"],
        row["status"],
        start,
        length,
        _hover(row, start, seconds, origin),
    )


def _hover(row: dict[str, Any], start: float, seconds: float | None, origin: datetime | None) -> str:
    lines = [f"<b>{plotly_safe(row['name'] or row['kind'])}</b>", f"{row['kind']}, step {row['step']:,}"]
    if origin is not None and row["started_at"] is not None:
        took = "end not stated" if seconds is None else f"took {fmt.duration(seconds)}"
        lines.append(f"starts at {fmt.duration(start)}, {took}")
    else:
        lines.append("states no time")
    if row["model"]:
        lines.append(plotly_safe(row["model"]))
    if row["input_tokens"] is not None or row["output_tokens"] is not None:
        lines.append(f"{fmt.count(row['input_tokens'])} tokens in, {fmt.count(row['output_tokens'])} out")
    if row["cost_usd"] is not None:
        lines.append(fmt.money(row["cost_usd"]))
    if row["status"] == "error":
        lines.append(f"failed: {plotly_safe(row['status_message'] or 'no message', 120)}")
    return "<br>".join(lines)


def _seconds(row: dict[str, Any]) -> float | None:
    if row["started_at"] is None or row["ended_at"] is None:
        return None
    return max(0.0, float((row["ended_at"] - row["started_at"]).total_seconds()))
