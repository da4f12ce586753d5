"""Figure of an incident: which metric moved when, the first one on top, each with the time in which it moved."""

from datetime import datetime
from typing import Final

import plotly.graph_objects as go
import polars as pl

from dashboard.drift import words
from dashboard.ui import axis
from dashboard.ui import format as fmt
from dashboard.ui.text import plotly_safe
from dashboard.ui.theme import Theme

__all__ = ["moved_first"]

_ROW_PIXELS: Final = 34


def moved_first(frame: pl.DataFrame, theme: Theme, *, marks: tuple[tuple[datetime, str], ...] = ()) -> go.Figure:
    """One row a metric (`frame` of `store.incidents.MOVED`): a line over the time in which it moved, and its middle.

    `marks` are times of what was done, with what it was; they are drawn where they fall between the metrics' times.
    """
    rows = list(range(frame.height))
    figure = go.Figure()
    for row, (begin, end) in enumerate(frame.select("moved_from", "moved_to").iter_rows()):
        figure.add_scatter(
            x=[axis.moment(begin), axis.moment(end)], y=[row, row], mode="lines", hoverinfo="skip", showlegend=False,
            line={"color": theme.muted, "width": 5},
        )  # fmt: skip
    styles = (("up", "triangle-up", theme.series[0]), ("down", "triangle-down", theme.series[1]),
              ("mixed", "circle", theme.series[6]))  # fmt: skip
    for direction, symbol, colour in styles:
        own = frame.with_columns(row=pl.Series(rows, dtype=pl.Int64)).filter(direction=direction)
        if own.is_empty():
            continue
        figure.add_scatter(
            x=axis.moments(own["moved_at"]), y=own["row"].to_list(), mode="markers", name=direction,
            marker={"size": 13, "symbol": symbol, "color": colour, "line": {"color": theme.surface, "width": 1}},
            customdata=[
                f"{plotly_safe(words.title(metric))} {direction}, {fmt.when(moment, seconds=False)}, n {users:,} users"
                for metric, moment, users in own.select("metric", "moved_at", "users").iter_rows()
            ],
            hovertemplate="%{customdata}<extra></extra>",
        )  # fmt: skip
    first: datetime = frame["moved_from"].min()  # type: ignore[assignment]
    last: datetime = frame["moved_to"].max()  # type: ignore[assignment]
    around = (last - first) / 2
    for moment, title in [mark for mark in marks if first - around <= mark[0] <= last + around][-12:]:
        figure.add_scatter(
            x=[axis.moment(moment)], y=[frame.height - 0.6], mode="markers", showlegend=False,
            marker={"size": 11, "symbol": "diamond", "color": theme.series[3]},
            hovertemplate=f"{plotly_safe(title, 90)}, {fmt.when(moment, seconds=False)}<extra></extra>",
        )  # fmt: skip
        figure.add_shape(
            type="line", x0=axis.moment(moment), x1=axis.moment(moment), y0=0, y1=1, yref="paper", layer="below",
            line={"color": theme.series[3], "width": 1, "dash": "dot"},
        )  # fmt: skip
    figure.update_layout(
        height=108 + _ROW_PIXELS * frame.height, margin={"l": 0, "r": 8, "t": 6, "b": 0}, hovermode="closest",
        dragmode=False, **theme.layout,
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0, "title": None},
    )  # fmt: skip
    small = {"color": theme.muted, "size": 11}
    figure.update_xaxes(gridcolor=theme.grid, fixedrange=True, zeroline=False, tickfont=small)
    figure.update_yaxes(
        tickmode="array", tickvals=rows, ticktext=[plotly_safe(words.title(name), 24) for name in frame["metric"]],
        range=[frame.height - 0.4, -0.6], showgrid=False, fixedrange=True, zeroline=False, automargin=True,
        tickfont={"size": 12, "color": theme.text},
    )  # fmt: skip
    axis.name_moments(figure, theme)
    return figure
