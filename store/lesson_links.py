"""How lessons relate: one supersedes, refines, contradicts or duplicates another. Links are removed, never deleted."""

from datetime import datetime
from typing import Final

import duckdb
import polars as pl

from store import audit, meta
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.frames import UTC_TIME, declare

__all__ = ["KINDS", "LINKS", "add", "drop", "of", "put", "remove"]

KINDS: Final = ("supersedes", "refines", "contradicts", "duplicates")

LINKS = declare(
    {
        "lesson_id": pl.String, "other_id": pl.String, "kind": pl.String, "note": pl.String, "created_by": pl.String,
        "created_at": UTC_TIME, "title": pl.String, "state": pl.String, "other_title": pl.String,
        "other_state": pl.String,
    }
)  # fmt: skip


def of(store: Store, lesson_id: str | None = None) -> pl.DataFrame:
    """The links from and to a lesson, or all, newest first, with the titles and states of both (columns `LINKS`)."""
    with store.read() as reader:
        return reader.frame(
            """SELECT k.lesson_id, k.other_id, k.kind, k.note, k.created_by, k.created_at, v.title, l.state,
                w.title AS other_title, m.state AS other_state
            FROM lesson_links AS k
            JOIN lessons AS l ON l.lesson_id = k.lesson_id
            JOIN lesson_versions AS v ON v.lesson_id = l.lesson_id AND v.version = l.version
            JOIN lessons AS m ON m.lesson_id = k.other_id
            JOIN lesson_versions AS w ON w.lesson_id = m.lesson_id AND w.version = m.version
            WHERE k.removed_at IS NULL AND ($lesson IS NULL OR $lesson IN (k.lesson_id, k.other_id))
            ORDER BY k.created_at DESC, k.lesson_id, k.other_id, k.kind""",
            LINKS,
            {"lesson": lesson_id},
        )


def put(store: Store, lesson_id: str, other_id: str, kind: str, *, note: str | None = None, by: str) -> bool:
    """Link a lesson to another; returns whether the link is new.

    Raises: `NotFound` for either lesson; `ActionRefused` for an unknown kind or a lesson and itself.
    """

    def work(connection: duckdb.DuckDBPyConnection) -> bool:
        now = store.clock.now()
        if not add(connection, now, lesson_id, other_id, kind, note=note, by=by):
            return False
        detail = {"other": other_id, "kind": kind, "note": note}
        audit.append(connection, now, by, "lesson link", f"lesson {lesson_id}", detail)
        meta.bump(connection)
        return True

    return store.write(work)


def remove(store: Store, lesson_id: str, other_id: str, kind: str, *, by: str) -> None:
    """Take a link away; it stays on record. Raises: `NotFound`."""

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now = store.clock.now()
        if not drop(connection, now, lesson_id, other_id, kind):
            raise NotFound("link", f"{lesson_id} {kind} {other_id}")
        audit.append(connection, now, by, "lesson unlink", f"lesson {lesson_id}", {"other": other_id, "kind": kind})
        meta.bump(connection)

    store.write(work)


def add(
    connection: duckdb.DuckDBPyConnection,
    now: datetime,
    lesson_id: str,
    other_id: str,
    kind: str,
    *,
    note: str | None,
    by: str,
) -> bool:
    """As `put`, within a transaction that records it."""
    if kind not in KINDS:
        raise ActionRefused("Link", f"there is no kind {kind!r}.", f"Kinds: {', '.join(KINDS)}.")
    if lesson_id == other_id:
        raise ActionRefused("Link", "both lessons are the same.", "Name another lesson.")
    for name in (lesson_id, other_id):
        if not connection.execute("SELECT 1 FROM lessons WHERE lesson_id = $lesson", {"lesson": name}).fetchall():
            raise NotFound("lesson", name)
    key = {"lesson": lesson_id, "other": other_id, "kind": kind}
    if connection.execute(f"SELECT 1 FROM lesson_links WHERE {_ONE}", key).fetchall():
        return False
    connection.execute(
        "INSERT INTO lesson_links VALUES ($lesson, $other, $kind, $note, $by, $now, NULL)",
        {**key, "note": note, "by": by, "now": now},
    )
    return True


def drop(connection: duckdb.DuckDBPyConnection, now: datetime, lesson_id: str, other_id: str, kind: str) -> bool:
    """As `remove`, within a transaction that records it; returns whether there was one."""
    key = {"lesson": lesson_id, "other": other_id, "kind": kind}
    held = connection.execute(f"SELECT 1 FROM lesson_links WHERE {_ONE}", key).fetchall()
    connection.execute(f"UPDATE lesson_links SET removed_at = $now WHERE {_ONE}", {**key, "now": now})
    return bool(held)


_ONE: Final = "lesson_id = $lesson AND other_id = $other AND kind = $kind AND removed_at IS NULL"
