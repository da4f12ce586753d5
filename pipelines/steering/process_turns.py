"""Getting the processor soon rather than for long: what a process needs that answers many small questions."""

import ctypes
import os
import platform
import struct
import sys
from typing import Final

__all__ = ["take_short_turns"]

_SLICE_NANOSECONDS: Final = 100_000  # the shortest that Linux grants
_ATTRIBUTES: Final = struct.Struct("=IIQiIQQQII")  # struct sched_attr of sched_setattr(2)
_SYSCALLS: Final = {"x86_64": 314, "aarch64": 274}


def take_short_turns() -> bool:
    """Ask for short turns of this thread; returns whether they are granted.

    Since Linux 6.12 a thread that wants short turns gets them sooner after it was woken, before those that would
    compute for milliseconds, and no more of the processor altogether. Elsewhere nothing is changed.
    """
    number = _SYSCALLS.get(platform.machine())
    if sys.platform != "linux" or number is None:
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, 0, 0, nice, 0, _SLICE_NANOSECONDS, 0, 0, 0, 0)
    try:
        content = ctypes.create_string_buffer(attributes, len(attributes))
        return bool(ctypes.CDLL(None).syscall(number, 0, content, 0) == 0)
    except (OSError, AttributeError):
        return False
