"""The answer on top: what waits, what exploring costs today against the budget, arms switched off, violations."""

from datetime import datetime, timedelta
from typing import Final

import polars as pl
import streamlit as st

from dashboard import data
from dashboard.ui import format as fmt
from dashboard.ui import text
from pipelines.exploration import bounds
from store import arms, decisions, exploration, guardrails

__all__ = ["VIOLATION_DAYS", "across", "one_agent"]

VIOLATION_DAYS: Final = 7
_SHOWN: Final = 5
_TRIMTAB: Final = "trimtab"


def across(agents: list[str], now: datetime) -> None:
    """What waits and what went wrong, over all agents."""
    current = data.query(exploration.current).filter(pl.col("agent").is_in(agents))
    waiting = current.filter(state="recommended")
    listed = data.query(arms.listed).filter(pl.col("agent").is_in(agents))
    off = listed.filter((pl.col("state") == "off") & (pl.col("state_by") == _TRIMTAB))
    broken = _violations(now).filter(pl.col("agent").is_in(agents))
    shadows = listed.filter(state="shadow").height
    parts = [
        f"**{fmt.plural(waiting.height, 'recommended rate')} wait{'s' if waiting.height == 1 else ''} for you**",
        f"{fmt.plural(shadows, 'shadow arm')} could be enabled" if shadows else "",
        f"**{fmt.plural(off.height, 'arm')} switched off by Trimtab**"
        if off.height
        else "no arm is switched off by Trimtab",
        f"**{fmt.plural(int(broken['violations'].sum()), 'guardrail violation')}** in {VIOLATION_DAYS} days"
        if broken.height
        else f"no guardrail violation in {VIOLATION_DAYS} days",
    ]  # fmt: skip
    sentence = ", ".join(part for part in parts if part)
    st.markdown(f"{sentence}.")
    if waiting.height and len(agents) > 1:
        names = ", ".join(text.one_line(agent, 60) for agent in waiting["agent"].head(_SHOWN))
        st.text(f"Waiting: {names}{', …' if waiting.height > _SHOWN else ''}")
    for row in off.head(_SHOWN).iter_rows(named=True):
        st.text(
            f"Off: {text.one_line(row['agent'], 60)}, {text.one_line(row['arm'], 60)}, since "
            f"{fmt.when(row['updated_at'], seconds=False)}. {text.one_line(row['state_reason'], 300)}"
        )
    if off.height > _SHOWN:
        st.caption(f"{off.height - _SHOWN} more in the tab Arms.")


def one_agent(agent: str, now: datetime) -> None:
    """Four figures of the agent looked at."""
    applied = data.query(exploration.current).filter(agent=agent, state="applied")
    within = bounds.of_agent(data.query(exploration.bounds, agent))
    listed = data.query(arms.listed, agent=agent)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    today = data.fresh(decisions.ledger, agent, midnight)
    broken = _violations(now).filter(agent=agent)
    with st.grid(4, min_column_width=150, gap="small"):
        with st.container(border=True, height="stretch", gap="xsmall"):
            if applied.height:
                st.metric("Applied rate", fmt.percent(applied["rate"][0]))
                st.caption(f"since {fmt.when(applied['decided_at'][0], seconds=False)}")
            else:
                st.metric("Applied rate", fmt.NONE)
                st.caption(f"{fmt.percent(exploration.RATE_WITHOUT_DECISION)} holds until one is applied")
        with st.container(border=True, height="stretch", gap="xsmall"):
            _regret(today, within.daily_regret_budget)
        with st.container(border=True, height="stretch", gap="xsmall"):
            enabled, off = listed.filter(state="enabled").height, listed.filter(state="off").height
            st.metric("Arms enabled", f"{enabled} of {listed.height}")
            shadows = listed.height - enabled - off
            # With one arm there is nothing to choose from, whatever the rate.
            st.caption(
                f"{shadows} shadow, {off} off" + ("; exploring needs two enabled" if enabled < 2 else "")
            )  # fmt: skip
        with st.container(border=True, height="stretch", gap="xsmall"):
            found = int(broken["violations"].sum()) if broken.height else 0
            st.metric(f"Violations, {VIOLATION_DAYS} days", fmt.count(found))
            traces = int(broken["traces"].sum()) if broken.height else 0
            st.caption(f"in {fmt.plural(traces, 'trace')}" if found else "of the guardrails that are on")


def _regret(today: pl.DataFrame, budget: float | None) -> None:
    worst = float(today["worst_regret"].sum())
    made = int(today["decisions"].sum())
    label = "Regret today, at worst"
    if budget is None:
        st.metric(label, f"{worst:.2f} points")
        st.caption(f"{fmt.plural(made, 'decision')}, no daily budget")
        return
    st.metric(label, f"{worst:.2f} of {budget:.2f}", help="Reward points since midnight UTC against the daily budget")
    st.progress(min(1.0, worst / budget) if budget > 0 else 1.0)
    held = int(today["held_back"].sum())
    st.caption(f"{fmt.plural(made, 'decision')}" + (f", {held:,} held back by the budget" if held else ""))


def _violations(now: datetime) -> pl.DataFrame:
    since = (now - timedelta(days=VIOLATION_DAYS)).replace(second=0, microsecond=0)
    return data.query(guardrails.violation_counts, since=since)
