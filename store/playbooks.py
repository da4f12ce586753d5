"""Playbooks: the lessons served to one agent. Every version is kept, none is overwritten; the newest is in force.

A version says exactly which version of which lesson is served (`entries`), with what settings, and holds one block of
text for agents that read it as a whole. A kill switch, a pin or an expiry makes a version like any other, so the newest
one is always what is served.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any

import duckdb
import polars as pl

from store.connection import Store
from store.errors import NotFound
from store.frames import UTC_TIME, declare

__all__ = [
    "VERSIONS", "Difference", "Entry", "Playbook", "Rendered", "Served", "append", "at", "body", "difference",
    "in_force", "latest", "versions",
]  # fmt: skip

VERSIONS = declare(
    {
        "agent": pl.String, "version": pl.Int32, "body": pl.String, "lesson_ids": pl.List(pl.String),
        "tokens": pl.Int32, "created_at": UTC_TIME, "cause": pl.String, "entries": pl.String, "settings": pl.String,
    }
)  # fmt: skip

_COLUMNS = (
    "agent, version, body, from_json(lesson_ids, '[\"VARCHAR\"]') AS lesson_ids, tokens, created_at, cause, "
    "entries, settings"
)


@dataclass(frozen=True)
class Entry:
    """One lesson as a playbook serves it. `holdout` is the probability that a decision goes without it; the payoff is
    of the newest run of `payoffs` for this version, None before it is measured. `not_segments` are those for which the
    lesson is paused (`store.drift_responses`).
    """

    lesson_id: str
    version: int
    state: str
    agent: str
    task: str | None
    segment: str | None
    user_id: str | None
    holdout: float
    expires_at: datetime | None
    payoff: float | None
    payoff_sd: float | None
    payoff_n: int
    not_segments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Served:
    """The settings of a version. `off`: why nothing is served; `pinned`: the earlier version that it repeats;
    `left_out`: lessons that it does not serve although that version, or their state, says so, and why.
    """

    token_budget: int = 2000
    empty_share: float = 0.02
    off: str | None = None
    pinned: int | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rendered:
    """A playbook's text as rendered: the lessons in it, in order, and its estimated tokens."""

    body: str
    lesson_ids: tuple[str, ...]
    tokens: int


@dataclass(frozen=True)
class Playbook:
    """One version of an agent's playbook. `entries` are in order of lesson_id."""

    agent: str
    version: int
    body: str
    lesson_ids: tuple[str, ...]
    tokens: int
    created_at: datetime
    cause: str
    entries: tuple[Entry, ...]
    settings: Served


@dataclass(frozen=True)
class Difference:
    """What the second of two versions serves otherwise than the first. `changed` pairs are (before, after)."""

    added: tuple[Entry, ...]
    removed: tuple[Entry, ...]
    changed: tuple[tuple[Entry, Entry], ...]
    settings: tuple[Served, Served] | None  # None when they are the same


