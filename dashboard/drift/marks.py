"""What was done at a time, such as an approved lesson, as figures show it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import plotly.graph_objects as go

from dashboard.ui.text import plotly_safe
from dashboard.ui.theme import Theme

__all__ = ["MOST", "Mark", "diamonds", "split"]

MOST: Final = 24
"""Marks of one figure; of more the newest are shown."""


@dataclass(frozen=True)
class Mark:
    """Something that was done at a time, such as an approved lesson."""

    at: datetime
    title: str


def diamonds(
    figure: go.Figure, marks: Sequence[Mark], place: float, theme: Theme, plotted: Callable[[datetime], datetime]
) -> None:
    """Draw the marks at this height of the figure, whose axis shows a time as `plotted`."""
    figure.add_scatter(
        x=[plotted(mark.at) for mark in marks], y=[place] * len(marks), mode="markers", name="what was done",
        marker={
            "symbol": "diamond", "size": 11, "color": theme.series[3], "line": {"color": theme.surface, "width": 1},
        },
        customdata=[plotly_safe(mark.title, 90) for mark in marks],
        hovertemplate="%{customdata}, %{x|%Y-%m-%d}<extra></extra>",
    )  # fmt: skip


def split(figure: go.Figure, at: datetime, *, flagged: bool, early: bool, theme: Theme) -> None:
    """Draw the time of a change (a plotted one), or where it is likeliest; `early`: there is more room after it."""
    figure.add_shape(
        type="line", x0=at, x1=at, y0=0, y1=1, yref="paper",
        line={"color": theme.text, "width": 1.5, "dash": "dash"},
    )  # fmt: skip
    # Words on the side with more room, so that they never leave a narrow screen.
    figure.add_annotation(
        x=at, y=1, yref="paper", yanchor="top", xanchor="left" if early else "right", showarrow=False,
        text=f"{'change' if flagged else 'likeliest split'}, {at:%Y-%m-%d}",
        font={"color": theme.text, "size": 12}, xshift=4 if early else -4,
    )  # fmt: skip
