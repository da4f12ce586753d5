"""The keys of every page: those that are the same everywhere, heard by a script of ours, and those of buttons."""

from typing import Final

import streamlit as st

from dashboard.feel.pages import PAGES

__all__ = ["EVERYWHERE", "ON_PAGES", "dialog", "listen"]

EVERYWHERE: Final = (
    ("?", "The keys and the words"),
    ("Ctrl+K", "Go to a page, a saved view, a trace, a user or a lesson"),
    *((f"G then {page.letter}", page.title) for page in PAGES.values()),
    ("Esc", "Close a dialog"),
    ("R", "Draw the page anew"),
)

ON_PAGES: Final = {
    "Review": (
        ("A", "Approve as canary"), ("Shift+A", "Approve as active"), ("E", "Edit"), ("B", "Send back"),
        ("X", "Reject"), ("S", "Skip"), ("P", "Previous lesson"), ("N", "Next lesson"),
        ("U", "Undo the last review"), ("Ctrl+S", "Save what was edited"), ("Ctrl+Enter", "Send a reason"),
        ("Esc", "Cancel editing"),
    ),
    "One trace": (("K", "Previous trace"), ("J", "Next trace"), ("Esc", "All traces")),
}  # fmt: skip

# One listener for the document, whichever page is shown: a later run replaces it with one that knows the same keys.
# It hears keys before the page does, so that the letter after "g" is not also the key of a button.
_SCRIPT: Final = """
export default function ({ data }) {
  const typing = (at) => at && (at.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(at.tagName));
  const press = (key) => document.querySelector(`.st-key-${key} button`)?.click();
  const take = (event) => { event.preventDefault(); event.stopImmediatePropagation(); };
  let waits = 0;
  const heard = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (typing(event.target) || document.querySelector('[role="dialog"]')) { waits = 0; return; }
    const letter = event.key.toLowerCase();
    if (performance.now() < waits) {
      waits = 0;
      const place = data.pages[letter];
      if (place === undefined) return;
      take(event);
      for (const link of document.querySelectorAll('[data-testid="stSidebarNavLink"]')) {
        const path = new URL(link.href).pathname.replace(/[/]+$/, "").split("/").pop();
        if (path === place) { link.click(); return; }
      }
    } else if (event.key === "?") { take(event); press(data.help); }
    else if (letter === "g" && !event.shiftKey) { take(event); waits = performance.now() + 1500; }
  };
  // Filters of the page that is shown keep their values when a link changes only its parameters: it is loaded anew.
  const clicked = (event) => {
    if (event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const link = event.target.closest?.('.st-key-saved-views a[href], [role="dialog"] a[href]');
    const url = link && new URL(link.href);
    if (!url || url.origin !== location.origin || url.pathname !== location.pathname) return;
    take(event);
    location.assign(url.href);
  };
  if (window.trimtabKeys) {
    window.removeEventListener("keydown", window.trimtabKeys.heard, true);
    window.removeEventListener("click", window.trimtabKeys.clicked, true);
  }
  window.trimtabKeys = { heard, clicked };
  window.addEventListener("keydown", heard, true);
  window.addEventListener("click", clicked, true);
}
"""

# On paper: what is read, without what is pressed.
_PRINTED: Final = """
@media print {
  [data-testid="stSidebar"], [data-testid="stHeader"], [data-testid="stToolbar"], [data-testid="stButton"],
  [data-testid="stDownloadButton"], [data-testid="stPagination"], .modebar { display: none; }
  [data-testid="stPlotlyChart"], [data-testid="stMetric"], [data-testid="stDataFrame"] { break-inside: avoid; }
}
"""


def listen(help_key: str) -> None:
    """Have the page hear "?" (which presses the button with this key) and "g" with a letter."""
    pages = {page.letter.lower(): "" if name == "overview" else name for name, page in PAGES.items()}
    heard = st.components.v2.component("trimtab_keys", js=_SCRIPT, css=_PRINTED, isolate_styles=False)
    heard(key="feel_listen", data={"help": help_key, "pages": pages})


def dialog() -> None:
    """The keys as tables: everywhere, then by page."""
    _table("On every page", EVERYWHERE)
    for page, keys in ON_PAGES.items():
        _table(page, keys)
    st.caption("Keys wait while you type in a field. On a Mac, Cmd stands for Ctrl.")


def _table(title: str, keys: tuple[tuple[str, str], ...]) -> None:
    st.markdown(f"**{title}**")
    st.table({"Key": [key for key, _ in keys], "What it does": [what for _, what in keys]}, border="horizontal",
             hide_index=True)  # fmt: skip
