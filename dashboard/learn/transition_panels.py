"""Panels of transitions: reliability with bands, does history matter, surprising transitions and traces, learning."""

import json
from typing import Any, Final
from urllib.parse import quote

import polars as pl
import streamlit as st

from dashboard import charts, data
from dashboard.feel.glossary import meaning
from dashboard.learn import figures, tables
from dashboard.ui import export, states, text
from dashboard.ui import format as fmt
from dashboard.ui.theme import Theme
from store import transition_models, transitions

__all__ = ["learning", "order_verdict", "reliability", "show", "surprising_traces", "surprising_transitions", "weights"]

_MINIMUM: Final = 30
_SHARES: Final = {
    "success": "ends in success", "failure": "ends in failure", "ended": "ends without a verdict",
    "success_of_judged": "success, of those with a verdict",
}  # fmt: skip
_METHODS: Final = {
    "maxent": "What the agent acts as if it valued",
    "demonstration": "What people do differently: demonstrations against the agent's runs of the same tasks",
    "correction": "What people write differently: corrections against the answers they correct",
}


def show(agents: tuple[str, ...], theme: Theme) -> None:
    """Everything about the transition model of one agent, chosen among `agents` (empty: all)."""
    models = data.query(transition_models.models)
    if agents:
        models = models.filter(pl.col("agent").is_in(agents))
    if models.is_empty():
        states.nothing(
            "No transition model yet",
            "The transitions job fits one per agent from the steps of its traces; it runs by itself when data arrives.",
        )
        return
    chosen = st.selectbox(
        "Agent", models["agent"].to_list(), key="transition-agent", format_func=lambda name: name or "no agent stated"
    )
    model = models.filter(agent=chosen).row(0, named=True)
    parameters = json.loads(model["parameters"])
    if model["concentration"] is None:
        states.not_enough("Transition model", model["traces"], _MINIMUM, "traces of this agent")
        return
    _card(model, parameters)
    bands = data.query(transition_models.reliability, agent=chosen)
    st.subheader("Reliability", anchor=False)
    reliability(bands, theme)
    order_verdict(parameters.get("order", {}))
    known = data.query(transition_models.states, agent=chosen)
    st.subheader("Surprising transitions", anchor=False, help=meaning("surprise"))
    surprising_transitions(known, data.query(transition_models.moves, agent=chosen), model["concentration"])
    st.subheader("Surprising traces", anchor=False)
    surprising_traces(data.query(transition_models.most_surprising, agents=(chosen,)), model["traces"])
    st.subheader("Novelty and learning", anchor=False)
    learning(known, parameters.get("curve", []))
    found = data.query(transition_models.weights, agent=chosen)
    st.subheader("Weights read from behaviour", anchor=False)
    weights(found, theme)


def reliability(bands: pl.DataFrame, theme: Theme) -> None:
    """Where traces end, after how many steps and at what cost, with 95 % bands (`bands` of `RELIABILITY`)."""
    overall = bands.filter(pl.col("arm").is_null())
    if overall.is_empty():
        states.nothing("No reliability yet", f"It needs {_MINIMUM} traces of an agent.")
        return
    drawn = overall.filter(pl.col("measure").is_in(list(_SHARES))).with_columns(
        label=pl.col("measure").replace_strict(_SHARES, default=pl.col("measure")), mean=pl.col("estimate"),
        hover=pl.format("{} ({} to {})", *(pl.col(c).round(3) for c in ("estimate", "lower", "upper"))),
    )  # fmt: skip
    st.plotly_chart(
        figures.intervals(drawn, theme, axis="probability, 95 % band"), key="reliability", config=charts.CONFIG,
        alt=f"Probabilities of {drawn.height} ends with 95 % bands",
    )  # fmt: skip
    with st.container(horizontal=True):
        for measure, label, show_value in (
            ("steps", "expected steps", _number),
            ("cost_usd", "expected cost", fmt.money),
        ):
            own = overall.filter(measure=measure)
            if own.height:
                row = own.row(0, named=True)
                st.metric(label, show_value(row["estimate"]))
                st.caption(f"{show_value(row['lower'])} to {show_value(row['upper'])}")
    arms = bands.filter(pl.col("arm").is_not_null())
    if arms.height:
        export.table(
            "reliability of arms",
            _arm_table(arms),
            hide_index=True,
            alt=f"Reliability of {arms['arm'].n_unique()} arms",
        )
        st.caption("Arms: predictive, not causal, unless they were assigned at random.")
    st.caption(
        f"Absorbing Markov chain, 500 draws from its posterior, n {overall['traces'][0]:,} traces; model-based. "
        "A trace with signals of its own counts as a success with its mean reward, one with status error as a failure; "
        "the others have no verdict. The reward model's own error is not in the bands."
    )


