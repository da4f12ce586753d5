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
    tokens = estimate_tokens("\n\n" + block(lesson))
    st.caption(f"Blast radius, last {lessons.BLAST_DAYS} days")
    st.text(scope_words(lesson))
    with st.container(horizontal=True):
        st.metric(
            "requests per day", _per_day(reach.traces_per_day), help=f"{fmt.count(reach.traces)} traces in all",
            width="content",
        )  # fmt: skip
        st.metric("agents", fmt.count(reach.agents), help="Agents that ran these traces", width="content")
        st.metric("users", fmt.count(reach.users), help="Users named by these traces", width="content")
        st.metric(
            "tokens per day", fmt.count(round(tokens * reach.traces_per_day)), width="content",
            help=f"About {tokens} tokens in each answer, if every one of these requests matches.",
        )  # fmt: skip
    if reach.traces == 0:
        latest = fmt.relative(reach.latest, now) if reach.latest else "never"
        st.caption(f"No such trace in these days; the newest is of {latest}.")
    if lesson["agent"] == "*":
        _every_playbook(tokens)
    else:
        _playbook(lesson["agent"])


def _playbook(agent: str) -> None:
    held, rules = data.query(playbooks.in_force, agent), data.query(lesson_settings.of, agent)
    if rules.serving_off:
        st.warning("Nothing is served to this agent now: the kill switch is on.", icon=":material/power_off:")
    elif held is None or not held.entries:
        st.caption(f"It would be the first lesson of this agent (budget {rules.token_budget:,} tokens an answer).")
    else:
        st.caption(
            f"Joins playbook version {held.version}: {fmt.plural(len(held.entries), 'lesson')}, about {held.tokens:,} "
            f"tokens together; an answer has room for {rules.token_budget:,}."
        )


def _every_playbook(tokens: int) -> None:
    """Where a lesson for every agent goes, and whose budget has no room for it (`tokens` of its own)."""
    held = data.query(playbooks.latest)
    if held.is_empty():
        st.caption("It would be the first lesson of every agent.")
        return
    served = {agent: data.query(lesson_settings.of, agent) for agent in held["agent"]}
    off = sum(bool(rules.serving_off) for rules in served.values())
    full = [row["agent"] for row in held.iter_rows(named=True)
            if row["tokens"] + tokens > served[row["agent"]].token_budget]  # fmt: skip
    stopped = f" The kill switch is on for {fmt.plural(off, 'agent')}." if off else ""
    tight = (
        f" In {fmt.plural(len(full), 'playbook')} more is held than an answer has room for: requests choose."
        if full else ""
    )  # fmt: skip
    st.caption(f"Joins the playbooks of {fmt.plural(held.height, 'agent')}.{stopped}{tight}")


def _per_day(traces: float) -> str:
    return fmt.count(round(traces)) if traces >= 10 else f"{traces:.1f}"
