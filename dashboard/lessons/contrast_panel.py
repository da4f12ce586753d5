"""What comparing rollouts of the same task found: the groups with something to learn, and every tested step pattern."""

from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import data
from dashboard.learn import tables
from dashboard.lessons.words import titles
from dashboard.ui import export, states
from dashboard.ui import format as fmt
from dashboard.ui.text import markdown_safe, one_line
from store import contrasts
from store.frames import each

__all__ = ["panel"]

_SHOWN: Final = 500
_DID: Final = {
    "missing": "did not call {tool} where it is usual",
    "used": "called {tool} where it is unusual",
    "precedes": "called {tool} before any {other_tool}",
    "order": "called {tool} before {other_tool}",
    "repeated": "called {tool} again with the same arguments",
    "unresolved": "left a failure of {tool} as it was",
    "error_then_retry": "repeated the same call of {tool} after it failed",
    "error_then_change": "called {tool} with other arguments after it failed",
    "error_then_switch": "went on to another tool after {tool} failed",
    "error_then_stop": "took no further action after {tool} failed",
    "given": "gave {tool} the argument {argument}",
    "shape": "passed {argument} to {tool} as {shape}",
}


def panel(agents: tuple[str, ...]) -> None:
    """The answer for each agent, then the groups and patterns of the one chosen."""
    run = data.query(contrasts.newest)
    frame = data.query(contrasts.agents)
    frame = frame.filter(pl.col("agent").is_in(agents)) if agents else frame
    if run is None or frame.is_empty():
        states.nothing(
            "Nothing was contrasted yet",
            "The job Lessons compares rollouts of the same task whose outcomes differ. It needs tasks with two or more "
            "traces that have signals, and rewards.",
        )
        return
    st.caption(f"As of {fmt.when(run['contrasted_at'], seconds=False)}.")
    with st.container(gap="xsmall"):
        for row in frame.iter_rows(named=True):
            st.text(_answer(row))
    agent = st.selectbox("Agent", frame["agent"].to_list(), key="contrast", bind="query-params")
    own = frame.filter(agent=agent).row(0, named=True)
    _set_aside(own)
    _groups(data.query(contrasts.groups, agent=agent, limit=_SHOWN), int(own["mixed"]))
    _patterns(data.query(contrasts.patterns, agent=agent, limit=_SHOWN), int(own["tested"]))


def _answer(row: dict[str, Any]) -> str:
    text = f"{one_line(row['agent'], 60)}: {row['mixed']:,} of {fmt.plural(row['tasks'], 'task')} with mixed outcomes; "
    if not row["tested"]:
        return text + "no step pattern occurs often enough to be tested."
    text += f"{fmt.plural(row['tested'], 'step pattern')} tested, "
    if not row["survive"]:
        best = f" (best q {row['best_q']:.2f})" if row["best_q"] is not None else ""
        return text + f"none survives false-discovery control{best}."
    return text + f"{row['survive']:,} survive{'s' if row['survive'] == 1 else ''} false-discovery control."


def _set_aside(row: dict[str, Any]) -> None:
    aside = {
        "a tool or the environment failed": row["set_aside_environment"],
        "the request was underspecified": row["set_aside_request"],
        "they explored on purpose": row["set_aside_exploration"],
    }
    said = [f"{count:,} because {why}" for why, count in aside.items() if count]
    st.caption(
        f"{row['used']:,} of {row['traces']:,} rollouts compared; {row['without_outcome']:,} have no outcome. "
        + (f"Set aside: {', '.join(said)}." if said else "None was set aside.")
        + (f" {markdown_safe(row['note'])}" if row["note"] else "")
    )


