"""What lessons pay: the effect of each on the outcome, against where it was withheld at random, verdict and costs."""

from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import charts, data
from dashboard.learn import figures, tables
from dashboard.lessons.words import titles
from dashboard.ui import export, states
from dashboard.ui import format as fmt
from dashboard.ui.text import one_line, plotly_safe
from dashboard.ui.theme import Theme
from pipelines.lessons.payoff.measure import per_gain
from store import payoffs
from store.frames import each

__all__ = ["VERDICTS", "headline", "of_lesson", "panel", "sentence", "short", "verdicts"]

VERDICTS: Final = ("better", "no worse", "worse", "can't tell yet")
_CAN_NOT_TELL: Final = "can't tell yet"
_DRAWN: Final = 20
_MEASURES: Final = {
    "outcome": "outcome, points", "reward": "reward, points", "cost_usd": "cost, USD", "tokens": "tokens",
}  # fmt: skip
_COSTS: Final = {"better": "costs less", "no worse": "costs no more", "worse": "costs more"}
_CONTROLS: Final = {
    "playbook": "All lessons together against none",
    "retry": "Repeated tasks: another try without lessons against the first",
}


def verdicts(agents: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """The row of `store.payoffs.PAYOFFS` that the verdict on each lesson rests on, by lesson, worst news first.

    That is the doubly robust effect on the outcome for everybody. A lesson served to several agents has the row of the
    agent with the most decisions.
    """
    frame = _headline_rows(data.query(payoffs.newest), agents).filter(kind="lesson")
    found: dict[str, dict[str, Any]] = {}
    for row in frame.sort("served", descending=True, maintain_order=True).iter_rows(named=True):
        found.setdefault(row["lesson_id"], row)
    return found


def headline(agents: tuple[str, ...]) -> str:
    """In one sentence: how many lessons pay, harm, or cannot be told yet."""
    found = list(verdicts(agents).values())
    if not found:
        return "No lesson was measured yet."
    counts = {verdict: sum(row["verdict"] == verdict for row in found) for verdict in VERDICTS}
    said = [f"{count} {verdict}" for verdict, count in counts.items() if count]
    return f"Of {fmt.plural(len(found), 'measured lesson')}: {', '.join(said)}."


def panel(agents: tuple[str, ...], theme: Theme) -> None:
    """Answer, figure, table and the controls."""
    run = data.query(payoffs.latest_run)
    frame = _headline_rows(data.query(payoffs.newest), agents)
    if run is None or frame.is_empty():
        states.nothing(
            "Nothing was measured yet",
            "The job Payoffs compares decisions that were served a lesson with those it was withheld from at random. "
            "It needs lessons in canary or active, agents that ask /v1/steer, and outcomes of their traces.",
        )
        return
    st.caption(
        f"As of {fmt.when(run['found_at'], seconds=False)}. Served minus withheld at random, by the doubly robust "
        "estimate; intervals hold at every look. Points are hundredths of the outcome's range of 0 to 1."
    )
    lessons_only = frame.filter(kind="lesson").with_columns(
        title=pl.col("lesson_id").replace_strict(titles(), default="a lesson that is not held any more")
    )
    _figure(lessons_only, theme)
    _table(lessons_only)
    export.download(lessons_only, "payoffs", "payoffs-export")
    _controls(frame)


def of_lesson(lesson_id: str) -> None:
    """Everything that was measured of one lesson: by agent, segment and measure."""
    frame = data.query(payoffs.of_lesson, lesson_id)
    if frame.is_empty():
        st.caption("Its payoff was not measured yet: that needs decisions that were served it, and some without it.")
        return
    run = data.query(payoffs.latest_run)
    if run is not None:
        st.caption(f"As of {fmt.when(run['found_at'], seconds=False)}. Served minus withheld at random.")
    top = _headline_rows(frame, ())
    for row in top.iter_rows(named=True):
        st.markdown(f"**{row['verdict'].capitalize()}**")
        st.text(f"{one_line(row['agent'], 60)}, version {row['version']}: {sentence(row)}.")
    export.table(
        "payoff of a lesson", _measured(frame), hide_index=True, height=tables.height(frame.height),
        column_config={**_COLUMNS, "effect": _WITH_INTERVAL}, alt=f"{frame.height} measurements of the lesson",
    )  # fmt: skip
    past = data.query(payoffs.history, lesson_id).filter(pl.col("measure") == "outcome")
    if past["found_at"].n_unique() > 1:
        with st.expander(f"Earlier measurements ({past.height:,})"):
            export.table(
                "earlier payoffs",
                pl.DataFrame(
                    [
                        {"measured": row["found_at"], "version": row["version"], "estimator": row["estimator"],
                         "verdict": row["verdict"], "effect": short(row), "served": row["served"],
                         "withheld": row["withheld"]}
                        for row in past.iter_rows(named=True)
                    ]
                ),
                hide_index=True, height=tables.height(past.height), alt="Earlier measurements",
                column_config=fmt.columns({
                    "measured": st.column_config.DatetimeColumn(
                        "measured (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC"
                    ),
                    "effect": _WITH_INTERVAL,
                }),
            )  # fmt: skip


def sentence(row: dict[str, Any]) -> str:
    """A row of `store.payoffs.PAYOFFS` in words: the effect with its interval and n, or why there is none."""
    n = f"{row['served']:,} served, {row['withheld']:,} withheld"
    if row["effect"] is None or row["lower"] is None:
        return f"{(row['reason'] or 'collecting').rstrip('.')} ({n})"
    text = f"{fmt.points(row['effect'])} ({row['lower'] * 100:+.1f} to {row['upper'] * 100:+.1f}), {n}"
    if row["verdict"] == _CAN_NOT_TELL and row["more_decisions"]:
        text += f"; about {row['more_decisions']:,} more decisions to tell"
    return text


def short(row: dict[str, Any]) -> str:
    """The effect with its interval, of an outcome or reward in points: +4.4 (-5.7 to +14.4); empty without one."""
    if row["effect"] is None or row["lower"] is None:
        return ""
    if row["measure"] in ("outcome", "reward"):
        return f"{row['effect'] * 100:+.1f} ({row['lower'] * 100:+.1f} to {row['upper'] * 100:+.1f})"
    return f"{row['effect']:+.3g} ({row['lower']:+.3g} to {row['upper']:+.3g})"


def _headline_rows(frame: pl.DataFrame, agents: tuple[str, ...]) -> pl.DataFrame:
    """The rows that verdicts rest on: outcome, everybody, doubly robust where there is such a row."""
    rows = frame.filter((pl.col("measure") == "outcome") & pl.col("segment").is_null())
    rows = rows.filter((pl.col("estimator") == "doubly robust") | (pl.col("kind") == "retry"))
    rows = rows.filter(pl.col("agent").is_in(agents)) if agents else rows
    newest = rows.sort("version", descending=True, nulls_last=True, maintain_order=True)
    return newest.unique(["agent", "kind", "lesson_id"], keep="first", maintain_order=True)


def _figure(frame: pl.DataFrame, theme: Theme) -> None:
    known = frame.drop_nulls(["effect", "lower", "upper"])
    if known.is_empty():
        st.caption("Every lesson is still collecting: see below how many decisions are missing.")
        return
    drawn = known.sort("effect", descending=True).head(_DRAWN)
    rows = [
        {
            "label": plotly_safe(row["title"], 46), "mean": row["effect"] * 100, "lower": row["lower"] * 100,
            "upper": row["upper"] * 100, "hover": plotly_safe(f"{row['agent']}: {sentence(row)}", 200),
        }
        for row in drawn.iter_rows(named=True)
    ]  # fmt: skip
    figure = figures.intervals(pl.DataFrame(rows), theme, axis="points", highest=None)
    figure.add_vline(x=0, line={"color": theme.muted, "width": 1, "dash": "dot"})
    said = "; ".join(f"{row['title']}: {sentence(row)}" for row in drawn.head(5).iter_rows(named=True))
    st.plotly_chart(figure, key="payoff_figure", config=charts.CONFIG, alt=f"Payoffs. {said}")
    if known.height > _DRAWN:
        st.caption(f"The {_DRAWN} largest of {known.height}; the table has all.")


_WITH_INTERVAL: Final = st.column_config.TextColumn(help="Served minus withheld at random, with the interval")
_COLUMNS: Final = {
    "effect": st.column_config.NumberColumn(format="%+.1f", help="Served minus withheld at random, in points"),
    "from": st.column_config.NumberColumn(format="%+.1f", help="Lower end of the interval, in points"),
    "to": st.column_config.NumberColumn(format="%+.1f", help="Upper end of the interval, in points"),
    "served": st.column_config.NumberColumn(format="localized"),
    "withheld": st.column_config.NumberColumn(format="localized"),
    "detectable": st.column_config.NumberColumn(
        format="%.3g",
        help="The smallest effect that these numbers would find four times in five, in points (costs in their unit)",
    ),
    "more decisions": st.column_config.NumberColumn(format="localized", help="Expected until a verdict"),
    "fixed": st.column_config.NumberColumn(help="Repeated tasks that only went well with it"),
    "broke": st.column_config.NumberColumn(help="Repeated tasks that only went well without it"),
    "tokens": st.column_config.NumberColumn(format="%.0f", help="Of the lesson, in a decision that is served it"),
    "USD": st.column_config.NumberColumn(format="%.5f", help="More money that a decision costs with it"),
    "tokens per point": st.column_config.NumberColumn(
        format="%.0f", help="Tokens that one point of outcome costs; only where the lesson is better"
    ),
    "USD per point": st.column_config.NumberColumn(
        format="%.5f", help="Money that one point of outcome costs; only where the lesson is better"
    ),
}


def _table(frame: pl.DataFrame) -> None:
    gains = per_gain(frame)
    shown = gains.select(
        each(gains["title"], one_line, pl.String).alias("lesson"), pl.col("agent"),
        pl.col("verdict"), pl.col("effect") * 100, pl.col("lower").alias("from") * 100,
        pl.col("upper").alias("to") * 100, *_NUMBERS[:-1],
        (pl.col("tokens_per_gain") / 100).alias("tokens per point"),
        (pl.col("usd_per_gain") / 100).alias("USD per point"), _NUMBERS[-1],
    )  # fmt: skip
    order = [VERDICTS.index(verdict) for verdict in ("worse", "better", "no worse", _CAN_NOT_TELL)]
    rank = {VERDICTS[place]: number for number, place in enumerate(order)}
    shown = shown.sort(pl.col("verdict").replace_strict(rank), -pl.col("effect").fill_null(0.0).abs())
    st.dataframe(
        shown, hide_index=True, height=tables.height(shown.height), column_config=_COLUMNS, placeholder="",
        alt=f"{shown.height} lessons with effect, interval, verdict and cost",
    )  # fmt: skip


_NUMBERS: Final = (
    pl.col("served"), pl.col("withheld"),
    pl.when(pl.col("measure").is_in(["outcome", "reward"])).then(pl.col("minimum_detectable") * 100)
    .otherwise("minimum_detectable").alias("detectable"),
    pl.col("more_decisions").alias("more decisions"), pl.col("fixed"), pl.col("broke"),
    pl.col("tokens_per_decision").alias("tokens"), pl.col("usd_per_decision").alias("USD"),
    pl.col("reason").alias("why no number"),
)  # fmt: skip


def _measured(frame: pl.DataFrame) -> pl.DataFrame:
    costs = pl.col("measure").is_in(["cost_usd", "tokens"])
    verdict = pl.when(costs).then(pl.col("verdict").replace(_COSTS)).otherwise("verdict").alias("verdict")
    effect = pl.Series("effect", [short(row) for row in frame.iter_rows(named=True)], dtype=pl.String)
    return frame.select(
        pl.col("measure").replace_strict(_MEASURES, default=None).alias("of"),
        pl.col("segment").fill_null("everybody"), verdict, effect, pl.col("estimator"), pl.col("version"),
        pl.col("agent"), *_NUMBERS,
    )  # fmt: skip


def _controls(frame: pl.DataFrame) -> None:
    """What the whole playbook does, and what merely trying again does."""
    rows = frame.filter(pl.col("kind") != "lesson")
    if rows.is_empty():
        return
    st.markdown("**Controls**")
    for row in rows.iter_rows(named=True):
        with st.container(gap=None):
            st.caption(_CONTROLS.get(row["kind"], row["kind"]))
            st.text(f"{one_line(row['agent'], 60)}, {row['verdict']}: {sentence(row)}.")
