"""Where the keyboard is: a form that a key has opened gets the focus, so that nobody looks for it with Tab."""

from typing import Final

import streamlit as st

__all__ = ["take_focus"]

# Once for each time it is mounted: later runs of the page must not take the focus from where somebody types.
_SCRIPT: Final = """
const taken = new WeakSet();
export default function ({ data, parentElement }) {
  if (taken.has(parentElement)) return;
  taken.add(parentElement);
  let tries = 60;
  const look = () => {
    const field = document.querySelector(`.st-key-${CSS.escape(data.key)} :is(input, textarea):not([disabled])`);
    if (field) field.focus();
    else if (tries-- > 0) requestAnimationFrame(look);
  };
  look();
}
"""


def take_focus(key: str) -> None:
    """Put the keyboard into the first field of the element with this key, which is ours, once it is there."""
    st.components.v2.component("trimtab_focus", js=_SCRIPT)(key=f"focus_{key}", data={"key": key})
