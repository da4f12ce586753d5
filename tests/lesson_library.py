"""Lessons for tests of the library: proposals from few words, a rendering that shows what is served, lint as told."""

from dataclasses import dataclass

import polars as pl

from store import lesson_lint, lesson_reviews, lessons
from store.lesson_reviews import LessonText
from store.playbooks import Rendered

TEXT = LessonText("Look before you book", "A booking is asked for.", None, "Call look_up first.")


@dataclass(frozen=True)
class Block:
    """A blocking finding of lint."""

    rule: str = "literal"
    severity: str = "block"
    field: str | None = "do_text"
    excerpt: str | None = "ada@example.com"
    other_id: str | None = None
    message: str = "The text holds ada@example.com."


def render(served, budget):
    """One line a lesson: its id, version and title."""
    body = "\n".join(f"{row['lesson_id']} {row['version']} {row['title']}" for row in served.iter_rows(named=True))
    return Rendered(body, tuple(served["lesson_id"]), len(body))


def proposals(*names, agent="airline", **columns):
    rows = [
        {"lesson_id": name, "agent": agent, "task": None, "tested": True, "value": 1.0, "title": f"Title of {name}",
         "when_text": "When", "when_not": None, "do_text": "Do", "why": "Why", **columns}
        for name in names
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=lessons.PROPOSALS)


def evidence(*names):
    rows = [
        {"lesson_id": name, "trace_id": f"{name}-{role}", "span_id": "s1", "role": role,
         "reward": 0.9 if role == "good" else 0.1, "reward_sd": 0.05, "quote": "quote"}
        for name in names for role in ("bad", "good")
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=lessons.EVIDENCE)


def propose(store, *names, told=None, **columns):
    """Propose lessons of these ids; `told` are arguments of `lessons.propose`."""
    return lessons.propose(store, proposals(*names, **columns), evidence(*names), **(told or {}))


def read(store, name="l", *found, version=None):
    """Lint has read a version (default: the newest) and found this."""
    number = version or lessons.one(store, name)["version"]
    now = store.clock.now()
    store.write(lambda connection: lesson_lint.put(connection, name, number, found, now))


def approve(store, name="l", *, operator="Ada", to="active", **told):
    """Have lint read the newest version, then approve it."""
    read(store, name)
    version = lessons.one(store, name)["version"]
    return lesson_reviews.approve(store, name, version=version, operator=operator, to=to, render=render, **told)


def act(store, action, name="l", *, version=None, operator="Ada", **told):
    """Any review but approve and undo, with a reason where it takes one."""
    version = version or lessons.one(store, name)["version"]
    if action == "edit":
        told = {"text": TEXT, "findings": (), **told}
    elif action in ("reject", "send_back", "demote", "pause", "retire", "promote", "resume", "supersede"):
        told = {"reason": "because", **told}
    if action == "demote":
        told = {"to": "retired", **told}
    function = getattr(lesson_reviews, action)
    return function(store, name, version=version, operator=operator, render=render, **told)


def undo(store, reviewed, operator="Bob"):
    """Take back what a review did."""
    return lesson_reviews.undo(store, reviewed.lesson_id, sequence=reviewed.sequence, operator=operator, render=render)


def force(store, name, **columns):
    """Write columns of a lesson past all rules."""
    assignments = ", ".join(f"{column} = ${column}" for column in columns)
    store.write(
        lambda connection: connection.execute(
            f"UPDATE lessons SET {assignments} WHERE lesson_id = $name", {**columns, "name": name}
        )
    )
