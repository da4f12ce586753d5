"""What is known of operators without asking the store again: every change of a page and every read asks for a role.

Whoever changes operators or ends a sign-in calls `forget` after the commit and before returning, so the next question
sees it. Kept a few seconds at most, whatever else may write.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from weakref import WeakKeyDictionary

import polars as pl

from store.connection import Store
from store.frames import declare

Role = Literal["viewer", "reviewer", "admin"]

_HELD = declare({"email": pl.String, "role": pl.String})
_ENDED = declare({"session": pl.String})
_KEPT_SECONDS = 5.0


@dataclass
class _Memory:
    # Held over a read: one that began before a change is over when `forget` is.
    lock: threading.Lock = field(default_factory=threading.Lock)
    roles: dict[str, Role] = field(default_factory=dict)
    ended: frozenset[str] = frozenset()
    seen: dict[str, datetime] = field(default_factory=dict)
    read_at: float | None = None


_memories: WeakKeyDictionary[Store, _Memory] = WeakKeyDictionary()
_memories_lock = threading.Lock()


def roles(store: Store) -> Mapping[str, Role]:
    """The roles of those who have signed in and are not removed, by address."""
    return _read(store).roles


def ended(store: Store) -> frozenset[str]:
    """The sign-ins that were ended before their time."""
    return _read(store).ended


def seen(store: Store) -> dict[str, datetime]:
    """When it was last written that operators were seen, by address; whoever writes it puts it here."""
    return _of(store).seen


def forget(store: Store) -> None:
    """Ask the store again. To be called after each change of operators or sign-ins."""
    memory = _of(store)
    with memory.lock:
        memory.read_at = None


def _read(store: Store) -> _Memory:
    memory = _of(store)
    with memory.lock:
        if memory.read_at is None or time.monotonic() - memory.read_at > _KEPT_SECONDS:
            with store.read() as reader:
                held = reader.frame("SELECT email, role FROM operators WHERE state = 'active'", _HELD)
                over = reader.frame("SELECT session FROM ended_sessions", _ENDED)
            memory.roles = dict(held.iter_rows())
            memory.ended = frozenset(over["session"].to_list())
            memory.read_at = time.monotonic()
    return memory


def _of(store: Store) -> _Memory:
    with _memories_lock:
        return _memories.setdefault(store, _Memory())
