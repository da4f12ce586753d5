"""How a user is steered: the rates of exploration and why, what exploring brought, and the latest decisions."""

from datetime import datetime
from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import data
from dashboard.drift import responding
from dashboard.learn import tables
from dashboard.ui import export, states
from dashboard.ui import format as fmt
from dashboard.ui.text import clean, one_line
from pipelines.stats.proportion import wilson_interval
from store import exploration, user_history

__all__ = ["decisions", "rates", "show"]

_MOST: Final = 200


def show(user_id: str, now: datetime) -> None:
    """Rates with their reasons, exploring so far, and decisions of this user."""
    st.subheader("Exploration", anchor=False)
    rates(user_id)
    with states.guarded("Responses so far", key="applied"):
        responding.applied(now=now, user_id=user_id)
    summary = data.fresh(user_history.explored, user_id)
    if summary.is_empty():
        states.nothing(
            "No decisions for this user",
            "They appear when an agent asks the steering endpoint with this user's id: see Exploration.",
        )
        return
    for row in summary.iter_rows(named=True):
        st.text(clean(_explored(row)))
    decisions(user_id, int(summary["decisions"].sum()))


def rates(user_id: str) -> None:
    """The user's own rates at each agent, waiting and in force, with the reason of each."""
    own = data.query(exploration.of_user, user_id)
    if own.is_empty():
        st.caption("This user has no exploration rate of their own: the rate of their segment or agent holds.")
        return
    for row in own.iter_rows(named=True):
        state = "applied" if row["state"] == "applied" else "recommended, waits for an operator"
        with st.container(border=True, gap="xsmall"):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.text(one_line(row["agent"], 60), width="content")
                st.badge(state, color="green" if row["state"] == "applied" else "orange")
            st.text(
                f"{fmt.percent(row['rate'])} of decisions may leave the greedy arm ({fmt.percent(row['lower'])} to "
                f"{fmt.percent(row['upper'])}, n {row['decisions']:,}, as of {fmt.when(row['recommended_at'])})"
            )
            st.text(clean(row["reason"])[:600])
            parts = {"doubt": row["doubt"], "learning progress": row["progress"], "recent drift": row["drift"]}
            said = [f"{name} {fmt.percent(value)}" for name, value in parts.items() if value is not None]
            if said:
                st.caption("Of this: " + ", ".join(said))


def decisions(user_id: str, total: int) -> None:
    """The latest decisions for this user with what came of them."""
    frame = data.fresh(user_history.decided, user_id, limit=_MOST)
    st.dataframe(
        _rows(frame), key="user-decisions", hide_index=True, height=tables.height(frame.height), placeholder="",
        alt=f"The latest {frame.height} decisions for this user",
        column_config=fmt.columns({
            "at": st.column_config.DatetimeColumn("at (UTC)", format="YYYY-MM-DD HH:mm:ss", timezone="UTC", width=140),
            "explored": st.column_config.CheckboxColumn(width=70, help="It left the greedy arm"),
            "propensity": st.column_config.NumberColumn(format="%.3f", width=80),
            "rate": st.column_config.NumberColumn(format="percent", width=64),
            "reward": st.column_config.NumberColumn(format="%.2f", width=64, help="Of the trace that names it"),
        }),
    )  # fmt: skip
    if total > frame.height:
        st.caption(f"The latest {frame.height:,} of {total:,}.")
    export.download(frame, f"decisions of {user_id}", "user-decisions-export")


def _rows(frame: pl.DataFrame) -> pl.DataFrame:
    texts = ("agent", "arm", "greedy", "note")
    return pl.DataFrame(
        [
            {
                "at": row["decided_at"], "agent": one_line(row["agent"], 40), "arm": one_line(row["arm"], 60),
                "explored": row["explore"], "greedy": one_line(row["greedy_arm"], 60),
                "propensity": row["propensity"], "rate": row["rate"], "reward": row["reward"],
                "note": one_line(row["note"], 160) or None,
            }
            for row in frame.to_dicts()
        ],
        schema_overrides={
            "at": frame.schema["decided_at"], **dict.fromkeys(texts, pl.String()), "reward": pl.Float64(),
        },
    )  # fmt: skip


def _explored(row: dict[str, Any]) -> str:
    """One agent in words: how much was explored and the rewards with and without, each with its n."""
    n = row["decisions"]
    name = one_line(row["agent"], 60)
    said = f"{name}: {row['explored']:,} of {fmt.plural(n, 'decision')} explored"
    if n >= fmt.MINIMUM_RATE:
        said += f", {fmt.percent(row['explored'] / n)} ({fmt.interval_percent(wilson_interval(row['explored'], n))})"
    said += f"; allowed on average {fmt.percent(row['rate'])}."
    for words, side in (("when exploring", "explored"), ("else", "greedy")):
        rewarded = row[f"rewarded_{side}"]
        if rewarded >= fmt.MINIMUM_POINT:
            said += f" Mean reward {words} {row[f'reward_{side}']:.2f}, n {rewarded:,}."
        else:
            said += f" Mean reward {words}: {fmt.missing(rewarded, fmt.MINIMUM_POINT, 'decision')}."
    return said
