"""Which work goes first when the processor is short: acknowledgements and pages before jobs."""

import os
import sys
import threading

_NICENESS = 5


def behind_others() -> None:
    """Let the other threads of this machine go before this one, and before those that it starts.

    Linux gives each thread a niceness of its own; elsewhere it belongs to the process, and nothing is changed.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
