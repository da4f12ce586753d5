"""The list of users: its controls, which live in the URL, its table and its pages."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import data
from dashboard.ui import format as fmt
from dashboard.ui.text import one_line
from store import users
from store.users import MINIMUM_REWARDS, SORTS, Sort, UserPage, UserRun

__all__ = ["CHOSEN", "PAGE_SIZE", "Wanted", "answer", "controls", "open_user", "pager", "rows", "table"]

CHOSEN: Final = "user"
PAGE_SIZE: Final = 50


@dataclass(frozen=True)
class Wanted:
    """What the controls say."""

    search: str
    segment: str | None
    sort: Sort


def controls() -> Wanted:
    """Draw the search, the segment where there are several, and the order."""
    segments = data.query(users.segments)
    with st.container(horizontal=True, vertical_alignment="bottom", key="user-controls"):
        search = st.text_input(
            "Search users", key="find_user", bind="query-params", type="search", max_chars=200,
            placeholder="Part of a user's id", label_visibility="collapsed",
        )  # fmt: skip
        segment = None
        if len(segments) > 1:
            segment = st.selectbox(
                "Segment", segments, index=None, key="segment", bind="query-params", placeholder="All segments",
                label_visibility="collapsed", width=200, format_func=lambda name: one_line(name, 40),
            )  # fmt: skip
        sort = st.selectbox(
            "Order", SORTS, key="users_sort", bind="query-params", label_visibility="collapsed", width=220
        )
    return Wanted(
        (search or "").strip(),
        segment if segment in segments else None,
        sort if sort in SORTS else "latest",
    )


def answer(run: UserRun, compared: tuple[int, int], page: UserPage, wanted: Wanted, now: datetime) -> None:
    """How many users there are, how many act against what they say, and how old the list is."""
    could, contradict = compared
    if could:
        st.markdown(
            f"**{fmt.plural(run.users, 'user')}.** {contradict:,} of the {could:,} who could be compared act against "
            "the goals they state."
        )
    else:
        st.markdown(f"**{fmt.plural(run.users, 'user')}.**")
    st.caption(
        f"Counted {fmt.relative(run.counted_at, now)} ({fmt.utc(run.counted_at, seconds=False)}) by the preferences "
        "job, over all time: of the sidebar's filters none applies."
    )
    if wanted.search or wanted.segment:
        st.text(f"{fmt.plural(page.total, 'user')} match{'es' if page.total == 1 else ''}.")


def table(page: UserPage, *, alt: str) -> None:
    """The users as a table; selecting a row opens the user."""
    event: Any = st.dataframe(
        rows(page.rows), key="users-table", hide_index=True, on_select="rerun", selection_mode="single-row",
        height="content", row_height=30, placeholder="", alt=alt,
        column_config={
            "user": st.column_config.TextColumn("User", width=190, pinned=True),
            "segment": st.column_config.TextColumn("Segment", width=130),
            "traces": st.column_config.NumberColumn("Traces", format="localized", width=70),
            "reward": st.column_config.TextColumn(
                "Mean reward", width=170,
                help="With its 95 % interval, over traces with signals of their own (n). "
                f"From {MINIMUM_REWARDS} such traces on.",
            ),
            "weeks": st.column_config.LineChartColumn(
                "By week", y_min=0.0, y_max=1.0, width=110,
                help=f"Mean reward of the newest {users.WEEKS} weeks, where there were traces with signals.",
            ),
            "signals": st.column_config.NumberColumn("Signals", format="localized", width=72),
            "explicit": st.column_config.NumberColumn(
                "Explicit", format="localized", width=72, help="Thumbs, ratings, comments, stated goals and the like"
            ),
            "says": st.column_config.TextColumn(
                "Says and does", width=160, help="Whether choices contradict stated goals, and the angle between them"
            ),
            "latest": st.column_config.DatetimeColumn(
                "Latest (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC", width=130
            ),
        },
    )  # fmt: skip
    chosen = event["selection"]["rows"]
    if chosen and chosen[0] < page.rows.height:
        open_user(page.rows["user_id"][chosen[0]])
        st.rerun()


def rows(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows of `store.users.LISTED` as the table shows them."""
    shown = [
        {
            "user": one_line(row["user_id"], 80) or "(empty)",
            "segment": one_line(row["segment"], 40) or None,
            "traces": row["traces"],
            "reward": reward_words(row),
            "weeks": [value for value in row["weeks"] if value is not None],
            "signals": row["signals"],
            "explicit": row["explicit"],
            "says": _says(row),
            "latest": row["latest_at"],
        }
        for row in frame.to_dicts()
    ]
    schema: dict[str, pl.DataType | type[pl.DataType]] = {
        "user": pl.String, "segment": pl.String, "traces": pl.Int64, "reward": pl.String,
        "weeks": pl.List(pl.Float64), "signals": pl.Int64, "explicit": pl.Int64, "says": pl.String,
        "latest": frame.schema["latest_at"],
    }  # fmt: skip
    return pl.DataFrame(shown, schema=schema, orient="row")


def reward_words(row: dict[str, Any]) -> str:
    """A user's mean reward with its interval and n, or how many traces with signals are missing."""
    if row["rewarded"] < MINIMUM_REWARDS or row["reward"] is None:
        return f"too few: {row['rewarded']} of {MINIMUM_REWARDS} traces"
    interval = fmt.mean_interval(row["rewarded"], row["reward"], row["reward_variance"], row["reward_sd2"])
    return f"{interval.estimate:.2f} ({interval.lower:.2f} to {interval.upper:.2f}), n {row['rewarded']:,}"


def pager(total: int) -> int:
    """The buttons of the pages of `total` users; the page chosen, from 1."""
    pages = max(1, -(-total // PAGE_SIZE))
    chosen = st.pagination(pages, key="users_page", bind="query-params") if pages > 1 else 1
    return min(max(1, chosen), pages)


def open_user(user_id: str | None) -> None:
    """Go to a user on this page, or back to the list."""
    if user_id is None:
        st.query_params.pop(CHOSEN, None)
    else:
        st.query_params[CHOSEN] = user_id


def _says(row: dict[str, Any]) -> str | None:
    if row["contradicts"] is None:
        return None
    return f"contradicts, {row['angle']:.0f}°" if row["contradicts"] else f"no contradiction, {row['angle']:.0f}°"