def order_verdict(order: dict[str, Any]) -> None:
    """Whether the steps before the present one matter, by held-out loss."""
    if not order or order.get("gain") is None:
        text.line("Does history matter? can't tell yet: too few held-out traces.")
        return
    st.markdown(f"**{order['verdict'].capitalize()}**")
    st.caption(
        f"An order-2 chain lowers the held-out loss by {order['gain'] * 100:.1f} % ({order['lower'] * 100:.1f} to "
        f"{order['upper'] * 100:.1f} %) against the order-1 chain used here; above 2 % history matters. n "
        f"{order['traces']:,} held-out traces, {order['transitions']:,} transitions."
        + (" Reliability above leaves that history out." if order["verdict"].startswith("history") else "")
    )


def surprising_transitions(known: pl.DataFrame, moves: pl.DataFrame, kappa: float, *, shown: int = 25) -> None:
    """The transitions that surprise most where they happen (`known` of `STATES`, `moves` of `MOVES`)."""
    ended = pl.col("role").is_in(transitions.ENDS)
    targets = known.select(to_place="place", then=pl.when(ended).then(pl.lit("END")).otherwise("label"), base="base")
    table = (
        moves.join(
            known.select(from_place="place", after="label", entropy="entropy", sd="surprise_sd"), on="from_place"
        )
        .join(targets.drop("base"), on="to_place")
        .group_by("from_place", "after", "entropy", "sd", "then")
        .agg(pl.col("n").sum())
        .join(targets.group_by("then").agg(pl.col("base").sum()), on="then")
        .with_columns(total=pl.col("n").sum().over("from_place"))
        .with_columns(p=(pl.col("n") + kappa * pl.col("base")) / (pl.col("total") + kappa))
        .with_columns(z=(-pl.col("p").log() - pl.col("entropy")) / pl.col("sd"))
        .filter(pl.col("z") > 0)
        .sort(["z", "n", "after", "then"], descending=[True, True, False, False])
        .head(shown)
    )
    if table.is_empty():
        states.nothing("No surprising transition", "Every transition is as common as its state lets expect.")
        return
    export.table(
        "surprising transitions",
        table.select("after", "then", "p", "z", "n", pl.col("total").alias("of")), hide_index=True,
        height=tables.height(table.height),
        column_config={
            "p": st.column_config.NumberColumn(format="%.4f"),
            "z": st.column_config.NumberColumn(
                format="%.1f", help="Surprise above what is usual after that step, in standard deviations"
            ),
            "of": st.column_config.NumberColumn(help="How often the step before was seen"),
        },
        alt=f"The {table.height} most surprising transitions",
    )  # fmt: skip
    st.caption("Standardised within the step before: a step after which anything may come does not stand here.")


def surprising_traces(frame: pl.DataFrame, traces: int) -> None:
    """Traces with the smallest conformal p-values, with links (`frame` as `transition_models.most_surprising`)."""
    if frame.is_empty():
        states.nothing("No p-values yet", "A trace is compared with at least 20 others of the last 30 days.")
        return
    export.table(
        "surprising traces",
        frame.select(
            pl.col("trace_id").alias("trace"), pl.col("p_value").alias("p"), pl.col("mean_z").alias("mean z"),
            pl.col("transitions").alias("n"), pl.col("compared").alias("among"),
            pl.col("comparison").alias("of the same"), "seen_at",
            pl.Series("open", [f"/traces?trace={quote(trace, safe='')}" for trace in frame["trace_id"]]),
        ),
        hide_index=True, height=tables.height(frame.height),
        column_config=fmt.columns({
            "p": st.column_config.NumberColumn(format="%.4f"),
            "mean z": st.column_config.NumberColumn(format="%.2f"),
            "seen_at": st.column_config.DatetimeColumn("seen", format="YYYY-MM-DD HH:mm", timezone="UTC"),
            "open": st.column_config.LinkColumn("", display_text="open"),
        }),
        alt=f"The {frame.height} most surprising traces",
    )  # fmt: skip
    highest = float(frame["p_value"].tail(1)[0])
    st.caption(
        f"Of {traces:,} ordinary traces about {traces * highest:,.0f} would have p-values as small as these by chance."
    )


