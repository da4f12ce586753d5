"""What approving a lesson would touch: how many requests and users, the tokens it costs, and the playbook it joins."""

from typing import Any

import streamlit as st

from dashboard import data, runtime
from dashboard.lessons.words import scope_words
from dashboard.ui import format as fmt
from pipelines.lessons.paragraphs import block, estimate_tokens
from store import lesson_settings, lessons, playbooks

__all__ = ["reach_panel"]


def reach_panel(lesson: dict[str, Any]) -> None:
    """The blast radius of a lesson (a row of `store.lessons.LESSONS`), from the last seven days."""
    now = runtime.current().clock.now().replace(second=0, microsecond=0)
    reach = data.query(
        lessons.blast_radius, lesson["agent"], lesson["task"], now, segment=lesson["segment"],
        user_id=lesson["user_id"],
    )  # fmt: skip
    rules = data.query(lesson_settings.of, lesson["agent"])
    tokens = estimate_tokens("\n\n" + block(lesson))
    st.caption(f"Blast radius, last {lessons.BLAST_DAYS} days")
    st.text(scope_words(lesson))
    with st.container(horizontal=True):
        st.metric(
            "requests per day", _per_day(reach.traces_per_day), help=f"{fmt.count(reach.traces)} traces in all",
            width="content",
        )  # fmt: skip
        st.metric("users", fmt.count(reach.users), help="Users named by these traces", width="content")
        st.metric(
            "tokens per day", fmt.count(round(tokens * reach.traces_per_day)), width="content",
            help=f"About {tokens} tokens in each answer, if every one of these requests matches.",
        )  # fmt: skip
    if reach.traces == 0:
        latest = fmt.relative(reach.latest, now) if reach.latest else "never"
        st.caption(f"No such trace in these days; the newest is of {latest}.")
    held = data.query(playbooks.in_force, lesson["agent"])
    if rules.serving_off:
        st.warning("Nothing is served to this agent now: the kill switch is on.", icon=":material/power_off:")
    elif held is None or not held.entries:
        st.caption(f"It would be the first lesson of this agent (budget {rules.token_budget:,} tokens an answer).")
    else:
        st.caption(
            f"Joins playbook version {held.version}: {fmt.plural(len(held.entries), 'lesson')}, about {held.tokens:,} "
            f"tokens together; an answer has room for {rules.token_budget:,}."
        )


def _per_day(traces: float) -> str:
    return fmt.count(round(traces)) if traces >= 10 else f"{traces:.1f}"
