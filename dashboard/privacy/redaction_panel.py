"""What is taken out of texts before they are stored: rules by source, and a field to try them on."""

from typing import Final

import polars as pl
import streamlit as st

from dashboard import data, runtime
from dashboard.access import offer
from dashboard.learn import tables
from dashboard.learn.actions import operator, perform
from dashboard.ui import export
from dashboard.ui import format as fmt
from dashboard.ui.text import one_line
from pipelines.privacy.redaction import BUILTINS, Redactor, checked
from store import redaction
from store.errors import ActionRefused
from store.redaction import EVERY_SOURCE, Rules

__all__ = ["draw"]

_SOURCE: Final = "redact_source"


def draw() -> None:
    """The rules, the form that sets them, and a try."""
    st.markdown("**Redaction**")
    st.caption(
        "Before anything is stored, for what comes from now on, and for good: nobody can bring back what was taken "
        "out. Ids are not touched."
    )
    held = data.fresh(redaction.listed)
    if held.is_empty():
        st.caption("Nothing is redacted.")
    else:
        _table(held)
    left, right = st.columns(2, gap="large")
    with left:
        source = (
            st.text_input("Source", EVERY_SOURCE, key=_SOURCE, max_chars=200, help="* is every other one") or ""
        ).strip()
        _form(source or EVERY_SOURCE, held)
    with right:
        _try(source or EVERY_SOURCE)


def _table(held: pl.DataFrame) -> None:
    export.table(
        "redaction",
        pl.DataFrame(
            {
                "source": [one_line(name, 120) for name in held["source"]],
                "taken out": [", ".join(names) or "nothing" for names in held["builtins"]],
                "own patterns": [one_line(text, 300) for text in held["patterns"]],
                "by": [one_line(name, 120) for name in held["set_by"]], "since": held["set_at"],
            }
        ),
        hide_index=True, height=tables.height(held.height), alt=f"Redaction of {held.height} sources",
        column_config=fmt.columns({
            "since": st.column_config.DatetimeColumn("since (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC")
        }),
    )  # fmt: skip


def _form(source: str, held: pl.DataFrame) -> None:
    rules = redaction.of(runtime.current().store, source)
    with st.form(f"redact_{source}", clear_on_submit=False):
        st.multiselect(
            "Take out", list(dict.fromkeys([*BUILTINS, *rules.builtins])), list(rules.builtins),
            key=f"redact_builtins_{source}", format_func=lambda name: f"{name}: {BUILTINS.get(name, name)}",
            accept_new_options=True,
        )  # fmt: skip
        st.text_area(
            "Own patterns", "\n".join(f"{name}: {pattern}" for name, pattern in rules.patterns),
            key=f"redact_patterns_{source}", placeholder="ticket: TCK-[0-9]{6}", max_chars=12_000,
            help="One a line, name: regular expression (Rust's syntax; no look-around). The name stands in its place.",
        )  # fmt: skip
        set_it, take_back = st.columns(2)
        with set_it:
            offer.submit("Set", role="admin", type="primary", key=f"redact_set_{source}", on_click=_set, args=(source,))
        with take_back:
            offer.submit(
                "Remove the entry", role="admin", key=f"redact_remove_{source}", on_click=_removed, args=(source,),
                disabled=source not in held["source"].to_list(),
            )  # fmt: skip


def _stated(source: str) -> Rules:
    """The rules that the form states. Raises: `ActionRefused`."""
    read = st.session_state
    patterns = []
    for line in str(read.get(f"redact_patterns_{source}") or "").splitlines():
        if line.strip():
            name, colon, pattern = line.partition(":")
            if not colon:
                raise ActionRefused("Set redaction", f"{line[:60]!r} has no name.", "Write name: pattern.")
            patterns.append((name.strip(), pattern.strip()))
    return checked(list(read.get(f"redact_builtins_{source}") or ()), patterns)


def _set(source: str) -> None:
    def work() -> str:
        redaction.put(runtime.current().store, source, _stated(source), by=operator())
        return f"What comes of source {source} from now on is redacted so."

    perform(work, role="admin")


def _removed(source: str) -> None:
    def work() -> str:
        redaction.remove(runtime.current().store, source, by=operator())
        return f"Source {source} has no entry of its own any more."

    perform(work, role="admin")


def _try(source: str) -> None:
    text = st.text_area("Try the rules of the form on a text", key="redact_text", max_chars=20_000, height=140)
    st.button("Show what it would become", key="redact_try", icon=":material/visibility_off:")
    if not text:
        return
    try:
        done = Redactor(_stated(source)).text(text)
    except ActionRefused as refused:
        st.text(str(refused))
        return
    st.code(done, language=None, wrap_lines=True)
