"""Panel of Rewards on calibration: is a reward of .8 right in eight of ten cases, on people it has not seen?"""

from typing import Final

import plotly.graph_objects as go
import polars as pl
import streamlit as st

from dashboard import charts, data
from dashboard.ui import export, states
from dashboard.ui.theme import Theme
from store import reward_versions

__all__ = ["LEAST_FOR_ERROR", "error_text", "figure", "show"]

_HELD_OUT: Final = ("users and tasks", "users", "tasks")
_LEAST_LABELS: Final = 50
LEAST_FOR_ERROR: Final = 200  # below, chance alone moves the error by more than is worth telling
_LEAST_BINS: Final = 5
_BASES: Final = {
    "solicited": "what people answered who were asked at random",
    "verified": "outcomes that code has checked: another question than whether people are satisfied",
    "volunteered": "volunteered feedback, which comes mostly from the unhappy: read it with care",
}
_NOUNS: Final = {
    "solicited": "answers asked for at random",
    "verified": "outcomes checked by code",
    "volunteered": "volunteered answers",
}


def show(reward_model_id: int, theme: Theme) -> None:
    """The reliability diagram of one version, with the number of labels and an interval for every point."""
    bins = data.query(reward_versions.calibration, reward_model_id)
    metrics = data.query(reward_versions.metrics).filter(pl.col("reward_model_id") == reward_model_id)
    labels = int(bins.filter(pl.col("held_out") == _HELD_OUT[0])["n"].sum())
    if labels == 0:
        states.nothing(
            "Calibration cannot be checked",
            "There are no labels. Ask a random one or two of a hundred people whether they are satisfied, and log the "
            "probability of being asked: that is the cheapest way to know how far rewards can be trusted.",
        )
        return
    if labels < _LEAST_LABELS:
        states.not_enough("Calibration", labels, _LEAST_LABELS, "labels")
        return
    held_out = str(st.segmented_control(
        "Predictions for", _HELD_OUT, default=_HELD_OUT[0], key="calibration_held_out", required=True,
        format_func=lambda name: f"new {name}",
    ))  # fmt: skip
    own = bins.filter(pl.col("held_out") == held_out)
    error = metrics.filter((pl.col("held_out") == held_out) & (pl.col("metric") == "ece"))
    if error.height:
        row = error.row(0, named=True)
        if row["n"] < LEAST_FOR_ERROR or own.height < _LEAST_BINS:
            st.caption(f"Calibration error: {error_text(row['n'], row['basis'])}.")
        else:
            limits = "" if row["lower"] is None else f" ({row['lower']:.3f} to {row['upper']:.3f})"
            st.metric(
                "calibration error", f"{row['value']:.3f}{limits}",
                help="Mean distance between predicted and observed over bins of equal size. Chance alone gives a "
                "distance above zero.",
            )  # fmt: skip
    st.plotly_chart(
        figure(own, theme), key=f"calibration-{reward_model_id}", config=charts.CONFIG,
        alt=f"Predicted against observed satisfaction in {own.height} bins of {int(own['n'].sum())} labels",
    )  # fmt: skip
    basis = str(own["basis"][0])
    st.caption(f"n {int(own['n'].sum()):,} labels: {_BASES.get(basis, basis)}. Lines: 95 % intervals (Wilson).")
    with st.expander("As a table"):
        export.table(
            "calibration", own.select("predicted", "observed", "lower", "upper", "n"), hide_index=True,
            column_config={
                name: st.column_config.NumberColumn(format="%.3f")
                for name in ("predicted", "observed", "lower", "upper")
            },
            alt=f"Calibration in {own.height} bins",
        )  # fmt: skip


def error_text(labels: int, basis: str) -> str:
    """Why there is no calibration error: how many labels there are of those that it needs."""
    noun = _NOUNS.get(basis, "labels")
    return f"not enough data: {labels:,} of {LEAST_FOR_ERROR} {noun}"


def figure(bins: pl.DataFrame, theme: Theme) -> go.Figure:
    """Observed over predicted with intervals, and the diagonal on which a calibrated model lies (`bins` as BINS)."""
    drawn = go.Figure()
    drawn.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"color": theme.muted, "width": 1, "dash": "dot"}, showlegend=False,
        hoverinfo="skip",
    )  # fmt: skip
    hover = [
        f"predicted {p:.3f}, observed {o:.3f} ({low:.3f} to {high:.3f}), n {n:,}"
        for p, o, low, high, n in bins.select("predicted", "observed", "lower", "upper", "n").iter_rows()
    ]
    drawn.add_scatter(
        x=bins["predicted"].to_list(), y=bins["observed"].to_list(), mode="markers", showlegend=False,
        marker={"size": 9, "color": theme.accent},
        error_y={
            "type": "data", "symmetric": False, "color": theme.accent, "thickness": 1.5, "width": 4,
            "array": (bins["upper"] - bins["observed"]).to_list(),
            "arrayminus": (bins["observed"] - bins["lower"]).to_list(),
        },
        customdata=hover, hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip
    drawn.update_layout(
        height=340, margin={"l": 0, "r": 8, "t": 6, "b": 0}, dragmode=False, **theme.layout,
    )  # fmt: skip
    axis = {"range": [-0.02, 1.02], "gridcolor": theme.grid, "zeroline": False, "fixedrange": True}
    drawn.update_xaxes(**axis, title_text="predicted", tickfont={"color": theme.muted, "size": 11})
    drawn.update_yaxes(**axis, title_text="observed", tickfont={"color": theme.muted, "size": 11})
    return drawn
