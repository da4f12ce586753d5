"""The first steps of an installation, each ticked off once the store shows that it was taken."""

from collections.abc import Mapping
from typing import Any, Final

import streamlit as st

__all__ = ["draw", "steps"]

# What the store shows, what to do, how, and where.
_STEPS: Final = (
    ("traces", "Bring in traces", "Upload a file, use the inbox, or have agents send them as they run.",
     "views/data.py", {"tab": "Upload"}),
    ("signals", "Bring in feedback or outcomes", "Thumbs, clicks, comments, purchases, or what a check of yours found: "
     "in the same file or one of their own.", "views/data.py", {"tab": "Upload"}),
    ("reward_models", "Know which traces went well", "The jobs tasks and rewards run by themselves; “Run now” does not "
     "wait.", "views/data.py", {"tab": "Jobs"}),
    ("lessons_held", "Have a lesson proposed", "The job lessons compares traces of the same task that went well and "
     "badly. You can write one too. Then decide on it.", "views/review.py", None),
    ("decisions_held", "Have an agent ask what to do", "Connect an agent: it asks for lessons and arms before it acts, "
     "and what that changes is measured.", "views/data.py", {"tab": "Live"}),
)  # fmt: skip


def steps(extent: Mapping[str, Any]) -> list[tuple[bool, str]]:
    """Every step with whether it was taken; `extent` as `store.overview.EXTENT`."""
    return [(bool(extent[shown]), title) for shown, title, *_ in _STEPS]


def draw(extent: Mapping[str, Any], *, opened: bool) -> None:
    """Draw the steps; nothing once all of them were taken."""
    taken = [done for done, _ in steps(extent)]
    if all(taken):
        return
    following = taken.index(False)
    with (
        st.container(key="first-steps"),
        st.expander(f"First steps: {sum(taken)} of {len(taken)} done", expanded=opened, icon=":material/checklist:"),
    ):
        for place, (done, (_, title, how, page, query)) in enumerate(zip(taken, _STEPS, strict=True)):
            mark = ":material/check_circle:" if done else ":material/radio_button_unchecked:"
            st.markdown(f"{mark} **{title}**, {'done' if done else 'to do'}")
            if not done:
                st.caption(how)
            if place == following:
                st.page_link(page, label="Do this next", icon=":material/arrow_forward:", query_params=query)
