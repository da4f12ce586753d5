"""Notices: what operators should know of, open until it is over or somebody dismisses it.

A notice is posted in the transaction of what it is about, so there is never the one without the other. While a key is
open, posting it again counts up the same notice. Where notices go beside the page: `notice_routes.py`.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal

import duckdb
import polars as pl

from store import audit, meta
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.frames import UTC_TIME, declare

__all__ = ["NOTICES", "SEVERITIES", "Severity", "close", "dismiss", "open_", "open_count", "post", "recent"]

Severity = Literal["info", "warning", "critical"]
SEVERITIES: Final[tuple[Severity, ...]] = ("info", "warning", "critical")

NOTICES: Final = declare(
    {
        "notice_id": pl.Int64, "kind": pl.String, "notice_key": pl.String, "severity": pl.String, "title": pl.String,
        "text": pl.String, "page": pl.String, "query": pl.String, "posted_at": UTC_TIME, "times": pl.Int64,
        "last_at": UTC_TIME, "closed_at": UTC_TIME, "closed_by": pl.String,
    }
)  # fmt: skip

_COLUMNS: Final = ", ".join(NOTICES.names())
_TITLE_CHARACTERS: Final = 200
_TEXT_CHARACTERS: Final = 4_000
# The gravest first, then the newest.
_ORDER: Final = "CASE severity WHEN 'critical' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END, posted_at DESC, notice_id DESC"


def post(
    connection: duckdb.DuckDBPyConnection,
    now: datetime,
    *,
    kind: str,
    key: str,
    title: str,
    text: str,
    severity: Severity,
    page: str,
    query: Mapping[str, str],
) -> int:
    """Open a notice, or count the open one of this key up; returns its id. Call inside the transaction of its cause.

    A repeat takes the newest words, and the graver of both severities.
    Args: `now` aware; `kind` by which routes choose; `key` what it is about, such as "incident 1a2b"; `page` of the
    dashboard and its `query` where more is to be seen. Long titles and texts are cut.
    """
    words: dict[str, object] = {
        "now": now, "title": _cut(title, _TITLE_CHARACTERS), "text": _cut(text, _TEXT_CHARACTERS), "page": page,
        "query": json.dumps(dict(query), sort_keys=True),
    }  # fmt: skip
    held = _open_of(connection, key)
    if held is not None:
        notice_id, before = held
        graver = max(severity, before, key=lambda each: SEVERITIES.index(each))
        connection.execute(
            """UPDATE notices SET times = times + 1, last_at = $now, title = $title, text = $text, page = $page,
                query = $query, severity = $severity WHERE notice_id = $notice""",
            {**words, "severity": graver, "notice": notice_id},
        )
        return notice_id
    rows = connection.execute("SELECT coalesce(max(notice_id), 0) + 1 FROM notices").fetchall()
    notice_id = int(rows[0][0])
    connection.execute(
        """INSERT INTO notices VALUES
        ($notice, $kind, $key, $severity, $title, $text, $page, $query, $now, 1, $now, NULL, NULL)""",
        {**words, "notice": notice_id, "kind": kind, "key": key, "severity": severity},
    )
    meta.bump(connection)
    return notice_id


def close(connection: duckdb.DuckDBPyConnection, now: datetime, key: str) -> bool:
    """What the notice of this key is about is over; returns whether one was open. Call inside a transaction."""
    held = _open_of(connection, key)
    if held is None:
        return False
    connection.execute("UPDATE notices SET closed_at = $now WHERE notice_id = $notice", {"now": now, "notice": held[0]})
    meta.bump(connection)
    return True


def dismiss(store: Store, notice_id: int, *, operator: str) -> None:
    """An operator has seen to it: it is closed. Its key posted again is a new notice.

    Raises: `NotFound`; `ActionRefused` when it is closed already.
    """
    audit.person("Dismiss the notice", operator)

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        rows = connection.execute(
            "SELECT notice_key, title, closed_at FROM notices WHERE notice_id = $notice", {"notice": notice_id}
        ).fetchall()
        if not rows:
            raise NotFound("notice", str(notice_id))
        key, title, closed_at = rows[0]
        if closed_at is not None:
            raise ActionRefused(
                "Dismiss the notice", "It is closed already.", "Reload the page to see what is open now."
            )
        now = store.clock.now()
        connection.execute(
            "UPDATE notices SET closed_at = $now, closed_by = $operator WHERE notice_id = $notice",
            {"now": now, "operator": operator, "notice": notice_id},
        )
        meta.bump(connection)
        audit.append(connection, now, operator, "notice dismiss", f"notice {key}", {"id": notice_id, "title": title})

    store.write(work)


def open_(store: Store, *, limit: int = 200) -> pl.DataFrame:
    """The open notices, the gravest first, then the newest (columns `NOTICES`)."""
    with store.read() as reader:
        return reader.frame(
            f"SELECT {_COLUMNS} FROM notices WHERE closed_at IS NULL ORDER BY {_ORDER} LIMIT $limit",
            NOTICES,
            {"limit": limit},
        )


def open_count(store: Store) -> int:
    """How many notices are open."""
    with store.read() as reader:
        return int(str(reader.value("SELECT count(*) FROM notices WHERE closed_at IS NULL")))


def recent(store: Store, *, limit: int = 50) -> pl.DataFrame:
    """The latest notices, open or closed, newest first (columns `NOTICES`)."""
    with store.read() as reader:
        return reader.frame(
            f"SELECT {_COLUMNS} FROM notices ORDER BY posted_at DESC, notice_id DESC LIMIT $limit",
            NOTICES,
            {"limit": limit},
        )


def _open_of(connection: duckdb.DuckDBPyConnection, key: str) -> tuple[int, Severity] | None:
    """The id and severity of the open notice of a key; None when none is open."""
    rows = connection.execute(
        "SELECT notice_id, severity FROM notices WHERE notice_key = $key AND closed_at IS NULL", {"key": key}
    ).fetchall()
    return (int(rows[0][0]), rows[0][1]) if rows else None


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
