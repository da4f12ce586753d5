"""Tombstones of forgotten people: what is sent of them late is refused, without the store saying who they were.

A tombstone is sha256(key || kind || id). The key is random and lies in a file of its own beside the database, readable
by its owner only: neither the database nor a backup of it tells who was forgotten. Without that file (another machine,
a lost key) the tombstones refuse nobody.

A person who comes back after they were forgotten is new: with `late` only what is dated before, or not dated at all, is
refused, and their old traces and sessions for good. With `always` they are refused whatever comes; without a tombstone
what is sent again is loaded again.
"""

import hashlib
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Literal, get_args
from weakref import WeakKeyDictionary

import duckdb

from store.connection import Store

__all__ = ["REFUSE", "Refuse", "any_set_up", "digest", "key_file", "key_of", "set_up", "withhold"]

Refuse = Literal["late", "always", "never"]
REFUSE: Final = get_args(Refuse)

_in_memory: WeakKeyDictionary[Store, str] = WeakKeyDictionary()


def key_file(db: Path) -> Path:
    """Where the key of a database's tombstones lies."""
    return db.with_name(db.name + ".privacy-key")


def key_of(store: Store) -> str:
    """The key of the tombstones, 64 hexadecimal digits; made when there is none yet. Raises: `OSError`."""
    if store.path is None:
        return _in_memory.setdefault(store, secrets.token_hex(32))
    path = key_file(store.path)
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        key = secrets.token_hex(32)
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        return key


def digest(key: str, kind: str, identity: str) -> str:
    """The tombstone of one id; kind is user, trace or session."""
    return hashlib.sha256(f"{key}{kind}:{identity}".encode("utf-8", "surrogatepass")).hexdigest()


def set_up(
    connection: duckdb.DuckDBPyConnection, key: str, kind: str, ids: Iterable[str], now: object, refuse: str
) -> None:
    """Add tombstones for these ids. Those that are there are replaced."""
    rows = [digest(key, kind, identity) for identity in ids]
    connection.execute(
        "DELETE FROM forgotten WHERE kind = $kind AND digest IN (SELECT unnest($rows::VARCHAR[]))",
        {"kind": kind, "rows": rows},
    )
    connection.execute(
        "INSERT INTO forgotten SELECT $kind, unnest($rows::VARCHAR[]), $now, $refuse",
        {"kind": kind, "rows": rows, "now": now, "refuse": refuse},
    )


def any_set_up(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether anybody was forgotten whose late data is refused."""
    return bool(connection.execute("SELECT 1 FROM forgotten LIMIT 1").fetchall())


def withhold(connection: duckdb.DuckDBPyConnection, key: str, rows: Mapping[str, str], now: object) -> None:
    """Make the temporary table `withheld` (kind, row_no, record_no) of the incoming rows that tombstones refuse.

    Args: `rows` names by fact table a relation with trace_id, user_id, session_id, happened, row_no and record_no. A
    trace with a refused row is refused as a whole, and gets a tombstone: its other spans may come later and name
    nobody.
    """
    everything = " UNION ALL ".join(
        f"SELECT '{table}' AS fact, trace_id, user_id, session_id, happened, row_no, record_no FROM {relation}"
        for table, relation in rows.items()
    )
    connection.execute(f"CREATE OR REPLACE TEMP TABLE offered_ids AS {everything}")
    connection.execute(
        """CREATE OR REPLACE TEMP TABLE known_forgotten AS
        SELECT f.kind, i.id, f.forgotten_at, f.refuse FROM (
            SELECT DISTINCT 'user' AS kind, user_id AS id FROM offered_ids WHERE user_id IS NOT NULL
            UNION ALL SELECT DISTINCT 'trace', trace_id FROM offered_ids WHERE trace_id IS NOT NULL
            UNION ALL SELECT DISTINCT 'session', session_id FROM offered_ids WHERE session_id IS NOT NULL
        ) AS i JOIN forgotten AS f ON f.kind = i.kind AND f.digest = sha256($key || i.kind || ':' || i.id)""",
        {"key": key},
    )
    # Three joins, since one by either of three columns would compare every row with every tombstone.
    found = "SELECT o.fact, o.row_no, o.record_no, o.trace_id FROM offered_ids AS o JOIN known_forgotten AS f"
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE withheld AS
        {found} ON f.kind = 'trace' AND f.id = o.trace_id
        UNION {found} ON f.kind = 'session' AND f.id = o.session_id
        UNION {found} ON f.kind = 'user' AND f.id = o.user_id
            WHERE f.refuse = 'always' OR coalesce(o.happened < f.forgotten_at, true)"""
    )
    connection.execute(
        """INSERT INTO withheld SELECT fact, row_no, record_no, trace_id FROM offered_ids
        WHERE fact <> 'signals' AND trace_id IN (SELECT trace_id FROM withheld WHERE fact <> 'signals')
            AND (fact, row_no) NOT IN (SELECT (fact, row_no) FROM withheld)"""
    )
    connection.execute(
        """INSERT INTO forgotten
        SELECT DISTINCT 'trace', sha256($key || 'trace:' || trace_id), $now::TIMESTAMPTZ, 'late'
        FROM withheld WHERE fact <> 'signals'
            AND sha256($key || 'trace:' || trace_id) NOT IN (SELECT digest FROM forgotten WHERE kind = 'trace')""",
        {"key": key, "now": now},
    )
