"""The job `incidents`: makes one incident of many findings of drift, says what may have caused it, and responds.

What follows a known intervention is explained and raises nothing. The same findings give the same incidents however
often the job runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from pipelines.incidents import causes, describe, rules
from pipelines.incidents.describe import Cause, Coincidence
from pipelines.incidents.explained import SUBJECT, settle
from pipelines.incidents.grouping import Group, GroupingConfig
from pipelines.incidents.matching import NEAR, Held, match
from pipelines.jobs import JobResult
from pipelines.lessons.review import render
from store import drift, drift_responses, incident_evidence, incident_runs, interventions, meta, model_figures
from store.connection import Store
from store.incident_runs import Seen, Summary
from store.settings import Settings
from store.version import code_version

if TYPE_CHECKING:
    from pipelines.jobs import JobContext

__all__ = ["has_work", "run"]

_MOST: Final = 1_000_000
_WINDOW: Final = timedelta(days=14)  # before and after a change in which its cause is sought
_LOOK_BACK: Final = timedelta(days=14)  # of interventions before the earliest change
_FORGOTTEN: Final = timedelta(days=14)  # after which an incident that no run sees is resolved
_CAUSE_OF: Final = {
    "lesson": "lesson", "playbook": "lesson", "version": "version", "model": "model", "arm": "arm",
    "source": "source", "guardrail": "guardrail",
}  # fmt: skip


@dataclass(frozen=True)
class _Looked:
    """What is to be kept of a look at the findings of a run of `drift`; `lone` findings have its columns.

    `changed` are the findings that something else explains than before, or nothing any more (columns
    `store.drift.EXPLAINED`); `flagged` findings = `followed` a known change + `grouped` + lone.
    """

    seen: list[Seen]
    changed: pl.DataFrame
    ended: dict[str, str]
    lone: pl.DataFrame
    flagged: int
    followed: int
    grouped: int


def has_work(store: Store, settings: Settings) -> bool:
    """Whether there are new findings, a change point or rule was changed, a model changed, or a response is over."""
    del settings
    if drift_responses.due(store, store.clock.now()):
        return True
    newest = drift.latest_run(store)
    if newest is None:
        return False
    latest = incident_runs.latest_run(store)
    if latest is None or newest["run_id"] != latest["drift_run_id"]:
        return True
    return incident_runs.changed_since(store, latest["found_at"], newest["run_id"])


def run(context: "JobContext") -> JobResult:
    """Group, match, explain and respond; `rows` counts incidents opened and responses applied or ended."""
    store = context.store
    ended = drift_responses.end_due(store, render=render)
    newest = drift.latest_run(store)
    if newest is None:
        return JobResult(ended, "Nothing was scanned for drift yet.")
    version = meta.data_version(store)
    context.progress(0.0, "looking at what drift found")
    looked = context.compute(_looked, store, newest["run_id"], context.random)
    summary = Summary(
        drift_run_id=newest["run_id"], data_version=version, code_version=code_version(),
        parameters=asdict(GroupingConfig()), flagged=looked.flagged, explained=looked.followed, grouped=looked.grouped,
        lone=looked.lone.height,
    )  # fmt: skip
    context.progress(0.8, "keeping incidents")
    opened = incident_runs.record(store, looked.seen, looked.changed, looked.ended, summary)
    context.progress(0.9, "responding by rules")
    applied = rules.apply_all(store, looked.lone)
    if applied:
        incident_runs.responded(store, applied)
    message = (
        f"{looked.flagged:,} findings: {looked.followed:,} follow a known change, {looked.grouped:,} are of "
        f"{len(looked.seen)} incidents, {looked.lone.height:,} stand alone; {len(opened)} incidents opened, "
        f"{len(looked.ended)} resolved; {applied} responses by rules, {ended} ended."
    )
    return JobResult(len(opened) + applied + ended, message)


def _looked(store: Store, run_id: int, random: np.random.Generator) -> _Looked:
    """Everything that is only read and computed."""
    findings = drift.findings(store, run_id=run_id, flagged_only=True, limit=_MOST)
    earliest = findings["changed_at"].drop_nulls().min()
    since = earliest - _LOOK_BACK if isinstance(earliest, datetime) else None
    known = interventions.known(store, since=since)
    by_users = findings.filter(level="user")["user_id"].unique().to_list()
    settled = settle(
        findings, incident_evidence.scanned(store, run_id), known, incident_evidence.agents_of(store, by_users)
    )
    told, groups = settled.explained, settled.groups
    held = [_held(row) for row in incident_runs.held(store).iter_rows(named=True)]
    matched = match(groups, held)
    watched = model_figures.changes(store, flagged_only=True)
    seen = []
    for one, matching in zip(groups, matched, strict=True):
        cause = _cause(store, run_id, one, findings, known, watched, random)
        seen.append(
            Seen(
                incident_id=matching.incident_id, kind=matching.kind, agent=one.agent, segment=one.segment,
                title=describe.title_of(one, cause), text=describe.text_of(one, cause), cause=cause.cause,
                cause_detail=cause.detail, changed_at=one.changed_at, changed_from=one.changed_from,
                changed_to=one.changed_to, users=one.users, scanned=one.scanned, findings=one.findings,
                moved=one.moved, harm=describe.harms(one),
            )
        )  # fmt: skip
    unseen = {one.incident_id for one in held} - {one.incident_id for one in matched}
    ended = _over(store, [one for one in held if one.incident_id in unseen], findings, told, known)
    alone = findings.join(settled.lone.select(SUBJECT), on=SUBJECT, how="semi", nulls_equal=True)
    grouped = sum(one.findings.height for one in groups)
    changed = told.filter(told["explained_by"].ne_missing(findings["explained_by"]))
    return _Looked(seen, changed, ended, alone, findings.height, findings.height - grouped - alone.height, grouped)


def _held(row: Mapping[str, Any]) -> Held:
    fields = {name: row[name] for name in Held.__dataclass_fields__ if name != "directions"}
    return Held(**fields, directions=dict(zip(row["metric"], row["direction"], strict=True)))


def _cause(
    store: Store,
    run_id: int,
    one: Group,
    findings: pl.DataFrame,
    known: pl.DataFrame,
    watched: pl.DataFrame,
    random: np.random.Generator,
) -> Cause:
    """What the shift came with, by the first metric that moved for the worse."""
    name = describe.first_harm(one)
    moment = one.moved.filter(metric=name)["moved_at"][0]
    since, until = moment - _WINDOW, moment + _WINDOW
    category = findings.filter(metric=name)["category"].drop_nulls()
    evidence = incident_evidence.around(
        store, name, moment=moment, since=since, until=until, agent=one.agent,
        users=incident_evidence.users_of(store, run_id, one.segments) if one.segments else None,
        category=category[0] if len(category) else None,
    )  # fmt: skip
    suspects = causes.suspects(evidence, random)
    coincidences = [
        *_model_changes(store, one, watched, since, until),
        *_interventions(one, known),
    ]
    return describe.judge(one, suspects, coincidences, judged_by=name, traces=evidence.height)


def _model_changes(
    store: Store, one: Group, watched: pl.DataFrame, since: datetime, until: datetime
) -> list[Coincidence]:
    """Changes that the model watch found in models that answered here, at the time of the change."""
    answering = set(incident_evidence.models(store, since=since, until=until, agent=one.agent)["model"])
    found = []
    for row in watched.iter_rows(named=True):
        at = row["changed_at"] or row["found_at"]
        if row["model"] in answering and one.changed_from - NEAR <= at <= one.changed_to + NEAR:
            text = f"The model watch saw {row['metric']} of {row['model']} change at {at:%Y-%m-%d %H:%M} UTC."
            found.append(Coincidence("model", row["model"], at, text))
    return found


def _interventions(one: Group, known: pl.DataFrame) -> list[Coincidence]:
    """Known interventions of the scope at the time of the change, after which users fared worse."""
    found = []
    for row in known.iter_rows(named=True):
        cause = _CAUSE_OF.get(row["kind"])
        scope = (row["agent"] is None or one.agent is None or row["agent"] == one.agent) and (
            row["segment"] is None or row["segment"] in one.segments
        )
        if cause and scope and one.changed_from - NEAR <= row["happened_at"] <= one.changed_to:
            text = f"{row['title']} at {row['happened_at']:%Y-%m-%d %H:%M} UTC, when the change may have happened."
            name = row["intervention_id"].split(":")[-1] if cause in ("version", "model") else row["title"]
            found.append(Coincidence(cause, name, row["happened_at"], text, row["intervention_id"]))
    return sorted(found, key=lambda each: abs(each.happened_at - one.changed_at))


def _over(
    store: Store, unseen: Sequence[Held], findings: pl.DataFrame, told: pl.DataFrame, known: pl.DataFrame
) -> dict[str, str]:
    """The incidents that nothing is left of, with the reason: explained by now, or not seen for long."""
    titles = dict(known.select("intervention_id", "title").iter_rows())
    followed = findings.with_columns(told["explained_by"]).filter(pl.col("explained_by").is_not_null())
    ended = {}
    for one in unseen:
        if one.state == "resolved":
            continue
        now_known = followed.filter(
            pl.col("metric").is_in(list(one.directions))
            & pl.col("changed_at").is_between(one.changed_from - NEAR, one.changed_to + NEAR)
        )
        if now_known.height:
            title = titles.get(now_known["explained_by"][0], now_known["explained_by"][0])
            ended[one.incident_id] = f"It follows a known change: {title}."
        elif one.last_seen_at < store.clock.now() - _FORGOTTEN:
            ended[one.incident_id] = f"No run has seen it for {_FORGOTTEN.days} days."
    return ended
