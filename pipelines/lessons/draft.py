"""Lesson drafts written from a contrast, without a model: for operators to judge, never served unreviewed.

A finding becomes a lesson for its agent. Where no pattern of an agent survives, the most valuable group whose best and
worst rollout differ in their actions gives one draft, which says that it is a hypothesis. The text is made of our own
words and names of tools and arguments only; what traces say appears as quotes in the evidence.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl

from pipelines.lessons import wording
from pipelines.lessons.contrast import Contrast
from pipelines.lessons.evidence import Evidence, Pairs, of_group, of_pattern, step_of, written

__all__ = ["LessonDraft", "Proposal", "propose"]

_PAIRS = 3

Actions = Callable[[list[str]], pl.DataFrame]


@dataclass(frozen=True)
class LessonDraft:
    """Text and evidence of a lesson to review; `task` is None when it is for all tasks of the agent.

    `key` is the same for the same finding on later data, so that a nightly job proposes a lesson once. `tested` says
    whether an effect survived false-discovery control; if not, the draft is a hypothesis. `pattern` names the pattern
    of a tested one. `value` is what it could add to the outcomes of a day, summed over the traces it is about.
    """

    key: str
    agent: str
    task: str | None
    tested: bool
    pattern: str | None
    value: float
    title: str
    when_text: str
    when_not: str | None
    do_text: str
    why: str
    evidence: tuple[Evidence, ...]

    @property
    def text(self) -> str:
        """What an agent would read, in one piece."""
        return "\n".join(filter(None, (self.title, self.when_text, self.when_not, self.do_text)))


@dataclass(frozen=True)
class Proposal:
    """Drafts, and per agent without any the reason why there is none."""

    drafts: tuple[LessonDraft, ...]
    reasons: dict[str, str]


def propose(found: Contrast, groups: pl.DataFrame, read: Actions) -> Proposal:
    """Drafts for every agent with outcomes: tested ones first, then the most valuable.

    Args: `found` is the contrast; `groups` its groups with divergences, `uncovered` and `value`, the most valuable
    first (columns `store.contrasts.GROUPS`); `read` gives the actions (columns ACTIONS) of the traces that it is given.
    """
    drafts: list[LessonDraft] = []
    reasons: dict[str, str] = {}
    for agent in found.agents.filter(pl.col("traces") > pl.col("without_outcome"))["agent"].to_list():
        own_groups = groups.filter(pl.col("agent") == agent)
        new = _from_patterns(agent, found, own_groups, read) or _from_divergence(agent, found, own_groups, read)
        drafts += new
        if not new:
            reasons[agent] = _reason(own_groups.height)
    return Proposal(tuple(sorted(drafts, key=lambda one: (not one.tested, -one.value, one.key))), reasons)


def _reason(groups: int) -> str:
    if not groups:
        return "No task has rollouts with different outcomes, so there is nothing to contrast."
    return f"{groups} tasks have mixed outcomes, but no step of theirs can be named as the difference."


def _from_patterns(agent: str, found: Contrast, groups: pl.DataFrame, read: Actions) -> list[LessonDraft]:
    findings = found.patterns.filter(
        (pl.col("agent") == agent) & pl.col("survives") & pl.col("explained_by").is_null()
    ).sort("p_value", "pattern")
    used = found.used.filter(pl.col("agent") == agent)
    drafts = []
    for row in findings.iter_rows(named=True):
        names = (row["tool"], row["other_tool"], row["argument"])
        if not all(wording.writable(name) for name in names if name is not None):
            continue
        presence = found.presence.filter((pl.col("agent") == agent) & (pl.col("pattern") == row["pattern"]))
        pairs = of_pattern(row["effect"], presence, used, _PAIRS)
        if pairs.traces.is_empty():
            continue
        acted = read(pairs.traces["trace_id"].to_list())
        evidence = tuple(
            written(trace, step_of(row, acted.filter(pl.col("trace_id") == trace["trace_id"])))
            for trace in pairs.traces.iter_rows(named=True)
        )
        title, when_text, when_not, do_text = wording.pattern(row)
        drafts.append(
            LessonDraft(
                key=_key(agent, row["pattern"], "better" if row["effect"] > 0 else "worse"),
                agent=agent,
                task=pairs.tasks[0] if len(pairs.tasks) == 1 else None,
                tested=True,
                pattern=row["pattern"],
                value=_worth(row, presence, pairs, groups),
                title=title,
                when_text=when_text,
                when_not=when_not,
                do_text=do_text,
                why=wording.pattern_why(row),
                evidence=evidence,
            )
        )
    return drafts


def _worth(row: dict[str, Any], presence: pl.DataFrame, pairs: Pairs, groups: pl.DataFrame) -> float:
    """Traces a day of the compared tasks that lessons do not cover x share on the worse side x effect."""
    worse = presence["present"] if row["effect"] < 0 else ~presence["present"]
    traffic = groups.filter(pl.col("task").is_in(list(pairs.tasks)))
    per_day = float((traffic["traces_per_day"] * traffic["uncovered"]).sum())
    return per_day * float(worse.sum()) / max(presence.height, 1) * abs(float(row["effect"]))


def _from_divergence(agent: str, found: Contrast, groups: pl.DataFrame, read: Actions) -> list[LessonDraft]:
    for row in groups.filter(pl.col("kind") != "none").iter_rows(named=True):
        names = [row[side] for side in ("previous_action", "best_action", "worst_action") if row[side] is not None]
        if all(wording.writable(name) for name in names):
            return [_divergence_draft(row, found, read)]
    return []


def _divergence_draft(row: dict[str, Any], found: Contrast, read: Actions) -> LessonDraft:
    patterns = found.patterns.filter(pl.col("agent") == row["agent"])
    title, when_text, when_not, do_text = wording.divergence(row)
    pairs = of_group(row, found.used.filter(pl.col("agent") == row["agent"]))
    acted = read(pairs.traces["trace_id"].to_list())
    spans = {row["best_trace_id"]: row["best_span_id"], row["worst_trace_id"]: row["worst_span_id"]}
    evidence = []
    for trace in pairs.traces.iter_rows(named=True):
        span_id = spans.get(trace["trace_id"])
        own = acted.filter(trace_id=trace["trace_id"], span_id=span_id) if span_id is not None else acted.clear()
        evidence.append(written(trace, own.row(0, named=True) if own.height else None))
    actions_key = [str(row[column]) for column in ("previous_action", "best_action", "worst_action")]
    return LessonDraft(
        key=_key(row["agent"], row["task"], row["kind"], *actions_key),
        agent=row["agent"],
        task=row["task"],
        tested=False,
        pattern=None,
        value=float(row["value"]),
        title=title,
        when_text=when_text,
        when_not=when_not,
        do_text=do_text,
        why=wording.divergence_why(row, patterns.height, int(patterns["survives"].sum())),
        evidence=tuple(evidence),
    )


def _key(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
