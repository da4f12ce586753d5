"""The list of users: its controls, which live in the URL, its table with drift and the course of rewards, its pages."""

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import data, runtime
from dashboard.drift import words
from dashboard.ui import export
from dashboard.ui import format as fmt
from dashboard.ui.text import one_line
from store import user_history, users
from store.connection import Store
from store.users import MINIMUM_REWARDS, SORTS, Sort, UserPage, UserRun

__all__ = [
    "CHOSEN", "PAGE_SIZE", "Wanted", "answer", "controls", "drift_words", "exported", "open_user", "page", "pager",
    "rows", "table",
]  # fmt: skip

CHOSEN: Final = "user"
PAGE_SIZE: Final = 50
_EXPORTED: Final = 1_000_000


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


def answer(
    run: UserRun,
    compared: tuple[int, int],
    drift: dict[str, Any] | None,
    page: UserPage,
    wanted: Wanted,
    now: datetime,
) -> None:
    """How many users there are, how many changed or act against what they say, and how old the list is.

    Args: `drift` the newest run of `store.drift.RUNS`, None before the first.
    """
    could, contradict = compared
    said = [f"**{fmt.plural(run.users, 'user')}.**"]
    if drift is not None and drift["scanned"]:
        said.append(f"{drift['flagged']:,} of the {drift['scanned']:,} with enough data changed.")
    if could:
        said.append(f"{contradict:,} of the {could:,} who could be compared act against the goals they state.")
    st.markdown(" ".join(said))
    st.caption(
        f"Counted {fmt.relative(run.counted_at, now)} ({fmt.when(run.counted_at, seconds=False)}) by the preferences "
        "job, over all time: of the sidebar's filters none applies."
    )
    if wanted.search or wanted.segment:
        st.text(f"{fmt.plural(page.total, 'user')} match{'es' if page.total == 1 else ''}.")


def table(page: UserPage, changed: pl.DataFrame, *, alt: str) -> None:
    """The users as a table; selecting a row opens the user. `changed` of `store.user_history.CHANGED`."""
    event: Any = st.dataframe(
        rows(page.rows, changed), key="users-table", hide_index=True, on_select="rerun", selection_mode="single-row",
        height="content", row_height=30, placeholder="", alt=alt,
        column_config=fmt.columns({
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
            "drift": st.column_config.TextColumn(
                "Drift", width=170, help="What the newest drift run flagged of them, the surest first"
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
        }),
    )  # fmt: skip
    chosen = event["selection"]["rows"]
    if chosen and chosen[0] < page.rows.height:
        open_user(page.rows["user_id"][chosen[0]])
        st.rerun()


def rows(frame: pl.DataFrame, changed: pl.DataFrame) -> pl.DataFrame:
    """The rows of `store.users.LISTED` as the table shows them, with what `changed` of `store.user_history.CHANGED`."""
    drift = {row["user_id"]: row for row in changed.iter_rows(named=True)}
    shown = [
        {
            "user": one_line(row["user_id"], 80) or "(empty)",
            "segment": one_line(row["segment"], 40) or None,
            "traces": row["traces"],
            "reward": reward_words(row),
            "weeks": [value for value in row["weeks"] if value is not None],
            "drift": drift_words(drift.get(row["user_id"])),
            "signals": row["signals"],
            "explicit": row["explicit"],
            "says": _says(row),
            "latest": row["latest_at"],
        }
        for row in frame.to_dicts()
    ]
    schema: dict[str, pl.DataType | type[pl.DataType]] = {
        "user": pl.String, "segment": pl.String, "traces": pl.Int64, "reward": pl.String,
        "weeks": pl.List(pl.Float64), "drift": pl.String, "signals": pl.Int64, "explicit": pl.Int64, "says": pl.String,
        "latest": frame.schema["latest_at"],
    }  # fmt: skip
    return pl.DataFrame(shown, schema=schema, orient="row")


def drift_words(changed: dict[str, Any] | None) -> str:
    """What the newest drift run says of a user (a row of `store.user_history.CHANGED`; None: not scanned)."""
    if changed is None:
        return "not enough data"
    if not changed["metrics"]:
        return "no change seen"
    first = changed["metrics"][0]
    side = {"better": ", better", "worse": ", worse"}.get(words.towards(first, changed["effects"][0]), "")
    more = len(changed["metrics"]) - 1
    return f"{words.title(first)}{side}" + (f" and {more} more" if more else "")


def reward_words(row: dict[str, Any]) -> str:
    """A user's mean reward with its interval and n, or how many traces with signals are missing."""
    if row["rewarded"] < MINIMUM_REWARDS or row["reward"] is None:
        return f"too few: {row['rewarded']} of {MINIMUM_REWARDS} traces"
    interval = fmt.mean_interval(row["rewarded"], row["reward"], row["reward_variance"], row["reward_sd2"])
    return f"{interval.estimate:.2f} ({interval.lower:.2f} to {interval.upper:.2f}), n {row['rewarded']:,}"


def page(wanted: Wanted, place: int) -> UserPage:
    """The users of one page of the list, from 1. Raises: `QueryTimeout`."""
    return data.query(
        users.page, search=wanted.search, segment=wanted.segment, sort=wanted.sort, limit=PAGE_SIZE,
        offset=(place - 1) * PAGE_SIZE,
    )  # fmt: skip


def exported(wanted: Wanted) -> None:
    """The whole list by these controls as a file, read when it is asked for."""
    export.download(partial(_everyone, runtime.current().store, wanted), "users", "users-export")


def _everyone(store: Store, wanted: Wanted) -> pl.DataFrame:
    found = users.page(store, search=wanted.search, segment=wanted.segment, sort=wanted.sort, limit=_EXPORTED).rows
    changed = user_history.changed(store, found["user_id"].to_list())
    return found.join(changed.rename({"metrics": "changed_metrics"}).drop("effects"), on="user_id", how="left")


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
