"""Defining an arm, changing one, its state, and the choice of the baseline."""

import json
from typing import Any, Final, Literal

import streamlit as st

from dashboard import data, runtime
from dashboard.access import offer
from dashboard.learn.actions import operator, perform
from dashboard.ui import format as fmt
from dashboard.ui.text import clean, one_line, pretty_json
from store import arms
from store.errors import ActionRefused

__all__ = ["define", "show"]

_COLOURS: Final[dict[str, Literal["green", "gray", "red"]]] = {"enabled": "green", "shadow": "gray", "off": "red"}
_STATES: Final = {
    "enabled": "enabled: drawn for decisions",
    "shadow": "shadow: measured where traces run it, never drawn",
    "off": "off: neither",
}  # fmt: skip


def show(agent: str) -> None:
    """One arm chosen from all, with what may be done to it; and a new one."""
    listed = data.query(arms.listed, agent=agent)
    if not listed.is_empty():
        st.subheader("Change an arm", anchor=False)
        rows = {row["arm"]: row for row in listed.to_dicts()}
        chosen = st.selectbox(
            "Arm", list(rows), key=f"arm_chosen_{agent}", label_visibility="collapsed", width=420,
            format_func=lambda name: one_line(name, 80),
        )  # fmt: skip
        if chosen in rows:
            _one(agent, rows[chosen])
    with st.expander("Define a new arm", icon=":material/add:", expanded=listed.is_empty()):
        define(agent)


def _one(agent: str, arm: dict[str, Any]) -> None:
    name = arm["arm"]
    left, right = st.columns(2, gap="large")
    with left, st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.badge(arm["state"], color=_COLOURS[arm["state"]])
            if arm["baseline"]:
                st.badge("baseline", icon=":material/flag:", color="blue")
            if arm["origin"] == "traces":
                st.badge("discovered in traces", icon=":material/search:", color="gray")
        st.text(
            f"{clean(arm['state_reason'] or 'No reason was given')}, by {clean(arm['state_by'])}, last changed "
            f"{fmt.when(arm['updated_at'], seconds=False)}"
        )
        with st.form(f"arm_state_form_{agent}_{name}", border=False):
            st.selectbox(
                "State", list(_STATES), index=list(_STATES).index(arm["state"]), key=_key("state", agent, arm),
                format_func=_STATES.__getitem__,
            )  # fmt: skip
            st.text_input("Reason", key=f"arm_reason_{agent}", max_chars=500, placeholder="Needed to switch it off")
            offer.submit(
                "Set the state", type="primary", key=f"arm_state_save_{agent}", icon=":material/toggle_on:",
                on_click=_state, args=(agent, arm),
            )  # fmt: skip
        offer.button(
            "Make it the baseline", key=f"arm_baseline_{agent}", icon=":material/flag:",
            disabled=arm["baseline"] or arm["state"] != "enabled", on_click=_baseline, args=(agent, name),
            help="What the others are compared with, and what runs where nothing else may. It has to be enabled.",
        )  # fmt: skip
    with right, st.form(f"arm_change_{agent}_{name}"):
        st.selectbox("Kind", arms.KINDS, index=arms.KINDS.index(arm["kind"]), key=_key("kind", agent, arm))
        st.text_area(
            "Description", arm["description"] or "", key=_key("description", agent, arm),
            max_chars=arms.MAX_DESCRIPTION, height=80,
        )  # fmt: skip
        st.text_area(
            "Definition, JSON", pretty_json(arm["definition"]), key=_key("definition", agent, arm),
            max_chars=arms.MAX_DEFINITION, height=160,
            help="What the agent needs to run it; it comes with each decision",
        )  # fmt: skip
        offer.submit(
            "Save the definition",
            icon=":material/save:",
            key=f"arm_change_{agent}",
            on_click=_change,
            args=(agent, arm),
        )


