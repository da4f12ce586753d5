"""The audit log: what operators did, append only, each row carrying the hash of the one before.

    hash = sha256(previous hash + canonical JSON of sequence, time, actor, action, subject, detail)

Changing, removing, inserting or reordering rows breaks the chain, and a count kept beside it shows a removed tail. The
chain shows tampering by whoever cannot recompute it: someone who may write the whole file can make a new one, so keep
the newest hash elsewhere (a backup has it) where that matters.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime

import duckdb
import polars as pl

from store.connection import Store
from store.errors import ActionRefused
from store.frames import UTC_TIME, Reader, declare

GENESIS = "0" * 64
SYSTEM = "trimtab"  # who did what nobody asked for
_COUNT = "audit_rows"
_BLOCK = 10_000

LOG = declare(
    {
        "sequence": pl.Int64, "occurred_at": UTC_TIME, "actor": pl.String, "action": pl.String, "subject": pl.String,
        "detail": pl.String, "previous_hash": pl.String, "hash": pl.String,
    }
)  # fmt: skip

_COLUMNS = ", ".join(LOG.names())


def person(action: str, name: str) -> None:
    """Make sure that `name` is a person's, who alone may do the `action`. Raises: `ActionRefused`."""
    if not name.strip() or name == SYSTEM:
        raise ActionRefused(action, f"{name!r} is no person.", "Only an operator does this: give a name.")


def append(
    connection: duckdb.DuckDBPyConnection,
    now: datetime,
    actor: str,
    action: str,
    subject: str,
    detail: Mapping[str, object],
) -> int:
    """Add a row and return its sequence number. Call inside the transaction of the action that it records.

    Args: `now` aware; `actor` who did it; `action` such as "lesson approve"; `subject` such as "lesson 1a2b"; `detail`
    that JSON can hold.
    """
    rows = connection.execute("SELECT sequence, hash FROM audit_log ORDER BY sequence DESC LIMIT 1").fetchall()
    sequence, previous = (int(rows[0][0]) + 1, str(rows[0][1])) if rows else (1, GENESIS)
    text = _canonical(detail)
    digest = _hash(previous, sequence, now, actor, action, subject, text)
    connection.execute(
        "INSERT INTO audit_log VALUES ($sequence, $now, $actor, $action, $subject, $detail, $previous, $hash)",
        {
            "sequence": sequence, "now": now, "actor": actor, "action": action, "subject": subject, "detail": text,
            "previous": previous, "hash": digest,
        },
    )  # fmt: skip
    # No ON CONFLICT: see `publications.begin`.
    held = connection.execute("SELECT 1 FROM store_meta WHERE key = $key", {"key": _COUNT}).fetchall()
    change = "UPDATE store_meta SET value = $count WHERE key = $key"
    connection.execute(
        change if held else "INSERT INTO store_meta VALUES ($key, $count)",
        {"key": _COUNT, "count": sequence},
    )
    return sequence


def following(connection: duckdb.DuckDBPyConnection) -> int:
    """The sequence number that the next row will have, for what refers to it within the same transaction."""
    rows = connection.execute("SELECT coalesce(max(sequence), 0) + 1 FROM audit_log").fetchall()
    return int(rows[0][0])


def verify(store: Store) -> int | None:
    """The sequence number at which the log was first tampered with, None when every row is as it was written."""
    expected, previous = 1, GENESIS
    with store.read() as reader:
        while len(block := _after(reader, expected - 1)):
            for row in block.iter_rows(named=True):
                intact = row["sequence"] == expected and row["previous_hash"] == previous
                if not intact or row["hash"] != _hash(previous, *(row[name] for name in LOG.names()[:6])):
                    return expected
                expected, previous = expected + 1, row["hash"]
        count = reader.value("SELECT value FROM store_meta WHERE key = $key", {"key": _COUNT})
    held = expected - 1
    return None if held == (count if isinstance(count, int) else 0) else expected


def count(store: Store) -> int:
    """How many rows there are: the sequence number of the newest. It costs one row, however long the log."""
    with store.read() as reader:
        held = reader.value("SELECT value FROM store_meta WHERE key = $key", {"key": _COUNT})
    return held if isinstance(held, int) else 0


def recent(store: Store, limit: int = 50, *, subject: str | None = None) -> pl.DataFrame:
    """The latest rows, newest first (columns `LOG`); of one subject when it is named."""
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {_COLUMNS} FROM audit_log WHERE $subject IS NULL OR subject = $subject
            ORDER BY sequence DESC LIMIT $limit""",
            LOG,
            {"subject": subject, "limit": limit},
        )


def _after(reader: Reader, sequence: int) -> pl.DataFrame:
    """The next rows in table order of the sequence; a row numbered 0 or less is found by the very first block."""
    lowest = "true" if sequence == 0 else "sequence > $after"
    return reader.frame(
        f"SELECT {_COLUMNS} FROM audit_log WHERE {lowest} AND $after >= 0 ORDER BY sequence LIMIT $limit",
        LOG,
        {"after": sequence, "limit": _BLOCK},
    )


def _hash(previous: str, sequence: int, now: datetime, actor: str, action: str, subject: str, detail: str) -> str:
    moment = now.astimezone(UTC).isoformat(timespec="microseconds")
    return hashlib.sha256(
        (previous + _canonical([sequence, moment, actor, action, subject, detail])).encode()
    ).hexdigest()


def _canonical(value: object) -> str:
    """One text for equal values: sorted keys, no spaces, ASCII, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
