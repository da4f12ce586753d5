"""Rules for responses: what Trimtab does about drift without asking, by whose order, and at most how often."""

import json
from typing import Any, Final

import streamlit as st

from dashboard import data, runtime
from dashboard.access import offer
from dashboard.drift import responding, words
from dashboard.learn.actions import operator, perform
from dashboard.ui import format as fmt
from dashboard.ui import states, text
from pipelines.drift.metrics import METRICS
from store import drift_rules, overview, users
from store.drift_responses import ACTIONS, MAX_DAYS
from store.drift_rules import Rule

__all__ = ["sentence", "show"]

_LEVELS: Final = {"user": "a single user's finding", "incident": "an incident that opens"}


def show() -> None:
    """The rules, each with its switch, and the form for another."""
    st.caption(
        "A rule answers findings that are flagged and that no known change explains, by your order and in your name: "
        "every response is on record, ends by itself, and can be taken back."
    )
    listed = data.query(drift_rules.listed)
    if listed.is_empty():
        states.nothing(
            "No rule so far", "Nothing is done about drift by itself; responses are suggested with findings."
        )
    for row in listed.iter_rows(named=True):
        _rule(row)
    with st.expander("Set a rule", icon=":material/add:", expanded=listed.is_empty()):
        _form()


def sentence(row: dict[str, Any]) -> str:
    """A rule in words, as plain text (`row` of `store.drift_rules.RULES`)."""
    parameters = json.loads(row["parameters"])
    metric = "any metric" if row["metric"] is None else words.title(row["metric"])
    scope = "".join(
        f", {name} {text.one_line(row[name], 60)}" for name in ("agent", "segment") if row[name] is not None
    )
    least = f" by {row['least_effect']:g} or more" if row["least_effect"] else ""
    worse = " for the worse" if row["only_worse"] else ""
    rate = parameters.get("rate")
    days = parameters.get("days")
    action = responding.ACTION_WORDS.get(row["action"], row["action"])
    return (
        f"When {_LEVELS.get(row['level'], row['level'])} says that {metric} moved{worse}{least}{scope}: {action}"
        + (f" to {fmt.percent(rate)}" if rate is not None else "")
        + (f" for {fmt.plural(days, 'day')}" if days is not None else " until it is taken back")
        + f"; at most {row['daily_limit']:,} in 24 hours."
    )


def _rule(row: dict[str, Any]) -> None:
    number, on = row["rule_id"], row["state"] == "on"
    with st.container(border=True, gap="xsmall", key=f"rule-{number}"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.badge(row["state"], color="green" if on else "gray")
            st.caption(f"set {fmt.when(row['set_at'], seconds=False)} by", width="content")
            st.text(text.one_line(row["set_by"], 80), width="content")
        text.line(sentence(row))
        if on:
            with (
                st.form(f"rule-off-{number}", border=False),
                st.container(horizontal=True, vertical_alignment="bottom"),
            ):
                st.text_input("Reason to switch it off", key=f"rule-reason-{number}", max_chars=500)
                offer.submit(
                    "Switch off", icon=":material/power_off:", key=f"off-{number}", on_click=_switch,
                    args=(number, "off"),
                )  # fmt: skip
        else:
            offer.button(
                "Switch on", icon=":material/power:", key=f"on-{number}", on_click=_switch, args=(number, "on"),
                help="From then on it is your order",
            )  # fmt: skip


def _form() -> None:
    agents = data.query(overview.segments).filter(field="agent")["value"].to_list()
    segments = data.query(users.segments)
    with st.form("rule", border=False):
        first, second, third = st.columns(3)
        first.selectbox("When", list(_LEVELS), key="rule-level", format_func=lambda name: _LEVELS.get(name, name))
        second.selectbox(
            "Metric", list(METRICS), index=None, key="rule-metric", placeholder="Any metric", format_func=words.title
        )
        third.number_input(
            "Moved at least", 0.0, None, 0.0, 0.05, key="rule-least", help="In the metric's unit, whichever way"
        )
        first, second, third = st.columns(3, vertical_alignment="bottom")
        first.selectbox(
            "Agent", agents, index=None, key="rule-agent", placeholder="Any agent",
            format_func=lambda name: text.one_line(name, 40),
        )  # fmt: skip
        second.selectbox(
            "Segment", segments, index=None, key="rule-segment", placeholder="Any segment",
            format_func=lambda name: text.one_line(name, 40),
        )  # fmt: skip
        third.checkbox("Only when it moved for the worse", True, key="rule-worse")
        first, second, third, fourth = st.columns([2, 1, 1, 1])
        first.selectbox(
            "Then", ACTIONS, key="rule-action", format_func=lambda name: responding.ACTION_WORDS.get(name, name)
        )
        second.number_input(
            "Rate, %", 0.1, 100.0, None, 1.0, key="rule-rate", placeholder="as suggested", format="%.1f",
            help="Of decisions; for exploring and asking only",
        )  # fmt: skip
        third.number_input("Days", 1, MAX_DAYS, 14, 1, key="rule-days", help="After which it ends by itself")
        fourth.number_input("At most in 24 hours", 1, drift_rules.MOST_A_DAY, 20, 1, key="rule-limit")
        offer.submit("Set the rule", type="primary", icon=":material/save:", key="rule-save", on_click=_add)


def _add() -> None:
    store, read = runtime.current().store, st.session_state

    def work() -> str:
        rate, days, limit = read["rule-rate"], read["rule-days"], read["rule-limit"]
        drift_rules.add(
            store,
            Rule(
                level=read["rule-level"], action=read["rule-action"], metric=read["rule-metric"],
                agent=read["rule-agent"], segment=read["rule-segment"], least_effect=float(read["rule-least"] or 0.0),
                only_worse=bool(read["rule-worse"]), rate=None if rate is None else round(float(rate) / 100, 6),
                days=days, daily_limit=int(limit or 0),
            ),
            by=operator(),
        )  # fmt: skip
        return "The rule is set and switched on: the job incidents follows it from its next run on."

    perform(work)


def _switch(rule_id: str, state: Any) -> None:
    store, read = runtime.current().store, st.session_state

    def work() -> str:
        reason = str(read.get(f"rule-reason-{rule_id}") or "") if state == "off" else None
        drift_rules.switch(store, rule_id, state, by=operator(), reason=reason)
        return f"The rule is switched {state}." + (
            " What it did stays until it is taken back." if state == "off" else ""
        )

    perform(work)
