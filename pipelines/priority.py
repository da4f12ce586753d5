"""Which work goes first when the processor is short: agents that ask what to do, then acknowledgements and pages, then
jobs."""

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

_NICENESS = 5
_SESSION_NICENESS = 10
_FIRST_NICENESS = -10


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
        _stand(_SESSION_NICENESS)


def session_before_others() -> bool:
    """Let a process that began a session of its own, and answers small questions, go before the rest of this machine.

    Returns whether that was granted: it takes root, CAP_SYS_NICE or a limit of niceness (RLIMIT_NICE) that allows it.
    Else, and on other systems than Linux, nothing is changed.
    """
    if sys.platform != "linux":
        return False
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _FIRST_NICENESS)
    except PermissionError:
        return False
    _stand(_FIRST_NICENESS)
    return True


def _stand(niceness: int) -> None:
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(niceness))
