"""Axes of time: moments stand where the operator's clock shows them; what is counted by days of UTC stays in UTC.

Figures know no zones, so they get times without one, and each axis says whose times they are.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

import plotly.graph_objects as go

from dashboard.ui import format as fmt
from dashboard.ui.theme import Theme

__all__ = ["in_utc", "moment", "moments", "name_moments", "name_periods"]


def in_utc(at: datetime) -> datetime:
    """The time on a clock in UTC: for axes of days, weeks and months, which begin at midnight UTC."""
    return at.astimezone(UTC).replace(tzinfo=None)


def moment(at: datetime) -> datetime:
    """The time on the operator's clock, as `dashboard.ui.format.when` writes it."""
    return at.astimezone(fmt.zone() or UTC).replace(tzinfo=None)


def moments(all_at: Iterable[datetime]) -> list[datetime]:
    """Each of the times on the operator's clock."""
    of = fmt.zone() or UTC
    return [at.astimezone(of).replace(tzinfo=None) for at in all_at]


def name_moments(figure: go.Figure, theme: Theme, noun: str = "time") -> None:
    """Say below the figure whose clock its axis of `moments` follows: time in UTC, time in Berlin."""
    _name(figure, theme, f"{noun} in {fmt.zone_label(fmt.zone())}")


def name_periods(figure: go.Figure, theme: Theme, noun: str) -> None:
    """Say below the figure that its days, weeks or months are those of UTC, whatever clock the operator reads."""
    _name(figure, theme, f"{noun}s in UTC")


def _name(figure: go.Figure, theme: Theme, words: str) -> None:
    title = {"text": words, "standoff": 4, "font": {"color": theme.muted, "size": 11}}
    # The lowest axis of figures in rows, which share it.
    lowest = max(len(list(figure.select_xaxes())), 1)
    figure.update_layout({f"xaxis{lowest if lowest > 1 else ''}": {"title": title, "automargin": True}})