def _groups(frame: pl.DataFrame, held: int) -> None:
    st.subheader("Where a lesson could be worth most", anchor=False)
    if frame.is_empty():
        st.caption("No task of this agent has rollouts with different outcomes.")
        return
    shown = frame.select(
        each(frame["task"], lambda text: one_line(text, 80), pl.String), "value",
        pl.col("traces_per_day").alias("requests a day"), "rollouts", pl.col("mean_outcome").alias("mean outcome"),
        pl.col("standard_error").alias("± (1 se)"), pl.col("uncovered").alias("not covered"),
        pl.col("set_aside").alias("set aside"),
        pl.Series("they part at", [_parting(row) for row in frame.iter_rows(named=True)], dtype=pl.String),
        *([pl.col("escalate").alias("for a person")] if frame["escalate"].null_count() < frame.height else []),
    )  # fmt: skip
    event: Any = export.table(
        "tasks with mixed outcomes",
        shown, hide_index=True, height=tables.height(shown.height), key="contrast_groups", on_select="rerun",
        selection_mode="single-row", alt=f"{shown.height} tasks with mixed outcomes, the most valuable first",
        column_config={
            "value": st.column_config.NumberColumn(
                format="%.2f", help="Requests a day x spread of outcomes x share that no lesson covers yet"
            ),
            "requests a day": st.column_config.NumberColumn(format="%.1f"),
            "mean outcome": st.column_config.NumberColumn(format="%.2f"),
            "± (1 se)": st.column_config.NumberColumn(format="%.2f"),
            "not covered": st.column_config.NumberColumn(format="percent"),
        },
    )  # fmt: skip
    if held > frame.height:
        st.caption(f"The {frame.height:,} most valuable of {held:,}.")
    if event.selection.rows:
        row = frame.row(event.selection.rows[0], named=True)
        with st.container(horizontal=True):
            for role, trace_id in (("best", row["best_trace_id"]), ("worst", row["worst_trace_id"])):
                if trace_id:
                    st.page_link(
                        "views/traces.py", label=f"Open the {role} rollout", icon=":material/open_in_new:",
                        query_params={"trace": trace_id},
                    )  # fmt: skip


def _parting(row: dict[str, Any]) -> str:
    """Where the best and the worst rollout of a group first differ."""
    if row["step"] is None:
        return "they never part"
    best, worst = (one_line(row[side], 40) for side in ("best_action", "worst_action"))
    if best and best == worst:
        return f"action {row['step']}: {best}, with other arguments"
    return f"action {row['step']}: {best or 'nothing more'} against {worst or 'nothing more'}"


def _did(row: dict[str, Any]) -> str:
    """What the rollouts with a pattern did, in words."""
    names = {name: one_line(row[name], 60) for name in ("tool", "other_tool", "argument", "shape")}
    words = _DID.get(row["kind"])
    return words.format(**names) if words else one_line(row["pattern"], 90)


def _patterns(frame: pl.DataFrame, held: int) -> None:
    st.subheader("Step patterns that were tested", anchor=False)
    if frame.is_empty():
        st.caption("None: no step occurs in some rollouts of a task and not in others often enough.")
        return
    st.caption(
        "Outcome with the pattern minus without it, within task. Predictive, not causal: nobody assigned the steps at "
        "random. q is after Benjamini-Hochberg over all patterns of the agent."
    )
    names = titles()
    shown = frame.select(
        pl.Series("rollouts that", [_did(row) for row in frame.iter_rows(named=True)], dtype=pl.String), "effect",
        "lower", "upper", pl.col("p_value").alias("p"), pl.col("q_value").alias("q"), "survives",
        pl.col("rollouts_with").alias("with"), pl.col("rollouts_without").alias("without"),
        pl.col("informative_tasks").alias("tasks"), pl.col("explained_by").alias("explained by"),
        pl.Series(
            "lesson",
            [one_line(names.get(name, name), 80) if name else None for name in frame["lesson_id"]],
            dtype=pl.String,
        ),
    )  # fmt: skip
    shown = shown.drop([name for name in ("explained by", "lesson") if shown[name].null_count() == shown.height])
    export.table(
        "step patterns",
        shown, hide_index=True, height=tables.height(shown.height), alt=f"{shown.height} tested step patterns",
        column_config={
            **{name: st.column_config.NumberColumn(format="%+.2f") for name in ("effect", "lower", "upper")},
            **{name: st.column_config.NumberColumn(format="%.3f") for name in ("p", "q")},
        },
    )  # fmt: skip
    if held > frame.height:
        st.caption(f"{frame.height:,} of {held:,} patterns.")
