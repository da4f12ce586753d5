"""Figure of users by weeks: how far each week is from what was usual, empty cells to be seen as such."""

from datetime import date, timedelta
from typing import Final

import plotly.graph_objects as go
import polars as pl

from dashboard.ui import axis
from dashboard.ui.text import plotly_safe
from dashboard.ui.theme import Theme

__all__ = ["FEW", "SCALES", "heat_map", "weeks_of"]

FEW: Final = 3  # events, below which a week has no colour
_ROW_PIXELS: Final = 22
_FURTHEST: Final = 3.0  # standard errors at which the scale ends

# The diverging scales of .streamlit/config.toml: orange below, blue above, told apart with any colour vision.
SCALES: Final = {
    "light": (
        "#9A3A06", "#BF5A1E", "#D98047", "#EBAA80", "#F6D6C0", "#C9E0EE", "#8FBFDC", "#5299C4", "#2474A6", "#0B5080",
    ),
    "dark": (
        "#FF9A5C", "#EA8046", "#C96A38", "#A0552F", "#6E4230", "#2B4A5E", "#2F6486", "#3A82AE", "#54A2D1", "#7CC3EE",
    ),
}  # fmt: skip


def weeks_of(frame: pl.DataFrame, most: int) -> list[date]:
    """Every week from the first to the last one of `frame` (column week), without gaps; the newest `most` of them."""
    if frame.is_empty():
        return []
    found = frame["week"].cast(pl.Date)
    first, last = found.min(), found.max()
    assert isinstance(first, date)
    assert isinstance(last, date)
    return [last - timedelta(weeks=ago) for ago in reversed(range(min(most, (last - first).days // 7 + 1)))]


def heat_map(frame: pl.DataFrame, users: list[str], weeks: list[date], theme: Theme, *, unit: str) -> go.Figure:
    """One row a user, one column a week.

    Args: `frame` with user_id, week, mean, n and z (how many standard errors from usual; null: not known); `users` from
    top to bottom; `weeks` from left to right; `unit` of the mean, in our words.

    A cell is coloured by z; one with fewer than `FEW` events has a ring instead, one without any a dot.
    """
    unit = plotly_safe(unit, 40)
    row_of = {user: place for place, user in enumerate(users)}
    column_of = {week: place for place, week in enumerate(weeks)}
    shape = (len(users), len(weeks))
    colours: list[list[float | None]] = [[None] * shape[1] for _ in range(shape[0])]
    empty: list[list[str]] = [["·"] * shape[1] for _ in range(shape[0])]
    said: list[list[str]] = [["no events"] * shape[1] for _ in range(shape[0])]
    for user, week, mean, n, z in frame.select("user_id", pl.col("week").cast(pl.Date), "mean", "n", "z").iter_rows():
        row, column = row_of.get(user), column_of.get(week)
        if row is None or column is None or not n:
            continue
        if n < FEW or z is None:
            empty[row][column] = "○"
            said[row][column] = f"n {n:,}, too few" if n < FEW else f"{mean:.3g} {unit}, does not vary, n {n:,}"
        else:
            empty[row][column] = ""
            colours[row][column] = max(-_FURTHEST, min(_FURTHEST, z))
            said[row][column] = f"{mean:.3g} {unit}, {z:+.1f} standard errors from usual, n {n:,}"
    names = [plotly_safe(user, 26) or "(empty)" for user in users]
    hover = [
        [f"{name}, week of {week:%Y-%m-%d}: {words}" for week, words in zip(weeks, line, strict=True)]
        for name, line in zip(names, said, strict=True)
    ]
    places = {"x": list(range(shape[1])), "y": list(range(shape[0])), "xgap": 2, "ygap": 2}
    figure = go.Figure()
    clear = "rgba(0,0,0,0)"
    figure.add_heatmap(
        **places, z=[[0] * shape[1]] * shape[0], colorscale=[[0, clear], [1, clear]], showscale=False, text=empty,
        texttemplate="%{text}", textfont={"color": theme.muted, "size": 12}, customdata=hover,
        hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip
    scale = SCALES[theme.name]
    figure.add_heatmap(
        **places, z=colours, zmin=-_FURTHEST, zmax=_FURTHEST, zmid=0, customdata=hover, hoverongaps=False,
        colorscale=[[place / (len(scale) - 1), colour] for place, colour in enumerate(scale)],
        hovertemplate="%{customdata}<extra></extra>",
        colorbar={
            "orientation": "h", "thickness": 10, "len": 0.7, "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom",
            "tickvals": [-3, 0, 3], "ticktext": ["3 below", "usual", "3 above"],
            "tickfont": {"color": theme.muted, "size": 11}, "outlinewidth": 0,
        },
    )  # fmt: skip
    figure.update_layout(
        height=126 + _ROW_PIXELS * shape[0], margin={"l": 0, "r": 8, "t": 48, "b": 0}, dragmode=False,
        hovermode="closest", **theme.layout,
    )  # fmt: skip
    step = -(-shape[1] // 8) or 1
    ticks = list(range(shape[1]))[::-1][::step][::-1]
    figure.update_xaxes(
        tickmode="array", tickvals=ticks, ticktext=[f"{weeks[place]:%-d %b}" for place in ticks], fixedrange=True,
        showgrid=False, zeroline=False, tickfont={"color": theme.muted, "size": 11}, tickangle=0,
    )  # fmt: skip
    figure.update_yaxes(
        tickmode="array", tickvals=list(range(shape[0])), ticktext=names, range=[shape[0] - 0.5, -0.5],
        fixedrange=True, showgrid=False, zeroline=False, automargin=True, tickfont={"color": theme.text, "size": 11},
    )  # fmt: skip
    axis.name_periods(figure, theme, "week")
    return figure
