"""The job `lessons`: contrasts good and bad rollouts of the same task, and proposes lessons from what separates them.

What the contrast found is kept for the page. What it proposes waits in Review. A finding is proposed once: its id is a
hash of agent, task and pattern, and an id that exists in any state is left out. A run proposes at most
`MOST_PROPOSALS`, tested effects before hypotheses, then by value: what it could add to the outcomes of a day. What
repeats a lesson that is served while its task still fails is not proposed but marked for a person
(`pipelines.lessons.stop_rule`).
"""

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Final

import polars as pl

from pipelines.jobs import JobResult
from pipelines.lessons import coverage, draft, evidence
from pipelines.lessons.actions import CALLS, actions, compact
from pipelines.lessons.contrast import Contrast, ContrastConfig, contrast
from pipelines.lessons.divergence import first_differences
from pipelines.lessons.lint import gather
from pipelines.lessons.stop_rule import Standing, Stopped
from pipelines.rewards.job import EVIDENCE_KINDS
from pipelines.rewards.observations import observe
from store import contrasts, failures, lessons, meta, rewards
from store.connection import Store
from store.version import code_version

if TYPE_CHECKING:
    from pipelines.jobs import JobContext

__all__ = ["MOST_PROPOSALS", "examine", "read_calls", "run"]

MOST_PROPOSALS = 5
_READ_TOGETHER: Final = 50_000  # traces whose calls are read in one query


@dataclass(frozen=True)
class Examined:
    """What a contrast found, for the store; the drafts it leads to; what the stop rule held back, by draft key."""

    found: contrasts.Found
    proposal: draft.Proposal
    stopped: dict[str, Stopped]
    data_version: int


def run(context: "JobContext") -> JobResult:
    """Contrast, keep what was found and propose lessons; `rows` counts the new proposals."""
    store, config = context.store, ContrastConfig()
    context.progress(0.0, "contrasting good and bad rollouts")
    examined = context.compute(examine, store, config)
    if examined is None:
        return JobResult(0, "No task has two or more rollouts with a reward of their own.")
    context.progress(0.8, "writing what was found")
    known = lessons.known(store)
    fresh = [one for one in examined.proposal.drafts if one.key not in known and one.key not in examined.stopped]
    chosen = fresh[:MOST_PROPOSALS]
    added = lessons.propose(store, _proposals(chosen), _evidence(chosen), origin="contrast", trust="system")
    for lesson_id in added:
        gather.check(store, lesson_id)
    labels = failures.latest_run(store)
    contrasts.publish(
        store,
        _marked(examined, known | set(added)),
        data_version=examined.data_version,
        code_version=code_version(),
        reward_model_id=failures.active_model(store),
        failure_run_id=labels["run_id"] if labels is not None else None,
        parameters={"config": asdict(config), "most_proposals": MOST_PROPOSALS},
    )
    return JobResult(len(added), _message(len(added), examined, len(fresh) - len(chosen)))


def examine(store: Store, config: ContrastConfig) -> Examined | None:
    """Contrast the rollouts of a store and draft lessons, writing nothing; None where no rollout has an outcome."""
    version = meta.data_version(store)
    rollouts = _with_outcomes(store, contrasts.rollouts(store))
    if rollouts["outcome"].null_count() == rollouts.height:
        return None
    compared = rollouts.filter(pl.col("outcome").is_not_null() & (pl.len().over("agent", "task") > 1))
    calls = read_calls(store, compared["trace_id"].to_list())
    found = contrast(rollouts, calls, config)
    groups = _valued(store, found, rollouts, calls)

    def read(trace_ids: list[str]) -> pl.DataFrame:
        return actions(lessons.steps(store, trace_ids, config.action_kinds), config.action_kinds)

    proposal = draft.propose(found, groups, read)
    stopped = _stopped(Standing(contrasts.served(store)), proposal, found, rollouts)
    notes = pl.DataFrame(list(proposal.reasons.items()), schema={"agent": pl.String, "reason": pl.String}, orient="row")
    agents = found.agents.join(notes, on="agent", how="left", maintain_order="left").with_columns(note=pl.col("reason"))
    return Examined(contrasts.Found(agents.drop("reason"), groups, found.patterns), proposal, stopped, version)


def _with_outcomes(store: Store, rollouts: pl.DataFrame) -> pl.DataFrame:
    """Rollouts whose agents' outcomes the reward model does not know get what their signals say, from 0 to 1."""
    unknown = rollouts.filter(pl.col("outcome").is_null().all().over("agent") & pl.col("reward").is_not_null())
    if unknown.is_empty():
        return rollouts
    seen = observe(rewards.signals(store, EVIDENCE_KINDS)).frame.select("trace_id", observed="outcome")
    own = seen.join(unknown.select("trace_id"), on="trace_id", how="semi")
    return (
        rollouts.join(own, on="trace_id", how="left", maintain_order="left")
        .with_columns(outcome=pl.coalesce("outcome", "observed"))
        .drop("observed")
    )


def read_calls(store: Store, trace_ids: list[str]) -> pl.DataFrame:
    """The calls of these traces (columns CALLS), read and made compact part by part."""
    parts = [pl.DataFrame(schema=CALLS)]
    for start in range(0, len(trace_ids), _READ_TOGETHER):
        parts.append(compact(failures.calls(store, trace_ids[start : start + _READ_TOGETHER])))
    return pl.concat(parts)


