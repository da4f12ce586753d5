"""Panels of Rewards on the models: versions side by side, what features are worth, arms by segment, stated weights."""

from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import charts, data, runtime
from dashboard.access import offer
from dashboard.learn import calibration_panels, figures, tables
from dashboard.learn.actions import operator, perform
from dashboard.ui import export, states, text
from dashboard.ui import format as fmt
from dashboard.ui.text import plotly_safe
from dashboard.ui.theme import Theme
from store import reward_versions
from store.errors import ActionRefused

__all__ = ["METHODS", "arm_by_segment", "choice_of_arm", "feature_weights", "stated_weights", "versions"]

METHODS: Final = {
    "empirical_bayes": "means of tasks (empirical Bayes)",
    "trace_model": "single traces: features, task, person and own signals",
}
_METRICS: Final = {"brier": "Brier score", "log_loss": "log loss", "ece": "calibration error", "spearman": "Spearman"}
_HELD_OUT: Final = ("users and tasks", "users", "tasks")
_SHOWN_WEIGHTS: Final = 25
_LEAST_TRACES: Final = 20


def versions(theme: Theme) -> None:
    """All versions with their metrics on held-out people and tasks, and a button that puts another one in use."""
    listed = data.query(reward_versions.versions)
    if listed.is_empty():
        states.nothing("No reward model yet", "The rewards job makes the first version when there are traces.")
        return
    measured = data.query(reward_versions.metrics)
    held_out = st.segmented_control(
        "Held out", _HELD_OUT, default=_HELD_OUT[0], key="held_out", required=True,
        help="Whose traces the prediction has not seen: other people's and other tasks' traces alone went into it.",
    )  # fmt: skip
    table = _side_by_side(listed, measured.filter(pl.col("held_out") == str(held_out)))
    export.table(
        "versions on held out data", table, hide_index=True, height=tables.height(table.height),
        column_config=fmt.columns({
            "fitted": st.column_config.DatetimeColumn("fitted (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC"),
            **{name: st.column_config.TextColumn(help=_HELP[key]) for key, name in _METRICS.items()},
        }),
        alt=f"{table.height} versions of the reward model with their metrics on held-out {held_out}",
    )  # fmt: skip
    st.caption(
        "Each metric with its 95 % interval (bootstrap over people) and its labels. A metric without a number "
        "has no labels. Versions that are no longer readable keep their metrics; their rewards of traces are gone."
    )
    _compare(listed, measured, str(held_out), theme)
    waiting = listed.filter((pl.col("state") != "active") & pl.col("readable"))
    for row in listed.head(1).iter_rows(named=True):
        text.line(f"Version {row['reward_model_id']} is {_state(row)}: {row['reason']}")
    if waiting.height:
        _activate_form(waiting)


def feature_weights(reward_model_id: int, theme: Theme) -> None:
    """What the features of one version are worth, those surest of their sign on top."""
    frame = data.query(reward_versions.feature_weights, reward_model_id)
    if frame.is_empty():
        states.nothing(
            "No feature weights",
            "This version rests on the means of tasks. Weights come with the model of single traces, which needs more "
            "traces with signals.",
        )
        return
    kinds = frame["kind"].unique().sort().to_list()
    chosen = st.multiselect("Kinds", kinds, default=kinds, key="weight_kinds")
    enough = frame.filter(pl.col("kind").is_in(chosen) & (pl.col("traces") >= _LEAST_TRACES))
    if enough.is_empty():
        states.not_enough(
            "Feature weights", max(frame["traces"].to_list(), default=0), _LEAST_TRACES, "traces with a feature"
        )
        return
    top = enough.head(_SHOWN_WEIGHTS).with_columns(
        mean=pl.col("weight"), lower=pl.col("weight") - figures.Z95 * pl.col("sd"),
        upper=pl.col("weight") + figures.Z95 * pl.col("sd"), label=pl.col("feature"),
    ).sort("weight", descending=True)  # fmt: skip
    hover = [
        f"{plotly_safe(name, 80)}: {mean:+.2f} logits ({lower:+.2f} to {upper:+.2f}), n {traces:,}"
        for name, mean, lower, upper, traces in top.select("feature", "mean", "lower", "upper", "traces").iter_rows()
    ]
    st.plotly_chart(
        figures.intervals(
            top.with_columns(hover=pl.Series("hover", hover, pl.String)), theme, axis="logits, 95 % interval",
            highest=None,
        ),
        key=f"weights-{reward_model_id}", config=charts.CONFIG,
        alt=f"The {top.height} features whose sign is surest, with 95 % intervals",
    )  # fmt: skip
    st.caption(
        "Predictive, not causal: a feature that goes with bad answers need not make them bad. One logit is 25 points "
        "of reward at a reward of .5. Numbers are in standard deviations from what the agent usually does."
    )
    with st.expander(f"All {enough.height:,} weights as a table"):
        export.table(
            "feature weights",
            enough.select("feature", "kind", "weight", "sd", pl.col("traces").alias("n"), "share"), hide_index=True,
            height=tables.height(enough.height),
            column_config={
                "weight": st.column_config.NumberColumn(format="%+.3f"),
                "sd": st.column_config.NumberColumn(format="%.3f"),
                "n": st.column_config.NumberColumn(help="Training traces that have the feature"),
                "share": st.column_config.NumberColumn(format="percent", help="Of all training traces"),
            },
            alt=f"Weights of {enough.height} features",
        )  # fmt: skip


