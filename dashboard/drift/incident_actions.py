"""What an operator does with an incident: acknowledge, resolve, open again, write down; each with its words."""

from collections.abc import Callable
from typing import Any, Final

import streamlit as st

from dashboard import runtime
from dashboard.access import offer
from dashboard.learn.actions import operator, perform
from store import incidents

__all__ = ["show"]

_MOST: Final = 2_000
# Label, icon and what is done, of each action by the state in which it may be taken.
_ACTIONS: Final[dict[str, tuple[tuple[str, str, str], ...]]] = {
    "open": (("Acknowledge", ":material/visibility:", "acknowledge"), ("Resolve", ":material/check:", "resolve")),
    "acknowledged": (("Resolve", ":material/check:", "resolve"),),
    "resolved": (("Reopen", ":material/undo:", "reopen"),),
}
_DONE: Final = {"acknowledge": "Acknowledged.", "resolve": "Resolved.", "reopen": "Opened again.", "comment": "Noted."}


def show(incident: dict[str, Any]) -> None:
    """A field for the reason and the buttons that the incident's state allows (`incident` of `store.incidents.one`)."""
    number, state = incident["incident_id"], incident["state"]
    with st.form(f"incident-{number}-{state}", border=True):
        st.text_area(
            "Reason, or what you found", key=f"incident-text-{number}", max_chars=_MOST, height=80,
            placeholder="Others read this in the incident's history. Resolving and reopening need it.",
        )  # fmt: skip
        with st.container(horizontal=True):
            for label, icon, action in _ACTIONS.get(state, ()):
                offer.submit(
                    label, icon=icon, key=f"incident-{action}", type="primary" if action != "resolve" else "secondary",
                    on_click=_act, args=(action, number),
                )  # fmt: skip
            offer.submit(
                "Write down", icon=":material/edit_note:", key="incident-comment", on_click=_act,
                args=("comment", number), type="tertiary",
            )  # fmt: skip


def _act(action: str, incident_id: str) -> None:
    store = runtime.current().store
    key = f"incident-text-{incident_id}"
    words = str(st.session_state.get(key) or "")

    def work() -> str:
        actions: dict[str, Callable[[], None]] = {
            "acknowledge": lambda: incidents.acknowledge(store, incident_id, operator=operator(), reason=words or None),
            "resolve": lambda: incidents.resolve(store, incident_id, operator=operator(), reason=words),
            "reopen": lambda: incidents.reopen(store, incident_id, operator=operator(), reason=words),
            "comment": lambda: incidents.comment(store, incident_id, operator=operator(), text=words),
        }
        actions[action]()
        return _DONE[action]

    # Words that were refused stay in the field.
    if perform(work):
        st.session_state[key] = ""
