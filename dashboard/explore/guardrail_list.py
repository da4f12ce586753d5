"""Guardrails of an agent: what is in force, what was done against it, and the looks of safety floors."""

from datetime import datetime
from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import charts, data
from dashboard.explore.guardrail_words import kind_words, limit_words
from dashboard.feel.glossary import meaning
from dashboard.learn import figures, tables
from dashboard.ui import axis, export, states
from dashboard.ui import format as fmt
from dashboard.ui.text import clean, one_line, plotly_safe
from dashboard.ui.theme import Theme
from store import arms, guardrails

__all__ = ["floors", "rows", "violations"]

_SHOWN: Final = 200
_LINKED: Final = 3


def rows(held: pl.DataFrame, counts: pl.DataFrame) -> pl.DataFrame:
    """Guardrails (columns GUARDRAILS) with their violations (columns COUNTS) as the table shows them."""
    found = {row["guardrail_id"]: row for row in counts.to_dicts()}
    return pl.DataFrame(
        [
            {
                "what": kind_words(row["kind"]), "subject": one_line(row["subject"], 120) or None,
                "limit": limit_words(row), "arm": one_line(row["arm"], 60) or "all arms", "state": row["state"],
                "then": "switches the arm off" if row["on_violation"] == "switch_off" else "alert",
                "violations": found.get(row["guardrail_id"], {}).get("violations", 0),
                "traces": found.get(row["guardrail_id"], {}).get("traces", 0),
                "by": one_line(row["created_by"], 60), "since": row["created_at"],
            }
            for row in held.to_dicts()
        ],
        schema={
            "what": pl.String, "subject": pl.String, "limit": pl.String, "arm": pl.String, "state": pl.String,
            "then": pl.String, "violations": pl.Int64, "traces": pl.Int64, "by": pl.String,
            "since": pl.Datetime("us", "UTC"),
        },
    )  # fmt: skip


def violations(agent: str, now: datetime) -> None:
    """What was done against guardrails, newest first, each with its trace."""
    st.subheader("Violations", anchor=False, help=meaning("guardrail"))
    found = data.query(guardrails.violations, agent=agent, limit=_SHOWN)
    if found.is_empty():
        st.caption("None was found. Traces are audited every minute against the guardrails that are on.")
        return
    for row in found.head(_LINKED).iter_rows(named=True):
        with st.container(border=True, gap="xsmall"):
            with st.container(horizontal=True, vertical_alignment="center"):
                if row["action"] == "switch_off":
                    st.badge("arm switched off", icon=":material/power_off:", color="red")
                else:
                    st.badge("alert", icon=":material/warning:", color="orange")
                st.text(
                    f"{kind_words(row['kind'])}, {fmt.relative(row['occurred_at'] or row['found_at'], now)}",
                    width="content",
                )
                st.page_link(
                    "views/traces.py", label="Open the trace", icon=":material/open_in_new:",
                    query_params={"trace": row["trace_id"], **({"span": row["span_id"]} if row["span_id"] else {})},
                )  # fmt: skip
            st.text(clean(row["detail"])[:600])
    if found.height > _LINKED:
        _more(found)


def _more(found: pl.DataFrame) -> None:
    event: Any = export.table(
        "violations",
        pl.DataFrame(
            [
                {
                    "at": row["occurred_at"], "what": kind_words(row["kind"]), "detail": one_line(row["detail"], 300),
                    "arm": one_line(row["arm"], 60) or None, "then": row["action"].replace("_", " "),
                    "trace": one_line(row["trace_id"], 60),
                }
                for row in found.to_dicts()
            ],
            schema_overrides={"at": found.schema["occurred_at"], "arm": pl.String},
        ),
        key="violations-table", hide_index=True, on_select="rerun", selection_mode="single-row",
        height=tables.height(found.height), alt=f"{found.height} violations",
        column_config=fmt.columns({
            "at": st.column_config.DatetimeColumn("at (UTC)", format="YYYY-MM-DD HH:mm:ss", timezone="UTC", width=140),
            "detail": st.column_config.TextColumn(width=420),
        }),
    )  # fmt: skip
    st.caption("Select a row to open its trace." + (f" The newest {_SHOWN}." if found.height == _SHOWN else ""))
    chosen = event["selection"]["rows"]
    if chosen and chosen[0] < found.height:
        st.switch_page("views/traces.py", query_params={"trace": found["trace_id"][chosen[0]]})


