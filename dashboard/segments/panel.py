"""The Segments tab of the Settings page: the rules that put users into segments, with a preview before saving."""

from collections.abc import Mapping
from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import data
from dashboard.feel.glossary import meaning
from dashboard.learn.tables import height
from dashboard.segments import rule_form
from dashboard.ui import export, states
from dashboard.ui import format as fmt
from dashboard.ui.text import one_line
from store import segments
from store.segment_conditions import parsed, words

__all__ = ["draw"]

_CHOSEN: Final = "segment_rule"
_COLUMNS: Final = {
    "who": st.column_config.TextColumn("who", width="large"),
    "set": st.column_config.DatetimeColumn("set (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC"),
    "users": st.column_config.NumberColumn("users", format="localized", help="As last counted."),
}


def draw() -> None:
    """The rules in force, the form of one, and earlier versions."""
    st.subheader("Segments", anchor=False, help=meaning("segment"))
    st.caption(
        "The first rule, by priority, whose conditions all hold decides a user's segment. A user whom no rule takes "
        "has the segment that their newest trace with one states in its metadata."
    )
    rules = data.fresh(segments.rules)
    if rules.is_empty():
        states.nothing(
            "There is no rule", "Every user has the segment that the metadata of their traces state, if any."
        )
    else:
        _table(rules)
    names = rules["segment"].to_list()
    if st.session_state.get(_CHOSEN) not in names:
        st.session_state[_CHOSEN] = None
    chosen = None
    if names:
        chosen = st.selectbox(
            "Rule",
            names,
            index=None,
            key=_CHOSEN,
            placeholder="A new rule",
            format_func=lambda name: one_line(name, 80),
        )
    held = next((row for row in rules.iter_rows(named=True) if row["segment"] == chosen), None)
    rule_form.draw(held)
    _history()


def _table(rules: pl.DataFrame) -> None:
    rows = pl.DataFrame([_row(rule) for rule in rules.iter_rows(named=True)], infer_schema_length=None)
    export.table(
        "segment rules", rows, hide_index=True, height=height(rows.height), column_config=fmt.columns(_COLUMNS),
        alt=f"{rows.height} rules of segments by priority, with how many users each takes",
    )  # fmt: skip


def _row(rule: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "priority": rule["priority"], "segment": one_line(rule["segment"], 80), "users": rule["users"],
        "who": _who(rule["conditions"]), "version": rule["version"], "reason": one_line(rule["reason"], 200),
        "by": one_line(rule["set_by"], 80), "set": rule["set_at"],
    }  # fmt: skip


def _history() -> None:
    rows = data.fresh(segments.history)
    if rows.is_empty():
        return
    with st.expander("Earlier versions"):
        table = [
            {
                "segment": one_line(row["segment"], 80), "version": row["version"],
                "who": "removed" if row["removed"] else _who(row["conditions"]), "priority": row["priority"],
                "reason": one_line(row["reason"], 200), "by": one_line(row["set_by"], 80), "set": row["set_at"],
            }
            for row in rows.iter_rows(named=True)
        ]  # fmt: skip
        export.table(
            "history of segment rules",
            pl.DataFrame(table, infer_schema_length=None), hide_index=True, height=height(rows.height),
            column_config=fmt.columns(_COLUMNS), alt=f"{rows.height} versions of rules of segments, newest first",
        )  # fmt: skip


def _who(conditions: str) -> str:
    return one_line(" and ".join(words(one) for one in parsed(conditions)), 300)
