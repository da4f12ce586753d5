"""Figures of the learning loop: means with their intervals, and one user's events around a change."""

from datetime import datetime
from typing import Final

import plotly.graph_objects as go
import polars as pl

from dashboard.ui.text import plotly_safe
from dashboard.ui.theme import Theme

__all__ = ["Z95", "events_over_time", "intervals"]

Z95: Final = 1.959963984540054
_ROW_PIXELS: Final = 30
_SMOOTHED: Final = 10


def intervals(frame: pl.DataFrame, theme: Theme, *, axis: str, highest: float | None = 1.0) -> go.Figure:
    """Means as dots with their 95 % intervals as lines, one row each, from top to bottom.

    Args: `frame` with label, mean, lower, upper (null: no interval) and hover (our own text with escaped data);
    `axis` names the quantity; it runs from 0 to `highest`, or freely where that is None.
    """
    rows = list(range(frame.height))
    figure = go.Figure()
    figure.add_scatter(
        x=frame["mean"].to_list(), y=rows, mode="markers", marker={"size": 10, "color": theme.accent},
        error_x={
            "type": "data", "symmetric": False, "color": theme.accent, "thickness": 2, "width": 5,
            "array": (frame["upper"] - frame["mean"]).fill_null(0.0).to_list(),
            "arrayminus": (frame["mean"] - frame["lower"]).fill_null(0.0).to_list(),
        },
        customdata=frame["hover"].to_list(), hovertemplate="%{customdata}<extra></extra>", showlegend=False,
    )  # fmt: skip
    _style(figure, theme, height=46 + _ROW_PIXELS * frame.height)
    figure.update_yaxes(
        tickmode="array", tickvals=rows, ticktext=[plotly_safe(label, 44) for label in frame["label"]],
        range=[frame.height - 0.5, -0.5], showgrid=False, tickfont={"size": 12, "color": theme.text},
    )  # fmt: skip
    figure.update_xaxes(
        title_text=axis, showgrid=True, gridcolor=theme.grid, range=None if highest is None else [0, highest],
        title_font={"color": theme.muted, "size": 11},
    )  # fmt: skip
    return figure


def events_over_time(
    events: pl.DataFrame,
    theme: Theme,
    *,
    changed_at: datetime | None,
    before: float | None,
    after: float | None,
    names: tuple[str, str],
) -> go.Figure:
    """Yes/no events as dots, their mean over the last ten, and the two means around the change.

    Args: `events` with occurred_at and value (0 or 1) in order of time; `names` say what 1 and 0 mean.
    """
    frame = events.sort("occurred_at", maintain_order=True).with_columns(
        rolling=pl.col("value").cast(pl.Float64).rolling_mean(_SMOOTHED, min_samples=1)
    )
    times = [moment.replace(tzinfo=None) for moment in frame["occurred_at"]]
    figure = go.Figure()
    for value, name, symbol in ((1, names[0], "circle"), (0, names[1], "x")):
        chosen = [moment for moment, seen in zip(times, frame["value"], strict=True) if seen == value]
        figure.add_scattergl(
            x=chosen, y=[value] * len(chosen), mode="markers", name=name,
            marker={"size": 7, "symbol": symbol, "color": theme.series[2] if value else theme.error, "opacity": 0.75},
            hovertemplate="%{x|%Y-%m-%d %H:%M} UTC<extra>" + name + "</extra>",
        )  # fmt: skip
    figure.add_scatter(
        x=times, y=frame["rolling"].to_list(), mode="lines", name=f"mean of the last {_SMOOTHED}",
        line={"color": theme.muted, "width": 1.5}, hovertemplate="%{y:.2f}<extra></extra>",
    )  # fmt: skip
    if changed_at is not None and times:
        moment = changed_at.replace(tzinfo=None)
        for level, begin, end in ((before, times[0], moment), (after, moment, times[-1])):
            if level is not None:
                figure.add_scatter(
                    x=[begin, end], y=[level, level], mode="lines", showlegend=False,
                    line={"color": theme.accent, "width": 4}, hovertemplate=f"mean {level:.2f}<extra></extra>",
                )  # fmt: skip
        figure.add_shape(
            type="line", x0=moment, x1=moment, y0=-0.08, y1=1.08,
            line={"color": theme.text, "width": 1.5, "dash": "dash"},
        )  # fmt: skip
        figure.add_annotation(
            x=moment, y=1.16, text=f"change, {changed_at:%Y-%m-%d}", showarrow=False,
            font={"color": theme.text, "size": 12},
        )  # fmt: skip
    _style(figure, theme, height=300)
    figure.update_yaxes(range=[-0.12, 1.24], tickvals=[0, 0.5, 1], gridcolor=theme.grid, title_text=None)
    figure.update_layout(legend={"orientation": "h", "yanchor": "top", "y": -0.14, "x": 0})
    return figure


def _style(figure: go.Figure, theme: Theme, *, height: int) -> None:
    figure.update_layout(
        height=height, margin={"l": 0, "r": 8, "t": 6, "b": 0}, hovermode="closest", dragmode=False,
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", font={"color": theme.text},
    )  # fmt: skip
    figure.update_xaxes(showgrid=False, fixedrange=True, zeroline=False, tickfont={"color": theme.muted, "size": 11})
    figure.update_yaxes(fixedrange=True, zeroline=False, automargin=True, tickfont={"color": theme.muted, "size": 11})
