"""The list of findings: filters that live in the address, a table by shrunken effect, and the export."""

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import data, runtime
from dashboard.drift import finding, words
from dashboard.learn import tables
from dashboard.ui import export, states
from dashboard.ui import format as fmt
from dashboard.ui.text import one_line
from dashboard.ui.theme import Theme
from store import drift, users
from store.connection import Store
from store.drift import Level, Order
from store.frames import each

__all__ = ["CHOSEN", "COLUMNS", "MOST", "USER", "Wanted", "controls", "rows", "show"]

CHOSEN: Final = "finding"
USER: Final = "drift_user"
MOST: Final = 1_000
_EXPORTED: Final = 1_000_000
_ORDERS: Final[dict[str, Order]] = {"largest effect": "effect", "surest": "p-value", "latest change": "latest"}
_LEVELS: Final[dict[str, Level]] = {"users": "user", "segments": "segment", "everybody": "population"}

COLUMNS: Final = {
    "who": st.column_config.TextColumn(pinned=True, width=170),
    "metric": st.column_config.TextColumn(width=140),
    "change": st.column_config.TextColumn(
        width=76, help="After minus before, shrunk towards no change; of skewed metrics in percent"
    ),
    "interval": st.column_config.TextColumn("95 % interval", width=130),
    "matters": st.column_config.NumberColumn(
        "P(matters)", format="%.0f %%", width=84, help="Probability that the change is larger than is practical"
    ),
    "changed": st.column_config.DateColumn("changed at", format="YYYY-MM-DD", width=96),
    "before": st.column_config.TextColumn(width=150), "after": st.column_config.TextColumn(width=150),
    "p": st.column_config.TextColumn(width=84, help="Valid for all looks so far"),
    "q": st.column_config.TextColumn(width=84, help="After the gate and Benjamini-Hochberg"),
    "n": st.column_config.NumberColumn(
        format="localized", width=58, help="Events scanned; of segments and everybody days, but of categories sessions"
    ),
    "likelihood": st.column_config.TextColumn(width=96, help="By the shape of the metric"),
    "flagged": st.column_config.CheckboxColumn(width=64),
    "follows": st.column_config.TextColumn("known cause", width=150),
}  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """What the controls say; None: not restricted."""

    level: Level | None
    metric: str | None
    segment: str | None
    order: Order
    everyone: bool
    user_id: str | None

    def arguments(self) -> dict[str, Any]:
        """For `store.drift.findings`."""
        return {
            "level": self.level, "metric": self.metric, "segment": self.segment, "order": self.order,
            "user_id": self.user_id, "flagged_only": not (self.everyone or self.user_id),
        }  # fmt: skip


def show(run: dict[str, Any] | None, measured: pl.DataFrame, theme: Theme, now: datetime) -> None:
    """The tab: controls, table, the chosen finding in full, and what was measured."""
    if run is None:
        states.nothing("No findings yet", "They appear when the drift job has run.")
        return
    wanted = controls(measured)
    frame = data.query(drift.findings, limit=MOST, **wanted.arguments())
    if frame.is_empty():
        _nothing(wanted, run)
    else:
        st.text(_counted(frame, wanted, run["false_discovery_rate"]))
        table(frame)
        chosen = _chosen(frame)
        if chosen is None:
            st.caption(
                "Select a row to see the finding in full: its events, the change point, and what to do."
                if CHOSEN not in st.query_params
                else "The finding that the address names is not in this list."
            )
        else:
            finding.show(chosen, theme, now)
    _measured(measured)


def controls(measured: pl.DataFrame) -> Wanted:
    """Draw the filters; each is in the address. `measured` of `store.drift.METRICS`."""
    metrics = measured["metric"].unique().sort().to_list()
    segments = data.query(users.segments)
    with st.container(horizontal=True, vertical_alignment="bottom", key="finding-filters"):
        level = st.selectbox(
            "Level", list(_LEVELS), index=None, key="level", bind="query-params", placeholder="All levels", width=130
        )
        metric = st.selectbox(
            "Metric", metrics, index=None, key="metric", bind="query-params", placeholder="All metrics", width=200
        )
        segment = None
        if segments:
            segment = st.selectbox(
                "Segment", segments, index=None, key="segment", bind="query-params", placeholder="All segments",
                width=170, format_func=lambda name: one_line(name, 40),
            )  # fmt: skip
        order = st.selectbox("Order", list(_ORDERS), key="findings_order", bind="query-params", width=160)
        everyone = st.toggle(
            "Not flagged too", key="everyone", bind="query-params", help="Everything that was scanned, flagged or not"
        )
    user_id = st.query_params.get(USER)
    if user_id is not None:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption("Only user", width="content")
            st.text(one_line(user_id, 120) or "(empty)", width="content")
            st.button("All users", key="drift-all-users", icon=":material/close:", type="tertiary", on_click=_all_users)
    return Wanted(
        _LEVELS.get(level or ""), metric if metric in metrics else None, segment if segment in segments else None,
        _ORDERS.get(order or "", "effect"), everyone, user_id,
    )  # fmt: skip


