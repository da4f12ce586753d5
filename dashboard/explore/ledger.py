"""What exploring costs: regret of each day against the budget, in reward points and in money."""

from datetime import date, datetime, timedelta
from typing import Any, Final

import plotly.graph_objects as go
import polars as pl
import streamlit as st

from dashboard import charts, data
from dashboard.learn import tables
from dashboard.learn.figures import Z95
from dashboard.ui import axis, export, states
from dashboard.ui import format as fmt
from dashboard.ui.theme import Theme
from pipelines.exploration import bounds, regret
from store import decisions, exploration, logged_decisions
from store.connection import Store

__all__ = ["figure", "show"]

_DAYS: Final = 30


def show(agent: str, now: datetime, theme: Theme) -> None:
    """The last days, the sum of them, and each."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    days = data.fresh(decisions.ledger, agent, midnight - timedelta(days=_DAYS - 1))
    budget = bounds.of_agent(data.query(exploration.bounds, agent)).daily_regret_budget
    if days.is_empty():
        states.nothing(
            f"No decision in the last {_DAYS} days",
            "The ledger counts decisions that this agent asked /v1/steer for: how many left the best arm, and what "
            "that is expected to cost. How to ask is below.",
        )
        return
    made, explored = int(days["decisions"].sum()), int(days["explored"].sum())
    with st.grid(4, min_column_width=150, gap="small"):
        first, second, third, fourth = (st.container(gap="xsmall") for _ in range(4))
    first.metric(f"Decisions, {_DAYS} days", fmt.count(made))
    second.metric("Explored", fmt.percent(explored / made) if made >= fmt.MINIMUM_RATE else fmt.count(explored))
    second.caption(f"{explored:,} of {made:,} left the best arm")
    third.metric("Expected regret", f"{float(days['expected_regret'].sum()):,.2f} points")
    third.caption("against always running the best arm")
    fourth.metric("Worst-case regret", f"{float(days['worst_regret'].sum()):,.2f} points")
    fourth.caption("no daily budget" if budget is None else _kept(days, budget))
    came: pl.DataFrame | None = None
    with states.guarded("What came of it", key="realised"), st.spinner("Reading what came of the decisions"):
        whole, came = data.query(_realised, agent, midnight - timedelta(days=_DAYS - 1))
        _came(whole)
    st.plotly_chart(
        figure(days, budget, theme), key="ledger", config=charts.CONFIG,
        alt=f"Regret of {days.height} days in reward points" + ("" if budget is None else ", with the daily budget"),
    )  # fmt: skip
    _table(days if came is None else days.join(came, on="day", how="left"))


def _came(whole: pl.DataFrame) -> None:
    """What explored decisions got against greedy ones, in points and in money."""
    if whole.is_empty() or whole["realised"][0] is None:
        st.caption(
            "In reward and money: not enough data. No explored decision has a trace with signals of its own yet."
        )
        return
    row = whole.row(0, named=True)
    spread = Z95 * (row["realised_sd"] or 0.0)
    judged = f"n {row['judged']:,} of {row['explored']:,} explored"
    with st.grid(4, min_column_width=150, gap="small"):
        first, second = (st.container(gap="xsmall") for _ in range(2))
    if row["judged"] < fmt.MINIMUM_MEAN:
        first.metric("Realised regret", fmt.NONE)
        first.caption(fmt.missing(row["judged"], fmt.MINIMUM_MEAN, "explored decision") + " with signals")
    else:
        first.metric("Realised regret", f"{row['realised']:+,.2f} points")
        first.caption(f"{row['realised'] - spread:+,.2f} to {row['realised'] + spread:+,.2f}, {judged}")
    second.metric("Extra spend", fmt.money(row["extra_usd"]))
    second.caption("no cost is stated" if row["extra_usd"] is None else "of explored decisions against greedy ones")


def _table(days: pl.DataFrame) -> None:
    names = ["day", "decisions", "sessions", "explored", "rate", "expected_regret", "worst_regret", "held_back"]
    more = [name for name in ("judged", "realised", "extra_usd") if name in days.columns]
    export.table(
        "exploration ledger", days.sort("day", descending=True).select(*names, *more),
        hide_index=True, height=tables.height(days.height), alt=f"The ledger of {days.height} days",
        column_config={
            "day": st.column_config.DateColumn("day (UTC)", format="YYYY-MM-DD"),
            "rate": st.column_config.NumberColumn("mean rate", format="percent"),
            "expected_regret": st.column_config.NumberColumn("expected regret", format="%.3f"),
            "worst_regret": st.column_config.NumberColumn("worst-case regret", format="%.2f"),
            "held_back": st.column_config.NumberColumn("held back", help="Decisions whose rate the budget lowered"),
            "judged": st.column_config.NumberColumn("judged", help="Explored decisions with signals of their own"),
            "realised": st.column_config.NumberColumn(
                "realised regret", format="%+.2f", help="Against greedy decisions for people of the same segment"
            ),
            "extra_usd": st.column_config.NumberColumn("extra spend", format="$%.4f"),
        },
    )  # fmt: skip


def _realised(
    store: Store, agent: str, since: datetime, *, timeout: float | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Realised regret of the whole time and of each day (columns `pipelines.exploration.regret.LEDGER`)."""
    # As the ledger does, only decisions of the steering endpoint; traces may state others.
    logged = logged_decisions.read(store, agent, since, timeout=timeout).filter(origin="steer")
    together = logged.with_columns(decided_at=pl.lit(since, logged.schema["decided_at"]))
    by_day = regret.realised(logged).select("day", "judged", "realised", "extra_usd")
    return regret.realised(together), by_day


