"""Giving memory back to the system while a server runs.

What a job or a page read of the file stays in the engine's cache until its limit is reached, and what a job freed stays
with the allocator of the C library, in as many pools as there were threads: a server would hold the sum of all peaks.
"""

import ctypes
import sys
from datetime import timedelta

from store.connection import Store

__all__ = ["CACHE_EVERY", "TRIM_EVERY", "bound_cache", "trim"]

CACHE_EVERY = timedelta(seconds=2)
TRIM_EVERY = timedelta(seconds=10)

# Of the file in the engine's memory: pages that are looked at again and again read 150 MB of three million spans.
_MOST_CACHE = 256 << 20
_KEPT_CACHE = 160 << 20


def bound_cache(store: Store) -> None:
    """Have the engine forget what it has not used for longest of what it read, when that has become too much."""
    store.release_cache(_KEPT_CACHE, above=_MOST_CACHE)


def trim() -> None:
    """Return freed memory to the system: with the C library of GNU alone.

    Python is not asked to look for garbage: that would stop every request for a twentieth of a second.
    """
    if sys.platform.startswith("linux"):
        return_freed = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if return_freed is not None:
            return_freed(0)
