"""Silent changes of models: what the newest runs found of each, its daily figures, and the operator's re-anchoring."""

import json
from datetime import UTC, datetime, time
from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import charts, data, runtime
from dashboard.access import offer
from dashboard.drift import probing, words
from dashboard.drift.model_figure import daily
from dashboard.learn import tables
from dashboard.learn.actions import operator, perform
from dashboard.ui import export, states
from dashboard.ui import format as fmt
from dashboard.ui.text import clean, one_line
from dashboard.ui.theme import Theme
from pipelines.model_watch.measures import MEASURES
from store import model_anchors, model_figures

__all__ = ["rows", "show", "title"]

_MOST: Final = 1_000
_FIGURE_ROWS: Final = 2_000


def show(theme: Theme, now: datetime) -> None:
    """The tab: the answer, findings, one model's figures, probes and known changes."""
    run = data.query(model_figures.latest_run)
    if run is None:
        states.nothing(
            "Models have not been watched yet",
            "The job model-watch compares the answers of each model with its earlier ones and with other models' "
            "answers at the same time. It runs by itself when traces name their models.",
        )
    else:
        frame = data.query(model_figures.changes, current_only=True, limit=_MOST)
        _answer(run, frame, now)
        if frame.height:
            _table(frame)
            _one_model(frame, theme)
    with states.guarded("The probes", key="probes"):
        probing.show(now)
    with states.guarded("Known changes of models", key="anchors"):
        _anchoring(now)


def title(metric: str) -> str:
    """What a figure of answers is called."""
    known = MEASURES.get(metric)
    return one_line(f"{metric[:1].upper()}{metric[1:]}" if known is None else known.title, 60)


