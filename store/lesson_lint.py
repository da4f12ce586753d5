"""What lint found in each version of a lesson's text, and which blocking findings a person overrode, and why.

Findings belong to a version and stay with it: a new text is read anew, an old one keeps what was found in it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

import duckdb
import polars as pl

from store import audit, meta
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.frames import UTC_TIME, declare

__all__ = [
    "LINT",
    "OVERRIDES",
    "UNANSWERED",
    "Compared",
    "Found",
    "checked_at",
    "compared",
    "counts",
    "keeping",
    "of",
    "open_findings",
    "override",
    "overrides",
    "put",
    "unread",
    "waiting_otherwise",
]

LINT = declare(
    {
        "lesson_id": pl.String, "version": pl.Int32, "rule": pl.String, "severity": pl.String, "field": pl.String,
        "excerpt": pl.String, "other_id": pl.String, "message": pl.String, "found_at": UTC_TIME,
    }
)  # fmt: skip
OVERRIDES = declare(
    {
        "lesson_id": pl.String, "version": pl.Int32, "rule": pl.String, "excerpt": pl.String, "reason": pl.String,
        "operator": pl.String, "overridden_at": UTC_TIME,
    }
)  # fmt: skip
_COMPARED = declare({"method": pl.String, "reason": pl.String})
COUNTS = declare({"lesson_id": pl.String, "blocks": pl.Int64, "warns": pl.Int64, "notes": pl.Int64, "open": pl.Int64})
MAX_REASON: Final = 1_000
UNANSWERED: Final = """f.severity = 'block' AND NOT EXISTS (
    FROM lesson_overrides AS o WHERE o.lesson_id = f.lesson_id AND o.version = f.version AND o.rule = f.rule
        AND o.excerpt IS NOT DISTINCT FROM f.excerpt)"""
"""Whether a row f of lesson_lint blocks its version: nobody has overridden this rule and excerpt in it."""

_COLUMNS: Final = ", ".join(f"f.{name}" for name in LINT.names())


@dataclass(frozen=True)
class Compared:
    """How other lessons were compared with a text, and why not in the way that is configured; None: it was so."""

    method: str
    reason: str | None = None


class Found(Protocol):
    """A finding as `pipelines.lessons.lint.findings.Finding` states it."""

    @property
    def rule(self) -> str: ...
    @property
    def severity(self) -> str: ...
    @property
    def field(self) -> str | None: ...
    @property
    def excerpt(self) -> str | None: ...
    @property
    def other_id(self) -> str | None: ...
    @property
    def message(self) -> str: ...


def put(
    connection: duckdb.DuckDBPyConnection,
    lesson_id: str,
    version: int,
    findings: Sequence[Found],
    now: datetime,
    how: Compared | None = None,
) -> None:
    """Keep what lint found in one version, in place of what it found in the same version before.

    `how` other lessons were compared, None: nobody says. Call inside a transaction. Overrides of the version stay.
    """
    key = {"lesson": lesson_id, "version": version}
    connection.execute("DELETE FROM lesson_lint WHERE lesson_id = $lesson AND version = $version", key)
    connection.execute("DELETE FROM lesson_checks WHERE lesson_id = $lesson AND version = $version", key)
    for one in findings:
        connection.execute(
            """INSERT INTO lesson_lint VALUES ($lesson, $version, $rule, $severity, $field, $excerpt, $other, $message,
                $now)""",
            {
                **key, "rule": one.rule, "severity": one.severity, "field": one.field, "excerpt": one.excerpt,
                "other": one.other_id, "message": one.message, "now": now,
            },
        )  # fmt: skip
    connection.execute(
        "INSERT INTO lesson_checks VALUES ($lesson, $version, $now, $findings, $method, $reason)",
        {
            **key, "now": now, "findings": len(findings), "method": how.method if how else None,
            "reason": how.reason if how else None,
        },
    )  # fmt: skip


def keeping(findings: Sequence[Found], now: datetime) -> Callable[[duckdb.DuckDBPyConnection, str, int], None]:
    """What `store.lesson_reviews.edit` takes as `lint`: keeps these findings with the version that the edit makes."""
    return lambda connection, lesson_id, version: put(connection, lesson_id, version, findings, now)


def of(store: Store, lesson_id: str, version: int) -> pl.DataFrame:
    """What lint found in one version, blocking findings first (columns `LINT`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {_COLUMNS} FROM lesson_lint AS f WHERE lesson_id = $lesson AND version = $version
            ORDER BY list_position(['block', 'warn', 'note'], severity), rule, field NULLS LAST, excerpt, other_id""",
            LINT,
            {"lesson": lesson_id, "version": version},
        )


def checked_at(store: Store, lesson_id: str, version: int) -> datetime | None:
    """When lint last read this version; None when it never has."""
    with store.read() as reader:
        frame = reader.frame(
            "SELECT max(checked_at) AS at FROM lesson_checks WHERE lesson_id = $lesson AND version = $version",
            declare({"at": UTC_TIME}),
            {"lesson": lesson_id, "version": version},
        )
    moment: datetime | None = frame["at"][0]
    return moment


def compared(store: Store, lesson_id: str, version: int) -> Compared | None:
    """How lint compared other lessons with this version; None when it has not read it, or did not say."""
    with store.read() as reader:
        frame = reader.frame(
            """SELECT method, reason FROM lesson_checks
            WHERE lesson_id = $lesson AND version = $version AND method IS NOT NULL LIMIT 1""",
            _COMPARED,
            {"lesson": lesson_id, "version": version},
        )
    return Compared(**frame.row(0, named=True)) if frame.height else None


def waiting_otherwise(store: Store, method: str, since: datetime, most: int) -> list[str]:
    """Lessons that wait and whose newest version lint has not read since, or has not compared wholly by this method: at
    most so many, those longest unread first."""
    with store.read() as reader:
        frame = reader.frame(
            """SELECT l.lesson_id FROM lessons AS l
            LEFT JOIN lesson_checks AS c ON c.lesson_id = l.lesson_id AND c.version = l.version
            WHERE l.state IN ('proposed', 'approved') AND (c.checked_at IS NULL OR c.checked_at <= $since)
                AND (c.method IS DISTINCT FROM $method OR c.reason IS NOT NULL)
            ORDER BY c.checked_at NULLS FIRST, l.lesson_id LIMIT $most""",
            declare({"lesson_id": pl.String}),
            {"method": method, "since": since, "most": most},
        )
    return frame["lesson_id"].to_list()


def unread(store: Store) -> bool:
    """Whether there is a lesson that waits for review and whose newest version lint has not read."""
    with store.read() as reader:
        found = reader.value(
            """SELECT EXISTS (FROM lessons AS l ANTI JOIN lesson_checks AS c USING (lesson_id, version)
            WHERE l.state IN ('proposed', 'approved'))"""
        )
    return bool(found)


def counts(store: Store, lesson_ids: Sequence[str]) -> pl.DataFrame:
    """How much lint found in the newest version of each of these lessons (columns `COUNTS`).

    `open` counts blocking findings that nobody has overridden. Lessons that lint has not read have no row.
    """
    with store.read() as reader:
        return reader.frame(
            f"""SELECT n.lesson_id, count(*) FILTER (f.severity = 'block') AS blocks,
                count(*) FILTER (f.severity = 'warn') AS warns, count(*) FILTER (f.severity = 'note') AS notes,
                count(*) FILTER ({UNANSWERED}) AS open
            FROM lessons AS n SEMI JOIN lesson_checks AS c ON c.lesson_id = n.lesson_id AND c.version = n.version
            LEFT JOIN lesson_lint AS f ON f.lesson_id = n.lesson_id AND f.version = n.version
            WHERE list_contains($ids::VARCHAR[], n.lesson_id) GROUP BY n.lesson_id ORDER BY n.lesson_id""",
            COUNTS,
            {"ids": list(lesson_ids)},
        )


def open_findings(
    connection: duckdb.DuckDBPyConnection, lesson_id: str, version: int
) -> tuple[tuple[str, str], ...] | None:
    """(rule, message) of what lint blocks in a version and nobody has overridden; None when lint has not read it."""
    key = {"lesson": lesson_id, "version": version}
    if not connection.execute(
        "SELECT 1 FROM lesson_checks WHERE lesson_id = $lesson AND version = $version", key
    ).fetchall():
        return None
    found = connection.execute(
        f"""SELECT rule, message FROM lesson_lint AS f
        WHERE lesson_id = $lesson AND version = $version AND {UNANSWERED} ORDER BY rule, message""",
        key,
    ).fetchall()
    return tuple((str(rule), str(message)) for rule, message in found)


def overrides(store: Store, lesson_id: str, version: int) -> pl.DataFrame:
    """Which findings of a version people overrode, in order of time (columns `OVERRIDES`)."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(OVERRIDES)} FROM lesson_overrides
            WHERE lesson_id = $lesson AND version = $version ORDER BY overridden_at, rule, excerpt""",
            OVERRIDES,
            {"lesson": lesson_id, "version": version},
        )


def override(
    store: Store, lesson_id: str, version: int, rule: str, excerpt: str | None, *, reason: str, operator: str
) -> None:
    """Record that a blocking finding does not stand in the way of this version. It is audited and stays on record.

    Raises: `NotFound`; `ActionRefused` without a reason or a person, when there is no such finding, when the text was
    edited since, or when it is overridden already.
    """
    reason, operator = reason.strip(), operator.strip()
    action = "Override"
    if not reason or len(reason) > MAX_REASON:
        raise ActionRefused(action, f"the reason has {len(reason)} characters.", f"Write 1 to {MAX_REASON:,}.")
    audit.person(action, operator)

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        _newest(connection, lesson_id, version)
        key: dict[str, Any] = {"lesson": lesson_id, "version": version, "rule": rule, "excerpt": excerpt}
        held = connection.execute(
            f"""SELECT {UNANSWERED} FROM lesson_lint AS f WHERE lesson_id = $lesson AND version = $version
                AND rule = $rule AND excerpt IS NOT DISTINCT FROM $excerpt AND severity = 'block'""",
            key,
        ).fetchall()
        if not held:
            raise ActionRefused(action, f"lint blocks nothing as {rule} here.", "Reload the page to see what it found.")
        if not any(row[0] for row in held):
            raise ActionRefused(action, "this finding is overridden already.", "Nothing is left to do.")
        now = store.clock.now()
        connection.execute(
            "INSERT INTO lesson_overrides VALUES ($lesson, $version, $rule, $excerpt, $reason, $operator, $now)",
            {**key, "reason": reason, "operator": operator, "now": now},
        )
        detail = {"version": version, "rule": rule, "excerpt": excerpt, "reason": reason}
        audit.append(connection, now, operator, "lesson override", f"lesson {lesson_id}", detail)
        meta.bump(connection)

    store.write(work)


def _newest(connection: duckdb.DuckDBPyConnection, lesson_id: str, version: int) -> None:
    rows = connection.execute("SELECT version FROM lessons WHERE lesson_id = $lesson", {"lesson": lesson_id}).fetchall()
    if not rows:
        raise NotFound("lesson", lesson_id)
    if int(rows[0][0]) != version:
        raise ActionRefused(
            "Override",
            f"you read version {version} and the text is at version {rows[0][0]}.",
            "Read the new text and what lint found in it first.",
        )
