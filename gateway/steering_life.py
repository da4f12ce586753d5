"""One life of the steering process, as the server sees it: its start, what is said to and by it, and its end.

Not `multiprocessing`: its children begin by running the parent's main module again, and in a server that is whatever
page Streamlit shows at that moment.
"""

import itertools
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from gateway.steering_wire import Answered, Noted, Ready, Stream, Told

__all__ = ["Life"]

_ROOT: Final = Path(__file__).resolve().parents[1]
_START: Final = "from gateway.steering_child import serve; serve()"
# Its threads would only wait for each other: it does small things, one after the other.
_FEW_THREADS: Final = {
    "POLARS_MAX_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}  # fmt: skip


class Life:
    """Starts the process at once. `end` it in any case."""

    def __init__(self, heard: Callable[["Life", object], None]) -> None:
        """`heard` gets what the process says without being asked, in the thread that receives it."""
        self._heard = heard
        ours, theirs = socket.socketpair()
        self._handover: socket.socket | None
        self._handover, their_handover = socket.socketpair()
        path = os.pathsep.join([str(_ROOT), *(entry for entry in sys.path if entry)])
        with theirs, their_handover:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, str(theirs.fileno()), str(their_handover.fileno())],
                pass_fds=[theirs.fileno(), their_handover.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **_FEW_THREADS, "PYTHONPATH": path},
                # Ctrl-C is for the process that serves: it tells this one to end.
                start_new_session=True,
            )
        self._stream = Stream(ours)
        self._numbers = itertools.count(1)
        self._asked: dict[int, Future[object]] = {}
        self._lock = threading.Lock()
        self._gone = False
        self._ready = threading.Event()
        self.heard_at = time.monotonic()
        self._thread = threading.Thread(target=self._receive, name="steering-wire", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    @property
    def niceness(self) -> int | None:
        """How far it stands behind others (19) or before them (-20) when the processor is short; None when it ended."""
        try:
            return os.getpriority(os.PRIO_PROCESS, self._process.pid)
        except OSError:
            return None

    def send(self, message: object) -> None:
        """Tell it something, without waiting."""
        self._stream.send(message)

    def ask(self, message: Callable[[int], object]) -> "Future[Any]":
        """Send the message with this number; its answer comes with the future, `EOFError` when the process ends."""
        future: Future[object] = Future()
        number = next(self._numbers)
        with self._lock:
            if self._gone:
                future.set_exception(EOFError())
                return future
            self._asked[number] = future
        self._stream.send(message(number))
        return future

    def told_all(self) -> None:
        """It was told everything that it has to know."""
        self._stream.send(Ready())

    def ready(self, seconds: float) -> bool:
        """Wait until it says that what it was told is in force; whether it did."""
        until = time.monotonic() + seconds
        while not self._ready.wait(0.05):
            if self._gone or self._process.poll() is not None or time.monotonic() > until:
                return self._ready.is_set()
        return True

    def take_handover(self) -> socket.socket | None:
        """The socket for connections, which belongs to the caller from then on; None for a second caller."""
        handover, self._handover = self._handover, None
        return handover

    def ended(self, seconds: float) -> bool:
        """Wait until the process has ended; whether it has."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """End the process now."""
        self._process.kill()

    def end(self) -> None:
        """End the process, and let go of it."""
        self._process.kill()
        self._process.wait()
        # What it said at last is still to be read.
        self._thread.join(1.0)
        self._stream.close()
        self._thread.join()
        if self._handover is not None:
            self._handover.close()
            self._handover = None

    def _receive(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                self._take(self._stream.receive())
        with self._lock:
            self._gone = True
            asked, self._asked = self._asked, {}
        for future in asked.values():
            if not future.done():
                future.set_exception(EOFError())

    def _take(self, message: object) -> None:
        self.heard_at = time.monotonic()
        match message:
            case Ready():
                self._ready.set()
                return
            case Answered(number=number) | Told(number=number) | Noted(number=number) if number:
                with self._lock:
                    future = self._asked.pop(number, None)
                if future is not None and future.set_running_or_notify_cancel():
                    future.set_result(message)
            case Noted():
                return
            case _:
                self._heard(self, message)