def table(frame: pl.DataFrame) -> None:
    """Findings, one a row; choosing one puts it into the address. `frame` of `store.drift.FINDINGS`."""
    event: Any = export.table(
        "findings", rows(frame), key="drift-findings", hide_index=True, on_select="rerun", selection_mode="single-row",
        height=tables.height(frame.height),
        alt=f"{frame.height} findings with the change, its interval and the means before and after",
        column_config=COLUMNS,
    )  # fmt: skip
    if event["selection"]["rows"] and event["selection"]["rows"][0] < frame.height:
        st.query_params[CHOSEN] = words.identity(frame.row(event["selection"]["rows"][0], named=True))


def rows(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows of `store.drift.FINDINGS` as the table shows them."""
    listed = [
        {
            "who": words.subject(row), "metric": words.title(row["metric"]),
            "change": words.effect(row["effect"], row["likelihood"]), "interval": words.effect_limits(row),
            "matters": None if row["practical"] is None else 100 * row["practical"],
            "changed": row["changed_at"].date() if row["flagged"] and row["changed_at"] else None,
            "before": words.mean(row["before_mean"], row["before_n"], row["metric"], words.counted(row)),
            "after": words.mean(row["after_mean"], row["after_n"], row["metric"], words.counted(row)),
            "p": words.p(row["p_value"]), "q": words.p(row["q_value"]), "n": row["events"],
            "likelihood": row["likelihood"], "flagged": row["flagged"],
            "follows": one_line(row["explained_by"], 60) or None,
        }
        for row in frame.to_dicts()
    ]  # fmt: skip
    overrides = {"matters": pl.Float64(), "changed": pl.Date(), "follows": pl.String(), "n": pl.Int64()}
    return pl.DataFrame(listed, schema_overrides=overrides, infer_schema_length=None)


def _chosen(frame: pl.DataFrame) -> dict[str, Any] | None:
    """The finding that the address names, or the only one. The first of many is not opened: that takes its time."""
    named = st.query_params.get(CHOSEN)
    if named is None:
        return frame.row(0, named=True) if frame.height == 1 else None
    return next((row for row in frame.iter_rows(named=True) if words.identity(row) == named), None)


def _counted(frame: pl.DataFrame, wanted: Wanted, rate: float) -> str:
    flagged = int(frame["flagged"].sum())
    known = int(frame["explained_by"].is_not_null().sum())
    more = f"The first {MOST:,} findings" if frame.height == MOST else fmt.plural(frame.height, "finding")
    said = f"{more} listed."
    if flagged:
        said += f" About {words.few(flagged * rate)} of the {flagged:,} flagged are expected false."
    if known:
        said += f" {known:,} {'follows' if known == 1 else 'follow'} a known change."
    return said


def _nothing(wanted: Wanted, run: dict[str, Any]) -> None:
    if wanted.user_id is not None:
        states.nothing(
            "This user was not scanned",
            f"The newest run has nothing about them by these filters: below {run['min_events']} events of a metric "
            "there is not enough data.",
        )
    elif wanted.everyone:
        states.nothing("Nothing was scanned", "No subject by these filters has enough events.")
    elif wanted.level or wanted.metric or wanted.segment:
        states.nothing("No flagged finding by these filters", "Remove a filter, or show what is not flagged too.")
    else:
        states.nothing("No finding is flagged", "Switch on “Not flagged too” to see what was scanned.")


def _measured(measured: pl.DataFrame) -> None:
    """What each metric is, how it is judged and why, and how many subjects could be."""
    if measured.is_empty():
        return
    with st.expander("What is measured, and how", icon=":material/straighten:"):
        export.table(
            "measured metrics",
            measured.select(
                each(measured["metric"], words.title, pl.String), "level", "likelihood",
                each(measured["reason"], partial(one_line, limit=200), pl.String),
                pl.when(pl.col("likelihood") != "embedding").then("threshold").alias("threshold"), "events",
                "ignored", "subjects", "scanned", "flagged", "too_few", "missing_median", "explained",
            ),
            hide_index=True, height=tables.height(measured.height), key="drift-measured",
            alt=f"{measured.height} metrics with their likelihood and how many subjects were scanned",
            column_config={
                "reason": st.column_config.TextColumn("why this likelihood", width=300),
                "threshold": st.column_config.NumberColumn("matters from", format="%.3g"),
                "ignored": st.column_config.NumberColumn(help="Events without a number"),
                "too_few": st.column_config.NumberColumn("not enough data"),
                "missing_median": st.column_config.NumberColumn("half lack", format="%.0f"),
                "explained": st.column_config.NumberColumn(
                    "shared", format="percent", help="Of the variance within users, what everybody has in common"
                ),
            },
        )  # fmt: skip
        # All rows, read when asked for.
        store = runtime.current().store
        st.caption("Everything that was scanned, by all metrics:")
        export.download(partial(_everything, store), "drift findings", "drift-everything")


def _everything(store: Store) -> pl.DataFrame:
    return drift.findings(store, limit=_EXPORTED)


def _all_users() -> None:
    st.query_params.pop(USER, None)
