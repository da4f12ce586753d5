"""Rubrics: the list, and the form that writes one, with what the model is going to read and what that costs."""

from dataclasses import replace
from typing import Any, Final, cast

import streamlit as st

from dashboard import runtime
from dashboard.access import offer
from dashboard.learn.actions import operator, perform
from dashboard.ui import format as fmt
from dashboard.ui import text
from pipelines.judges import cost
from pipelines.judges.cost import Estimate
from pipelines.llm_setup import ModelSetup
from store import rubrics
from store.errors import TrimtabError
from store.rubrics import SCALES, SUBJECTS, Rubric, Scale, Subject

__all__ = ["editor"]

_NEW: Final = "A new rubric"
_CHOSEN: Final = "rubric_chosen"
_PREVIEWED: Final = "rubric_preview"
_SUBJECT_LABELS: Final[dict[str, str]] = {"trace": "traces", "comment": "comments of users"}
_SCALE_LABELS: Final[dict[str, str]] = {
    "pass_fail": "passes or fails", "five_points": "five points", "percent": "0 to 100",
}  # fmt: skip
_EXAMPLE: Final = (
    "The agent did what the user asked for, with every value taken from a tool or from the user. It fails when it "
    "states something that no step shows, leaves a part of the request out, or acts without being asked."
)


def editor(setup: ModelSetup | None) -> None:
    """Choose a rubric or a new one, change it, see a question with its cost, save it, retire it."""
    known = {rubric.rubric: rubric for rubric in rubrics.newest(runtime.current().store)}
    names = [_NEW, *known]
    if st.session_state.get(_CHOSEN) not in names:
        st.session_state[_CHOSEN] = _NEW
    chosen = st.selectbox("Rubric", names, key=_CHOSEN, width=320)
    rubric = known.get(chosen)
    shown = rubric or Rubric("", "")
    key = "rubric_new" if rubric is None else f"rubric_{rubric.rubric}_{rubric.version}"
    if rubric is not None and not rubric.active:
        st.caption(f"Retired at version {rubric.version}. Saving it brings it back.")
    with st.form(key, border=True):
        _fields(key, shown, new=rubric is None)
        with st.container(horizontal=True):
            st.form_submit_button(
                "Preview", key=f"{key}_preview", icon=":material/visibility:", on_click=_preview, args=(key, rubric)
            )
            offer.submit(
                "Create" if rubric is None else "Save as a new version", key=f"{key}_save", type="primary",
                icon=":material/save:", on_click=_save, args=(key, rubric),
            )  # fmt: skip
    _show_preview(key, setup)
    if rubric is not None and rubric.active:
        with st.popover("Retire it", icon=":material/archive:"):
            st.caption("Nothing more is judged by it. Its verdicts stay, and so does its text.")
            offer.button("Retire this rubric", key=f"{key}_retire", type="primary", on_click=_retire, args=(rubric,))


def _fields(key: str, shown: Rubric, *, new: bool) -> None:
    left, middle, right = st.columns(3)
    left.text_input(
        "Key", shown.rubric, key=f"{key}_rubric", disabled=not new,
        help="Its verdicts are signals of this name. Lower-case letters, digits, dashes.",
    )  # fmt: skip
    middle.selectbox(
        "Judges", SUBJECTS, SUBJECTS.index(shown.subject), key=f"{key}_subject", disabled=not new,
        format_func=lambda subject: _SUBJECT_LABELS[subject],
    )  # fmt: skip
    right.selectbox(
        "Scale", SCALES, SCALES.index(shown.scale), key=f"{key}_scale", format_func=lambda scale: _SCALE_LABELS[scale]
    )
    st.text_area(
        "What is good, and what is not", shown.text, key=f"{key}_text", max_chars=rubrics.MAX_TEXT, height=160,
        placeholder=_EXAMPLE, help="The model reads this as it stands. Say what fails, not only what passes.",
    )  # fmt: skip
    left, middle, right = st.columns(3)
    left.text_input("Agent", shown.agent or "", key=f"{key}_agent", help="Its traces alone; empty for every agent.")
    middle.number_input(
        "Share to judge", 0.0, 1.0, shown.judged_share, 0.05, key=f"{key}_judged", format="%.3f",
        help="Each new trace is judged with this probability, or a smaller one when there are too many.",
    )  # fmt: skip
    right.number_input(
        "Share of them to label", 0.0, 1.0, shown.labelled_share, 0.05, key=f"{key}_labelled", format="%.3f",
        help="Of what is judged, so much is put before a person: that is how the judge is judged.",
    )  # fmt: skip


