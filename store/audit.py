"""The audit log: what operators did, append only, each row carrying the hash of the one before.

    hash = sha256(previous hash + canonical JSON of sequence, time, actor, action, subject, detail, nonce)

The nonce is random (rows from before there was one have none). When a person is forgotten, what names them in earlier
rows is redacted, the nonce too, and the row keeps its hash: nobody can guess from it what was there. A row "audit
redact" says which rows, what their hashes are and the digest of what is left of them, so that the chain still shows
every other change of them.

Changing, removing, inserting or reordering rows breaks the chain, and a count kept beside it shows a removed tail. The
chain shows tampering by whoever cannot recompute it: someone who may write the whole file can make a new one, so keep
the newest hash elsewhere (a backup has it) where that matters.
"""

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb
import polars as pl

from store.connection import Store
from store.errors import ActionRefused
from store.frames import UTC_TIME, Reader, declare

GENESIS = "0" * 64
SYSTEM = "trimtab"  # who did what nobody asked for
SCHEDULER = "scheduler"  # who loads what was put into the inbox
_COUNT = "audit_rows"
_BLOCK = 10_000

LOG = declare(
    {
        "sequence": pl.Int64, "occurred_at": UTC_TIME, "actor": pl.String, "action": pl.String, "subject": pl.String,
        "detail": pl.String, "previous_hash": pl.String, "hash": pl.String,
    }
)  # fmt: skip

_CHAINED = declare({**LOG, "nonce": pl.String})
_REDACT = "audit redact"
_COLUMNS = ", ".join(LOG.names())


