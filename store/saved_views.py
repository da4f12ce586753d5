"""Views that operators saved: a page's filters, as its address holds them, under a name.

Every page lists them, so they are kept in memory for some seconds; changes made here are seen at once. A view belongs
to whoever saved it; a shared one is seen by everybody, and admins may take it away.
"""

import json
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final
from uuid import uuid4
from weakref import WeakKeyDictionary

import duckdb
import polars as pl

from store import audit
from store.connection import Store
from store.errors import ActionRefused, NotFound
from store.frames import UTC_TIME, declare

__all__ = ["MAX_NAME", "MAX_VIEWS", "VIEWS", "query_of", "remove", "rename", "save", "share", "visible"]

MAX_NAME: Final = 60
MAX_VIEWS: Final = 50
_MAX_QUERY: Final = 8_000

VIEWS: Final = declare(
    {
        "view_id": pl.String, "operator": pl.String, "page": pl.String, "name": pl.String, "query": pl.String,
        "shared": pl.Boolean, "saved_at": UTC_TIME, "changed_at": UTC_TIME,
    }
)  # fmt: skip
_COLUMNS: Final = ", ".join(VIEWS.names())
_SAVE: Final = "Save the view"

_KEPT_SECONDS: Final = 15.0

_memories: WeakKeyDictionary[Store, tuple[float, pl.DataFrame]] = WeakKeyDictionary()
_lock = threading.Lock()


def visible(store: Store, operator: str) -> pl.DataFrame:
    """The operator's views and those that others share, by name (columns `VIEWS`)."""
    # Held over a read: one that began before a change is over when the memory is cleared.
    with _lock:
        read_at, frame = _memories.get(store, (0.0, None))
        if frame is None or time.monotonic() - read_at > _KEPT_SECONDS:
            with store.read() as reader:
                frame = reader.frame(f"SELECT {_COLUMNS} FROM saved_views ORDER BY lower(name), view_id", VIEWS)
            _memories[store] = (time.monotonic(), frame)
    return frame.filter((pl.col("operator") == operator) | pl.col("shared"))


def query_of(text: str) -> dict[str, list[str]]:
    """The parameters of a view's address; those that cannot be read are left out."""
    try:
        held = json.loads(text)
    except ValueError:
        return {}
    if not isinstance(held, dict):
        return {}
    return {
        str(name): [value for value in values if isinstance(value, str)]
        for name, values in held.items()
        if isinstance(values, list)
    }


def save(store: Store, *, operator: str, page: str, name: str, query: Mapping[str, Sequence[str]]) -> str:
    """Keep a page's filters for this operator alone; a view of theirs with this name and page is replaced.

    Returns the id of the view. Raises: `ActionRefused` for a name that is empty or too long, too many views, or more
    filters than an address holds.
    """
    audit.person(_SAVE, operator)
    title = _named(_SAVE, name)
    content = json.dumps({key: list(values) for key, values in sorted(query.items())}, ensure_ascii=False)
    if len(content) > _MAX_QUERY:
        raise ActionRefused(_SAVE, f"Its filters are longer than {_MAX_QUERY:,} characters.", "Choose fewer values.")

    def work(connection: duckdb.DuckDBPyConnection) -> str:
        now = store.clock.now()
        held = connection.execute(
            "SELECT view_id, page, name FROM saved_views WHERE operator = $operator", {"operator": operator}
        ).fetchall()
        same = [view for view, of, called in held if of == page and called == title]
        if not same and len(held) >= MAX_VIEWS:
            raise ActionRefused(_SAVE, f"You have {MAX_VIEWS} views already.", "Delete one that you do not need.")
        view = same[0] if same else uuid4().hex[:12]
        if same:
            connection.execute(
                "UPDATE saved_views SET query = $query, changed_at = $now WHERE view_id = $view",
                {"query": content, "now": now, "view": view},
            )
        else:
            connection.execute(
                "INSERT INTO saved_views VALUES ($view, $operator, $page, $name, $query, false, $now, $now)",
                {"view": view, "operator": operator, "page": page, "name": title, "query": content, "now": now},
            )
        audit.append(connection, now, operator, "view save", f"view {view}", {"page": page, "name": title})
        return view

    return _changed(store, store.write(work))


def rename(store: Store, view_id: str, name: str, *, operator: str, admin: bool = False) -> None:
    """Give a view another name. Raises: `NotFound`; `ActionRefused` when it is somebody else's, or for the name."""
    action = "Rename the view"
    title = _named(action, name)
    _change(
        store, view_id, action, "view rename", operator, admin, "name = $value", title,
    )  # fmt: skip


def share(store: Store, view_id: str, shared: bool, *, operator: str, admin: bool = False) -> None:
    """Show a view to everybody, or only to whose it is. Raises: as `rename`."""
    _change(store, view_id, "Share the view", "view share", operator, admin, "shared = $value", shared)


def remove(store: Store, view_id: str, *, operator: str, admin: bool = False) -> None:
    """Delete a view. Raises: as `rename`."""
    _change(store, view_id, "Delete the view", "view remove", operator, admin, None, None)


def _change(
    store: Store, view_id: str, action: str, logged: str, operator: str, admin: bool, assignment: str | None,
    value: str | bool | None,
) -> None:  # fmt: skip
    audit.person(action, operator)

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        now = store.clock.now()
        found = {"view": view_id}
        rows = connection.execute(
            "SELECT operator, name, shared FROM saved_views WHERE view_id = $view", found
        ).fetchall()
        if not rows or (rows[0][0] != operator and not rows[0][2]):
            raise NotFound("view", view_id)
        owner, name, was_shared = rows[0]
        if owner != operator and not admin:
            raise ActionRefused(action, f"It belongs to {owner}.", "Ask them, or save one of your own.")
        if assignment is None:
            connection.execute("DELETE FROM saved_views WHERE view_id = $view", found)
        else:
            connection.execute(
                f"UPDATE saved_views SET {assignment}, changed_at = $now WHERE view_id = $view",
                {**found, "value": value, "now": now},
            )
        before = {"name": name, "shared": was_shared}
        audit.append(connection, now, operator, logged, f"view {view_id}", {"before": before, "after": value})

    store.write(work)
    _changed(store, view_id)


def _changed(store: Store, view_id: str) -> str:
    with _lock:
        _memories.pop(store, None)
    return view_id


def _named(action: str, name: str) -> str:
    title = " ".join(name.split())
    if not title or len(title) > MAX_NAME:
        raise ActionRefused(action, f"A name has 1 to {MAX_NAME} characters.", "Give it a short name.")
    return title
