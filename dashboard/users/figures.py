"""Figures of what people value: two estimates per feature with their intervals, joined by a line."""

from typing import Final

import plotly.graph_objects as go
import polars as pl

from dashboard.ui.text import plotly_safe
from dashboard.ui.theme import Theme

__all__ = ["dumbbells"]

_ROW_PIXELS: Final = 40
_APART: Final = 0.14  # of a row: the two dots stand above one another so that their intervals can be told apart


def dumbbells(frame: pl.DataFrame, theme: Theme, *, names: tuple[str, str], axis: str) -> go.Figure:
    """One row a feature, from top to bottom: the first estimate above, the second below, each with its interval.

    Args: `frame` with feature and first, first_lower, first_upper, second, second_lower, second_upper (null: not
    known); `names` of the two; `axis` the quantity.
    """
    rows = list(range(frame.height))
    figure = go.Figure()
    for row, (first, second) in enumerate(frame.select("first", "second").rows()):
        if first is not None and second is not None:
            figure.add_scatter(
                x=[first, second], y=[row - _APART, row + _APART], mode="lines", hoverinfo="skip", showlegend=False,
                line={"color": theme.grid, "width": 5},
            )  # fmt: skip
    styles = (("first", -_APART, theme.accent, "circle"), ("second", _APART, theme.muted, "diamond"))
    for (side, shift, colour, symbol), name in zip(styles, names, strict=True):
        known = frame.with_columns(row=pl.Series(rows, dtype=pl.Int64)).drop_nulls(side)
        lower, upper = known[f"{side}_lower"], known[f"{side}_upper"]
        hover = [
            f"{plotly_safe(feature, 60)}, {name}: {value:+.2f} ({low:+.2f} to {high:+.2f})"
            for feature, value, low, high in zip(known["feature"], known[side], lower, upper, strict=True)
        ]
        figure.add_scatter(
            x=known[side].to_list(), y=[row + shift for row in known["row"]], mode="markers", name=name,
            marker={"size": 10, "color": colour, "symbol": symbol},
            error_x={
                "type": "data", "symmetric": False, "color": colour, "thickness": 2, "width": 4,
                "array": (upper - known[side]).to_list(), "arrayminus": (known[side] - lower).to_list(),
            },
            customdata=hover, hovertemplate="%{customdata}<extra></extra>",
        )  # fmt: skip
    figure.add_shape(
        type="line", x0=0, x1=0, y0=-0.5, y1=frame.height - 0.5, line={"color": theme.muted, "width": 1, "dash": "dot"}
    )
    figure.update_layout(
        height=84 + _ROW_PIXELS * frame.height, margin={"l": 0, "r": 8, "t": 6, "b": 0}, hovermode="closest",
        dragmode=False, **theme.layout,
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0, "title": None},
    )  # fmt: skip
    figure.update_yaxes(
        tickmode="array", tickvals=rows, ticktext=[plotly_safe(name, 36) for name in frame["feature"]],
        range=[frame.height - 0.5, -0.5], showgrid=False, fixedrange=True, zeroline=False, automargin=True,
        tickfont={"size": 12, "color": theme.text},
    )  # fmt: skip
    figure.update_xaxes(
        title_text=axis, gridcolor=theme.grid, fixedrange=True, zeroline=False,
        tickfont={"color": theme.muted, "size": 11}, title_font={"color": theme.muted, "size": 11},
    )  # fmt: skip
    return figure
