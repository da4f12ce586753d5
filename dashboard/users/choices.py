"""Preferences over time: what a user chose of what they were shown, feature by feature."""

from datetime import timedelta
from math import sqrt
from typing import Any, Final, Literal

import plotly.graph_objects as go
import polars as pl
import streamlit as st

from dashboard import charts, data
from dashboard.ui import axis, states
from dashboard.ui.text import plotly_safe
from dashboard.ui.theme import Theme
from store import user_history
from store.user_history import CHOICES

__all__ = ["LEAST_LISTS", "figure", "show"]

LEAST_LISTS: Final = 5  # of a point
_Z95: Final = 1.959963984540054
_MOST_FEATURES: Final = 6
_BY_MONTH: Final = timedelta(days=120)


def show(user_id: str, run: dict[str, Any] | None, theme: Theme, *, span: timedelta) -> None:
    """The course of each feature's part in their choices, by week or, where `span` is long, by month."""
    if run is None or "refused" in run["parameters"]:
        states.nothing("No choices to show yet", "It shows the features of what people value, once those are known.")
        return
    features = tuple(run["parameters"].get("features", ()))[:_MOST_FEATURES]
    bucket: Literal["week", "month"] = "month" if span > _BY_MONTH else "week"
    frame = data.query(user_history.choices, user_id, features, bucket=bucket)
    lists = int(frame.group_by("bucket").agg(pl.col("lists").max())["lists"].sum())
    told = frame.filter(pl.col("lists") >= LEAST_LISTS)
    if told.is_empty():
        states.not_enough("What they chose over time", lists, LEAST_LISTS, f"lists chosen from within a {bucket}")
        return
    st.plotly_chart(
        figure(told, theme, bucket=bucket), key="user-choices", config=charts.CONFIG,
        alt=f"What the user chose against what they were shown, by {bucket}, for {told['feature'].n_unique()} features",
    )  # fmt: skip
    st.caption(
        f"Above 0: they chose more of it than they were shown, in units of the feature, from {lists:,} lists; 95 % "
        f"intervals, {bucket}s with at least {LEAST_LISTS} lists. As seen, not corrected for position."
    )


def figure(frame: pl.DataFrame, theme: Theme, *, bucket: str) -> go.Figure:
    """One line a feature with its 95 % intervals (`frame` of `store.user_history.CHOICES`)."""
    assert frame.schema == CHOICES
    drawn = go.Figure()
    symbols = ("circle", "diamond", "square", "x", "triangle-up", "cross")
    names = frame["feature"].unique().sort().to_list()
    width = 2.4 if bucket == "week" else 8.0
    for place, feature in enumerate(names):
        own = frame.filter(feature=feature).sort("bucket")
        # Side by side, so that intervals of the same time can be told apart.
        shift = timedelta(days=width * (place - (len(names) - 1) / 2) / max(1, len(names)))
        half = [_Z95 * sqrt((variance or 0.0) / n) for variance, n in own.select("variance", "lists").rows()]
        colour = theme.series[place % len(theme.series)]
        drawn.add_scatter(
            x=[axis.in_utc(moment) + shift for moment in own["bucket"]], y=own["preferred"].to_list(),
            mode="lines+markers", name=plotly_safe(feature, 28), line={"color": colour, "width": 1.5},
            marker={"size": 8, "symbol": symbols[place % len(symbols)], "color": colour},
            error_y={"type": "data", "array": half, "color": colour, "thickness": 1.2, "width": 3},
            customdata=[
                f"{value:+.2f} ± {spread:.2f}, n {n:,} lists, {bucket} of {moment:%Y-%m-%d}"
                for moment, value, spread, n in zip(own["bucket"], own["preferred"], half, own["lists"], strict=True)
            ],
            hovertemplate="%{customdata}<extra>" + plotly_safe(feature, 28) + "</extra>",
        )  # fmt: skip
    drawn.add_hline(y=0, line={"color": theme.muted, "width": 1, "dash": "dot"})
    drawn.update_layout(
        height=300, margin={"l": 0, "r": 8, "t": 6, "b": 0}, hovermode="closest", dragmode=False,
        **theme.layout,
        legend={"orientation": "h", "yanchor": "top", "y": -0.24, "x": 0},
    )  # fmt: skip
    small = {"color": theme.muted, "size": 11}
    drawn.update_xaxes(showgrid=False, fixedrange=True, zeroline=False, tickfont=small)
    drawn.update_yaxes(
        gridcolor=theme.grid, fixedrange=True, zeroline=False, automargin=True, tickfont=small,
        title_text="chosen minus shown", title_font=small,
    )  # fmt: skip
    axis.name_periods(drawn, theme, bucket)
    return drawn
