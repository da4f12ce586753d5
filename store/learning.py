"""Whom nothing is learnt from: people who said so, and those whom operators list.

A person says so by the field `learning_opt_out` in the metadata of their traces; their newest trace that states it
counts. An operator's entry holds whatever they state. Traces of these people are stored and shown as ever, but neither
rewards nor lessons, preferences or training data are made of them. Traces without a user have nobody to ask.
"""

from typing import Final

import duckdb
import polars as pl

from store import audit, meta
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.frames import UTC_TIME, declare

__all__ = ["ENTRIES", "add", "learnt_from", "listed", "remove", "unwilling"]

ENTRIES: Final = declare({"user_id": pl.String, "reason": pl.String, "set_by": pl.String, "set_at": UTC_TIME})

_UNWILLING: Final = """(
    SELECT user_id FROM learning_opt_outs
    UNION SELECT user_id FROM (
        SELECT user_id, seen_at, trace_id, lower(json_extract_string(metadata, '$.learning_opt_out')) AS said
        FROM traces WHERE user_id IS NOT NULL AND contains(metadata, '"learning_opt_out"') AND json_valid(metadata))
    WHERE said IN ('true', 'false', '1', '0', 'yes', 'no')
    GROUP BY user_id HAVING arg_max(said, (seen_at, trace_id)) IN ('true', '1', 'yes'))"""

# What was worked out of a person that goes when they opt out; the next fits do without them.
_WORKED_OUT: Final = {
    "rewards": "trace_id IN (SELECT trace_id FROM traces WHERE user_id = $user)",
    "reward_people": "user_id = $user",
    "user_preferences": "user_id = $user",
    "stated_revealed": "user_id = $user",
}


def learnt_from(user: str) -> str:
    """A condition that says whether something may be learnt from the user in the SQL expression `user`."""
    return f"({user} IS NULL OR {user} NOT IN (FROM {_UNWILLING}))"


def unwilling(store: Store) -> list[str]:
    """Everybody whom nothing is learnt from, by name."""
    with store.read() as reader:
        frame = reader.frame(f"FROM {_UNWILLING} ORDER BY user_id", pl.Schema({"user_id": pl.String()}))
    return frame["user_id"].to_list()


def listed(store: Store) -> pl.DataFrame:
    """The operators' entries (columns `ENTRIES`), by name."""
    with store.read() as reader:
        return reader.frame(f"SELECT {', '.join(ENTRIES)} FROM learning_opt_outs ORDER BY user_id", ENTRIES)


def add(store: Store, user_id: str, *, reason: str, by: str) -> None:
    """Learn nothing from a user, and delete what was worked out of them: rewards, satisfaction, preferences.

    Raises: `ActionRefused` without a reason or a person's name, or when they are listed already.
    """
    action = "Learn nothing from a user"
    audit.person(action, by)
    if not user_id.strip() or not reason.strip():
        raise ActionRefused(action, "no user or no reason was given.", "Name the user and write why.")

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        user = {"user": user_id}
        if connection.execute("SELECT 1 FROM learning_opt_outs WHERE user_id = $user", user).fetchall():
            raise ActionRefused(action, "they are listed already.", "Nothing needs to be done.")
        now = store.clock.now()
        connection.execute(
            "INSERT INTO learning_opt_outs VALUES ($user, $reason, $by, $now)",
            {**user, "reason": reason.strip(), "by": by, "now": now},
        )
        gone = {
            table: int(connection.execute(f"DELETE FROM {table} WHERE {where}", user).fetchall()[0][0])
            for table, where in _WORKED_OUT.items()
        }
        detail = {"before": None, "after": reason.strip(), "rows": gone}
        audit.append(connection, now, by, "learning opt out", f"user {user_id}", detail)
        meta.bump(connection)

    store.write(work)


def remove(store: Store, user_id: str, *, by: str) -> None:
    """Learn from a user again, from the next fits on. Raises: `NotFound`; `ActionRefused` without a person's name."""
    audit.person("Learn from a user again", by)

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        user = {"user": user_id}
        held = connection.execute("SELECT reason FROM learning_opt_outs WHERE user_id = $user", user).fetchall()
        if not held:
            raise NotFound("entry of the list of whom nothing is learnt from", user_id)
        connection.execute("DELETE FROM learning_opt_outs WHERE user_id = $user", user)
        detail = {"before": held[0][0], "after": None}
        audit.append(connection, store.clock.now(), by, "learning opt in", f"user {user_id}", detail)
        meta.bump(connection)

    store.write(work)
