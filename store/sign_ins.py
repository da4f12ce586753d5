"""Sign-ins in the audit log: one row for each, also for one that was refused, however many pages are opened with it.

Whoever may not come in can sign in at the provider again and again. So many rows of the refused are written in an hour
at most; the next one says how many were not.
"""

import threading
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from weakref import WeakKeyDictionary

import duckdb

from store import audit
from store.connection import Store
from store.operator_memory import Role

__all__ = ["REFUSED_AN_HOUR", "record"]

REFUSED_AN_HOUR: Final = 60
_HOUR: Final = timedelta(hours=1)
_ALLOWED, _REFUSED = "sign in", "sign in refused"


@dataclass
class _Memory:
    lock: threading.Lock = field(default_factory=threading.Lock)
    known: dict[tuple[str, str], datetime] = field(default_factory=dict)  # until when, by sign-in and action
    refused: deque[datetime] = field(default_factory=deque)
    unwritten: int = 0


_memories: WeakKeyDictionary[Store, _Memory] = WeakKeyDictionary()
_memories_lock = threading.Lock()


def record(store: Store, session: str, email: str, role: Role | None, *, expires_at: datetime) -> None:
    """Write that somebody whose address was proven came in, or with the role None that they were refused.

    Args: `session` tells this sign-in apart from every other one; it is over at `expires_at`. The same sign-in is
    written once for each of the two, also across restarts.
    """
    action = _ALLOWED if role is not None else _REFUSED
    memory, now = _of(store), store.clock.now()
    with memory.lock:
        if (session, action) in memory.known:
            return
        while memory.refused and memory.refused[0] <= now - _HOUR:
            memory.refused.popleft()
        for known in [known for known, until in memory.known.items() if until <= now]:
            del memory.known[known]
        memory.known[session, action] = expires_at
        if role is None:
            if len(memory.refused) >= REFUSED_AN_HOUR:
                memory.unwritten += 1
                return
            memory.refused.append(now)
        unwritten = memory.unwritten if role is None else 0
        memory.unwritten -= unwritten
    # A part of the digest is enough to tell a sign-in, and of no use to whoever reads the log.
    shown = session[:16]
    detail: dict[str, object] = {"session": shown}
    if role is not None:
        detail["role"] = role
    else:
        detail["why"] = "The address is not on the list of operators, or was removed from it."
        if unwritten:
            detail["more_not_written"] = unwritten

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        held = connection.execute(
            """SELECT 1 FROM audit_log WHERE actor = $actor AND action = $action AND contains(detail, $session)
            LIMIT 1""",
            {"actor": email, "action": action, "session": shown},
        ).fetchall()
        if not held:
            audit.append(connection, now, email, action, f"operator {email}", detail)

    try:
        store.write(work)
    except BaseException:
        with memory.lock:
            memory.known.pop((session, action), None)
            memory.unwritten += unwritten
        raise


def _of(store: Store) -> _Memory:
    with _memories_lock:
        return _memories.setdefault(store, _Memory())
