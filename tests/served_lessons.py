"""Lessons, sets of them and requests for the tests of serving."""

from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from typing import Any

import duckdb
import polars as pl

from pipelines.lessons.paragraphs import block, estimate_tokens, joined
from pipelines.lessons.serving.choose import Request
from store import playbooks
from store.connection import Store
from store.lesson_sets import LessonSet, ServedLesson
from store.playbooks import Entry, Rendered, Served

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def lesson(lesson_id: str, **changed: Any) -> ServedLesson:
    """An active lesson for every request of the agent `shop`; its condition is ours unless it says whom it trusts."""
    usual = ServedLesson(
        lesson_id=lesson_id, version=1, state="active", agent="shop", task=None, segment=None, user_id=None,
        title=f"Title of {lesson_id}", when_text=f"At {lesson_id}.", when_not=None, do_text=f"Do {lesson_id}.",
        trust="system", own_condition=True, payoff=None, payoff_sd=None, payoff_n=0, holdout=0.1, expires_at=None,
    )  # fmt: skip
    if changed.get("trust", "system") != "system":
        changed = {"own_condition": False, **changed}
    return replace(usual, **changed)


def lesson_set(lessons: Sequence[ServedLesson], **changed: Any) -> LessonSet:
    """Version 1 of the playbook of `shop`."""
    return replace(LessonSet("shop", 1, 2000, 0.02, tuple(lessons)), **changed)


def request(**changed: Any) -> Request:
    """A request of nobody in particular."""
    usual = Request(input=None, user_id=None, segment=None, task=None, unit="decision:1", salt="salt", now=NOON)
    return replace(usual, **changed)


def propose(store: Store, lessons: Sequence[ServedLesson]) -> None:
    """Put lessons into the library as they are, however many: reviews are not what is tested here."""
    now = store.clock.now()
    rows = [
        {
            **asdict(each), "origin": "operator", "created_at": now, "updated_at": now, "why": "Seen in tests.",
            "author": "trimtab" if each.own_condition else "ann",
        }
        for each in lessons
    ]  # fmt: skip
    frame = pl.DataFrame(rows, infer_schema_length=None)

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        connection.register("given", frame)
        for table, names in (
            ("lessons", "agent, task, segment, user_id, state, origin, holdout, expires_at, updated_at"),
            ("lesson_versions", "title, when_text, when_not, do_text, why, author, trust"),
        ):
            connection.execute(f"INSERT INTO {table} BY NAME SELECT lesson_id, version, created_at, {names} FROM given")
        connection.unregister("given")

    store.write(work)


def serve(
    store: Store, lessons: Sequence[ServedLesson], *, agent: str = "shop", settings: Served | None = None
) -> int | None:
    """Make these lessons of the library the agent's next playbook; returns its version."""
    entries = [Entry(**{name.name: getattr(each, name.name) for name in fields(Entry)}) for each in lessons]
    ids = tuple(each.lesson_id for each in lessons)
    body = joined([block(asdict(each)) for each in lessons])
    return store.write(
        lambda connection: playbooks.append(
            connection, store.clock.now(), agent, Rendered(body, ids, estimate_tokens(body)), "test",
            entries=entries, settings=settings,
        )
    )  # fmt: skip
