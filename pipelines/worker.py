"""A process that calls functions for this one, one after the other.

Not `multiprocessing`: its children begin by running the parent's main module again, and in a server that is whatever
page Streamlit shows at that moment. This child imports what it is asked to call and nothing else. It ends when it is
told to, and when the process that started it is gone, also in the middle of a call.

Both sides speak in frames over the child's standard input and output: eight bytes of length, then a pickle.
"""

import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import IO, Any, ParamSpec, TypeVar

from pipelines.priority import behind_others
from store.errors import TrimtabError

__all__ = ["Worker", "WorkerLost"]

P = ParamSpec("P")
R = TypeVar("R")

_ROOT = Path(__file__).resolve().parents[1]
_START = "from pipelines.worker import serve; serve()"
_LENGTH_BYTES = 8

# Threads of numerical libraries wait for each other by spinning: on a busy machine that takes the processor from all.
_QUIET_THREADS = {"OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


class WorkerLost(TrimtabError):
    """The process ended before it had answered."""

    def __init__(self) -> None:
        super().__init__("The process that did the work was ended from outside, perhaps for want of memory.")


class Worker:
    """Starts the process at once. Close it at the end; an ended one answers every call with `WorkerLost`."""

    def __init__(self, *, behind: bool = False) -> None:
        """`behind`: other processes go first when the processor is short."""
        path = os.pathsep.join([str(_ROOT), *(entry for entry in sys.path if entry)])
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, *(["behind"] if behind else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**(_QUIET_THREADS if behind else {}), **os.environ, "PYTHONPATH": path},
            # Ctrl-C is for the process that serves: it finishes what it acknowledges.
            start_new_session=True,
        )
        self._lock = threading.Lock()
        self._calls: queue.SimpleQueue[tuple[bytes, Future[Any]] | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it takes further calls."""
        return not self._closed and self._process.poll() is None

    def submit(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> "Future[R]":
        """Have a function of a module called; its answer or its error, or `WorkerLost`, comes with the future.

        Raises: what pickling the call raises.
        """
        call = pickle.dumps((function, args, kwargs), protocol=pickle.HIGHEST_PROTOCOL)
        future: Future[R] = Future()
        with self._lock:
            if self._closed:
                future.set_exception(WorkerLost())
            else:
                self._calls.put((call, future))
        return future

    def close(self) -> None:
        """Finish the calls that were handed over, then end the process. Safe to call twice."""
        self._end()
        self._thread.join()

    def kill(self) -> None:
        """End the process now; calls that are not answered fail."""
        self._process.kill()
        self.close()

    def _end(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                self._calls.put(None)

    def _run(self) -> None:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        lost = False
        while (entry := self._calls.get()) is not None:
            call, future = entry
            if not future.set_running_or_notify_cancel():
                continue
            try:
                if lost:
                    raise WorkerLost
                _write(stdin, call)
                fine, answer = pickle.loads(_read(stdout))
            except (OSError, EOFError):
                lost = True
                # Nothing more is taken; what is queued already is answered below.
                self._end()
                future.set_exception(WorkerLost())
            except BaseException as error:
                future.set_exception(error)
            else:
                if fine:
                    future.set_result(answer)
                else:
                    future.set_exception(answer)
        for stream in (stdin, stdout):
            try:
                stream.close()
            except OSError:
                continue
        if lost:
            self._process.kill()
        self._process.wait()


def serve() -> None:
    """The process: calls what comes on standard input until that ends."""
    if "behind" in sys.argv[1:]:
        behind_others()
    source = sys.stdin.buffer
    # What a library prints must not get between the frames.
    target = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    calls: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        try:
            while True:
                calls.put(_read(source))
        except (OSError, EOFError):
            # The other side closes when everything is answered; before that it is gone, and nobody wants the answer.
            os._exit(0)

    threading.Thread(target=read, name="calls", daemon=True).start()
    while True:
        answer = _answer(calls.get())
        try:
            _write(target, answer)
        except OSError:
            os._exit(1)


def _answer(call: bytes) -> bytes:
    """The pickle of (true, what the function gave) or (false, its error)."""
    try:
        function, args, kwargs = pickle.loads(call)
        return pickle.dumps((True, function(*args, **kwargs)), protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        return _portable(error)


def _portable(error: Exception) -> bytes:
    """An error that would not survive the way back is replaced by one that says the same."""
    try:
        packed = pickle.dumps((False, error), protocol=pickle.HIGHEST_PROTOCOL)
        pickle.loads(packed)
        return packed
    except Exception:
        kind = TrimtabError if isinstance(error, TrimtabError) else RuntimeError
        return pickle.dumps((False, kind(f"{type(error).__name__}: {error}")), protocol=pickle.HIGHEST_PROTOCOL)


def _write(stream: IO[bytes], content: bytes) -> None:
    stream.write(len(content).to_bytes(_LENGTH_BYTES, "big"))
    stream.write(content)
    stream.flush()


def _read(stream: IO[bytes]) -> bytes:
    """The next frame. Raises: `EOFError` when there is none."""
    head = _exactly(stream, _LENGTH_BYTES)
    return _exactly(stream, int.from_bytes(head, "big"))


def _exactly(stream: IO[bytes], size: int) -> bytes:
    parts = []
    while size:
        part = stream.read(size)
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