def _valued(store: Store, found: Contrast, rollouts: pl.DataFrame, calls: pl.DataFrame) -> pl.DataFrame:
    """The groups with divergences, coverage and value (columns `store.contrasts.GROUPS`), the most valuable first."""
    ends = pl.concat([found.groups["best_trace_id"], found.groups["worst_trace_id"]]).unique().sort().to_list()
    differences = first_differences(found.groups, failures.calls(store, ends))
    served = contrasts.served(store)
    users = served["user_id"].drop_nulls().unique().sort().to_list()
    keys = rollouts.select("trace_key", "agent", "task")
    tools = calls.select("trace_key", "name").join(keys, on="trace_key").select("agent", "task", "name").unique()
    left = coverage.uncovered(
        found.groups.select("agent", "task"), served, contrasts.requests(store), tools,
        contrasts.user_shares(store, users),
    )  # fmt: skip
    valued = found.groups.join(differences, on=["agent", "task"], maintain_order="left").with_columns(
        uncovered=left, escalate=pl.lit(None, pl.String)
    )
    return (
        valued.with_columns(value=pl.col("traces_per_day") * pl.col("sd_outcome") * pl.col("uncovered"))
        .sort(["value", "agent", "task"], descending=[True, False, False])
        .select(list(contrasts.GROUPS))
        .cast(contrasts.GROUPS)
    )


def _stopped(
    standing: Standing, proposal: draft.Proposal, found: Contrast, rollouts: pl.DataFrame
) -> dict[str, Stopped]:
    """Drafts that the stop rule holds back, by their keys."""
    times = rollouts.select("trace_id", "task", "seen_at")
    stopped = {}
    for one in proposal.drafts:
        used = found.used.filter((pl.col("agent") == one.agent) & pl.col("aside").is_null())
        bad = used.filter(pl.col("outcome") <= pl.col("outcome").mean().over("task"))
        if one.pattern is not None:
            effect = found.patterns.filter(agent=one.agent, pattern=one.pattern)["effect"][0]
            presence = found.presence.filter(agent=one.agent, pattern=one.pattern, present=effect < 0)
            bad = bad.join(presence, on="trace_id", how="semi")
        elif one.task is not None:
            bad = bad.filter(pl.col("task") == one.task)
        text = "\n".join((one.title, one.when_text, one.do_text))
        reason = standing.stop(text, one.agent, one.task, bad.select("trace_id").join(times, on="trace_id"))
        if reason is not None:
            stopped[one.key] = reason
    return stopped


def _marked(examined: Examined, known: set[str]) -> contrasts.Found:
    """What was found with the lessons it led to, and marks where a person must look."""
    lessons_of = {(one.agent, one.pattern): one for one in examined.proposal.drafts if one.tested}
    of_group = {(one.agent, one.task): one for one in examined.proposal.drafts if not one.tested}

    def reason(one: draft.LessonDraft | None) -> str | None:
        return examined.stopped[one.key].reason if one is not None and one.key in examined.stopped else None

    named = [lessons_of.get(pair) for pair in examined.found.patterns.select("agent", "pattern").iter_rows()]
    patterns = examined.found.patterns.with_columns(
        lesson_id=pl.Series([one.key if one and one.key in known else None for one in named], dtype=pl.String),
        escalate=pl.Series([reason(one) for one in named], dtype=pl.String),
    )
    told = [reason(of_group.get(pair)) for pair in examined.found.groups.select("agent", "task").iter_rows()]
    groups = examined.found.groups.with_columns(escalate=pl.Series(told, dtype=pl.String))
    return replace(examined.found, groups=groups, patterns=patterns)


def _proposals(drafts: list[draft.LessonDraft]) -> pl.DataFrame:
    names = [name for name in lessons.PROPOSALS if name in draft.LessonDraft.__annotations__]
    rows = [{"lesson_id": one.key, **{name: getattr(one, name) for name in names}} for one in drafts]
    schema = {name: lessons.PROPOSALS[name] for name in ("lesson_id", *names)}
    return pl.DataFrame(rows, schema=schema)


def _evidence(drafts: list[draft.LessonDraft]) -> pl.DataFrame:
    rows = [{"lesson_id": one.key, **vars(held)} for one in drafts for held in one.evidence]
    names = ("lesson_id", *evidence.Evidence.__annotations__)
    return pl.DataFrame(rows, schema={name: lessons.EVIDENCE[name] for name in names})


def _message(added: int, examined: Examined, waiting: int) -> str:
    found = examined.found
    agents = found.agents.select(pl.col(pl.Int64).sum()).row(0, named=True)
    text = (
        f"{added} new proposals from {agents['mixed']} tasks with mixed outcomes; {agents['tested']} patterns tested, "
        f"{agents['findings']} findings"
    )
    if waiting:
        text += f"; {waiting} more wait for the next run"
    if examined.stopped:
        text += f"; {len(examined.stopped)} repeat a served lesson and need a person"
    notes = found.agents.filter(pl.col("note").is_not_null()).head(3).select("agent", "note").iter_rows()
    return f"{text}. {' '.join(f'{agent}: {note}' for agent, note in notes)}".strip()
