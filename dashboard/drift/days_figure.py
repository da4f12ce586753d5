"""Figure of the days of a metric of an agent or a segment: means with their intervals, the change and both means."""

from datetime import datetime, timedelta

import plotly.graph_objects as go
import polars as pl

from dashboard.drift.course import Change
from dashboard.drift.marks import MOST, Mark, diamonds, split
from dashboard.ui import axis as axes
from dashboard.ui.theme import Theme

__all__ = ["days_figure"]

_HEIGHT = 320


def days_figure(
    days: pl.DataFrame,
    theme: Theme,
    *,
    axis: str,
    change: Change | None = None,
    marks: tuple[Mark, ...] = (),
    logarithmic: bool = False,
) -> go.Figure:
    """Daily means with 95 % intervals, the means before and after the change, and what was done as diamonds.

    Args: `days` with day, mean, lower, upper and n, in order, none missing; `axis` our words; `logarithmic` for values
    above 0 that are skewed.
    """
    figure = go.Figure()
    x = days["day"].cast(pl.Datetime("us")).dt.offset_by("12h").to_list()
    said = [
        f"{day:%Y-%m-%d}: {mean:.3g} ({lower:.3g} to {upper:.3g}), n {n:,}"
        for day, mean, lower, upper, n in days.select("day", "mean", "lower", "upper", "n").iter_rows()
    ]
    figure.add_scatter(
        x=x, y=days["mean"].to_list(), mode="markers+lines", name="mean of a day, 95 % interval",
        line={"color": theme.accent, "width": 1}, marker={"size": 6, "color": theme.accent},
        error_y={
            "type": "data", "symmetric": False, "array": (days["upper"] - days["mean"]).to_list(),
            "arrayminus": (days["mean"] - days["lower"]).to_list(), "color": theme.accent, "thickness": 1, "width": 0,
        },
        customdata=said, hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip
    if change is not None and x:
        _change(figure, x, theme, change)
    _marks(figure, x, days, theme, marks, logarithmic)
    figure.update_layout(
        height=_HEIGHT, margin={"l": 0, "r": 8, "t": 6, "b": 0}, hovermode="closest", dragmode=False,
        **theme.layout, showlegend=True,
        legend={"orientation": "h", "yanchor": "top", "y": -0.24, "x": 0},
    )  # fmt: skip
    small = {"color": theme.muted, "size": 11}
    figure.update_xaxes(type="date", showgrid=False, fixedrange=True, zeroline=False, tickfont=small)
    figure.update_yaxes(
        fixedrange=True, zeroline=False, automargin=True, tickfont=small, gridcolor=theme.grid, title_text=axis,
        title_font=small,
    )  # fmt: skip
    axes.name_periods(figure, theme, "day")
    if logarithmic:
        figure.update_yaxes(type="log", nticks=6)
    return figure


def _change(figure: go.Figure, x: list[datetime], theme: Theme, change: Change) -> None:
    """The change as a dashed line with the times nearly as likely, as far as they are in the picture, and the means."""
    begin, end, at = x[0] - timedelta(hours=12), x[-1] + timedelta(hours=12), axes.in_utc(change.at)
    if change.begin is not None and change.end is not None and change.begin < change.end:
        figure.add_shape(
            type="rect", x0=max(axes.in_utc(change.begin), begin), x1=min(axes.in_utc(change.end), end), y0=0, y1=1,
            yref="paper", layer="below", fillcolor=theme.band, line={"width": 0},
        )  # fmt: skip
    for level, name, first, last in ((change.before, "before", begin, at), (change.after, "after", at, end)):
        if level is not None and first < last:
            figure.add_scatter(
                x=[first, last], y=[level, level], mode="lines", name="means before and after",
                showlegend=name == "before", line={"color": theme.text, "width": 3},
                hovertemplate=f"mean {name} {level:.3g}<extra></extra>",
            )  # fmt: skip
    split(figure, at, flagged=change.flagged, early=at - begin < end - at, theme=theme)


def _marks(
    figure: go.Figure, x: list[datetime], days: pl.DataFrame, theme: Theme, marks: tuple[Mark, ...], logarithmic: bool
) -> None:
    """Diamonds below the days for what was done meanwhile, the newest of many."""
    shown = [mark for mark in marks if x and x[0] <= axes.in_utc(mark.at) <= x[-1]][-MOST:]
    if not shown:
        return
    low, high = float(min(days["lower"])), float(max(days["upper"]))
    diamonds(figure, shown, low if logarithmic else low - 0.06 * ((high - low) or 1.0), theme, axes.in_utc)