def floors(agent: str, theme: Theme) -> None:
    """Safety floors: the newest look at each arm, how it moved, and what they switched off."""
    st.subheader("Safety floors", anchor=False)
    held = {row["guardrail_id"]: row for row in data.query(guardrails.listed, agent=agent).to_dicts()}
    newest = data.query(guardrails.looks, agent=agent, newest=True)
    if newest.is_empty():
        some = any(row["kind"] == "safety_floor" for row in held.values())
        st.caption(
            "No look yet: a floor needs a baseline and another enabled arm with traces."
            if some
            else "No safety floor. It holds an arm's metric to the baseline's, looks as often as there is data, and "
            "can switch the arm off."
        )
        return
    off = data.query(arms.listed, agent=agent).filter((pl.col("state") == "off") & (pl.col("state_by") == "trimtab"))
    for row in off.iter_rows(named=True):
        st.text(f"Switched off: {one_line(row['arm'], 80)}. {clean(row['state_reason'] or '')}")
    names = [_look_name(row, held) for row in newest.to_dicts()]
    place = st.selectbox(
        "Floor and arm", range(newest.height), key=f"floor_{agent}", format_func=lambda at: names[at], width=420
    )
    _course(newest.row(place or 0, named=True), held, theme)
    export.table(
        "floors",
        pl.DataFrame(
            [
                {
                    "floor": name, "verdict": row["verdict"], "estimate": row["estimate"],
                    "limits": _limits(row), "n": row["n_arm"], "n_baseline": row["n_baseline"], "basis": row["basis"],
                    "looked": row["looked_at"],
                }
                for name, row in zip(names, newest.to_dicts(), strict=True)
            ]
        ),
        hide_index=True, height=tables.height(newest.height), alt=f"The newest look of {newest.height} floors at arms",
        column_config=fmt.columns({
            "estimate": st.column_config.NumberColumn(
                "arm against baseline", format="%+.4f", help="Above 0: the arm is better"
            ),
            "limits": st.column_config.TextColumn("99 % limits, every look", width=190),
            "looked": st.column_config.DatetimeColumn("looked (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC"),
        }),
    )  # fmt: skip


def _course(look: dict[str, Any], held: dict[str, dict[str, Any]], theme: Theme) -> None:
    looks = data.query(
        guardrails.looks, agent=look["agent"], guardrail_id=look["guardrail_id"], arm=look["arm"], limit=20
    ).filter(pl.col("lower").is_not_null())
    if looks.is_empty():
        states.not_enough(
            "The interval", min(look["n_arm"], look["n_baseline"]), 200, "effective decisions on each side"
        )
        return
    frame = pl.DataFrame(
        {
            "label": [f"{axis.moment(row['looked_at']):%m-%d %H:%M}" for row in looks.to_dicts()],
            "mean": looks["estimate"], "lower": looks["lower"], "upper": looks["upper"],
            "hover": [
                plotly_safe(f"{_limits(row)}, n {row['n_arm']:,} and {row['n_baseline']:,}: {row['verdict']}", 120)
                for row in looks.to_dicts()
            ],
        }
    )  # fmt: skip
    drawn = figures.intervals(frame, theme, axis="arm against baseline, 99 % limits", highest=None)
    margin = held.get(look["guardrail_id"], {}).get("threshold") or 0.0
    drawn.add_vline(x=-margin, line={"color": theme.error, "width": 1.5, "dash": "dash"})
    st.plotly_chart(
        drawn, key="floor-looks", config=charts.CONFIG,
        alt=f"{looks.height} looks of a safety floor with their intervals; the floor is at {-margin:g}",
    )  # fmt: skip
    st.caption(
        f"Dashed: the floor, {-margin:g}. An interval wholly to its left breaks it. Times in "
        f"{fmt.zone_label(fmt.zone())}."
    )


def _look_name(row: dict[str, Any], held: dict[str, dict[str, Any]]) -> str:
    floor = held.get(row["guardrail_id"], {})
    return f"{one_line(floor.get('subject'), 40)} of {one_line(row['arm'], 60)}, margin {floor.get('threshold') or 0:g}"


def _limits(row: dict[str, Any]) -> str:
    if row["lower"] is None:
        return "not enough data"
    return f"{row['lower']:+.4f} to {row['upper']:+.4f}"
