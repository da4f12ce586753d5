"""Graduation: lessons that pay for long become training data; a model is trained on it and tried without the lesson."""

import json
from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import data, runtime
from dashboard.access import offer
from dashboard.learn.actions import operator, perform
from dashboard.lessons import trial_panel
from dashboard.ui import format as fmt
from dashboard.ui import states
from dashboard.ui.text import clean, markdown_safe, one_line
from pipelines.lessons.graduate import export, lasting, tuning
from pipelines.lessons.graduate.config import ExportConfig
from pipelines.lessons.graduate.lasting import Standing
from store import fine_tunings, graduation

__all__ = ["panel"]

_SHOWN: Final = 20
_MOST: Final = 300
"""A page does not wait for more."""

_COLOURS: Final[dict[str, Any]] = {
    "proposed": "blue", "approved": "violet", "succeeded": "green", "failed": "red", "cancelled": "gray",
    "declined": "gray",
}  # fmt: skip


def panel(agents: tuple[str, ...]) -> None:
    """Which lessons may graduate; exports; fine-tuning jobs; trials without the lesson."""
    found = data.query(lasting.standings, agents)
    _lessons(found)
    exports = data.query(graduation.exports)
    exports = exports.filter(pl.col("agent").is_in(agents)) if agents else exports
    for row in exports.head(_SHOWN).iter_rows(named=True):
        _export(row)
    jobs = data.query(fine_tunings.listed)
    jobs = jobs.filter(pl.col("agent").is_in(agents)) if agents else jobs
    if jobs.height:
        st.subheader("Fine-tuning jobs", anchor=False)
    for row in jobs.head(_SHOWN).iter_rows(named=True):
        _job(row)
    trial_panel.panel(agents, found)


def _lessons(found: list[Standing]) -> None:
    """What may graduate, with a button to make training data of it."""
    ready = [one for one in found if one.missing is None]
    if not ready:
        states.nothing(
            "No lesson may graduate yet",
            "A lesson graduates after every run of the payoffs has found it better for two weeks. Its good traces then "
            "become training data, so that a model does without being told.",
        )
    for agent in sorted({one.agent for one in ready}):
        own = [one for one in ready if one.agent == agent]
        with st.container(border=True):
            st.text(f"{one_line(agent, 60)}: {fmt.plural(len(own), 'lesson')} with lasting payoff")
            for one in own[:_SHOWN]:
                st.text(f"{one_line(one.title, 100)}{_effect(one)}, better for {one.days:.0f} days in {one.runs} runs")
            st.caption(
                "Traces of users who opted out (learning_opt_out, or never explored) are left out; what names a person "
                f"or a case becomes a placeholder. At most {_MOST:,} conversations; more by: graduate export."
            )
            offer.button(
                "Make training data", key=f"graduate_export_{agent}", icon=":material/dataset:", on_click=_make,
                args=(agent,), type="primary",
            )  # fmt: skip
    if rest := [one for one in found if one.missing is not None]:
        with st.expander(f"Not yet ({len(rest):,})"):
            for one in rest[: 3 * _SHOWN]:
                st.text(f"{one_line(one.title, 80)} ({one_line(one.agent, 40)}): {clean(one.missing or '')}")


def _effect(one: Standing) -> str:
    """The newest effect in points of the outcome, with its interval and what it was measured on."""
    if one.effect is None or one.lower is None or one.upper is None:
        return ""
    measured_on = fmt.plural(one.units, "user or session", "users or sessions")
    return f"  {fmt.points(one.effect)} ({one.lower * 100:+.1f} to {one.upper * 100:+.1f}), {measured_on}"


