"""The surprise of one trace: how unusual it is among recent ones, and which of its steps are."""

from typing import Any, Final

import plotly.graph_objects as go
import polars as pl
import streamlit as st

from dashboard import charts, data
from dashboard.learn import tables
from dashboard.ui import export, states, theme
from dashboard.ui import format as fmt
from dashboard.ui.text import plotly_safe
from dashboard.ui.theme import Theme
from pipelines.transitions.steps import step_surprise
from store import transition_models

__all__ = ["show"]

_ALARM: Final = 3.0  # standard deviations: what is drawn as unusual
_MOST_DRAWN: Final = 300


def show(trace_id: str) -> None:
    """Conformal p-value of the trace and the standardised surprise of each of its steps."""
    steps = data.query(step_surprise, trace_id)
    if steps.is_empty():
        states.nothing(
            "No transition model speaks of this trace",
            "The transitions job fits one per agent from at least 30 traces, and runs by itself when data arrives.",
        )
        return
    known = data.query(transition_models.surprise_of_trace, trace_id)
    _summary(known.row(0, named=True) if known.height else None)
    unknown = steps.filter(pl.col("state").is_null()).height
    if unknown:
        st.caption(f"{fmt.plural(unknown, 'step')} of a kind that the model has never seen: no numbers for them.")
    _figure(steps.head(_MOST_DRAWN), theme.current())
    if steps.height > _MOST_DRAWN:
        st.caption(f"The first {_MOST_DRAWN} of {steps.height:,} steps are drawn.")
    export.table(
        "surprise",
        steps.select(
            "step", pl.col("state").fill_null("never seen before"), after="previous", p="probability",
            **{"p, user": "user_probability"}, z="z", nats="information", learned="bayesian", n="seen", of="visits",
        ),
        hide_index=True, height=tables.height(steps.height),
        column_config={
            "p": st.column_config.NumberColumn(format="%.4f", help="Probability of this step after the one before"),
            "p, user": st.column_config.NumberColumn(
                format="%.4f", help="For this user: their own counts, with everybody's probabilities as prior"
            ),
            "z": st.column_config.NumberColumn(
                format="%.2f", help="Surprise minus what is usual after that step, in standard deviations"
            ),
            "nats": st.column_config.NumberColumn(format="%.2f", help="-ln p, this very step left out of the counts"),
            "learned": st.column_config.NumberColumn(
                format="%.4f", help="Bayesian surprise in nats: how much this step changed what the model believes"
            ),
            "n": st.column_config.NumberColumn(help="How often the model has seen this transition"),
            "of": st.column_config.NumberColumn(help="How often it has seen the step before"),
        },
        alt=f"Surprise of {steps.height} steps",
    )  # fmt: skip
    st.caption("Model-based, and not a fault by itself: an unusual path can be a good one.")


def _summary(known: dict[str, Any] | None) -> None:
    if known is None:
        st.markdown("**This trace is newer than the model in use**, so it has no p-value yet.")
        return
    p, others, among = known["p_value"], known["compared"], known["comparison"]
    with st.container(horizontal=True):
        st.metric("mean surprise, z", f"{known['mean_z']:+.2f}", help=f"Over {known['transitions']:,} transitions")
        st.metric("p-value", fmt.NONE if p is None else f"{p:.3f}")
        st.metric("information", f"{known['information']:.1f} nats")
    if p is None:
        st.caption("Too few traces of this agent in the last 30 days to compare with: 20 others are needed.")
        return
    whom = "of the same task" if among == "task" else "of the same agent (its task has too few)"
    st.caption(
        f"Conformal p-value against {others:,} traces {whom} in the last 30 days of data: an ordinary trace has a "
        f"p-value of {p:.3f} or less with that probability at most. n {known['transitions']:,} transitions."
    )


def _figure(steps: pl.DataFrame, colours: Theme) -> None:
    drawn = steps.with_row_index("place").filter(pl.col("z").is_not_null())
    if drawn.is_empty():
        return
    z = drawn["z"].to_list()
    names = [plotly_safe(f"{before} → {state}", 80) for before, state in drawn.select("previous", "state").rows()]
    figure = go.Figure()
    figure.add_bar(
        x=drawn["place"].to_list(), y=z, customdata=names, showlegend=False,
        marker={"color": [colours.error if value > _ALARM else colours.accent for value in z]},
        hovertemplate="%{customdata}<br>z %{y:.2f}<extra></extra>",
    )  # fmt: skip
    figure.add_hline(y=_ALARM, line={"color": colours.muted, "dash": "dot", "width": 1})
    figure.update_layout(
        height=240, margin={"l": 0, "r": 8, "t": 6, "b": 0}, dragmode=False, **colours.layout,
    )  # fmt: skip
    figure.update_xaxes(title_text="step", fixedrange=True, showgrid=False)
    figure.update_yaxes(title_text="surprise, z", fixedrange=True, gridcolor=colours.grid, zeroline=True)
    unusual = sum(1 for value in z if value > _ALARM)
    st.plotly_chart(
        figure, key="trace-surprise", config=charts.CONFIG,
        alt=f"Standardised surprise of {len(z)} steps; {unusual} above {_ALARM:g}",
    )  # fmt: skip
