"""What was done and when: known change points that explain findings, and the form to note one."""

from datetime import UTC, datetime, time
from functools import partial
from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import data, runtime
from dashboard.access import offer
from dashboard.learn import tables
from dashboard.learn.actions import operator, perform
from dashboard.ui import export
from dashboard.ui import format as fmt
from dashboard.ui.text import one_line
from store import interventions, overview, users
from store.frames import each
from store.interventions import KINDS, Note

__all__ = ["show"]

_MOST: Final = 200


def show(now: datetime, *, agent: str | None = None, segment: str | None = None) -> None:
    """The form, with what it is for, and the list. `agent` and `segment` stand in the form at first."""
    with st.expander("Known changes, and note one", icon=":material/flag:"):
        st.caption(
            "A campaign, a new version, an approved lesson: what follows a known change within its reach is explained "
            "by it and alarms nobody, and expectations are formed anew after it."
        )
        _form(now, agent, segment)
        known = data.query(interventions.known).sort("happened_at", descending=True)
        if known.height:
            _list(known)
        _withdraw()


def _form(now: datetime, agent: str | None, segment: str | None) -> None:
    agents = data.query(overview.segments).filter(field="agent")["value"].to_list()
    segments = data.query(users.segments)
    with st.form("note-intervention", border=True):
        st.text_input("What was done", key="note-title", max_chars=interventions.MAX_TITLE)
        first, second = st.columns(2)
        first.selectbox("Kind", KINDS, key="note-kind", index=KINDS.index("other"))
        second.selectbox(
            "Agent", agents, key="note-agent", placeholder="Every agent", format_func=lambda name: one_line(name, 40),
            index=agents.index(agent) if agent in agents else None,
        )  # fmt: skip
        first.date_input("Day (UTC)", now.date(), key="note-day", format="YYYY-MM-DD")
        second.time_input("Time (UTC)", time(0, 0), key="note-time")
        if segments:
            st.selectbox(
                "Segment", segments, key="note-segment", placeholder="Everybody",
                format_func=lambda name: one_line(name, 40),
                index=segments.index(segment) if segment in segments else None,
            )  # fmt: skip
        offer.submit("Note it", icon=":material/flag:", key="note-save", on_click=_note)


def _list(known: pl.DataFrame) -> None:
    shown = known.head(_MOST)
    st.dataframe(
        shown.select(
            pl.col("happened_at"), "kind",
            *(
                each(shown[name], partial(one_line, limit=120), pl.String)
                for name in ("title", "agent", "segment")
            ),
            "origin",
        ),
        hide_index=True, height=tables.height(shown.height), key="known-changes", placeholder="",
        alt=f"{shown.height} known changes, the latest first",
        column_config=fmt.columns({
            "happened_at": st.column_config.DatetimeColumn("when (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC"),
            "title": st.column_config.TextColumn("what was done", width=320),
        }),
    )  # fmt: skip
    if known.height > _MOST:
        st.caption(f"The latest {_MOST} of {known.height:,}.")
    export.download(known, "known changes", "known-changes-export")


def _withdraw() -> None:
    """Take back what an operator noted."""
    noted = data.query(interventions.noted).filter(pl.col("withdrawn_at").is_null())
    if noted.is_empty():
        return
    titles = {row["intervention_id"]: f"{row['happened_at']:%Y-%m-%d} {one_line(row['title'], 80)}"
              for row in noted.iter_rows(named=True)}  # fmt: skip
    with st.form("withdraw-intervention", border=True):
        left, right = st.columns(2)
        left.selectbox("Take back", list(titles), key="withdraw-which", format_func=lambda key: titles.get(key, key))
        right.text_input("Reason", key="withdraw-reason", max_chars=500)
        offer.submit("Take back", icon=":material/undo:", key="withdraw-save", on_click=_take_back)


def _note() -> None:
    store, read = runtime.current().store, st.session_state

    def work() -> str:
        day, at = read["note-day"], read["note-time"]
        moment = datetime.combine(day, at if isinstance(at, time) else time(0, 0), UTC)
        what = Note(
            kind=str(read["note-kind"]), title=str(read["note-title"] or ""), happened_at=moment,
            agent=_text(read["note-agent"]), segment=_text(read.get("note-segment")),
        )  # fmt: skip
        interventions.note(store, what, by=operator())
        return f"Noted: {one_line(what.title, 120)}. The next run of the job incidents takes it into account."

    if perform(work):
        read["note-title"] = ""


def _take_back() -> None:
    store, read = runtime.current().store, st.session_state

    def work() -> str:
        interventions.withdraw(
            store, str(read["withdraw-which"]), by=operator(), reason=str(read["withdraw-reason"] or "")
        )
        return "Taken back. What it explained is looked at anew by the next run."

    perform(work)


def _text(value: Any) -> str | None:
    return str(value) if value else None
