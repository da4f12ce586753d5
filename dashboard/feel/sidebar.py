"""What stands in the sidebar of every page below the filters: saved views, the palette, help, and the zone of times."""

from typing import Final

import streamlit as st

from dashboard.feel import arrival, finished, glossary, keys, palette, saved
from dashboard.feel.pages import name_of
from dashboard.ui import format as fmt

__all__ = ["WORTH_SAYING", "draw", "say_age"]

_HELP: Final = "feel_help"
_ZONE: Final = "feel_zone"
WORTH_SAYING: Final = 2.0  # seconds


def draw(url_path: str) -> None:
    """Draw it for the page with this address. Raises: what the store raises."""
    page = name_of(url_path)
    with st.sidebar:
        saved.links()
        with st.container(key="feel-row", gap="xsmall"):
            if st.button(
                "Go to", key="feel_goto_open", icon=":material/search:", type="tertiary",
                shortcut="Ctrl+K", help="A page, a saved view, a trace, a user or a lesson.",
            ):  # fmt: skip
                st.session_state.pop(palette.TYPED, None)
                palette.open_palette(page)
            saved.button(page)
            if st.button(
                "Keys and words", key=_HELP, icon=":material/keyboard:", type="tertiary",
                help="The keys of every page (?), and what the words mean.",
            ):  # fmt: skip
                _help()
        _zone()
        keys.listen(_HELP)
        # Always a place of its own, so that nothing else moves when there is something to wait for.
        with st.container(key="feel-finished"):
            finished.watch()


def say_age(seconds: float) -> None:
    """Say how old the oldest of what the page shows is, when data came in since."""
    if seconds >= WORTH_SAYING:
        st.sidebar.caption(
            f"Data is coming in: some of this is {seconds:.0f} s old.",
            help="So that agents need not wait, it is read anew now and then while data streams in. What you and "
            "others did is always shown at once.",
        )


@st.dialog("Keys and words", width="medium")
def _help() -> None:
    of_keys, of_words = st.tabs(["Keys", "Words"])
    with of_keys:
        keys.dialog()
    with of_words:
        glossary.listing()


def _zone() -> None:
    """The choice of zone, for those whose browser is in another one than UTC."""
    theirs = fmt.browser_zone()
    if theirs is None:
        return
    of_browser = arrival.visit().zone == "browser"
    # As the store has it, also when another window has changed it.
    st.session_state[_ZONE] = of_browser
    st.toggle(
        f"Times of {fmt.zone_label(theirs)}", key=_ZONE, on_change=_chosen,
        help="Else in UTC, as days, weeks and months are either way. Figures say which on their axes.",
    )  # fmt: skip


def _chosen() -> None:
    arrival.chosen_zone(bool(st.session_state.get(_ZONE)))
