"""Answers of store queries that are held: as long as nothing moved, and for a while beside data that streams in.

While agents send data the store moves several times a second. Read anew for every visitor, the queries that look at all
traces would be all that the machine does. So an answer is given again though data came in since: for twenty times as
long as it took, so that reading the same thing again and again takes a twentieth of the time, or longer where whoever
asks says so. After that, one that took long is given once more while a thread reads it anew, until it is too old. What
people did, and what came of the jobs they started, is always in what is given.
"""

import pickle
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from store.meta import Version

__all__ = ["Answers", "Given"]

_QUICK_SECONDS: Final = 0.05
_HELD_FOR: Final = 20.0  # times as long as it took
_IDLE_SECONDS: Final = 900.0


@dataclass(frozen=True)
class Given:
    """An answer, and how many seconds ago what it says may have ceased to be so; 0 when nothing has moved since."""

    answer: Any
    age: float


@dataclass
class _Held:
    kept: Any
    version: Version
    read_at: float
    took: float
    asked_at: float


class Answers:
    """The answers of this process."""

    def __init__(
        self,
        refresh: Callable[[Callable[[], None]], object],
        moment: Callable[[], float] = time.monotonic,
        most: int = 500,
    ) -> None:
        """Args: `refresh` runs a function in the background; `moment` in seconds; `most` answers that are held."""
        self._refresh = refresh
        self._moment = moment
        self._most = most
        self._lock = threading.Lock()
        self._held: OrderedDict[Hashable, _Held] = OrderedDict()
        self._flying: dict[tuple[Hashable, Version], Future[Any]] = {}
        self._refreshing: set[Hashable] = set()
        self._forgotten = 0

    def give(
        self,
        key: Hashable,
        version: Callable[[], Version],
        read: Callable[[], Any],
        *,
        oldest: float,
        at_least: float = 0.0,
    ) -> Given:
        """The answer to `key`, held or read now.

        Args: `version` reads where the store is; `read` asks it; `oldest` in seconds an answer may be when data came in
        since it was read; it is given again for `at_least` so many, however quick it was, but never when older than
        `oldest`. Those who ask the same at the same time wait for one reading. Raises: what `read` raises.
        """
        now, present = self._moment(), version()
        with self._lock:
            held = self._held.get(key)
            if held is not None:
                age = now - held.read_at
                current = held.version == present
                good = age <= max(_HELD_FOR * held.took, at_least)
                lasts = age <= oldest and (good or held.took > _QUICK_SECONDS)
                if current or (lasts and held.version.of_people() == present.of_people()):
                    self._held.move_to_end(key)
                    held.asked_at = now
                    stale = not (current or good or key in self._refreshing)
                    if stale:
                        self._refreshing.add(key)
                else:
                    held = None
        if held is None:
            return Given(self._read(key, present, read), 0.0)
        if stale:
            self._refresh(lambda: self._again(key, version, read))
        return Given(_unpacked(held.kept), 0.0 if current else age)

    def forget(self) -> None:
        """Let go of everything, also of what is being read at this moment."""
        with self._lock:
            self._held.clear()
            self._forgotten += 1

    def _read(self, key: Hashable, version: Version, read: Callable[[], Any]) -> Any:
        with self._lock:
            flying = self._flying.get((key, version))
            mine: Future[Any] | None = None
            if flying is None:
                mine = flying = self._flying[key, version] = Future()
        if mine is None:
            return _unpacked(flying.result())
        try:
            kept = self._keep(key, version, read)
        except BaseException as error:
            mine.set_exception(error)
            raise
        else:
            mine.set_result(kept)
        finally:
            with self._lock:
                del self._flying[key, version]
        return _unpacked(kept)

    def _again(self, key: Hashable, version: Callable[[], Version], read: Callable[[], Any]) -> None:
        """Read anew in the background; when that fails, the next who asks reads for themselves, and sees why."""
        try:
            self._keep(key, version(), read)
        except Exception:
            with self._lock:
                self._held.pop(key, None)
        finally:
            with self._lock:
                self._refreshing.discard(key)

    def _keep(self, key: Hashable, version: Version, read: Callable[[], Any]) -> Any:
        with self._lock:
            forgotten = self._forgotten
        begun = self._moment()
        kept = _packed(read())
        now = self._moment()
        with self._lock:
            before = self._held.get(key)
            # A reading that began earlier must not take the place of one that began later.
            if forgotten == self._forgotten and (before is None or before.read_at <= begun):
                self._held[key] = _Held(kept, version, begun, now - begun, now)
                self._held.move_to_end(key)
                self._thin(now)
        return kept

    def _thin(self, now: float) -> None:
        while self._held and (
            len(self._held) > self._most or now - next(iter(self._held.values())).asked_at > _IDLE_SECONDS
        ):
            self._held.popitem(last=False)


def _packed(answer: Any) -> Any:
    """A frame is its own: nobody changes one in place. Of all else a page gets a copy that it may change."""
    return answer if isinstance(answer, pl.DataFrame) else pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)


def _unpacked(kept: Any) -> Any:
    return kept.clone() if isinstance(kept, pl.DataFrame) else pickle.loads(kept)
