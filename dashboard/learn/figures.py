"""Figures of the learning loop: means with their intervals."""

from typing import Final

import plotly.graph_objects as go
import polars as pl

from dashboard.ui.text import plotly_safe
from dashboard.ui.theme import Theme

__all__ = ["Z95", "intervals"]

Z95: Final = 1.959963984540054
_ROW_PIXELS: Final = 30


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
    _style(figure, theme, height=62 + _ROW_PIXELS * frame.height)
    figure.update_yaxes(
        tickmode="array", tickvals=rows, ticktext=[plotly_safe(label, 44) for label in frame["label"]],
        range=[frame.height - 0.5, -0.5], showgrid=False, tickfont={"size": 12, "color": theme.text},
    )  # fmt: skip
    figure.update_xaxes(
        title_text=axis, showgrid=True, gridcolor=theme.grid, range=None if highest is None else [0, highest],
        title_font={"color": theme.muted, "size": 11}, automargin=True,
    )  # fmt: skip
    return figure


def _style(figure: go.Figure, theme: Theme, *, height: int) -> None:
    figure.update_layout(
        height=height, margin={"l": 0, "r": 8, "t": 6, "b": 0}, hovermode="closest", dragmode=False,
        **theme.layout,
    )  # fmt: skip
    figure.update_xaxes(showgrid=False, fixedrange=True, zeroline=False, tickfont={"color": theme.muted, "size": 11})
    figure.update_yaxes(fixedrange=True, zeroline=False, automargin=True, tickfont={"color": theme.muted, "size": 11})
