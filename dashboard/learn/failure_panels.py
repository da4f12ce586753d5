"""Panels of failure labels: what went wrong how often, which rules hold in good traces too, and examples to open."""

from typing import Any, Final
from urllib.parse import quote

import polars as pl
import streamlit as st

from dashboard import data
from dashboard.learn import tables
from dashboard.ui import export, states, text
from dashboard.ui import format as fmt
from pipelines.failures.axes import DOING, EXPLORATION, TITLES, UNKNOWN
from pipelines.stats.proportion import wilson_interval
from store import failures

__all__ = ["DOERS", "show", "title"]

DOERS: Final = {0: "the agent", 1: "its environment", 2: "the request", 3: "our experiment", 4: "not known"}
_FEWEST_TOLD: Final = 20


def title(axis: str) -> str:
    """An axis in words, foreign ones as they are."""
    return TITLES.get(axis, axis)


def show(agents: tuple[str, ...] = ()) -> None:
    """Everything about failure labels, of these agents or of all."""
    with states.guarded("Failure labels", key="failures"):
        _show(agents)


def _show(agents: tuple[str, ...]) -> None:
    run = data.query(failures.latest_run)
    if run is None:
        states.nothing(
            "No failure labels yet",
            "The failure labels job names a cause for every trace that went badly, once there are traces with a "
            "status, outcomes or rewards. It runs by itself; the Data page runs it now.",
        )
        return
    counted = data.query(failures.counts)
    rules = data.query(failures.rules)
    if agents:
        counted = counted.filter(pl.col("agent").is_in(agents))
        rules = rules.filter(pl.col("agent").is_in(agents))
    _summary(run)
    if counted.is_empty():
        states.nothing("No bad traces", "No trace failed, missed its outcome, or has a reward below the threshold.")
        return
    _axes(counted)
    _examples(counted, agents)
    _rules(rules)
    _agreement(run["parameters"].get("agreement", {}), run["parameters"].get("model"))


def _summary(run: dict[str, Any]) -> None:
    known = run["bad"] - run["unknown"] - run["explored"]
    st.text(
        f"{run['bad']:,} of {fmt.plural(run['traces'], 'trace')} went badly: {known:,} with a cause, "
        f"{run['explored']:,} deliberate exploration, {run['unknown']:,} unknown. As of {fmt.when(run['found_at'])}."
    )
    config = run["parameters"].get("config", {})
    model = "no reward model" if run["reward_model_id"] is None else f"reward version {run['reward_model_id']}"
    below, lowest = config.get("reward_below", 0.5), fmt.percent(config.get("lowest_share"))
    st.caption(
        f"Bad: status error, a verified outcome below one half, or a mean reward below {below:g} or in its agent's "
        f"lowest {lowest} ({model}, rules version {run['rules_version']}). Exploration is never counted as a "
        "failure of the agent."
    )
    with st.expander("Thresholds per agent"):
        limits = pl.DataFrame(
            run["parameters"].get("thresholds", []),
            schema={"agent": pl.String, "threshold": pl.Float64, "median": pl.Float64, "rewarded": pl.Int64},
        )
        export.table(
            "what is bad", limits.with_columns(pl.col("agent").replace("", "no agent stated")), hide_index=True,
            column_config={
                "threshold": st.column_config.NumberColumn("bad below", format="%.3f"),
                "median": st.column_config.NumberColumn("median reward", format="%.3f"),
                "rewarded": st.column_config.NumberColumn("traces with a reward", format="localized"),
            },
            alt="Rewards below which a trace is bad",
        )  # fmt: skip


def _axes(counted: pl.DataFrame) -> None:
    per_axis = counted.group_by("axis").agg(
        pl.col("traces").sum(),
        confidence=(pl.col("confidence") * pl.col("traces")).sum() / pl.col("traces").sum(),
    )
    total = int(per_axis["traces"].sum())
    rows = []
    for axis, traces, confidence in per_axis.sort("traces", "axis", descending=[True, False]).iter_rows():
        limits = wilson_interval(traces, total)
        rows.append(
            {
                "cause": title(axis), "whose doing": DOERS[DOING.get(axis, DOING[UNKNOWN])], "traces": traces,
                "share": traces / total, "interval": fmt.interval_percent(limits),
                "confidence": None if axis == UNKNOWN else confidence,
            }
        )  # fmt: skip
    export.table(
        "causes of failures", pl.DataFrame(rows), hide_index=True, height=tables.height(len(rows)),
        column_config={
            "traces": st.column_config.NumberColumn(format="localized"),
            "share": st.column_config.ProgressColumn("share of bad traces", format="percent", max_value=1.0),
            "interval": st.column_config.TextColumn("95 % interval"),
            "confidence": st.column_config.NumberColumn(
                "mean confidence", format="%.2f", help="The share of such findings that explains a bad trace"
            ),
        },
        alt=f"Causes of {total} bad traces",
    )  # fmt: skip
    if total < _FEWEST_TOLD:
        st.caption(f"{fmt.missing(total, _FEWEST_TOLD, 'bad trace')}: shares say little.")