def append(
    connection: duckdb.DuckDBPyConnection,
    now: datetime,
    agent: str,
    rendered: Rendered,
    cause: str,
    *,
    entries: Sequence[Entry] = (),
    settings: Served | None = None,
) -> int | None:
    """Add a version if it differs from the newest one; returns its number, None when nothing changed.

    Call inside the transaction of the action that changed what is served.
    """
    served, told = encode_entries(entries), encode_settings(settings or Served())
    rows = connection.execute(
        "SELECT version, body, entries, settings FROM playbooks WHERE agent = $agent ORDER BY version DESC LIMIT 1",
        {"agent": agent},
    ).fetchall()
    version, *held = rows[0] if rows else (0, "", "[]", None)
    nothing = not entries and not rendered.body
    if (held[0], held[1] or "[]") == (rendered.body, served) and (held[2] == told or (held[2] is None and nothing)):
        return None
    connection.execute(
        """INSERT INTO playbooks BY NAME SELECT $agent AS agent, $version AS version, $body AS body,
            $lesson_ids AS lesson_ids, $tokens AS tokens, $now AS created_at, $cause AS cause, $entries AS entries,
            $settings AS settings""",
        {
            "agent": agent, "version": int(version) + 1, "body": rendered.body,
            "lesson_ids": json.dumps(rendered.lesson_ids), "tokens": rendered.tokens, "now": now, "cause": cause,
            "entries": served, "settings": told,
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


def in_force(store: Store, agent: str) -> Playbook | None:
    """What an agent is served now, with its kill switch, pin and expiries as of its newest version; None before the
    first.
    """
    found = latest(store, agent)
    return None if found.is_empty() else _playbook(found.row(0, named=True))


def at(store: Store, agent: str, version: int) -> Playbook:
    """One version. Raises: `NotFound`."""
    with store.read() as reader:
        found = reader.frame(
            f"SELECT {_COLUMNS} FROM playbooks WHERE agent = $agent AND version = $version",
            VERSIONS,
            {"agent": agent, "version": version},
        )
    if found.is_empty():
        raise NotFound("playbook version", f"{agent} {version}")
    return _playbook(found.row(0, named=True))


def body(store: Store, agent: str, version: int) -> str:
    """The text of one version. Raises: `NotFound`."""
    return at(store, agent, version).body


def difference(store: Store, agent: str, before: int, after: int) -> Difference:
    """What version `after` serves otherwise than version `before`; payoffs are not compared. Raises: `NotFound`."""
    first, second = at(store, agent, before), at(store, agent, after)
    old = {entry.lesson_id: entry for entry in first.entries}
    new = {entry.lesson_id: entry for entry in second.entries}
    return Difference(
        added=tuple(entry for name, entry in new.items() if name not in old),
        removed=tuple(entry for name, entry in old.items() if name not in new),
        changed=tuple(
            (old[name], entry)
            for name, entry in new.items()
            if name in old and _without_payoff(old[name]) != _without_payoff(entry)
        ),
        settings=None if first.settings == second.settings else (first.settings, second.settings),
    )


def encode_entries(entries: Sequence[Entry]) -> str:
    """Entries as JSON, by lesson: equal texts for equal entries."""
    rows = [
        {**vars(entry), "expires_at": entry.expires_at.isoformat() if entry.expires_at else None}
        for entry in sorted(entries, key=lambda entry: entry.lesson_id)
    ]
    for row in rows:
        if not row["not_segments"]:
            del row["not_segments"]  # as in versions from before there was any
    return json.dumps(rows, separators=(",", ":"), allow_nan=False)


def decode_entries(text: str | None) -> tuple[Entry, ...]:
    """What `encode_entries` wrote; nothing for a version from before entries were kept."""
    return tuple(
        Entry(
            **{
                **row,
                "expires_at": datetime.fromisoformat(row["expires_at"]) if row["expires_at"] else None,
                "not_segments": tuple(row.get("not_segments", ())),
            }
        )
        for row in json.loads(text or "[]")
    )


def encode_settings(settings: Served) -> str:
    """Settings as JSON: equal texts for equal settings."""
    return json.dumps(asdict(settings), sort_keys=True, separators=(",", ":"), allow_nan=False)


def decode_settings(text: str | None) -> Served:
    """What `encode_settings` wrote; the defaults for a version from before settings were kept."""
    known = {each.name for each in fields(Served)}
    return Served(**{name: value for name, value in json.loads(text or "{}").items() if name in known})


def _playbook(row: dict[str, Any]) -> Playbook:
    return Playbook(
        **{
            **row,
            "lesson_ids": tuple(row["lesson_ids"]),
            "entries": decode_entries(row["entries"]),
            "settings": decode_settings(row["settings"]),
        }
    )


def _without_payoff(entry: Entry) -> tuple[object, ...]:
    return tuple(value for name, value in vars(entry).items() if not name.startswith("payoff"))
