"""Figures: pure functions from frames and a theme to Plotly figures, with text from data escaped.

A frame has one row a point; what is drawn is capped by the caller, who says so beside the figure. Hours are those of
the operator's clock (`dashboard.ui.axis`).
"""

import html
from datetime import datetime, timedelta
from typing import Any, Final

import plotly.graph_objects as go
import polars as pl

from dashboard.ui import axis
from dashboard.ui import format as fmt
from dashboard.ui.text import one_line, plotly_safe
from dashboard.ui.theme import KINDS, Theme
from store.overview import Bucket

__all__ = ["CONFIG", "reward_over_time", "traces_over_time", "waterfall"]

# No logo, no upload of the figure anywhere; scrolling the page must not zoom. One button, under the pointer: a picture.
CONFIG: Final[dict[str, Any]] = {
    "displayModeBar": "hover",
    "displaylogo": False,
    "modeBarButtons": [["toImage"]],
    "toImageButtonOptions": {"format": "png", "scale": 2, "filename": "trimtab-figure"},
    "scrollZoom": False,
    "responsive": True,
}

_MOST_SERIES: Final = 5
# Of the height of the figure, from below: failed traces, a gap, all traces.
_FAILED_ROOM: Final = (0.0, 0.2548)
_TRACES_ROOM: Final = (0.3448, 1.0)
_OTHERS: Final = "other agents"
_UNNAMED: Final = "no agent stated"
_WIDTHS: Final[dict[Bucket, timedelta]] = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
}
_ROW_PIXELS: Final = 22
_WATERFALL_TOP: Final = 74
_LABEL_CHARACTERS: Final = 28
_DEEPEST: Final = 6


def traces_over_time(frame: pl.DataFrame, bucket: Bucket, theme: Theme, *, height: int = 300) -> go.Figure:
    """Traces of each bucket stacked by agent, and below them the failed ones.

    Args: `frame` as `store.overview.PER_BUCKET`; beyond five agents the rest are one series.
    """
    width = _WIDTHS[bucket].total_seconds() * 1000
    totals = frame.group_by("agent").agg(pl.col("traces").sum()).sort("traces", "agent", descending=[True, False])
    ranked = totals["agent"].to_list()
    shown = ranked if len(ranked) <= _MOST_SERIES else ranked[: _MOST_SERIES - 1]
    series = [(agent, pl.col("agent").eq_missing(agent)) for agent in shown]
    if len(shown) < len(ranked):
        series.append((_OTHERS, ~pl.col("agent").is_in(shown, nulls_equal=True)))
    # The error colour stays for errors.
    palette = [theme.series[place] for place in (0, 1, 2, 3, 4)]
    bars: list[dict[str, Any]] = []
    for place, (agent, condition) in enumerate(series):
        part = frame.filter(condition).group_by("bucket").agg(pl.col("traces").sum()).sort("bucket")
        name = plotly_safe(agent, 28) if agent is not None else _UNNAMED
        colour = theme.muted if agent in (None, _OTHERS) else palette[place % len(palette)]
        bars.append({
            "type": "bar", "x": _middle(part["bucket"], bucket), "y": part["traces"].to_list(), "name": name,
            "width": width * 0.86, "marker": {"color": colour, "line": {"width": 0}}, "xaxis": "x", "yaxis": "y",
            "hovertemplate": f"%{{y:,}} traces<extra>{name}</extra>",
        })  # fmt: skip
    failed = frame.group_by("bucket").agg(pl.col("errors").sum(), pl.col("traces").sum()).sort("bucket")
    bars.append({
        "type": "bar", "x": _middle(failed["bucket"], bucket), "y": failed["errors"].to_list(), "name": "failed",
        "width": width * 0.86, "marker": {"color": theme.error, "line": {"width": 0}}, "xaxis": "x2", "yaxis": "y2",
        "customdata": [f"{fmt.percent(e / n)} of {n:,}" for _, e, n in failed.rows()], "showlegend": False,
        "hovertemplate": "%{y:,} failed, %{customdata}<extra></extra>",
    })  # fmt: skip
    below: dict[str, Any] = {"anchor": "x2", "domain": _FAILED_ROOM, "nticks": 3, "rangemode": "tozero"}
    if not failed["errors"].sum():
        below["range"] = [0, 1]
    return _drawn(bars, theme, height, {
        "barmode": "stack",
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "traceorder": "normal"},
        "xaxis": {**_across(theme), "anchor": "y", "matches": "x2", "showticklabels": False},
        "xaxis2": {**_across(theme), **_named(bucket, theme), "anchor": "y2"},
        "yaxis": {**_up(theme, "traces"), "anchor": "x", "domain": _TRACES_ROOM},
        "yaxis2": {**_up(theme, "failed"), **below},
    })  # fmt: skip


