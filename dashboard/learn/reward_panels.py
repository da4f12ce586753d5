"""Panels of Rewards: the model in use, what it was fitted on, what it says of agents, arms and tasks, and pass^k."""

from typing import Any, Final
from urllib.parse import quote

import polars as pl
import streamlit as st

from dashboard import charts
from dashboard.learn import figures, means, tables
from dashboard.ui import export, states, text
from dashboard.ui import format as fmt
from dashboard.ui.theme import Theme
from pipelines.stats.beta_binomial import interval
from pipelines.stats.pass_k import pass_k

__all__ = ["agents", "arms", "coverage", "lowest_tasks", "model_card", "pass_table"]

_METHODS: Final = {"empirical_bayes": "empirical Bayes: agent, task, then the trace's own signals"}
_LARGEST_K: Final = 4


def model_card(model: dict[str, Any], parameters: dict[str, Any], versions: pl.DataFrame) -> None:
    """Which version is in use, what it was fitted on and where its numbers are weaker than they look."""
    observed = sum(row["n"] for row in parameters.get("agent_means", []))
    with st.container(border=True):
        version, traces, signals, fitted = st.columns([1, 1, 1, 1.4])
        version.metric("model version", model["reward_model_id"])
        traces.metric("traces", fmt.count(model["traces"]), help=f"{observed:,} of them have signals of their own")
        signals.metric("signals used", fmt.count(model["signals"]))
        day, clock, zone = fmt.when(model["fitted_at"], seconds=False).split(" ")
        fitted.metric("fitted", f"{day} {clock}", help=zone)
        st.caption(
            f"Method: {_METHODS.get(model['method'], model['method'])}. Data version {model['data_version']:,}, code "
            f"{model['code_version']}. Every trace has a reward; those without signals get what their task predicts."
        )
        notes = parameters.get("notes", [])
        if notes:
            with st.expander(f"What weakens these numbers ({len(notes)})", icon=":material/info:"):
                for note in notes:
                    text.line(f"{note['agent'] or 'no agent stated'}: {note['text']}")
        with st.expander("Parameters and earlier versions"):
            reliability = parameters.get("reliability", {})
            st.caption("Stated reliability: the share of a trace's reward that one observation takes against its task.")
            export.table("reliability of signals", pl.DataFrame([reliability]), hide_index=True)
            left_out = parameters.get("excluded", {})
            if left_out:
                st.caption("Signals left out of the fit, by reason")
                export.table(
                    "signals left out",
                    pl.DataFrame({"reason": list(left_out), "signals": list(left_out.values())}),
                    hide_index=True,
                )
            export.table(
                "versions of the reward model",
                versions.drop("parameters", "data_version", "method").rename({"reward_model_id": "version"}),
                hide_index=True, height=tables.height(versions.height),
                column_config=fmt.columns(
                    {
                        "fitted_at": st.column_config.DatetimeColumn(
                            "fitted (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC"
                        )
                    }
                ),
            )  # fmt: skip


def agents(frame: pl.DataFrame, theme: Theme) -> None:
    """Mean reward per agent with its interval (`frame` of columns `means.MEANS`)."""
    _means(frame, theme, label="agent", key="agent-means", noun="agents")


def arms(frame: pl.DataFrame, theme: Theme) -> None:
    """Mean reward per arm of each agent that has more than one."""
    several = frame.filter(pl.len().over("agent") > 1)
    if several.is_empty():
        states.nothing("No arms to compare", "No agent's traces name two or more arms (prompt versions, models).")
        return
    labelled = several.with_columns(label=pl.format("{} · {}", "agent", "arm"))
    _means(labelled, theme, label="label", key="arm-means", noun="arms")
    st.caption(
        "Intervals hold what is not known of the scale, which all arms of an agent share: arms differ more surely than "
        "they seem. Not causal unless arms were assigned at random: Exploration compares them."
    )


def coverage(frame: pl.DataFrame) -> None:
    """How much of the traffic each kind of signal says something about."""
    export.table(
        "coverage of signals",
        frame.select(
            "kind", "signals", "traces", "share", pl.col("mean").alias("mean value"), "solicited", "unlinked",
            pl.col("with_value").alias("with a value"), "latest",
        ),
        hide_index=True, height=tables.height(frame.height),
        column_config=fmt.columns({
            "share": st.column_config.ProgressColumn(
                "share of traces", format="percent", max_value=1.0, help="Traces with at least one such signal"
            ),
            "mean value": st.column_config.NumberColumn(
                format="%.3f", help="Of values from 0 to 1, as they came: volunteered feedback is not representative"
            ),
            **{
                name: st.column_config.NumberColumn(format="localized")
                for name in ("signals", "traces", "with a value")
            },
            "unlinked": st.column_config.NumberColumn(
                format="localized", help="Signals whose trace is not in the store"
            ),
            "solicited": st.column_config.NumberColumn(
                format="localized", help="Asked for at random, not volunteered"
            ),
            "latest": st.column_config.DatetimeColumn("latest (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC"),
        }),
        alt=f"Coverage of {frame.height} kinds of signal",
    )  # fmt: skip


