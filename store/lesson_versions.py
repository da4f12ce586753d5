"""The texts of lessons and whom they are for. A text is never overwritten: an edit adds a version."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import duckdb

from store.audit import SYSTEM
from store.errors import ActionRefused, NotFound

__all__ = [
    "EVERY_AGENT", "MAX_CHARACTERS", "MAX_SCOPE", "TRUSTS", "LessonText", "Origins", "Scope", "add", "again", "checked",
    "checked_scope", "least", "lineage", "newest", "of", "within",
]  # fmt: skip

MAX_CHARACTERS = 2_000
MAX_SCOPE = 512
EVERY_AGENT = "*"
TRUSTS = ("untrusted", "agent", "model", "system", "operator")  # lowest first


@dataclass(frozen=True)
class LessonText:
    """The words of a lesson that an operator may change."""

    title: str
    when_text: str
    when_not: str | None
    do_text: str


@dataclass(frozen=True)
class Scope:
    """Whom a lesson is for: requests that match all of these that are not None; agent '*' is every agent."""

    agent: str
    task: str | None = None
    segment: str | None = None
    user_id: str | None = None


@dataclass(frozen=True)
class Origins:
    """Where a text comes from: `trust` of `TRUSTS`, `taint` as {field, quote, trace_id, span_id}, `parents` as
    "lesson_id:version".
    """

    trust: str
    taint: tuple[dict[str, Any], ...] = ()
    parents: tuple[str, ...] = ()


def least(trusts: Sequence[str | None]) -> str:
    """The lowest of these trusts; what is unknown is untrusted, as is nothing at all."""
    ranks = [TRUSTS.index(trust) if trust in TRUSTS else 0 for trust in trusts]
    return TRUSTS[min(ranks, default=0)]


def of(connection: duckdb.DuckDBPyConnection, lesson_id: str, version: int) -> tuple[LessonText, Origins]:
    """One version. Raises: `NotFound`."""
    rows = connection.execute(
        """SELECT title, when_text, when_not, do_text, v.trust, taint, parents, v.author, l.origin
        FROM lesson_versions AS v JOIN lessons AS l USING (lesson_id)
        WHERE lesson_id = $lesson AND v.version = $version""",
        {"lesson": lesson_id, "version": version},
    ).fetchall()
    if not rows:
        raise NotFound("lesson version", f"{lesson_id} {version}")
    *words, trust, taint, parents, author, origin = rows[0]
    # Versions of stores from before trust was kept: drafts were ours, and whoever edited one was an operator.
    trust = trust or ("operator" if author != SYSTEM else {"contrast": "system"}.get(origin, "agent"))
    return LessonText(*words), Origins(trust, tuple(json.loads(taint or "[]")), tuple(json.loads(parents or "[]")))


def newest(connection: duckdb.DuckDBPyConnection, lesson_id: str) -> int:
    """The number of a lesson's newest version."""
    rows = connection.execute(
        "SELECT max(version) FROM lesson_versions WHERE lesson_id = $lesson", {"lesson": lesson_id}
    ).fetchall()
    return int(rows[0][0])


def add(
    connection: duckdb.DuckDBPyConnection,
    now: datetime,
    lesson_id: str,
    version: int,
    text: LessonText,
    origins: Origins,
    author: str,
) -> int:
    """Add the version after `version` and return its number; why the lesson was proposed stays as it was."""
    connection.execute(
        """INSERT INTO lesson_versions BY NAME
        SELECT lesson_id, version + 1 AS version, $title AS title, $when_text AS when_text, $when_not AS when_not,
            $do_text AS do_text, why, $author AS author, $now AS created_at, $trust AS trust, $taint AS taint,
            $parents AS parents
        FROM lesson_versions WHERE lesson_id = $lesson AND version = $version""",
        {
            **asdict(text), "author": author, "now": now, "lesson": lesson_id, "version": version,
            "trust": origins.trust, "taint": json.dumps(origins.taint), "parents": json.dumps(origins.parents),
        },
    )  # fmt: skip
    return version + 1


def again(connection: duckdb.DuckDBPyConnection, now: datetime, lesson_id: str, earlier: int, version: int) -> int:
    """Add the version after `version` as a copy of an earlier one, with its author, lint findings and overrides."""
    params = {"lesson": lesson_id, "earlier": earlier, "number": version + 1, "now": now}
    connection.execute(
        """INSERT INTO lesson_versions BY NAME
        SELECT * REPLACE ($number AS version, $now AS created_at)
        FROM lesson_versions WHERE lesson_id = $lesson AND version = $earlier""",
        params,
    )
    del params["now"]
    for table in ("lesson_lint", "lesson_checks", "lesson_overrides"):
        connection.execute(
            f"""INSERT INTO {table} BY NAME
            SELECT * REPLACE ($number AS version) FROM {table} WHERE lesson_id = $lesson AND version = $earlier""",
            params,
        )
    return version + 1


def lineage(connection: duckdb.DuckDBPyConnection, parents: Sequence[str]) -> list[str | None]:
    """The trusts of these versions ("lesson_id:version"); None for one that is not there."""
    found: dict[str, str] = dict(
        connection.execute(
            """SELECT lesson_id || ':' || version AS name, coalesce(trust, 'agent') FROM lesson_versions
            WHERE list_contains($parents::VARCHAR[], lesson_id || ':' || version)""",
            {"parents": list(parents)},
        ).fetchall()
    )
    return [found.get(parent) for parent in parents]


def checked(text: LessonText, action: str = "Edit") -> LessonText:
    """The text, trimmed. Raises: `ActionRefused` naming the field that is empty or too long."""
    for name, label in (("title", "title"), ("when_text", "when"), ("do_text", "do")):
        if not getattr(text, name).strip():
            raise ActionRefused(action, f"the field '{label}' is empty.", "Agents need a title, a when and a do.")
    when_not = (text.when_not or "").strip()
    return LessonText(
        within("title", text.title),
        within("when", text.when_text),
        within("when not", when_not) if when_not else None,
        within("do", text.do_text),
    )


def checked_scope(scope: Scope, action: str = "Edit") -> Scope:
    """The scope, blanks as None. Raises: `ActionRefused` for an empty agent or a name that is too long."""
    agent = scope.agent.strip()
    if not agent:
        raise ActionRefused(action, "the lesson names no agent.", "Give an agent, or '*' for every agent.")
    others = [(each or "").strip() or None for each in (scope.task, scope.segment, scope.user_id)]
    for label, name in zip(("agent", "task", "segment", "user"), (agent, *others), strict=True):
        if name is not None and len(name) > MAX_SCOPE:
            raise ActionRefused(action, f"the {label} has {len(name):,} characters.", f"Use at most {MAX_SCOPE}.")
    return Scope(agent, *others)


def within(field: str, text: str) -> str:
    """The text, trimmed. Raises: `ActionRefused` when it is longer than a field may be."""
    stripped = text.strip()
    if len(stripped) > MAX_CHARACTERS:
        raise ActionRefused(
            "Review", f"the field '{field}' has {len(stripped)} characters.", f"Use at most {MAX_CHARACTERS}."
        )
    return stripped
