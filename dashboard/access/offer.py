"""Buttons that change something: whoever may not press one sees it disabled, and reads there whose task it is.

This only spares people a refusal. What refuses is the check in the callback (`permit`, `perform`), on the server.
"""

from typing import Any

import streamlit as st

from dashboard.access.actor import Role, actor
from store import operators

__all__ = ["button", "submit"]


def button(label: str, *, role: Role = "reviewer", **shown: Any) -> bool:
    """A button for whoever holds the `role` or a higher one; `shown` is what `st.button` takes."""
    return bool(st.button(label, **_for(role, shown)))


def submit(label: str, *, role: Role = "reviewer", **shown: Any) -> bool:
    """The button of a form, likewise; `shown` is what `st.form_submit_button` takes."""
    return bool(st.form_submit_button(label, **_for(role, shown)))


def _for(role: Role, shown: dict[str, Any]) -> dict[str, Any]:
    held = actor().role
    if operators.allows(held, role):
        return shown
    has = f"you have the role {held}" if held is not None else "you have none"
    return {**shown, "disabled": True, "help": f"This takes the role {role}, and {has}."}
