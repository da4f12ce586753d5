"""The panel of signal yield: how many bits each source of evidence tells about how a trace went."""

from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import charts, data
from dashboard.learn import figures, tables
from dashboard.ui import export, states
from dashboard.ui import format as fmt
from dashboard.ui.text import one_line, plotly_safe
from dashboard.ui.theme import Theme
from store import signal_yield

__all__ = ["show"]

_EVERYBODY: Final = "all agents"


def show(theme: Theme, agents: tuple[str, ...] = ()) -> None:
    """Bits by source, over all agents or for one of them."""
    with states.guarded("Signal yield", key="signal-yield"):
        _show(theme, agents)


def _show(theme: Theme, agents: tuple[str, ...]) -> None:
    run = data.query(signal_yield.latest_run)
    if run is None:
        states.nothing(
            "No yield measured yet",
            "The signal yield job compares what each source says of a trace with what people said who were asked at "
            "random, or with verified outcomes. It runs by itself once there are signals.",
        )
        return
    every = data.query(signal_yield.yields)
    names = [name for name in every["agent"].drop_nulls().unique().sort() if not agents or name in agents]
    chosen = st.selectbox("Yield of", [None, *names], format_func=lambda name: name or _EVERYBODY, key="yield-agent")
    own = every.filter(pl.col("agent").is_null() if chosen is None else pl.col("agent") == chosen)
    measured = own.filter(pl.col("bits").is_not_null())
    if measured.is_empty():
        need = int(run["parameters"].get("min_traces", 200))
        have = max(own["n"].to_list(), default=0)
        states.not_enough("Signal yield", have, need, "traces with solicited feedback or a verified outcome")
    else:
        _figure(measured, theme)
        _table(measured)
    for row in own.filter(pl.col("bits").is_null()).iter_rows(named=True):
        st.text(f"{one_line(row['source'], 60)}: not enough data: {row['reason']}")
    _estimator(run)


def _figure(measured: pl.DataFrame, theme: Theme) -> None:
    drawn = measured.filter(pl.col("lower").is_not_null()).select(
        label="source", mean="bits", lower="lower", upper="upper",
        hover=pl.Series(
            [
                f"{plotly_safe(row['source'])}: {row['bits']:.4f} bits ({row['lower']:.4f} to {row['upper']:.4f}), "
                f"n {row['n']:,}, against {plotly_safe(row['reference'])}"
                for row in measured.filter(pl.col("lower").is_not_null()).iter_rows(named=True)
            ],
            dtype=pl.String,
        ),
    )  # fmt: skip
    if drawn.height:
        st.plotly_chart(
            figures.intervals(drawn, theme, axis="bits per episode, 95 % interval", highest=None),
            key="signal-yield", config=charts.CONFIG, alt=f"Bits per episode of {drawn.height} sources with intervals",
        )  # fmt: skip


def _table(measured: pl.DataFrame) -> None:
    rows = [
        {
            "source": row["source"], "against": row["reference"], "bits": row["bits"],
            "interval": _limits(row["lower"], row["upper"]), "when present": row["when_present"],
            "share": row["share"], "thousand": row["per_thousand_tokens"],
            "thousand interval": _limits(row["thousand_lower"], row["thousand_upper"]), "n": row["n"],
            "present": row["present"], "users": row["users"],
        }
        for row in measured.iter_rows(named=True)
    ]  # fmt: skip
    export.table(
        "signal yield", pl.DataFrame(rows, infer_schema_length=None), hide_index=True, height=tables.height(len(rows)),
        column_config={
            "bits": st.column_config.NumberColumn("bits per episode", format="%.4f", help="Silence included"),
            "interval": st.column_config.TextColumn("95 % interval"),
            "when present": st.column_config.NumberColumn(
                "bits when it speaks", format="%.4f", help="Per episode in which the source says something"
            ),
            "share": st.column_config.ProgressColumn("speaks in", format="percent", max_value=1.0),
            "thousand": st.column_config.NumberColumn("bits per 1,000 tokens", format="%.4f"),
            "thousand interval": st.column_config.TextColumn("its interval"),
            "n": st.column_config.NumberColumn(format="localized", help="Traces with what it is held against"),
            "present": st.column_config.NumberColumn("n speaking", format="localized"),
            "users": st.column_config.NumberColumn(format="localized"),
        },
        alt=f"Signal yield of {len(rows)} sources",
    )  # fmt: skip


def _limits(lower: float | None, upper: float | None) -> str:
    return "no interval" if lower is None or upper is None else f"{lower:.4f} to {upper:.4f}"


def _estimator(run: dict[str, Any]) -> None:
    stated = run["parameters"]
    st.caption(
        f"Estimator: {stated.get('estimator', 'not stated')} ({stated.get('replicates', 0)} replicates), of what the "
        f"source says with what it is held against, within agents. A lower bound of what it tells about the quality "
        f"itself; compare sources with the same reference. {run['referenced']:,} of "
        f"{fmt.plural(run['traces'], 'trace')} have a reference. As of {fmt.when(run['measured_at'])}."
    )
