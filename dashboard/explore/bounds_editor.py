"""What an operator allows of exploration: floor, cap, dial, daily regret budget, solicit rate, automatic."""

from typing import Final

import polars as pl
import streamlit as st

from dashboard import data, runtime
from dashboard.access import offer
from dashboard.learn import tables
from dashboard.learn.actions import operator, perform
from dashboard.ui import export
from dashboard.ui import format as fmt
from dashboard.ui.text import one_line
from pipelines.exploration import bounds
from store import exploration
from store.frames import each

__all__ = ["show"]

_LEFT: Final = "respect what they prefer"
_RIGHT: Final = "gently challenge it"


def show(agent: str) -> None:
    """The agent's bounds in a form, and those of single segments and users."""
    st.subheader("Bounds", anchor=False)
    stated = data.query(exploration.bounds, agent)
    left, right = st.columns(2, gap="large")
    with left:
        since = stated.filter(scope="agent")["updated_at"]
        # Whatever somebody else saves meanwhile begins the form anew, so that it never writes back what was.
        _of_agent(agent, bounds.of_agent(stated), f"{agent}_{since[0]:%Y%m%d%H%M%S%f}" if len(since) else agent)
    with right:
        _of_unit(agent, stated)


def _of_agent(agent: str, held: bounds.AgentBounds, mark: str) -> None:
    with st.form(f"bounds_{agent}"):
        st.markdown("**Of the agent**")
        low, high = st.columns(2)
        low.number_input(
            "Floor, %", 0.0, 100.0, held.floor * 100, 0.5, key=f"bounds_floor_{mark}", format="%.1f",
            help="The least that is recommended to anybody who has not opted out",
        )  # fmt: skip
        high.number_input(
            "Cap, %", 0.0, 100.0, held.cap * 100, 0.5, key=f"bounds_cap_{mark}", format="%.1f",
            help="The most that anybody is explored",
        )  # fmt: skip
        st.slider("Dial", 0.0, 1.0, held.dial, 0.05, key=f"bounds_dial_{mark}", format="%.2f")
        st.caption(f"0: {_LEFT}. 1: {_RIGHT}. The middle is the default.")
        low, high = st.columns(2)
        low.number_input(
            "Daily regret budget, points", 0.0, None, held.daily_regret_budget, 0.5, key=f"bounds_budget_{mark}",
            placeholder="none", help="Worst-case reward points a UTC day; exploring stops for the day when it is spent",
        )  # fmt: skip
        high.number_input(
            "Ask for feedback, %", 0.0, 100.0, held.solicit_rate * 100, 0.5, key=f"bounds_solicit_{mark}",
            format="%.1f", help="Share of decisions, drawn at random, at which the agent is told to ask",
        )  # fmt: skip
        st.checkbox(
            "Apply recommended rates by themselves while they keep to these bounds", held.automatic,
            key=f"bounds_automatic_{mark}",
        )  # fmt: skip
        offer.submit(
            "Save",
            type="primary",
            icon=":material/save:",
            key=f"bounds_save_{agent}",
            on_click=_save_agent,
            args=(agent, mark),
        )


def _of_unit(agent: str, stated: pl.DataFrame) -> None:
    with st.form(f"unit_bounds_{agent}"):
        st.markdown("**Of one segment or user**")
        kind, name = st.columns([1, 2])
        kind.selectbox("Scope", ("segment", "user"), key=f"unit_scope_{agent}")
        name.text_input("Name or id", key=f"unit_name_{agent}", max_chars=512)
        low, high, dial = st.columns(3)
        for column, field, label in ((low, "floor", "Floor, %"), (high, "cap", "Cap, %")):
            column.number_input(
                label, 0.0, 100.0, None, 0.5, key=f"unit_{field}_{agent}", format="%.1f", placeholder="the agent's"
            )
        dial.number_input(
            "Dial, 0 to 1", 0.0, 1.0, None, 0.05, key=f"unit_dial_{agent}", format="%.2f", placeholder="the agent's"
        )
        st.caption("What is left empty is as the agent's; all empty removes the bounds.")
        offer.submit("Save", icon=":material/save:", key=f"unit_save_{agent}", on_click=_save_unit, args=(agent,))
    own = stated.filter(pl.col("scope") != "agent")
    if own.is_empty():
        return
    export.table(
        "bounds",
        own.select(
            "scope", each(own["unit"], lambda unit: one_line(unit, 80), pl.String), "floor",
            "cap", "dial", pl.col("updated_by").alias("by"), pl.col("updated_at").alias("since"),
        ),
        hide_index=True, height=tables.height(own.height), alt=f"{own.height} bounds of segments and users",
        column_config=fmt.columns({
            **{field: st.column_config.NumberColumn(format="percent") for field in ("floor", "cap")},
            "since": st.column_config.DatetimeColumn("since (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC"),
        }),
    )  # fmt: skip


def _save_agent(agent: str, mark: str) -> None:
    store = runtime.current().store
    read = st.session_state
    held = bounds.of_agent(exploration.bounds(store, agent))
    budget = read[f"bounds_budget_{mark}"]

    def work() -> str:
        exploration.set_bounds(
            store, agent, "agent", "", floor=_share(read[f"bounds_floor_{mark}"]),
            cap=_share(read[f"bounds_cap_{mark}"]), dial=_number(read[f"bounds_dial_{mark}"]),
            daily_regret_budget=_number(budget), solicit_rate=_share(read[f"bounds_solicit_{mark}"]),
            automatic=bool(read[f"bounds_automatic_{mark}"]), by=operator(),
        )  # fmt: skip
        more = ""
        if bool(read[f"bounds_automatic_{mark}"]) and not held.automatic:
            more = " Recommended rates within them apply by themselves from the next run of the exploration job on."
        return f"Saved the bounds of {agent}.{more}"

    perform(work)


def _save_unit(agent: str) -> None:
    store, read = runtime.current().store, st.session_state
    scope, unit = str(read[f"unit_scope_{agent}"]), str(read[f"unit_name_{agent}"]).strip()

    def work() -> str:
        exploration.set_bounds(
            store, agent, scope, unit,  # type: ignore[arg-type]
            floor=_share(read[f"unit_floor_{agent}"]), cap=_share(read[f"unit_cap_{agent}"]),
            dial=_number(read[f"unit_dial_{agent}"]), daily_regret_budget=None, solicit_rate=None, automatic=None,
            by=operator(),
        )  # fmt: skip
        return f"Saved the bounds of the {scope} {one_line(unit, 80)}."

    perform(work)


def _share(percent: object) -> float | None:
    """Percent as a share, without what binary fractions add."""
    number = _number(percent)
    return None if number is None else round(number / 100, 6)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
