"""Rates of segments and users: how they are spread, and one by one with search and pages."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import data, runtime
from dashboard.learn import tables
from dashboard.ui import export
from dashboard.ui import format as fmt
from dashboard.ui.text import clean, one_line
from store import exploration

__all__ = ["PAGE_SIZE", "rows", "show"]

PAGE_SIZE: Final = 50


def show(agent: str) -> None:
    """The rates that go with what waits, else with what is applied."""
    own = data.query(exploration.current).filter(agent=agent)
    rated = own.filter(state="recommended").to_dicts() or own.filter(state="applied").to_dicts()
    if not rated:
        return
    shown = rated[0]
    st.subheader("Segments and users", anchor=False)
    summary = data.query(exploration.unit_summary, agent, shown["recommended_at"])
    if summary.is_empty():
        st.caption("This recommendation is of the agent alone: nobody has a rate of their own.")
        return
    waits = "recommended" if shown["state"] == "recommended" else "applied"
    for row in summary.iter_rows(named=True):
        st.markdown(_sentence(row, waits))
    counts = dict(summary.select("scope", "units").iter_rows())
    if counts.get("segment"):
        frame = data.query(exploration.unit_rates, agent, shown["recommended_at"], scope="segment", limit=200)
        _table(frame, f"{frame.height} segments", key=f"segments_{agent}")
    if counts.get("user"):
        _users(agent, shown["recommended_at"], counts["user"])


def rows(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows of `store.exploration.UNIT_RATES` as the tables show them."""
    return pl.DataFrame(
        [
            {
                "unit": one_line(row["unit"], 80) or "(empty)",
                "rate": row["rate"],
                "interval": f"{fmt.percent(row['lower'])} to {fmt.percent(row['upper'])}",
                "n": row["decisions"],
                "why": clean(row["reason"])[:600],
                "doubt": row["doubt"],
                "progress": row["progress"],
                "drift": row["drift"],
                "tolerance": _tolerance(row),
                "dial": row["dial"],
            }
            for row in frame.to_dicts()
        ],
        schema={
            "unit": pl.String, "rate": pl.Float64, "interval": pl.String, "n": pl.Int64, "why": pl.String,
            "doubt": pl.Float64, "progress": pl.Float64, "drift": pl.Float64, "tolerance": pl.String,
            "dial": pl.Float64,
        },
    )  # fmt: skip


def _sentence(row: dict[str, Any], waits: str) -> str:
    noun = fmt.plural(row["units"], row["scope"])
    never = f"; {row['never']:,} are never explored" if row["never"] else ""
    return (
        f"**{noun}**, {waits}: mean {fmt.percent(row['mean'])}, from {fmt.percent(row['lowest'])} over a median of "
        f"{fmt.percent(row['median'])} to {fmt.percent(row['highest'])}{never}."
    )


def _users(agent: str, moment: datetime, total: int) -> None:
    search = st.text_input(
        "Search users", key=f"unit_search_{agent}", type="search", max_chars=200, placeholder="Part of a user's id",
        label_visibility="collapsed",
    )  # fmt: skip
    wanted = (search or "").strip()
    slot = st.container()
    if wanted:
        frame = data.query(exploration.unit_rates, agent, moment, scope="user", search=wanted, limit=PAGE_SIZE + 1)
        more = frame.height > PAGE_SIZE
        with slot:
            if frame.is_empty():
                st.text(f"No user's id holds “{clean(wanted)}”.")
                return
            _table(frame.head(PAGE_SIZE), "Users that match", key=f"users_{agent}")
            if more:
                st.caption(f"The {PAGE_SIZE} with the highest rates; search for more of the id to see others.")
        return
    pages = max(1, -(-total // PAGE_SIZE))
    chosen = st.pagination(pages, key=f"unit_page_{agent}") if pages > 1 else 1
    place = min(max(1, chosen), pages)
    frame = data.query(
        exploration.unit_rates, agent, moment, scope="user", limit=PAGE_SIZE, offset=(place - 1) * PAGE_SIZE
    )
    store = runtime.current().store

    def everybody() -> pl.DataFrame:
        return rows(exploration.unit_rates(store, agent, moment, scope="user", limit=total))

    with slot:
        _table(frame, f"Users, page {place} of {pages}", key=f"users_{agent}", whole=everybody)


def _table(frame: pl.DataFrame, alt: str, *, key: str, whole: Callable[[], pl.DataFrame] | None = None) -> None:
    export.table(
        f"rates by {frame['scope'][0]}",
        rows(frame), key=key, whole=whole, hide_index=True, height=tables.height(frame.height), alt=alt,
        column_config={
            "unit": st.column_config.TextColumn(frame["scope"][0], pinned=True, width=170),
            "rate": st.column_config.NumberColumn("rate", format="percent", width=70),
            "interval": st.column_config.TextColumn("95 % interval", width=130),
            "n": st.column_config.NumberColumn("n", format="localized", width=60, help="Decisions behind it"),
            "why": st.column_config.TextColumn("why", width=460),
            "doubt": st.column_config.NumberColumn(
                "doubt", format="percent", width=70, help="Probability that another arm is better"
            ),
            "progress": st.column_config.NumberColumn(
                "progress", format="percent", width=76, help="Learning progress and novelty"
            ),
            "drift": st.column_config.NumberColumn(
                "drift", format="percent", width=64, help="How much recent drift raises it"
            ),
            "tolerance": st.column_config.TextColumn(
                "tolerance", width=120, help="Change of their reward on exploratory decisions, ± sd"
            ),
            "dial": st.column_config.NumberColumn("dial", format="%.2f", width=56),
        },
    )  # fmt: skip


def _tolerance(row: dict[str, Any]) -> str | None:
    if row["tolerance"] is None:
        return None
    sd = "" if row["tolerance_sd"] is None else f" ± {row['tolerance_sd']:.3f}"
    return f"{row['tolerance']:+.3f}{sd}"
