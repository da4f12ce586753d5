"""Trials: the lesson is withheld from a trained model at random, and measured, until an operator decides."""

from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import data, runtime
from dashboard.access import offer
from dashboard.learn.actions import operator, perform
from dashboard.lessons.reports import report
from dashboard.lessons.words import titles
from dashboard.ui.text import clean, one_line
from pipelines.lessons.graduate import trial
from pipelines.lessons.graduate.lasting import Standing
from pipelines.lessons.payoff.measure import PayoffConfig
from store import graduation_trials, lessons

__all__ = ["panel"]

_SHOWN: Final = 20
_COLOURS: Final[dict[str, Any]] = {
    "running": "blue", "absorbed": "green", "not absorbed": "orange", "harms": "red", "graduated": "green",
    "ended": "gray",
}  # fmt: skip


def panel(agents: tuple[str, ...], measured: list[Standing]) -> None:
    """The trials, and a form to begin one with a measured lesson."""
    st.subheader("Without the lesson", anchor=False)
    names = titles()
    frame = data.query(graduation_trials.listed)
    frame = frame.filter(pl.col("agent").is_in(agents)) if agents else frame
    for row in frame.head(_SHOWN).iter_rows(named=True):
        _trial(row, one_line(names.get(row["lesson_id"], row["lesson_id"]), 100))
    if frame.is_empty():
        st.caption(
            "Once an agent runs a trained model, its lesson is withheld from half of the decisions at random: if it "
            "makes no difference any more, the model has absorbed it."
        )
    if measured:
        with st.popover("Begin a trial", icon=":material/science:"):
            _form(measured)


def _trial(row: dict[str, Any], title: str) -> None:
    number = row["trial_id"]
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.badge(row["state"], color=_COLOURS.get(row["state"], "gray"))
            st.text(f"{title}, withheld from {row['holdout']:.0%} with {row['basis']} {one_line(row['name'], 80)}")
        st.text(clean(row["message"]))
        if row["served"] is not None:
            st.caption(
                f"{row['served']:,} decisions with it, {row['withheld']:,} without; as good as no difference within "
                f"{row['margin']:g} reward points."
            )
        if row["state"] not in graduation_trials.MEASURED:
            return
        with st.container(horizontal=True):
            if row["state"] in ("absorbed", "harms"):
                offer.button(
                    "Graduate", key=f"trial_graduate_{number}", icon=":material/school:", type="primary",
                    on_click=_graduate, args=(number,), help="It is served no more; this can be undone",
                )  # fmt: skip
            offer.button(
                "End the trial", key=f"trial_end_{number}", icon=":material/stop:", on_click=_end, args=(number,),
                help="It is withheld as rarely as before",
            )  # fmt: skip


def _form(measured: list[Standing]) -> None:
    names = {f"{one.agent}\n{one.lesson_id}": one for one in measured}
    with st.form("trial_form", border=False):
        st.selectbox(
            "Lesson", list(names), key="trial_lesson",
            format_func=lambda key: f"{one_line(names[key].title, 80)} ({one_line(names[key].agent, 40)})",
        )  # fmt: skip
        st.selectbox("The agent runs the trained", ["model", "arm"], key="trial_basis")
        st.text_input("Its name, as traces name it", key="trial_name", max_chars=200)
        st.number_input(
            "As good as no difference (reward points)", 0.001, 0.5, PayoffConfig.margin, 0.005, format="%.3f",
            key="trial_margin",
        )  # fmt: skip
        st.caption("The lesson is withheld from half of all decisions until the trial ends.")
        offer.submit("Begin", type="primary", key="trial_begin", on_click=_begin)


def _begin() -> None:
    given, store = st.session_state, runtime.current().store

    def work() -> str:
        agent, lesson_id = str(given["trial_lesson"]).split("\n")
        number = trial.begin(
            store, agent, lesson_id, version=lessons.one(store, lesson_id)["version"], basis=given["trial_basis"],
            name=str(given["trial_name"]), operator=operator(), margin=float(given["trial_margin"]),
        )  # fmt: skip
        return f"Trial {number} runs: the lesson is withheld from half of the decisions."

    perform(work)


def _graduate(number: int) -> None:
    perform(lambda: report(trial.graduate(runtime.current().store, number, operator=operator())))


def _end(number: int) -> None:
    def work() -> str:
        done = trial.end(runtime.current().store, number, operator=operator())
        return "The trial has ended. " + (report(done) if done else "The lesson has changed since and stays as it is.")

    perform(work)
