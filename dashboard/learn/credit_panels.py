"""Credit on Rewards: what the choice of each tool, and of each arm, is worth, with interval, n and what it rests on."""

import json
from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import charts, data
from dashboard.learn import figures, tables
from dashboard.ui import export, states, text
from dashboard.ui import format as fmt
from dashboard.ui.text import plotly_safe
from dashboard.ui.theme import Theme
from pipelines.credit.measured import WHO_AND_WHEN
from pipelines.credit.tools import ToolConfig
from store import credit

__all__ = ["accuracy", "show"]

_SCOPES: Final = {
    "tool": "Tools",
    "state": "Tools by what came before",
    "variant": "Ways of calling a tool",
    "arm": "Arms",
}
_MEANING: Final = {
    "tool": "Against what the agent usually does in the same situation.",
    "state": "Against the other choices after the same step.",
    "variant": "Against the other ways in which the same tool is called in the same situation.",
    "arm": "Against what the policy's own mixture of arms gets.",
}
_NEEDED: Final = ToolConfig()
_REASONS: Final = {
    "no_choice": "always chosen here: nothing to compare with",
    "too_few_steps": f"not enough data: {_NEEDED.min_steps} steps with it and as many without it are needed",
    "too_few_users": f"not enough data: {_NEEDED.min_clusters} users are needed",
    "not_randomised": "never drawn where another arm could have been",
    "missing_propensity": "propensities are missing in the log",
    "zero_propensity": "the log states a propensity of zero for what was drawn",
    "negative_propensity": "the log states a negative propensity",
    "propensity_above_one": "the log states a propensity above 1",
    "invalid_propensities": "the logged distribution over arms is none, or contradicts the propensity drawn",
}
_MOST_DRAWN: Final = 14


def show(agents: tuple[str, ...], theme: Theme) -> None:
    """The newest credit of the rewards in use; `agents` narrows it, empty for all."""
    with states.guarded("Credit", key="credit"):
        run = data.query(credit.shown_run)
        if run is None:
            states.nothing(
                "No credit yet",
                "The credit job divides the reward of every trace among its steps. It needs rewards and spans, and "
                "runs by itself every hour; run it on the Data page to have it now.",
            )
            return
        found = data.query(credit.tools)
        if agents:
            found = found.filter(pl.col("agent").is_in(agents))
        _about(run)
        if found.is_empty():
            states.nothing(
                "No choices to compare",
                "No agent has traces with steps and signals that tell good from bad; what is missing stands above.",
            )
        else:
            _choices(found, theme)
        st.caption(accuracy())


def accuracy() -> str:
    """How far attribution to single steps can be trusted, as one paragraph of our own text."""
    measured = "; ".join(
        f"{one.logs} {one.name.lower()} logs: step {fmt.percent(one.step)} (random {fmt.percent(one.random_step)}, "
        f"best constant guess {fmt.percent(max(one.best_constant, one.first_step))}), agent {fmt.percent(one.agent)} "
        f"(random {fmt.percent(one.random_agent)}, most frequent agent {fmt.percent(one.frequent_agent)})"
        for one in WHO_AND_WHEN
    )
    return (
        "How often attribution to one step is right is known only where people labelled the cause. Measured on "
        f"Who&When, one log left out at a time: {measured}. All of those runs failed, so what was measured is naming a "
        "step from how it and its neighbours look, not credit itself. Read credit of a single step as a hint where to "
        "look; means over many steps are far more reliable."
    )


def _about(run: dict[str, Any]) -> None:
    notes = json.loads(run["notes"])
    model = f"reward model {run['reward_model_id']}" + ("" if run["active"] else ", which is not the one in use")
    st.caption(
        f"As of {fmt.when(run['computed_at'], seconds=False)}, code {run['code_version']}: credit of {run['steps']:,} "
        f"steps of {run['traces']:,} traces, {run['informative']:,} of them with signals of their own, which alone "
        f"tell steps apart. Divides the rewards of {model}."
    )
    if notes:
        with st.expander(f"What weakens these numbers ({len(notes)})", icon=":material/info:"):
            for note in notes:
                text.line(f"{note['agent'] or 'no agent stated'}: {note['text']}")


