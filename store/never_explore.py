"""Who and what is never explored with: lists that operators keep, and people who opted out.

A person opts out by the field `exploration_opt_out` in the metadata of their traces; their newest trace that states it
counts. An operator's entry names a user, a segment or a task, of one agent or of every agent ('*').
"""

from typing import Literal

import duckdb
import polars as pl

from store import audit, meta
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.frames import UTC_TIME, declare

__all__ = ["ENTRIES", "EVERY_AGENT", "Kind", "add", "listed", "opted_out", "remove"]

Kind = Literal["user", "segment", "task"]
EVERY_AGENT = "*"
ENTRIES = declare(
    {
        "agent": pl.String, "kind": pl.String, "unit": pl.String, "reason": pl.String, "set_by": pl.String,
        "set_at": UTC_TIME,
    }
)  # fmt: skip
_KEY = "agent = $agent AND kind = $kind AND unit = $unit"


def listed(store: Store, agent: str | None = None) -> pl.DataFrame:
    """All entries (columns `ENTRIES`); of one agent, with those that hold for every agent, when it is named."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(ENTRIES)} FROM never_explore
            WHERE $agent IS NULL OR agent = $agent OR agent = '{EVERY_AGENT}' ORDER BY agent, kind, unit""",
            ENTRIES,
            {"agent": agent},
        )


def add(store: Store, agent: str, kind: Kind, unit: str, *, reason: str, by: str) -> None:
    """Never explore with this user, segment or task of an agent ('*': of every agent).

    Raises: `ActionRefused` without a reason or a name, or when it is on the list already.
    """
    action = "Never explore"
    if kind not in ("user", "segment", "task"):
        raise ActionRefused(action, f"there is no kind {kind!r}.", "Use user, segment or task.")
    if not agent.strip() or not unit.strip():
        raise ActionRefused(action, "no agent or no name was given.", "Name both; '*' stands for every agent.")
    if not reason.strip():
        raise ActionRefused(action, "no reason was given.", "Write why, so that others know when it may end.")
    row = {"agent": agent, "kind": kind, "unit": unit}

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now = store.clock.now()
        if connection.execute(f"SELECT 1 FROM never_explore WHERE {_KEY}", row).fetchall():
            raise ActionRefused(action, f"the {kind} {unit!r} is on the list already.", "Nothing needs to be done.")
        connection.execute(
            "INSERT INTO never_explore VALUES ($agent, $kind, $unit, $reason, $by, $now)",
            {**row, "reason": reason.strip(), "by": by, "now": now},
        )
        detail = {"kind": kind, "unit": unit, "reason": reason.strip()}
        audit.append(connection, now, by, "never explore add", f"agent {agent}", detail)
        meta.bump(connection)

    store.write(work)


def remove(store: Store, agent: str, kind: Kind, unit: str, *, by: str) -> None:
    """Take an entry off the list. Raises: `NotFound`."""
    row = {"agent": agent, "kind": kind, "unit": unit}

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        reasons = connection.execute(f"DELETE FROM never_explore WHERE {_KEY} RETURNING reason", row).fetchall()
        if not reasons:
            raise NotFound("entry of the never-explore list", f"{agent}: {kind} {unit}")
        detail = {"kind": kind, "unit": unit, "reason": reasons[0][0]}
        audit.append(connection, store.clock.now(), by, "never explore remove", f"agent {agent}", detail)
        meta.bump(connection)

    store.write(work)


def opted_out(store: Store) -> list[str]:
    """The users whose newest trace that states `exploration_opt_out` says yes, by name."""
    schema = declare({"user_id": pl.String})
    with store.read() as reader:
        frame = reader.frame(
            """SELECT user_id FROM (
                SELECT user_id, seen_at, trace_id, lower(json_extract_string(metadata, '$.exploration_opt_out')) AS said
                FROM traces WHERE user_id IS NOT NULL AND contains(metadata, '"exploration_opt_out"')
                    AND json_valid(metadata))
            WHERE said IN ('true', 'false', '1', '0', 'yes', 'no')
            GROUP BY user_id HAVING arg_max(said, (seen_at, trace_id)) IN ('true', '1', 'yes') ORDER BY user_id""",
            schema,
        )
    return frame["user_id"].to_list()