def define(agent: str) -> None:
    """A form for an arm of this agent, or of one that is named there; '' where there is none yet."""
    with st.form(f"arm_new_{agent}", border=False):
        left, middle, right = st.columns(3)
        left.text_input(
            "Agent", agent, key=f"arm_new_agent_{agent}", max_chars=arms.MAX_NAME, help="As its traces name it"
        )
        middle.text_input("Name of the arm", key=f"arm_new_name_{agent}", max_chars=arms.MAX_NAME)
        right.selectbox("Kind", arms.KINDS, key=f"arm_new_kind_{agent}")
        st.text_input("Description", key=f"arm_new_description_{agent}", max_chars=arms.MAX_DESCRIPTION)
        st.text_area(
            "Definition, JSON", "{}", key=f"arm_new_definition_{agent}", max_chars=arms.MAX_DEFINITION, height=100,
            help='For instance {"prompt_version": "v4", "model": "aurora-4"}',
        )  # fmt: skip
        left, right = st.columns(2)
        left.selectbox("State", list(_STATES), index=1, key=f"arm_new_state_{agent}", format_func=_STATES.__getitem__)
        right.checkbox("It is the baseline", key=f"arm_new_baseline_{agent}")
        offer.submit(
            "Define", type="primary", icon=":material/add:", key=f"arm_define_{agent}", on_click=_defined, args=(agent,)
        )


def _defined(agent: str) -> None:
    store, read = runtime.current().store, st.session_state

    def work() -> str:
        name, of = str(read[f"arm_new_name_{agent}"]), str(read[f"arm_new_agent_{agent}"]).strip()
        arms.define(
            store, of, name, kind=read[f"arm_new_kind_{agent}"],
            definition=_object("Define an arm", read[f"arm_new_definition_{agent}"]),
            description=str(read[f"arm_new_description_{agent}"]), baseline=bool(read[f"arm_new_baseline_{agent}"]),
            state=read[f"arm_new_state_{agent}"], origin="operator", by=operator(),
        )  # fmt: skip
        return f"Defined the arm {one_line(name, 80)} of {one_line(of, 80)}."

    perform(work)


def _key(field: str, agent: str, arm: dict[str, Any]) -> str:
    """The key of a field of this arm as it is now: when somebody changes it, the form begins anew."""
    return f"arm_{field}_{agent}_{arm['arm']}_{arm['updated_at']:%Y%m%d%H%M%S%f}"


def _change(agent: str, arm: dict[str, Any]) -> None:
    store, read = runtime.current().store, st.session_state

    def work() -> str:
        arms.change(
            store, agent, arm["arm"], kind=read[_key("kind", agent, arm)],
            definition=_object("Change an arm", read[_key("definition", agent, arm)]),
            description=str(read[_key("description", agent, arm)]), by=operator(),
        )  # fmt: skip
        return f"Saved the definition of {one_line(arm['arm'], 80)}."

    perform(work)


def _state(agent: str, arm: dict[str, Any]) -> None:
    store, state = runtime.current().store, st.session_state[_key("state", agent, arm)]
    reason = str(st.session_state[f"arm_reason_{agent}"])

    def work() -> str:
        arms.set_state(store, agent, arm["arm"], state, reason=reason, by=operator())
        return f"{one_line(arm['arm'], 80)} is {state} now."

    if perform(work):
        st.session_state[f"arm_reason_{agent}"] = ""


def _baseline(agent: str, arm: str) -> None:
    store = runtime.current().store

    def work() -> str:
        arms.set_baseline(store, agent, arm, by=operator())
        return f"{one_line(arm, 80)} is the baseline now."

    perform(work)


def _object(action: str, typed: object) -> dict[str, Any]:
    """The JSON object that was typed. Raises: `ActionRefused`."""
    try:
        value = json.loads(str(typed).strip() or "{}")
    except (ValueError, RecursionError) as error:
        raise ActionRefused(
            action, f"the definition is no JSON ({error}).", 'Write an object such as {"model": "m"}.'
        ) from error
    if not isinstance(value, dict):
        raise ActionRefused(action, "the definition is no JSON object.", 'Write one such as {"model": "m"}.')
    return value