def rows(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows of `store.model_figures.MODEL_CHANGES` as the table shows them."""
    listed = []
    for row in frame.to_dicts():
        ratio = _detail(row).get("effect_is") == "ratio"
        limits = (row["effect_lower"], row["effect_upper"])
        listed.append(
            {
                "model": one_line(row["model"], 60), "figure": title(row["metric"]), "found": row["status"],
                "by": "probes" if row["kind"] == "active" else "answers", "before": _number(row["before"]),
                "after": _number(row["after"]), "change": _change(row["effect"], ratio),
                "interval": None if None in limits else f"{_change(limits[0], ratio)} to {_change(limits[1], ratio)}",
                "changed": row["changed_at"] if row["flagged"] else None, "p": words.p(row["p_value"]),
                "q": words.p(row["q_value"]), "e": row["e_value"], "n": row["n"],
            }
        )  # fmt: skip
    schema = {
        **dict.fromkeys(("model", "figure", "found", "by", "before", "after", "change", "interval"), pl.String()),
        "changed": frame.schema["changed_at"], "p": pl.String(), "q": pl.String(), "e": pl.Float64(), "n": pl.Int64(),
    }  # fmt: skip
    return pl.DataFrame(listed, schema=schema)


def _answer(run: dict[str, Any], frame: pl.DataFrame, now: datetime) -> None:
    changed = frame.filter(pl.col("flagged"))["model"].n_unique()
    few = frame.filter(status="not enough data")["model"].n_unique()
    if changed:
        st.markdown(f"**{fmt.plural(changed, 'model')} of {run['models']:,} changed behind the name.**")
    else:
        st.markdown(f"**No change is seen in {fmt.plural(run['models'], 'model')}.**")
    st.caption(
        f"As of {fmt.when(run['found_at'], seconds=False)} ({fmt.relative(run['found_at'], now)}): "
        f"{fmt.plural(run['scanned'], 'figure')} scanned"
        + (f"; of {fmt.plural(few, 'model')} some have not enough data" if few else "")
        + ". The traffic is taken out (same tasks and languages), and what the other models did at the time."
    )


def _table(frame: pl.DataFrame) -> None:
    ordered = frame.sort("flagged", "status", "p_value", descending=[True, False, False], nulls_last=True)
    st.dataframe(
        rows(ordered), hide_index=True, height=tables.height(frame.height), key="model-changes", placeholder="",
        alt=f"{frame.height} figures of models with their values before and after",
        column_config=fmt.columns({
            "model": st.column_config.TextColumn(pinned=True, width=160),
            "figure": st.column_config.TextColumn(width=150),
            "interval": st.column_config.TextColumn("95 % interval", width=140),
            "changed": st.column_config.DatetimeColumn("changed at", format="YYYY-MM-DD", timezone="UTC", width=96),
            "e": st.column_config.NumberColumn(format="%.3g", help="Evidence of all figures of a model together"),
            "n": st.column_config.NumberColumn(format="localized", help="Answers, or samples of probes"),
        }),
    )  # fmt: skip
    export.download(frame, "model changes", "model-changes-export")


def _one_model(frame: pl.DataFrame, theme: Theme) -> None:
    models = frame.sort("flagged", "model", descending=[True, False])["model"].unique(maintain_order=True).to_list()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        model = st.selectbox(
            "Model", models, key="watched_model", bind="query-params", width=240,
            format_func=lambda name: one_line(name, 60),
        )  # fmt: skip
        model = model if model in models else models[0]
        own = frame.filter(model=model).sort("flagged", "p_value", descending=[True, False], nulls_last=True)
        figures = data.query(model_figures.figures, model=model, limit=_FIGURE_ROWS * len(MEASURES))
        held = figures["metric"].unique().to_list()
        metrics = [name for name in own["metric"].unique(maintain_order=True) if name in held]
        metrics += [name for name in sorted(held) if name not in metrics]
        if not metrics:
            return
        metric = st.selectbox("Figure", metrics, key="watched_figure", bind="query-params", width=220)
    metric = metric if metric in metrics else metrics[0]
    shown = figures.filter(metric=metric).tail(_FIGURE_ROWS)
    changes = own.filter((pl.col("metric") == metric) & pl.col("flagged"))["changed_at"].drop_nulls().to_list()
    anchors = data.query(model_anchors.anchors).filter(model=model)
    known = MEASURES.get(metric)
    st.plotly_chart(
        daily(
            shown, theme, axis="share of answers" if known is None else f"{known.title}, {known.unit}",
            changes=tuple(changes), anchors=tuple(anchors.select("anchored_at", "reason").iter_rows()),
        ),
        key="model-days", config=charts.CONFIG,
        alt=f"{title(metric)} of this model on {shown.height} days, with {fmt.plural(len(changes), 'change')} marked",
    )  # fmt: skip
    said = "" if known is None else f"{known.meaning} "
    st.caption(f"{said}Daily means with 95 % intervals, as they are; what is tested has the traffic taken out.")


def _anchoring(now: datetime) -> None:
    """Known changes of models: from there on a model is compared only with itself since then."""
    models = sorted(
        {
            *data.query(model_figures.changes, current_only=True, limit=_MOST)["model"].to_list(),
            *data.query(model_anchors.anchors)["model"].to_list(),
        }
    )
    with st.expander("A model changed on purpose: compare it anew", icon=":material/anchor:"):
        anchors = data.query(model_anchors.anchors)
        for row in anchors.head(20).iter_rows(named=True):
            st.text(
                clean(
                    f"{one_line(row['model'], 80)}, from {fmt.when(row['anchored_at'], seconds=False)}: "
                    f"{one_line(row['reason'], 300)} ({one_line(row['noted_by'], 80)})"
                )
            )
        if not models:
            st.caption("No model has been watched yet.")
            return
        with st.form("anchor-model", border=True):
            st.selectbox("Model", models, key="anchor-name", format_func=lambda name: one_line(name, 80))
            first, second = st.columns(2)
            first.date_input("From day (UTC)", now.date(), key="anchor-day", format="YYYY-MM-DD")
            second.time_input("Time (UTC)", time(0, 0), key="anchor-time")
            st.text_input("Reason", key="anchor-reason", max_chars=1_000)
            offer.submit("Compare anew", icon=":material/anchor:", key="anchor-save", on_click=_anchor)


def _anchor() -> None:
    store, read = runtime.current().store, st.session_state

    def work() -> str:
        at = read["anchor-time"]
        moment = datetime.combine(read["anchor-day"], at if isinstance(at, time) else time(0, 0), UTC)
        model = str(read["anchor-name"])
        model_anchors.anchor(
            store, model, anchored_at=moment, reason=str(read["anchor-reason"] or ""), operator=operator()
        )
        return f"From {fmt.when(moment, seconds=False)} on {one_line(model, 80)} is compared with itself since then."

    perform(work)


def _detail(row: dict[str, Any]) -> dict[str, Any]:
    found = json.loads(row["detail"] or "{}")
    return found if isinstance(found, dict) else {}


def _change(value: float | None, ratio: bool) -> str:
    if value is None:
        return fmt.NONE
    return f"{value * 100:+.1f} %" if ratio else f"{value:+.3g}"


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.3g}"
