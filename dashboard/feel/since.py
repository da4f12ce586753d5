"""What changed since the operator was last here: counts on the Overview, each with the way to where it is read."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import streamlit as st

from dashboard import data
from dashboard.access.actor import actor
from dashboard.feel import arrival
from dashboard.ui import format as fmt
from store import visits

__all__ = ["draw", "entries"]

Entry = tuple[str, str, str, dict[str, str] | None]

_KINDS: Final = (
    ("traces", "new trace", "new traces", "views/traces.py", {"range": "all time"}, ":material/account_tree:"),
    ("lessons", "lesson proposed", "lessons proposed", "views/review.py", None, ":material/rate_review:"),
    ("users", "user found to drift", "users found to drift", "views/drift.py", None, ":material/trending_down:"),
    ("incidents", "incident opened", "incidents opened", "views/drift.py", {"tab": "Incidents"},
     ":material/emergency_home:"),
    ("jobs_failed", "failed run of a job", "failed runs of jobs", "views/data.py", {"tab": "Jobs"},
     ":material/error:"),
    ("failed_batches", "load that failed", "loads that failed", "views/data.py", {"tab": "Batches"},
     ":material/playlist_remove:"),
    ("notices", "notice posted", "notices posted", "views/settings.py", {"settings": "Notices"},
     ":material/notifications:"),
    ("by_others", "action of other operators", "actions of other operators", "views/settings.py", {"settings": "Audit"},
     ":material/history:"),
)  # fmt: skip


def entries(counts: Mapping[str, Any]) -> list[Entry]:
    """What there is to say of a row of `store.visits.CHANGES`: label, icon, page and its query; nothing for zeros."""
    return [
        (fmt.plural(counts[name], one, many), icon, page, query)
        for name, one, many, page, query, icon in _KINDS
        if counts[name]
    ]


def draw(now: datetime) -> None:
    """Draw the counts; nothing on a first visit."""
    before = arrival.visit().before_at
    if before is None:
        return
    counts = data.query(visits.changes, before, actor().email).row(0, named=True)
    listed = entries(counts)
    with st.container(border=True, gap="xsmall", key="since-last"):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            said = "Since you were last here" if listed else "Nothing has changed since you were last here"
            st.markdown(f"**{said}**, {fmt.relative(before, now)} ({fmt.when(before, seconds=False)})")
            if listed:
                st.button(
                    "Seen", key="since_seen", icon=":material/done_all:", type="tertiary", on_click=arrival.seen,
                    args=(now,), help="Count from now on.",
                )  # fmt: skip
        if listed:
            with st.container(horizontal=True, gap="medium"):
                for label, icon, page, query in listed:
                    st.page_link(page, label=label, icon=icon, query_params=query)
