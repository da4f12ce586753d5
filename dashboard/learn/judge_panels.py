"""Panels of judges: the model and its budget, rubrics, how good each judge is, and what it says once corrected."""

from datetime import timedelta
from typing import Any, Final
from urllib.parse import quote

import polars as pl
import streamlit as st

from dashboard import charts, data, runtime
from dashboard.access import offer
from dashboard.learn import figures, tables
from dashboard.learn.actions import operator, perform
from dashboard.learn.rubric_editor import editor
from dashboard.ui import export, states, text
from dashboard.ui import format as fmt
from dashboard.ui.text import plotly_safe
from dashboard.ui.theme import Theme
from pipelines.judges import publish
from pipelines.judges.population import Population, population
from pipelines.judges.quality import MINIMUM_LABELS, Quality, best_gold, quality
from pipelines.llm_setup import ModelSetup, setup
from pipelines.stats.proportion import Interval
from store import judged, judges, llm_calls, rubrics
from store.errors import SettingsError
from store.rubrics import Rubric

__all__ = ["judge_quality", "labelling", "model_and_budget", "rubric_panel", "show"]

_GOLD_LABELS: Final = {
    "annotation": "people's labels", "outcome": "outcomes", "feedback": "thumbs and ratings",
}  # fmt: skip
_SLICES: Final = {"all": "all labelled", "hard": "hard ones"}
_MOST_JUDGES: Final = 20
_LABELS_AT_ONCE: Final = 3


def show(theme: Theme) -> None:
    """All panels, in the order in which one sets a judge up, labels, and reads its quality."""
    st.markdown("**The model and its budget**")
    chosen = model_and_budget()
    st.markdown("**Rubrics**")
    rubric_panel(chosen)
    labelling()
    st.markdown("**How good the judges are**")
    judge_quality(theme)


def model_and_budget() -> ModelSetup | None:
    """Which model is asked, what was spent today and of what, and how its answers fare. Returns its setup."""
    current = runtime.current()
    try:
        chosen = setup(current.settings)
    except SettingsError as error:
        st.warning(text.markdown_safe(str(error)), icon=":material/block:")
        return None
    if chosen is None:
        states.nothing(
            "No model is configured",
            "A language model can judge traces by your rubrics. Name one with TRIMTAB_MODEL and its price with "
            "TRIMTAB_MODEL_PRICES, and restart. Without one everything else works, and judges of other systems are "
            "measured below all the same.",
        )
        return None
    now = current.clock.now()
    with states.guarded("The model's budget", key="model-budget"):
        today = data.fresh(llm_calls.spent)
        use = data.fresh(llm_calls.use, now - timedelta(days=30))
        with st.container(border=True):
            text.line(f"{chosen.model} at {chosen.base_url}, by the {chosen.api} API")
            money, tokens = st.columns(2)
            _spent(money, "Spent today", fmt.money(today.usd), fmt.money(chosen.budget.day.usd),
                   today.usd, chosen.budget.day.usd)  # fmt: skip
            _spent(tokens, "Tokens today", f"{today.tokens:,}", f"{chosen.budget.day.tokens:,}",
                   today.tokens, chosen.budget.day.tokens)  # fmt: skip
            if use.is_empty():
                st.caption("Nothing was asked in the last 30 days.")
            else:
                _use_table(use)
    return chosen


def rubric_panel(chosen: ModelSetup | None) -> None:
    """What is judged by which rubric and how far it is, and the form to write or change one."""
    with states.guarded("The rubrics", key="rubrics"):
        known = data.query(rubrics.newest)
        if not known:
            states.nothing(
                "No rubrics yet",
                "A rubric says in your words what is good. The model scores a random sample of new traces by it and "
                "quotes what it saw; people label some of them, and that tells how far the model can be trusted.",
            )
        else:
            _rubric_table(known, data.query(judges.progress))
    with st.expander("Write or change a rubric", icon=":material/edit:", key="rubric_editor_open"):
        editor(chosen)


def labelling() -> None:
    """Traces that were drawn at random for a person to label, a few at a time; the verdict is not shown."""
    with states.guarded("What waits for a label", key="labelling"):
        for rubric in data.query(rubrics.newest):
            if not rubric.active or rubric.subject != "trace":
                continue
            waiting = data.query(judges.to_label, rubric, limit=_LABELS_AT_ONCE)
            if waiting.is_empty():
                continue
            with st.expander(f"Label for {text.markdown_safe(rubric.rubric)}", icon=":material/rule:",
                             key=f"labelling_{rubric.rubric}"):  # fmt: skip
                st.caption(
                    "Drawn at random from what was judged. Label without looking for the verdict; take them in order."
                )
                text.line(rubric.text)
                for row in waiting.to_dicts():
                    _to_label(rubric, row)


