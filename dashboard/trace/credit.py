"""Credit of the steps of one trace: how much each moved the expected reward, by decision and by luck."""

from typing import Any, Final

import plotly.graph_objects as go
import polars as pl
import streamlit as st

from dashboard import charts, data
from dashboard.learn.credit_panels import accuracy
from dashboard.ui import export, states, theme
from dashboard.ui import format as fmt
from dashboard.ui.text import one_line, plotly_safe
from dashboard.ui.theme import Theme
from store import credit
from store.frames import each

__all__ = ["credit_tab"]

_MOST_BARS: Final = 100
_ROW_PIXELS: Final = 26
_SCROLL_PIXELS: Final = 560
_Z95: Final = 1.959963984540054


def credit_tab(trace_id: str) -> None:
    """A bar per step, split into decision and luck, and what they sum to."""
    steps = data.query(credit.of_trace, trace_id)
    if steps.is_empty():
        run = data.query(credit.shown_run)
        if run is None:
            states.nothing("No credit yet", "The credit job divides rewards among steps; it runs every hour.")
        else:
            states.nothing(
                "No credit for this trace",
                "It has no steps, came after the last run of the credit job, is older than the newest million steps, "
                "or its agent has too few traces with signals to tell steps apart: the Rewards page says which.",
            )
        return
    baseline, gained = steps["value"][0], steps["credit"].sum()
    st.text(
        f"Expected at the start {baseline:.3f}, credit of {fmt.plural(steps.height, 'step')} {gained:+.3f}: "
        f"reward {baseline + gained:.3f}."
    )
    drawn = steps if steps.height <= _MOST_BARS else _largest(steps)
    if drawn.height < steps.height:
        st.caption(f"The {drawn.height} steps with the largest credit of {steps.height:,}; all are in the table.")
    figure = _figure(drawn, theme.current())
    frame = st.container(height=_SCROLL_PIXELS) if figure.layout.height > _SCROLL_PIXELS else st.container()
    frame.plotly_chart(
        figure, key=f"credit-{trace_id}", config=charts.CONFIG,
        alt=f"Credit of {drawn.height} steps, split into decision and luck; the same numbers are in the table",
    )  # fmt: skip
    st.caption(
        "Decision: choosing this step rather than what is usual in this situation. Luck: what came of it, for the last "
        "step with all that no step explains. Predictive, not causal; what to expect is learned from other users' "
        "traces, or from other traces where an agent has one user only."
    )
    with st.expander("As a table"):
        _table(steps)
    st.caption(accuracy())


def _largest(steps: pl.DataFrame) -> pl.DataFrame:
    return steps.top_k(_MOST_BARS, by=pl.col("credit").abs()).sort("position")


def _figure(steps: pl.DataFrame, colours: Theme) -> go.Figure:
    rows = list(range(steps.height))
    hover = [_hover(row) for row in steps.iter_rows(named=True)]
    figure = go.Figure()
    for name, colour in (("decision", colours.accent), ("luck", colours.muted)):
        figure.add_bar(
            y=rows, x=steps[name].to_list(), orientation="h", name=name, width=0.7, marker={"color": colour},
            customdata=hover, hovertemplate="%{customdata}<extra></extra>",
        )  # fmt: skip
    figure.add_scatter(
        x=steps["credit"].to_list(), y=rows, mode="markers", name="credit", customdata=hover,
        marker={"symbol": "line-ns", "size": 14, "line": {"width": 2, "color": colours.text}},
        hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(
        barmode="relative", height=70 + _ROW_PIXELS * steps.height, hovermode="closest", dragmode=False,
        margin={"l": 0, "r": 8, "t": 30, "b": 0}, **colours.layout,
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0, "title": None},
    )  # fmt: skip
    labels = [
        f"{row['position']}  {plotly_safe(row['name'] or row['kind'], 30)}{' ✕' if row['status'] == 'error' else ''}"
        for row in steps.iter_rows(named=True)
    ]
    figure.update_yaxes(
        tickmode="array", tickvals=rows, ticktext=labels, range=[steps.height - 0.5, -0.5], fixedrange=True,
        showgrid=False, zeroline=False, automargin=True, tickfont={"size": 12, "color": colours.text},
    )  # fmt: skip
    figure.update_xaxes(
        title_text="credit, in units of reward", fixedrange=True, zeroline=True, zerolinecolor=colours.muted,
        gridcolor=colours.grid, tickfont={"size": 11, "color": colours.muted},
        title_font={"size": 11, "color": colours.muted},
    )  # fmt: skip
    return figure


def _hover(row: dict[str, Any]) -> str:
    margin = _Z95 * row["sd"]
    return (
        f"<b>{plotly_safe(row['name'] or row['kind'], 60)}</b><br>{row['kind'] or 'step'}, step {row['position']:,}<br>"
        f"credit {row['credit']:+.3f} ({row['credit'] - margin:+.3f} to {row['credit'] + margin:+.3f})<br>"
        f"decision {row['decision']:+.3f}, luck {row['luck']:+.3f}<br>expected before {row['value']:.3f}"
    )


def _table(steps: pl.DataFrame) -> None:
    named = steps.select(name=pl.coalesce("name", "kind"))["name"]
    shown = steps.select(
        pl.col("position").alias("step"), each(named, lambda name: one_line(name, 80), pl.String),
        "kind", "status", pl.col("value").alias("expected before"), "credit",
        (pl.col("sd") * _Z95).alias("±"), "decision", "luck",
        pl.col("parallel_credit").alias("share of its group"), pl.col("members").alias("ran at once"),
    )  # fmt: skip
    alone = shown["ran at once"].null_count() == shown.height
    number = st.column_config.NumberColumn(format="%+.3f")
    export.table(
        "credit of steps",
        shown.drop("share of its group", "ran at once") if alone else shown, hide_index=True,
        height="content" if steps.height <= 12 else 420,
        column_config={
            "expected before": st.column_config.NumberColumn(format="%.3f"), "credit": number, "decision": number,
            "luck": number, "±": st.column_config.NumberColumn(format="%.3f", help="Half of the 95 % interval"),
            "share of its group": st.column_config.NumberColumn(
                format="%+.3f", help="Shapley value: its part of the joint credit of the spans that ran at once"
            ),
        },
        alt=f"Credit of {steps.height} steps",
    )  # fmt: skip