def figure(days: pl.DataFrame, budget: float | None, theme: Theme) -> go.Figure:
    """Bars of worst-case and expected regret of each day, and the budget as a line (`days` of LEDGER, one agent)."""
    moments: list[date] = days["day"].to_list()
    drawn = go.Figure()
    for column, name, colour in (
        ("worst_regret", "at worst", theme.muted), ("expected_regret", "expected", theme.accent),
    ):  # fmt: skip
        drawn.add_bar(
            x=moments, y=days[column].to_list(), name=name, marker={"color": colour, "line": {"width": 0}},
            hovertemplate="%{x|%Y-%m-%d}: %{y:.3f} points<extra>" + name + "</extra>",
        )  # fmt: skip
    if budget is not None:
        drawn.add_hline(y=budget, line={"color": theme.error, "width": 1.5, "dash": "dash"})
        drawn.add_annotation(
            xref="paper", x=1, y=budget, text=f"budget {budget:g}", showarrow=False, xanchor="right", yanchor="bottom",
            font={"color": theme.error, "size": 11},
        )  # fmt: skip
    drawn.update_layout(
        height=260, barmode="overlay", bargap=0.25, margin={"l": 0, "r": 8, "t": 6, "b": 0}, dragmode=False,
        **theme.layout,
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0},
    )  # fmt: skip
    drawn.update_xaxes(showgrid=False, fixedrange=True, type="date", tickfont={"color": theme.muted, "size": 11})
    axis.name_periods(drawn, theme, "day")
    drawn.update_yaxes(
        title_text="reward points", gridcolor=theme.grid, fixedrange=True, rangemode="tozero", automargin=True,
        title_font={"color": theme.muted, "size": 11}, tickfont={"color": theme.muted, "size": 11},
    )  # fmt: skip
    return drawn


def _kept(days: pl.DataFrame, budget: float) -> str:
    kept = days.filter(pl.col("worst_regret") <= budget + 1e-9).height
    highest: Any = days["worst_regret"].max()
    return f"{kept} of {fmt.plural(days.height, 'day')} within {budget:g}; highest {highest:.2f}"
