"""The days of a finding on a segment or on everybody at an agent, with 95 % intervals, around its change."""

from datetime import datetime, timedelta
from math import exp, log, sqrt
from typing import Any, Final

import polars as pl
import streamlit as st
from scipy.stats import t

from dashboard import charts, data
from dashboard.drift import words
from dashboard.drift.course import Change
from dashboard.drift.days_figure import days_figure
from dashboard.drift.marks import Mark
from dashboard.ui import format as fmt
from dashboard.ui import states, text
from dashboard.ui.theme import Theme
from pipelines.drift.levels import LEAST_A_DAY
from pipelines.drift.number_changes import OTHER
from pipelines.stats.proportion import wilson_interval
from store import drift_events, drift_series

__all__ = ["draw", "intervals"]

_DAYS: Final = 120
_SIDE: Final = timedelta(days=60)


def draw(row: dict[str, Any], theme: Theme, *, change: Change | None, marks: tuple[Mark, ...]) -> None:
    """The daily means of a finding (`row` of `store.drift.FINDINGS`) of level segment or population."""
    metric, segment = row["metric"], row["segment"] if row["level"] == "segment" else None
    logarithmic = row["likelihood"] == "log"
    found = data.query(
        drift_series.daily, metric, agent=row["agent"], segment=segment, category=row["category"],
        logarithms=logarithmic, until=_until(row), days=_DAYS,
    )  # fmt: skip
    if row["category"] == OTHER and not found["mean"].any():
        states.nothing("No days to show", "The test counts rare categories as one, and their share changed most.")
        return
    days = intervals(found, logarithmic=logarithmic, shares=_shares(metric))
    if days.is_empty():
        states.nothing(
            "No days to show",
            f"In the {_DAYS} days around it no day has {LEAST_A_DAY} sessions with {words.title(metric).lower()}.",
        )
        return
    axis = text.plotly_safe(words.title(metric))
    if row["category"] is not None:
        axis = f"share of {text.plotly_safe(row['category'], 40) or '(empty)'}"
    elif words.unit(metric):
        axis += f", {text.plotly_safe(words.unit(metric))}"
    st.plotly_chart(
        days_figure(days, theme, axis=axis, change=change, marks=marks, logarithmic=logarithmic),
        key="drift-days", config=charts.CONFIG,
        alt=f"Means of {fmt.plural(days.height, 'day')} with their 95 % intervals"
        + (" and the change point" if change else ""),
    )  # fmt: skip
    st.caption(_said(row, days, found, sampled=metric in drift_series.SAMPLED))


def intervals(found: pl.DataFrame, *, logarithmic: bool, shares: bool) -> pl.DataFrame:
    """Days that have enough sessions to be tested, with the 95 % limits of their means.

    Of shares Wilson's, of logarithms on their own scale, else Student's. `found`: columns `store.drift_series.DAILY`;
    returns day, mean, n, lower and upper.
    """
    rows = []
    for day, mean, n, sd in found.filter(pl.col("n") >= LEAST_A_DAY).iter_rows():
        if shares:
            limits = wilson_interval(min(max(round(mean * n), 0), n), n)
            lower, upper = limits.lower, limits.upper
        else:
            half = float(t.ppf(0.975, n - 1)) * sd / sqrt(n)
            centre = log(mean) if logarithmic else mean
            lower, upper = centre - half, centre + half
            if logarithmic:
                lower, upper = exp(lower), exp(upper)
        rows.append({"day": day, "mean": mean, "n": n, "lower": lower, "upper": upper})
    schema = {"day": pl.Date(), "mean": pl.Float64(), "n": pl.Int64(), "lower": pl.Float64(), "upper": pl.Float64()}
    return pl.DataFrame(rows, schema=schema)


def _shares(metric: str) -> bool:
    return drift_events.measure_of(metric).nature in ("yes or no", "category")


def _until(row: dict[str, Any]) -> datetime | None:
    """The last day shown: when it was found, or earlier, where the change would not be seen any more."""
    found_at: datetime | None = row["found_at"]
    if row["changed_at"] is None or found_at is None:
        return found_at
    latest: datetime = row["changed_at"] + _SIDE
    return min(found_at, latest)


def _said(row: dict[str, Any], days: pl.DataFrame, found: pl.DataFrame, *, sampled: bool) -> str:
    sessions = fmt.plural(int(days["n"].sum()), "session")
    said = f"{fmt.plural(days.height, 'day')} in UTC, {sessions}"
    if sampled:
        said += f", of more than {drift_series.MOST_SAMPLED:,} traces a sample"
    said += "."
    if found.height > days.height:
        said += f" Days with fewer than {LEAST_A_DAY} are left out, as they are of the test."
    if row["likelihood"] == "categorical":
        return f"{said} The test compares a sample of these sessions; its shares before and after are the thick lines."
    return (
        f"{said} Means as seen; what is tested are these days less what the mix of tasks and the weekday explain. "
        "The thick lines are the means before and after, over days."
    )