def _choices(found: pl.DataFrame, theme: Theme) -> None:
    present = [scope for scope in _SCOPES if scope in set(found["scope"])]
    chosen = st.segmented_control(
        "Choices", present, default=present[0], required=True, key="credit-scope", format_func=lambda key: _SCOPES[key]
    )
    scope = chosen if chosen in present else present[0]
    named = found["agent"].unique(maintain_order=True).to_list()
    agent = st.selectbox(
        "Agent", range(len(named)), key="credit-agent",
        format_func=lambda at: text.markdown_safe(named[at] or "no agent stated"),
    ) if len(named) > 1 else 0  # fmt: skip
    own = found.filter(pl.col("agent").eq_missing(pl.lit(named[agent or 0], dtype=pl.String)), scope=scope)
    if own.is_empty():
        st.caption("This agent has no such choices.")
        return
    known = own.filter(pl.col("estimate").is_not_null()).sort("estimate", descending=True)
    if known.height:
        _figure(known, theme, scope)
    _table(own, scope)
    causal = (own["basis"] == "causal").any()
    basis = (
        "Causal: arms were drawn at random with logged propensities (doubly robust estimate)."
        if causal
        else "Predictive, not causal: the agent chose for its own reasons, and what it reacted to may be what mattered."
    )
    st.caption(
        f"{_MEANING[scope]} Mean decision credit in units of reward, with 95 % intervals by resampling users. q: p "
        f"after Benjamini-Hochberg over this agent's choices. {basis}"
    )


def _figure(known: pl.DataFrame, theme: Theme, scope: str) -> None:
    half = _MOST_DRAWN // 2
    drawn = known if known.height <= _MOST_DRAWN else pl.concat([known.head(half), known.tail(half)])
    labels = [_label(row) for row in drawn.iter_rows(named=True)]
    hover = [
        f"{plotly_safe(label, 90)}: {row['estimate']:+.3f} ({row['lower']:+.3f} to {row['upper']:+.3f}), "
        f"n {row['steps']:,}"
        for label, row in zip(labels, drawn.iter_rows(named=True), strict=True)
    ]
    frame = drawn.with_columns(
        label=pl.Series(labels, dtype=pl.String), mean=pl.col("estimate"), hover=pl.Series(hover, dtype=pl.String)
    ).select("label", "mean", "lower", "upper", "hover")
    st.plotly_chart(
        figures.intervals(frame, theme, axis="decision credit, 95 % interval", highest=None),
        key=f"credit-figure-{scope}", config=charts.CONFIG,
        alt=f"Decision credit of {drawn.height} choices with 95 % intervals; the table below lists all",
    )  # fmt: skip
    if drawn.height < known.height:
        st.caption(f"The {half} best and the {half} worst of {known.height:,}.")


def _table(own: pl.DataFrame, scope: str) -> None:
    rows = [
        {
            _SCOPES[scope].split()[0].lower().removesuffix("s"): text.one_line(row["tool"], 80),
            "in": text.one_line(row["state"], 120),
            "credit": row["estimate"],
            "interval": fmt.NONE if row["lower"] is None else f"{row['lower']:+.3f} to {row['upper']:+.3f}",
            "q": row["q_value"],
            "n": row["steps"],
            "traces": row["traces"],
            "users": row["clusters"],
            "basis": row["basis"],
            "why not": _REASONS.get(row["reason"], row["reason"]) if row["reason"] else "",
        }
        for row in own.iter_rows(named=True)
    ]
    frame = pl.DataFrame(rows, infer_schema_length=None)
    empty = [name for name in ("in", "why not") if not any(frame[name])]
    export.table(
        "credit of tools",
        frame.drop(*empty), hide_index=True, height=tables.height(frame.height), placeholder=fmt.NONE,
        column_config={
            "credit": st.column_config.NumberColumn(format="%+.3f", help="Mean decision credit, in units of reward"),
            "interval": st.column_config.TextColumn("95 % interval"),
            "q": st.column_config.NumberColumn(format="%.4f", help="p after Benjamini-Hochberg"),
            "n": st.column_config.NumberColumn(help="Steps of traces with signals of their own"),
            "users": st.column_config.NumberColumn(help="Users, or traces where users are not known"),
        },
        alt=f"Decision credit of {frame.height} choices with intervals, q and n",
    )  # fmt: skip


def _label(row: dict[str, Any]) -> str:
    return f"{row['tool']} · {row['state']}" if row["state"] else str(row["tool"])
