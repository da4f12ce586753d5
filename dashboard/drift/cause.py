"""The suspected cause of an incident and the evidence: how much of the shift each candidate came with."""

from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import charts
from dashboard.drift import words
from dashboard.learn import figures, tables
from dashboard.ui import export, states, text, theme
from dashboard.ui import format as fmt

__all__ = ["rows", "show"]

_DRAWN: Final = 8
_HOW: Final = {"moved over": "traffic moved over to it", "only there": "only its traces changed"}


def show(incident: dict[str, Any]) -> None:
    """What is suspected (`incident` of `store.incidents.one`), and what speaks for it."""
    detail = incident["cause_detail"]
    name = text.one_line(str(detail.get("name") or ""), 120)
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.badge(incident["cause"], color="gray" if incident["cause"] == "unknown" else "orange")
            if name:
                st.text(name, width="content")
        text.line(str(detail.get("text") or "No cause is suspected."))
        found = detail.get("suspects") or []
        if found:
            _suspects(found, str(detail.get("metric") or ""), int(detail.get("traces") or 0))
        elif incident["cause"] == "unknown":
            states.not_enough("Evidence", int(detail.get("traces") or 0), fmt.MINIMUM_RATE * 2, "traces around it")
        for coincidence in detail.get("coincidences") or []:
            st.text(f"At the same time: {text.one_line(str(coincidence.get('text') or ''), 300)}")
        st.caption("What the shift came with, which is no proof of what caused it: predictive, not causal.")


def rows(found: list[dict[str, Any]]) -> pl.DataFrame:
    """Suspects as a table shows them."""
    listed = [
        {
            "what": text.one_line(f"{one['cause']} {one['name']}", 120), "how": _HOW.get(one["how"], one["how"]),
            "from": text.one_line(one["before"], 80) or None, "share": one["share"],
            "interval": f"{fmt.percent(one['lower'])} to {fmt.percent(one['upper'])}",
            "n before": one["n_before"], "n after": one["n_after"],
        }
        for one in found
    ]  # fmt: skip
    return pl.DataFrame(listed, schema_overrides={"from": pl.String(), "share": pl.Float64()})


def _suspects(found: list[dict[str, Any]], metric: str, traces: int) -> None:
    drawn = pl.DataFrame(
        [
            {
                "label": f"{one['cause']} {one['name']}", "mean": _within(one["share"]), "lower": _within(one["lower"]),
                "upper": _within(one["upper"]),
                "hover": f"{text.plotly_safe(one['name'], 60)}: {fmt.percent(one['share'])} of the shift "
                f"({fmt.percent(one['lower'])} to {fmt.percent(one['upper'])}), {_HOW.get(one['how'], '')}, "
                f"n {one['n_before']:,} and {one['n_after']:,}",
            }
            for one in found[:_DRAWN]
        ]
    )  # fmt: skip
    st.plotly_chart(
        figures.intervals(drawn, theme.current(), axis="share of the shift that it came with, 90 % intervals"),
        key="incident-suspects", config=charts.CONFIG, alt=f"{drawn.height} possible causes with their shares",
    )  # fmt: skip
    with st.expander("As a table", icon=":material/table:"):
        export.table(
            "suspected causes",
            rows(found), hide_index=True, height=tables.height(len(found)), key="incident-suspects-table",
            alt=f"{len(found)} possible causes with their evidence",
            column_config={"share": st.column_config.NumberColumn("of the shift", format="percent")},
        )  # fmt: skip
        st.caption(f"Judged by {text.markdown_safe(words.title(metric))} of {traces:,} traces around the change.")


def _within(share: float) -> float:
    return min(max(share, 0.0), 1.0)