def arm_by_segment(reward_model_id: int, agents: tuple[str, ...] = ()) -> None:
    """Mean reward of every arm in every segment."""
    frame = data.query(reward_versions.segment_means, reward_model_id)
    frame = frame.filter(pl.col("agent").is_in(agents)) if agents else frame
    several = frame.filter((pl.col("arm").n_unique().over("agent") > 1) | pl.col("segment").is_not_null())
    if several.is_empty():
        states.nothing(
            "No arms or segments to compare",
            "Arms are compared where an agent runs several; segments where the traces' metadata has a key “segment”.",
        )
        return
    most = max(several["traces"].to_list())
    if most < fmt.MINIMUM_MEAN:
        states.not_enough("Arms by segment", most, fmt.MINIMUM_MEAN, "traces of one arm in one segment")
        return
    few = f"fewer than {fmt.MINIMUM_MEAN}"
    cell = [
        f"{mean:.3f}" + ("" if sd is None else f" ± {figures.Z95 * sd:.3f}") + f", n {n:,} of {traces:,}"
        if traces >= fmt.MINIMUM_MEAN
        else few
        for mean, sd, n, traces in several.select("mean", "sd", "n", "traces").iter_rows()
    ]
    wide = several.with_columns(
        cell=pl.Series("cell", cell, pl.String), segment=pl.col("segment").fill_null("no segment stated")
    ).pivot("segment", index=["agent", "arm"], values="cell")
    wide = wide.with_columns(pl.exclude("agent", "arm").fill_null(few))
    export.table(
        "arms by segment", wide, hide_index=True, height=tables.height(wide.height),
        alt=f"Mean reward of {wide.height} arms in {max(wide.width - 2, 0)} segments",
    )  # fmt: skip
    st.caption(
        "Mean reward ± the half-width of its 95 % interval (people as clusters); n: traces with signals of their own. "
        f"Cells with fewer than {fmt.MINIMUM_MEAN} traces have no mean. As of the last fit: traces scored since are in "
        "the next. Not causal unless arms were assigned at random."
    )


def choice_of_arm(parameters: dict[str, Any]) -> None:
    """Whether choosing the arm by request beats the best single arm, per agent."""
    rows = parameters.get("choice_of_arm", [])
    if not rows:
        states.nothing("No arms to choose from", "An agent that runs two or more arms is compared here.")
        return
    for row in rows:
        with st.container(border=True):
            text.line(f"{row['agent']}: {row['text']}")
            if "lift" in row:
                st.caption(
                    "One fixed look; cross-validated by person; rewards of the model stand in for outcomes. "
                    f"n {row['n']:,} requests of {row['groups']:,} people; another arm than the best single one for "
                    f"{fmt.percent(row['switched'])} of them."
                )


def stated_weights(scopes: pl.DataFrame) -> None:
    """The weights between what people state and what they do, and a form to set one.

    `scopes` has agent and segment: what a weight can be set for.
    """
    held = data.query(reward_versions.stated_weights)
    if held.is_empty():
        st.caption("No weight is set: what people state and what they do count as their signals warrant (.5).")
    else:
        export.table(
            "stated against revealed",
            held.select(
                pl.col("agent").fill_null("all agents"), pl.col("segment").fill_null("all segments"), "weight",
                "reason", pl.col("set_by").alias("by"), pl.col("set_at").alias("set"),
            ),
            hide_index=True,
            column_config=fmt.columns({
                "weight": st.column_config.ProgressColumn(
                    "stated against revealed", format="%.2f", max_value=1.0, help="1: only what people state"
                ),
                "set": st.column_config.DatetimeColumn("set (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC"),
            }),
            alt=f"{held.height} weights between stated and revealed preferences",
        )  # fmt: skip
    agents = ["all agents", *scopes["agent"].drop_nulls().unique().sort().to_list()]
    segments = ["all segments", *scopes["segment"].drop_nulls().unique().sort().to_list()]
    with st.popover("Set a weight", icon=":material/tune:"), st.form("stated_weight_form", border=False):
        # Names of agents and segments are data: a selectbox shows its options as text.
        st.selectbox("Agent", range(len(agents)), format_func=lambda at: agents[at], key="stated_agent")
        st.selectbox("Segment", range(len(segments)), format_func=lambda at: segments[at], key="stated_segment")
        st.slider("What people state (1) against what they do (0)", 0.0, 1.0, 0.5, 0.05, key="stated_weight")
        st.text_input("Why?", key="stated_reason", placeholder="It is kept in the audit log.")
        offer.submit(
            "Set", type="primary", key="stated_set", on_click=_set_weight, args=(tuple(agents), tuple(segments))
        )
    st.caption("A weight takes effect with the next fit, where a segment has evidence of both sides.")


