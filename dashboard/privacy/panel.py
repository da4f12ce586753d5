"""The Privacy tab of the Settings page."""

import streamlit as st

from dashboard.privacy import forget_panel, opt_out_panel, redaction_panel, retention_panel
from dashboard.ui import states

__all__ = ["draw"]


def draw() -> None:
    """Draw forgetting and giving out a user's data, opting out, retention and redaction."""
    st.subheader("Privacy", anchor=False)
    for what, panel in (
        ("Forgetting", forget_panel.draw),
        ("Opting out", opt_out_panel.draw),
        ("Retention", retention_panel.draw),
        ("Redaction", redaction_panel.draw),
    ):
        with st.container(border=True), states.guarded(what, key=f"privacy-{what}"):
            panel()
