"""The lessons that one user's agents were given, and held back from them."""

from typing import Any, Final
from urllib.parse import quote

import polars as pl
import streamlit as st

from dashboard import data
from dashboard.feel.glossary import meaning
from dashboard.learn import tables
from dashboard.ui import export, states
from dashboard.ui import format as fmt
from dashboard.ui.text import one_line
from store import user_history

__all__ = ["show"]

_MOST: Final = 200


def show(user_id: str) -> None:
    """One row a lesson: how often served and withheld, and the rewards of both."""
    st.subheader("Lessons served", anchor=False, help=meaning("exposure"))
    frame = data.fresh(user_history.lessons, user_id, limit=_MOST)
    if frame.is_empty():
        states.nothing(
            "No lessons for this user",
            "A lesson is listed here when a decision for this user could have served it: see Lessons.",
        )
        return
    shown = pl.DataFrame(
        [
            {
                "open": f"/lessons?lesson={quote(row['lesson_id'], safe='')}",
                "lesson": one_line(row["title"] or row["lesson_id"], 120), "state": row["state"],
                "agent": one_line(row["agent"], 40), "served": row["served"], "withheld": row["withheld"],
                "no room": row["over_budget"], "with": _mean(row, "served"), "without": _mean(row, "withheld"),
                "latest": row["latest"],
            }
            for row in frame.to_dicts()
        ],
        schema_overrides={"latest": frame.schema["latest"], "state": pl.String(), "lesson": pl.String()},
    )  # fmt: skip
    st.dataframe(
        shown, key="user-lessons", hide_index=True, height=tables.height(shown.height), placeholder="",
        alt=f"{shown.height} lessons that decisions for this user could have served",
        column_config=fmt.columns({
            "open": st.column_config.LinkColumn("", display_text="lesson", width=62),
            "lesson": st.column_config.TextColumn(width=300),
            "served": st.column_config.NumberColumn(format="localized", width=64),
            "withheld": st.column_config.NumberColumn(
                format="localized", width=74, help="Held back by chance, so that its worth can be measured"
            ),
            "no room": st.column_config.NumberColumn(format="localized", width=70),
            "with": st.column_config.TextColumn("reward when served", width=150),
            "without": st.column_config.TextColumn("reward when withheld", width=160),
            "latest": st.column_config.DatetimeColumn(
                "latest (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC", width=130
            ),
        }),
    )  # fmt: skip
    st.caption("Means of one user's few decisions: what a lesson is worth is measured over all users, see Lessons.")
    export.download(frame, f"lessons of {user_id}", "user-lessons-export")


def _mean(row: dict[str, Any], side: str) -> str:
    n = row[f"rewarded_{side}"]
    if n < fmt.MINIMUM_POINT:
        return f"too few: {n} of {fmt.MINIMUM_POINT}"
    return f"{row[f'reward_{side}']:.2f}, n {n:,}"
