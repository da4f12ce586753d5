"""Panels of Exploration: an agent's recommended and applied rate, its arms, and what an operator does about it."""

import json
from datetime import datetime
from typing import Any

import polars as pl
import streamlit as st

from dashboard import charts, runtime
from dashboard.learn import figures, tables
from dashboard.learn.actions import operator, perform
from dashboard.ui import format as fmt
from dashboard.ui import text
from dashboard.ui.text import plotly_safe
from dashboard.ui.theme import Theme
from pipelines.exploration import rates
from store import exploration

__all__ = ["agent_panel", "history_table", "missing_panel", "without_recommendation"]


def without_recommendation(arms: pl.DataFrame) -> pl.DataFrame:
    """Agents with two or more arms that have too few traces for a rate (agent), and what each still needs (reason).

    `arms` has the columns `means.MEANS`: every arm as the active reward model knows it.
    """
    least = rates.ExplorationConfig().min_traces
    several = arms.filter(pl.len().over("agent") > 1)
    short = several.filter(pl.col("n") < least).with_columns(
        needs=pl.format("arm {} has {} traces with signals and needs {} more", "arm", "n", least - pl.col("n"))
    )
    return short.group_by("agent", maintain_order=True).agg(reason=pl.col("needs").str.join("; "))


def agent_panel(
    agent: str, waiting: dict[str, Any] | None, applied: dict[str, Any] | None, theme: Theme, now: datetime
) -> None:
    """One agent: the rate that waits with its reason, the rate that is applied, the arms, and the decision."""
    shown = waiting or applied
    if shown is None:
        return
    with st.container(border=True):
        text.line(agent)
        numbers, picture = st.columns([2, 3], gap="large")
        with numbers:
            _rates(waiting, applied, now)
            st.caption("Why")
            text.line(shown["reason"])
            if waiting is not None:
                _decide(agent, waiting)
        with picture:
            _arms(agent, shown, theme)


def missing_panel(recommendations: pl.DataFrame) -> None:
    """Agents whose arms have too few traces, and what each still needs (columns agent and reason)."""
    with st.container(border=True):
        st.markdown(f"**{fmt.plural(recommendations.height, 'agent')} without a recommendation**")
        for agent, reason in recommendations.select("agent", "reason").iter_rows():
            text.line(f"{agent}: {reason}")


def history_table(frame: pl.DataFrame) -> None:
    """Every recommendation and what became of it (`frame` of `store.exploration.RATES`)."""
    st.dataframe(
        frame.select(
            "agent", pl.col("recommended_at").alias("recommended"), "rate", "lower", "upper",
            pl.col("decisions").alias("n"), "state", pl.col("decided_by").alias("by"),
            pl.col("decided_at").alias("decided"),
        ),
        hide_index=True, height=tables.height(frame.height),
        column_config={
            "recommended": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm", timezone="UTC"),
            "decided": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm", timezone="UTC"),
            **{name: st.column_config.NumberColumn(format="percent") for name in ("rate", "lower", "upper")},
            "n": st.column_config.NumberColumn(help="Traces with signals behind the estimate"),
        },
        alt=f"{frame.height} recommendations",
    )  # fmt: skip


def _rates(waiting: dict[str, Any] | None, applied: dict[str, Any] | None, now: datetime) -> None:
    left, right = st.columns(2)
    if waiting is None:
        left.metric("recommended", fmt.NONE, help="Nothing new to recommend on the present evidence")
    else:
        left.metric("recommended", fmt.percent(waiting["rate"]))
        left.caption(
            f"{fmt.percent(waiting['lower'])} to {fmt.percent(waiting['upper'])}, n {waiting['decisions']:,}, "
            f"{fmt.relative(waiting['recommended_at'], now)}"
        )
    if applied is None:
        right.metric("applied", fmt.NONE, help="No rate was ever applied")
    else:
        right.metric("applied", fmt.percent(applied["rate"]))
        right.caption(f"since {fmt.utc(applied['decided_at'], seconds=False)}")


def _decide(agent: str, waiting: dict[str, Any]) -> None:
    with st.container(horizontal=True):
        st.button(
            "Apply", key=f"apply_{agent}", type="primary", icon=":material/check:", on_click=_apply,
            args=(agent, waiting["recommended_at"]),
        )  # fmt: skip
        _decline_form(agent, waiting["recommended_at"])


def _arms(agent: str, shown: dict[str, Any], theme: Theme) -> None:
    arms = pl.DataFrame(json.loads(shown["arms"]), infer_schema_length=None).sort("mean", descending=True)
    frame = arms.with_columns(
        label=pl.col("arm"),
        lower=(pl.col("mean") - figures.Z95 * pl.col("sd")).clip(0.0, 1.0),
        upper=(pl.col("mean") + figures.Z95 * pl.col("sd")).clip(0.0, 1.0),
    )
    hover = [
        f"{plotly_safe(arm, 60)}: {mean:.3f} ({lower:.3f} to {upper:.3f}), n {n:,}, best with {best:.1%}"
        for arm, mean, lower, upper, n, best in frame.select(
            "arm", "mean", "lower", "upper", "n", "best"
        ).iter_rows()
    ]  # fmt: skip
    st.plotly_chart(
        figures.intervals(
            frame.with_columns(hover=pl.Series("hover", hover, pl.String)), theme, axis="mean reward, 95 % interval"
        ),
        key=f"arms-{agent}", config=charts.CONFIG, alt=f"Mean reward of {arms.height} arms with 95 % intervals",
    )  # fmt: skip
    limits = frame.select("lower", "upper").iter_rows()
    st.dataframe(
        frame.select(
            "arm", pl.col("best").alias("P(best)"), "mean",
            pl.Series("95 % interval", [f"{low:.3f} to {high:.3f}" for low, high in limits]), "n",
        ),
        hide_index=True,
        column_config={
            "P(best)": st.column_config.ProgressColumn(format="percent", max_value=1.0),
            "mean": st.column_config.NumberColumn(format="%.3f"),
        },
        alt="Arms with their probability to be the best",
    )  # fmt: skip


def _decline_form(agent: str, recommended_at: datetime) -> None:
    with st.popover("Decline", icon=":material/close:"), st.form(f"decline_form_{agent}", border=False):
        st.text_area(
            "Why is it declined?", key=f"decline_reason_{agent}",
            placeholder="It is not recommended again on the same evidence.",
        )  # fmt: skip
        st.form_submit_button(
            "Decline", type="primary", icon=":material/close:", key=f"decline_{agent}", on_click=_decline,
            args=(agent, recommended_at),
        )  # fmt: skip


def _decline(agent: str, recommended_at: datetime) -> None:
    store, reason = runtime.current().store, str(st.session_state[f"decline_reason_{agent}"])

    def work() -> str:
        exploration.decline(store, agent, recommended_at, operator=operator(), reason=reason)
        return f"Declined: {agent} keeps the rate it had."

    perform(work)


def _apply(agent: str, recommended_at: datetime) -> None:
    store = runtime.current().store

    def work() -> str:
        exploration.apply(store, agent, recommended_at, operator=operator())
        return f"Applied: {agent} explores at the recommended rate from now on."

    perform(work)
