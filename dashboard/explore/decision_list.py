"""The latest decisions of an agent, and why each got its arm."""

from datetime import datetime
from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import data
from dashboard.feel.glossary import meaning
from dashboard.learn import tables
from dashboard.ui import export
from dashboard.ui import format as fmt
from dashboard.ui.text import clean, one_line
from store import decisions

__all__ = ["rows", "show", "why"]

_RECENT: Final = 100


def show(agent: str, now: datetime) -> None:
    """The newest first; one of them in full."""
    frame = data.fresh(decisions.recent, agent, _RECENT)
    if frame.is_empty():
        return
    st.subheader("Latest decisions", anchor=False, help=meaning("decision"))
    event: Any = st.dataframe(
        rows(frame), key=f"decisions_{agent}", hide_index=True, on_select="rerun", selection_mode="single-row",
        height=tables.height(frame.height), placeholder="", alt=f"The latest {frame.height} decisions",
        column_config=fmt.columns({
            "at": st.column_config.DatetimeColumn("at (UTC)", format="YYYY-MM-DD HH:mm:ss", timezone="UTC", width=140),
            "arm": st.column_config.TextColumn(width=160),
            "explored": st.column_config.CheckboxColumn(width=70, help="It left the greedy arm"),
            "propensity": st.column_config.NumberColumn(format="%.3f", width=80),
            "rate": st.column_config.NumberColumn(
                format="percent", width=64, help="Probability of leaving the greedy arm"
            ),
            "expected": st.column_config.NumberColumn("expected regret", format="%.4f", width=100),
            "user": st.column_config.TextColumn(width=140),
            "session": st.column_config.TextColumn(width=140),
            "note": st.column_config.TextColumn(width=240),
        }),
    )  # fmt: skip
    export.download(frame, f"decisions of {agent}", "decisions-export")
    chosen = event["selection"]["rows"]
    place = chosen[0] if chosen and chosen[0] < frame.height else 0
    row = frame.row(place, named=True)
    with st.container(border=True):
        st.markdown("**Why this arm**" + ("" if chosen else " (the latest; select a row for another)"))
        st.text(clean(why(row)))
        _vector(row)
        st.caption(f"Decided {fmt.relative(row['decided_at'], now)}, policy version {row['policy_version']}.")
        st.page_link(
            "views/traces.py", label="Traces of this session" if row["session_id"] else "Traces of this user",
            icon=":material/open_in_new:", disabled=not (row["session_id"] or row["user_id"]),
            query_params={
                "range": "all time",
                **({"session": row["session_id"]} if row["session_id"] else {"user": row["user_id"] or ""}),
            },
        )  # fmt: skip


def rows(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows of `store.decisions.DECISIONS` as the table shows them."""
    return pl.DataFrame(
        [
            {
                "at": row["decided_at"], "arm": one_line(row["arm"], 80), "explored": row["explore"],
                "propensity": row["propensity"], "rate": row["rate"], "expected": row["expected_regret"],
                "user": one_line(row["user_id"], 60) or None, "session": one_line(row["session_id"], 60) or None,
                "note": one_line(row["note"], 200) or None,
            }
            for row in frame.to_dicts()
        ],
        schema_overrides={"at": frame.schema["decided_at"], "note": pl.String, "user": pl.String, "session": pl.String},
    )  # fmt: skip


def why(row: dict[str, Any]) -> str:
    """One decision in words: what was best, how much might be explored, and what the draw came to."""
    arm, greedy = one_line(row["arm"], 80), one_line(row["greedy_arm"], 80)
    parts = [f"{greedy} had the highest mean among {fmt.plural(len(row['arms']), 'eligible arm')}."]
    if row["rate"] == 0.0:
        parts.append("Nothing was explored: the rate was 0." if row["allowed_rate"] == 0.0 else "The rate came to 0.")
    else:
        parts.append(
            f"It might be left with probability {fmt.percent(row['rate'])} "
            f"({fmt.percent(row['allowed_rate'])} allowed)."
        )
    if row["budget_scale"] < 1.0:
        parts.append(f"The day's regret budget was short, so the rate was taken times {row['budget_scale']:.2f}.")
    if row["sticky"]:
        parts.append("The session had its arm already, and keeps it.")
    else:
        parts.append(f"The draw was {row['draw']:.4f}.")
    parts.append(
        f"{arm} came up, {'exploring' if row['explore'] else 'the greedy arm'}, propensity {row['propensity']:.3f}; "
        f"expected regret {row['expected_regret']:.4f}, at worst {row['worst_regret']:.4f} points."
    )
    if row["solicit"]:
        parts.append(f"The agent was told to ask for feedback (probability {fmt.percent(row['solicit_propensity'])}).")
    if row["note"]:
        parts.append(f"Note: {row['note']}")
    return " ".join(parts)


def _vector(row: dict[str, Any]) -> None:
    pairs = sorted(zip(row["arms"], row["propensities"], strict=True), key=lambda pair: -pair[1])
    export.table(
        "propensities",
        pl.DataFrame(
            {"arm": [one_line(arm, 80) for arm, _ in pairs], "propensity": [value for _, value in pairs]},
            schema={"arm": pl.String, "propensity": pl.Float64},
        ),
        hide_index=True, height=tables.height(len(pairs)), alt=f"Propensities of {len(pairs)} arms", width="content",
        column_config={
            "arm": st.column_config.TextColumn(width=260),
            "propensity": st.column_config.ProgressColumn(format="%.4f", max_value=1.0, width=220),
        },
    )  # fmt: skip
