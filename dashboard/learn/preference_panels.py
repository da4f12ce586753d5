"""Panels of Rewards on what people value: weights of everyone and of segments, says against does, and rankings."""

from math import sqrt
from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import charts, data
from dashboard.learn import figures, tables
from dashboard.ui import export, states, text
from dashboard.ui import format as fmt
from dashboard.ui.theme import Theme
from store import preferences

__all__ = ["rankings", "segments", "show", "weights"]

_Z95: Final = 1.959963984540054
_BASES: Final = {"revealed": "choices", "stated": "stated goals", "rated": "ratings and thumbs"}
_MOST_CONTRADICTING: Final = 20


def show(theme: Theme, agents: tuple[str, ...] = ()) -> None:
    """Everything about preferences; `agents` narrows the rankings."""
    run = data.query(preferences.latest_run)
    if run is None:
        states.nothing(
            "No preferences yet",
            "The preferences job infers what people value from lists of items that were shown and what was chosen of "
            "them, and ranks arms by pairs. It runs by itself when data arrives.",
        )
        return
    weights(run, theme)
    segments(run)
    rankings(agents)


def weights(run: dict[str, Any], theme: Theme) -> None:
    """Mean weights of everyone as multiples of the anchor's, and whether they agree with what people say."""
    st.markdown("**What people value**")
    refused = run["parameters"].get("refused")
    if refused is not None:
        states.nothing("Preferences cannot be inferred yet", text.markdown_safe(refused["text"]))
        _left_out(run)
        return
    frame = data.query(preferences.weights).filter(scope="everyone")
    revealed = frame.filter(basis="revealed")
    drawn = revealed.drop_nulls("ratio")
    anchor = run["parameters"]["anchor"]
    if drawn.is_empty():
        st.caption("No feature's weight is known well enough to compare the others with it; see the table.")
    else:
        shown = drawn.select(
            label="feature", mean="ratio", lower="ratio_lower", upper="ratio_upper",
            hover=pl.Series([_hover(row) for row in drawn.iter_rows(named=True)], dtype=pl.String),
        )  # fmt: skip
        st.plotly_chart(
            figures.intervals(
                shown, theme, axis=f"weight against “{text.plotly_safe(anchor, 30)}”, 95 % interval", highest=None
            ),
            key="preference-weights", config=charts.CONFIG,
            alt=f"Weights of {shown.height} features of shown items with 95 % intervals",
        )  # fmt: skip
    st.caption(
        f"From {run['lists']:,} lists with {run['items']:,} items shown to {run['users']:,} people, who chose "
        f"{run['chosen']:,}; means over people with errors clustered by person. Only ratios and contrasts are "
        f"identified, not the size of all weights. As of {fmt.when(run['fitted_at'], seconds=False)}; predictive, not "
        "causal."
    )
    _agreement()
    with st.expander("As a table, with what ratings and goals say"):
        _table(frame)
    _left_out(run)


def segments(run: dict[str, Any]) -> None:
    """Weights of each segment side by side, each with its interval and n."""
    frame = data.query(preferences.weights).filter(scope="segment", basis="revealed")
    if frame.is_empty():
        return
    st.markdown("**By segment**")
    everyone = data.query(preferences.weights).filter(
        scope="everyone", basis="revealed", feature=run["parameters"]["anchor"]
    )
    unit = abs(float(everyone["weight"][0])) or 1.0
    features = run["parameters"]["features"]
    rows = []
    for own in frame.partition_by("segment", maintain_order=True):
        row: dict[str, Any] = {"segment": text.one_line(own["segment"][0], 60), "people": own["users"][0]}
        for feature, weight, sd in own.select("feature", "weight", "sd").iter_rows():
            low, high = (weight - _Z95 * sd) / unit, (weight + _Z95 * sd) / unit
            row[text.one_line(feature, 40)] = f"{weight / unit:+.2f} ({low:+.2f} to {high:+.2f})"
        rows.append({**row, "lists": own["n"][0]})
    export.table(
        "preferences by segment", pl.DataFrame(rows), hide_index=True, height=tables.height(len(rows)),
        alt=f"Weights of {len(features)} features in {len(rows)} segments with 95 % intervals",
    )  # fmt: skip
    st.caption("1 is what the anchor feature weighs for everyone; segments come from `segment` in traces' metadata.")


def rankings(agents: tuple[str, ...] = ()) -> None:
    """Arms, models and what people compared, strongest first, with rank intervals and verdicts."""
    st.markdown("**Which arm or model is preferred**")
    frame = data.query(preferences.rankings)
    if agents:
        frame = frame.filter(pl.col("agent").is_in(agents))
    if frame.is_empty():
        states.nothing(
            "Nothing to rank",
            "Needs comparisons by people (signals of kind preference with a winner and a loser in their metadata), or "
            "tasks that ran on two or more arms or models and whose traces have signals.",
        )
        return
    rows = [_ranked(row) for row in frame.iter_rows(named=True)]
    export.table(
        "rankings", pl.DataFrame(rows, infer_schema_length=None), hide_index=True, height=tables.height(len(rows)),
        column_config={
            "P(best)": st.column_config.ProgressColumn(format="%.2f", max_value=1.0),
            "against the reference": st.column_config.TextColumn(help="Difference in log odds with its 95 % interval"),
            "rank": st.column_config.TextColumn(help="95 % interval of the rank"),
        },
        alt=f"{len(rows)} arms, models and compared things with rank intervals",
    )  # fmt: skip
    st.caption(
        "Bradley-Terry: pairs by people, and pairs of traces of one task under different arms, of which the higher "
        "reward wins; errors clustered by user. The reference is what was compared most often; no worse means a loss "
        "of 0.2 log odds is excluded. Not causal unless arms were assigned at random."
    )


