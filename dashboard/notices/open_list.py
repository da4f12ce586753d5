"""The open notices: a list on the Overview, and how many there are as a badge."""

import json
from collections.abc import Mapping
from typing import Any, Final

import streamlit as st

from dashboard import data, runtime
from dashboard.access import offer
from dashboard.learn.actions import operator, perform
from dashboard.notices.words import ICONS, times
from dashboard.ui import format as fmt
from dashboard.ui.text import line, one_line
from store import notices

__all__ = ["badge", "draw"]

_SHOWN: Final = 3
_PAGES: Final = frozenset(
    ("data", "drift", "exploration", "lessons", "overview", "review", "rewards", "settings", "traces", "users")
)


def badge() -> None:
    """How many notices are open; nothing when none is."""
    count = data.fresh(notices.open_count)
    if count:
        st.badge(f"{fmt.plural(count, 'open notice')}", icon=":material/notifications:", color="orange")


def draw() -> None:
    """The open notices, the gravest first; nothing when none is open."""
    rows = data.query(notices.open_)
    if rows.is_empty():
        return
    with st.container(border=True):
        st.markdown(f"**{fmt.plural(rows.height, 'open notice')}**")
        for row in rows.head(_SHOWN).iter_rows(named=True):
            _one(row)
        if rows.height > _SHOWN:
            with st.expander(f"{rows.height - _SHOWN} more"):
                for row in rows.slice(_SHOWN).iter_rows(named=True):
                    _one(row)


def _one(row: Mapping[str, Any]) -> None:
    # As text, not Markdown: what it says may quote names and addresses that somebody else chose.
    with st.container(gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(
                f"{ICONS[row['severity']]} {row['severity'].capitalize()}, "
                f"{fmt.when(row['posted_at'], seconds=False)}{times(row['times'])}"
            )
            if row["page"] in _PAGES:
                st.page_link(
                    f"views/{row['page']}.py", label="Open", icon=":material/open_in_new:",
                    query_params=json.loads(row["query"]),
                )  # fmt: skip
            offer.button(
                "Dismiss", key=f"notice_dismiss_{row['notice_id']}", icon=":material/done:", type="tertiary",
                on_click=_dismissed, args=(row["notice_id"],),
                help="It is seen to. If it happens again, it is a new notice.",
            )  # fmt: skip
        line(one_line(row["title"], 200))
        if row["text"]:
            with st.expander("What happened", type="compact"):
                line(row["text"])


def _dismissed(notice_id: int) -> None:
    def work() -> str:
        notices.dismiss(runtime.current().store, notice_id, operator=operator())
        return "The notice is dismissed."

    perform(work)
