"""What was done at a time, such as an approved lesson, as figures show it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import plotly.graph_objects as go

from dashboard.ui.text import plotly_safe
from dashboard.ui.theme import Theme

__all__ = ["MOST", "Mark", "diamonds", "plotted"]

MOST: Final = 24
"""Marks of one figure; of more the newest are shown."""


@dataclass(frozen=True)
class Mark:
    """Something that was done at a time, such as an approved lesson."""

    at: datetime
    title: str


def diamonds(figure: go.Figure, marks: Sequence[Mark], place: float, theme: Theme) -> None:
    """Draw the marks at this height of the figure."""
    figure.add_scatter(
        x=[plotted(mark.at) for mark in marks], y=[place] * len(marks), mode="markers", name="what was done",
        marker={
            "symbol": "diamond", "size": 11, "color": theme.series[3], "line": {"color": theme.surface, "width": 1},
        },
        customdata=[plotly_safe(mark.title, 90) for mark in marks],
        hovertemplate="%{customdata}, %{x|%Y-%m-%d}<extra></extra>",
    )  # fmt: skip


def plotted(moment: datetime) -> datetime:
    """A UTC time as figures take it: they would shift one with a zone to the browser's."""
    return moment.replace(tzinfo=None)
