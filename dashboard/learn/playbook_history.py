"""Playbooks: what an agent is served now, every version there was, and the difference between two of them."""

from difflib import unified_diff
from typing import Final

import polars as pl
import streamlit as st

from dashboard import data
from dashboard.learn import tables
from dashboard.ui import format as fmt
from dashboard.ui import states
from dashboard.ui.text import block, clean
from pipelines.lessons.playbook import PlaybookConfig
from store import playbooks

__all__ = ["difference", "panel"]

_WHOLE: Final = 100_000


def panel(books: pl.DataFrame) -> None:
    """The playbook of one agent (`books` are the newest versions, columns `store.playbooks.VERSIONS`)."""
    if books.is_empty():
        states.nothing(
            "No playbook yet", "A playbook is written when the first lesson of an agent is approved in Review."
        )
        return
    agent = st.selectbox("Agent", books["agent"].to_list(), key="playbook", bind="query-params")
    versions = data.query(playbooks.versions, agent)
    newest = versions.row(0, named=True)
    budget = PlaybookConfig().token_budget
    st.caption(
        f"Version {newest['version']} of {fmt.utc(newest['created_at'], seconds=False)}: "
        f"{fmt.plural(len(newest['lesson_ids']), 'lesson')}, about {newest['tokens']:,} of {budget:,} tokens. "
        "This is the text that the agent reads, character by character."
    )
    block(newest["body"], limit=_WHOLE, empty="Empty: no lesson of this agent is active.")
    st.markdown("**Versions**")
    st.dataframe(
        versions.select(
            "version",
            pl.col("created_at").alias("written"),
            pl.col("cause").alias("because of"),
            pl.col("lesson_ids").list.len().alias("lessons"),
            "tokens",
        ),
        hide_index=True,
        height=tables.height(versions.height),
        column_config={"written": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm:ss", timezone="UTC")},
        alt=f"{versions.height} versions of the playbook",
    )
    if versions.height > 1:
        _compare(versions)


def _compare(versions: pl.DataFrame) -> None:
    numbers = versions["version"].to_list()
    left, right = st.columns(2)
    before = left.selectbox("Compare version", numbers, index=1, key="before", bind="query-params")
    after = right.selectbox("with version", numbers, index=0, key="after", bind="query-params")
    bodies = dict(versions.select("version", "body").iter_rows())
    changed = difference(bodies[before], bodies[after], f"version {before}", f"version {after}")
    if changed:
        st.code(clean(changed), language="diff", wrap_lines=True)
    else:
        st.caption("The two versions read the same.")


def difference(before: str, after: str, before_name: str, after_name: str) -> str:
    """What changed from one text to the other as a unified diff; empty when they are equal."""
    lines = unified_diff(before.splitlines(), after.splitlines(), before_name, after_name, lineterm="", n=2)
    return "\n".join(lines)