def learning(known: pl.DataFrame, curve: list[dict[str, Any]]) -> None:
    """Per state how new it is and what the newer half of the data taught; and the loss as data grow."""
    table = known.filter(pl.col("role").is_in(["start", "step"]) & pl.col("progress").is_not_null()).sort(
        "progress", descending=True
    )
    if table.is_empty():
        states.nothing("No held-out steps", "Learning progress is measured on a fifth of the users, held out.")
    else:
        margin = figures.Z95 * pl.col("progress_se")
        ends = ((pl.col("progress") - margin).round(3), (pl.col("progress") + margin).round(3))
        # Of a handful of held-out steps all may gain the same, which is no certainty.
        enough = (pl.col("progress_n") >= fmt.MINIMUM_RATE) & pl.col("progress_se").is_not_null()
        limits = pl.when(enough).then(pl.format("{} to {}", *ends)).otherwise(pl.lit("not enough data"))
        export.table(
            "learning progress",
            table.select(
                pl.col("label").alias("state"), pl.col("progress").alias("learned"),
                limits.alias("95 % interval"),
                pl.col("progress_n").alias("n held out"), pl.col("unseen"), "novelty", "entropy", "visits",
            ),
            hide_index=True, height=tables.height(table.height),
            column_config={
                "learned": st.column_config.NumberColumn(
                    format="%.4f", help="Drop of held-out loss by the newer half of the data, nats a step"
                ),
                "unseen": st.column_config.NumberColumn(
                    format="%.4f", help="Good-Turing: probability that the next step is one never seen from here"
                ),
                "novelty": st.column_config.NumberColumn(format="%.3f", help="1 / sqrt(visits + 1)"),
                "entropy": st.column_config.NumberColumn(format="%.2f", help="Of the next step, nats"),
            },
            alt=f"Novelty and learning progress of {table.height} states",
        )  # fmt: skip
    st.caption("What is random by nature has high entropy and teaches nothing: explore where the loss still drops.")
    if curve:
        lines = [
            f"{row['share'] * 100:.0f} % of the data ({row['transitions']:,} transitions): held-out loss "
            f"{row['loss']:.3f} ± {figures.Z95 * row['se']:.3f} nats a step"
            for row in curve
        ]
        with st.expander("Learning curve"):
            st.text("\n".join(lines))


def weights(found: pl.DataFrame, theme: Theme) -> None:
    """Feature weights by method with intervals (`found` of `WEIGHTS`)."""
    if found.is_empty():
        states.nothing(
            "No weights",
            "They need an agent that has a choice of what to do next, or at least ten demonstrations or corrections by "
            "people on tasks that the agent also ran.",
        )
        return
    for (method,), own in found.group_by("method", maintain_order=True):
        st.markdown(f"**{_METHODS.get(str(method), str(method))}**")
        ratios = method == "maxent" and own["ratio"].null_count() < own.height
        value, lower, upper = ("ratio", "ratio_lower", "ratio_upper") if ratios else ("weight", "lower", "upper")
        drawn = own.filter(pl.col(lower).is_not_null() & pl.col(upper).is_not_null()).select(
            label="feature", mean=value, lower=lower, upper=upper,
            hover=pl.format("{} ({} to {})", *(pl.col(c).round(2) for c in (value, lower, upper))),
        )  # fmt: skip
        axis = "in units of one more step, 95 % interval" if ratios else "weight, 95 % interval"
        if drawn.height:
            st.plotly_chart(
                figures.intervals(drawn, theme, axis=axis, highest=None), key=f"weights-{method}", config=charts.CONFIG,
                alt=f"{drawn.height} feature weights with 95 % intervals",
            )  # fmt: skip
        else:
            export.table(f"weights by {method}", own.select("feature", "weight", "n"), hide_index=True)
            st.caption("No intervals: too few users.")
        tested = own.filter(pl.col("q_value") <= 0.05)
        if own["q_value"].null_count() < own.height:
            text.line(f"Different at a false-discovery rate of 5 %: {', '.join(tested['feature']) or 'none'}")
        text.line(f"n {own['n'][0]:,}. {own['note'][0] or ''}")
    st.caption("Predictive, not causal; of behaviour only ratios and contrasts can be known, not a scale.")


def _card(model: dict[str, Any], parameters: dict[str, Any]) -> None:
    st.caption(
        f"Version {model['model_id']}, abstraction {model['abstraction']}, fitted {fmt.when(model['fitted_at'])}, code "
        f"{model['code_version']}; {model['traces']:,} traces, {model['steps']:,} steps, {model['states']:,} states, "
        f"prior weight κ {model['concentration']:.3g} transitions"
        + (f", of a user's own {model['user_concentration']:.3g}." if model["user_concentration"] is not None else ".")
    )
    schema = parameters.get("schema", {})
    for key, words in (("new", "New tools in the last 7 days"), ("gone", "Tools not used in the last 7 days")):
        if schema.get(key):
            text.line(f"{words}: {', '.join(schema[key])}")
    for note in parameters.get("notes", []):
        text.line(note)


def _arm_table(arms: pl.DataFrame) -> pl.DataFrame:
    def cell(measure: str) -> pl.Expr:
        limits = [pl.col(c).round_sig_figs(3) for c in ("estimate", "lower", "upper")]
        return pl.format("{} ({} to {})", *limits).filter(pl.col("measure") == measure).first()

    return (
        arms.group_by("arm", maintain_order=True)
        .agg(
            cell("success").alias("success"), cell("failure").alias("failure"), cell("steps").alias("steps"),
            cell("cost_usd").alias("cost, USD"), pl.col("traces").first().alias("n"),
        )
        .sort("arm")
    )  # fmt: skip


def _number(value: float | None) -> str:
    return fmt.NONE if value is None else f"{value:.1f}"
