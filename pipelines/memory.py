"""Giving memory back to the system while a server runs.

What a job read of the file stays in the engine's cache until its limit is reached, and what a job freed stays with the
allocator of the C library, in as many pools as there were threads: a server would hold the sum of all peaks.
"""

import ctypes
import sys
from datetime import timedelta

from store.connection import Store

__all__ = ["EVERY", "give_back"]

EVERY = timedelta(seconds=10)


def give_back(store: Store) -> None:
    """Have the engine forget all but a little of what it read, and return freed memory to the system.

    The second part is for the C library of GNU alone. Python is not asked to look for garbage: that would stop every
    request for a twentieth of a second.
    """
    store.release_cache()
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