def reward_over_time(frame: pl.DataFrame, bucket: Bucket, theme: Theme, *, height: int = 300) -> go.Figure:
    """The mean reward of each bucket with its 95 % interval.

    Args: `frame` with columns bucket, rewarded (n), reward, lower, upper. A bucket without traces breaks the line.
    """
    frame = _with_gaps(frame, bucket)
    lines: list[dict[str, Any]] = []
    for part in _runs(frame):
        xs = _middle(part["bucket"], bucket)
        lines.append({
            "type": "scatter", "x": [*xs, *reversed(xs)], "fill": "toself", "fillcolor": theme.band,
            "y": [*part["upper"].to_list(), *reversed(part["lower"].to_list())], "line": {"width": 0},
            "hoverinfo": "skip", "showlegend": False, "mode": "lines",
        })  # fmt: skip
    hover = [
        "" if mean is None else f"{mean:.3f} ({lower:.3f} to {upper:.3f}), n {n:,}"
        for n, mean, lower, upper in frame.select("rewarded", "reward", "lower", "upper").rows()
    ]
    lines.append({
        "type": "scatter", "x": _middle(frame["bucket"], bucket), "y": frame["reward"].to_list(),
        "mode": "lines+markers", "line": {"color": theme.accent, "width": 2},
        "marker": {"size": 5, "color": theme.accent}, "customdata": hover, "showlegend": False, "connectgaps": False,
        "hovertemplate": "%{customdata}<extra></extra>",
    })  # fmt: skip
    return _drawn(lines, theme, height, {
        "xaxis": {**_across(theme), **_named(bucket, theme)},
        "yaxis": {**_up(theme, "mean reward"), "rangemode": "normal"},
    })  # fmt: skip


def waterfall(bars: pl.DataFrame, theme: Theme, *, timed: bool, selected: str | None = None) -> go.Figure:
    """Spans as horizontal bars from where they start, indented by depth, coloured by kind, failed ones outlined.

    Args: `bars` with columns span_id, label, depth, kind, status, start, length (seconds, or steps where nothing is
    timed), hover (our own text with escaped data); in the order from top to bottom. `selected` is drawn bold.
    """
    figure = go.Figure()
    total = max((start + length for start, length in bars.select("start", "length").rows()), default=0.0) or 1.0
    least = total / 400
    rows = list(range(bars.height))
    indexed = bars.with_columns(row=pl.Series(rows, dtype=pl.Int64), length=pl.col("length").clip(lower_bound=least))
    for kind in [k for k in KINDS if k in set(bars["kind"])] + sorted(set(bars["kind"]) - set(KINDS)):
        part = indexed.filter(kind=kind)
        bad = [status == "error" for status in part["status"].to_list()]
        figure.add_bar(
            y=part["row"].to_list(), x=part["length"].to_list(), base=part["start"].to_list(), orientation="h",
            name=kind, width=0.72, customdata=part.select("span_id", "hover").rows(),
            marker={
                "color": theme.kinds.get(kind, theme.muted),
                "line": {"color": theme.error, "width": [2 if failed else 0 for failed in bad]},
                "pattern": {
                    "shape": ["/" if failed else "" for failed in bad],
                    "fillmode": "overlay",
                    "fgcolor": theme.surface,
                    "size": 5,
                },
            },
            hovertemplate="%{customdata[1]}<extra></extra>",
        )  # fmt: skip
    figure.update_layout(
        **theme.layout,
        barmode="overlay",
        height=_WATERFALL_TOP + 14 + _ROW_PIXELS * bars.height,
        hovermode="closest",
        clickmode="event+select",
        dragmode=False,
        margin={"l": 0, "r": 8, "t": _WATERFALL_TOP, "b": 8},
        legend={"orientation": "h", "yref": "container", "yanchor": "top", "y": 1.0, "x": 0},
        xaxis={
            **_across(theme),
            "side": "top",
            "range": [0, total * 1.02],
            "showgrid": True,
            "gridcolor": theme.grid,
            "title": {"text": "seconds from the start" if timed else "step", "standoff": 6, "font": {"size": 11}},
            "zeroline": False,
        },
        yaxis={
            "fixedrange": True,
            "zeroline": False,
            "automargin": True,
            "tickmode": "array",
            "tickvals": rows,
            "ticktext": _labels(bars, selected),
            "range": [bars.height - 0.5, -0.5],
            "showgrid": False,
            "tickfont": {"size": 11, "color": theme.text, "family": "Source Code Pro, monospace"},
        },
    )
    return figure


