"""Panels of Rewards on the signals: how representative volunteered feedback is, what each kind is worth."""

from typing import Any, Final

import plotly.graph_objects as go
import polars as pl
import streamlit as st

from dashboard import charts, data
from dashboard.learn import tables
from dashboard.ui import export, states, text
from dashboard.ui import format as fmt
from dashboard.ui.theme import Theme
from pipelines.rewards.measurement import sensitivity
from pipelines.stats.proportion import wilson_interval
from store import feedback, reward_versions

__all__ = ["curve", "loadings", "volunteered"]

_RHOS: Final = (1.0, 0.8, 0.65, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.083, 0.05)
_SHOWN_AGENTS: Final = 8
_Z95: Final = 1.959963984540054


def volunteered(agents: tuple[str, ...], theme: Theme) -> None:
    """What the silent would have said: volunteered thumbs, those asked for at random, and the sensitivity curve."""
    frame = data.query(feedback.thumbs)
    if agents:
        frame = frame.filter(pl.col("agent").is_in(agents))
    if frame.is_empty():
        states.nothing(
            "No thumbs",
            "Thumbs of people are compared here with those that were asked for at random: the unhappy speak up more.",
        )
        return
    export.table(
        "volunteered and solicited", pl.DataFrame([_row(row) for row in frame.iter_rows(named=True)]), hide_index=True,
        height=tables.height(frame.height), alt=f"Volunteered and solicited thumbs of {frame.height} agents",
    )  # fmt: skip
    drawn = frame.filter(pl.col("volunteered") >= fmt.MINIMUM_RATE).head(_SHOWN_AGENTS)
    if drawn.is_empty():
        text.line(fmt.missing(int(str(frame["volunteered"].max())), fmt.MINIMUM_RATE, "volunteered thumb"))
        return
    st.plotly_chart(
        curve(drawn, theme), key="sensitivity", config=charts.CONFIG,
        alt=f"Share satisfied of {drawn.height} agents for each assumed selection of volunteers",
    )  # fmt: skip
    st.caption(
        "How much of the dissatisfaction is real cannot be told from volunteered feedback alone: if the satisfied "
        "speak up rho times as often as the dissatisfied, the true odds are the observed odds / rho. Diamonds: what "
        "people said who were asked at random, at the rho that would explain it. Ask 1 to 2 % of people at random and "
        "the curve is not needed."
    )


def curve(frame: pl.DataFrame, theme: Theme) -> go.Figure:
    """Share satisfied against the assumed rho, one line an agent (`frame` of `store.feedback.THUMBS`)."""
    figure = go.Figure()
    for at, row in enumerate(frame.iter_rows(named=True)):
        observed = row["volunteered_up"] / row["volunteered"]
        colour = theme.series[at % len(theme.series)]
        name = text.plotly_safe(row["agent"] or "no agent stated", 32)
        figure.add_scatter(
            x=list(_RHOS), y=sensitivity(observed, _RHOS).tolist(), mode="lines", name=name,
            line={"color": colour, "width": 2}, hovertemplate="rho %{x:.2f}: %{y:.0%}<extra>" + name + "</extra>",
        )  # fmt: skip
        point = _explained(row)
        if point is not None:
            rho, share, lower, upper = point
            figure.add_scatter(
                x=[rho], y=[share], mode="markers", showlegend=False,
                marker={"symbol": "diamond", "size": 11, "color": colour, "line": {"color": theme.text, "width": 1}},
                error_y={
                    "type": "data", "symmetric": False, "array": [upper - share], "arrayminus": [share - lower],
                    "color": colour,
                },
                hovertemplate=f"asked at random: %{{y:.0%}}, n {row['solicited']:,}<extra>{name}</extra>",
            )  # fmt: skip
    figure.update_layout(
        height=320, margin={"l": 8, "r": 8, "t": 8, "b": 8}, **theme.layout, legend={"orientation": "h", "y": -0.25},
    )  # fmt: skip
    figure.update_xaxes(
        title_text="rho: how often the satisfied speak up, per dissatisfied", type="log", autorange="reversed",
        tickvals=[1, 0.5, 0.2, 0.1, 0.05], gridcolor=theme.grid,
    )  # fmt: skip
    figure.update_yaxes(title_text="share satisfied", tickformat=".0%", range=[0, 1], gridcolor=theme.grid)
    return figure


