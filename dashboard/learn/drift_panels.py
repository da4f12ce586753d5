"""Panels of Drift: users that changed, with numbers before and after, and one user's events around the change."""

from datetime import datetime
from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import charts, data
from dashboard.learn import figures, tables
from dashboard.ui import format as fmt
from dashboard.ui import states, text
from dashboard.ui.theme import Theme
from pipelines.stats.proportion import newcombe_difference, wilson_interval
from store import drift

__all__ = ["CHOSEN", "answer", "chosen_user", "findings_table", "user_panel"]

CHOSEN: Final = "drift_user"
_MEANING: Final = {
    drift.STATED: "thumbs and ratings, satisfied when above .5",
    drift.REWARD: "traces with signals, whether their reward is above the agent's median",
}
_VALUES: Final = {drift.STATED: ("satisfied", "not satisfied"), drift.REWARD: ("above", "not above")}


def answer(run: dict[str, Any], now: datetime) -> None:
    """What the newest run found, how many of the flags are expected to be false, and who could not be scanned."""
    flagged, scanned, rate = run["flagged"], run["scanned"], run["false_discovery_rate"]
    if scanned == 0:
        st.markdown("**Not enough data to scan any user.**")
    elif flagged == 0:
        st.markdown(f"**No user of {scanned:,} has changed**, as far as their events can tell.")
    else:
        expected = fmt.percent(rate)
        st.markdown(
            f"**{fmt.plural(flagged, 'user')} of {scanned:,} changed.** Expect about {_few(flagged * rate)} of "
            f"{'this' if flagged == 1 else f'these {flagged:,}'} to be a false flag (false-discovery rate {expected})."
        )
    st.caption(
        f"As of {fmt.utc(run['found_at'], seconds=False)} ({fmt.relative(run['found_at'], now)}), on all events held; "
        "the sidebar's filters do not apply. p-values hold for every look so far."
    )
    if run["too_few"]:
        missing = run["missing_median"]
        st.caption(
            f"{fmt.plural(run['too_few'], 'user')} could not be scanned: each needs {run['min_events']} events"
            + ("." if missing is None else f", and half of them lack {missing:.0f} or more.")
        )


def findings_table(frame: pl.DataFrame) -> None:
    """Users with their means before and after; choosing one puts it into the URL. `frame` of `store.drift.FINDINGS`."""
    rows = [_row(row) for row in frame.iter_rows(named=True)]
    event: Any = st.dataframe(
        pl.DataFrame(rows), key="drift_findings", hide_index=True, on_select="rerun", selection_mode="single-row",
        height=tables.height(frame.height),
        column_config={
            "likeliest change": st.column_config.DateColumn(format="YYYY-MM-DD"),
            "q": st.column_config.NumberColumn(format="%.4f", help="p after Benjamini-Hochberg over all users scanned"),
            "change": st.column_config.NumberColumn(format="%+.2f", help="After minus before, at the likeliest split"),
        },
        alt=f"{frame.height} users with their means before and after the change",
    )  # fmt: skip
    if event.selection.rows:
        st.query_params[CHOSEN] = frame["user_id"][event.selection.rows[0]]


def chosen_user(frame: pl.DataFrame) -> dict[str, Any] | None:
    """The finding of the user that the URL names; without one, the first."""
    named = st.query_params.get(CHOSEN)
    own = frame.filter(user_id=named) if named is not None else frame.head(1)
    return own.row(0, named=True) if own.height else None


def user_panel(finding: dict[str, Any], theme: Theme) -> None:
    """One user's events with the change point, and the two rates with their intervals."""
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            text.line(finding["user_id"])
            if finding["flagged"]:
                st.badge("changed", icon=":material/trending_down:", color="orange")
            st.page_link(
                "views/traces.py", label="Traces of this user", icon=":material/open_in_new:",
                query_params={"user": finding["user_id"], "range": "all"},
            )  # fmt: skip
        before, after, change, when = st.columns(4)
        before.metric("before", f"{finding['before_mean']:.2f}")
        before.caption(_limits(finding, "before"))
        after.metric("after", f"{finding['after_mean']:.2f}")
        after.caption(_limits(finding, "after"))
        difference = newcombe_difference(
            _hits(finding, "after"), finding["after_n"], _hits(finding, "before"), finding["before_n"]
        )
        change.metric("change", f"{difference.estimate:+.2f}")
        change.caption(f"{difference.lower:+.2f} to {difference.upper:+.2f}")
        when.metric("changed at" if finding["flagged"] else "likeliest split", f"{finding['changed_at']:%Y-%m-%d}")
        when.caption(f"p {_p(finding['p_value'])}, n {finding['events']:,}")
        st.caption(
            f"{finding['metric'].capitalize()}: {_MEANING.get(finding['metric'], 'yes/no events')}. The split is where "
            "the data differ most, so the change looks larger than it is; the test is the p-value."
        )
        with states.guarded("The events", key="events"):
            events = data.query(drift.user_events, finding["user_id"], finding["metric"])
            st.plotly_chart(
                figures.events_over_time(
                    events, theme, changed_at=finding["changed_at"] if finding["flagged"] else None,
                    before=finding["before_mean"], after=finding["after_mean"],
                    names=_VALUES.get(finding["metric"], ("yes", "no")),
                ),
                key="drift-events", config=charts.CONFIG,
                alt=f"{events.height} yes/no events over time with the change point",
            )  # fmt: skip


def _row(finding: dict[str, Any]) -> dict[str, Any]:
    return {
        "user": finding["user_id"],
        "before": f"{finding['before_mean']:.2f} ({_limits(finding, 'before')})",
        "after": f"{finding['after_mean']:.2f} ({_limits(finding, 'after')})",
        "change": finding["after_mean"] - finding["before_mean"],
        "likeliest change": finding["changed_at"].date(),
        "p": _p(finding["p_value"]),
        "q": finding["q_value"],
        "metric": finding["metric"],
        "n": finding["events"],
    }


def _hits(finding: dict[str, Any], side: str) -> int:
    hits: int = round(finding[f"{side}_mean"] * finding[f"{side}_n"])
    return hits


def _limits(finding: dict[str, Any], side: str) -> str:
    interval = wilson_interval(_hits(finding, side), finding[f"{side}_n"])
    return f"{interval.lower:.2f} to {interval.upper:.2f}, n {finding[f'{side}_n']:,}"


def _p(value: float) -> str:
    return "below .0001" if value < 0.0001 else f"{value:.4f}"


def _few(number: float) -> str:
    """A small expected count: 0.05, 0.7, 3."""
    return f"{number:.2g}" if number < 1 else f"{number:.0f}"
