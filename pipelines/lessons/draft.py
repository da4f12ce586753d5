"""Lesson drafts written from a contrast, without a model: for operators to judge, never served unreviewed.

A tested pattern becomes a lesson for its agent. Where no pattern of an agent survives, the most valuable mixed group
whose best and worst rollout differ in their actions gives one draft, which says that it is a hypothesis. The text is
made of our own words and tool names only; what traces say appears as quotes in the evidence.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import polars as pl

from pipelines.lessons import wording
from pipelines.lessons.contrast import ROLLOUTS, Contrast, ContrastConfig, actions
from pipelines.stats.contract import require

__all__ = ["DraftConfig", "Evidence", "LessonDraft", "Proposal", "propose"]


@dataclass(frozen=True)
class DraftConfig:
    """How many drafts an agent may get from one contrast, and how much evidence a draft carries."""

    drafts_per_agent: int = 3
    evidence_per_role: int = 3
    quote_characters: int = 200


@dataclass(frozen=True)
class Evidence:
    """One trace behind a draft. `role` is good or bad; `span_id` and `quote` are of the step in question, if any."""

    trace_id: str
    span_id: str | None
    role: str
    reward: float
    reward_sd: float
    quote: str | None


@dataclass(frozen=True)
class LessonDraft:
    """Text and evidence of a lesson to review; `task` is None when it is for all tasks of the agent.

    `key` is the same for the same finding on later data, so that a nightly job proposes a lesson once. `tested` says
    whether an effect survived false-discovery control; if not, the draft is a hypothesis.
    """

    key: str
    agent: str
    task: str | None
    tested: bool
    title: str
    when_text: str
    when_not: str | None
    do_text: str
    why: str
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True)
class Proposal:
    """Drafts, and per agent without any the reason why there is none."""

    drafts: tuple[LessonDraft, ...]
    reasons: dict[str, str]


def propose(
    found: Contrast,
    rollouts: pl.DataFrame,
    steps: pl.DataFrame,
    config: DraftConfig | None = None,
    contrast_config: ContrastConfig | None = None,
) -> Proposal:
    """Drafts for every agent with observed rollouts, from the contrast `found` of the same `rollouts` and `steps`."""
    config = config or DraftConfig()
    rollouts = require(rollouts, ROLLOUTS, "rollouts", not_null=["trace_id"], unique="trace_id").drop_nulls()
    acted = actions(steps, contrast_config)
    drafts: list[LessonDraft] = []
    reasons: dict[str, str] = {}
    for agent in rollouts["agent"].unique().sort():
        own = rollouts.filter(pl.col("agent") == agent)
        new = _from_patterns(agent, found, own, acted, config) or _from_divergence(agent, found, own, acted, config)
        drafts += new
        if not new:
            reasons[agent] = _reason(agent, found)
    return Proposal(tuple(drafts), reasons)


def _reason(agent: str, found: Contrast) -> str:
    groups = found.groups.filter(pl.col("agent") == agent).height
    if not groups:
        return "No task has rollouts with different outcomes, so there is nothing to contrast."
    return f"{groups} tasks have mixed outcomes, but no step of theirs can be named as the difference."


def _from_patterns(
    agent: str, found: Contrast, own: pl.DataFrame, acted: pl.DataFrame, config: DraftConfig
) -> list[LessonDraft]:
    survivors = found.patterns.filter((pl.col("agent") == agent) & pl.col("survives")).sort("p_value", "pattern")
    drafts = []
    for row in survivors.iter_rows(named=True):
        if not all(wording.writable(name) for name in (row["tool"], row["other_tool"]) if name is not None):
            continue
        presence = found.presence.filter((pl.col("agent") == agent) & (pl.col("pattern") == row["pattern"]))
        compared = own.join(presence.select("trace_id", "present"), on="trace_id")
        both = pl.col("present").any().over("task") & (~pl.col("present")).any().over("task")
        compared = compared.filter(both)
        tasks = compared["task"].unique()
        title, when_text, when_not, do_text = wording.pattern(row)
        drafts.append(
            LessonDraft(
                key=_key(agent, row["pattern"], "better" if row["effect"] > 0 else "worse"),
                agent=agent,
                task=tasks[0] if tasks.len() == 1 else None,
                tested=True,
                title=title,
                when_text=when_text,
                when_not=when_not,
                do_text=do_text,
                why=wording.pattern_why(row),
                evidence=_pattern_evidence(row, compared, acted, config),
            )
        )
    return drafts[: config.drafts_per_agent]


def _pattern_evidence(
    row: dict[str, Any], compared: pl.DataFrame, acted: pl.DataFrame, config: DraftConfig
) -> tuple[Evidence, ...]:
    """The clearest traces for the claim: good ones on the better side and bad ones on the worse side of it."""
    better_side = pl.col("present") if row["effect"] > 0 else ~pl.col("present")
    middle = (pl.col("outcome").min() + pl.col("outcome").max()) / 2
    evidence = []
    for role, side, sorting in (("good", better_side, [True, False]), ("bad", ~better_side, [False, False])):
        fits = pl.col("outcome") > middle if role == "good" else pl.col("outcome") <= middle
        chosen = compared.filter(side & fits).sort(["reward", "trace_id"], descending=sorting)
        for trace in chosen.head(config.evidence_per_role).iter_rows(named=True):
            own = acted.filter(pl.col("trace_id") == trace["trace_id"])
            span = _pattern_span(row, own) if trace["present"] or row["kind"] == "order" else None
            evidence.append(_evidence(trace, role, span, config))
    return tuple(evidence)


def _pattern_span(row: dict[str, Any], own: pl.DataFrame) -> dict[str, Any] | None:
    """The step that makes the pattern present in a trace; of an order, whichever of the two came first."""
    calls = own.filter(pl.col("name").is_in([row["tool"], row["other_tool"] or row["tool"]]))
    if row["kind"] == "error_then_continue":
        calls = calls.filter("failed").tail(1)
    elif row["kind"] == "repeated":
        calls = calls.filter(pl.col("arguments").is_not_null() & ~pl.col("arguments").is_first_distinct())
    return calls.row(0, named=True) if calls.height else None


def _from_divergence(
    agent: str, found: Contrast, own: pl.DataFrame, acted: pl.DataFrame, config: DraftConfig
) -> list[LessonDraft]:
    groups = found.groups.filter(pl.col("agent") == agent)
    pairs = groups.join(found.divergences, on=["agent", "task"], maintain_order="left")
    for row in pairs.filter(pl.col("kind") != "none").iter_rows(named=True):
        names = [row[side] for side in ("previous_action", "best_action", "worst_action") if row[side] is not None]
        if all(wording.writable(name) for name in names):
            return [_divergence_draft(row, found, own, acted, config)]
    return []


def _divergence_draft(
    row: dict[str, Any], found: Contrast, own: pl.DataFrame, acted: pl.DataFrame, config: DraftConfig
) -> LessonDraft:
    patterns = found.patterns.filter(pl.col("agent") == row["agent"])
    title, when_text, when_not, do_text = wording.divergence(row)
    traces = {trace["trace_id"]: trace for trace in own.iter_rows(named=True)}
    evidence = []
    for role, side in (("good", "best"), ("bad", "worst")):
        trace_id, span_id = row[f"{side}_trace_id"], row[f"{side}_span_id"]
        spans = acted.filter(trace_id=trace_id, span_id=span_id) if span_id is not None else acted.clear()
        evidence.append(_evidence(traces[trace_id], role, spans.row(0, named=True) if spans.height else None, config))
    actions_key = [str(row[column]) for column in ("previous_action", "best_action", "worst_action")]
    return LessonDraft(
        key=_key(row["agent"], row["task"], row["kind"], *actions_key),
        agent=row["agent"],
        task=row["task"],
        tested=False,
        title=title,
        when_text=when_text,
        when_not=when_not,
        do_text=do_text,
        why=wording.divergence_why(row, patterns.height, int(patterns["survives"].sum())),
        evidence=tuple(evidence),
    )


def _evidence(trace: dict[str, Any], role: str, span: dict[str, Any] | None, config: DraftConfig) -> Evidence:
    quote = None
    if span is not None:
        said = f"{span['name']}({span['input'] or ''}) -> {span['output'] or ''}"
        quote = " ".join(said.split())
        if len(quote) > config.quote_characters:
            quote = quote[: config.quote_characters - 1] + "…"
    return Evidence(
        trace_id=trace["trace_id"],
        span_id=span["span_id"] if span else None,
        role=role,
        reward=trace["reward"],
        reward_sd=trace["reward_sd"],
        quote=quote,
    )


def _key(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
