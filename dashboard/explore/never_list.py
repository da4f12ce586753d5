"""Who and what is never explored with: the operators' list with reasons, and people who opted out themselves."""

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
from store import never_explore

__all__ = ["show"]

_KINDS: Final = ("user", "segment", "task")
_SHOWN_OPT_OUTS: Final = 1_000


def show(agent: str) -> None:
    """The list, how to change it, and who opted out."""
    st.subheader("Never explored", anchor=False)
    held = data.query(never_explore.listed, agent)
    left, right = st.columns([3, 2], gap="large")
    with left:
        if held.is_empty():
            st.caption("Nobody and nothing is on the list.")
        else:
            _table(held)
            _remove(agent, held)
        _opted_out()
    with right:
        _add(agent)


def _table(held: pl.DataFrame) -> None:
    export.table(
        "never explore",
        pl.DataFrame(
            [
                {
                    "kind": row["kind"], "name": one_line(row["unit"], 80), "of": _of(row),
                    "reason": one_line(row["reason"], 300), "by": row["set_by"], "since": row["set_at"],
                }
                for row in held.to_dicts()
            ]
        ),
        hide_index=True, height=tables.height(held.height), alt=f"{held.height} entries of the never-explore list",
        column_config=fmt.columns({
            "since": st.column_config.DatetimeColumn("since (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC")
        }),
    )  # fmt: skip


def _remove(agent: str, held: pl.DataFrame) -> None:
    entries = held.to_dicts()

    def name(place: int) -> str:
        return f"{entries[place]['kind']} {one_line(entries[place]['unit'], 60)}, {_of(entries[place])}"

    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.selectbox(
            "Take off the list", range(len(entries)), index=None, key=f"never_chosen_{agent}",
            placeholder="Choose an entry", format_func=name,
        )  # fmt: skip
        offer.button(
            "Take off", key=f"never_remove_{agent}", icon=":material/remove:", on_click=_removed, args=(agent, entries),
            disabled=st.session_state.get(f"never_chosen_{agent}") is None,
        )  # fmt: skip


def _add(agent: str) -> None:
    with st.form(f"never_{agent}", clear_on_submit=False):
        st.markdown("**Add to the list**")
        kind, name = st.columns([1, 2])
        kind.selectbox("Kind", _KINDS, key=f"never_kind_{agent}")
        name.text_input("Name or id", key=f"never_unit_{agent}", max_chars=512)
        st.text_input(
            "Reason", key=f"never_reason_{agent}", max_chars=500, placeholder="So that others know when it may end"
        )
        st.checkbox("Of every agent", key=f"never_every_{agent}")
        offer.submit(
            "Add", type="primary", icon=":material/block:", key=f"never_add_{agent}", on_click=_added, args=(agent,)
        )


def _opted_out() -> None:
    people = data.query(never_explore.opted_out)
    if not people:
        st.caption("Nobody has opted out (`exploration_opt_out` in the metadata of their traces).")
        return
    with st.expander(f"{fmt.plural(len(people), 'person', 'people')} opted out themselves"):
        frame = pl.DataFrame({"user": [one_line(user, 120) for user in people[:_SHOWN_OPT_OUTS]]})
        export.table(
            "opted out of exploration",
            frame,
            hide_index=True,
            height=tables.height(frame.height),
            alt=f"{frame.height} people who opted out",
        )
        if len(people) > _SHOWN_OPT_OUTS:
            st.caption(f"The first {_SHOWN_OPT_OUTS:,} of {len(people):,}.")


def _of(row: dict[str, Any]) -> str:
    return "every agent" if row["agent"] == never_explore.EVERY_AGENT else "this agent"


def _added(agent: str) -> None:
    store, read = runtime.current().store, st.session_state
    kind, unit = read[f"never_kind_{agent}"], str(read[f"never_unit_{agent}"]).strip()
    of = never_explore.EVERY_AGENT if read[f"never_every_{agent}"] else agent

    def work() -> str:
        never_explore.add(store, of, kind, unit, reason=str(read[f"never_reason_{agent}"]), by=operator())
        return f"Never explored from now on: the {kind} {one_line(unit, 80)}."

    perform(work)


def _removed(agent: str, entries: list[dict[str, Any]]) -> None:
    store, place = runtime.current().store, st.session_state.get(f"never_chosen_{agent}")
    if place is None or not 0 <= place < len(entries):
        return
    entry = entries[place]

    def work() -> str:
        never_explore.remove(store, entry["agent"], entry["kind"], entry["unit"], by=operator())
        return f"Taken off the list: the {entry['kind']} {one_line(entry['unit'], 80)}."

    if perform(work):
        st.session_state[f"never_chosen_{agent}"] = None
