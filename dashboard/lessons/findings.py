"""What lint found in a proposed text, and the way past it: edit the text, or override a finding by name."""

from typing import Any, Final, Literal

import polars as pl
import streamlit as st

from dashboard import data, runtime
from dashboard.access import offer
from dashboard.learn.actions import operator, perform
from dashboard.ui import format as fmt
from dashboard.ui.text import clean, line, markdown_safe, one_line
from store import lesson_lint
from store.lesson_lint import MAX_REASON

__all__ = ["RULES", "findings_panel", "standing"]

RULES: Final = {
    "literal": "literal of one customer",
    "length": "length",
    "imperative": "order copied from a trace",
    "injection": "attempt to take over the agent",
    "contradiction": "contradiction",
    "near_duplicate": "near duplicate",
    "no_contrast": "no contrast",
    "single_task": "answer of a single task",
    "taint": "words of users or tools",
}
"""The rules in words."""

_FIELDS: Final = {"title": "title", "when_text": "when", "when_not": "not when", "do_text": "do", "why": "why"}
_LOOKS: Final[dict[str, tuple[Literal["red", "orange", "gray"], str]]] = {
    "block": ("red", "block"),
    "warn": ("orange", "warning"),
    "note": ("gray", "info"),
}


def standing(lesson: dict[str, Any]) -> int:
    """How many blocking findings of a lesson's newest text nobody has overridden."""
    found = data.query(lesson_lint.counts, (lesson["lesson_id"],))
    return int(found["open"][0]) if found.height else 0


def findings_panel(lesson: dict[str, Any]) -> None:
    """The findings in the newest text of a lesson (a row of `store.lessons.LESSONS`), with overrides."""
    identity, version = lesson["lesson_id"], lesson["version"]
    found = data.query(lesson_lint.of, identity, version)
    passed = data.query(lesson_lint.overrides, identity, version)
    if found.is_empty():
        read = data.query(lesson_lint.checked_at, identity, version)
        st.caption("Lint found nothing." if read else "Lint has not read this text yet; approving reads it first.")
        _compared(identity, version)
        return
    blocks = found.filter(severity="block").height
    st.caption(
        f"Lint found {fmt.plural(found.height, 'thing')}"
        + (f", {blocks} of them in the way: edit the text, or override each by name." if blocks else ".")
    )
    for place, row in enumerate(found.iter_rows(named=True)):
        by = passed.filter((pl.col("rule") == row["rule"]) & pl.col("excerpt").eq_missing(pl.lit(row["excerpt"])))
        _finding(lesson, row, by.to_dicts(), place)
    _compared(identity, version)


def _compared(lesson_id: str, version: int) -> None:
    """By which method near duplicates were looked for, where that is not the one that was asked for with the reason."""
    how = data.query(lesson_lint.compared, lesson_id, version)
    if how is not None:
        told = f" {markdown_safe(one_line(how.reason, 400))}" if how.reason else ""
        st.caption(f"Other lessons were compared by {how.method}.{told}")


def _finding(lesson: dict[str, Any], row: dict[str, Any], passed: list[dict[str, Any]], place: int) -> None:
    colour, icon = _LOOKS[row["severity"]]
    with st.container(key=f"finding_{place}", gap=None):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.badge(RULES.get(row["rule"], row["rule"]), icon=f":material/{icon}:", color="gray" if passed else colour)
            if row["field"]:
                st.caption(f"in {_FIELDS.get(row['field'], row['field'])}")
            if row["severity"] == "block" and not passed:
                _override(lesson, row, place)
        line(row["message"])
        for one in passed:
            st.text(f"Overridden by {clean(one['operator'])}: {one_line(one['reason'], 300)}")


def _override(lesson: dict[str, Any], row: dict[str, Any], place: int) -> None:
    with (
        st.popover("Override", icon=":material/gavel:", type="tertiary"),
        st.form(f"override_form_{place}", border=False),
    ):
        st.caption("The finding stays on record with your name and reason, in the audit log too.")
        st.text_area(
            "Why does it not stand in the way?", key=f"override_reason_{place}", max_chars=MAX_REASON, height=90
        )
        offer.submit(
            "Override this finding", type="primary", key=f"override_{place}", on_click=_overridden,
            args=(lesson["lesson_id"], lesson["version"], row["rule"], row["excerpt"], place),
        )  # fmt: skip


def _overridden(lesson_id: str, version: int, rule: str, excerpt: str | None, place: int) -> None:
    store, reason = runtime.current().store, str(st.session_state[f"override_reason_{place}"])

    def work() -> str:
        lesson_lint.override(store, lesson_id, version, rule, excerpt, reason=reason, operator=operator())
        return f"Overridden: {RULES.get(rule, rule)}."

    perform(work)
