"""The palette: go to a page, a saved view, a trace, a user or a lesson by typing."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import polars as pl
import streamlit as st

from dashboard import data, runtime
from dashboard.access.actor import actor
from dashboard.feel.pages import PAGES
from dashboard.ui import states
from dashboard.ui.focus import take_focus
from dashboard.ui.text import markdown_safe, one_line
from store import lessons, saved_views, traces, users
from store.errors import NotFound

__all__ = ["TYPED", "Target", "found", "open_palette", "places", "searches"]

_LESSONS: Final = 6
_CHARACTERS: Final = 200
TYPED: Final = "feel_typed"
"""The key of the field."""


@dataclass(frozen=True)
class Target:
    """Somewhere to go: a page with its query, and how it is named (text of others, not Markdown)."""

    label: str
    page: str
    query: dict[str, list[str]] = field(default_factory=dict)


def places() -> dict[str, Target]:
    """The pages and the views that this operator sees, by what the palette lists."""
    listed = {page.title: Target(page.title, name) for name, page in PAGES.items()}
    for row in saved_views.visible(runtime.current().store, actor().email).iter_rows(named=True):
        if row["page"] in PAGES:
            label = f"{one_line(row['name'], 60)} ({PAGES[row['page']].title})"
            listed.setdefault(label, Target(label, row["page"], saved_views.query_of(row["query"])))
    return listed


def found(text: str) -> list[Target]:
    """What a name, an id or a part of a lesson's title means: places, then ids, then lessons. Raises: `QueryTimeout`.

    A place whose name is all of the text is the only answer; one that begins with it comes before one that has it.
    """
    wanted = text.strip()
    lower = wanted.lower()
    if not wanted:
        return []
    listed = places()
    exact = [target for label, target in listed.items() if label.lower() == lower]
    if exact:
        return exact
    targets = [target for label, target in listed.items() if label.lower().startswith(lower)]
    targets += [target for label, target in listed.items() if lower in label.lower() and target not in targets]
    if _exists(traces.one, wanted):
        targets.append(Target(f"Trace {wanted}", "traces", {"trace": [wanted]}))
    if _exists(users.one, wanted):
        targets.append(Target(f"User {wanted}", "users", {"user": [wanted]}))
    library = data.query(lessons.library)
    matching = library.filter(
        (pl.col("lesson_id") == wanted) | pl.col("title").str.to_lowercase().str.contains(lower, literal=True)
    )
    for row in matching.head(_LESSONS).iter_rows(named=True):
        page = "review" if row["state"] == "proposed" else "lessons"
        targets.append(Target(f"Lesson {one_line(row['title'], 70)}", page, {"lesson": [row["lesson_id"]]}))
    return targets


def searches(text: str) -> list[Target]:
    """Where to search for the text."""
    ways = (("traces", "q", "Search traces for"), ("users", "find_user", "Search users for"))
    return [Target(f"{words} {text.strip()}", page, {name: [text.strip()]}) for page, name, words in ways]


@st.dialog("Go to", width="medium")
def open_palette(page: str) -> None:
    """Ask where to go, on this page; the only answer opens at once."""
    with st.form("feel_goto", border=False), st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_input(
            "A page, a saved view, the id of a trace or user, or a part of a lesson's title", key=TYPED,
            max_chars=_CHARACTERS,
        )  # fmt: skip
        asked = st.form_submit_button("Go", icon=":material/arrow_forward:")
    take_focus(TYPED)
    wanted = str(text or "")[:_CHARACTERS].strip()
    if not wanted:
        st.caption("With G and a letter you get to a page without this: press ? for the keys.")
        return
    with states.guarded("What is called so", key="goto"):
        targets = found(wanted)
        # Filters of this page would keep their values: a link loads it anew (`dashboard.feel.keys`).
        if asked and len(targets) == 1 and not (targets[0].page == page and targets[0].query):
            st.switch_page(PAGES[targets[0].page].path, query_params=targets[0].query)
        if not targets:
            st.caption("No page, view, trace, user or lesson is called so.")
        for target in (*targets, *searches(wanted)):
            st.page_link(
                PAGES[target.page].path, label=markdown_safe(one_line(target.label, 90)),
                icon=PAGES[target.page].icon, query_params=target.query,
            )  # fmt: skip


def _exists(ask: Callable[..., pl.DataFrame], identity: str) -> bool:
    try:
        data.query(ask, identity)
    except NotFound:
        return False
    return True
