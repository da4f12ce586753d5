"""Axes of time: moments stand where the operator's clock shows them; what is counted by days of UTC stays in UTC.

Figures know no zones, so they get times without one, and each axis says whose times they are.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import plotly.graph_objects as go

from dashboard.ui import format as fmt
from dashboard.ui.theme import Theme

__all__ = ["in_utc", "moment", "moments", "moments_named", "name_moments", "name_periods", "periods_named"]


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


def moments_named(theme: Theme, noun: str = "time") -> dict[str, Any]:
    """What an axis of `moments` says below the figure: whose clock it follows, as in time in Berlin."""
    return _named(theme, f"{noun} in {fmt.zone_label(fmt.zone())}")


def periods_named(theme: Theme, noun: str) -> dict[str, Any]:
    """What an axis says of its days, weeks or months: they are those of UTC, whatever clock the operator reads."""
    return _named(theme, f"{noun}s in UTC")


def name_moments(figure: go.Figure, theme: Theme, noun: str = "time") -> None:
    """Let the lowest axis of a figure say `moments_named`."""
    _name(figure, moments_named(theme, noun))


def name_periods(figure: go.Figure, theme: Theme, noun: str) -> None:
    """Let the lowest axis of a figure say `periods_named`."""
    _name(figure, periods_named(theme, noun))


def _named(theme: Theme, words: str) -> dict[str, Any]:
    return {
        "title": {"text": words, "standoff": 4, "font": {"color": theme.muted, "size": 11}},
        "automargin": True,
    }


def _name(figure: go.Figure, named: dict[str, Any]) -> None:
    # The lowest axis of figures in rows, which share it.
    lowest = max(len(list(figure.select_xaxes())), 1)
    figure.update_layout({f"xaxis{lowest if lowest > 1 else ''}": named})
