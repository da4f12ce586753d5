"""Which work goes first when the processor is short: acknowledgements and pages before jobs."""

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

_NICENESS = 5
_SESSION_NICENESS = 10


def behind_others() -> None:
    """Let the other threads of this machine go before this one, and before those that it starts.

    Linux gives each thread a niceness of its own; elsewhere it belongs to the process, and nothing is changed.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def session_behind_others() -> None:
    """As `behind_others`, for a process that began a session of its own, and for all processes of that session.

    Linux shares the processor among sessions first (sched_autogroup): within its own session niceness means nothing to
    other sessions, but the session has one. Where there is no such thing nothing is changed.
    """
    behind_others()
    if sys.platform == "linux":
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(_SESSION_NICENESS))
