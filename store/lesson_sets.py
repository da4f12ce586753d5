"""Sets of lessons: what one version of an agent's playbook can serve, with the texts as they were.

A version of a playbook names its lessons, their versions and what was known of their payoff; texts are never
overwritten, so a set read later is the one that decisions were made by. A version of the time before playbooks said
this serves the lessons that it names, with the texts of that time and the defaults below.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import polars as pl

from store.connection import Store
from store.errors import NotFound
from store.frames import UTC_TIME, Reader, declare

__all__ = ["EMPTY_SHARE", "HOLDOUTS", "TOKEN_BUDGET", "LessonSet", "ServedLesson", "at", "in_force", "read"]

TOKEN_BUDGET: Final = 2000
EMPTY_SHARE: Final = 0.02
HOLDOUTS: Final = {"canary": 0.2, "active": 0.1}
"""Defaults where a playbook does not say: tokens of the lessons in one answer, the share of decisions served none at
all, and the probability of withholding one lesson by its state."""


@dataclass(frozen=True, slots=True)
class ServedLesson:
    """One lesson that may be served. A scope that is None stands for any; `agent` "*" for every agent."""

    lesson_id: str
    version: int
    state: str  # canary or active
    agent: str
    task: str | None
    segment: str | None
    user_id: str | None
    title: str
    when_text: str
    when_not: str | None
    do_text: str
    trust: str  # untrusted, agent, model, system or operator
    own_condition: bool  # `when_text` is our own wording, also where the rest was edited
    payoff: float | None  # measured effect on the reward; None: unmeasured
    payoff_sd: float | None
    payoff_n: int
    holdout: float  # withheld with this probability
    expires_at: datetime | None  # not served from then on
    not_segments: tuple[str, ...] = ()  # to which it is not served


@dataclass(frozen=True, slots=True)
class LessonSet:
    """What one version of an agent's playbook serves; lessons in the order in which they are written."""

    agent: str
    playbook_version: int
    token_budget: int
    empty_share: float
    lessons: tuple[ServedLesson, ...]


_LESSONS = declare(
    {
        "lesson_id": pl.String, "version": pl.Int32, "state": pl.String, "agent": pl.String, "task": pl.String,
        "segment": pl.String, "user_id": pl.String, "title": pl.String, "when_text": pl.String,
        "when_not": pl.String, "do_text": pl.String, "trust": pl.String, "own_condition": pl.Boolean,
        "payoff": pl.Float64, "payoff_sd": pl.Float64, "payoff_n": pl.Int64, "holdout": pl.Float64,
        "expires_at": UTC_TIME, "not_segments": pl.List(pl.String),
    }
)  # fmt: skip
_BOOK = pl.Schema({"version": pl.Int32(), "entries": pl.String(), "settings": pl.String()})

# What a version says of each lesson, in the order in which playbooks are written.
_SHAPE = json.dumps(
    [
        {
            "lesson_id": "VARCHAR", "version": "INTEGER", "state": "VARCHAR", "agent": "VARCHAR", "task": "VARCHAR",
            "segment": "VARCHAR", "user_id": "VARCHAR", "holdout": "DOUBLE", "expires_at": "TIMESTAMPTZ",
            "payoff": "DOUBLE", "payoff_sd": "DOUBLE", "payoff_n": "BIGINT", "not_segments": ["VARCHAR"],
        }
    ]
)  # fmt: skip
_SAID = f"""
    SELECT unnest(from_json(entries, '{_SHAPE}'), max_depth := 2) FROM playbooks
    WHERE agent = $agent AND version = $version"""
_NAMED = """
    SELECT l.lesson_id, v.version, 'active' AS state, l.agent, l.task, l.segment, l.user_id, l.holdout, l.expires_at,
        NULL::DOUBLE AS payoff, NULL::DOUBLE AS payoff_sd, 0 AS payoff_n, NULL::VARCHAR[] AS not_segments
    FROM (SELECT created_at, unnest(from_json(lesson_ids, '["VARCHAR"]')) AS lesson_id FROM playbooks
        WHERE agent = $agent AND version = $version) AS b
    JOIN lessons AS l USING (lesson_id)
    JOIN lesson_versions AS v ON v.lesson_id = l.lesson_id AND v.created_at <= b.created_at
    QUALIFY row_number() OVER (PARTITION BY l.lesson_id ORDER BY v.version DESC) = 1"""

# Where nobody wrote down whose words a text is: drafts are ours, whoever edited one is an operator.
_TRUST = """coalesce(v.trust, CASE WHEN v.author <> 'trimtab' THEN 'operator' WHEN l.origin = 'contrast' THEN 'system'
    ELSE 'agent' END)"""
_OWN = f"""
    SELECT v.lesson_id, v.when_text, min(v.version) AS since
    FROM lesson_versions AS v JOIN lessons AS l USING (lesson_id)
    WHERE v.author = 'trimtab' AND {_TRUST} = 'system' GROUP BY ALL"""


def in_force(store: Store, agent: str) -> LessonSet | None:
    """The set that an agent is served from: that of its newest playbook; None where it has none."""
    with store.read() as reader:
        version = reader.value("SELECT max(version) FROM playbooks WHERE agent = $agent", {"agent": agent})
        return read(reader, agent, version) if isinstance(version, int) else None


def at(store: Store, agent: str, version: int) -> LessonSet:
    """The set of one version of an agent's playbook. Raises: `NotFound`."""
    with store.read() as reader:
        return read(reader, agent, version)


def read(reader: Reader, agent: str, version: int) -> LessonSet:
    """As `at`, within a read that is under way. Raises: `NotFound`."""
    key = {"agent": agent, "version": version}
    book = reader.frame(
        "SELECT version, entries, settings FROM playbooks WHERE agent = $agent AND version = $version", _BOOK, key
    )
    if book.is_empty():
        raise NotFound("playbook version", f"{agent} {version}")
    said = book.row(0, named=True)
    settings: dict[str, Any] = json.loads(said["settings"]) if said["settings"] else {}
    rows = reader.frame(
        f"""SELECT e.lesson_id, e.version, e.state, e.agent, e.task, e.segment, e.user_id, v.title, v.when_text,
            v.when_not, v.do_text, {_TRUST} AS trust, o.lesson_id IS NOT NULL AS own_condition,
            e.payoff, e.payoff_sd, coalesce(e.payoff_n, 0) AS payoff_n,
            e.holdout, e.expires_at, coalesce(e.not_segments, []::VARCHAR[]) AS not_segments
        FROM ({_SAID if said["entries"] is not None else _NAMED}) AS e
        JOIN lessons AS l USING (lesson_id)
        JOIN lesson_versions AS v ON v.lesson_id = e.lesson_id AND v.version = e.version
        LEFT JOIN ({_OWN}) AS o ON o.lesson_id = v.lesson_id AND o.when_text = v.when_text AND o.since <= v.version
        ORDER BY e.task IS NOT NULL, e.task, l.created_at, e.lesson_id""",
        _LESSONS,
        key,
    )
    defaults = pl.col("state").replace_strict(HOLDOUTS, default=max(HOLDOUTS.values()), return_dtype=pl.Float64)
    rows = rows.with_columns(pl.coalesce("holdout", defaults))
    return LessonSet(
        agent=agent,
        playbook_version=version,
        token_budget=int(settings.get("token_budget") or TOKEN_BUDGET),
        empty_share=float(EMPTY_SHARE if settings.get("empty_share") is None else settings["empty_share"]),
        lessons=tuple(
            ServedLesson(**{**row, "not_segments": tuple(row["not_segments"])}) for row in rows.iter_rows(named=True)
        ),
    )