@dataclass(frozen=True)
class Filter:
    """Which rows are shown; None: whichever. `text` is looked for in subject and detail, without regard to case."""

    actor: str | None = None
    action: str | None = None
    subject: str | None = None
    text: str | None = None
    since: datetime | None = None
    until: datetime | None = None


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
    text, nonce = _canonical(detail), secrets.token_hex(16)
    digest = _hash(previous, sequence, now, actor, action, subject, text, nonce)
    connection.execute(
        "INSERT INTO audit_log VALUES ($sequence, $now, $actor, $action, $subject, $detail, $previous, $hash, $nonce)",
        {
            "sequence": sequence, "now": now, "actor": actor, "action": action, "subject": subject, "detail": text,
            "previous": previous, "hash": digest, "nonce": nonce,
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


def exported(store: Store, actor: str, *, table: str, kind: str, rows: int) -> None:
    """Write that somebody took a table out as a file: `table` as the page names it, `kind` such as "CSV"."""

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        append(connection, store.clock.now(), actor, "export", table, {"format": kind, "rows": rows})

    store.write(work)


def following(connection: duckdb.DuckDBPyConnection) -> int:
    """The sequence number that the next row will have, for what refers to it within the same transaction."""
    rows = connection.execute("SELECT coalesce(max(sequence), 0) + 1 FROM audit_log").fetchall()
    return int(rows[0][0])


def redact(
    connection: duckdb.DuckDBPyConnection,
    now: datetime,
    actor: str,
    left: Sequence[tuple[int, str, str, str]],
    why: str,
) -> int | None:
    """Take something out of earlier rows for good, and say so in a new row; returns its sequence number.

    Args: `left` is what stays of each row: (sequence, actor, subject, detail); detail is JSON text; `why` in words.
    Call inside the transaction of whatever asks for it. With nothing to redact nothing is done.
    """
    if not left:
        return None
    rows: dict[str, dict[str, str]] = {}
    for sequence, who, subject, detail in left:
        found = connection.execute(
            "SELECT occurred_at, action, hash FROM audit_log WHERE sequence = $sequence", {"sequence": sequence}
        ).fetchall()
        moment, action, kept = found[0]
        connection.execute(
            """UPDATE audit_log SET actor = $actor, subject = $subject, detail = $detail, nonce = NULL
            WHERE sequence = $sequence""",
            {"actor": who, "subject": subject, "detail": detail, "sequence": sequence},
        )
        rows[str(sequence)] = {"hash": kept, "left": _hash("", sequence, moment, who, action, subject, detail, None)}
    return append(connection, now, actor, _REDACT, "audit log", {"why": why, "rows": rows})


def verify(store: Store) -> int | None:
    """The sequence number at which the log was first tampered with, None when every row is as it was written."""
    expected, previous = 1, GENESIS
    with store.read() as reader:
        redacted = _redacted(reader)
        while len(block := _after(reader, expected - 1)):
            for row in block.iter_rows(named=True):
                intact = row["sequence"] == expected and row["previous_hash"] == previous
                told = redacted.get(expected)
                if told is not None and row["nonce"] is None:
                    intact = intact and (row["hash"], _hash("", **_content(row))) == told
                elif intact:
                    intact = row["hash"] == _hash(previous, **_content(row))
                if not intact:
                    return expected
                expected, previous = expected + 1, row["hash"]
        count = reader.value("SELECT value FROM store_meta WHERE key = $key", {"key": _COUNT})
    held = expected - 1
    return None if held == (count if isinstance(count, int) else 0) else expected


def _redacted(reader: Reader) -> dict[int, tuple[str, str]]:
    """By sequence number: the hash of a row that was redacted, and the digest of what is left of it."""
    told: dict[int, tuple[str, str]] = {}
    frame = reader.frame(
        f"SELECT detail FROM audit_log WHERE action = '{_REDACT}' ORDER BY sequence",
        pl.Schema({"detail": pl.String()}),
    )
    for detail in frame["detail"]:
        try:
            rows = json.loads(detail)["rows"]
            told |= {int(sequence): (row["hash"], row["left"]) for sequence, row in rows.items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            # A row that says nothing of the kind was tampered with: its own hash tells.
            continue
    return told


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


def page(store: Store, chosen: Filter, *, limit: int = 50, offset: int = 0) -> pl.DataFrame:
    """The rows of one page of the filtered log, newest first (columns `LOG`)."""
    with store.read() as reader:
        return reader.frame(
            f"SELECT {_COLUMNS} FROM audit_log WHERE {_CHOSEN} ORDER BY sequence DESC LIMIT $limit OFFSET $offset",
            LOG,
            {**_parameters(chosen), "limit": limit, "offset": offset},
        )


def chosen_count(store: Store, chosen: Filter) -> int:
    """How many rows a filter leaves."""
    with store.read() as reader:
        found = reader.value(f"SELECT count(*) FROM audit_log WHERE {_CHOSEN}", _parameters(chosen))
    return found if isinstance(found, int) else 0


def names(store: Store) -> tuple[list[str], list[str]]:
    """Every actor and every action that the log has, each in order: what can be filtered by."""
    with store.read() as reader:
        actors, actions = (
            reader.frame(
                f"SELECT DISTINCT {column} AS name FROM audit_log ORDER BY name", pl.Schema({"name": pl.String()})
            )
            for column in ("actor", "action")
        )
    return actors["name"].to_list(), actions["name"].to_list()


def block(store: Store, chosen: Filter, *, after: int = -1) -> pl.DataFrame:
    """The next 10,000 rows at most that a filter leaves and whose sequence number is above `after`, oldest first.

    Columns `LOG` and nonce: from every row of the log anyone can verify the chain.
    """
    with store.read() as reader:
        return reader.frame(
            f"""SELECT {", ".join(_CHAINED)} FROM audit_log WHERE {_CHOSEN} AND sequence > $after
            ORDER BY sequence LIMIT $limit""",
            _CHAINED,
            {**_parameters(chosen), "after": after, "limit": _BLOCK},
        )


def newest_hash(store: Store) -> str:
    """The hash of the newest row: kept elsewhere it shows that nobody made the whole log anew."""
    with store.read() as reader:
        held = reader.value("SELECT hash FROM audit_log ORDER BY sequence DESC LIMIT 1")
    return held if isinstance(held, str) else GENESIS


_CHOSEN = """($actor IS NULL OR actor = $actor) AND ($action IS NULL OR action = $action)
    AND ($subject IS NULL OR subject = $subject)
    AND ($text IS NULL OR contains(lower(subject || chr(10) || detail), lower($text)))
    AND ($since IS NULL OR occurred_at >= $since) AND ($until IS NULL OR occurred_at < $until)"""


def _parameters(chosen: Filter) -> dict[str, object]:
    return dict(vars(chosen))


def _after(reader: Reader, sequence: int) -> pl.DataFrame:
    """The next rows in table order of the sequence; a row numbered 0 or less is found by the very first block."""
    lowest = "true" if sequence == 0 else "sequence > $after"
    return reader.frame(
        f"SELECT {', '.join(_CHAINED)} FROM audit_log WHERE {lowest} AND $after >= 0 ORDER BY sequence LIMIT $limit",
        _CHAINED,
        {"after": sequence, "limit": _BLOCK},
    )


def _content(row: Mapping[str, Any]) -> dict[str, Any]:
    """What of a row its hash is made of, by the names that `_hash` gives it."""
    names = ("sequence", "occurred_at", "actor", "action", "subject", "detail", "nonce")
    return {name: row[name] for name in names}


def _hash(
    previous: str,
    sequence: int,
    occurred_at: datetime,
    actor: str,
    action: str,
    subject: str,
    detail: str,
    nonce: str | None,
) -> str:
    moment = occurred_at.astimezone(UTC).isoformat(timespec="microseconds")
    content: list[int | str] = [sequence, moment, actor, action, subject, detail]
    if nonce is not None:
        content.append(nonce)
    return hashlib.sha256((previous + _canonical(content)).encode()).hexdigest()


def _canonical(value: object) -> str:
    """One text for equal values: sorted keys, no spaces, ASCII, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
