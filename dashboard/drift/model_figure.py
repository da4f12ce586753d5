"""Figure of one model's answers day by day, with the changes found and those that operators knew of."""

from datetime import date, datetime, timedelta
from math import sqrt

import plotly.graph_objects as go
import polars as pl

from dashboard.learn.figures import Z95
from dashboard.ui import axis as axes
from dashboard.ui.text import plotly_safe
from dashboard.ui.theme import Theme

__all__ = ["daily"]


def daily(
    frame: pl.DataFrame,
    theme: Theme,
    *,
    axis: str,
    changes: tuple[datetime, ...] = (),
    anchors: tuple[tuple[datetime, str], ...] = (),
) -> go.Figure:
    """Daily means with their 95 % intervals; a day of one answer has none and is drawn hollow.

    Args: `frame` of `store.model_figures.FIGURES`, of one model and metric and all agents; `axis` our words; `changes`
    that were found; `anchors` with their reasons.
    """
    own = frame.sort("day")
    days: list[date] = own["day"].to_list()
    x = own["day"].cast(pl.Datetime("us")).dt.offset_by("12h").to_list()
    half = [Z95 * sd / sqrt(n) if n > 1 else 0.0 for n, sd in own.select("n", "sd").rows()]
    figure = go.Figure()
    figure.add_scatter(
        x=x, y=own["mean"].to_list(), mode="lines+markers", name="mean of a day", showlegend=False,
        line={"color": theme.accent, "width": 1},
        marker={"size": 6, "color": theme.accent, "symbol": ["circle" if n > 1 else "circle-open" for n in own["n"]]},
        error_y={"type": "data", "array": half, "color": theme.accent, "thickness": 1, "width": 0},
        customdata=[
            f"{day:%Y-%m-%d}: {mean:.3g} ± {spread:.2g}, n {n:,}"
            for day, mean, spread, n in zip(days, own["mean"], half, own["n"], strict=True)
        ],
        hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip
    for moment in changes:
        _line(figure, moment, theme.text, "dash", "change")
    for moment, reason in anchors:
        if x and x[0] - timedelta(days=1) <= axes.in_utc(moment) <= x[-1] + timedelta(days=1):
            _line(figure, moment, theme.series[3], "dot", f"known: {plotly_safe(reason, 28)}")
    figure.update_layout(
        height=290, margin={"l": 0, "r": 8, "t": 22, "b": 0}, hovermode="closest", dragmode=False,
        **theme.layout,
    )  # fmt: skip
    small = {"color": theme.muted, "size": 11}
    figure.update_xaxes(showgrid=False, fixedrange=True, zeroline=False, tickfont=small)
    figure.update_yaxes(
        gridcolor=theme.grid, fixedrange=True, zeroline=False, automargin=True, tickfont=small, title_text=axis,
        title_font=small,
    )  # fmt: skip
    axes.name_periods(figure, theme, "day")
    return figure


def _line(figure: go.Figure, moment: datetime, colour: str, dash: str, words: str) -> None:
    at = axes.in_utc(moment)
    figure.add_shape(
        type="line", x0=at, x1=at, y0=0, y1=1, yref="paper", line={"color": colour, "width": 1.5, "dash": dash}
    )
    figure.add_annotation(
        x=at, y=1, yref="paper", yanchor="bottom", text=f"{words}, {at:%Y-%m-%d}", showarrow=False,
        font={"color": colour, "size": 11},
    )  # fmt: skip
