"""How lessons are approved, withheld and served: the settings of every agent and of one, where it differs."""

from typing import Any, Final

import streamlit as st

from dashboard import data, runtime
from dashboard.access import offer
from dashboard.learn.actions import operator, perform
from dashboard.ui import format as fmt
from dashboard.ui.text import one_line
from pipelines.lessons import review
from store import lesson_settings
from store.lesson_rules import LessonSettings
from store.lesson_versions import EVERY_AGENT

__all__ = ["panel"]

_ALL: Final = "Every agent"
_YES_NO: Final = {None: "as for every agent", True: "yes", False: "no"}
_PERCENT: Final = {
    "canary_holdout": ("Canaries are withheld from, %", "Of decisions, to measure what they pay"),
    "active_holdout": ("Active lessons are withheld from, %", "Of decisions; never none, so that harm is noticed"),
    "empty_share": ("Decisions without any lesson, %", "The control for the playbook as a whole"),
}


def panel(agents: list[str]) -> None:
    """The settings in force, and a form to change them."""
    agent = st.selectbox(
        "Whose settings", [EVERY_AGENT, *agents], key="rules", bind="query-params",
        format_func=lambda name: _ALL if name == EVERY_AGENT else one_line(name, 60),
    )  # fmt: skip
    held = data.query(lesson_settings.of, agent)
    own = {row["agent"]: row for row in data.query(lesson_settings.listed).to_dicts()}.get(agent, {})
    _in_force(held)
    mark = f"{agent}_{own['updated_at']:%Y%m%d%H%M%S%f}" if own else agent
    with st.form(f"rules_form_{mark}"):
        choices: list[bool | None] = [True, False] if agent == EVERY_AGENT else list(_YES_NO)
        left, right = st.columns(2)
        for column, name, label in (
            (left, "two_person", "Two persons have to approve"),
            (right, "automatic_demotion", "Measured harm demotes by itself"),
        ):
            value = getattr(held, name) if agent == EVERY_AGENT else own.get(name)
            column.selectbox(
                label, choices, choices.index(value), key=f"rules_{name}_{mark}", format_func=_YES_NO.__getitem__
            )
        columns = st.columns(3)
        for column, (name, (label, says)) in zip(columns, _PERCENT.items(), strict=True):
            column.number_input(
                label, 0.0, 90.0, None if own.get(name) is None else own[name] * 100, 1.0,
                key=f"rules_{name}_{mark}", placeholder=f"{getattr(held, name) * 100:g}", help=says, format="%.1f",
            )  # fmt: skip
        st.number_input(
            "Tokens of lessons in one answer", 100, 100_000, own.get("token_budget"), 100,
            key=f"rules_token_budget_{mark}", placeholder=f"{held.token_budget:,}",
        )  # fmt: skip
        st.caption("What is left empty is as for every agent, or the default.")
        offer.submit(
            "Save", type="primary", icon=":material/save:", key="rules_save", on_click=_save, args=(agent, mark)
        )


def _in_force(held: LessonSettings) -> None:
    st.markdown(
        f"**{'Two persons have' if held.two_person else 'One person has'} to approve a lesson.** Canaries are "
        f"withheld from {_share(held.canary_holdout)} of decisions, active lessons from "
        f"{_share(held.active_holdout)}; {_share(held.empty_share)} of decisions get no lesson at all. "
        f"{held.token_budget:,} tokens fit in an answer. Measured harm "
        f"{'demotes a lesson by itself' if held.automatic_demotion else 'is shown and demotes nothing by itself'}."
    )


def _share(share: float) -> str:
    """A share that somebody set, as it was set: 20 %."""
    return f"{share * 100:g} %"


def _save(agent: str, mark: str) -> None:
    read: Any = st.session_state
    changed: dict[str, object] = {name: read[f"rules_{name}_{mark}"] for name in ("two_person", "automatic_demotion")}
    for name in _PERCENT:
        percent = read[f"rules_{name}_{mark}"]
        changed[name] = None if percent is None else float(percent) / 100.0
    tokens = read[f"rules_token_budget_{mark}"]
    changed["token_budget"] = None if tokens is None else int(tokens)
    store = runtime.current().store

    def work() -> str:
        made = lesson_settings.put(store, agent, by=operator(), render=review.render, **changed)
        return "Saved." + (f" {fmt.plural(len(made), 'playbook has', 'playbooks have')} a new version." if made else "")

    perform(work)
