"""Playbooks: the lessons served to one agent as one block of text. Every version is kept, none is overwritten."""

import json
from dataclasses import dataclass
from datetime import datetime

import duckdb
import polars as pl

from store.connection import Store
from store.errors import NotFound
from store.frames import UTC_TIME, declare

VERSIONS = declare(
    {
        "agent": pl.String, "version": pl.Int32, "body": pl.String, "lesson_ids": pl.List(pl.String),
        "tokens": pl.Int32, "created_at": UTC_TIME, "cause": pl.String,
    }
)  # fmt: skip

_COLUMNS = "agent, version, body, from_json(lesson_ids, '[\"VARCHAR\"]') AS lesson_ids, tokens, created_at, cause"


@dataclass(frozen=True)
class Rendered:
    """A playbook's text as rendered: the lessons in it, in order, and its estimated tokens."""

    body: str
    lesson_ids: tuple[str, ...]
    tokens: int


def append(
    connection: duckdb.DuckDBPyConnection, now: datetime, agent: str, rendered: Rendered, cause: str
) -> int | None:
    """Add a version if the text differs from the newest one; returns its number, None when nothing changed.

    Call inside the transaction of the review that changed the lessons.
    """
    rows = connection.execute(
        "SELECT version, body FROM playbooks WHERE agent = $agent ORDER BY version DESC LIMIT 1", {"agent": agent}
    ).fetchall()
    version, body = rows[0] if rows else (0, "")
    if body == rendered.body:
        return None
    connection.execute(
        "INSERT INTO playbooks VALUES ($agent, $version, $body, $lesson_ids, $tokens, $now, $cause)",
        {
            "agent": agent, "version": int(version) + 1, "body": rendered.body,
            "lesson_ids": json.dumps(rendered.lesson_ids), "tokens": rendered.tokens, "now": now, "cause": cause,
        },
    )  # fmt: skip
    return int(version) + 1


def latest(store: Store, agent: str | None = None) -> pl.DataFrame:
    """The newest version of every agent's playbook, by agent (columns `VERSIONS`); of one agent when it is named."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {_COLUMNS} FROM playbooks WHERE $agent IS NULL OR agent = $agent
            QUALIFY row_number() OVER (PARTITION BY agent ORDER BY version DESC) = 1 ORDER BY agent""",
            VERSIONS,
            {"agent": agent},
        )


def versions(store: Store, agent: str) -> pl.DataFrame:
    """Every version of one agent's playbook, newest first (columns `VERSIONS`)."""
    with store.read() as reader:
        return reader.frame(
            f"SELECT {_COLUMNS} FROM playbooks WHERE agent = $agent ORDER BY version DESC", VERSIONS, {"agent": agent}
        )


def body(store: Store, agent: str, version: int) -> str:
    """The text of one version. Raises: `NotFound`."""
    with store.read() as reader:
        text = reader.value(
            "SELECT body FROM playbooks WHERE agent = $agent AND version = $version",
            {"agent": agent, "version": version},
        )
    if not isinstance(text, str):
        raise NotFound("playbook version", f"{agent} {version}")
    return text
