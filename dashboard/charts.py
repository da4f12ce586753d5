"""Figures: pure functions from frames and a theme to Plotly figures, with text from data escaped.

A frame has one row a point; what is drawn is capped by the caller, who says so beside the figure. Hours are those of
the operator's clock (`dashboard.ui.axis`).
"""

import html
from datetime import datetime, timedelta
from typing import Any, Final

import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

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
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.72, 0.28], vertical_spacing=0.09)
    series = [(agent, pl.col("agent").eq_missing(agent)) for agent in shown]
    if len(shown) < len(ranked):
        series.append((_OTHERS, ~pl.col("agent").is_in(shown, nulls_equal=True)))
    # The error colour stays for errors.
    palette = [theme.series[place] for place in (0, 1, 2, 3, 4)]
    for place, (agent, condition) in enumerate(series):
        part = frame.filter(condition).group_by("bucket").agg(pl.col("traces").sum()).sort("bucket")
        name = plotly_safe(agent, 28) if agent is not None else _UNNAMED
        colour = theme.muted if agent in (None, _OTHERS) else palette[place % len(palette)]
        figure.add_bar(
            x=_middle(part["bucket"], bucket), y=part["traces"].to_list(), name=name, width=width * 0.86,
            marker={"color": colour, "line": {"width": 0}}, row=1, col=1,
            hovertemplate=f"%{{y:,}} traces<extra>{name}</extra>",
        )  # fmt: skip
    failed = frame.group_by("bucket").agg(pl.col("errors").sum(), pl.col("traces").sum()).sort("bucket")
    share = [f"{fmt.percent(e / n)} of {n:,}" for _, e, n in failed.rows()]
    figure.add_bar(
        x=_middle(failed["bucket"], bucket), y=failed["errors"].to_list(), name="failed", width=width * 0.86,
        marker={"color": theme.error, "line": {"width": 0}}, row=2, col=1, customdata=share, showlegend=False,
        hovertemplate="%{y:,} failed, %{customdata}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(
        barmode="stack", hovermode="x unified", height=height, margin={"l": 0, "r": 4, "t": 6, "b": 0},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "title": None, "traceorder": "normal"},
    )  # fmt: skip
    _axes(figure, theme)
    figure.update_yaxes(title_text="traces", row=1, col=1)
    figure.update_yaxes(title_text="failed", row=2, col=1, nticks=3, rangemode="tozero")
    _named(figure, bucket, theme)
    if not failed["errors"].sum():
        figure.update_yaxes(range=[0, 1], row=2, col=1)
    return figure


def reward_over_time(frame: pl.DataFrame, bucket: Bucket, theme: Theme, *, height: int = 300) -> go.Figure:
    """The mean reward of each bucket with its 95 % interval.

    Args: `frame` with columns bucket, rewarded (n), reward, lower, upper. A bucket without traces breaks the line.
    """
    frame = _with_gaps(frame, bucket)
    x = _middle(frame["bucket"], bucket)
    figure = go.Figure()
    for part in _runs(frame):
        xs = _middle(part["bucket"], bucket)
        figure.add_scatter(
            x=[*xs, *reversed(xs)], y=[*part["upper"].to_list(), *reversed(part["lower"].to_list())], fill="toself",
            fillcolor=theme.band, line={"width": 0}, hoverinfo="skip", showlegend=False, mode="lines",
        )  # fmt: skip
    hover = [
        "" if mean is None else f"{mean:.3f} ({lower:.3f} to {upper:.3f}), n {n:,}"
        for n, mean, lower, upper in frame.select("rewarded", "reward", "lower", "upper").rows()
    ]
    figure.add_scatter(
        x=x, y=frame["reward"].to_list(), mode="lines+markers", line={"color": theme.accent, "width": 2},
        marker={"size": 5, "color": theme.accent}, customdata=hover, showlegend=False, connectgaps=False,
        hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(hovermode="x unified", height=height, margin={"l": 0, "r": 4, "t": 6, "b": 0})
    _axes(figure, theme)
    figure.update_yaxes(title_text="mean reward", rangemode="normal")
    _named(figure, bucket, theme)
    return figure


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
    labels = _labels(bars, selected)
    figure.update_layout(
        barmode="overlay",
        height=_WATERFALL_TOP + 14 + _ROW_PIXELS * bars.height,
        hovermode="closest",
        clickmode="event+select",
        dragmode=False,
        margin={"l": 0, "r": 8, "t": _WATERFALL_TOP, "b": 8},
        legend={"orientation": "h", "yref": "container", "yanchor": "top", "y": 1.0, "x": 0, "title": None},
    )
    _axes(figure, theme)
    figure.update_yaxes(
        tickmode="array",
        tickvals=rows,
        ticktext=labels,
        range=[bars.height - 0.5, -0.5],
        showgrid=False,
        tickfont={"size": 11, "color": theme.text, "family": "Source Code Pro, monospace"},
        title_text=None,
    )
    figure.update_xaxes(
        side="top",
        range=[0, total * 1.02],
        showgrid=True,
        gridcolor=theme.grid,
        title={"text": "seconds from the start" if timed else "step", "standoff": 6, "font": {"size": 11}},
        zeroline=False,
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


def _axes(figure: go.Figure, theme: Theme) -> None:
    figure.update_xaxes(showgrid=False, fixedrange=True, title_text=None, tickfont={"color": theme.muted, "size": 11})
    figure.update_yaxes(
        gridcolor=theme.grid, fixedrange=True, zeroline=False, nticks=5, automargin=True,
        tickfont={"color": theme.muted, "size": 11}, title_font={"color": theme.muted, "size": 11},
    )  # fmt: skip
    figure.update_layout(**theme.layout)


def _middle(buckets: pl.Series, bucket: Bucket) -> list[datetime]:
    """The middles of buckets, so that bars and points stand over the time they count; days and weeks are UTC's."""
    half = _WIDTHS[bucket] / 2
    shown = axis.moment if bucket == "hour" else axis.in_utc
    return [shown(moment) + half for moment in buckets.to_list()]


def _named(figure: go.Figure, bucket: Bucket, theme: Theme) -> None:
    if bucket == "hour":
        axis.name_moments(figure, theme, "hours")
    else:
        axis.name_periods(figure, theme, bucket)


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
