"""What the agents got wrong for one user: causes with their share of the user's traces, and each bad trace."""

from typing import Any, Final
from urllib.parse import quote

import polars as pl
import streamlit as st

from dashboard import data
from dashboard.learn import tables
from dashboard.ui import export, states
from dashboard.ui import format as fmt
from dashboard.ui.text import one_line
from pipelines.failures.axes import EXPLORATION, TITLES, UNKNOWN
from pipelines.stats.proportion import wilson_interval
from store import failures, user_history

__all__ = ["rows", "show"]

_MOST: Final = 500


def show(user_id: str) -> None:
    """Everything that went badly for this user, newest first."""
    if data.query(failures.latest_run) is None:
        states.nothing(
            "No failure labels yet",
            "The failures job names a cause for every trace that went badly. It runs by itself when data arrives.",
        )
        return
    frame = data.query(user_history.failed, user_id, limit=_MOST)
    if frame.is_empty():
        states.nothing(
            "Nothing went badly for this user",
            "None of their traces failed, missed its outcome, or has a reward below the agent's threshold.",
        )
        return
    bad, traces = int(frame["bad"][0]), int(frame["traces"][0])
    if traces >= fmt.MINIMUM_RATE:
        limits = fmt.interval_percent(wilson_interval(bad, traces))
        st.markdown(f"**{bad:,} of their {traces:,} traces went badly**, {fmt.percent(bad / traces)} ({limits}).")
    else:
        missing = fmt.missing(traces, fmt.MINIMUM_RATE, "trace")
        st.markdown(f"**{bad:,} of their {traces:,} traces went badly**; a share: {missing}.")
    st.caption("Deliberate exploration is shown, but it is no failure of the agent. Labels are of the newest run.")
    _causes(frame)
    shown = rows(frame)
    st.dataframe(
        shown, key="user-failures", hide_index=True, height=tables.height(shown.height), placeholder="",
        alt=f"{shown.height} bad traces of this user with their causes",
        column_config=fmt.columns({
            "open": st.column_config.LinkColumn("", display_text="trace", width=60),
            "when": st.column_config.DatetimeColumn("when (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC", width=130),
            "reward": st.column_config.NumberColumn(format="%.2f", width=64),
            "found": st.column_config.TextColumn("what was found", width=420),
            "confidence": st.column_config.NumberColumn(format="%.2f", width=84),
        }),
    )  # fmt: skip
    if bad > frame.height:
        st.caption(f"The newest {frame.height:,} of {bad:,}.")
    export.download(frame.drop("bad", "traces"), f"failures of {user_id}", "user-failures-export")


def rows(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows of `store.user_history.FAILED` as the table shows them."""
    listed: list[dict[str, Any]] = [
        {
            "open": f"/traces?trace={quote(row['trace_id'], safe='')}",
            "when": row["seen_at"],
            "cause": TITLES.get(row["axis"], one_line(row["axis"], 40)),
            "agent": one_line(row["agent"], 40) or None,
            "task": one_line(row["task"], 60) or None,
            "reward": row["reward"],
            "found": one_line(row["detail"], 300),
            "confidence": None if row["axis"] == UNKNOWN else row["confidence"],
        }
        for row in frame.to_dicts()
    ]
    texts = dict.fromkeys(("open", "cause", "agent", "task", "found"), pl.String())
    numbers = dict.fromkeys(("reward", "confidence"), pl.Float64())
    return pl.DataFrame(listed, schema_overrides={**texts, **numbers, "when": frame.schema["seen_at"]})


def _causes(frame: pl.DataFrame) -> None:
    own = frame.filter(pl.col("axis") != EXPLORATION)
    counted = own.group_by("axis").agg(pl.len().alias("traces")).sort("traces", "axis", descending=[True, False])
    words = [f"{TITLES.get(axis, one_line(axis, 40))} {n:,}" for axis, n in counted.head(5).rows()]
    if words:
        st.text(", ".join(words))
