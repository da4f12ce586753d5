"""The form of a rule: its conditions, whom it would take, and saving it once that was seen."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import data, runtime
from dashboard.access import offer
from dashboard.learn.actions import operator, perform
from dashboard.learn.tables import height
from dashboard.ui import export
from dashboard.ui import format as fmt
from dashboard.ui.text import one_line
from store import segment_members, segments
from store.errors import ActionRefused, JobAlreadyRunning, JobError
from store.frames import each
from store.segment_conditions import TESTS, Condition, Field, parsed
from store.segment_members import Preview
from store.segments import Rule

__all__ = ["draw"]

_PREVIEW: Final = "segment_preview"
_MOST: Final = 10
_VALUES_LABEL: Final[dict[Field, str]] = {
    "metadata": "Values, one a line",
    "agent": "Agents, one a line",
    "traces": "Number of traces",
    "first seen": "Date (YYYY-MM-DD) or number of days",
}


def draw(held: Mapping[str, Any] | None) -> None:
    """The form of a new rule, or of the rule in this row of `segments.RULES`."""
    prefix = "segment_new" if held is None else f"segment_{held['segment']}_{held['version']}"
    present = parsed(held["conditions"]) if held else ()
    with st.container(border=True):
        st.markdown("**A new rule**" if held is None else "**Change this rule**")
        name = held["segment"] if held else st.text_input("Segment", key=f"{prefix}_name", max_chars=200)
        priority = st.number_input(
            "Priority", 0, 10_000, held["priority"] if held else 100, key=f"{prefix}_priority",
            help="Of several rules that match a user the lowest number decides.",
        )  # fmt: skip
        count = st.number_input("Conditions, all of which have to hold", 1, _MOST, max(len(present), 1),
                                key=f"{prefix}_count")  # fmt: skip
        stated = [_condition(f"{prefix}_{place}", present, place) for place in range(int(count))]
        rule = Rule(str(name), int(priority), tuple(stated))
        st.button("Preview", key=f"{prefix}_preview", icon=":material/visibility:", on_click=_previewed, args=(rule,))
        kept: tuple[Rule, Preview | None, str] | None = st.session_state.get(_PREVIEW)
        seen = kept[1] if kept is not None and kept[0] == rule else None
        if kept is not None and kept[0] == rule and seen is None:
            st.warning("This rule cannot be previewed.", icon=":material/block:")
            st.text(kept[2])
        if seen is not None:
            _show(seen)
        st.text_input("Reason", key=f"{prefix}_reason", max_chars=500, placeholder="Why, for whoever reads the log")
        with st.container(horizontal=True):
            offer.button(
                "Save", key=f"{prefix}_save", type="primary", icon=":material/save:", disabled=seen is None,
                role="admin", on_click=_saved, args=(rule, f"{prefix}_reason"),
                help="Preview it first." if seen is None else "It takes effect within a minute or so.",
            )  # fmt: skip
            if held is not None:
                with st.popover("Remove", icon=":material/delete:", key=f"{prefix}_remove"):
                    st.text("Its users get the next rule's segment, or what their metadata state.")
                    offer.button(
                        "Remove this rule", role="admin", key=f"{prefix}_removed", type="primary", on_click=_removed,
                        args=(rule.segment, f"{prefix}_reason"),
                    )  # fmt: skip


def _condition(prefix: str, present: Sequence[Condition], place: int) -> Condition:
    """The widgets of one condition; those that do not apply to the field are not drawn."""
    before = present[place] if place < len(present) else None
    with st.container(horizontal=True, vertical_alignment="bottom"):
        fields: list[Field] = list(TESTS)
        field = st.selectbox("Of the user's", fields, fields.index(before.field) if before else 0,
                             key=f"{prefix}_field")  # fmt: skip
        same = before if before is not None and before.field == field else None
        key = None
        if field == "metadata":
            key = st.text_input("Key", (same and same.key) or "", key=f"{prefix}_key", placeholder="plan")
        tests = TESTS[field]
        test = st.selectbox("Test", tests, tests.index(same.test) if same else 0, key=f"{prefix}_{field}_test")
        values: tuple[str, ...] = ()
        if test not in ("is stated", "is not stated"):
            text = "\n".join(same.values) if same else ""
            label = _VALUES_LABEL[field]
            if field in ("metadata", "agent"):
                values = tuple(st.text_area(label, text, key=f"{prefix}_{field}_values", height=68).splitlines())
            else:
                values = (st.text_input(label, text, key=f"{prefix}_{field}_values"),)
    return Condition(field, str(test), values, key)


def _show(seen: Preview) -> None:
    also = seen.matching - seen.taken
    st.text(
        f"{fmt.plural(seen.taken, 'user')} of {seen.users:,} would be in this segment by the rule."
        + (f" {also:,} more match it, but a rule before it takes them." if also > 0 else "")
    )
    if seen.moved.is_empty():
        st.caption("Nobody would change segment.")
        return
    table = seen.moved.select(
        each(seen.moved["before"].fill_null("none"), one_line, pl.String).alias("from"),
        each(seen.moved["after"].fill_null("none"), one_line, pl.String).alias("to"),
        "users",
    )
    export.table(
        "who would change segment",
        table,
        hide_index=True,
        height=height(table.height),
        alt="Who would change segment, from which to which",
    )


def _previewed(rule: Rule) -> None:
    try:
        st.session_state[_PREVIEW] = (rule, data.fresh(segment_members.preview, rule), "")
    except ActionRefused as refused:
        st.session_state[_PREVIEW] = (rule, None, str(refused))


def _saved(rule: Rule, reason: str) -> None:
    def work() -> str:
        version = segments.put(
            runtime.current().store, rule, reason=str(st.session_state.get(reason, "")), operator=operator()
        )
        return f"Version {version} of the rule is saved. {_apply()}"

    perform(work, role="admin")


def _removed(segment: str, reason: str) -> None:
    def work() -> str:
        segments.remove(
            runtime.current().store, segment, reason=str(st.session_state.get(reason, "")), operator=operator()
        )
        return f"The rule is removed. {_apply()}"

    perform(work, role="admin")


def _apply() -> str:
    """Have the rules applied now; what reads segments follows by its own schedule."""
    try:
        runtime.current().runner.start("segments")
    except JobAlreadyRunning:
        return "It is applied when the present count is done."
    except JobError as error:
        return f"It could not be applied at once: {error}"
    return "It is being applied; policies and lists follow."