def judge_quality(theme: Theme) -> None:
    """Every judge against labels: sensitivity, specificity, kappa, and the estimate that labels correct."""
    with states.guarded("The quality of judges", key="judge-quality", height=200):
        known = data.query(judged.judges).filter(pl.col("traces") > 0)
        if known.is_empty():
            states.nothing(
                "No verdicts yet",
                "Verdicts of your rubrics, and scores of other systems' evaluators (signals of kind judge), are "
                "compared with people's labels and outcomes here.",
            )
            return
        names = [_name(row) for row in known.head(_MOST_JUDGES).to_dicts()]
        number = st.selectbox(
            "Judge", range(len(names)), key="judge_chosen", format_func=lambda index: text.one_line(names[index], 80),
            width=480,
        )  # fmt: skip
        if known.height > _MOST_JUDGES:
            st.caption(f"The {_MOST_JUDGES} judges with the most verdicts, of {known.height:,}.")
        row = known.row(int(number), named=True)
        frame = data.query(judged.judged, row["judge"], row["source"], row["version"])
        gold = best_gold(frame)
        if gold is None:
            states.not_enough("Nothing to compare its verdicts with", 0, MINIMUM_LABELS, "labels")
            st.caption("Label some of what it judged, or load outcomes or feedback of the same traces.")
            return
        _quality_table(frame)
        _population(frame, gold, theme)


def _spent(column: Any, label: str, value: str, limit: str, part: float, whole: float) -> None:
    column.metric(label, value, help=f"Of {limit} a day (UTC)")
    column.progress(min(1.0, part / whole) if whole > 0 else 1.0, text=text.markdown_safe(f"of {limit} a day"))


def _use_table(use: pl.DataFrame) -> None:
    export.table(
        "use of the model",
        use.rename({"cost_usd": "cost", "seconds": "mean seconds"}), hide_index=True, height=tables.height(use.height),
        column_config=fmt.columns({
            "cost": st.column_config.NumberColumn(format="$%.4f", help="What could not be known counts in full"),
            "mean seconds": st.column_config.NumberColumn(format="%.1f", help="Of answers that were not in the cache"),
            "failed": st.column_config.NumberColumn(help="Refused, malformed, cut off, rejected or without answer"),
            "latest": st.column_config.DatetimeColumn("latest (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC"),
        }),
        alt="Questions to the model in the last 30 days by purpose",
    )  # fmt: skip
    st.caption("Questions of the last 30 days.")


def _rubric_table(known: list[Rubric], progress: pl.DataFrame) -> None:
    far = {(row["rubric"], row["version"]): row for row in progress.to_dicts()}
    rows = []
    for rubric in known:
        own = far.get((rubric.rubric, rubric.version), {})
        rows.append(
            {
                "rubric": rubric.rubric, "version": rubric.version, "state": "in use" if rubric.active else "retired",
                "judges": f"{rubric.subject}s of {rubric.agent or 'every agent'}", "share": rubric.judged_share,
                "considered": own.get("considered", 0), "chosen": own.get("chosen", 0), "scored": own.get("scored", 0),
                "no verdict": own.get("unscored", 0), "no quote": own.get("unquoted", 0),
                "latest": own.get("judged_at"),
            }
        )  # fmt: skip
    frame = pl.DataFrame(rows, schema_overrides={"latest": pl.Datetime("us", "UTC")}, infer_schema_length=None)
    export.table(
        "rubrics", frame, hide_index=True, height=tables.height(frame.height),
        column_config=fmt.columns({
            "share": st.column_config.NumberColumn(format="percent", help="To be judged, where there is room"),
            "no verdict": st.column_config.NumberColumn(help="Refused, malformed, cut off, or without any text"),
            "no quote": st.column_config.NumberColumn(
                help="The quote that the model gave does not stand in what it judged, and was dropped"
            ),
            "latest": st.column_config.DatetimeColumn("latest (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC"),
        }),
        alt=f"{frame.height} rubrics",
    )  # fmt: skip