def _labels(bars: pl.DataFrame, selected: str | None) -> list[str]:
    """Names indented by depth and padded to one width: in a monospaced font that aligns them to the left."""
    plain = []
    for label, depth, status in bars.select("label", "depth", "status").rows():
        indent = 2 * min(depth, _DEEPEST)
        name = one_line(label, _LABEL_CHARACTERS - indent)
        plain.append(f"{' ' * indent}{'✕ ' if status == 'error' else ''}{name}")
    width = max(map(len, plain), default=0)
    texts = [html.escape(text.ljust(width)).replace(" ", "\u00a0") for text in plain]
    return [
        f"<b>{text}</b>" if span_id == selected else text
        for span_id, text in zip(bars["span_id"].to_list(), texts, strict=True)
    ]


def _drawn(traces: list[dict[str, Any]], theme: Theme, height: int, layout: dict[str, Any]) -> go.Figure:
    """A figure over time, made at once: Plotly checks everything again with each later change, which is slow."""
    shared = {"hovermode": "x unified", "height": height, "margin": {"l": 0, "r": 4, "t": 6, "b": 0}}
    return go.Figure(traces, {**theme.layout, **shared, **layout})


def _across(theme: Theme) -> dict[str, Any]:
    return {"showgrid": False, "fixedrange": True, "tickfont": _small(theme)}


def _up(theme: Theme, title: str) -> dict[str, Any]:
    return {
        "gridcolor": theme.grid, "fixedrange": True, "zeroline": False, "nticks": 5, "automargin": True,
        "tickfont": _small(theme), "title": {"text": title, "font": _small(theme)},
    }  # fmt: skip


def _small(theme: Theme) -> dict[str, Any]:
    return {"color": theme.muted, "size": 11}


def _middle(buckets: pl.Series, bucket: Bucket) -> list[datetime]:
    """The middles of buckets, so that bars and points stand over the time they count; days and weeks are UTC's."""
    half = _WIDTHS[bucket] / 2
    shown = axis.moment if bucket == "hour" else axis.in_utc
    return [shown(moment) + half for moment in buckets.to_list()]


def _named(bucket: Bucket, theme: Theme) -> dict[str, Any]:
    return axis.moments_named(theme, "hours") if bucket == "hour" else axis.periods_named(theme, bucket)


def _with_gaps(frame: pl.DataFrame, bucket: Bucket) -> pl.DataFrame:
    """The frame with an empty row wherever a bucket is missing between two others."""
    if frame.height < 2:
        return frame
    every = {"hour": "1h", "day": "1d", "week": "1w"}[bucket]
    return frame.sort("bucket").upsample("bucket", every=every)


def _runs(frame: pl.DataFrame) -> list[pl.DataFrame]:
    """The stretches of consecutive buckets that have a reward."""
    numbered = frame.with_columns(run=pl.col("reward").is_null().cum_sum()).filter(pl.col("reward").is_not_null())
    return numbered.partition_by("run", maintain_order=True)
