"""Figure of one metric of one subject over time: events, their running mean, the change, and what was done when."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import plotly.graph_objects as go
import polars as pl

from dashboard.drift.marks import MOST, Mark, diamonds, split
from dashboard.ui import axis as axes
from dashboard.ui import format as fmt
from dashboard.ui.theme import Theme

__all__ = ["Change", "course"]

_SMOOTHED: Final = 10
_HEIGHT: Final = 320


@dataclass(frozen=True)
class Change:
    """A change point: when, the times that are nearly as likely, and the means on both sides (metric's own scale)."""

    at: datetime
    begin: datetime | None
    end: datetime | None
    before: float | None
    after: float | None
    flagged: bool


def course(
    events: pl.DataFrame,
    theme: Theme,
    *,
    axis: str,
    change: Change | None = None,
    marks: tuple[Mark, ...] = (),
    names: tuple[str, str] | None = None,
    logarithmic: bool = False,
) -> go.Figure:
    """Events as dots with their running mean, the means before and after the change, and what was done as diamonds.

    Args: `events` with occurred_at and value, any order; `axis` our words for the value; `names` of 1 and 0 where the
    events are yes or no; `logarithmic` for values above 0 that are skewed. Times are those of the operator's clock.
    """
    frame = events.select("occurred_at", pl.col("value").cast(pl.Float64)).drop_nulls().sort("occurred_at")
    logarithmic = logarithmic and frame.height > 0 and _range(frame, None)[0] > 0
    figure = go.Figure()
    _dots(figure, frame, theme, names)
    if frame.height:
        smooth = pl.col("value").log() if logarithmic else pl.col("value")
        running = frame.select(mean=smooth.rolling_mean(_SMOOTHED, min_samples=1))["mean"]
        figure.add_scatter(
            x=axes.moments(frame["occurred_at"]), y=(running.exp() if logarithmic else running).to_list(),
            mode="lines", name=f"mean of the last {_SMOOTHED}", line={"color": theme.muted, "width": 1.5},
            hovertemplate="%{y:.3g}<extra></extra>",
        )  # fmt: skip
    low, high = _range(frame, names)
    if change is not None and frame.height:
        _change(figure, frame, theme, change)
    _marks(figure, frame, theme, marks, low, high, logarithmic)
    figure.update_layout(
        height=_HEIGHT, margin={"l": 0, "r": 8, "t": 6, "b": 0}, hovermode="closest", dragmode=False,
        **theme.layout,
        legend={"orientation": "h", "yanchor": "top", "y": -0.24, "x": 0},
    )  # fmt: skip
    small = {"color": theme.muted, "size": 11}
    figure.update_xaxes(showgrid=False, fixedrange=True, zeroline=False, tickfont=small)
    figure.update_yaxes(
        fixedrange=True, zeroline=False, automargin=True, tickfont=small, gridcolor=theme.grid, title_text=axis,
        title_font=small,
    )  # fmt: skip
    axes.name_moments(figure, theme)
    if logarithmic:
        figure.update_yaxes(type="log", nticks=6)
    elif names is not None:
        figure.update_yaxes(range=[-0.12, 1.3], tickvals=[0, 0.5, 1])
    return figure


def _dots(figure: go.Figure, frame: pl.DataFrame, theme: Theme, names: tuple[str, str] | None) -> None:
    groups: list[tuple[pl.DataFrame, str, str, str]]
    if names is None:
        groups = [(frame, "one event", "circle", theme.accent)]
    else:
        groups = [
            (frame.filter(pl.col("value") > 0.5), names[0], "circle", theme.series[0]),
            (frame.filter(pl.col("value") <= 0.5), names[1], "x", theme.series[1]),
        ]
    clock = fmt.zone_label(fmt.zone())
    for part, name, symbol, colour in groups:
        # Not with WebGL: Plotly would make code of text for it, which the page's policy forbids.
        figure.add_scatter(
            x=axes.moments(part["occurred_at"]), y=part["value"].to_list(), mode="markers", name=name,
            marker={"size": 7 if names else 5, "symbol": symbol, "color": colour, "opacity": 0.75 if names else 0.6},
            hovertemplate=f"%{{y:.3g}}, %{{x|%Y-%m-%d %H:%M}} {clock}<extra></extra>",
        )  # fmt: skip


def _change(figure: go.Figure, frame: pl.DataFrame, theme: Theme, change: Change) -> None:
    first, last = frame["occurred_at"][0], frame["occurred_at"][-1]
    moment = axes.moment(change.at)
    if change.begin is not None and change.end is not None and change.begin < change.end:
        figure.add_shape(
            type="rect", x0=axes.moment(change.begin), x1=axes.moment(change.end), y0=0, y1=1, yref="paper",
            layer="below", fillcolor=theme.band, line={"width": 0},
        )  # fmt: skip
    for level, begin, end in ((change.before, axes.moment(first), moment), (change.after, moment, axes.moment(last))):
        if level is not None:
            figure.add_scatter(
                x=[begin, end], y=[level, level], mode="lines", showlegend=False,
                line={"color": theme.text, "width": 3}, hovertemplate=f"mean {level:.3g}<extra></extra>",
            )  # fmt: skip
    split(figure, moment, flagged=change.flagged, early=change.at - first < last - change.at, theme=theme)


def _marks(
    figure: go.Figure, frame: pl.DataFrame, theme: Theme, marks: tuple[Mark, ...], low: float, high: float, log: bool
) -> None:
    """Diamonds at the bottom of the figure for what was done while there were events, the newest of many."""
    if frame.is_empty():
        return
    first, last = frame["occurred_at"][0], frame["occurred_at"][-1]
    shown = [mark for mark in marks if first <= mark.at <= last][-MOST:]
    if not shown:
        return
    diamonds(figure, shown, low if log else low - 0.06 * ((high - low) or 1.0), theme, axes.moment)
    for mark in shown:
        figure.add_shape(
            type="line", x0=axes.moment(mark.at), x1=axes.moment(mark.at), y0=0, y1=1, yref="paper", layer="below",
            line={"color": theme.series[3], "width": 1, "dash": "dot"},
        )  # fmt: skip


def _range(frame: pl.DataFrame, names: tuple[str, str] | None) -> tuple[float, float]:
    if names is not None or frame.is_empty():
        return 0.0, 1.0
    low: Any = frame["value"].min()
    high: Any = frame["value"].max()
    return float(low), float(high)
