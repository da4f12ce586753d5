"""What approving a lesson would touch: how many traces and users, and the playbook it would join."""

from typing import Any

import streamlit as st

from dashboard import data, runtime
from dashboard.ui import format as fmt
from dashboard.ui.text import markdown_safe
from pipelines.lessons.playbook import PlaybookConfig
from store import lessons, playbooks

__all__ = ["reach_panel"]


def reach_panel(lesson: dict[str, Any]) -> None:
    """The blast radius of a lesson (a row of `store.lessons.LESSONS`), from the last seven days."""
    now = runtime.current().clock.now().replace(second=0, microsecond=0)
    reach = data.query(lessons.blast_radius, lesson["agent"], lesson["task"], now)
    scope = "every task" if lesson["task"] is None else "this task only"
    st.caption(f"Blast radius: agent {markdown_safe(lesson['agent'])}, {scope}, last {lessons.BLAST_DAYS} days")
    left, right = st.columns(2)
    left.metric("traces per day", _per_day(reach.traces_per_day), help=f"{fmt.count(reach.traces)} traces in all")
    right.metric("users", fmt.count(reach.users), help="Users named by these traces")
    if reach.traces == 0:
        latest = fmt.relative(reach.latest, now) if reach.latest else "never"
        st.caption(f"No trace in these days; the newest is of {latest}.")
    books = data.query(playbooks.latest).filter(agent=lesson["agent"])
    budget = PlaybookConfig().token_budget
    if books.is_empty():
        st.caption(f"Approving makes the first playbook of this agent (budget {budget:,} tokens).")
    else:
        book = books.row(0, named=True)
        st.caption(
            f"Approving adds it to playbook version {book['version']}, which has "
            f"{fmt.plural(len(book['lesson_ids']), 'lesson')} and about {book['tokens']:,} of {budget:,} tokens."
        )


def _per_day(traces: float) -> str:
    return fmt.count(round(traces)) if traces >= 10 else f"{traces:.1f}"