_HELP: Final = {
    "brier": "Mean squared distance of the prediction from what people said; lower is better",
    "log_loss": "Minus the log of the probability given to what people said; lower is better",
    "ece": "Mean distance between predicted and observed over bins of equal size; lower is better",
    "spearman": "Rank correlation with what people said; single yes/no answers keep it far below 1",
}


def _side_by_side(listed: pl.DataFrame, measured: pl.DataFrame) -> pl.DataFrame:
    table = listed.select(
        pl.col("reward_model_id").alias("version"), "state", pl.col("method").replace(METHODS),
        pl.col("fitted_at").alias("fitted"), "traces", "signals", "users", "tasks",
    )  # fmt: skip
    for key, name in _METRICS.items():
        own = measured.filter(pl.col("metric") == key)
        said = [
            calibration_panels.error_text(n, basis)
            if key == "ece" and n < calibration_panels.LEAST_FOR_ERROR
            else f"{value:.4f}"
            + ("" if lower is None or upper is None else f" ({lower:.4f} to {upper:.4f})")
            + f", n {n:,} {basis}"
            for value, lower, upper, n, basis in own.select("value", "lower", "upper", "n", "basis").iter_rows()
        ]
        column = pl.DataFrame({"version": own["reward_model_id"], name: pl.Series(said, dtype=pl.String)})
        table = table.join(column, on="version", how="left", maintain_order="left")
    return table.join(
        listed.select(version="reward_model_id", code="code_version", readable="readable"), on="version",
        maintain_order="left",
    )  # fmt: skip


def _compare(listed: pl.DataFrame, measured: pl.DataFrame, held_out: str, theme: Theme) -> None:
    """The Brier score of the latest versions with intervals, where two or more have one."""
    brier = measured.filter((pl.col("held_out") == held_out) & (pl.col("metric") == "brier")).head(8)
    drawn = brier.filter(pl.col("lower").is_not_null()).join(listed, on="reward_model_id", maintain_order="left")
    if drawn.height < 2:
        return
    frame = drawn.with_columns(
        mean=pl.col("value"), label=pl.format("version {} ({})", "reward_model_id", "state"),
        hover=pl.format("version {}: {}, n {}", "reward_model_id", pl.col("value").round(4), "n"),
    )  # fmt: skip
    st.plotly_chart(
        figures.intervals(frame, theme, axis="Brier score, 95 % interval", highest=None), key="versions-brier",
        config=charts.CONFIG, alt=f"Brier score of {drawn.height} versions on held-out {held_out} with 95 % intervals",
    )  # fmt: skip


def _state(row: dict[str, Any]) -> str:
    return {"active": "in use", "candidate": "a candidate that waits for you", "retired": "retired"}[row["state"]]


def _activate_form(waiting: pl.DataFrame) -> None:
    ids = waiting["reward_model_id"].to_list()
    with st.popover("Put another version in use", icon=":material/swap_horiz:"), st.form("activate_form", border=False):
        st.selectbox("Version", ids, key="activate_version")
        st.text_input("Why?", key="activate_reason", placeholder="It is kept in the audit log.")
        st.checkbox("Rewards of all traces, and what is learned from them, change at once", key="activate_confirmed")
        offer.submit("Put in use", type="primary", key="activate", on_click=_activate)


def _activate() -> None:
    store = runtime.current().store
    version, reason = int(st.session_state["activate_version"]), str(st.session_state["activate_reason"])
    confirmed = bool(st.session_state["activate_confirmed"])

    def work() -> str:
        if not confirmed:
            raise ActionRefused("Put in use", "the change was not confirmed.", "Tick the box and press again.")
        reward_versions.activate(store, version, operator=operator(), reason=reason)
        return f"Version {version} is in use from now on."

    perform(work)


def _set_weight(agents: tuple[str, ...], segments: tuple[str, ...]) -> None:
    store, state = runtime.current().store, st.session_state
    agent, segment = int(state["stated_agent"]), int(state["stated_segment"])
    weight, reason = float(state["stated_weight"]), str(state["stated_reason"])

    def work() -> str:
        reward_versions.set_stated_weight(
            store, weight, agent=agents[agent] if agent else None, segment=segments[segment] if segment else None,
            operator=operator(), reason=reason,
        )  # fmt: skip
        return f"Set to {weight:.2f} for {agents[agent]}, {segments[segment]}; it takes effect with the next fit."

    perform(work)