def _examples(counted: pl.DataFrame, agents: tuple[str, ...]) -> None:
    order = counted.group_by("axis").agg(pl.col("traces").sum()).sort("traces", "axis", descending=[True, False])
    axes = [axis for axis in order["axis"] if axis != EXPLORATION] + [a for a in order["axis"] if a == EXPLORATION]
    chosen = st.selectbox("Examples of", axes, format_func=title, key="failure-axis")
    found = data.query(failures.examples, chosen)
    if agents:
        found = found.filter(pl.col("agent").is_in(agents))
    export.table(
        "examples of a failure",
        found.select(
            pl.Series("open", [_link(*row) for row in found.select("trace_id", "span_id").rows()], dtype=pl.String),
            "agent", "task", "reward", "rule", "detail", "confidence",
        ),
        hide_index=True, height=tables.height(found.height),
        column_config={
            "open": st.column_config.LinkColumn("", display_text="evidence"),
            "reward": st.column_config.NumberColumn(format="%.2f"),
            "detail": st.column_config.TextColumn("what was found", width=420),
            "confidence": st.column_config.NumberColumn(format="%.2f"),
        },
        alt=f"{found.height} traces labelled {title(chosen)}",
    )  # fmt: skip


def _rules(rules: pl.DataFrame) -> None:
    with st.expander(f"How far each finding explains bad traces ({rules.height})", icon=":material/rule:"):
        st.caption(
            "A finding that holds as often in good traces explains nothing. Explained: 1 - P(bad without it) / P(bad "
            "with it), with its 95 % interval; predictive, not causal."
        )
        export.table(
            "rules of failures",
            rules.select(
                "agent", pl.col("axis").replace(TITLES).alias("cause"), "rule", "subject",
                (pl.col("bad") / pl.col("bad_traces")).alias("in bad"),
                (pl.col("good") / pl.col("good_traces")).alias("in good"),
                "attributable",
                pl.when(pl.col("attributable").is_not_null())
                .then(pl.format("{} to {}", pl.col("lower").round(2), pl.col("upper").round(2))).alias("interval"),
                pl.col("bad").alias("n bad"), pl.col("good").alias("n good"),
            ),
            hide_index=True, height=tables.height(rules.height),
            column_config={
                "in bad": st.column_config.NumberColumn("of bad traces", format="percent"),
                "in good": st.column_config.NumberColumn("of good traces", format="percent"),
                "attributable": st.column_config.NumberColumn("explained", format="%.2f"),
                "interval": st.column_config.TextColumn("95 % interval"),
            },
            alt="Rules with how often they hold in bad and in good traces",
        )  # fmt: skip


def _agreement(agreement: dict[str, Any], model: dict[str, Any] | None) -> None:
    with st.expander("Agreement with people and with the model", icon=":material/handshake:"):
        for name, value in agreement.items():
            if value["kappa"] is None:
                text.line(f"rules and {name}: n {value['n']:,}, {value['reason']}")
                continue
            limits = "" if value["lower"] is None else f" ({value['lower']:.2f} to {value['upper']:.2f})"
            reason = f"; {value['reason']}" if value["reason"] else ""
            text.line(
                f"rules and {name}: kappa {value['kappa']:.2f}{limits}, equal in {fmt.percent(value['observed'])}, "
                f"n {value['n']:,}{reason}"
            )
        st.caption(
            "People label a trace with an annotation named failure whose text is one of: " + ", ".join(TITLES) + "."
        )
        if model is None:
            st.caption("No model is configured or was asked: every label is a rule's.")
        else:
            stopped = f" It stopped: {model['stopped']}" if model["stopped"] else ""
            text.line(
                f"The model ({model['prompt']}) answered {model['answered']:,}, gave no answer {model['unanswered']:,} "
                f"times. It decides only where no rule found a cause.{stopped}"
            )


def _link(trace_id: str, span_id: str | None) -> str:
    span = "" if span_id is None else f"&span={quote(span_id, safe='')}&view=Spans"
    return f"/traces?trace={quote(trace_id, safe='')}{span}"