def pass_table(outcomes: pl.DataFrame) -> None:
    """pass^k of each agent whose tasks were run more than once (`outcomes` of `store.rewards.OUTCOMES`)."""
    rows = []
    for own in outcomes.partition_by("agent", maintain_order=True):
        per_task = own.group_by("task").len()
        if per_task["len"].max() == 1:
            continue
        table = pass_k(own.select("task", "success"), largest=_LARGEST_K)
        row: dict[str, Any] = {
            "agent": own["agent"][0] or "no agent stated",
            "rollouts": own.height,
            "tasks": per_task.height,
            "mean outcome": own["success"].mean(),
        }
        for k, mean, lower, upper, tasks, _ in table.iter_rows():
            row[f"pass^{k}"] = _with_interval(mean, lower, upper, tasks)
        rows.append(row)
    if not rows:
        states.nothing(
            "No repeated tasks",
            "pass^k asks whether all of k runs of a task succeed. It needs outcome signals on tasks that were run at "
            "least twice.",
        )
        return
    export.table(
        "pass k", pl.DataFrame(rows), hide_index=True,
        column_config={
            **{name: st.column_config.NumberColumn(format="localized") for name in ("rollouts", "tasks")},
            "mean outcome": st.column_config.NumberColumn(format="%.3f"),
        },
        alt="pass^k per agent with intervals over tasks",
    )  # fmt: skip
    st.caption(
        "pass^k: the probability that all of k runs of a task succeed, averaged over tasks with at least k runs (n), "
        "with its 95 % interval over tasks. How often tasks succeed by luck shows in how fast it falls."
    )


def lowest_tasks(cells: pl.DataFrame, *, shown: int = 50) -> None:
    """The tasks with the lowest mean reward (`cells` of `store.rewards.CELLS`), with a link to their traces."""
    if cells.is_empty():
        states.nothing("No tasks with signals", "Tasks appear here when traces with a task have outcomes or feedback.")
        return
    worst = cells.head(shown)
    lower, upper = interval(worst["mean"].to_numpy(), worst["sd"].to_numpy())
    export.table(
        "lowest tasks",
        worst.select(
            "agent", pl.col("task").fill_null("no task stated"), "mean",
            pl.Series("interval", [f"{low:.2f} to {high:.2f}" for low, high in zip(lower, upper, strict=True)]),
            pl.col("raw_mean").alias("as observed"), pl.col("observed").alias("n with signals"), "traces",
            pl.Series("open", [f"/traces?task={quote(task or '', safe='')}&range=all+time" for task in worst["task"]]),
        ),
        hide_index=True, height=tables.height(worst.height),
        column_config={
            "mean": st.column_config.ProgressColumn("mean reward", format="%.2f", max_value=1.0),
            "interval": st.column_config.TextColumn("95 % interval"),
            "as observed": st.column_config.NumberColumn(format="%.2f", help="Before shrinkage towards the agent"),
            "open": st.column_config.LinkColumn("", display_text="traces"),
        },
        alt=f"The {worst.height} tasks with the lowest mean reward",
    )  # fmt: skip
    if cells.height > shown:
        st.caption(f"The lowest {shown} of {cells.height:,} tasks with signals.")


def _means(frame: pl.DataFrame, theme: Theme, *, label: str, key: str, noun: str) -> None:
    drawn = means.for_figure(frame, label=label)
    if drawn.height:
        st.plotly_chart(
            figures.intervals(drawn, theme, axis="mean reward, 95 % interval"), key=key, config=charts.CONFIG,
            alt=f"Mean reward of {drawn.height} {noun} with 95 % intervals",
        )  # fmt: skip
    few = frame.filter((pl.col("n") < fmt.MINIMUM_MEAN) | pl.col("sd").is_null())
    for name, n in few.select(label, "n").head(10).iter_rows():
        text.line(f"{name}: {fmt.missing(n, fmt.MINIMUM_MEAN, 'trace')} with signals")
    if few.height > 10:
        st.caption(f"{few.height - 10} more {noun} have too few traces with signals.")
    with st.expander("As a table"):
        export.table(
            f"rewards of {noun}",
            frame.select(
                *(["agent", "arm"] if label == "label" else ["agent"]), "mean", "lower", "upper", "n", "traces", "users"
            ),
            hide_index=True,
            column_config={
                name: st.column_config.NumberColumn(format="%.3f") for name in ("mean", "lower", "upper")
            },
        )  # fmt: skip
        st.caption("n: traces with signals. Where ten or more users are known, the interval lets their traces depend.")


def _with_interval(mean: float | None, lower: float | None, upper: float | None, tasks: int) -> str:
    if mean is None:
        return "not enough runs"
    limits = "" if lower is None or upper is None else f" ({lower:.2f} to {upper:.2f})"
    return f"{mean:.3f}{limits}, n {tasks}"