def _export(row: dict[str, Any]) -> None:
    manifest = json.loads(row["manifest"])
    number = row["export_id"]
    with st.container(border=True):
        st.text(
            f"Export {number} of {one_line(row['agent'], 60)}, {fmt.when(row['created_at'], seconds=False)} by "
            f"{clean(row['created_by'])}: {fmt.plural(len(manifest['lessons']), 'lesson')}"
        )
        for method, told in manifest["methods"].items():
            name = "Conversations" if method == "supervised" else "Preference pairs"
            st.text(f"{name}: {told['examples']:,} of {fmt.plural(told['candidates'], 'candidate')}")
            for reason, count in told["left_out"].items():
                st.caption(f"left out {count:,}: {reason}")
            if told["missing"]:
                st.caption(f"Cannot be trained on: {told['missing']}.")
        redacted = ", ".join(f"{count:,} {form}" for form, count in manifest["redacted"].items())
        st.caption(f"Redacted: {redacted or 'nothing'}. Files: python -m pipelines graduate write {number} FOLDER")
        able = [method for method, told in manifest["methods"].items() if told["missing"] is None]
        if able:
            with st.popover("Propose fine-tuning", icon=":material/model_training:"):
                _proposal(number, able)


def _proposal(number: int, able: list[str]) -> None:
    with st.form(f"tune_{number}", border=False):
        st.text_input("Model to train further", key=f"tune_model_{number}", max_chars=200)
        st.selectbox("Method", able, key=f"tune_method_{number}")
        st.number_input("Epochs", 1, 50, tuning.EPOCHS, key=f"tune_epochs_{number}")
        st.number_input("US dollars per million trained tokens", 0.0, key=f"tune_price_{number}")
        st.caption("Nothing is sent before an operator approves it.")
        offer.submit("Propose", type="primary", key=f"tune_go_{number}", on_click=_propose, args=(number,))


def _job(row: dict[str, Any]) -> None:
    number = row["tuning_id"]
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.badge(row["state"], color=_COLOURS.get(row["state"], "violet"))
            st.text(
                f"{one_line(row['model'], 60)} on export {row['export_id']} ({row['method']}): {row['tokens']:,} "
                f"tokens over {fmt.plural(row['epochs'], 'epoch')}, {fmt.money(row['usd'])}"
            )
        decided = f", decided by {markdown_safe(row['decided_by'])}" if row["decided_by"] else ""
        st.caption(f"Proposed by {markdown_safe(row['proposed_by'])}{decided}")
        if row["tuned_model"]:
            st.text(f"Trained model: {clean(row['tuned_model'])}")
        if row["message"]:
            st.text(clean(row["message"]))
        if row["state"] != "proposed":
            return
        with st.container(horizontal=True):
            offer.button(
                "Approve and send", key=f"tune_approve_{number}", icon=":material/check:", type="primary",
                on_click=_approve, args=(number,), help="Takes the cost from the model's daily budget",
            )  # fmt: skip
            with st.popover("Decline", icon=":material/close:"), st.form(f"tune_no_{number}", border=False):
                st.text_area("Why?", key=f"tune_reason_{number}", max_chars=1_000)
                offer.submit("Decline", type="primary", key=f"tune_decline_{number}", on_click=_decline, args=(number,))


def _make(agent: str) -> None:
    def work() -> str:
        made = export.make(runtime.current().store, agent, [], by=operator(), config=ExportConfig(most=_MOST))
        return f"Export {made} is made; see below."

    perform(work)


def _propose(number: int) -> None:
    given = st.session_state

    def work() -> str:
        made = tuning.propose(
            runtime.current().store, number, method=given[f"tune_method_{number}"],
            model=str(given[f"tune_model_{number}"]), usd_per_million=float(given[f"tune_price_{number}"]),
            epochs=int(given[f"tune_epochs_{number}"]), by=operator(),
        )  # fmt: skip
        return f"Fine-tuning {made} is proposed; an operator has to approve it."

    perform(work)


def _approve(number: int) -> None:
    def work() -> str:
        current = runtime.current()
        tuning.approve(current.store, current.settings, number, operator=operator())
        return "Approved: it is sent within the hour."

    perform(work)


def _decline(number: int) -> None:
    def work() -> str:
        reason = str(st.session_state[f"tune_reason_{number}"])
        fine_tunings.decline(runtime.current().store, number, operator=operator(), reason=reason)
        return "Declined."

    perform(work)