def _agreement() -> None:
    """Whether everyone's and each segment's goals point where their choices do."""
    for row in data.query(preferences.agreement).iter_rows(named=True):
        who = "Everyone" if row["scope"] == "everyone" else text.one_line(row["segment"], 60)
        if row["contradicts"] is None:
            text.line(f"{who}, says and does: {row['reason'] or 'not enough data'}.")
            continue
        verdict = "choices contradict goals" if row["contradicts"] else "no contradiction of goals and choices is found"
        text.line(
            f"{who}: {verdict}; angle {row['angle']:.0f}° ({row['angle_lower']:.0f}° to {row['angle_upper']:.0f}°), "
            f"q {row['q_value']:.3f}, {row['users']:,} people, {row['lists']:,} lists, "
            f"{row['statements']:,} stated values."
        )
    compared, contradict = data.query(preferences.compared_users)
    if not compared:
        return
    st.caption(f"{contradict:,} of {compared:,} people with enough choices and goals contradict themselves (q ≤ .05).")
    if contradict:
        with st.expander("Who contradicts their goals"):
            frame = data.query(preferences.contradicting, limit=_MOST_CONTRADICTING)
            for row in frame.iter_rows(named=True):
                with st.container(horizontal=True, vertical_alignment="center"):
                    text.line(
                        f"{text.one_line(row['user_id'], 80)}: {row['angle']:.0f}° ({row['angle_lower']:.0f}° to "
                        f"{row['angle_upper']:.0f}°), q {row['q_value']:.4f}, {row['lists']:,} lists"
                    )
                    st.page_link(
                        "views/users.py", label="Open", icon=":material/person:", query_params={"user": row["user_id"]}
                    )
            if contradict > frame.height:
                st.caption(f"The surest {frame.height} of {contradict:,}.")


def _table(frame: pl.DataFrame) -> None:
    lengths = {
        basis: sqrt(float((own["weight"] ** 2).sum())) or 1.0
        for (basis,), own in frame.group_by("basis", maintain_order=True)
    }
    rows = [
        {
            "from": _BASES.get(str(row["basis"]), row["basis"]),
            "feature": text.one_line(row["feature"], 60),
            "weight": row["weight"],
            "95 % interval": f"{row['weight'] - _Z95 * row['sd']:+.3f} to {row['weight'] + _Z95 * row['sd']:+.3f}",
            "share of direction": row["weight"] / lengths[row["basis"]],
            "sd between people": row["spread"],
            "people": row["users"],
            "n": row["n"],
        }
        for row in frame.iter_rows(named=True)
    ]
    export.table(
        "preferences", pl.DataFrame(rows, infer_schema_length=None), hide_index=True, height=tables.height(len(rows)),
        column_config={
            name: st.column_config.NumberColumn(format="%+.3f")
            for name in ("weight", "share of direction", "sd between people")
        },
        alt=f"{len(rows)} weights by where they come from",
    )  # fmt: skip
    st.caption(
        "Weights of choices are log odds for one unit of the feature; those of ratings are changes of the value."
    )


def _left_out(run: dict[str, Any]) -> None:
    """Features and impressions that were left out, and what is weak about the log, each with its reason."""
    parameters = run["parameters"]
    lines = [f"{text.one_line(one['feature'], 60)}: {one['reason']}" for one in parameters.get("dropped", [])]
    lines += [f"{one['items']:,} impressions: {one['reason']}" for one in parameters.get("left_out", [])]
    lines += [f"{one['n']:,} {one['text']}" for one in parameters.get("notes", [])]
    if parameters.get("statement_error_assumed"):
        lines.append("The error of a stated goal is assumed: too few people stated one twice.")
    if parameters.get("converged") is False:
        lines.append("The fit had not settled when it was stopped.")
    if lines:
        with st.expander(f"Left out or weak ({len(lines)})", icon=":material/info:"):
            for one in lines[:50]:
                text.line(one)


def _ranked(row: dict[str, Any]) -> dict[str, Any]:
    known = row["difference"] is not None
    return {
        "agent": text.one_line(row["agent"], 60) or "no agent stated",
        "compared": text.one_line(row["axis"], 40),
        "by": "people" if row["basis"] == "stated" else "rewards of the same task",
        "item": text.one_line(row["item"], 80),
        "rank": None if row["rank_lower"] is None else f"{row['rank_lower']} to {row['rank_upper']}",
        "P(best)": row["best"],
        "against the reference": (
            f"{row['difference']:+.2f} ({row['difference_lower']:+.2f} to {row['difference_upper']:+.2f})"
            if known
            else None
        ),
        "verdict": row["verdict"] or text.one_line(row["reason"], 120),
        "n": row["comparisons"],
        "users": row["users"],
    }


def _hover(row: dict[str, Any]) -> str:
    return (
        f"{text.plotly_safe(row['feature'], 60)}: {row['ratio']:+.2f} ({row['ratio_lower']:+.2f} to "
        f"{row['ratio_upper']:+.2f}), {row['users']:,} people, {row['n']:,} lists"
    )