def _to_label(rubric: Rubric, row: dict[str, Any]) -> None:
    trace_id = row["trace_id"]
    with st.container(border=True, key=f"label_{rubric.rubric}_{trace_id}"):
        st.caption("Request")
        text.line((row["input"] or "")[:500])
        st.caption("Answer")
        text.line((row["output"] or "")[:500])
        with st.container(horizontal=True):
            for name, value, icon in (("Good", 1.0, ":material/thumb_up:"), ("Bad", 0.0, ":material/thumb_down:")):
                offer.button(
                    name, key=f"label_{name.lower()}_{rubric.rubric}_{trace_id}", icon=icon, on_click=_label,
                    args=(rubric, trace_id, value, row["label_probability"]),
                )  # fmt: skip
            st.link_button(
                "Whole trace",
                f"/traces?trace={quote(trace_id, safe='')}&range=all%20time",
                icon=":material/account_tree:",
                type="tertiary",
            )


def _label(rubric: Rubric, trace_id: str, value: float, probability: float) -> None:
    def work() -> str:
        store = runtime.current().store
        publish.label(store, rubric, trace_id, value=value, probability=probability, operator=operator())
        return f"Labelled {'good' if value else 'bad'} by {rubric.rubric}."

    perform(work)


def _quality_table(frame: pl.DataFrame) -> None:
    rows = []
    for gold in judged.GOLDS:
        for part in ("all", "hard"):
            found = quality(frame, gold, "hard" if part == "hard" else "all")
            if found.n:
                rows.append(_quality_row(found))
    export.table(
        "quality of the judge", pl.DataFrame(rows), hide_index=True, height=tables.height(len(rows)),
        column_config={
            "sensitivity": st.column_config.TextColumn(help="Of what is good by the label, the share it calls good"),
            "specificity": st.column_config.TextColumn(help="Of what is bad by the label, the share it calls bad"),
            "kappa": st.column_config.TextColumn(help="Agreement beyond chance: 0 is guessing, 1 is perfect"),
        },
        alt="Quality of the judge against labels",
    )  # fmt: skip
    st.caption(
        "Each with its 95 % interval. Hard ones: the judge is less than half sure, or the reward may lie on either "
        "side of .5. Volunteered labels tell of those who volunteer, not of all."
    )


def _quality_row(found: Quality) -> dict[str, Any]:
    return {
        "against": _GOLD_LABELS[found.gold], "on": _SLICES[found.slice], "labels": found.basis, "n": found.n,
        "sensitivity": _with_limits(found.sensitivity), "specificity": _with_limits(found.specificity),
        "kappa": _with_limits(found.kappa), "missing": found.missing or "",
    }  # fmt: skip


def _population(frame: pl.DataFrame, gold: str, theme: Theme) -> None:
    """The three estimates beside each other, or what is missing for them."""
    found = population(frame, gold)
    if not isinstance(found, Population):
        with st.container(border=True):
            st.markdown("**Share of good traces: no estimate**")
            text.line(f"Against {_GOLD_LABELS[gold]}: {found.text}")
        return
    entries = (
        ("judge, corrected by labels", found.combined, found.labels),
        ("labels alone", found.labels_only, found.labels),
        ("judge alone, as if it were right", found.judge_only, found.items),
    )
    drawn = pl.DataFrame(
        {
            "label": [name for name, _, _ in entries],
            "mean": [interval.estimate for _, interval, _ in entries],
            "lower": [interval.lower for _, interval, _ in entries],
            "upper": [interval.upper for _, interval, _ in entries],
            "hover": [plotly_safe(f"{name}: {_with_limits(interval)}, n {n:,}", 120) for name, interval, n in entries],
        }
    )
    st.plotly_chart(
        figures.intervals(drawn, theme, axis=f"mean of {_GOLD_LABELS[gold]}, 95 % interval"), key="judge-population",
        config=charts.CONFIG, alt="Mean by the corrected judge, by labels alone and by the judge alone",
    )  # fmt: skip
    st.text("\n".join(f"{name}: {_with_limits(interval)}, n {n:,}" for name, interval, n in entries))
    change = "narrower" if found.narrower >= 0 else "wider"
    st.caption(
        f"Over {found.items:,} judged traces, {found.labels:,} of them labelled at random. The corrected interval is "
        f"{abs(found.narrower):.0%} {change} than that of the labels alone (verdicts weigh {found.weight:.2f}). "
        "A fixed look: it is valid for this many labels, not for stopping when it looks good."
    )
    if found.note:
        st.caption(found.note)


def _with_limits(interval: Interval | None) -> str:
    if interval is None:
        return "not enough data"
    return f"{interval.estimate:.2f} ({interval.lower:.2f} to {interval.upper:.2f})"


def _name(row: dict[str, Any]) -> str:
    version = "" if row["version"] is None else f", version {row['version']}"
    return f"{row['judge']} of {row['source']}{version}: {row['verdicts']:,} verdicts"
