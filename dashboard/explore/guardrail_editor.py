"""Defining a guardrail, and switching one on or off."""

from typing import Any, Final

import streamlit as st

from dashboard import data, runtime
from dashboard.access import offer
from dashboard.explore.guardrail_list import rows
from dashboard.explore.guardrail_words import KINDS, SUBJECTS, THRESHOLDS, kind_words, limit_words
from dashboard.learn import tables
from dashboard.learn.actions import operator, perform
from dashboard.ui import export, states
from dashboard.ui import format as fmt
from dashboard.ui.text import one_line
from store import arms, guardrails

__all__ = ["show"]

_THEN: Final = {"alert": "alert me", "switch_off": "switch the arm off"}


def show(agent: str) -> None:
    """What is in force, with a switch, and a new one."""
    held = data.query(guardrails.listed, agent=agent)
    if held.is_empty():
        states.nothing(
            "No guardrail",
            "A guardrail says what this agent must not do: tools, sites and actions off limits, a pace, a spend "
            "cap, or a floor below which an arm's metric must not fall. It is returned with each decision and audited "
            "against the traces that follow.",
        )
    else:
        frame = rows(held, data.query(guardrails.violation_counts).filter(agent=agent))
        export.table(
            "guardrails", frame, hide_index=True, height=tables.height(frame.height),
            alt=f"{frame.height} guardrails",
            column_config=fmt.columns({
                "what": st.column_config.TextColumn("guardrail", pinned=True, width=190),
                "violations": st.column_config.NumberColumn(format="localized"),
                "since": st.column_config.DatetimeColumn("since (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC"),
            }),
        )  # fmt: skip
        _switch(agent, held.to_dicts())
    with st.expander("Define a guardrail", icon=":material/add:", expanded=held.is_empty()):
        _define(agent)


def _switch(agent: str, held: list[dict[str, Any]]) -> None:
    def name(place: int) -> str:
        row = held[place]
        about = " ".join(part for part in (one_line(row["subject"], 60), limit_words(row)) if part)
        return f"{kind_words(row['kind'])}: {about} ({one_line(row['arm'], 40) or 'all arms'}), {row['state']}"

    with st.container(horizontal=True, vertical_alignment="bottom"):
        place = st.selectbox("Guardrail", range(len(held)), key=f"guardrail_{agent}", format_func=name, width=420) or 0
        on = held[min(place, len(held) - 1)]["state"] == "on"
        if on:
            st.text_input(
                "Reason", key=f"guardrail_reason_{agent}", max_chars=500, placeholder="Why it may be off", width=320
            )
        offer.button(
            "Switch off" if on else "Switch on", key=f"guardrail_switch_{agent}", on_click=_switched,
            icon=":material/toggle_off:" if on else ":material/toggle_on:",
            args=(agent, held[min(place, len(held) - 1)]["guardrail_id"], "off" if on else "on"),
        )  # fmt: skip


def _define(agent: str) -> None:
    kind = st.selectbox("Kind", list(KINDS), key=f"guardrail_kind_{agent}", format_func=kind_words, width=420)
    names = data.query(arms.listed, agent=agent)["arm"].to_list()
    with st.form(f"guardrail_new_{agent}_{kind}", border=False):
        left, right = st.columns(2)
        with left:
            if kind in SUBJECTS:
                label, example = SUBJECTS[kind]
                st.text_input(label, key=f"guardrail_subject_{agent}_{kind}", max_chars=500, placeholder=example)
            elif kind == "safety_floor":
                st.selectbox("Metric", list(guardrails.METRICS), key=f"guardrail_subject_{agent}_{kind}")
            if kind in THRESHOLDS:
                label, step, usual = THRESHOLDS[kind]
                st.number_input(label, value=usual, step=step, key=f"guardrail_threshold_{agent}_{kind}", format="%.3f")
        with right:
            st.selectbox(
                "Arm", [None, *names], key=f"guardrail_arm_{agent}",
                format_func=lambda name: "all arms" if name is None else one_line(name, 80),
            )  # fmt: skip
            st.selectbox(
                "On violation", list(_THEN), key=f"guardrail_then_{agent}", format_func=_THEN.__getitem__,
                help="The baseline is never switched off by itself",
            )  # fmt: skip
        offer.submit(
            "Define", type="primary", icon=":material/add:", key=f"guardrail_define_{agent}", on_click=_defined,
            args=(agent, kind),
        )  # fmt: skip


def _defined(agent: str, kind: str) -> None:
    store, read = runtime.current().store, st.session_state
    subject, threshold = read.get(f"guardrail_subject_{agent}_{kind}"), read.get(f"guardrail_threshold_{agent}_{kind}")

    def work() -> str:
        guardrails.define(
            store, agent, kind=kind, subject=subject, threshold=threshold, arm=read[f"guardrail_arm_{agent}"],
            on_violation=read[f"guardrail_then_{agent}"], by=operator(),
        )  # fmt: skip
        return f"Defined: {kind_words(kind)} {one_line(subject, 80)}. It comes with the next decisions."

    perform(work)


def _switched(agent: str, guardrail_id: str, state: str) -> None:
    store, reason = runtime.current().store, st.session_state.get(f"guardrail_reason_{agent}")

    def work() -> str:
        guardrails.set_state(store, agent, guardrail_id, state, by=operator(), reason=reason)
        return f"The guardrail is {state} now."

    if perform(work) and reason is not None:
        st.session_state[f"guardrail_reason_{agent}"] = ""
