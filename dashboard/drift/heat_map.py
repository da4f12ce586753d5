"""Users by weeks: where on the calendar a metric moved for whom, the surest changes first, page by page."""

from functools import partial
from typing import Final

import polars as pl
import streamlit as st

from dashboard import charts, data
from dashboard.drift import words
from dashboard.drift.heat_figure import FEW, heat_map, weeks_of
from dashboard.learn import tables
from dashboard.ui import export, states
from dashboard.ui import format as fmt
from dashboard.ui.text import one_line
from dashboard.ui.theme import Theme
from store import drift
from store.drift_events import WORDS
from store.frames import each

__all__ = ["MOST_PAGES", "PAGE_SIZE", "show"]

PAGE_SIZE: Final = 25
MOST_PAGES: Final = 20
_WEEKS: Final = 16
_OF_TEXTS: Final = (
    " Every word has a fixed place from 0 to 1, and a week's mean is that of its words: a colour says that other words "
    "were used, not which."
)


def show(measured: pl.DataFrame, theme: Theme) -> None:
    """The heat map of one metric, with the same as a table."""
    of_users = measured.filter(level="user").sort("flagged", "subjects", "metric", descending=[True, True, False])
    metrics = of_users["metric"].to_list()
    if not metrics:
        states.nothing("Nothing was measured of users", "The drift job measures it when traces name their users.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        metric = st.selectbox("Metric", metrics, key="heat_metric", bind="query-params", width=260)
    metric = metric if metric in metrics else metrics[0]
    subjects = int(of_users.filter(metric=metric)["subjects"][0])
    pages = max(1, min(MOST_PAGES, -(-subjects // PAGE_SIZE)))
    slot = st.container()
    place = min(max(1, st.pagination(pages, key="heat_page", bind="query-params") if pages > 1 else 1), pages)
    frame = data.query(drift.users_by_week, metric=metric, limit_users=place * PAGE_SIZE, weeks=_WEEKS)
    listed = frame["user_id"].unique(maintain_order=True).to_list()[(place - 1) * PAGE_SIZE :]
    with slot:
        if not listed:
            states.nothing("No events", "Nothing by this metric has a time in the weeks shown.")
            return
        own = frame.filter(pl.col("user_id").is_in(listed))
        _draw(own, listed, metric, theme, subjects, pages)


def _draw(frame: pl.DataFrame, listed: list[str], metric: str, theme: Theme, subjects: int, pages: int) -> None:
    weeks = weeks_of(frame, _WEEKS)
    st.plotly_chart(
        heat_map(frame, listed, weeks, theme, unit=words.unit(metric)), key="drift-heat", config=charts.CONFIG,
        alt=f"{words.title(metric)} of {len(listed)} users in {len(weeks)} weeks, as a table below",
    )  # fmt: skip
    shown = "" if subjects <= MOST_PAGES * PAGE_SIZE else f", of whom the first {MOST_PAGES * PAGE_SIZE:,} are shown"
    st.caption(
        f"{fmt.plural(subjects, 'user')}{shown}; the surest changes first. Colour: a week's mean against the user's "
        "own mean, in standard errors of a week's mean, orange below and blue above; that is no test, and nothing is "
        f"taken off for what everybody did that week. A ring: fewer than {FEW} events, or all the same. A dot: none."
        + (_OF_TEXTS if metric == WORDS else "")
    )
    with st.expander("As a table", icon=":material/table:"):
        said = frame.select(
            each(frame["user_id"], partial(one_line, limit=80), pl.String).alias("user"),
            pl.col("week").cast(pl.Date), "mean", "n", pl.col("z").alias("standard errors from usual"),
        )  # fmt: skip
        st.dataframe(
            said, hide_index=True, height=tables.height(said.height), key="drift-heat-table", placeholder="",
            alt=f"Weekly means of {len(listed)} users",
            column_config={
                "mean": st.column_config.NumberColumn(format="%.3g"),
                "standard errors from usual": st.column_config.NumberColumn(format="%+.1f"),
            },
        )  # fmt: skip
        export.download(frame, f"{metric} by week", "heat-export")
