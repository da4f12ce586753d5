"""Where the keyboard is: a form that a key has opened gets the focus, so that nobody looks for it with Tab."""

import re
from typing import Final

import streamlit as st

__all__ = ["take_focus"]

# Once for each time it is mounted: later runs of the page must not take the focus from where somebody types.
_SCRIPT: Final = """
const taken = new WeakSet();
export default function ({ data, parentElement }) {
  if (taken.has(parentElement)) return;
  taken.add(parentElement);
  const until = performance.now() + 2000;
  let had = false;
  const look = () => {
    const field = document.querySelector(`.st-key-${CSS.escape(data.key)} :is(input, textarea):not([disabled])`);
    // The page may still put another element in the field's place; who has gone elsewhere is left there.
    if (had && ![field, document.body].includes(document.activeElement)) return;
    if (field && document.activeElement !== field) { field.focus(); had = true; }
    if (performance.now() < until) setTimeout(look, 50);
  };
  look();
}
"""


def take_focus(key: str) -> None:
    """Put the keyboard into the widget with this key, or into the first field in the container with it."""
    # Streamlit names the class of an element after its key so.
    name = re.sub(r"[^a-zA-Z0-9_-]", "-", key)
    st.components.v2.component("trimtab_focus", js=_SCRIPT)(key=f"focus_{key}", data={"key": name})