def _typed(key: str, rubric: Rubric | None) -> Rubric:
    def value(name: str) -> Any:
        return st.session_state[f"{key}_{name}"]

    stated = Rubric(
        rubric=str(value("rubric")), text=str(value("text")), subject=cast(Subject, value("subject")),
        scale=cast(Scale, value("scale")), agent=str(value("agent")) or None, judged_share=float(value("judged")),
        labelled_share=float(value("labelled")),
    )  # fmt: skip
    if rubric is None:
        return stated
    return replace(stated, rubric=rubric.rubric, subject=rubric.subject, version=rubric.version)


def _save(key: str, rubric: Rubric | None) -> None:
    def work() -> str:
        store = runtime.current().store
        if rubric is None:
            kept = rubrics.create(store, _typed(key, None), operator=operator())
            st.session_state[_CHOSEN] = kept.rubric
            return f"{kept.rubric} is in use from now on."
        kept = rubrics.edit(store, _typed(key, rubric), operator=operator())
        return f"{kept.rubric} is at version {kept.version} now. Its quality is measured anew."

    st.session_state.pop(_PREVIEWED, None)
    perform(work)


def _retire(rubric: Rubric) -> None:
    def work() -> str:
        rubrics.retire(runtime.current().store, rubric.rubric, version=rubric.version, operator=operator())
        return f"{rubric.rubric} is retired: nothing more is judged by it."

    perform(work)


def _preview(key: str, rubric: Rubric | None) -> None:
    st.session_state[_PREVIEWED] = (key, _typed(key, rubric))


def _show_preview(key: str, setup: ModelSetup | None) -> None:
    """The question about the latest trace, and what a run is going to cost. Nothing is asked for it."""
    previewed: tuple[str, Rubric] | None = st.session_state.get(_PREVIEWED)
    if previewed is None or previewed[0] != key:
        return
    current = runtime.current()
    try:
        rubric = rubrics.checked(previewed[1], "Preview")
        questions = cost.sample_questions(current.store, rubric)
    except TrimtabError as error:
        st.warning(text.markdown_safe(str(error)), icon=":material/block:")
        return
    with st.container(border=True, key="rubric_previewed"):
        if not questions:
            st.caption(f"There are no {_SUBJECT_LABELS[rubric.subject]} that it could judge yet.")
            return
        st.markdown("**What the model reads**")
        st.caption(f"Of the latest of {_SUBJECT_LABELS[rubric.subject]}, prompt {questions[0].prompt_version}.")
        text.block(questions[0].system, limit=4_000)
        text.block(questions[0].user, limit=8_000)
        if setup is None:
            st.caption("No model is configured, so it has no price: see TRIMTAB_MODEL in the README.")
            return
        found = cost.estimate(current.store, setup, questions, current.settings.judged_per_run)
        if found is not None:
            _cost(found, setup)


def _cost(found: Estimate, setup: ModelSetup) -> None:
    st.markdown("**What it costs**")
    one, run = st.columns(2)
    one.metric("One verdict, likely", fmt.money(found.likely.usd / found.verdicts))
    run.metric(f"A run of {found.verdicts:,}, likely", fmt.money(found.likely.usd), help="Runs are an hour apart.")
    basis = f"the answers of the last {found.measured} calls" if found.measured else "answers of usual length"
    said = (
        f"Reckoned from {fmt.plural(found.sampled, 'question')} and {basis}. At most {fmt.money(found.most.usd)} and "
        f"{found.most.tokens:,} tokens a run; the limit of a run is {fmt.money(setup.budget.run.usd)} and "
        f"{setup.budget.run.tokens:,} tokens, that of a day {fmt.money(setup.budget.day.usd)} and "
        f"{setup.budget.day.tokens:,} tokens. Nothing is asked beyond them."
    )
    st.caption(text.markdown_safe(said))
