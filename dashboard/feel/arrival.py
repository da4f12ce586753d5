"""That an operator is here: their visit, kept for the run that is being drawn."""

from datetime import datetime
from typing import Final

import streamlit as st

from dashboard import runtime
from dashboard.access.actor import permit
from dashboard.ui import format as fmt
from store import visits
from store.visits import Visit

__all__ = ["arrived", "by_itself", "chosen_zone", "seen", "visit"]

_VISIT: Final = "feel_visit"
_BY_ITSELF: Final = "feel_by_itself"
_READING: Final = "Reading this"


def arrived() -> None:
    """Begin a run of any page with this. A page that draws itself anew is no sign of somebody before it."""
    acting = permit("viewer", _READING)
    by_itself = st.session_state.pop(_BY_ITSELF, False)
    if not by_itself or _VISIT not in st.session_state:
        st.session_state[_VISIT] = visits.arrive(runtime.current().store, acting.email)
    st.session_state[fmt.ZONE] = st.session_state[_VISIT].zone == "browser"


def visit() -> Visit:
    """The visit of this run, as `arrived` left it."""
    held: Visit = st.session_state[_VISIT]
    return held


def by_itself() -> None:
    """Say that the next run comes from the page itself, not from somebody in front of it."""
    st.session_state[_BY_ITSELF] = True


def seen(moment: datetime) -> None:
    """What changed until `moment` has been read; call in a callback."""
    acting = permit("viewer", _READING)
    st.session_state[_VISIT] = visits.read_up_to(runtime.current().store, acting.email, moment)


def chosen_zone(of_browser: bool) -> None:
    """Show times in the browser's zone or in UTC from now on; call in a callback."""
    acting = permit("viewer", _READING)
    st.session_state[_VISIT] = visits.set_zone(
        runtime.current().store, acting.email, "browser" if of_browser else "utc"
    )