def loadings(reward_model_id: int, agents: tuple[str, ...]) -> None:
    """How strongly each kind of signal reads the quality of a trace, with its interval and what it rests on."""
    frame = data.query(reward_versions.loadings, reward_model_id)
    if agents:
        frame = frame.filter(pl.col("agent").is_in(agents))
    if frame.is_empty():
        states.nothing(
            "No measurement model",
            "This version weighs signals by stated reliabilities. The measurement model comes with the next fit.",
        )
        return
    export.table(
        "loadings of signals",
        frame.select(
            pl.col("agent").fill_null("no agent stated"), "kind", pl.col("name").fill_null(""), "signals", "users",
            _limited(frame, "loading"), _limited(frame, "intercept"),
            "weight", "anchor", "basis", "note",
        ),
        hide_index=True, height=tables.height(frame.height),
        column_config={
            "loading": st.column_config.TextColumn(
                help="Logits of the signal per logit of quality, with its 95 % interval; the anchor is fixed at 1"
            ),
            "intercept": st.column_config.TextColumn(
                help="Logits of the signal where quality is 0, with its 95 % interval"
            ),
            "weight": st.column_config.NumberColumn(
                format="%.2f", help="Signals of one trace depend on each other: each counts for this much"
            ),
            "anchor": st.column_config.CheckboxColumn(help="Fixes the scale: the reward means what this signal means"),
        },
        alt=f"Loadings of {frame.height} kinds of signal",
    )  # fmt: skip


def _row(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "agent": row["agent"] or "no agent stated",
        "traces": row["traces"],
        "volunteered": _share(row["volunteered_up"], row["volunteered"]),
        "of traces": fmt.percent(row["volunteered"] / row["traces"]),
        "asked at random": _share(row["solicited_up"], row["solicited"]),
    }


def _share(up: int, given: int) -> str:
    if given < fmt.MINIMUM_RATE:
        return f"not enough data: {given:,} of {fmt.MINIMUM_RATE}"
    return f"{fmt.percent(up / given)} up ({fmt.interval_percent(wilson_interval(up, given))}), n {given:,}"


def _explained(row: dict[str, Any]) -> tuple[float, float, float, float] | None:
    """The rho at which the curve meets what was asked at random, its share and limits; None below the minimum."""
    if row["solicited"] < fmt.MINIMUM_RATE or not 0 < row["volunteered_up"] < row["volunteered"]:
        return None
    found = wilson_interval(row["solicited_up"], row["solicited"])
    if not 0.0 < found.estimate < 1.0:
        return None
    observed = row["volunteered_up"] / row["volunteered"]
    rho = (observed / (1 - observed)) / (found.estimate / (1 - found.estimate))
    return min(max(rho, _RHOS[-1]), 1.0), found.estimate, found.lower, found.upper


def _limited(frame: pl.DataFrame, name: str) -> pl.Series:
    """Estimates of `store.reward_versions.LOADINGS` with their intervals, as text."""
    columns = [name, f"{name}_sd", f"{name}_lower", f"{name}_upper"]
    return pl.Series(name, [_with_limits(*row) for row in frame.select(columns).iter_rows()], dtype=pl.String)


def _with_limits(value: float | None, sd: float | None, lower: float | None, upper: float | None) -> str:
    if value is None:
        return "not estimated"
    if sd is None or sd <= 0.0:
        return f"{value:.2f} (fixed)"
    # Versions that were fitted without limits.
    lower = value - _Z95 * sd if lower is None else lower
    upper = value + _Z95 * sd if upper is None else upper
    return f"{value:.2f} ({lower:.2f} to {upper:.2f})"
